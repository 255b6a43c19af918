"""A preconditioner for products with a sparse matrix: blocks of neighbours, and one number a block.

Each block of neighbouring unknowns is solved by itself. What changes over many blocks (and makes an iteration slow) is
first taken out by a small system, of one number a block (or a group of blocks), the same for all its members.

References:
    Nicolaides (1987), Deflation of conjugate gradients with applications to boundary value problems, SIAM Journal on
    Numerical Analysis 24. Smith, Bjørstad and Gropp (1996), Domain Decomposition, sections 1.3 and 2.1.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LARGEST = 64  # unknowns of a block
GROUPS = 512  # numbers of the small system
Vector = Float[Array, " n"]


@dataclasses.dataclass(frozen=True, eq=False)
class Blocks:
    """A division of the unknowns.

    Attributes:
        owner: The block of each unknown.
        place: Its place in the block.
        members: The unknowns of each block, filled up with the number of all unknowns.
        inside: Which entries of the matrix lie within a block.
    """

    owner: np.ndarray
    place: np.ndarray
    members: np.ndarray
    inside: np.ndarray


def divide(rows: np.ndarray, columns: np.ndarray, size: int) -> Blocks:
    """Blocks of at most `LARGEST` unknowns: halves of halves, each by its distance from an end."""
    links = (np.concatenate([rows, columns]), np.concatenate([columns, rows]))
    order = np.argsort(links[0], kind="stable")
    ends, first = links[1][order], np.searchsorted(links[0][order], np.arange(size + 1))
    outside = np.ones(size, bool)

    def by_distance(nodes: np.ndarray, start: int) -> np.ndarray:
        outside[nodes], found, front = False, [], np.array([start])
        while True:
            outside[front] = True
            found.append(front)
            counts = first[front + 1] - first[front]
            begin = np.repeat(first[front] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
            near = ends[begin + np.arange(counts.sum())]
            front = np.unique(near[~outside[near]])
            if not front.size:
                left = nodes[~outside[nodes]]  # other parts of a set that hangs together no more
                if not left.size:
                    return np.concatenate(found)
                front = left[:1]

    waiting, blocks = [np.arange(size)], []
    while waiting:
        nodes = waiting.pop()
        if nodes.size <= LARGEST:
            blocks.append(nodes)
            continue
        nodes = by_distance(nodes, by_distance(nodes, nodes[0])[-1])
        waiting += [nodes[: nodes.size // 2], nodes[nodes.size // 2 :]]
    owner, place = np.empty(size, np.int32), np.empty(size, np.int32)
    members = np.full((len(blocks), max(map(len, blocks))), size, np.int32)
    for i, nodes in enumerate(blocks):
        owner[nodes], place[nodes], members[i, : nodes.size] = i, np.arange(nodes.size), nodes
    return Blocks(owner, place, members, np.flatnonzero(owner[rows] == owner[columns]))


def preconditioner(
    blocks: Blocks, rows: np.ndarray, columns: np.ndarray, entries: Array
) -> Callable[[Callable[[Vector], Vector], Vector], Vector]:
    """A function of products with the matrix and a right side: the solution, about.

    Args:
        blocks: The division.
        rows: Rows of the entries.
        columns: Their columns.
        entries: The matrix.
    """
    count, width = blocks.members.shape
    owner, place, inside = blocks.owner, blocks.place, blocks.inside
    own = jnp.where(jnp.asarray(blocks.members == len(owner))[:, :, None], jnp.eye(width, dtype=entries.dtype), 0)
    i, j = rows[inside], columns[inside]
    inner = _inverse(own.at[owner[i], place[i], place[j]].set(entries[inside]))
    usable = jnp.all(jnp.isfinite(inner), axis=(1, 2), keepdims=True)
    inner = jnp.where(usable, inner, jnp.eye(width, dtype=inner.dtype))
    groups = min(count, GROUPS)
    group = (owner.astype(np.int64) * groups // count).astype(np.int32)  # blocks in a row are neighbours
    sums = jnp.zeros((groups, groups), entries.dtype).at[group[rows], group[columns]].add(entries)
    outer = _inverse(sums[None])[0]
    outer = jnp.where(jnp.all(jnp.isfinite(outer)), outer, 0)

    def about(product: Callable[[Vector], Vector], right: Vector) -> Vector:
        far = (outer @ jax.ops.segment_sum(right, group, groups))[group]
        left = jnp.append(right - product(far), jnp.zeros((), right.dtype))[blocks.members]
        return far + jnp.einsum("kij,kj->ki", inner, left)[owner, place]

    return about


def _inverse(matrices: Float[Array, "k b b"]) -> Float[Array, "k b b"]:
    """Inverses by elimination without pivots: hundreds at once, in a hundredth of the time of `jnp.linalg.inv`.

    Where a pivot is small they are poor, or not finite: a poor preconditioner, which is seen.
    """

    def eliminate(k: Array, m: Array) -> Array:
        row = m[:, k] / m[:, k, k][:, None]
        row = row.at[:, k].set(1 / m[:, k, k])
        column = m[:, :, k]
        new = m.at[:, :, k].set(0) - column[:, :, None] * row[:, None, :]
        return new.at[:, k].set(row)

    return jax.lax.fori_loop(0, matrices.shape[1], eliminate, matrices)
