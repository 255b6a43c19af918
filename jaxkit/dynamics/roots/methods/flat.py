"""What a residual of exactly 0 says: a root, or a place where the residual is below what floats tell from 0."""

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxkit.core.status import Status
from jaxkit.dynamics.roots.methods.method import Iterate, Problem, code

_GOLDEN = 0.6180339887  # the unknowns of a system are moved by unlike parts, so that their differences move, too
_ALIKE = 4  # how far a value beside a root may be from what the derivative says


def unless_flat(problem: Problem, scale: Array, state: Iterate, value: Array, *, sure: Array | bool = False) -> Iterate:
    """The iterate, `singular` where a residual of 0 is 0 all around it; ok where it is not, but the derivative is 0.

    `exp(x)` at -1000, `erf(x) - 1` at 6 or `1e-320 x` are 0 in floats, far from any root. About a root, an entry that
    is 0 there is not 0 on both sides, or is on one of them what its derivative says (the corner of `max(x, 0)`). And
    one tolerance away it must not underflow, or the root is not known to the tolerance.

    Args:
        problem: The residual.
        scale: The size of the unknown before the first step.
        state: The last iterate, with its status.
        value: The residual there.
        sure: Whether the way to the root has shown it to be one.
    """
    zero = value == 0
    ok = state.status == int(Status.ok)
    gone = (state.status == int(Status.singular)) | (state.status == int(Status.no_progress))
    asked = jnp.where(ok, jnp.any(zero) & ~jnp.asarray(sure), gone & jnp.all(zero))
    look = lambda: jnp.all(_leaves_zero(problem, scale, state.x) | ~zero)
    root = jax.lax.cond(eqxi.unvmap_any(asked), look, lambda: jnp.ones_like(asked))
    told = jnp.where(root, code(Status.ok), jnp.where(ok, code(Status.singular), state.status))
    return state._replace(status=jnp.where(asked, told, state.status))


def _leaves_zero(problem: Problem, scale: Array, x: Array) -> Array:
    """Whether each entry of the residual, which is 0 at `x`, is not 0 beside it, and tells of a tolerance."""
    size = jnp.maximum(jnp.abs(x), jnp.where(_shrunk(x, scale), scale, 0))
    most = jnp.max(size)
    half = float(jnp.finfo(size.dtype).eps) ** 0.5
    size = jnp.where(most > 0, jnp.maximum(size, half * most), 1)
    if x.ndim:
        size = size * (0.5 + jnp.mod(_GOLDEN * jnp.arange(x.size, dtype=size.dtype), 1))
    step = jnp.maximum(4 * half * size, 4 * float(jnp.finfo(size.dtype).tiny)).astype(x.dtype)  # not 0 itself
    _, slope = jax.jvp(problem.fn, (x,), (step,))
    before, behind = problem.fn(x - step), problem.fn(x + step)
    slope = jnp.abs(slope)
    alike = lambda v: (_ALIKE * jnp.abs(v) >= slope) & (jnp.abs(v) <= _ALIKE * slope) & (slope > 0)
    step = jnp.abs(step)
    part = jnp.max(problem.rtol * (size / step) + problem.atol / step)
    part = jnp.where(jnp.all(x == 0), 1, part)  # the root 0 is exact
    told = slope * part >= float(jnp.finfo(size.dtype).tiny)
    straight = alike(before) | alike(behind)
    return jnp.where(straight, told, (before != 0) & (behind != 0))


def _shrunk(x: Array, scale: Array) -> Array:
    """Whether an unknown has gone to 0 beside where it came from."""
    return jnp.abs(x) <= float(jnp.finfo(scale.dtype).eps) ** 0.5 * scale
