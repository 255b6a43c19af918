"""Where things are: roots along the radius with implicit derivatives, for horizons and orbits.

Static metrics are used through their *deficits* `1 - N²` and `1 - f`, which keep their digits where fields are weak.
"""

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from jaxkit.core.checks import require
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.roots.methods.bracket import bisected
from jaxkit.dynamics.roots.root import root
from jaxkit.gravity.metrics import Metric, Params, Radial

SEARCH = (1e-2, 1e4)  # radii between which orbits and horizons are looked for, unless the caller says otherwise
GRID = 1500


@struct
class Observable(Outcome):
    """A number read off a metric.

    Attributes:
        value: The number; not a number where there is none.
        status: `Status` code; `not_applicable` where there is no such horizon, orbit or ray.
    """

    verb: ClassVar[str] = "observable"

    value: Float[Array, "..."]
    status: Int[Array, "..."]


class Profile(NamedTuple):
    """The deficits `1 - N²` and `1 - f` as functions of the radius alone."""

    time: Callable[[Array], Array]
    space: Callable[[Array], Array]

    def lapse2(self, r: Array) -> Array:
        """`N²`."""
        return 1 - self.time(r)

    def f(self, r: Array) -> Array:
        """`g^rr`."""
        return 1 - self.space(r)


def profile_of(metric: Metric, params: Params) -> Profile:
    """The profile of a static metric with its parameters put in."""
    require(
        metric.time is not None and metric.space is not None,
        "metric",
        "be static and spherical, made by `gravity.static` or `gravity.from_text`",
        f"is {metric.name}",
    )
    p = metric.resolve(params)
    return Profile(lambda r: metric.time(r, p), lambda r: metric.space(r, p))  # pyright: ignore[reportOptionalCall]


def outermost(
    fn: Radial, params: Params, search: tuple[ArrayLike, ArrayLike], valid: Radial | None = None
) -> Observable:
    """The largest radius in `search` where `fn` changes its sign (and `valid` is positive on both sides).

    A logarithmic grid brackets it, bisection and Newton's method refine it; the derivative is the implicit one.
    """
    found = crossings(fn, params, search, valid)
    last = jnp.argmax(jnp.where(found.mask, jnp.arange(found.mask.size), -1))
    return refine(fn, params, found.r[last], found.r[last + 1], exists=jnp.any(found.mask))


class Crossings(NamedTuple):
    """A grid of radii, and after which of them the sign changes."""

    r: Array
    mask: Array


def crossings(
    fn: Radial, params: Params, search: tuple[ArrayLike, ArrayLike], valid: Radial | None = None
) -> Crossings:
    """Where `fn` changes its sign on a logarithmic grid over `search` (and `valid` is positive on both sides)."""
    lo, hi = (jnp.log(jnp.asarray(v, float)) for v in jax.lax.stop_gradient(search))
    r = jnp.exp(lo + (hi - lo) * jnp.linspace(0.0, 1.0, GRID))
    held = jax.lax.stop_gradient(params)
    values = jax.vmap(lambda r: fn(r, held))(r)
    good = jnp.isfinite(values)
    if valid is not None:
        good = good & (jax.vmap(lambda r: valid(r, held))(r) > 0)
    return Crossings(r, (jnp.sign(values[1:]) * jnp.sign(values[:-1]) <= 0) & good[1:] & good[:-1])


def refine(fn: Radial, params: Params, lo: Array, hi: Array, *, exists: Array) -> Observable:
    """The root of `fn` in a bracket, by bisection and Newton's method, with its implicit derivative."""
    held = jax.lax.stop_gradient(params)
    sign = jnp.sign(fn(hi, held))
    a, b = bisected(lambda r: jnp.sign(fn(r, held)) != sign, lo, hi, halvings=25)
    start, slope = jax.lax.stop_gradient(0.5 * (a + b)), jax.grad(fn)(0.5 * (a + b), held)
    # Unknown and residual are scaled to 1, so that tolerances mean the same in metres and in solar masses.
    scale = jax.lax.stop_gradient(1 / (slope * start))
    scaled = lambda z, args: fn(z * args[1], args[0]) * args[2]
    found = root(scaled, 1.0, (params, start, scale), rtol=1e-12, atol=1e-14, max_steps=20)
    near = jnp.abs(found.value * start - start) <= (hi - lo)
    close = jnp.abs(found.residual) < 1e-10
    status = jnp.where(exists & near & close, int(Status.ok), jnp.where(exists, int(Status.singular), 9))
    return Observable(jnp.where(exists & near & close, found.value * start, jnp.nan), status)


def and_then(place: Observable, value: Array) -> Observable:
    """A number computed at a place: it exists where the place does and it is finite."""
    bad = (place.status == int(Status.ok)) & ~jnp.isfinite(value)
    return Observable(value, jnp.where(bad, int(Status.not_applicable), place.status))


class Equator(NamedTuple):
    """`g_tt`, `g_tphi`, `g_phiphi` of the equatorial plane and what circular orbits need of them."""

    entries: Callable[[Array, Params], Array]
    sense: float

    def orbit(self, r: Array, p: Params) -> tuple[Array, Array, Array]:
        """`-(g_tt + 2 g_tphi W + g_phiphi W²)`, energy and angular momentum (before division by its root)."""
        g = self.entries(r, p)
        d = jax.jacfwd(self.entries)(r, p)
        rate = (-d[1] + self.sense * jnp.sqrt(d[1] ** 2 - d[0] * d[2])) / d[2]
        return (
            -(g[0] + 2 * g[1] * rate + g[2] * rate**2),
            -(g[0] + g[1] * rate),
            g[1] + g[2] * rate,
        )


def equator_of(metric: Metric, *, retrograde: bool) -> Equator:
    """The equatorial plane of a stationary metric in (t, r, theta, phi)."""
    require(
        metric.coordinates == ("t", "r", "theta", "phi"),
        "metric",
        "have coordinates (t, r, theta, phi)",
        f"has {metric.coordinates}",
    )

    def entries(r: Array, p: Params) -> Array:
        zero = jnp.zeros_like(r)
        g = metric.entries(jnp.stack([zero, r, zero + jnp.pi / 2, zero]), p)
        return jnp.stack([jnp.asarray(g.get(key, 0.0), r.dtype) for key in ((0, 0), (0, 3), (3, 3))])

    return Equator(entries, -1.0 if retrograde else 1.0)
