"""Fixed-point iterations: the residual is `g(x) - x`, and no derivative is taken."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxkit.core.checks import require
from jaxkit.core.status import Status
from jaxkit.dynamics.roots.methods.method import Ends, Iterate, Method, Problem, Settings, code, moved, unknown_error


class Past(NamedTuple):
    """The last `m` differences of the unknown and of the residual, shapes `(m, n)`, and the previous point."""

    dx: Array
    df: Array
    x: Array
    f: Array
    count: Int[Array, ""]


def _picard_start(problem: Problem, x0: Array, ends: Ends) -> Iterate:
    del problem, ends
    error = unknown_error(x0)
    return Iterate(x0, error, code(Status.ok), error[0], error)


def _picard(problem: Problem, state: Iterate) -> Iterate:
    """`x <- g(x)`; the error allows for how slowly the steps shrink."""
    f = problem.fn(state.x)
    size = jnp.linalg.norm(f)
    rate = jnp.where(jnp.isfinite(state.memory), size / state.memory, 1)
    error = jnp.where(rate < 1, jnp.abs(f) / jnp.maximum(1 - rate, 1e-12), jnp.inf)
    return moved(state, f, jnp.where(f == 0, 0, error), size, _allowed(problem, state.x, f))


def _allowed(problem: Problem, x: Array, f: Array) -> Array:
    """The largest `g(x) - x` behind `x`: no more than there, but for the tolerance, in whose units it is."""
    return jnp.abs(f) + problem.tolerance(x)


@dataclasses.dataclass(frozen=True)
class Anderson(Settings):
    """Anderson acceleration of type II (Walker and Ni, SIAM J. Numer. Anal. 49, 2011), for `fixed_point`.

    Attributes:
        memory: Number of differences of iterates that are kept and mixed.

    Example:
        >>> import jaxkit as jk
        >>> found = jk.fixed_point(lambda x, _: jnp.cos(x), 1.0, method=jk.Anderson(memory=2)).checked()
        >>> round(float(found.value), 6)
        0.739085
    """

    memory: int = 5

    def __post_init__(self) -> None:
        """Check the settings."""
        require(self.memory >= 1, "memory", "be at least 1", f"is {self.memory}")

    def finder(self) -> Method:
        """The iteration with these settings, for the residual `g(x) - x`."""
        return _anderson(self.memory)


def _anderson(memory: int) -> Method:
    def start(problem: Problem, x0: Array, ends: Ends) -> Iterate:
        del ends
        depth = min(memory, x0.size)
        f = problem.fn(x0)
        none = jnp.zeros((depth, x0.size), x0.dtype)
        past = Past(none, none, x0, f, jnp.asarray(0))
        finite = jnp.all(jnp.isfinite(f))
        status = jnp.where(finite, code(Status.ok), code(Status.not_finite))
        error = jnp.where(jnp.all(f == 0), 0, unknown_error(x0))
        allowed = _allowed(problem, x0, f)
        return Iterate(jnp.where(finite, x0 + f, x0), error, status, past, allowed)

    def step(problem: Problem, state: Iterate) -> Iterate:
        past, x = state.memory, state.x
        f = problem.fn(x)
        depth = past.dx.shape[0]
        worse = jnp.linalg.norm(f) > 4 * jnp.linalg.norm(past.f)  # start afresh instead of extrapolating further
        slot = past.count % depth
        dx = jnp.where(worse, 0, past.dx).at[slot].set(x - past.x)
        df = jnp.where(worse, 0, past.df).at[slot].set(f - past.f)
        gram = df.conj() @ df.T
        ridge = jnp.finfo(gram.dtype).eps * 10 * jnp.trace(gram).real + jnp.finfo(gram.dtype).tiny
        weights = jnp.linalg.solve(gram + ridge * jnp.eye(depth, dtype=gram.dtype), df.conj() @ f)
        following = x + f - weights @ (dx + df)
        following = jnp.where(jnp.all(jnp.isfinite(following)), following, x + f)
        finite = jnp.all(jnp.isfinite(following))
        status = jnp.where(finite, code(Status.ok), code(Status.not_finite))
        gap = jnp.maximum(jnp.abs(f), jnp.abs(following - x))
        past = Past(dx, df, x, f, past.count + 1)
        return Iterate(jnp.where(finite, following, x), gap, status, past, _allowed(problem, x, f))

    return Method("anderson", start, step, flat=True, free=True)


PICARD = Method("picard", _picard_start, _picard, flat=True, free=True)
