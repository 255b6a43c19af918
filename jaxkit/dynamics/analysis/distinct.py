"""Which of many points are distinct: the first of each bunch, by sorting instead of by a table of all distances."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt


def first_of_each(points: Float[Array, "k d"], usable: Bool[Array, " k"], apart: float) -> Bool[Array, " k"]:
    """The points of which no earlier one is nearer than `apart * (1 + |x|)`.

    Points of one small cube are within that distance of each other: of those, one is left. The rest are sorted along
    one direction, and each is compared with those near it there: `k log k` operations, unless many distinct points lie
    side by side. Every two points that count as one are compared as they are.

    Args:
        points: The points.
        usable: Which of them count at all.
        apart: The distance, relative to a point's size.
    """
    k, d = points.shape
    if k < 2:
        return usable
    points = jnp.where(usable[:, None], points, 0)
    size = 1 + jnp.linalg.norm(points, axis=1)
    far = apart * size
    index = jnp.arange(k, dtype=jnp.int32)
    cell = jnp.ldexp(jnp.full_like(size, apart / d**0.5), jnp.frexp(size)[1] - 1)  # no larger than `far / sqrt(d)`
    order = jnp.lexsort((_hash(points, cell, 1), _hash(points, cell, 2), ~usable))
    starts = _starts(points, cell, usable, order)
    leader = order[jax.lax.cummax(jnp.where(starts, index, 0))]
    near = jnp.linalg.norm(points[order] - points[leader], axis=1) <= far[order]
    left = usable & jnp.zeros(k, bool).at[order].set(starts | ~near)
    direction = np.random.default_rng(0).standard_normal(d)
    along = points @ jnp.asarray(direction / np.linalg.norm(direction), points.dtype)
    order = jnp.lexsort((along, ~left))
    ranked, at, reach, there = left[order], along[order], far[order], points[order]
    slack = 4 * d * float(jnp.finfo(points.dtype).eps) * size[order]  # of the sums along the direction

    def compare(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        step, doubled, _ = carry
        other = jnp.minimum(index + step, k - 1)
        paired = (index + step < k) & ranked & ranked[other]
        most = jnp.maximum(reach, reach[other]) + slack + slack[other]
        beside = paired & (at[other] - at <= most)
        gap = jnp.linalg.norm(there - there[other], axis=1)
        later = order > order[other]
        mine = beside & later & (gap <= reach)
        theirs = beside & ~later & (gap <= reach[other])
        doubled = doubled | mine | jnp.zeros(k, bool).at[jnp.where(theirs, other, k)].set(True, mode="drop")
        return step + 1, doubled, jnp.any(beside)

    first = (jnp.asarray(1, jnp.int32), jnp.zeros(k, bool), jnp.any(left))
    doubled = jax.lax.while_loop(lambda c: c[2] & (c[0] < k), compare, first)[1]
    return left & ~jnp.zeros(k, bool).at[order].set(doubled)


def _hash(points: Float[Array, "k d"], cell: Float[Array, " k"], seed: int) -> UInt[Array, " k"]:
    """A number that points of one cube share; few other points have it, too."""
    whole = jnp.floor(points / cell[:, None])
    low = (whole - 65536 * jnp.floor(whole / 65536)).astype(jnp.uint32)
    high = jnp.clip(jnp.floor(whole / 65536), -(2.0**31), 2.0**31 - 128).astype(jnp.int32).astype(jnp.uint32)
    factors = np.random.default_rng(seed).integers(1, 1 << 32, (2, points.shape[1]), dtype=np.uint32) | np.uint32(1)
    scale = jnp.frexp(cell)[1].astype(jnp.uint32) * np.uint32(2654435761)
    return jnp.sum(low * factors[:1] + high * factors[1:], axis=1, dtype=jnp.uint32) + scale


def _starts(points: Array, cell: Array, usable: Array, order: Array) -> Bool[Array, " k"]:
    """Where a run of points with the same numbers begins, in that order."""
    keys = [_hash(points, cell, seed)[order] for seed in (1, 2)] + [usable[order]]
    changes = [v[1:] != v[:-1] for v in keys]
    return jnp.concatenate([jnp.ones(1, bool), changes[0] | changes[1] | changes[2]])
