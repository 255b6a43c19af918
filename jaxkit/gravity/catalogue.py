"""The catalogue: metrics of general relativity, of Horava's gravity, and of rivals, each with its source."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jaxkit.core.checks import require
from jaxkit.gravity.horava import kehagias_sfetsos, lu_mei_pope, park
from jaxkit.gravity.metrics import CARTESIAN, SPHERICAL, Entries, Formulas, Metric, Params, Point, static


def minkowski() -> Metric:
    """Flat spacetime in spherical coordinates."""
    return static(deficit=lambda r, p: jnp.zeros_like(r), name="Minkowski", source="Minkowski 1908")


def schwarzschild(M: float = 1.0) -> Metric:
    """The static black hole of general relativity.

    Args:
        M: Mass.

    Example:
        >>> from jaxkit import gravity
        >>> round(float(gravity.isco(gravity.schwarzschild()).value), 10)
        6.0
    """
    return static(
        deficit=lambda r, p: 2 * p["M"] / r, params={"M": M}, name="Schwarzschild", source="Schwarzschild 1916"
    )


def reissner_nordstrom(M: float = 1.0, Q: float = 0.5) -> Metric:
    """The charged black hole; `Q` is in geometric units."""
    deficit = lambda r, p: 2 * p["M"] / r - p["Q"] ** 2 / r**2
    meet = lambda p: (p["M"], (p["M"] - p["Q"]) * (p["M"] + p["Q"]))
    params = {"M": M, "Q": Q}
    return static(deficit=deficit, params=params, horizons=meet, name="Reissner-Nordstrom", source="Reissner 1916")


def de_sitter(L: float = 0.03, M: float = 0.0) -> Metric:
    """(Schwarzschild-)de Sitter; anti-de Sitter for a cosmological constant `L < 0`."""
    deficit = lambda r, p: 2 * p["M"] / r + p["L"] * r**2 / 3
    return static(deficit=deficit, params={"L": L, "M": M}, name="de Sitter", source="Kottler 1918")


def bardeen(M: float = 1.0, q: float = 0.5) -> Metric:
    """Bardeen's regular black hole."""
    deficit = lambda r, p: 2 * p["M"] * r**2 / (r**2 + p["q"] ** 2) ** 1.5
    return static(deficit=deficit, params={"M": M, "q": q}, name="Bardeen", source="Bardeen 1968")


def hayward(M: float = 1.0, l: float = 0.5) -> Metric:
    """Hayward's regular black hole."""
    deficit = lambda r, p: 2 * p["M"] * r**2 / (r**3 + 2 * p["M"] * p["l"] ** 2)
    return static(deficit=deficit, params={"M": M, "l": l}, name="Hayward", source="Hayward 2006")


def janis_newman_winicour(M: float = 1.0, s: float = 0.8) -> Metric:
    """The naked singularity of a scalar field, `s = 1` being Schwarzschild; `r` is not the areal radius."""

    def entries(x: Point, p: Params) -> Entries:
        r, sin2 = x[1], jnp.sin(x[2]) ** 2
        f = 1 - 2 * p["M"] / (p["s"] * r)
        area = r**2 * f ** (1 - p["s"])
        return {(0, 0): -(f ** p["s"]), (1, 1): f ** -p["s"], (2, 2): area, (3, 3): area * sin2}

    return Metric("Janis-Newman-Winicour", entries, {"M": M, "s": s}, source="Janis, Newman, Winicour 1968")


def wormhole(b: float = 1.0) -> Metric:
    """The Ellis-Morris-Thorne wormhole with throat radius `b`; `r` runs over both sides."""

    def entries(x: Point, p: Params) -> Entries:
        area = x[1] ** 2 + p["b"] ** 2
        return {(0, 0): -1.0, (1, 1): 1.0, (2, 2): area, (3, 3): area * jnp.sin(x[2]) ** 2}

    return Metric("wormhole", entries, {"b": b}, source="Ellis 1973; Morris and Thorne 1988")


def kerr_newman(M: float = 1.0, a: float = 0.9, Q: float = 0.3) -> Metric:
    """The charged rotating black hole in Boyer-Lindquist coordinates.

    Args:
        M: Mass.
        a: Angular momentum per mass, `|a| <= M`.
        Q: Charge, in geometric units.
    """

    def parts(x: Point, p: Params) -> tuple[Array, Array, Array, Array]:
        r, sin2 = x[1], jnp.sin(x[2]) ** 2
        sigma = r**2 + p["a"] ** 2 * jnp.cos(x[2]) ** 2
        source = 2 * p["M"] * r - p["Q"] ** 2
        return sin2, sigma, r**2 - source + p["a"] ** 2, source

    def entries(x: Point, p: Params) -> Entries:
        sin2, sigma, delta, source = parts(x, p)
        a, rotation = p["a"], source / sigma
        return {
            (0, 0): rotation - 1,
            (0, 3): -a * rotation * sin2,
            (1, 1): sigma / delta,
            (2, 2): sigma,
            (3, 3): sin2 * (x[1] ** 2 + a**2 * (1 + rotation * sin2)),
        }

    def inverse(x: Point, p: Params) -> Entries:
        sin2, sigma, delta, source = parts(x, p)
        a, wide = p["a"], x[1] ** 2 + p["a"] ** 2
        return {
            (0, 0): (a**2 * sin2 - wide**2 / delta) / sigma,
            (0, 3): -a * source / (delta * sigma),
            (1, 1): delta / sigma,
            (2, 2): 1 / sigma,
            (3, 3): (1 / sin2 - a**2 / delta) / sigma,
        }

    def energy(x: Point, p: Point, params: Params) -> Array:
        """Carter's form: sums of squares over `sigma`, in a third of the operations of `g^ab p_a p_b`."""
        r, sin, a = x[1], jnp.sin(x[2]), params["a"]
        wide = r**2 + a**2
        sigma, delta = wide - (a * sin) ** 2, wide - 2 * params["M"] * r + params["Q"] ** 2
        radial, polar = wide * p[0] + a * p[3], p[3] / sin + a * sin * p[0]
        return 0.5 * (delta * p[1] ** 2 + p[2] ** 2 - radial**2 / delta + polar**2) / sigma

    def horizons(p: Params) -> tuple[Array, Array]:
        large, small = (choose(jnp.abs(p["a"]), jnp.abs(p["Q"])) for choose in (jnp.maximum, jnp.minimum))
        return p["M"], (p["M"] - large) * (p["M"] + large) - small**2

    given, formulas = {"M": M, "a": a, "Q": Q}, Formulas(inverse, energy, horizons=horizons)
    return Metric("Kerr-Newman", entries, given, formulas=formulas, source="Newman et al. 1965")


def kerr(M: float = 1.0, a: float = 0.9, *, coordinates: str = "boyer-lindquist") -> Metric:
    """The rotating black hole of general relativity.

    Args:
        M: Mass.
        a: Angular momentum per mass, `|a| <= M`.
        coordinates: `"boyer-lindquist"`, or `"kerr-schild"` (Cartesian, regular at the horizon and on the axis).

    Example:
        >>> from jaxkit import gravity
        >>> round(float(gravity.isco(gravity.kerr(a=0.9)).value), 10)
        2.3208830418
    """
    require(
        coordinates in ("boyer-lindquist", "kerr-schild"),
        "coordinates",
        "be 'boyer-lindquist' or 'kerr-schild'",
        f"is {coordinates!r}",
    )
    if coordinates == "kerr-schild":
        return _kerr_schild(M, a)
    charged, none = kerr_newman(), {"Q": 0.0}  # for its formulas only: the parameters are given
    known: Any = charged.formulas
    entries = lambda x, p: charged.entries(x, {**p, **none})
    inverse = lambda x, p: known.inverse(x, {**p, **none})
    energy = lambda x, p, params: known.energy(x, p, {**params, **none})
    meet = lambda p: (p["M"], (p["M"] - p["a"]) * (p["M"] + p["a"]))
    formulas = Formulas(inverse, energy, _kerr_orbits, meet)
    return Metric("Kerr", entries, {"M": M, "a": a}, formulas=formulas, source="Kerr 1963")


def _kerr_orbits(p: Params, retrograde: bool) -> tuple[Array, ...]:  # noqa: FBT001
    """The formulas of Bardeen, Press and Teukolsky (1972), where the rotation is so fast that roots lose digits."""
    spin = jnp.asarray(p["a"]) / p["M"] * (-1 if retrograde else 1)
    needed = (spin > 0.999) & (spin <= 1)
    x = jnp.where(needed, spin, 0.9995)
    light = 2 + 2 * jnp.cos(2 / 3 * jnp.arccos(-x))
    z1 = 1 + jnp.cbrt((1 - x) * (1 + x)) * (jnp.cbrt(1 + x) + jnp.cbrt(1 - x))
    z2 = jnp.sqrt(3 * x**2 + z1**2)
    stable = 3 + z2 - jnp.sqrt((3 - z1) * (3 + z1 + 2 * z2))
    momentum = 2 / 27**0.5 * (1 + 2 * jnp.sqrt(3 * stable - 2)) * (-1 if retrograde else 1)
    energy = jnp.sqrt(1 - 2 / (3 * stable))
    return needed, p["M"] * light, p["M"] * stable, energy, p["M"] * momentum


def _kerr_schild(M: float, a: float) -> Metric:
    """Kerr as flat space plus `2H l l` (ingoing)."""

    def parts(x: Point, p: Params) -> tuple[Array, list[Array]]:
        a2 = p["a"] ** 2
        rho = x[1] ** 2 + x[2] ** 2 + x[3] ** 2 - a2
        r2 = 0.5 * (rho + jnp.sqrt(rho**2 + 4 * a2 * x[3] ** 2))
        r = jnp.sqrt(r2)
        wide = r2 + a2
        ingoing = [jnp.ones_like(r), (r * x[1] + p["a"] * x[2]) / wide, (r * x[2] - p["a"] * x[1]) / wide, x[3] / r]
        return 2 * p["M"] * r2 * r / (r2**2 + a2 * x[3] ** 2), ingoing

    def entries(x: Point, p: Params) -> Entries:
        h, l = parts(x, p)
        return {(i, j): h * l[i] * l[j] + ((-1.0 if i == 0 else 1.0) if i == j else 0.0) for i, j in _UPPER}

    def inverse(x: Point, p: Params) -> Entries:
        h, l = parts(x, p)
        raised = [-l[0], *l[1:]]
        flat = lambda i, j: (-1.0 if i == 0 else 1.0) if i == j else 0.0
        return {(i, j): flat(i, j) - h * raised[i] * raised[j] for i, j in _UPPER}

    return Metric(
        "Kerr-Schild", entries, {"M": M, "a": a}, CARTESIAN, formulas=Formulas(inverse), source="Kerr and Schild 1965"
    )


_UPPER = [(i, j) for i in range(4) for j in range(i, 4)]


def painleve_gullstrand(M: float = 1.0) -> Metric:
    """Schwarzschild in the coordinates of observers falling from rest at infinity: regular at the horizon."""

    def entries(x: Point, p: Params) -> Entries:
        r, v = x[1], jnp.sqrt(2 * p["M"] / x[1])
        return {(0, 0): v**2 - 1, (0, 1): v, (1, 1): 1.0, (2, 2): r**2, (3, 3): (r * jnp.sin(x[2])) ** 2}

    return Metric("Painleve-Gullstrand", entries, {"M": M}, source="Painleve 1921; Gullstrand 1922")


def friedmann(scale: Callable[[Array], Array] | None = None, k: float = 0.0, H: float = 0.1) -> Metric:
    """The Friedmann-Lemaitre-Robertson-Walker metric, `-dt² + a(t)² (dr²/(1 - k r²) + r² dΩ²)`.

    Args:
        scale: The scale factor `a(t)`; `exp(H t)` by default.
        k: Curvature of space.
        H: Hubble rate of the default scale factor.
    """

    def entries(x: Point, p: Params) -> Entries:
        a2 = (jnp.exp(p["H"] * x[0]) if scale is None else scale(x[0])) ** 2
        r2 = x[1] ** 2
        area = a2 * r2
        return {(0, 0): -1.0, (1, 1): a2 / (1 - p["k"] * r2), (2, 2): area, (3, 3): area * jnp.sin(x[2]) ** 2}

    return Metric("FLRW", entries, {"k": k, "H": H}, SPHERICAL, source="Friedmann 1922")


def goedel(w: float = 0.5) -> Metric:
    """Goedel's rotating universe in Cartesian coordinates, with vorticity `w`."""

    def entries(x: Point, p: Params) -> Entries:
        e = jnp.exp(jnp.sqrt(2.0) * p["w"] * x[1])
        return {(0, 0): -1.0, (0, 2): -e, (1, 1): 1.0, (2, 2): -0.5 * e**2, (3, 3): 1.0}

    return Metric("Goedel", entries, {"w": w}, CARTESIAN, source="Goedel 1949")


CATALOGUE: Mapping[str, Callable[..., Metric]] = MappingProxyType(
    {
        "minkowski": minkowski,
        "schwarzschild": schwarzschild,
        "reissner-nordstrom": reissner_nordstrom,
        "de-sitter": de_sitter,
        "bardeen": bardeen,
        "hayward": hayward,
        "janis-newman-winicour": janis_newman_winicour,
        "wormhole": wormhole,
        "kerr": kerr,
        "kerr-schild": lambda **params: kerr(**params, coordinates="kerr-schild"),
        "kerr-newman": kerr_newman,
        "painleve-gullstrand": painleve_gullstrand,
        "friedmann": friedmann,
        "goedel": goedel,
        "kehagias-sfetsos": kehagias_sfetsos,
        "lu-mei-pope": lu_mei_pope,
        "park": park,
    }
)
