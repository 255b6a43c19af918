"""Cosmology: Friedmann's equations in Horava's gravity (and Einstein's), with the exact bounce.

The units are c = 1. The parameters are a dictionary as in `UNIVERSE`: `lam`, the kinetic coupling; `Lw`, the
cosmological constant of the three-dimensional action (negative); `k`, the curvature of space; `B = 8 pi G rho0 / 3`,
the amount of matter; and `w`, its equation of state (1/3 for radiation).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkit.core.checks import double_precision
from jaxkit.dynamics.ode.solution import Solution
from jaxkit.dynamics.ode.solve import solve
from jaxkit.gravity.metrics import Params

UNIVERSE: Mapping[str, float] = MappingProxyType({"lam": 1.0, "Lw": -1.0, "k": -1.0, "B": 0.2, "w": 1 / 3})


def hubble_squared(a: ArrayLike, params: Params) -> Array:
    """`H² = (a'/a)²` by the constraint; negative where no universe can be.

    `H² = (2/(3 lam - 1)) [Lw/2 + B a^(-3(1 + w)) - k/a² + k²/(2 Lw a⁴)]`.

    Args:
        a: Scale factor.
        params: See `UNIVERSE`.

    References:
        Lu, Mei, Pope, PRL 103, 091301 (2009), eq. 20-21.
    """
    lw, k = params["Lw"], params["k"]
    matter = params["B"] * a ** (-3 * (1 + params["w"]))
    return 2 / (3 * params["lam"] - 1) * (lw / 2 + matter - k / a**2 + k**2 / (2 * lw * a**4))


def acceleration(a: ArrayLike, params: Params) -> Array:
    """`a''/a = (2/(3 lam - 1)) [Lw/2 - (1 + 3w)/2 B a^(-3(1 + w)) - k²/(2 Lw a⁴)]`: regular through a bounce."""
    lw, k, w = params["Lw"], params["k"], params["w"]
    matter = (1 + 3 * w) / 2 * params["B"] * a ** (-3 * (1 + w))
    return 2 / (3 * params["lam"] - 1) * (lw / 2 - matter - k**2 / (2 * lw * a**4))


def minisuperspace_lagrangian(t: Array, q: Float[Array, "2"], dq: Float[Array, "2"], params: Params) -> Array:
    """Horava's action of a homogeneous universe, `q = (a, N)`: its Euler-Lagrange equations are Friedmann's.

    It is the kinetic part `-(3 lam - 1)/2 · a a'²/N` minus the perfect square `(k/a² - Lw)² a³ N / (2 Lw)` and matter.
    """
    (a, lapse), (rate, _) = q, dq
    lw = params["Lw"]
    kinetic = -(3 * params["lam"] - 1) / 2 * a * rate**2 / lapse
    potential = lapse * a**3 * (params["k"] / a**2 - lw) ** 2 / (2 * lw)
    return kinetic - potential - lapse * params["B"] * a ** (-3 * params["w"])


def turning_points(params: Params) -> tuple[Array, Array]:
    """Least and largest scale factor of the oscillating universe with radiation, in closed form.

    The universe bounces if `k = -1` and `2 |Lw| B < 1`; otherwise both are NaN.
    """
    depth = -params["Lw"]
    swing = jnp.sqrt(2 * depth * params["B"])
    return jnp.sqrt((-params["k"] - swing) / depth), jnp.sqrt((-params["k"] + swing) / depth)


def bounce(t: ArrayLike, params: Params) -> Array:
    """The exact oscillation with radiation: `a² = [sqrt(2 |Lw| B) sin(W t + phase) - k] / |Lw|`.

    `W = 2 sqrt(|Lw| / (3 lam - 1))`, and the phase puts the bounce (least `a`) at `t = 0`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit.gravity import cosmology
        >>> universe = dict(cosmology.UNIVERSE)
        >>> t = jnp.linspace(0.0, 9.0, 4)
        >>> motion = cosmology.expand(t, universe).checked()
        >>> bool(abs(motion.a - cosmology.bounce(t, universe)).max() < 1e-8)
        True
    """
    depth = -params["Lw"]
    rate = 2 * jnp.sqrt(depth / (3 * params["lam"] - 1))
    swing = jnp.sqrt(2 * depth * params["B"])
    return jnp.sqrt((-swing * jnp.cos(rate * jnp.asarray(t)) - params["k"]) / depth)


class Expansion(NamedTuple):
    """The history of a universe.

    Attributes:
        ts: Times, shape `(n,)`.
        a: Scale factor, shape `(n,)`.
        rate: `da/dt`, shape `(n,)`.
        constraint: `(a'/a)² - H²(a)` relative to the largest term: how well Friedmann's constraint was kept.
        solution: The solver's `Solution`.
    """

    ts: Array
    a: Array
    rate: Array
    constraint: Array
    solution: Solution

    def checked(self) -> "Expansion":
        """Return itself, or raise one sentence that says why the solver failed. Host only."""
        self.solution.checked()
        return self


def expand(
    ts: Float[Array, " n"], params: Params, *, a0: ArrayLike | None = None, rate0: ArrayLike | None = None
) -> Expansion:
    """Integrate the second-order Friedmann equation, which is regular through bounces.

    Args:
        ts: Increasing times.
        params: See `UNIVERSE`.
        a0: Scale factor at `ts[0]`; the least one of the oscillation by default.
        rate0: `da/dt` there; by default the expanding root of the constraint (0 at a turning point; NaN if there is no
            root: then no such universe exists, and `solve` refuses it).

    Returns:
        An `Expansion`.
    """
    double_precision("cosmology.expand")
    a0 = turning_points(params)[0] if a0 is None else jnp.asarray(a0, float)
    if rate0 is None:
        speed2 = hubble_squared(a0, params) * a0**2
        # At a turning point the terms cancel: what is left is rounding, measured by their own size in any units.
        tiny = jnp.abs(speed2) <= 1e-13 * jnp.abs(params["Lw"] * a0**2 / (3 * params["lam"] - 1))
        rate0 = jnp.where(tiny, 0.0, jnp.sqrt(jnp.where(tiny, 1.0, speed2)))
    field = lambda t, x, p: {"a": x["rate"], "rate": x["a"] * acceleration(x["a"], p)}
    start = {"a": a0, "rate": jnp.asarray(rate0, float)}
    found = solve(field, start, ts, params, method="dopri8", rtol=1e-11, atol=1e-12)
    a, rate = found.xs["a"], found.xs["rate"]
    size = jnp.abs(params["Lw"]) + jnp.abs(params["k"]) / a**2
    return Expansion(ts, a, rate, ((rate / a) ** 2 - hubble_squared(a, params)) / size, found)
