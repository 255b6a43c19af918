"""What a root finder is: how it starts and how it steps. The loop, the stopping rule and the derivative are shared."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxkit.core.status import Status

Ends = tuple[Array, Array] | None  # of a bracket; None for open methods


class Problem(NamedTuple):
    """A residual with its tolerances.

    Attributes:
        fn: Residual of a flat unknown: shape `()` or `(n,)`, real or complex, to the same shape.
        rtol: Relative tolerance on the unknown.
        atol: Absolute tolerance on the unknown.
    """

    fn: Callable[[Array], Array]
    rtol: float
    atol: float

    def tolerance(self, x: Array) -> Array:
        """How far from a root `x` may be, entry by entry."""
        return self.atol + self.rtol * jnp.abs(x)


class Iterate(NamedTuple):
    """Where a root finder is.

    Attributes:
        x: The unknown.
        error: Estimate of `|x - root|`, of `x`'s shape; the loop ends when it is below the tolerance.
        status: `Status` code; anything but ok ends the loop.
        memory: What the method keeps between steps.
    """

    x: Array
    error: Array
    status: Int[Array, ""]
    memory: Any = ()


@dataclasses.dataclass(frozen=True)
class Method:
    """A root finder.

    Attributes:
        name: Its name in `root(..., method=name)`.
        start: First iterate of `(problem, x0, ends)`; `ends` is None for open methods.
        step: Next iterate of `(problem, iterate)`.
        bracketing: Whether it needs two ends with values of opposite sign.
        flat: Whether the unknown must be a vector, also where it has one entry.
        finish: The answer of `(problem, last iterate)`, where that is not its `x`.
        fallbacks: Methods that take over in turn, from the same start, in lanes where this one fails.
    """

    name: str
    start: Callable[[Problem, Array, Ends], Iterate]
    step: Callable[[Problem, Iterate], Iterate]
    bracketing: bool = False
    flat: bool = False
    finish: Callable[[Problem, Iterate], Array] | None = None
    fallbacks: "tuple[Method, ...]" = ()


def code(status: Status) -> Int[Array, ""]:
    """A status as the array a loop can carry."""
    return jnp.asarray(int(status), jnp.int32)


def linearize(fn: Callable[[Array], Array], x: Array) -> tuple[Array, Array]:
    """Value and derivative at once: shapes `()` and `()`, or `(n,)` and `(n, n)`. Holomorphic for complex `x`."""
    if x.ndim == 0:
        return jax.jvp(fn, (x,), (jnp.ones_like(x),))
    value, push = jax.linearize(fn, x)
    return value, jax.vmap(push, out_axes=1)(jnp.eye(x.size, dtype=x.dtype))


def solve_linear(matrix: Array, right: Array) -> Array:
    """Solve `matrix @ y = right`; one and two unknowns by hand, which stays fast for millions of lanes."""
    if matrix.ndim == 0:
        return right / matrix
    if matrix.shape == (1, 1):
        return right / matrix[0]
    if matrix.shape == (2, 2):
        return _solve_two(matrix, right)
    return jnp.linalg.solve(matrix, right)


def _solve_two(matrix: Array, right: Array) -> Array:
    """Gauss elimination with row pivoting."""
    swap = jnp.abs(matrix[1, 0]) > jnp.abs(matrix[0, 0])
    pick = lambda u, v: jnp.where(swap, v, u)
    a, b, r = pick(matrix[0, 0], matrix[1, 0]), pick(matrix[0, 1], matrix[1, 1]), pick(right[0], right[1])
    c, d, s = pick(matrix[1, 0], matrix[0, 0]), pick(matrix[1, 1], matrix[0, 1]), pick(right[1], right[0])
    ratio = c / a
    y = (s - ratio * r) / (d - ratio * b)
    return jnp.stack([(r - b * y) / a, y])


def newton_step(fn: Callable[[Array], Array], x: Array) -> tuple[Array, Array, Array]:
    """Residual, derivative and Newton step at `x`."""
    value, slope = linearize(fn, x)
    return value, slope, solve_linear(slope, -value)


def moved(state: Iterate, step: Array, error: Array | None = None, memory: Any = ()) -> Iterate:
    """`x + step` where the step is finite; else `x` with the error NaN, which ends the loop.

    No status is carried: a column of integers beside the floats halves the speed of a million lanes.
    """
    finite = jnp.all(jnp.isfinite(step))
    error = jnp.abs(step) if error is None else error
    return state._replace(
        x=jnp.where(finite, state.x + step, state.x), error=jnp.where(finite, error, jnp.nan), memory=memory
    )


def running(problem: Problem, state: Iterate) -> Array:
    """Whether the error is still above the tolerance; not for NaN."""
    return (state.status == int(Status.ok)) & jnp.any(state.error > problem.tolerance(state.x))


def lost(state: Iterate) -> Iterate:
    """The iterate with a status where its error is NaN (`singular`; `diagnosed` looks closer, once, at the end)."""
    gone = (state.status == int(Status.ok)) & jnp.any(jnp.isnan(state.error))
    return state._replace(status=jnp.where(gone, code(Status.singular), state.status))


def diagnosed(status: Int[Array, ""], residual: Array) -> Int[Array, ""]:
    """The status, given the residual at the last point: without a value there, the derivative is not to blame."""
    blind = (status == int(Status.singular)) & ~jnp.isfinite(residual)
    return jnp.where(blind, code(Status.not_finite), status)


def unknown_error(x: Array) -> Array:
    """The error before the first step: infinite."""
    return jnp.full(x.shape, jnp.inf, jnp.finfo(x.dtype).dtype)
