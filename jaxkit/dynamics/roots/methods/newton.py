"""Open methods, for scalars and systems, real and complex: they need one guess and promise nothing far from a root."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.experimental.jet import jet
from jaxtyping import Array

from jaxkit.core.status import Status
from jaxkit.dynamics.linear.dense import solve_dense, value_and_jacobian
from jaxkit.dynamics.linear.ways import solve
from jaxkit.dynamics.roots.methods.method import (
    Ends,
    Iterate,
    Method,
    Problem,
    code,
    moved,
    newton_step,
    rounding,
    tolerated,
    unknown_error,
)


def _start(problem: Problem, x0: Array, ends: Ends) -> Iterate:
    del problem, ends
    error = unknown_error(x0)
    return Iterate(x0, error, code(Status.ok), allowed=error if x0.ndim else ())


def _newton(problem: Problem, state: Iterate) -> Iterate:
    value, slope, dx = newton_step(problem, state.x)
    return moved(state, dx, allowed=tolerated(state.x, value, slope))


def _halley(problem: Problem, state: Iterate) -> Iterate:
    """Halley's step `-(J + H[dx]/2)^-1 f` with the Newton step `dx`.

    The Newton step is taken where Halley's is a thousand times shorter: it vanishes where the derivative does.
    """
    x = state.x
    if x.ndim == 0:
        return moved(state, _scalar_halley(problem, x))
    value, slope, dx = newton_step(problem, x)
    bent = jax.jvp(lambda x: value_and_jacobian(problem.fn, x)[1], (x,), (dx,))[1]
    better = solve_dense(slope + 0.5 * bent, -value)
    usable = jnp.max(jnp.abs(better)) >= 1e-3 * jnp.max(jnp.abs(dx))  # false for NaN
    return moved(state, jnp.where(usable, better, dx), allowed=tolerated(x, value, slope))


def _scalar_halley(problem: Problem, x: Array) -> Array:
    """Halley's step as one quotient of selected terms: selecting from two would compute the residual twice on a CPU."""
    (value, slope), (_, bent) = jax.jvp(lambda x: value_and_jacobian(problem.fn, x), (x,), (jnp.ones_like(x),))
    full = slope - 0.5 * (value / slope) * bent  # no product of two small numbers: it would underflow to a step of 0
    usable = jnp.abs(slope) > 1e-3 * jnp.abs(full)  # false for NaN
    return -value / jnp.where(usable, full, slope)


def _chord_start(problem: Problem, x0: Array, ends: Ends) -> Iterate:
    first = _start(problem, x0, ends)
    return first._replace(memory=(problem.way.slope(problem.fn, x0)[1], first.error))


def _chord(problem: Problem, state: Iterate) -> Iterate:
    """Newton's step with the first derivative throughout; the error allows for how slowly the steps shrink."""
    slope, before = state.memory
    value = problem.fn(state.x)
    dx = solve(slope, -value)
    size = jnp.linalg.norm(dx) if dx.ndim else jnp.abs(dx)
    last = jnp.linalg.norm(before) if before.ndim else before
    rate = jnp.where(last > 0, size / last, 0)
    rate = jnp.where(jnp.isfinite(last), rate, 1)  # the first step says nothing about the rate
    far = jnp.where(rate < 1, 1 / jnp.maximum(1 - rate, 1e-12), jnp.inf)
    error = jnp.where(value == 0, 0, jnp.abs(dx) * far)
    # Slowly shrinking steps halve no residual; a step that does not shrink has an infinite error.
    allowed = jnp.maximum(jnp.abs(value), rounding(state.x, slope)) if dx.ndim else ()
    return moved(state, dx, error, (slope, jnp.abs(dx)), allowed)


def _derivatives(fn: Callable[[Array], Array], x: Array, order: int) -> tuple[Array, Sequence[Array]]:
    """A function's value and its first derivatives, from one Taylor series.

    Where a function in it has no rule for series (`arccos`, `lgamma`), each is the derivative of the one before.
    """
    one, zero = jnp.ones_like(x), jnp.zeros_like(x)
    try:
        return jet(fn, (x,), ([one] + [zero] * (order - 1),))
    except (KeyError, NotImplementedError):
        found = [fn]
        for _ in range(order):
            found.append(lambda x, f=found[-1]: jax.jvp(f, (x,), (jnp.ones_like(x),))[1])
        return fn(x), [f(x) for f in found[1:]]


def householder(order: int) -> Method:
    """Householder's method of the given order (1 Newton, 2 Halley), for scalars.

    The step is `order * (1/f)^(order-1) / (1/f)^(order)`, from one Taylor series of `f`; it converges with
    order `order + 1` (Householder, The Numerical Treatment of a Single Nonlinear Equation, 1970).
    """
    if not 1 <= order <= 8:
        raise ValueError(f"Argument `order` must be between 1 and 8, but is {order}.")

    def step(problem: Problem, state: Iterate) -> Iterate:
        x = state.x
        if x.ndim:
            raise ValueError(f"Method 'householder{order}' must have a scalar unknown, but `x0` has shape {x.shape}.")
        value, derivatives = _derivatives(problem.fn, x, order)
        scale = derivatives[0]  # the series of f / f', so that nothing over- or underflows
        taylor = [value / scale, *(d / scale / math.factorial(k + 1) for k, d in enumerate(derivatives))]
        reciprocal = [1 / taylor[0]]
        for k in range(1, order + 1):
            reciprocal.append(-sum(taylor[j] * reciprocal[k - j] for j in range(1, k + 1)) / taylor[0])
        dx = jnp.where(value == 0, 0 * value, reciprocal[order - 1] / reciprocal[order])
        dx = jnp.where(jnp.isfinite(dx), dx, -taylor[0])
        return moved(state, dx)

    return Method(f"householder{order}", _start, step)


NEWTON = Method("newton", _start, _newton)
HALLEY = Method("halley", _start, _halley, dense=True)
CHORD = Method("chord", _chord_start, _chord)
