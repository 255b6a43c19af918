"""The state a moment later, where that moment is zero but its derivatives are not."""

from collections.abc import Callable
from typing import Any

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxkit.dynamics.linear.implicit import no_tangent
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


def moving_on(field: Field, s: Array, t: Array, x: PyTree, args: PyTree, *, in_scan: bool = False) -> PyTree:
    """The state `x`, which is that a time `s` after `(t, x)`: `s` is zero, but its derivatives are not.

    The derivatives, up to the fourth, follow from the field, which is evaluated for them alone.

    Args:
        field: The field, which closes over no tracers.
        s: Zero.
        t: Time.
        x: State.
        args: Parameters.
        in_scan: Whether this stands in a scan. Where a scan is linearized, JAX evaluates functions that have a rule of
            their own without it, and second derivatives are lost: then the field is evaluated for the value, too.
    """

    def there(s: Array, t: Array, x: PyTree, args: PyTree) -> PyTree:
        return after(s, lambda t, x: field(t, x, args), t, x)

    if in_scan:
        held, new = jax.lax.stop_gradient, there(s, t, x, args)
        change = lambda v, u: held(v) + jnp.where(jnp.isfinite(u), u - held(u), v - held(v))
        return jax.tree.map(change, x, new)

    @jax.custom_jvp
    def here(s: Array, t: Array, x: PyTree, args: PyTree) -> PyTree:
        return x

    def rule(primals: Any, tangents: Any) -> Any:
        if _is_zero(tangents[0]) and _is_zero(tangents[1]):
            return here(*primals), tangents[2]
        dots = jax.tree.map(_filled, primals, tangents)
        return here(*primals), jax.jvp(there, primals, dots)[1]

    here.defjvp(rule, symbolic_zeros=True)
    return here(s, t, x, args)


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _filled(value: Any, tangent: Any) -> Any:
    """A tangent, with zeros written out."""
    if not _is_zero(tangent):
        return tangent
    real = jnp.issubdtype(jnp.result_type(value), jnp.inexact)
    return jnp.zeros_like(value) if real else no_tangent(value)


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
