"""Metrics and actions typed as text, read by jaxkit's own parser; nothing a user types is ever run as Python."""

from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from jaxkit.core.checks import double_precision, require
from jaxkit.core.expression import Expression, parse
from jaxkit.gravity.metrics import SPHERICAL, Entries, Metric, Params, Point, static


def _read(text: str, variables: Sequence[str], params: Mapping[str, ArrayLike]) -> Callable[..., Array]:
    """A formula as a function of the variables (by keyword) and the parameters."""
    expression: Expression = parse(text, [*variables, *params])
    own = [name for name in expression.names if name in params]

    def value(variables: Mapping[str, Array], p: Params) -> Array:
        dtype = jnp.result_type(*variables.values())
        given = {name: variables[name] for name in expression.names if name in variables}
        return jnp.asarray(expression(**given, **{name: jnp.asarray(p[name], dtype) for name in own}), dtype)

    return value


def from_text(
    f: str | Mapping[str, str],
    N: str | None = None,
    params: Mapping[str, ArrayLike] | None = None,
    *,
    coordinates: Sequence[str] = SPHERICAL,
) -> Metric:
    """A metric from formulas in its coordinates and your parameters.

    Args:
        f: Formula in `r` for `g^rr` of the static spherical `ds² = -N² dt² + dr²/f + r² dΩ²`, e.g.
            `"1 - 2M/r + q^2/r^2"`; or the nonzero entries of any metric, named by two coordinates, e.g.
            `{"t t": "-1", "x x": "exp(2 H t)", ...}`.
        N: Formula of the static metric's lapse; `sqrt(f)` by default.
        params: Names in the formulas and their values.
        coordinates: Names of the four coordinates of a metric given by its entries.

    Returns:
        The metric, for every function of `jaxkit.gravity`, differentiable in the parameters.

    Raises:
        ParseError: A formula cannot be read; the message points at the place.
        ValueError: The name of an entry is not two coordinates.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import gravity
        >>> hole = gravity.from_text("1 - 2M/r + M l^2 exp(-r/l)/r^3", params={"M": 1.0, "l": 0.5})
        >>> round(float(gravity.photon_sphere(hole).checked().value), 6)
        2.999621
        >>> nut = gravity.from_text(
        ...     {"t t": "-(r^2 - 2r - n^2)/(r^2 + n^2)", "t phi": "-2n cos(theta) (r^2 - 2r - n^2)/(r^2 + n^2)",
        ...      "r r": "(r^2 + n^2)/(r^2 - 2r - n^2)", "theta theta": "r^2 + n^2",
        ...      "phi phi": "(r^2 + n^2) sin(theta)^2 - 4 n^2 cos(theta)^2 (r^2 - 2r - n^2)/(r^2 + n^2)"},
        ...     params={"n": 0.5},
        ... )
        >>> at = gravity.curvature(nut)(jnp.array([0.0, 4.0, 1.1, 0.0]))  # Taub and NUT's vacuum
        >>> bool(abs(at.ricci).max() < 1e-13)
        True
    """
    params = dict(params or {})
    if not isinstance(f, str):
        require(N is None, "N", "not be given beside the entries of a metric", f"is {N!r}")
        return _line_element(f, params, tuple(coordinates))
    profile = lambda read: lambda r, p: read({"r": r}, p)
    lapse = None if N is None else profile(_read(N, ["r"], params))
    return static(profile(_read(f, ["r"], params)), lapse, params=params, name=f"f = {f}")


def _line_element(texts: Mapping[str, str], params: dict[str, ArrayLike], coordinates: tuple[str, ...]) -> Metric:
    double_precision("gravity.from_text")
    require(len(coordinates) == 4, "coordinates", "be four names", f"are {coordinates}")
    formulas = {}
    for key, text in texts.items():
        pair = key.split()
        known = len(pair) == 2 and all(name in coordinates for name in pair)
        require(known, "f", f"have keys of two coordinates among {', '.join(coordinates)}, as 't t'", f"has {key!r}")
        i, j = sorted(coordinates.index(name) for name in pair)
        require((i, j) not in formulas, "f", "give each entry once", f"gives {key!r} twice")
        formulas[i, j] = _read(text, coordinates, params)

    def entries(x: Point, p: Params) -> Entries:
        at = dict(zip(coordinates, x, strict=True))
        return {key: read(at, p) for key, read in formulas.items()}

    return Metric("line element from text", entries, params, coordinates)


def action_from_text(text: str, params: Mapping[str, ArrayLike] | None = None) -> Callable[..., Array]:
    """A reduced Lagrangian `L(r, f, df, n, params)` for `gravity.solve_static`, from a formula.

    Args:
        text: Formula in the radius `r`, `f = g^rr`, its derivative `df`, `n = N / sqrt(f)` and your couplings.
        params: Names of the couplings and their values (the values that count are those given to `solve_static`).

    Returns:
        The Lagrangian.

    Raises:
        ParseError: The formula cannot be read; the message points at the place.

    Example:
        >>> from jaxkit import gravity
        >>> einstein = gravity.action_from_text("n (1 - f - r df - L r^2)", {"L": 0.0})
        >>> found = gravity.solve_static(einstein, (3.0, 9.0), {"L": 0.0}, inner=1 / 3).checked()
        >>> bool(abs(found.f - (1 - 2 / found.r)).max() < 1e-12)
        True
    """
    read = _read(text, ["r", "f", "df", "n"], dict(params or {}))
    return lambda r, f, df, n, params: read({"r": r, "f": f, "df": df, "n": n}, params)
