"""How linear systems with a Jacobian are solved: dense factors, sparse factors or a Krylov iteration.

Whoever needs a solve asks for a way once a program, on the host (`chosen`), and knows nothing of patterns.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxkit.core import checks
from jaxkit.core.struct import static, struct
from jaxkit.dynamics.linear import blocks, dense, klu, krylov
from jaxkit.dynamics.linear.libraries import missing
from jaxkit.dynamics.linear.pattern import Pattern, pattern_of

JACOBIANS = ("auto", "dense", "sparse", "krylov")
FEW = 100  # unknowns below which dense factors are faster whatever the pattern
MANY = 4096  # unknowns above which a dense Jacobian takes too much memory
FULL = 0.25  # products for a sparse Jacobian, in those for a dense one, above which it does not pay
HINT = 500  # unknowns from which a missing library is worth a sentence

Fn = Callable[[Array], Array]
Vector = Float[Array, " n"]


@dataclasses.dataclass(frozen=True)
class Way:
    """A way of solving linear systems.

    Attributes:
        name: `"dense"`, `"sparse"` or `"krylov"`.
        pattern: The Jacobian's pattern; None where it is not known.
        rtol: The residual at which an iteration ends, relative to the right side.
        blocks: Whether an iteration has blocks of neighbours as its preconditioner, where the pattern is known.
    """

    name: str
    pattern: Pattern | None = None
    rtol: float = 1e-10
    blocks: bool = True

    def slope(self, fn: Fn, x: Array) -> tuple[Array, Any]:
        """The value of `fn` and its Jacobian, in a form that the functions below take.

        The sparse forms have no derivative.
        """
        if self.name == "dense":
            return dense.value_and_jacobian(fn, x)
        value, push = jax.linearize(fn, x)
        if self.pattern is None:
            return value, Product(x, (), fn)
        entries = self.pattern.entries(push, x)
        return value, Entries(entries, self.pattern) if self.name == "sparse" else Product(
            x, (entries,), fn, self.pattern, self.blocks
        )


@struct
class Entries:
    """A sparse matrix.

    Attributes:
        values: Its entries.
        pattern: Where they stand.
    """

    values: Float[Array, " k"]
    pattern: Pattern = static()


@struct
class Product:
    """A Jacobian by its products.

    Attributes:
        x: The point.
        entries: The entries, where they are known.
        fn: The function.
        pattern: Where the entries stand.
        blocks: Whether blocks of neighbours precondition an iteration.
    """

    x: Array
    entries: tuple[Array, ...]
    fn: Fn = static()
    pattern: Pattern | None = static(default=None)
    blocks: bool = static(default=True)

    def times(self, v: Array) -> Array:
        """The Jacobian times a vector."""
        return jax.jvp(self.fn, (self.x,), (v,))[1]


DENSE = Way("dense")
Slope = Any  # an array, `Entries` or `Product`


def solve(slope: Slope, right: Array) -> Array:
    """`J^-1 right`."""
    if isinstance(slope, Entries):
        return klu.solve(slope.pattern, slope.values, right)
    if isinstance(slope, Product):
        if slope.pattern is None:
            return krylov.solve(slope.times, right)
        entries = slope.entries[0]
        about = _about(slope.pattern, entries) if slope.blocks else None
        return krylov.solve(slope.times, right, entries[slope.pattern.diagonal], about)
    return dense.solve_dense(slope, right)


def magnitude(slope: Slope, x: Array) -> Array:
    """`|J| |x|`, row by row; a bound on the largest where the entries are not known."""
    if not isinstance(slope, Entries | Product):
        return jnp.abs(slope) @ jnp.abs(x)
    if slope.pattern is None:
        return jnp.full_like(x, bound(slope) * jnp.max(jnp.abs(x))).real
    terms = jnp.abs(_values(slope)) * jnp.abs(x)[slope.pattern.columns]
    return jax.ops.segment_sum(terms, slope.pattern.rows, slope.pattern.size, indices_are_sorted=True)


def _values(slope: Entries | Product) -> Array:
    return slope.values if isinstance(slope, Entries) else slope.entries[0]


def bound(slope: Slope) -> Array:
    """A bound on the eigenvalues of a sparse Jacobian; for one by its products, how much it lengthens a vector."""
    if slope.pattern is None:
        v = jnp.where(jnp.arange(slope.x.size) % 2 == 0, 1, -1).astype(slope.x.dtype)  # neighbours differ: it is fast
        return jnp.max(jnp.abs(slope.times(v)))
    values, pattern = _values(slope), slope.pattern
    most = lambda places: jnp.max(jax.ops.segment_sum(jnp.abs(values), places, pattern.size))
    return jnp.minimum(most(pattern.rows), most(pattern.columns))


def solve_jacobian(fn: Fn, x: Array, right: Array, way: Way = DENSE) -> Array:
    """`J^-1 right` with the Jacobian of `fn` at `x`, with derivatives to any order.

    It is NaN where a scalar's derivative vanishes, and where an iteration did not converge.
    """
    if way.name == "dense":
        slope = dense.value_and_jacobian(fn, x)[1]
        return dense.solve_dense(slope if slope.ndim else jnp.where(slope == 0, jnp.nan, slope), right)
    return solver(lambda v: jax.jvp(fn, (x,), (v,))[1], x, way)(right)


def root_tangent(
    residual: Callable[..., Array], x: Array, args: tuple[Any, ...], moved: tuple[Any, ...], way: Way = DENSE
) -> Array:
    """How the root `x` of `residual(x, *args)` moves with `args`: the implicit function theorem."""
    _, pushed = jax.jvp(lambda *a: residual(x, *a), args, moved)
    return solve_jacobian(lambda x: residual(x, *args), x, -pushed, way)


def solver(product: Fn, like: Vector, way: Way) -> Callable[[Vector], Vector]:
    """Solves with a matrix given by its products, by sparse factors or a Krylov iteration; differentiable to any order.

    Args:
        product: A linear function; its derivatives are those of the matrix.
        like: A vector with the shape and dtype of its arguments.
        way: The way.
    """
    there, back = solutions(product, like, way)
    return lambda right: jax.lax.custom_linear_solve(product, right, there, back)


def solutions(product: Fn, like: Vector, way: Way) -> tuple[Callable, Callable]:
    """What solves a system with the matrix given by its products, and with the transposed one."""
    scale, abouts = None, (None, None)
    if way.pattern is not None:
        entries = jax.lax.stop_gradient(way.pattern.entries(product, like))
        if way.name == "sparse":
            factors = functools.partial(klu.solve, way.pattern, entries)
            return (lambda _, right: factors(right)), (lambda _, right: factors(right, transposed=True))
        scale = entries[way.pattern.diagonal]
        if way.blocks:
            abouts = _about(way.pattern, entries), _about(way.pattern, entries, transposed=True)
    there, back = (
        lambda own, right, about=about: krylov.solve(own, right, scale, about, rtol=way.rtol) for about in abouts
    )
    return there, back


def _about(pattern: Pattern, entries: Array, *, transposed: bool = False) -> krylov.About | None:
    """What preconditions an iteration: blocks of neighbours, where there are several."""
    if pattern.size <= 2 * blocks.LARGEST:
        return None
    places = (pattern.columns, pattern.rows) if transposed else (pattern.rows, pattern.columns)
    return blocks.preconditioner(pattern.blocks, *places, entries)


def chosen(fn: Fn, x: Array, jacobian: str, *, krylov_above: float = np.inf) -> Way:
    """The way for the Jacobian of `fn`, for points of `x`'s shape.

    Args:
        fn: Maps a vector to a vector of its length.
        x: A point.
        jacobian: One of `JACOBIANS`; `"auto"` takes sparse factors where they pay, and dense ones else.
        krylov_above: Operations of an elimination above which `"auto"` prefers products.
    """
    checks.one_of("jacobian", jacobian, JACOBIANS)
    if jacobian == "dense" or x.ndim == 0 or (jacobian == "auto" and x.size < FEW):
        return DENSE
    real = not jnp.issubdtype(x.dtype, jnp.complexfloating)
    checks.require(real or jacobian != "sparse", "jacobian", "be 'dense' for complex unknowns", "is 'sparse'")
    wide = Way("krylov") if x.size > MANY or jacobian == "krylov" else DENSE
    without = missing()
    if without is not None:
        checks.require(jacobian != "sparse", "jacobian", "be 'dense' or 'krylov' without jaxkit[sparse]", "is 'sparse'")
        if x.size >= HINT and jacobian == "auto":
            hint(x.size, wide.name, without)
        return wide
    pattern = pattern_of(fn, x) if real else None
    if jacobian == "krylov":
        return Way("krylov", pattern)
    if pattern is None or (jacobian == "auto" and pattern.count > FULL * x.size):
        checks.require(jacobian != "sparse", "jacobian", "be 'dense' or 'krylov' for this function", "is 'sparse'")
        return wide
    factored = jax.default_backend() == "cpu" and jax.dtypes.canonicalize_dtype(np.float64) == np.float64
    if jacobian == "sparse":
        checks.require(factored, "jacobian", "be 'dense' or 'krylov' without a CPU in double precision", "is 'sparse'")
        return Way("sparse", pattern)
    costly = float(pattern.size) * pattern.width**2 > krylov_above
    if factored and not costly:
        return Way("sparse", pattern)
    return Way("krylov", pattern) if costly or x.size > MANY else DENSE


@functools.cache
def hint(size: int, name: str, reason: str) -> None:
    """Say once what would have helped."""
    message = f"The Jacobian of {size} unknowns is taken as {name}; {reason}."
    warnings.warn(message, stacklevel=2)
