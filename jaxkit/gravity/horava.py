"""Horava's gravity, static and spherical: the reduced action, its couplings, and every known closed solution.

The metric is `ds² = -N² dt² + dr²/f + r² dΩ²`, with `n = N / sqrt(f)`. The couplings are a dictionary (`COUPLINGS`):
`lam` is the kinetic coupling lambda, `Lw` the cosmological constant of the three-dimensional action, `omega` the soft
breaking of detailed balance by Kehagias and Sfetsos, and `epsilon` the relaxed balance of Lu, Mei and Pope.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from jaxkit.core.checks import require
from jaxkit.gravity.metrics import Metric, Params, static

COUPLINGS: Mapping[str, float] = MappingProxyType({"lam": 1.0, "Lw": 0.0, "omega": 0.0, "epsilon": 0.0})


def reduced_lagrangian(r: Array, f: Array, df: Array, n: Array, params: Params) -> Array:
    """The reduced Lagrangian of Horava's action, divided by `kappa² mu² / (8 (1 - 3 lam))`.

    Args:
        r: Radius.
        f: `g^rr` there.
        df: Derivative of `f` in `r`.
        n: `N / sqrt(f)`.
        params: Couplings, see `COUPLINGS`.

    Returns:
        The density, a scalar.

    References:
        Horava, PRD 79, 084008 (2009); Lu, Mei, Pope, PRL 103, 091301 (2009), eq. 13; Kehagias, Sfetsos, PLB 678, 123.
    """
    lam, lw, h = params["lam"], params["Lw"], f - 1
    quadratic = (lam - 1) / 2 * df**2 - 2 * lam * h * df / r + (2 * lam - 1) * h**2 / r**2
    linear = 2 * (lw - params["omega"]) * (-h - r * df)
    return n * ((1 - params["epsilon"] ** 2) * quadratic + linear - 3 * lw**2 * r**2)


def einstein_lagrangian(r: Array, f: Array, df: Array, n: Array, params: Params) -> Array:
    """The same for general relativity: `sqrt(-g) (R - 2 L)` up to a divergence and a factor, with `L = params["L"]`."""
    return n * (1 - f - r * df - params["L"] * r**2)


def black_hole(
    omega: float = 1.0,
    Lw: float = 0.0,
    epsilon: float = 0.0,
    mass: float = 1.0,
    *,
    name: str = "Horava",
    source: str = "",
) -> Metric:
    """Every static black hole with lambda = 1, in one formula.

    The reduced action is `-n d/dr [r³ P(psi)]` with `psi = (1 - f)/r²` and
    `P = (1 - epsilon²) psi² + 2 (omega - Lw) psi + Lw²`, so `r³ P(psi) = 4 omega M` and `N² = f`.

    Args:
        omega: Breaking of detailed balance, 1/length².
        Lw: Cosmological constant of the three-dimensional action, 1/length², not positive.
        epsilon: Relaxed balance.
        mass: `M` in `r³ P = 4 omega M`; for `omega = 0`, the constant `r³ P` itself.
        name: Name of the metric.
        source: Publication of the metric.

    Returns:
        The metric; its parameters are `omega`, `Lw`, `epsilon`, `mass`.
    """

    def deficit(r: Array, p: Params) -> Array:
        s, lw, slope = 1 - p["epsilon"] ** 2, p["Lw"], p["omega"] - p["Lw"]
        charge = 4 * p["mass"] * jnp.where(p["omega"] == 0, 0.25, p["omega"])
        # psi = (sqrt(slope² + s q) - slope) / s, without the difference, which would lose every digit in weak fields.
        q = charge / r**3 - lw**2
        return r**2 * q / (slope + jnp.sqrt(slope**2 + s * q))

    params = {"omega": omega, "Lw": Lw, "epsilon": epsilon, "mass": mass}
    return static(deficit=deficit, params=params, name=name, source=source)


def kehagias_sfetsos(omega: float = 1.0, M: float = 1.0) -> Metric:
    """The asymptotically flat black hole of Horava's gravity, `f = 1 - (4M/r) / (1 + sqrt(1 + 4M/(omega r³)))`.

    Args:
        omega: Coupling, 1/length²: general relativity for `omega -> inf`, a naked singularity for `omega M² < 1/2`.
        M: Mass, a length.

    Example:
        >>> from jaxkit import gravity
        >>> hole = gravity.kehagias_sfetsos(omega=1.0)
        >>> round(float(gravity.horizon(hole).value), 12), round(float(gravity.shadow_radius(hole).value), 12)
        (1.707106781187, 4.981979075206)

    References:
        Kehagias, Sfetsos, Phys. Lett. B 678, 123 (2009).
    """
    deficit = lambda r, p: 4 * p["M"] / r / (1 + jnp.sqrt(1 + 4 * p["M"] / (p["omega"] * r**3)))
    meet = lambda p: (p["M"], (p["omega"] * p["M"] ** 2 - 0.5) / p["omega"])
    params, source = {"omega": omega, "M": M}, "Kehagias and Sfetsos 2009"
    return static(deficit=deficit, params=params, horizons=meet, name="Kehagias-Sfetsos", source=source)


def park(omega: float = 1.0, Lw: float = -0.1, beta: float = 4.0) -> Metric:
    """Park's black hole, `f = 1 + (omega - Lw) r² - sqrt(r (omega (omega - 2 Lw) r³ + beta))`; arXiv 0905.4480."""
    inner = lambda r, p: jnp.sqrt(p["omega"] * (p["omega"] - 2 * p["Lw"]) + p["beta"] / r**3)
    deficit = lambda r, p: r**2 * (p["beta"] / r**3 - p["Lw"] ** 2) / (p["omega"] - p["Lw"] + inner(r, p))
    params = {"omega": omega, "Lw": Lw, "beta": beta}
    return static(deficit=deficit, params=params, name="Park", source="Park 2009, arXiv 0905.4480")


def lu_mei_pope(
    lam: float = 1.0,
    alpha: float = 1.0,
    Lw: float = -1.0,
    *,
    branch: str = "minus",
) -> Metric:
    """The black hole of Lu, Mei and Pope: `f = 1 + x² - alpha x**sigma`, `N = x**p sqrt(f)`, `x = sqrt(-Lw) r`.

    Args:
        lam: The kinetic coupling, above 1/3.
        alpha: Constant of integration.
        Lw: Cosmological constant of the three-dimensional action, negative.
        branch: Sign of the root in `sigma` and `p`: `"minus"` contains lambda = 1, where `sigma = 1/2` and `N² = f`.

    References:
        Lu, Mei, Pope, Phys. Rev. Lett. 103, 091301 (2009), eq. 14-16.
    """
    require(branch in ("minus", "plus"), "branch", "be 'minus' or 'plus'", f"is {branch!r}")

    def deficit(r: Array, p: Params) -> Array:
        x = jnp.sqrt(-p["Lw"]) * r
        return p["alpha"] * x ** exponents(p["lam"], branch=branch)[0] - x**2

    def time(r: Array, p: Params) -> Array:
        power = 2 * exponents(p["lam"], branch=branch)[1] * jnp.log(jnp.sqrt(-p["Lw"]) * r)
        # 1 - x^2p f, without cancellation near lambda = 1, where p = 0 and it is exactly 1 - f.
        near = jnp.exp(power) * deficit(r, p) - jnp.expm1(power)
        return jnp.where(jnp.abs(power) < 0.1, near, 1 - jnp.exp(power) * (1 - deficit(r, p)))

    params, source = {"lam": lam, "alpha": alpha, "Lw": Lw}, "Lu, Mei and Pope 2009"
    return static(deficit=deficit, time_deficit=time, params=params, name="Lu-Mei-Pope", source=source)


def exponents(lam: ArrayLike, *, branch: str = "minus") -> tuple[Array, Array]:
    """The exponents `(sigma, p)` of Lu, Mei and Pope; the minus branch is regular at lambda = 1."""
    lam = jnp.asarray(lam)
    root = jnp.sqrt(6 * lam - 2)
    if branch == "minus":  # rationalised: (2 lam - root)/(lam - 1) is 0/0 at 1
        return (4 * lam - 2) / (2 * lam + root), -9 * (lam - 1) / (1 + 3 * lam + 2 * root)
    return (2 * lam + root) / (lam - 1), -(1 + 3 * lam + 2 * root) / (lam - 1)


def infrared(kappa: float, mu: float, lam: float, Lw: float) -> dict[str, Array]:
    """The long-distance limit of the action: the speed of light, Newton's constant and the cosmological constant.

    `c = (kappa² mu / 4) sqrt(Lw / (1 - 3 lam))`, `G = kappa² / (32 pi c)`, `L = 3 Lw / 2` (Horava's normalisation).
    """
    c = kappa**2 * mu / 4 * jnp.sqrt(Lw / (1 - 3 * lam))
    return {"c": c, "G": kappa**2 / (32 * jnp.pi * c), "L": jnp.asarray(1.5 * Lw)}


class Solution(NamedTuple):
    """A closed solution with the action that it solves.

    Attributes:
        metric: The solution.
        lagrangian: The reduced Lagrangian.
        couplings: The couplings that the Lagrangian takes.
        radii: Range of radii in which to compare them, `(from, to)`.
    """

    metric: Metric
    lagrangian: Callable[..., Array]
    couplings: dict[str, float]
    radii: tuple[float, float] = (2.0, 12.0)


def solutions() -> dict[str, Solution]:
    """Every closed solution with its Lagrangian and couplings: the rows of the residual table."""
    couple = lambda **given: {**COUPLINGS, **given}
    horava = lambda metric, *radii, **given: Solution(metric, reduced_lagrangian, couple(**given), *radii)
    table = {}
    for lam in (0.5, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0):
        table[f"Lu-Mei-Pope, lambda={lam:g}"] = horava(lu_mei_pope(lam), lam=lam, Lw=-1.0)
    # A high power of x occurs: only near x = 1 are f and N² neither negative nor lost to rounding.
    near = {0.8: (0.95, 1.2), 1.2: (0.85, 1.05)}
    for lam in (0.5, 0.8, 1.2, 1.5, 2.0, 3.0, 5.0):
        metric = lu_mei_pope(lam, alpha=0.01, branch="plus")
        table[f"Lu-Mei-Pope +, lambda={lam:g}"] = horava(metric, near.get(lam, (0.7, 1.3)), lam=lam, Lw=-1.0)
    for epsilon in (0.0, 0.3, 0.7, 0.95, 1.3):
        metric = black_hole(0.0, -1.0, epsilon, 1.0, name="Lu-Mei-Pope, relaxed balance")
        table[f"Lu-Mei-Pope, epsilon={epsilon:g}"] = horava(metric, Lw=-1.0, epsilon=epsilon)
    for omega in (0.5, 1.0, 16.0):
        table[f"Kehagias-Sfetsos, omega={omega:g}"] = horava(kehagias_sfetsos(omega), (2.5, 12.0), omega=omega)
    table["Park"] = horava(park(), omega=1.0, Lw=-0.1)
    any_lapse = static(lambda r, p: 1 + r**2, lambda r, p: jnp.sin(r) + 2 + r**2, name="f = 1 - Lw r², any N")
    table["f = 1 - Lw r², any N, lambda=1.7"] = horava(any_lapse, lam=1.7, Lw=-1.0)
    einstein = static(deficit=lambda r, p: 2 / r - 0.1 * r**2, name="Schwarzschild-anti-de Sitter")
    table["Schwarzschild-AdS (Einstein's action)"] = Solution(einstein, einstein_lagrangian, {"L": -0.3})
    return table
