"""What a root finder is: a start and a step. The loop, the stopping rule and the derivative are shared."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxkit.core.status import Status
from jaxkit.dynamics.linear.ways import DENSE, Slope, Way, magnitude, solve

Ends = tuple[Array, Array] | None  # the ends of a bracket; None for open methods


class Problem(NamedTuple):
    """A residual with its tolerances.

    Attributes:
        fn: Residual of a flat unknown of shape `()` or `(n,)`, real or complex; it keeps the shape.
        rtol: Relative tolerance on the unknown.
        atol: Absolute tolerance on the unknown.
        way: How linear systems with its Jacobian are solved.
    """

    fn: Callable[[Array], Array]
    rtol: float
    atol: float
    way: Way = DENSE

    def tolerance(self, x: Array) -> Array:
        """How far from a root `x` may be, entry by entry; an entry lost in the rounding of the largest counts as 0."""
        size = jnp.abs(x)
        if x.ndim:
            size = jnp.maximum(size, float(jnp.finfo(size.dtype).eps) ** 0.5 * jnp.max(size))
        return self.atol + self.rtol * size


class Iterate(NamedTuple):
    """The present point of a root finder.

    Attributes:
        x: The unknown.
        error: Estimate of `|x - root|`, in `x`'s shape; the loop ends when it is below the tolerance. Where the step of
            a scalar is 0, it is the one before, made negative.
        status: `Status` code; anything but ok ends the loop.
        memory: What the method keeps between steps.
        allowed: For systems, the largest residual with which `x` is a root, entry by entry: the step that led to `x`
            has lowered the residual to .4 of itself, or both are mere rounding. A scalar is judged by its derivative,
            after the loop.
    """

    x: Array
    error: Array
    status: Int[Array, ""]
    memory: Any = ()
    allowed: Any = ()


@dataclasses.dataclass(frozen=True)
class Method:
    """A root finder.

    Attributes:
        name: Its name in `root(..., method=name)`.
        start: `(problem, x0, ends) -> ` the first iterate; `ends` is None for open methods.
        step: `(problem, iterate) -> ` the next iterate.
        bracketing: Whether it needs two ends with values of opposite sign.
        flat: Whether the unknown must be a vector, even where it has one entry.
        finish: `(problem, last iterate) -> ` the answer, where that is not the iterate's `x`.
        fallbacks: Methods that take over in turn, from the same start, in lanes where this one fails.
        opening: Number of turns at the start that only evaluate.
        dense: Whether it needs every entry of the Jacobian.
        free: Whether a residual of 0 is all that is asked, even where it is 0 all around.
    """

    name: str
    start: Callable[[Problem, Array, Ends], Iterate]
    step: Callable[[Problem, Iterate], Iterate]
    bracketing: bool = False
    flat: bool = False
    finish: Callable[[Problem, Iterate], Array] | None = None
    fallbacks: "tuple[Method, ...]" = ()
    opening: int = 0
    dense: bool = False
    free: bool = False


class Settings:
    """A method with its own settings, as the user gives it."""

    def finder(self) -> Method:
        """The root finder with these settings."""
        raise NotImplementedError


def code(status: Status) -> Int[Array, ""]:
    """A status as the array a loop can carry."""
    return jnp.asarray(int(status), jnp.int32)


def newton_step(problem: Problem, x: Array) -> tuple[Array, Slope, Array]:
    """Residual, derivative and Newton step at `x`."""
    value, slope = problem.way.slope(problem.fn, x)
    return value, slope, solve(slope, -value)


def rounding(x: Array, slope: Slope) -> Array:
    """What the last digits of `x` do to a residual with this derivative; 0 where that is not finite."""
    size = jnp.abs(slope * x) if x.ndim == 0 else magnitude(slope, x)
    return jnp.where(jnp.isfinite(size), 16 * float(jnp.finfo(size.dtype).eps) * size, 0)


def tolerated(x: Array, value: Array, slope: Slope) -> Any:
    """The largest residual with which the point after a step from `x` is a root (nothing for a scalar).

    About a root of any multiplicity m, Newton's step leaves (1 - 1/m)^m < .37; from one side of a kink to its tip it
    leaves half.
    """
    return jnp.maximum(0.4 * jnp.abs(value), rounding(x, slope)) if x.ndim else ()


def moved(state: Iterate, step: Array, error: Array | None = None, memory: Any = (), allowed: Any = ()) -> Iterate:
    """`x + step` where the step is finite; elsewhere `x` with the error NaN, which ends the loop.

    No status is carried: a column of integers beside the floats makes many lanes much slower.
    """
    finite = jnp.all(jnp.isfinite(step))
    if error is None:
        error = jnp.abs(step) if step.ndim else jnp.where(step == 0, -state.error, jnp.abs(step))
    return state._replace(
        x=jnp.where(finite, state.x + step, state.x),
        error=jnp.where(finite, error, jnp.nan),
        memory=memory,
        allowed=allowed,
    )


def running(problem: Problem, state: Iterate) -> Array:
    """Whether the error is still above the tolerance; false for NaN."""
    return (state.status == int(Status.ok)) & jnp.any(state.error > problem.tolerance(state.x))


def lost(state: Iterate) -> Iterate:
    """The iterate with a status where its error is NaN: `singular`, which `diagnosed` refines once, at the end."""
    gone = (state.status == int(Status.ok)) & jnp.any(jnp.isnan(state.error))
    return state._replace(status=jnp.where(gone, code(Status.singular), state.status))


def diagnosed(status: Int[Array, "..."], residual: Array) -> Int[Array, "..."]:
    """The status in view of the residual at the last point: where that has no value, the derivative is not to blame."""
    blind = (status == int(Status.singular)) & ~jnp.isfinite(residual)
    return jnp.where(blind, code(Status.not_finite), status)


def unknown_error(x: Array) -> Array:
    """The error before the first step, which is infinite."""
    return jnp.full(x.shape, jnp.inf, jnp.finfo(x.dtype).dtype)
