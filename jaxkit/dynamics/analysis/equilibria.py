"""`equilibria`: the rest points of a field, from many starts."""

from typing import Any, ClassVar

import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.status import Outcome
from jaxkit.core.struct import struct
from jaxkit.dynamics.analysis.distinct import first_of_each
from jaxkit.dynamics.analysis.linearize import Kind, Linearization, linearize
from jaxkit.dynamics.ode.field import Field
from jaxkit.dynamics.roots.root import root


@struct
class Equilibria(Outcome):
    """Rest points of a field, padded to a fixed capacity.

    Attributes:
        x: Points: the state's structure, each leaf with a leading axis `capacity`.
        found: Which entries are rest points (the others are padding).
        linearization: The `Linearization` at each point.
        status: `Status` code of the search from each start.
    """

    verb: ClassVar[str] = "equilibria"

    x: Any
    found: Bool[Array, " capacity"]
    linearization: Linearization
    status: Int[Array, " capacity"]


def equilibria(
    field: Field, starts: PyTree, args: PyTree = None, *, rtol: float = 1e-8, atol: float = 1e-10, apart: float = 1e-5
) -> Equilibria:
    """Rest points of a field, by Newton's method from many starts; each distinct point is kept once.

    Args:
        field: `field(t, x, args)`, taken at `t = 0`.
        starts: Guesses, stacked along a leading axis of every leaf (the capacity of the result).
        args: Parameters; the points are differentiable with respect to them.
        rtol: See `root`.
        atol: See `root`.
        apart: Points nearer than `apart * (1 + |x|)` count as one point.

    Returns:
        `Equilibria`, with `found` marking the distinct ones in the order of the starts.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> eq = jk.equilibria(lambda t, x, a: x * (a - x**2), jnp.array([-2.0, 0.1, 0.2, 3.0]), 4.0)
        >>> [round(float(x), 6) for x in eq.x[eq.found]]
        [-2.0, 0.0, 2.0]
    """
    return run_kept(_equilibria, (field, rtol, atol, apart), (starts, args))


def _equilibria(field: Field, rtol: float, atol: float, apart: float, starts: PyTree, args: PyTree) -> Equilibria:
    zero = jnp.zeros((), jnp.result_type(float, *(jnp.result_type(v) for v in jax.tree.leaves(starts))))
    residual = lambda x, a: field(zero, x, a)
    found = jax.vmap(lambda start: root(residual, start, args, rtol=rtol, atol=atol))(starts)
    flat = jax.vmap(lambda x: jax.flatten_util.ravel_pytree(x)[0])(found.value)
    keep = first_of_each(flat, found.ok, apart)
    linear = jax.vmap(lambda x: linearize(field, x, args))(found.value)
    linear = Linearization(linear.jacobian, linear.eigenvalues, jnp.where(keep, linear.kind, int(Kind.none)))
    return Equilibria(found.value, keep, linear, found.status)
