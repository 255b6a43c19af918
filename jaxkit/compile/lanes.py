"""Lanes: one place for every batch. Take pytrees apart into rows of numbers, sort by work, cut in chunks, share out.

A *lane* is one member of a batch: its own state, parameters and time span. Small chunks stay in the processor's cache,
and lanes that need equally many steps wait for nobody when they share a chunk.

What helped on a CPU, in CPU milliseconds for the 10,000 competition problems of `benchmarks/ensembles.py` before and
after each change (measured as it was built; the machine's load differed from one to the next):

- vectors of 512 bits (`xla_cpu_prefer_vector_width`): 70 -> 40;
- step results packed in pairs as complex numbers (XLA computes a fused loop once for each array that comes out):
  40 -> 15;
- constant factors pulled out of products, so that a product is one convolution: 17 -> 12.75;
- lanes sorted by the first step's length, where the rates are spread;
- the arguments' conversion and the loop in one program (no host work between them), failed lanes told from the count
  of steps instead of a further step after the loop: in a busy hour 16.9 -> 12.1 beside heyoka's 12.3 (one core each);
- a convolution's newest terms summed last: a step is a chain of operations that wait for each other, and the other
  terms can be summed meanwhile: 13.4 -> 10.6 beside heyoka's 12.3 and 12.6;
- the polynomial by pairs of terms (Estrin) instead of Horner's chain: 10.8 -> 9.8 beside heyoka's 13.2 and 12.7;
- for tangents: each order of the series kept in memory behind a condition (`Row.apart`), so that no loop computes it
  again: 80 -> 13 us for a step of 64 lanes with six directions;
- the tangents of two numbers of the state as one complex array, so that one loop computes both and reads what they
  share once, and taken apart only in the loop that reads them: 108 -> 83 ms for the gradients of the 10,000 problems.

What did not:

- one loop that gives all its arrays at once (multi-output fusion): exists only behind `XLA_FLAGS`, which a library must
  not set, and was no faster (19.8 beside 17.5 in one run);
- chunks of 8, 16, 32 lanes: 25.5, 16.8, 18.5 beside 17.0 for 64 in one run; 128 is slower still;
- the factor 1 / (k + 1) of a coefficient taken by the weights, so that the chain is shorter: 10.6 -> 12.1;
- each order kept in memory for the state alone: 2.4 us a step of 64 lanes (1.6 of 256) beside 1.6 in one loop;
- the step's length carried to the next step, so that the series is not computed for `x` and for `t`: 12.1 -> 21 (the
  compiler computes it again all the same, and lanes wait for one more loop);
- the step's length from lower coefficients (two to four orders down): 12.1 -> 10.8, but `x` and `t` are computed in
  two loops, which then round differently: errors of 1e-6 to 1e-4 at a tolerance of 1e-8. Both loops must hold the whole
  step, so that they round alike;
- `lax.optimization_barrier` between stages or steps: the CPU compiler removes barriers before it fuses;
- a `lax.reduce` of several operands over an axis of length one as a loop of several results: simplified away, to wrong
  numbers if the computation is not a reduction;
- the step's length, now kept in memory, from one order less: 12.2 -> 10.8, but errors of 3e-8 and 1.6e-7 (spread rates)
  instead of 5e-9: an estimate that sees one coefficient less is fooled more often;
- the Jacobian's entries as series of their own, with `S' = J S + f_p` instead of the recurrences' derivatives: 97 ->
  107 ms (fewer products, but each entry is one more short loop an order);
- the state's rows two by two as well, beside tangents: 107 -> 139 ms; chunks of 16, 32, 48, 96, 128, 192 lanes beside
  64 for gradients: 158, 110, 98, 86, 91, 105 beside 91 ms;
- the step as a call that XLA compiles as one function (`xla_cpu_small_call`): 3.6 to 13 ns beside 4.7 to 5.1 for a
  small polynomial step, better only at 64 lanes, and an internal name of the compiler.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

WIDTH = 64  # lanes of a chunk on a CPU: a few vectors for each number of the state


def default_width(size: int) -> int:
    """Lanes of a chunk for states of `size` numbers: what stays in a CPU's cache, or fills a GPU."""
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

    def join(self, rows: Sequence[Array]) -> PyTree:
        """The batch of pytrees again; rows may have further axes behind the first."""
        rows, leaves = list(rows), []
        for shape in self.shapes:
            own, rows = rows[: math.prod(shape)], rows[math.prod(shape) :]
            leaf = jnp.stack(own, axis=-1)
            leaves.append(leaf.reshape(*leaf.shape[:-1], *shape))
        return self.treedef.unflatten(leaves)


def in_chunks(fn: Callable[[Any], Any], rows: Any, width: int) -> Any:
    """`fn` of chunks of `width` lanes, one after the other.

    Args:
        fn: Maps a pytree of `(width, ...)` arrays to one of `(..., width)` or `(width, ...)` arrays.
        rows: Pytree of arrays with a leading axis of lanes; the last lane is repeated to fill the last chunk.
        width: Lanes of a chunk.

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
    """Chunks `(chunks, ..., width)` as one row of lanes, `(..., lanes)`; the filling is dropped."""
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
        order: The order in which the lanes are already, to be undone as well.
        spread: See above.
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
    """`fn(rows, shared)` with the lanes of `rows` shared out over devices: no device waits for another.

    Every leaf of the result must have the lanes as its leading axis.
    """
    mesh = jax.make_mesh((len(devices),), ("lanes",), axis_types=(jax.sharding.AxisType.Auto,), devices=devices)
    lanes = jax.tree.leaves(rows)[0].shape[0]
    filled = -(-lanes // len(devices)) * len(devices)
    rows = jax.tree.map(lambda v: jnp.pad(v, [(0, filled - lanes)] + [(0, 0)] * (v.ndim - 1), mode="edge"), rows)
    split, whole = jax.P("lanes"), jax.P()
    run = jax.shard_map(fn, mesh=mesh, in_specs=(split, whole), out_specs=split, check_vma=False)
    return jax.tree.map(lambda v: v[:lanes], run(rows, shared))
