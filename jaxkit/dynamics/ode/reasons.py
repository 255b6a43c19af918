"""Why a solve failed, found once from where it ended, and the missing derivative of a failed solve."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Int, PyTree

from jaxkit.core.numerics import all_finite
from jaxkit.core.status import Status
from jaxkit.dynamics.ode.engine.stiffness import limited_by_stability
from jaxkit.dynamics.ode.field import Field

VANISHED = 1e5  # in units of the resolution of time: the state changes by its whole size in so short a time


def true_reason(
    status: Int[Array, ""], field: Field, given: tuple[Any, ...], reached: tuple[Any, ...], *, explicit: bool
) -> Int[Array, ""]:
    """The reason of a failure: what is wrong at the start or at the last state, or `status` where nothing is found.

    Args:
        status: Status so far; ok stays ok.
        field: The field.
        given: `(t0, x0, args)`.
        reached: `(end, final, steps)`: the last state that was accepted, and the number of steps.
        explicit: Whether the method is explicit, so that stiffness limits its steps.
    """
    failed = status != int(Status.ok)
    given, reached, status = jax.lax.stop_gradient((given, reached, status))

    def look() -> Int[Array, ""]:
        (t0, x0, args), (end, final, steps) = given, reached
        first, flat = ravel_pytree(x0)[0], ravel_pytree(final)[0]
        back = ravel_pytree(x0)[1]
        start, come = all_finite(first), all_finite(flat)
        t, x = jnp.where(come, end, t0), jnp.where(come, flat, first)
        velocity = lambda x: ravel_pytree(field(t, back(x), args))[0].astype(x.dtype)
        rate = velocity(x)
        size, speed = jnp.linalg.norm(x), jnp.linalg.norm(rate)
        scale = size / jnp.where(speed > 0, speed, 1)
        vanished = (speed > 0) & (scale <= VANISHED * float(jnp.finfo(x.dtype).eps) * jnp.abs(t).astype(x.dtype))
        edge = ~all_finite(velocity(x + 2 * scale * rate))  # the point to which it would have gone
        slow = status == int(Status.max_steps)
        column = lambda v: velocity(v[:, 0])[:, None]
        step = ((t - t0) / jnp.maximum(steps, 1).astype(t.dtype))[None].astype(x.dtype)
        stiff = limited_by_stability(column, x[:, None], step)[0] & explicit
        # The first reason that holds.
        reasons = (
            (~start, Status.start_not_finite),
            (~all_finite(rate), Status.velocity_not_finite),
            (slow & vanished & edge, Status.velocity_not_finite),
            (slow & vanished, Status.step_too_small),
            (slow & stiff, Status.stiff),
        )
        found = status
        for holds, reason in reversed(reasons):
            found = jnp.where(holds, int(reason), found)
        return found

    told = jax.lax.cond(eqxi.unvmap_any(failed), look, lambda: status)
    return jnp.where(failed, told, status)


def of_times(ts: Array, *, backwards: bool = True) -> Int[Array, "..."]:
    """The status of times (the last axis): ok where they are finite and run one way; neighbours may be equal.

    Args:
        ts: Times.
        backwards: Whether they may decrease.
    """
    gaps = jnp.diff(ts)
    ordered = jnp.all(gaps >= 0, -1)
    if backwards:
        ordered |= jnp.all(gaps <= 0, -1)
    code = jnp.where(ordered, int(Status.ok), int(Status.not_applicable)).astype(jnp.int32)
    return jnp.where(jnp.all(jnp.isfinite(ts), -1), code, int(Status.not_finite))


@jax.custom_jvp
def nought(v: Array) -> Array:
    """Zero, with the derivative of `v`."""
    return jnp.isnan(v).astype(v.dtype) * 0  # made from `v`: zeros of no lane of a `vmap` do not lower


@nought.defjvp
def _(primals: Any, tangents: Any) -> tuple[Array, Array]:
    return nought(primals[0]), tangents[0]


def without_derivative(lost: Bool[Array, "..."], tree: PyTree, *, value_too: bool = False) -> PyTree:
    """`tree` with the derivative (and the value) NaN where it is `lost`, whose axes come first in each leaf.

    A zero covector is handed back as zero, so that a loss that leaves out failed lanes has a derivative.
    """

    def one(value: Array) -> Array:
        if not jnp.issubdtype(value.dtype, jnp.floating):
            return value
        mask = jnp.broadcast_to(lost.reshape(lost.shape + (1,) * (value.ndim - lost.ndim)), value.shape)
        return _without(mask, value, value_too)

    return jax.tree.map(one, tree)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _without(lost: Array, value: Array, value_too: bool) -> Array:  # noqa: FBT001
    return jnp.where(lost, jnp.nan, value) if value_too else value


@_without.defjvp
def _(value_too: bool, primals: Any, tangents: Any) -> tuple[Array, Array]:  # noqa: FBT001
    (lost, value), dot = primals, tangents[1]
    there = lambda _, v: jnp.where(lost, jnp.nan, v)
    back: Callable[[Any, Array], Array] = lambda _, v: jnp.where(lost & (v != 0), jnp.nan, v)
    return _without(lost, value, value_too), jax.lax.custom_linear_solve(lambda v: v, dot, there, back)
