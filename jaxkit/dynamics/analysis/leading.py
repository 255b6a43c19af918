"""The few eigenvalues of a large Jacobian that decide: those of the largest real part."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from jaxkit.core.status import Status
from jaxkit.dynamics.analysis.eigenvalues import eigenvalues
from jaxkit.dynamics.linear import klu, ways
from jaxkit.dynamics.linear.arnoldi import Ritz, ritz
from jaxkit.dynamics.linear.dense import value_and_jacobian
from jaxkit.dynamics.linear.implicit import closed, implicit, once
from jaxkit.dynamics.linear.pattern import Pattern

RTOL = 1e-6  # a residual |J v - lambda v| up to this, relative to the distance from the shift, is that of an eigenvalue
ROUNDING = 64  # and so is one of so many rounding errors of the matrix
PASSES, NEARER = 3, 0.03  # how often a shift is tried, and how near to the first eigenvalue the next one comes

Fn = Callable[[Array], Array]


def leading_eigenvalues(velocity: Fn, x: Float[Array, " n"], count: int) -> Complex[Array, " count"]:
    """The `count` eigenvalues of largest real part of the Jacobian of `velocity` at `x`, by decreasing real part.

    Where sparse factors can be had, Arnoldi's method looks at `(s - J)^-1`, with `s` at the right end of Gershgorin's
    discs: the eigenvalues nearest to `s` come out, so that one far from the real axis can be missed. Without them it
    looks at `J` itself; small or full Jacobians are solved as a whole.

    Returns:
        Shape `(count,)`; NaN where one did not converge. First derivatives are those of simple eigenvalues; second
        ones are NaN.
    """
    way = ways.chosen(velocity, x, "auto")
    if way.name == "dense":
        return eigenvalues(value_and_jacobian(velocity, x)[1])[:count]
    velocity, consts = closed(velocity, x)

    def solve(x: Array, consts: tuple) -> tuple[Any, tuple[Array]]:
        found, known = _pairs(lambda x: velocity(x, *consts), x, count, way)
        status = jnp.where(known, int(Status.ok), int(Status.no_progress))
        return (found.values, found.vectors), (status,)

    def rule(answer: Any, inputs: Any, tangents: Any) -> Any:
        values, right = answer
        x, consts = jax.lax.stop_gradient(inputs)
        left = _matched(_pairs(lambda x: velocity(x, *consts), x, count, way, transposed=True)[0], values)

        def moved(v: Array) -> Array:
            slope = lambda x, consts: jax.jvp(lambda x: velocity(x, *consts), (x,), (v,))[1]
            return jax.jvp(slope, inputs, tangents)[1]

        both = jax.vmap(lambda v: jax.lax.complex(moved(jnp.real(v)), moved(jnp.imag(v))))
        numbers = lambda inputs: [v for v in jax.tree.leaves(inputs) if jnp.issubdtype(v.dtype, jnp.inexact)]
        whole = lambda inputs: once(sum(jnp.sum(jnp.real(v)).astype(x.dtype) for v in numbers(inputs)))
        unknown = jax.jvp(whole, (inputs,), (tangents,))[1].astype(right.dtype) * right
        return jnp.sum(left * both(right), 1) / jnp.sum(left * right, 1), unknown

    return implicit(solve, rule)(x, tuple(consts))[0][0]


def _pairs(fn: Fn, x: Array, count: int, way: ways.Way, *, transposed: bool = False) -> tuple[Ritz, Array]:
    """The leading eigenvalues and eigenvectors of the Jacobian, and whether all are known."""
    slope, product = way.slope(fn, x)[1], lambda v: jax.jvp(fn, (x,), (v,))[1]
    if transposed:
        turned = jax.linear_transpose(product, x)
        product = lambda v: turned(v)[0]
    if way.name == "sparse" and way.pattern is not None:
        found, shift = _inverted(way.pattern, slope.values, x, count, transposed=transposed)
    else:
        found = ritz(product, x, count)
        shift = jnp.zeros((), found.values.dtype)
    whole = jax.vmap(lambda v: jax.lax.complex(product(jnp.real(v)), product(jnp.imag(v))))
    left = jnp.linalg.norm(whole(found.vectors) - found.values[:, None] * found.vectors, axis=1)
    rounding = ROUNDING * float(jnp.finfo(x.dtype).eps) * ways.bound(slope)
    near = RTOL * jnp.abs(found.values - shift) + rounding
    known = jnp.isfinite(found.values) & (left <= near)
    real = jnp.abs(jnp.imag(found.values)) <= left + rounding
    above = known & (real | (jnp.imag(found.values) > 0))
    values = jnp.where(real, jax.lax.complex(jnp.real(found.values), jnp.zeros_like(left)), found.values)
    # Those below the axis are mirror images; the shift may have been above it.
    both = jnp.concatenate([jnp.where(above, values, jnp.nan), jnp.where(above & ~real, values.conj(), jnp.nan)])
    order = jnp.argsort(jnp.where(jnp.isnan(both), jnp.inf, -jnp.real(both)))[:count]
    vectors = jnp.concatenate([found.vectors, found.vectors.conj()])
    chosen = Ritz(both[order], vectors[order], jnp.tile(left, 2)[order])
    return chosen, ~jnp.any(jnp.isnan(chosen.values))


def _inverted(
    pattern: Pattern, entries: Array, x: Array, count: int, *, transposed: bool
) -> tuple[Ritz, Complex[Array, ""]]:
    """Eigenvalues next to a shift, by factors, and the shift, which has come from the right end of Gershgorin's discs.

    Far from it eigenvalues stand close together, as seen from there; so it comes nearer to the first one.
    """
    own = jnp.zeros_like(entries).at[pattern.diagonal].set(entries[pattern.diagonal])
    reach = own + jnp.abs(entries - own)
    ends = [jnp.max(jax.ops.segment_sum(reach, places, pattern.size)) for places in (pattern.rows, pattern.columns)]
    end, least = jnp.minimum(*ends), 1e-8 * jnp.max(jnp.abs(entries))
    like = jax.lax.complex(x, jnp.zeros_like(x))
    entries, whole = entries.astype(like.dtype), like.dtype

    def seen(shift: Array) -> Ritz:
        shifted = (-entries).at[pattern.diagonal].add(shift)
        use = lambda factors: ritz(lambda v: factors.solve(v, transposed=transposed), like, count)
        found = klu.held(pattern, shifted, use)
        there = found.values != 0
        return found._replace(values=jnp.where(there, shift - 1 / jnp.where(there, found.values, 1), jnp.nan))

    def nearer(_: int, carry: tuple[Ritz, Array]) -> tuple[Ritz, Array]:
        values, shift = carry[0].values, carry[1]
        first = values[jnp.argmax(jnp.where(jnp.isnan(values), -jnp.inf, jnp.real(values)))]
        first = jnp.where(jnp.isnan(first), shift, jnp.where(jnp.imag(first) < 0, first.conj(), first))
        shift = first + (NEARER * jnp.abs(shift - first) + least).astype(whole)
        return seen(shift), shift

    shapes = jax.eval_shape(seen, like[0])
    first = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), shapes)
    first = first._replace(values=jnp.full_like(first.values, jnp.nan))
    start = (end + 1e-3 * jnp.abs(end) + least).astype(whole)
    return jax.lax.fori_loop(0, PASSES, nearer, (first, start))


def _matched(found: Ritz, values: Array) -> Array:
    """The vectors that belong to `values`."""
    apart = jnp.abs(found.values[None] - values[:, None])
    return found.vectors[jnp.argmin(jnp.where(jnp.isfinite(apart), apart, jnp.inf), 1)]
