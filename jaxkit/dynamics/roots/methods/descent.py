"""Methods for hard systems: every step must lower the residual, by a line search or within a trusted region.

The unknown is a vector here (a scalar is one of length 1). The error estimate is the full Newton step at the present
point, so a short step alone never looks like convergence.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxkit.core.status import Status
from jaxkit.dynamics.roots.methods.method import (
    Ends,
    Iterate,
    Method,
    Problem,
    code,
    linearize,
    solve_linear,
    unknown_error,
)
from jaxkit.dynamics.roots.methods.newton import NEWTON


class Local(NamedTuple):
    """What is known at the present point.

    Attributes:
        value: Residual, shape `(n,)`.
        slope: Jacobian, shape `(n, n)`.
        newton: The full Newton step, shape `(n,)`.
        size: Length of the next step: a fraction of the Newton step, a damping, or a radius.
        scale: Weights of the unknowns, shape `(n,)`: the largest norm each column of the Jacobian has had.
        factor: Growth of the damping after a refusal.
    """

    value: Array
    slope: Array
    newton: Array
    size: Float[Array, ""]
    scale: Array
    factor: Float[Array, ""]


def _columns(slope: Array) -> Array:
    norms = jnp.linalg.norm(slope, axis=0)
    return jnp.where(norms > 0, norms, 1)


def _adjoint(matrix: Array, vector: Array) -> Array:
    return jnp.conj(matrix.T) @ vector


def _start(problem: Problem, x0: Array, ends: Ends, *, size: float) -> Iterate:
    del ends
    value, slope = linearize(problem.fn, x0)
    scale = _columns(slope)
    real = scale.dtype
    newton = solve_linear(slope, -value)
    known = Local(value, slope, newton, jnp.asarray(size, real), scale, jnp.asarray(2, real))
    finite = jnp.all(jnp.isfinite(value)) & jnp.all(jnp.isfinite(slope))
    status = jnp.where(finite, code(Status.ok), code(Status.not_finite))
    return Iterate(x0, jnp.where(jnp.all(value == 0), 0, unknown_error(x0)), status, known)


def _tried(problem: Problem, state: Iterate, dx: Array, gain: Callable[[Array, Array], Array]) -> tuple[Array, Iterate]:
    """Try `x + dx`: the gain ratio, and the state moved there if the gain is positive.

    `gain(new, old)` compares the norms of the residuals there and here.
    """
    known = state.memory
    x = state.x + dx
    value, slope = linearize(problem.fn, x)
    finite = jnp.all(jnp.isfinite(value)) & jnp.all(jnp.isfinite(slope)) & jnp.all(jnp.isfinite(dx))
    ratio = jnp.where(finite, gain(jnp.linalg.norm(value), jnp.linalg.norm(known.value)), -1)
    accept = ratio > 1e-4
    pick = lambda new, old: jnp.where(accept, new, old)
    value, slope = pick(value, known.value), pick(slope, known.slope)
    newton = pick(solve_linear(slope, -value), known.newton)
    known = known._replace(
        value=value, slope=slope, newton=newton, scale=jnp.maximum(known.scale, pick(_columns(slope), known.scale))
    )
    error = jnp.where(jnp.isfinite(newton), jnp.abs(newton), jnp.inf)
    error = jnp.where(jnp.all(value == 0), 0, error)
    return ratio, Iterate(pick(x, state.x), error, state.status, known)


def _stalled(state: Iterate, *, vanished: Array) -> Iterate:
    """Fail where the step has vanished, or the point is stationary for `|f|^2` without being a zero."""
    known = state.memory
    pull = jnp.max(jnp.abs(_adjoint(known.slope, known.value)) / _columns(known.slope))
    stationary = pull <= 1e-11 * jnp.linalg.norm(known.value)
    lost = (vanished | stationary) & jnp.any(known.value != 0)
    singular = ~jnp.all(jnp.isfinite(known.newton))
    why = jnp.where(singular & ~stationary, code(Status.singular), code(Status.no_progress))
    return state._replace(status=jnp.where(lost & (state.status == code(Status.ok)), why, state.status))


def _damped(problem: Problem, state: Iterate) -> Iterate:
    """A fraction of the Newton step, halved until the residual falls, doubled after each success."""
    known = state.memory
    fraction = known.size
    safe = jnp.where(jnp.all(jnp.isfinite(known.newton)), known.newton, -_adjoint(known.slope, known.value))
    ratio, after = _tried(problem, state, fraction * safe, lambda new, old: (old - new) / (fraction * old))
    grown = jnp.where(ratio > 1e-4, jnp.minimum(2 * fraction, 1), 0.5 * fraction)
    after = after._replace(memory=after.memory._replace(size=grown))
    return _stalled(after, vanished=grown < 1e-12)


def _levenberg_marquardt(problem: Problem, state: Iterate) -> Iterate:
    """Damped least squares by QR, scaled as MINPACK, the damping after Nielsen (1999)."""
    known = state.memory
    tall = jnp.concatenate([known.slope, jnp.diag(jnp.sqrt(known.size) * known.scale).astype(known.slope.dtype)])
    q, r = jnp.linalg.qr(tall)
    n = known.value.size
    dx = solve_linear(r, -_adjoint(q[:n], known.value))
    linear = jnp.linalg.norm(known.slope @ dx + known.value)

    def gain(new: Array, old: Array) -> Array:
        return (old - new) * (old + new) / jnp.maximum((old - linear) * (old + linear), 1e-300)

    ratio, after = _tried(problem, state, dx, gain)
    good = ratio > 1e-4
    shrunk = known.size * jnp.maximum(1 / 3, 1 - (2 * jnp.clip(ratio, -1, 1) - 1) ** 3)
    size = jnp.where(good, jnp.maximum(shrunk, 1e-20), known.size * known.factor)
    factor = jnp.where(good, 2, 2 * known.factor)
    after = after._replace(memory=after.memory._replace(size=size, factor=factor))
    return _stalled(after, vanished=size > 1e20)


def _dogleg_step(known: Local) -> Array:
    """Powell's path: down the gradient, then towards the Newton step, as far as the radius reaches."""
    norm = lambda v: jnp.linalg.norm(known.scale * v)
    descent = -_adjoint(known.slope, known.value) / known.scale**2
    along = jnp.linalg.norm(known.slope @ descent)
    cauchy = descent * jnp.where(along > 0, (norm(descent) / along) ** 2, 0)
    newton = jnp.where(jnp.all(jnp.isfinite(known.newton)), known.newton, cauchy)
    whole = norm(newton) <= known.size
    short = norm(cauchy) >= known.size
    leg = newton - cauchy
    a, c = norm(leg) ** 2, norm(cauchy) ** 2 - known.size**2
    b = jnp.real(jnp.vdot(known.scale * cauchy, known.scale * leg))
    part = -c / jnp.maximum(b + jnp.sqrt(jnp.maximum(b**2 - a * c, 0)), 1e-300)
    bent = cauchy + jnp.clip(part, 0, 1) * leg
    cut = cauchy * (known.size / jnp.maximum(norm(cauchy), 1e-300))
    return jnp.where(whole, newton, jnp.where(short, cut, bent))


def _dogleg_start(problem: Problem, x0: Array, ends: Ends) -> Iterate:
    first = _start(problem, x0, ends, size=1.0)
    known = first.memory
    radius = jnp.linalg.norm(known.scale * x0)
    return first._replace(memory=known._replace(size=jnp.where(radius > 0, radius, jnp.linalg.norm(known.scale))))


def _dogleg(problem: Problem, state: Iterate) -> Iterate:
    """Powell's hybrid step in a region of trust (MINPACK's scaling)."""
    known = state.memory
    dx = _dogleg_step(known)
    linear = jnp.linalg.norm(known.slope @ dx + known.value)

    def gain(new: Array, old: Array) -> Array:
        return (old - new) / jnp.maximum(old - linear, 1e-300)

    ratio, after = _tried(problem, state, dx, gain)
    length = jnp.linalg.norm(known.scale * dx)
    bigger = jnp.maximum(known.size, 2 * length)
    size = jnp.where(ratio < 0.1, 0.25 * length, jnp.where(ratio > 0.5, bigger, known.size))
    size = jnp.where(jnp.isfinite(size), size, 0.25 * known.size)
    after = after._replace(memory=after.memory._replace(size=size))
    tiny = jnp.finfo(size.dtype).eps * jnp.linalg.norm(known.scale * state.x) * 1e-3
    return _stalled(after, vanished=size <= tiny)


def _damped_start(problem: Problem, x0: Array, ends: Ends) -> Iterate:
    return _start(problem, x0, ends, size=1.0)


def _marquardt_start(problem: Problem, x0: Array, ends: Ends) -> Iterate:
    return _start(problem, x0, ends, size=1e-3)


def _finish(problem: Problem, state: Iterate) -> Array:
    """The last Newton step is known and short: take it."""
    del problem
    good = (state.status == code(Status.ok)) & jnp.all(jnp.isfinite(state.memory.newton))
    return jnp.where(good, state.x + state.memory.newton, state.x)


DAMPED = Method("damped", _damped_start, _damped, flat=True, finish=_finish)
LEVENBERG_MARQUARDT = Method("levenberg_marquardt", _marquardt_start, _levenberg_marquardt, flat=True, finish=_finish)
DOGLEG = Method("dogleg", _dogleg_start, _dogleg, flat=True, finish=_finish)
ROBUST = dataclasses.replace(DOGLEG, name="robust", fallbacks=(NEWTON, LEVENBERG_MARQUARDT, DAMPED))
