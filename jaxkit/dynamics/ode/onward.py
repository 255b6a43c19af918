"""The state a moment later, where that moment is zero but its derivatives are not."""

from typing import Any

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxkit.dynamics.ode.field import Field


def onward(field: Field, t: Array, s: Array, x: PyTree, args: PyTree) -> PyTree:
    """The state a time `s` after `(t, x)`, by one Runge-Kutta step: at `s = 0` it is exact up to fourth derivatives."""
    on = lambda s, velocity: jax.tree.map(lambda v, u: v + (s * u).astype(v.dtype), x, velocity)
    velocity = lambda part, before: field(t + part * s, on(part * s, before), args)
    first = field(t, x, args)
    second = velocity(0.5, first)
    third = velocity(0.5, second)
    rates = (first, second, third, velocity(1.0, third))
    return on(s, jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, *rates))


def at_rest(field: Field, found: tuple[PyTree, PyTree], given: tuple[PyTree, Array, PyTree]) -> tuple[PyTree, PyTree]:
    """The states at all times and the last one, which move with the times also where these are all the same.

    No step is taken then, so that differentiating the steps gives nothing.

    Args:
        field: The field, which closes over no tracers.
        found: The states as they were computed.
        given: Start, times and parameters.
    """

    @jax.custom_jvp
    def moving(found: tuple[PyTree, PyTree], given: Any) -> tuple[PyTree, PyTree]:
        return found

    @moving.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (found, given), (dots, given_dots) = primals, tangents
        still = given[1][-1] == given[1][0]

        def states(x0: PyTree, ts: Array, args: PyTree) -> tuple[PyTree, PyTree]:
            xs = jax.vmap(lambda t: onward(field, ts[0], t - ts[0], x0, args))(ts)
            return xs, jax.tree.map(lambda v: v[-1], xs)

        def moved() -> Any:
            pushed = jax.jvp(states, given, given_dots)[1]
            return jax.tree.map(lambda new, old: jnp.where(still, new, old), pushed, dots)

        dots = jax.lax.cond(eqxi.unvmap_any(still), moved, lambda: dots)
        return moving(found, given), dots

    return moving(found, given)
