"""Spacetimes: a metric is a pure function `(x, params) -> (4, 4)`; a catalogue of them, and ways to make your own.

Units G = c = 1, signature (-, +, +, +). `params` is any pytree, so that everything computed from a metric can be
differentiated in it; the catalogue uses dictionaries, whose entries can be overridden one by one.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jaxkit.core.checks import double_precision, is_traced, require

Params = Any
Point = Sequence[Array] | Array  # coordinates one by one, each of any batch shape
Entries = dict[tuple[int, int], ArrayLike]
Radial = Callable[[Array, Params], Array]

SPHERICAL = ("t", "r", "theta", "phi")
CARTESIAN = ("t", "x", "y", "z")


@dataclasses.dataclass(frozen=True, eq=False)
class Metric:
    """A metric: call it with a point (and parameters) for its matrix `g_ij`.

    Attributes:
        name: Its name.
        entries: `(x, params) -> {(i, j): g_ij}`, `i <= j`, without the entries that vanish identically.
        params: Default parameters.
        coordinates: Names of the coordinates.
        time: For a static spherical metric, `1 - N(r)**2`: the *deficit* keeps its digits where `N` is nearly 1.
        space: For a static spherical metric, `1 - g^rr`.
        inverse: Entries of `g^ij` where a formula is known.
        energy: `(x, p, params) -> g^ab p_a p_b / 2` where a leaner formula than that sum is known.
        source: Where it comes from.
    """

    name: str
    entries: Callable[[Point, Params], Entries]
    params: Params = dataclasses.field(default_factory=dict)
    coordinates: tuple[str, ...] = SPHERICAL
    time: Radial | None = None
    space: Radial | None = None
    inverse: Callable[[Point, Params], Entries] | None = None
    energy: Callable[[Point, Point, Params], Array] | None = None
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
        """Whether it was given as a static spherical metric."""
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


def lorentzian(metric: Metric, x: Float[Array, "4"], params: Params = None) -> None:
    """Raise `ValueError` unless the metric at `x` has the signature (-, +, +, +). Looked at outside a trace only."""
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
        coordinates: Their names; `("t", "x", "y", "z")` says that radii are to be measured in Cartesian coordinates.
        name: A name; the function's by default.

    Returns:
        A `Metric`, which every function of `jaxkit.gravity` takes.

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
    name: str = "static",
    source: str = "",
) -> Metric:
    """A static spherical metric, `ds² = -N² dt² + dr²/f + r² dΩ²`.

    Args:
        f: `(r, params) -> g^rr`.
        N: `(r, params) -> N`, the lapse; `sqrt(f)` by default.
        deficit: `1 - f` instead of `f`: keeps all digits in weak fields.
        time_deficit: `1 - N²` instead of `N`.
        params: Default parameters, any pytree.
        name: A name.
        source: Where it comes from.

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

    return Metric(name, entries, params, SPHERICAL, time, space, inverse, source=source)
