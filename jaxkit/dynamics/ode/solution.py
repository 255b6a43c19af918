"""What `solve` returns."""

from typing import ClassVar, Generic, TypeVar

import jax
from jaxtyping import Array, ArrayLike, Float, Int

from jaxkit.core.status import Outcome
from jaxkit.core.struct import struct
from jaxkit.dynamics.ode.actions import Crossings
from jaxkit.dynamics.ode.dense import Path, ask
from jaxkit.dynamics.ode.engine.batch import Ensemble

X = TypeVar("X")


@struct
class Solution(Outcome, Generic[X]):
    """A trajectory and how it was reached.

    Attributes:
        ts: Times, shape `(n,)`.
        xs: States at `ts`: the state's structure, each leaf with a leading axis `n`. Times that were not reached
            (after an event or a failure) hold infinities; all states are NaN where the times are unusable.
        status: `Status` code.
        steps: Number of accepted steps.
        rejected: Number of steps that the error control rejected.
        end: The last time reached: `ts[-1]`, or the time of the event.
        final: The state at `end`.
        events: The events that were met; None where none was asked for.
        path: The ends of all steps, for a solve whose times were `Dense(ts)`: `solution(t)` is then the state at `t`.
    """

    verb: ClassVar[str] = "solve"

    ts: Float[Array, "... n"]
    xs: X
    status: Int[Array, "..."]
    steps: Int[Array, "..."]
    rejected: Int[Array, "..."]
    end: Float[Array, "..."]
    final: X
    events: Crossings[X] | None = None
    path: Path[X] | None = None

    def __call__(self, t: ArrayLike) -> X:
        """The states at times `t`, of any shape, for a solve whose times were `Dense(ts)`.

        Differentiable in both modes with respect to `t` and to what the solve was given; as accurate as the steps.
        NaN outside the span from `ts[0]` to `end`, and for a solve that failed.

        Args:
            t: A time, or an array of times.

        Returns:
            The state's structure; each leaf has the axes of `t` first (behind those of a batch of solutions).
        """
        return ask(self.path, self.ok, t)


def only_lane(ts: Array, found: Ensemble) -> Solution:
    """The one lane of an ensemble."""
    names = ("xs", "status", "steps", "rejected", "end", "final", "events")
    return Solution(ts, *jax.tree.map(lambda v: v[0], [getattr(found, name) for name in names]))
