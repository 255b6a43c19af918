"""The state a moment later, where that moment is zero but its derivatives are not."""

from collections.abc import Callable
from typing import Any

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxkit.dynamics.ode.field import Field


def after(
    s: Array, field: Callable[[Array, Any], Any] | None, t: Array, x: PyTree, *, velocity: PyTree = None
) -> PyTree:
    """The state a time `s` after `(t, x)`, by one step of the classical Runge-Kutta method, or along a velocity.

    At `s = 0` the step is exact up to fourth derivatives.
    """
    on = lambda s, velocity: jax.tree.map(lambda v, u: v + (s * u).astype(v.dtype), x, velocity)
    if field is None:
        return on(s, velocity)
    there = lambda part, before: field(t + part * s, on(part * s, before))
    first = field(t, x)
    second = there(0.5, first)
    third = there(0.5, second)
    rates = (first, second, third, there(1.0, third))
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
            xs = jax.vmap(lambda t: after(t - ts[0], lambda t, x: field(t, x, args), ts[0], x0))(ts)
            return xs, jax.tree.map(lambda v: v[-1], xs)

        def moved() -> Any:
            pushed = jax.jvp(states, given, given_dots)[1]
            return jax.tree.map(lambda new, old: jnp.where(still, new, old), pushed, dots)

        dots = jax.lax.cond(eqxi.unvmap_any(still), moved, lambda: dots)
        return moving(found, given), dots

    return moving(found, given)
