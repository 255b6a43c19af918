"""Lanes: one place for every batch. Take pytrees apart into rows of numbers, sort by work, cut into chunks, share out.

A *lane* is one member of a batch: its own state, parameters and time span. Small chunks stay in the processor's cache,
and lanes that need equally many steps wait for nobody when they share a chunk.

What was tried and what it gave: docs/devdocs/lanes.md.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

WIDTH = 64  # lanes of a chunk on a CPU: a few vectors for each number of the state


def default_width(size: int) -> int:
    """Lanes of a chunk for states of `size` numbers: as many as stay in a CPU's cache, or fill a GPU."""
    if jax.default_backend() != "cpu":
        return 1 << 14
    return WIDTH if size <= 16 else WIDTH // 2


class Layout:
    """How one lane's pytree of arrays is laid out as numbers.

    Args:
        tree: One lane's pytree of arrays or shapes.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit.compile.lanes import Layout
        >>> layout = Layout({"x": jnp.zeros(2), "y": jnp.zeros(())})
        >>> rows = layout.split({"x": jnp.ones((5, 2)), "y": jnp.zeros(5)})
        >>> len(rows), rows[0].shape, layout.join(rows)["x"].shape
        (3, (5,), (5, 2))
    """

    def __init__(self, tree: PyTree):
        leaves, self.treedef = jax.tree.flatten(tree)
        self.shapes = [tuple(v.shape) for v in leaves]
        self.size = sum(map(math.prod, self.shapes))

    def split(self, batch: PyTree) -> tuple[Array, ...]:
        """Rows of numbers, each `(n,)`, of a batch whose leaves have a leading axis."""
        return tuple(
            row
            for leaf, shape in zip(self.treedef.flatten_up_to(batch), self.shapes, strict=True)
            for row in leaf.reshape(leaf.shape[0], math.prod(shape)).swapaxes(0, 1)
        )

    def flat(self, batch: PyTree, lead: int = 1) -> Array:
        """A batch as one array with its numbers along the last axis, behind `lead` leading axes."""
        leaves = self.treedef.flatten_up_to(batch)
        return jnp.concatenate([v.reshape(*v.shape[:lead], math.prod(v.shape[lead:])) for v in leaves], axis=-1)

    def tree(self, flat: Array) -> PyTree:
        """The batch of pytrees, made again from one array."""
        ends = list(itertools.accumulate(map(math.prod, self.shapes)))
        parts = jnp.split(flat, ends[:-1], axis=-1)
        leaves = [v.reshape(*flat.shape[:-1], *shape) for v, shape in zip(parts, self.shapes, strict=True)]
        return self.treedef.unflatten(leaves)

    def join(self, rows: Sequence[Array]) -> PyTree:
        """The batch of pytrees, made again from its rows, which may have further axes behind the first."""
        rows, leaves = list(rows), []
        for shape in self.shapes:
            own, rows = rows[: math.prod(shape)], rows[math.prod(shape) :]
            leaf = jnp.stack(own, axis=-1)
            leaves.append(leaf.reshape(*leaf.shape[:-1], *shape))
        return self.treedef.unflatten(leaves)


def in_chunks(fn: Callable[[Any], Any], rows: Any, width: int) -> Any:
    """`fn` applied to chunks of `width` lanes, one after another.

    Args:
        fn: Maps a pytree of `(width, ...)` arrays to one of `(..., width)` or `(width, ...)` arrays.
        rows: Pytree of arrays with a leading axis of lanes; the last lane is repeated to fill the last chunk.
        width: Number of lanes in a chunk.

    Returns:
        What `fn` returns, each leaf with the chunks as its leading axis, shape `(chunks, ...)`.
    """
    lanes = jax.tree.leaves(rows)[0].shape[0]
    chunks = -(-lanes // width)
    if chunks == 1 and lanes == width:
        return jax.tree.map(lambda v: v[None], fn(rows))

    def cut(v: Array) -> Array:
        padded = jnp.pad(v, [(0, chunks * width - lanes)] + [(0, 0)] * (v.ndim - 1), mode="edge")
        return padded.reshape(chunks, width, *v.shape[1:])

    return jax.lax.map(fn, jax.tree.map(cut, rows))


def glue(chunked: Array, lanes: int, axis: int = -1) -> Array:
    """Chunks `(chunks, ..., width)` as one row of lanes, `(..., lanes)`, without the filling."""
    merged = jnp.moveaxis(chunked, 0, -2)
    merged = merged.reshape(*merged.shape[:-2], -1)
    return jax.lax.slice_in_dim(merged, 0, lanes, axis=axis)


def by_work(
    work: Float[Array, " n"], rows: Any, order: Array | None = None, *, spread: float = 0.25
) -> tuple[Any, Array]:
    """Rows of lanes in an order that puts lanes of like work together, and the order that undoes it.

    Where the logarithm of the work has a standard deviation below `spread`, lanes stay where they are: sorting would
    cost more than the waiting.

    Args:
        work: About how many steps each lane needs.
        rows: Pytree of arrays with a leading axis of lanes.
        order: The present order of the lanes, which is to be undone as well.
        spread: The least standard deviation of the logarithm of the work for which lanes are sorted.
    """
    logs = jnp.log(jnp.clip(jnp.nan_to_num(work, posinf=1e30), 1e-6, 1e30))
    same = jnp.arange(len(work), dtype=jnp.int32)
    undo = lambda order: jnp.zeros_like(order).at[order].set(same)

    def sort(logs: Array) -> tuple[Array, Array]:
        by_logs = jnp.argsort(logs).astype(jnp.int32)
        return by_logs, undo(by_logs)

    sorting, back = jax.lax.cond(jnp.std(logs) > spread, sort, lambda _: (same, same), logs)
    back = back if order is None else undo(order[sorting])
    return jax.tree.map(lambda v: v[sorting], rows), back


def by_likeness(
    first: Float[Array, " n"], second: Float[Array, " n"], moves: Bool[Array, " n"], *, width: int = WIDTH
) -> Int[Array, " n"]:
    """An order of lanes in which neighbours are near in two numbers, so that they need about equally many steps.

    Lanes that do not move come first; then classes of the first number, within a class by the second, so that each
    chunk holds a small patch of the plane of both.
    """
    n = len(first)
    classes = max(1, round((n / width) ** 0.5))
    rank = jnp.argsort(jnp.argsort(first))
    return jnp.lexsort((second, rank * classes // n, moves)).astype(jnp.int32)


def over_devices(fn: Callable[..., Any], devices: Sequence[Any], rows: Any, shared: Any) -> Any:
    """`fn(rows, shared)` with the lanes of `rows` shared out over devices, so that no device waits for another.

    Every leaf of the result must have the lanes as its leading axis.
    """
    mesh = jax.make_mesh((len(devices),), ("lanes",), axis_types=(jax.sharding.AxisType.Auto,), devices=devices)
    lanes = jax.tree.leaves(rows)[0].shape[0]
    filled = -(-lanes // len(devices)) * len(devices)
    rows = jax.tree.map(lambda v: jnp.pad(v, [(0, filled - lanes)] + [(0, 0)] * (v.ndim - 1), mode="edge"), rows)
    split, whole = jax.P("lanes"), jax.P()
    run = jax.shard_map(fn, mesh=mesh, in_specs=(split, whole), out_specs=split, check_vma=False)
    return jax.tree.map(lambda v: v[:lanes], run(rows, shared))
