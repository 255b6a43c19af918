"""Spacetimes: a metric is a pure function `(x, params) -> (4, 4)`; here are ways to make your own.

The units are G = c = 1, the signature is (-, +, +, +). `params` is any pytree, in which everything computed from a
metric can be differentiated; the catalogue uses dictionaries, whose entries can be overridden one by one.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jaxkit.compile.jit_cache import kept
from jaxkit.compile.nodes import Literal
from jaxkit.compile.scalars import ScalarField
from jaxkit.core.checks import double_precision, is_traced, require

Params = Any
Point = Sequence[Array] | Array  # coordinates one by one, each of any batch shape
Entries = dict[tuple[int, int], ArrayLike]
Radial = Callable[[Array, Params], Array]

SPHERICAL = ("t", "r", "theta", "phi")
CARTESIAN = ("t", "x", "y", "z")


@dataclasses.dataclass(frozen=True)
class Formulas:
    """Closed forms that are known of a metric; none of them is needed.

    Attributes:
        inverse: `(x, params)` -> entries of `g^ij`.
        energy: `(x, p, params)` -> `g^ab p_a p_b / 2`, leaner than that sum.
        orbits: `(params, retrograde)` -> whether closed forms are needed (near an extremal horizon, roots do not give
            the radii of orbits to all digits), and then the radii of the light ring and of the innermost stable orbit,
            and the latter's energy and angular momentum.
        horizons: `params` -> the mean radius of both horizons, and the square of half their distance (negative where
            there is no horizon), from which they follow to all digits where they nearly meet.
    """

    inverse: Callable[[Point, Params], Entries] | None = None
    energy: Callable[[Point, Point, Params], Array] | None = None
    orbits: Callable[[Params, bool], tuple[Array, ...]] | None = None
    horizons: Callable[[Params], tuple[Array, Array]] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Metric:
    """A metric: call it with a point (and parameters) to get its matrix `g_ij`.

    Attributes:
        name: Its name.
        entries: `(x, params) -> {(i, j): g_ij}`, `i <= j`, without the entries that vanish identically.
        params: Default parameters.
        coordinates: Names of the coordinates.
        time: For a static spherical metric, `1 - N(r)**2`: the *deficit* keeps its digits where `N` is nearly 1.
        space: For a static spherical metric, `1 - g^rr`.
        formulas: Closed forms that are known.
        source: Publication of the metric.
    """

    name: str
    entries: Callable[[Point, Params], Entries]
    params: Params = dataclasses.field(default_factory=dict)
    coordinates: tuple[str, ...] = SPHERICAL
    time: Radial | None = None
    space: Radial | None = None
    formulas: Formulas = Formulas()
    source: str = ""

    def __call__(self, x: Float[Array, "4"], params: Params = None) -> Float[Array, "4 4"]:
        """The matrix `g_ij` at the point `x`."""
        return matrix(self.entries(x, self.resolve(params)), len(self.coordinates))

    def resolve(self, params: Params = None) -> Params:
        """The defaults, overridden by `params` (entry by entry where both are dictionaries)."""
        if params is None:
            return self.params
        if not isinstance(params, Mapping) or not isinstance(self.params, Mapping):
            return params
        unknown = sorted(set(params) - set(self.params))
        require(not unknown, "params", f"have names among {sorted(self.params)}", f"has {unknown}")
        return {**self.params, **params}

    @property
    def is_static(self) -> bool:
        """Whether the metric was given as a static spherical one."""
        return self.time is not None


def matrix(entries: Entries, size: int = 4) -> Array:
    """The symmetric matrix of the entries `(i, j)`, `i <= j`."""
    zero = jnp.zeros(())
    full = [[entries.get((min(i, j), max(i, j)), zero) for j in range(size)] for i in range(size)]
    return jnp.stack([jnp.stack([jnp.asarray(v, zero.dtype) for v in row]) for row in full])


def as_metric(metric: "Metric | Callable[..., Array]") -> Metric:
    """A `Metric` from itself or from a plain function `(x, params) -> (4, 4)`."""
    double_precision("jaxkit.gravity")
    return metric if isinstance(metric, Metric) else from_function(metric)


def bare(metric: Metric) -> Metric:
    """The metric with shapes in place of its parameters: the key by which kept programs are found."""
    number = lambda v: isinstance(v, int | float | complex | np.ndarray | np.generic | jax.Array)
    shape = lambda v: jax.ShapeDtypeStruct(jnp.shape(v), jnp.result_type(v)) if number(v) else v
    return dataclasses.replace(metric, params=jax.tree.map(shape, metric.params))


def lorentzian(metric: Metric, x: Float[Array, "4"], params: Params = None) -> None:
    """Raise `ValueError` unless the metric at `x` has the signature (-, +, +, +); checked only outside a trace."""
    if len(metric.coordinates) != 4 or is_traced((x, params, metric.params, jnp.zeros(()))):
        return
    g = np.asarray(metric(x, params))
    if np.all(np.isfinite(g)):
        signs = "(" + ", ".join("-" if value < 0 else "+" for value in np.sort(np.linalg.eigvalsh(g))) + ")"
        at = tuple(round(float(value), 6) for value in np.asarray(x))
        require(signs == "(-, +, +, +)", "metric", "have the signature (-, +, +, +)", f"has {signs} at {at}")


def from_function(
    function: Callable[[Float[Array, "4"], Params], Float[Array, "4 4"]],
    params: Params = None,
    *,
    coordinates: Sequence[str] = SPHERICAL,
    name: str | None = None,
) -> Metric:
    """Your own metric, from a function of the point and the parameters.

    Args:
        function: `(x, params) -> (4, 4)`, symmetric, written with `jax.numpy`.
        params: Default parameters, any pytree.
        coordinates: Names of the coordinates; `("t", "x", "y", "z")` means that they are Cartesian.
        name: Name of the metric; the function's by default.

    Returns:
        A `Metric`, which every function of `jaxkit.gravity` takes; those for static spherical metrics (`shadow_radius`,
        `strong_field`, `deflection`, `precession`, `shapiro`) take it if its matrix is static and spherical, including
        `g_theta theta = r²`.

    Raises:
        ValueError: `function` does not take `(x, params)`, or does not return a square matrix.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import gravity
        >>> flat = lambda x, p: jnp.diag(jnp.array([-1.0, 1.0, x[1] ** 2, (x[1] * jnp.sin(x[2])) ** 2]))
        >>> metric = gravity.from_function(flat)
        >>> bool(abs(gravity.curvature(metric)(jnp.array([0.0, 3.0, 1.0, 0.0])).kretschmann) < 1e-12)
        True
    """
    double_precision("jaxkit.gravity")
    size, coordinates = len(coordinates), tuple(coordinates)
    call = f"be callable as `metric(x, params)` with `x` of shape ({size},)"
    require(callable(function), "metric", call, f"is {function!r}")
    point = jax.ShapeDtypeStruct((size,), jnp.zeros(()).dtype)
    try:
        result = jax.eval_shape(function, point, params)
    except TypeError as error:
        raise ValueError(f"Argument `metric` must {call}, but that raises: {error}") from None
    shape = getattr(result, "shape", type(result).__name__)
    require(shape == (size, size), "metric", f"return shape ({size}, {size})", f"returns {shape}")

    def entries(x: Point, params: Params) -> Entries:
        g = function(x if isinstance(x, jax.Array) else jnp.stack(list(x)), params)
        return {(i, j): 0.5 * (g[i, j] + g[j, i]) if i != j else g[i, i] for i in range(size) for j in range(i, size)}

    return Metric(name or getattr(function, "__name__", "metric"), entries, params, coordinates)


def static(
    f: Radial | None = None,
    N: Radial | None = None,
    *,
    deficit: Radial | None = None,
    time_deficit: Radial | None = None,
    params: Params = None,
    horizons: Callable[[Params], tuple[Array, Array]] | None = None,
    name: str = "static",
    source: str = "",
) -> Metric:
    """A static spherical metric, `ds² = -N² dt² + dr²/f + r² dΩ²`.

    Args:
        f: `(r, params) -> g^rr`.
        N: `(r, params) -> N`, the lapse; `sqrt(f)` by default.
        deficit: `1 - f` instead of `f`, which keeps all digits in weak fields.
        time_deficit: `1 - N²` instead of `N`.
        params: Default parameters, any pytree.
        horizons: See `gravity.Formulas`.
        name: Name of the metric.
        source: Publication of the metric.

    Returns:
        The metric, in the coordinates (t, r, theta, phi).

    Raises:
        ValueError: Neither `f` nor `deficit` is given, or a profile does not return a scalar.

    Example:
        >>> from jaxkit import gravity
        >>> star = gravity.static(lambda r, p: 1 - 2 * p["M"] / r + p["q"] / r**3, params={"M": 1.0, "q": 0.1})
        >>> round(float(gravity.horizon(star).checked().value), 6)
        1.974346
    """
    double_precision("jaxkit.gravity")
    require(
        (f is None) != (deficit is None), "f", "be given, or `deficit`", "both are" if f is not None else "neither is"
    )
    space = deficit if deficit is not None else lambda r, p: 1 - f(r, p)  # pyright: ignore[reportOptionalCall]
    time = time_deficit or (space if N is None else lambda r, p: 1 - N(r, p) ** 2)
    params = {} if params is None else params
    for label, profile in (("f", space), ("N", time)):
        try:
            shape = jnp.shape(jax.eval_shape(profile, jnp.ones(()), params))
        except TypeError as error:
            raise ValueError(
                f"Argument `{label}` must be callable as `(r, params)`, but that raises: {error}"
            ) from None
        require(shape == (), label, "return a scalar", f"returns shape {shape}")

    def entries(x: Point, p: Params) -> Entries:
        r, sin2 = x[1], jnp.sin(x[2]) ** 2
        return {(0, 0): time(r, p) - 1, (1, 1): 1 / (1 - space(r, p)), (2, 2): r**2, (3, 3): r**2 * sin2}

    def inverse(x: Point, p: Params) -> Entries:
        r, sin2 = x[1], jnp.sin(x[2]) ** 2
        return {(0, 0): -1 / (1 - time(r, p)), (1, 1): 1 - space(r, p), (2, 2): r**-2, (3, 3): 1 / (r**2 * sin2)}

    return Metric(name, entries, params, SPHERICAL, time, space, Formulas(inverse, horizons=horizons), source)


def inverse_of(metric: Metric) -> Callable[[Point, Params], Entries]:
    """Entries of `g^ab`: the metric's own, or by minors from its structure (diagonal, one block, full)."""
    if metric.formulas.inverse is not None:
        return metric.formulas.inverse
    entries = metric.entries
    present = _present_entries(entries, len(metric.coordinates), bare(metric).params)

    def inverse(x: Point, params: Params) -> Entries:
        g = {key: jnp.asarray(value) for key, value in entries(x, params).items() if key in present}
        mixed = [key for key in g if key[0] != key[1]]
        result: Entries = {(i, i): 1 / g[i, i] for i in range(4) if not any(i in key for key in mixed)}
        if not mixed:
            return result
        if len(mixed) == 1:
            i, j = mixed[0]
            zero = jnp.zeros(())
            a, b, c = g.get((i, i), zero), g[i, j], g.get((j, j), zero)
            det = a * c - b * b
            return {**result, (i, i): c / det, (j, j): a / det, (i, j): -b / det}
        zero = jnp.zeros_like(x[0])
        full = [[g.get((min(i, j), max(i, j)), zero) for j in range(4)] for i in range(4)]
        return _cofactors(full)

    return inverse


def _cofactors(g: list[list[Array]]) -> Entries:
    """The inverse of a symmetric 4 x 4 matrix by 2 x 2 minors, with scalars only, so that lanes vectorise."""
    top = {(i, j): g[0][i] * g[1][j] - g[0][j] * g[1][i] for i in range(4) for j in range(i + 1, 4)}
    low = {(i, j): g[2][i] * g[3][j] - g[2][j] * g[3][i] for i in range(4) for j in range(i + 1, 4)}
    det = (
        top[0, 1] * low[2, 3]
        - top[0, 2] * low[1, 3]
        + top[0, 3] * low[1, 2]
        + top[1, 2] * low[0, 3]
        - top[1, 3] * low[0, 2]
        + top[2, 3] * low[0, 1]
    )
    (a, b, c, d) = g
    adjugate = {
        (0, 0): b[1] * low[2, 3] - b[2] * low[1, 3] + b[3] * low[1, 2],
        (0, 1): -a[1] * low[2, 3] + a[2] * low[1, 3] - a[3] * low[1, 2],
        (0, 2): d[1] * top[2, 3] - d[2] * top[1, 3] + d[3] * top[1, 2],
        (0, 3): -c[1] * top[2, 3] + c[2] * top[1, 3] - c[3] * top[1, 2],
        (1, 1): a[0] * low[2, 3] - a[2] * low[0, 3] + a[3] * low[0, 2],
        (1, 2): -d[0] * top[2, 3] + d[2] * top[0, 3] - d[3] * top[0, 2],
        (1, 3): c[0] * top[2, 3] - c[2] * top[0, 3] + c[3] * top[0, 2],
        (2, 2): d[0] * top[1, 3] - d[1] * top[0, 3] + d[3] * top[0, 1],
        (2, 3): -c[0] * top[1, 3] + c[1] * top[0, 3] - c[3] * top[0, 1],
        (3, 3): c[0] * top[1, 2] - c[1] * top[0, 2] + c[2] * top[0, 1],
    }
    return {key: value / det for key, value in adjugate.items()}


@kept
def _present_entries(
    entries: Callable[[Point, Params], Entries], size: int, params: Params
) -> frozenset[tuple[int, int]]:
    """The entries of `g_ab` that are not zero by construction, by decomposing the user's function into scalars."""
    point = jax.ShapeDtypeStruct((size,), jnp.zeros(()).dtype)
    keys: list[tuple[int, int]] = []

    def listed(_: Array, x: Array, params: Params) -> list[Array]:
        found = entries(x, params)
        keys[:] = list(found)
        return [jnp.asarray(value, x.dtype) for value in found.values()]

    lanewise = [False] * len(jax.tree.leaves(params))
    field = ScalarField(listed, jax.ShapeDtypeStruct((), point.dtype), point, params, lanewise)
    absent = [isinstance(atom, Literal) and atom.value == 0 for atom in field.outputs]
    return frozenset(key for key, gone in zip(keys, absent, strict=True) if not gone)
