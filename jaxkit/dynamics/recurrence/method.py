"""What the methods of `unroll` share: the step they run and the result they return."""

from collections.abc import Callable
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct

X = TypeVar("X")
Step = Callable[[X, Any, Any], tuple[X, Any]]  # step(x, input, args) -> (x, y)


@struct
class Unrolled(Outcome, Generic[X]):
    """The result of running a step over a sequence.

    Attributes:
        ys: Outputs, with time along the first axis of every leaf.
        final: The last state.
        status: `Status` code: `not_finite` where the last state is not finite or an output is NaN; `max_steps` where
            Newton's method did not converge.
        iterations: Newton iterations over the whole sequence; 0 in the other methods.
    """

    verb: ClassVar[str] = "unroll"

    ys: Any
    final: X
    status: Int[Array, "..."]
    iterations: Int[Array, "..."]


@runtime_checkable
class Method(Protocol):
    """A way to run a step over a sequence."""

    def run(self, step: Step, x0: Any, inputs: PyTree, args: PyTree, length: int) -> Unrolled:
        """All states from `x0`, a pytree of arrays, over `length` inputs, with time first."""
        ...


def floating_leaves(tree: PyTree) -> list[Array]:
    """The leaves that may be not finite."""
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]


def outcome(final: PyTree, ys: PyTree) -> Int[Array, ""]:
    """Status of a run that ended in the state `final` with the outputs `ys`."""
    bad = [~jnp.all(jnp.isfinite(leaf)) for leaf in floating_leaves(final)]
    bad += [jnp.any(jnp.isnan(leaf)) for leaf in floating_leaves(ys)]
    if not bad:
        return jnp.asarray(int(Status.ok))
    return jnp.where(jnp.any(jnp.stack(bad)), int(Status.not_finite), int(Status.ok))
