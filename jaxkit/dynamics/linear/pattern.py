"""Which entries of a Jacobian can be nonzero, and in how few products with it all of them are read.

The pattern is found on the host, once a program, from the traced function: it holds at every point. Columns that share
no row are read together, in one product (a colour). Both come from asdex, which `pip install 'jaxkit[sparse]'` brings.

References:
    Curtis, Powell and Reid (1974), On the estimation of sparse Jacobian matrices, IMA Journal of Applied Mathematics
    13 (one product for many columns).
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxkit.dynamics.linear.blocks import Blocks, divide
from jaxkit.dynamics.linear.implicit import closed
from jaxkit.dynamics.linear.libraries import klujax

_KNOWN: dict[tuple[int, bytes], "Pattern"] = {}  # they stay: programs hold addresses of what belongs to them
DENSE = 0.2  # share of the outputs that an input reaches above which no pattern is looked for


@dataclasses.dataclass(frozen=True, eq=False)
class Pattern:
    """The entries of a square matrix that can be nonzero; the diagonal is among them.

    Attributes:
        rows: Rows of the entries, in order.
        columns: Their columns.
        size: Number of unknowns.
        colours: For each column, the product in which it is read.
        count: Number of products.
    """

    rows: np.ndarray
    columns: np.ndarray
    size: int
    colours: np.ndarray
    count: int

    @functools.cached_property
    def diagonal(self) -> np.ndarray:
        """Where the diagonal is among the entries."""
        return np.flatnonzero(self.rows == self.columns)

    @functools.cached_property
    def order(self) -> Any:
        """The order of elimination, in memory of KLU's own; compiled programs hold its address."""
        with jax.ensure_compile_time_eval():
            return klujax().analyze(jnp.asarray(self.rows), jnp.asarray(self.columns), self.size)

    @functools.cached_property
    def width(self) -> int:
        """How many unknowns part the others in two, about: the widest level of a search through the graph by breadth.

        Elimination takes at most about `size * width^2` operations.
        """
        return _widest_level(self)

    @functools.cached_property
    def blocks(self) -> Blocks:
        """Blocks of neighbouring unknowns."""
        return divide(self.rows, self.columns, self.size)

    def entries(self, product: Callable[[Array], Array], like: Array) -> Float[Array, " k"]:
        """The entries of a linear map, read off products with it."""
        return read(product, like, self.colours, self.count).reshape(-1)[self._where]

    @functools.cached_property
    def _where(self) -> np.ndarray:
        return self.colours[self.columns].astype(np.int64) * self.size + self.rows


def read(product: Callable[[Array], Array], like: Array, colours: np.ndarray, count: int) -> Float[Array, "count m"]:
    """Products with one vector a colour: 1 for the columns that have it."""
    seed = lambda colour: (jnp.asarray(colours) == colour).astype(like.dtype)
    return jax.vmap(lambda colour: product(seed(colour)))(jnp.arange(count, dtype=jnp.int32))


def pattern_of(fn: Callable[[Array], Array], x: Array) -> Pattern | None:
    """The pattern of the Jacobian of `fn` at any point of `x`'s shape.

    It is None if the function cannot be looked through, or if most of its outputs depend on most inputs.

    Args:
        fn: Maps a vector to a vector of its length.
        x: A point, of which only shape and dtype count.
    """
    found = places(fn, x)
    return None if found is None else from_entries(*found, x.size)


def places(fn: Callable[[Array], Array], x: Array) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows and columns of the entries that can be nonzero, for a function with any number of outputs."""
    import asdex

    traced, values = closed(fn, jax.ShapeDtypeStruct(x.shape, x.dtype))
    nothing = lambda v: np.zeros(jnp.shape(v), jnp.result_type(v))
    try:
        with jax.ensure_compile_time_eval():
            if _share(traced, values, x) > DENSE:
                return None
            found = asdex.jacobian_sparsity(traced, nothing(x), *map(nothing, values), argnums=0)
    except (NotImplementedError, ValueError, TypeError, KeyError):
        return None
    return np.asarray(found.rows), np.asarray(found.cols)


def _share(traced: Callable[..., Array], values: list[Any], x: Array) -> float:
    """The share of the outputs that a few of the inputs reach: where one is NaN.

    A full pattern would be written out entry by entry, which takes minutes for thousands of unknowns.
    """
    one = lambda v: jnp.ones(jnp.shape(v), jnp.result_type(v))
    point = jnp.asarray(np.linspace(0.5, 1.5, x.size), x.dtype)
    probes = jnp.asarray(np.linspace(0, x.size - 1, 5).astype(np.int32))
    reached = jax.jit(jax.vmap(lambda i: jnp.isnan(traced(point.at[i].set(jnp.nan), *map(one, values)))))(probes)
    whole = jax.jit(lambda: jnp.isnan(traced(point, *map(one, values))))()
    return float(np.median(np.mean(np.asarray(reached) & ~np.asarray(whole), axis=1)))


def from_entries(rows: np.ndarray, columns: np.ndarray, size: int) -> Pattern:
    """A pattern with these entries and the diagonal, coloured; one object for all functions that have it."""
    import asdex

    whole = np.arange(size)
    keys = np.unique(np.concatenate([rows.astype(np.int64) * size + columns, whole * size + whole]))
    known = (size, hashlib.sha256(keys.tobytes()).digest())
    if known not in _KNOWN:
        rows, columns = (keys // size).astype(np.int32), (keys % size).astype(np.int32)
        colours, count = asdex.color_cols(asdex.SparsityPattern.from_coo(rows, columns, (size, size)))
        _KNOWN[known] = Pattern(rows, columns, size, np.asarray(colours, np.int32), int(count))
    return _KNOWN[known]


def _widest_level(pattern: Pattern) -> int:
    size = pattern.size
    links: Any = np.concatenate([pattern.rows, pattern.columns]), np.concatenate([pattern.columns, pattern.rows])
    order = np.argsort(links[0], kind="stable")
    ends, first = links[1][order], np.searchsorted(links[0][order], np.arange(size + 1))

    def neighbours(nodes: np.ndarray) -> np.ndarray:
        counts = first[nodes + 1] - first[nodes]
        begin = np.repeat(first[nodes] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        return ends[begin + np.arange(counts.sum())]

    def levels(start: np.ndarray, seen: np.ndarray) -> list[np.ndarray]:
        found = [start]
        while found[-1].size:
            new = np.unique(neighbours(found[-1]))
            new = new[~seen[new]]
            seen[new] = True
            found.append(new)
        return found[:-1]

    widest, seen = 1, np.zeros(size, bool)
    while not seen.all():
        start, before = np.flatnonzero(~seen)[:1], seen.copy()
        seen[start] = True
        last = levels(start, seen)[-1][:1]  # an end of the graph, from which its levels are narrowest
        before[last] = True
        widest = max(widest, *(len(level) for level in levels(last, before)))
    return widest
