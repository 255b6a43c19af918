"""Jacobians with at least as many rows as columns, and least-squares steps with them: sparse, or by products alone.

Sparse steps come from the normal equations, `J'J` plus a damping, through sparse factors: scaled by the norms of the
columns, they tell combinations of the unknowns apart whose effects differ by up to about 1e6. What the factors say is
refined once by the residuals themselves.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxkit.core import checks
from jaxkit.dynamics.linear import conjugate, klu, ways
from jaxkit.dynamics.linear.libraries import missing
from jaxkit.dynamics.linear.pattern import Pattern, from_entries, places, read

FEW = 256  # unknowns below which dense factors are faster whatever the pattern
PAIRS = 20_000_000  # products of two entries of a row above which the normal equations take too long
PROBES = 8  # products by which the norms of columns are estimated
LIMIT = 1000  # products for a step
PATIENCE = 3000  # products for what decides on a status
FULL = 0.25  # products for a sparse Jacobian, in those for a dense one, above which it does not pay

Fn = Callable[[Array], Array]
Vector = Float[Array, " n"]
_KNOWN: dict[tuple[int, int, bytes], "TallPattern"] = {}


@dataclasses.dataclass(frozen=True, eq=False)
class TallPattern:
    """The entries of a Jacobian that can be nonzero.

    Attributes:
        rows: Rows of the entries, in order.
        columns: Their columns.
        shape: Numbers of rows and columns.
        colours: For each column, the product in which it is read.
        count: Number of products.
    """

    rows: np.ndarray
    columns: np.ndarray
    shape: tuple[int, int]
    colours: np.ndarray
    count: int

    @functools.cached_property
    def normal(self) -> Pattern:
        """The pattern of `J'J`, which is that of the Hessian of the sum of squares, too."""
        first, second, _ = self._pairs
        return from_entries(self.columns[first], self.columns[second], self.shape[1])

    @functools.cached_property
    def _pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pairs of entries of one row, in the order of their columns, and these columns as one key."""
        count = np.bincount(self.rows, minlength=self.shape[0])
        mates = count[self.rows]
        first = np.repeat(np.arange(len(self.rows)), mates)
        begin = np.concatenate([[0], np.cumsum(count)])[self.rows]
        within = np.arange(len(first)) - np.repeat(np.concatenate([[0], np.cumsum(mates)[:-1]]), mates)
        second = begin[first] + within
        keys = self.columns[first].astype(np.int64) * self.shape[1] + self.columns[second]
        order = np.argsort(keys, kind="stable")
        return first[order].astype(np.int32), second[order].astype(np.int32), keys[order]

    @functools.cached_property
    def _target(self) -> np.ndarray:
        keys = self.normal.rows.astype(np.int64) * self.shape[1] + self.normal.columns
        return np.searchsorted(keys, self._pairs[2]).astype(np.int32)

    @functools.cached_property
    def _by_column(self) -> np.ndarray:
        return np.argsort(self.columns, kind="stable").astype(np.int32)

    @functools.cached_property
    def _where(self) -> np.ndarray:
        return self.colours[self.columns].astype(np.int64) * self.shape[0] + self.rows

    def entries(self, product: Fn, like: Array) -> Array:
        """The entries of a linear map, read off products with it."""
        return read(product, like, self.colours, self.count).reshape(-1)[self._where]

    def normal_entries(self, entries: Array) -> Array:
        """The entries of `J'J`."""
        first, second, _ = self._pairs
        size = len(self.normal.rows)
        return jax.ops.segment_sum(entries[first] * entries[second], self._target, size, indices_are_sorted=True)

    def over_rows(self, terms: Array) -> Array:
        """Sums over each row."""
        return jax.ops.segment_sum(terms, self.rows, self.shape[0], indices_are_sorted=True)

    def over_columns(self, terms: Array) -> Array:
        """Sums over each column."""
        order = self._by_column
        return jax.ops.segment_sum(terms[order], self.columns[order], self.shape[1], indices_are_sorted=True)


class Undamped(NamedTuple):
    """What an examination needs to know of the least-squares problem without damping, in scaled unknowns.

    Attributes:
        step: The Gauss-Newton step.
        part: Length of the residuals' part in the space of the columns.
        whole: Whether all combinations of unknowns show, and the step could be found.
        weak: A combination that shows little, of length 1.
        least: By how much it moves the residuals.
    """

    step: Vector
    part: Float[Array, ""]
    whole: Bool[Array, ""]
    weak: Vector
    least: Float[Array, ""]


class Tall(Protocol):
    """A Jacobian held otherwise than dense: a slope is one array."""

    @property
    def fn(self) -> Fn:
        """The residuals."""
        ...

    def shape(self, size: int) -> tuple[int, ...]:
        """Shape of a slope."""
        ...

    def both(self, x: Array) -> tuple[Array, Array]:
        """The value and the slope at a point."""
        ...

    def norms(self, slope: Array) -> Array:
        """Norms of the columns."""
        ...

    def pull(self, slope: Array, value: Array) -> Array:
        """The transposed Jacobian times residuals."""
        ...

    def damped(self, slope: Array, scale: Array, size: Array, value: Array) -> tuple[Array, Array]:
        """The least-squares step with damping, and the gradient, in scaled unknowns."""
        ...

    def undamped(self, slope: Array, scale: Array, value: Array) -> Undamped:
        """The same without damping, and what can be said of it."""
        ...

    def rounding(self, slope: Array, x: Array) -> Array:
        """The length of residuals that are mere rounding."""
        ...

    def groups(self, doubt: Array) -> tuple[Fn, int, Callable[[Array, Array], Array]]:
        """Unknowns that can be looked at together."""
        ...


def _spread(size: int, dtype: np.dtype, number: int | Array = 0) -> Array:
    """A vector with a part along everything: a wave whose length changes (random numbers take longer to compile)."""
    i = jnp.arange(size, dtype=dtype)
    return jnp.sin((0.739 * i + 1.618 * (number + 1)) * i + 0.5 + number)


@dataclasses.dataclass(frozen=True)
class Sparse:
    """A Jacobian by its entries; the slope is the array of them."""

    fn: Fn
    pattern: TallPattern

    def shape(self, size: int) -> tuple[int, ...]:
        """Shape of a slope."""
        del size
        return (len(self.pattern.rows),)

    def both(self, x: Array) -> tuple[Array, Array]:
        """The value and the slope at a point."""
        value, push = jax.linearize(self.fn, x)
        return value, self.pattern.entries(push, x)

    def norms(self, slope: Array) -> Array:
        """Norms of the columns."""
        largest = jnp.max(jnp.abs(slope))
        unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)  # no square under- or overflows
        return unit * jnp.sqrt(self.pattern.over_columns((slope / unit) ** 2))

    def times(self, slope: Array, v: Array) -> Array:
        """The Jacobian times a vector."""
        return self.pattern.over_rows(slope * v[self.pattern.columns])

    def pull(self, slope: Array, value: Array) -> Array:
        """The transposed Jacobian times residuals."""
        return self.pattern.over_columns(slope * value[self.pattern.rows])

    def damped(self, slope: Array, scale: Array, size: Array, value: Array) -> tuple[Array, Array]:
        """The least-squares step with damping, and the gradient, in scaled unknowns."""
        slope, normal = slope / scale[self.pattern.columns], self.pattern.normal
        matrix = self.pattern.normal_entries(slope).at[normal.diagonal].add(size)
        gradient = self.pull(slope, value)
        return klu.solve(normal, matrix, -gradient), gradient

    def undamped(self, slope: Array, scale: Array, value: Array) -> Undamped:
        """The same without damping, and what can be said of it."""
        slope, normal = slope / scale[self.pattern.columns], self.pattern.normal
        matrix = self.pattern.normal_entries(slope)

        def use(factors: klu.Factors) -> Undamped:
            step = factors.solve(-self.pull(slope, value))
            step = step - factors.solve(self.pull(slope, value + self.times(slope, step)))

            def turn(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
                v = factors.solve(carry[0])
                size = jnp.linalg.norm(v)
                return v / size, size

            first = _spread(step.size, step.dtype)
            weak, growth = jax.lax.fori_loop(0, 6, turn, (first / jnp.linalg.norm(first), jnp.zeros((), step.dtype)))
            largest = jnp.max(jax.ops.segment_sum(jnp.abs(matrix), normal.rows, normal.size, indices_are_sorted=True))
            whole = growth * largest * 1e3 * float(jnp.finfo(step.dtype).eps) < 1
            part, least = jnp.linalg.norm(self.times(slope, step)), jnp.linalg.norm(self.times(slope, weak))
            return Undamped(step, part, whole & jnp.all(jnp.isfinite(step)), weak, least)

        return klu.held(normal, matrix, use)

    def rounding(self, slope: Array, x: Array) -> Array:
        """The length of residuals that are mere rounding."""
        most = 1 + int(np.bincount(self.pattern.rows).max())
        return most * jnp.finfo(x.dtype).eps * jnp.linalg.norm(self.times(jnp.abs(slope), jnp.abs(x)))

    def groups(self, doubt: Array) -> tuple[Fn, int, Callable[[Array, Array], Array]]:
        """Unknowns that share no residual: which are in a group, the number of groups, sums over their residuals."""
        del doubt
        colours, pattern = jnp.asarray(self.pattern.colours), self.pattern
        member = lambda i: colours == i
        sums = lambda i, terms: jnp.where(member(i), pattern.over_columns(terms[pattern.rows]), 0)
        return member, pattern.count, sums


@dataclasses.dataclass(frozen=True)
class Products:
    """A Jacobian by its products; the slope is the point."""

    fn: Fn

    def shape(self, size: int) -> tuple[int, ...]:
        """Shape of a slope."""
        return (size,)

    def both(self, x: Array) -> tuple[Array, Array]:
        """The value and the slope at a point."""
        return self.fn(x), x

    def norms(self, slope: Array) -> Array:
        """Norms of the columns, estimated: by the mean square of pulled signs; a column of zeros has norm 0."""
        value, pull = jax.vjp(self.fn, slope)
        wave = lambda number: jnp.where(_spread(value.size, value.dtype, number) < 0, -1, 1).astype(value.dtype)
        squares = jax.vmap(lambda number: pull(wave(number))[0] ** 2)(jnp.arange(PROBES, dtype=value.dtype))
        return jnp.sqrt(jnp.mean(squares, axis=0))

    def pull(self, slope: Array, value: Array) -> Array:
        """The transposed Jacobian times residuals."""
        return jax.vjp(self.fn, slope)[1](value)[0]

    def _maps(self, slope: Array, scale: Array) -> tuple[Fn, Fn]:
        _, push = jax.linearize(self.fn, slope)
        _, pull = jax.vjp(self.fn, slope)
        return (lambda z: push(z / scale)), (lambda v: pull(v)[0] / scale)

    def damped(self, slope: Array, scale: Array, size: Array, value: Array) -> tuple[Array, Array]:
        """The least-squares step with damping, and the gradient, in scaled unknowns."""
        times, pull = self._maps(slope, scale)
        return conjugate.least_squares(times, pull, value, size, rtol=1e-4, limit=LIMIT)[0], pull(value)

    def undamped(self, slope: Array, scale: Array, value: Array) -> Undamped:
        """The same without damping, and what can be said of it.

        Vectors as good as random have parts along all combinations of the unknowns: if one of them does not show,
        solving with them does not converge to less than that part.
        """
        times, pull = self._maps(slope, scale)
        none = jnp.zeros((), value.dtype)
        step, good = conjugate.least_squares(times, pull, value, none, rtol=1e-6, limit=PATIENCE)
        normal = lambda z: pull(times(z))
        look = lambda v: conjugate.symmetric(normal, v, rtol=0.01 / slope.size**0.5, limit=PATIENCE)
        found, seen = jax.lax.map(look, jnp.stack([_spread(slope.size, slope.dtype, i) for i in (0, 1)]))
        weak = found / jnp.linalg.norm(found, axis=1, keepdims=True)
        # By rounding, what does not show is taken for what hardly shows: then the solution is that combination.
        shown = jax.lax.map(lambda v: jnp.linalg.norm(times(v)), weak)
        seen = jnp.all(seen & (shown > (1e3 * float(jnp.finfo(value.dtype).eps)) ** 0.5))
        weak, least = weak[jnp.argmin(shown)], jnp.min(shown)
        return Undamped(step, jnp.linalg.norm(times(step)), good & seen, weak, least)

    def rounding(self, slope: Array, x: Array) -> Array:
        """The length of residuals that are mere rounding."""
        return 2 * jnp.finfo(x.dtype).eps * jnp.linalg.norm(self.norms(slope) * x)

    def groups(self, doubt: Array) -> tuple[Fn, int, Callable[[Array, Array], Array]]:
        """The most doubtful unknowns, one by one."""
        count = min(64, doubt.size)
        _, most = jax.lax.top_k(doubt, count)
        member = lambda i: jnp.arange(doubt.size, dtype=most.dtype) == most[i]
        return member, count, lambda i, terms: jnp.where(member(i), jnp.sum(terms), 0)


@dataclasses.dataclass(frozen=True)
class Way:
    """How the Jacobian of residuals is held.

    Attributes:
        name: `"dense"`, `"sparse"` or `"krylov"`.
        pattern: Its pattern, where it is sparse.
    """

    name: str
    pattern: TallPattern | None = None

    def held(self, fn: Fn) -> Tall | None:
        """The Jacobian of `fn`; None where it is dense."""
        if self.pattern is not None:
            return Sparse(fn, self.pattern)
        return Products(fn) if self.name == "krylov" else None

    def hessian_solver(self, product: Fn, p: Array, norms: Array) -> Callable[[Array], Array]:
        """Solves with the Hessian of half the sum of squares, given by its products; differentiable to any order."""
        if self.pattern is not None:
            return ways.solver(product, p, ways.Way("sparse", self.pattern.normal))
        return conjugate.solver(product, norms**2)


DENSE = Way("dense")


def chosen(fn: Fn, x: Array, count: int, jacobian: str) -> Way:
    """The way for the Jacobian of residuals, for points of `x`'s shape.

    Args:
        fn: Maps a vector to residuals.
        x: A point.
        count: Number of residuals.
        jacobian: One of `ways.JACOBIANS`; `"auto"` takes sparse factors where they pay, and dense ones else.
    """
    checks.one_of("jacobian", jacobian, ways.JACOBIANS)
    if jacobian == "dense" or (jacobian == "auto" and x.size < FEW):
        return DENSE
    if jacobian == "krylov":
        return Way("krylov")
    must = "be 'dense' or 'krylov'"
    without = missing()
    if without is not None:
        checks.require(jacobian != "sparse", "jacobian", f"{must} without jaxkit[sparse]", "is 'sparse'")
        if x.size >= ways.HINT:
            ways.hint(x.size, "dense", without)
        return DENSE
    factored = jax.default_backend() == "cpu" and jax.dtypes.canonicalize_dtype(np.float64) == np.float64
    if not factored:
        checks.require(jacobian != "sparse", "jacobian", f"{must} without a CPU in double precision", "is 'sparse'")
        return DENSE
    found = places(fn, x)
    pattern = None if found is None else tall_pattern(*found, (count, x.size))
    if pattern is None or (jacobian == "auto" and max(pattern.count, pattern.normal.count) > FULL * x.size):
        checks.require(jacobian != "sparse", "jacobian", f"{must} for these residuals", "is 'sparse'")
        return DENSE
    return Way("sparse", pattern)


def tall_pattern(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> TallPattern | None:
    """A pattern with these entries, coloured; None where some rows are so full that `J'J` is not sparse."""
    import asdex

    keys = np.unique(rows.astype(np.int64) * shape[1] + columns)
    known = (*shape, hashlib.sha256(keys.tobytes()).digest())
    if known in _KNOWN:
        return _KNOWN[known]
    rows, columns = (keys // shape[1]).astype(np.int32), (keys % shape[1]).astype(np.int32)
    if np.sum(np.bincount(rows, minlength=1).astype(np.float64) ** 2) > PAIRS:
        return None
    colours, count = asdex.color_cols(asdex.SparsityPattern.from_coo(rows, columns, shape))
    _KNOWN[known] = TallPattern(rows, columns, shape, np.asarray(colours, np.int32), int(count))
    return _KNOWN[known]
