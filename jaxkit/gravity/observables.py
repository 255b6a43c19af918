"""What a metric lets you measure: horizons, photon orbits, ISCO, temperature, bending, precession, delay.

Places are roots with implicit derivatives, so every observable is differentiable in every parameter of the metric.
Static metrics are used through their *deficits* `1 - N²` and `1 - f`, and differences of large equal numbers are taken
as integrals of derivatives (Hermite and Genocchi), so that the numbers stay right where fields are weak: Mercury's
5e-7 radians a turn come out with nine digits, where the textbook integral returns noise.
"""

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from jaxkit.core.checks import floating, require
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.root import root
from jaxkit.gravity.metrics import Metric, Params, Radial, as_metric

SEARCH = (1e-2, 1e4)  # radii between which orbits and horizons are looked for, unless the caller says otherwise
_GRID = 1500


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


def _profile(metric: Metric, params: Params) -> Profile:
    require(
        metric.time is not None and metric.space is not None,
        "metric",
        "be static and spherical, made by `gravity.static` or `gravity.from_text`",
        f"is {metric.name}",
    )
    p = metric.resolve(params)
    return Profile(lambda r: metric.time(r, p), lambda r: metric.space(r, p))  # pyright: ignore[reportOptionalCall]


def _outermost(
    fn: Radial, params: Params, search: tuple[ArrayLike, ArrayLike], valid: Radial | None = None
) -> Observable:
    """The largest radius in `search` where `fn` changes its sign (and `valid` is positive on both sides).

    A logarithmic grid brackets it, bisection and Newton's method refine it; the derivative is the implicit one.
    """
    found = _crossings(fn, params, search, valid)
    last = jnp.argmax(jnp.where(found.mask, jnp.arange(found.mask.size), -1))
    return _refine(fn, params, found.r[last], found.r[last + 1], exists=jnp.any(found.mask))


class _Crossings(NamedTuple):
    r: Array
    mask: Array


def _crossings(
    fn: Radial, params: Params, search: tuple[ArrayLike, ArrayLike], valid: Radial | None = None
) -> _Crossings:
    lo, hi = (jnp.log(jnp.asarray(v, float)) for v in jax.lax.stop_gradient(search))
    r = jnp.exp(lo + (hi - lo) * jnp.linspace(0.0, 1.0, _GRID))
    held = jax.lax.stop_gradient(params)
    values = jax.vmap(lambda r: fn(r, held))(r)
    good = jnp.isfinite(values)
    if valid is not None:
        good = good & (jax.vmap(lambda r: valid(r, held))(r) > 0)
    return _Crossings(r, (jnp.sign(values[1:]) * jnp.sign(values[:-1]) <= 0) & good[1:] & good[:-1])


def _refine(fn: Radial, params: Params, lo: Array, hi: Array, *, exists: Array) -> Observable:
    held = jax.lax.stop_gradient(params)
    sign = jnp.sign(fn(hi, held))

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        a, b = ends
        middle = 0.5 * (a + b)
        right = jnp.sign(fn(middle, held)) == sign
        return jnp.where(right, a, middle), jnp.where(right, middle, b)

    a, b = jax.lax.fori_loop(0, 25, halve, (lo, hi))
    start, slope = jax.lax.stop_gradient(0.5 * (a + b)), jax.grad(fn)(0.5 * (a + b), held)
    # Unknown and residual are scaled to 1, so that tolerances mean the same in metres and in solar masses.
    scale = jax.lax.stop_gradient(1 / (slope * start))
    scaled = lambda z, args: fn(z * args[1], args[0]) * args[2]
    found = root(scaled, 1.0, (params, start, scale), rtol=1e-12, atol=1e-14, max_steps=20)
    near = jnp.abs(found.value * start - start) <= (hi - lo)
    close = jnp.abs(found.residual) < 1e-10
    status = jnp.where(exists & near & close, int(Status.ok), jnp.where(exists, int(Status.singular), 9))
    return Observable(jnp.where(exists & near & close, found.value * start, jnp.nan), status)


def _and_then(place: Observable, value: Array) -> Observable:
    """A number computed at a place: it exists where the place does and it is finite."""
    bad = (place.status == int(Status.ok)) & ~jnp.isfinite(value)
    return Observable(value, jnp.where(bad, int(Status.not_applicable), place.status))


# --- horizons ------------------------------------------------------------------------------------------------------


def _radial(metric: Metric) -> Radial:
    """`g^rr` in the equatorial plane."""
    if metric.space is not None:
        return lambda r, p: 1 - metric.space(r, p)  # pyright: ignore[reportOptionalCall]
    require(metric.coordinates[1] == "r", "metric", "have a radial coordinate `r`", f"has {metric.coordinates}")

    def inverse(r: Array, p: Params) -> Array:
        x = jnp.stack([jnp.zeros_like(r), r, jnp.full_like(r, jnp.pi / 2), jnp.zeros_like(r)])
        if metric.inverse is not None:
            return jnp.asarray(metric.inverse(x, p)[1, 1])
        return jnp.linalg.inv(metric(x, p))[1, 1]

    return inverse


def horizon(metric: Metric, params: Params = None, *, search: tuple[ArrayLike, ArrayLike] = SEARCH) -> Observable:
    """The outermost horizon, where `g^rr = 0`; a double (extremal) one is found too.

    Args:
        metric: Any metric with a radial coordinate.
        params: Parameters instead of its own.
        search: Radii between which to look.

    Returns:
        Its radius; status `not_applicable` where there is none.

    Example:
        >>> import jax
        >>> from jaxkit import gravity
        >>> hole = gravity.kerr()
        >>> round(float(jax.grad(lambda a: gravity.horizon(hole, {"a": a}).value)(0.6)), 10)
        -0.75
    """
    metric = as_metric(metric)
    fn, p = _radial(metric), metric.resolve(params)
    simple = _outermost(fn, p, search)
    touching = _outermost(jax.grad(fn), p, search)
    touches = (touching.status == 0) & (jnp.abs(fn(touching.value, p)) < 1e-12)
    use = (simple.status != 0) & touches
    return Observable(jnp.where(use, touching.value, simple.value), jnp.where(use, int(Status.ok), simple.status))


def horizons(
    metric: Metric, params: Params = None, *, most: int = 3, search: tuple[ArrayLike, ArrayLike] = SEARCH
) -> Observable:
    """All horizons, from the outermost inwards; unused places are not numbers with status `not_applicable`.

    Args:
        metric: Any metric with a radial coordinate.
        params: Parameters instead of its own.
        most: How many to return.
        search: Radii between which to look.

    Returns:
        Radii, shape `(most,)`.
    """
    metric = as_metric(metric)
    fn, p = _radial(metric), metric.resolve(params)
    found = _crossings(fn, p, search)
    index = jax.lax.top_k(jnp.where(found.mask, jnp.arange(found.mask.size), -1), most)[0]
    refine = lambda i: _refine(fn, p, found.r[i], found.r[i + 1], exists=i >= 0)
    return jax.vmap(refine)(index)


def hawking_temperature(
    metric: Metric, params: Params = None, *, search: tuple[ArrayLike, ArrayLike] = SEARCH
) -> Observable:
    """Hawking's temperature of the outermost horizon, `sqrt((N²)' f') / 4 pi` (units hbar = k = 1)."""
    metric = as_metric(metric)
    profile, place = _profile(metric, params), horizon(metric, params, search=search)
    product = jax.grad(profile.lapse2)(place.value) * jax.grad(profile.f)(place.value)
    extremal = product <= 1e-24
    return _and_then(place, jnp.where(extremal, 0.0, jnp.sqrt(jnp.where(extremal, 1.0, product))) / (4 * jnp.pi))


# --- circular orbits -------------------------------------------------------------------------------------------------


class _Equator(NamedTuple):
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


def _equator(metric: Metric, *, retrograde: bool) -> _Equator:
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

    return _Equator(entries, -1.0 if retrograde else 1.0)


def photon_sphere(
    metric: Metric,
    params: Params = None,
    *,
    retrograde: bool = False,
    search: tuple[ArrayLike, ArrayLike] = SEARCH,
) -> Observable:
    """The outermost circular orbit of light: the photon sphere, or the equatorial orbit of a rotating metric.

    Args:
        metric: Any stationary metric in (t, r, theta, phi).
        params: Parameters instead of its own.
        retrograde: Against the rotation.
        search: Radii between which to look.

    Returns:
        Its radius; status `not_applicable` where there is none.
    """
    metric = as_metric(metric)
    if metric.is_static:
        condition = lambda r, p: 2 * (1 - metric.time(r, p)) + r * jax.grad(metric.time)(r, p)  # pyright: ignore
        outside = lambda r, p: 1 - metric.time(r, p)  # pyright: ignore[reportOptionalCall]
        return _outermost(condition, metric.resolve(params), search, outside)
    equator = _equator(metric, retrograde=retrograde)
    return _outermost(lambda r, p: equator.orbit(r, p)[0], metric.resolve(params), search)


def shadow_radius(
    metric: Metric,
    params: Params = None,
    *,
    observer: ArrayLike | None = None,
    search: tuple[ArrayLike, ArrayLike] = SEARCH,
) -> Observable:
    """The radius of the shadow: the impact parameter `r / N` of the photon sphere, a length.

    Args:
        metric: A static metric.
        params: Parameters instead of its own.
        observer: Radius of an observer at rest there, to whom the shadow then appears under the angle returned (in
            radians); at infinity, in a flat region, by default.
        search: Radii between which to look for the photon sphere.

    Returns:
        Impact parameter, or the angle.
    """
    metric = as_metric(metric)
    place, profile = photon_sphere(metric, params, search=search), _profile(metric, params)
    impact = place.value / jnp.sqrt(profile.lapse2(place.value))
    if observer is None:
        return _and_then(place, impact)
    r = floating("observer", observer)
    return _and_then(place, jnp.arcsin(impact * jnp.sqrt(profile.lapse2(r)) / r))


class StrongField(NamedTuple):
    """Light near the photon sphere.

    Attributes:
        lyapunov: Rate at which neighbouring rays leave it, per coordinate time.
        bending: Bozza's coefficient of the logarithm in the deflection angle.
        frequency: Orbital frequency: real part of the eikonal quasi-normal mode per multipole number.
        status: `Status` of the photon sphere.
    """

    lyapunov: Array
    bending: Array
    frequency: Array
    status: Array


def strong_field(metric: Metric, params: Params = None, *, search: tuple[ArrayLike, ArrayLike] = SEARCH) -> StrongField:
    """Lyapunov exponent, Bozza's coefficient and eikonal frequency of the photon sphere.

    References:
        Cardoso et al., PRD 79, 064016 (2009); Bozza, PRD 66, 103001 (2002).
    """
    metric = as_metric(metric)
    place, profile = photon_sphere(metric, params, search=search), _profile(metric, params)
    r = place.value
    h, f, bend = profile.lapse2(r), profile.f(r), jax.grad(jax.grad(profile.lapse2))(r)
    unstable = 2 * h - r**2 * bend
    return StrongField(jnp.sqrt(f * unstable / 2) / r, jnp.sqrt(2 * h / (f * unstable)), jnp.sqrt(h) / r, place.status)


class CircularOrbit(NamedTuple):
    """A circular orbit.

    Attributes:
        r: Radius.
        energy: Energy per mass.
        angular_momentum: Angular momentum per mass, a length.
        status: `Status` code.
    """

    r: Array
    energy: Array
    angular_momentum: Array
    status: Array


def isco_orbit(
    metric: Metric, params: Params = None, *, retrograde: bool = False, search: tuple[ArrayLike, ArrayLike] = SEARCH
) -> CircularOrbit:
    """The innermost stable circular orbit with its energy and angular momentum.

    Args:
        metric: Any stationary metric in (t, r, theta, phi).
        params: Parameters instead of its own.
        retrograde: Against the rotation.
        search: Radii between which to look.

    Returns:
        A `CircularOrbit`; `1 - energy` is the efficiency of a thin disk.
    """
    metric = as_metric(metric)
    p, equator = metric.resolve(params), _equator(metric, retrograde=retrograde)

    def energy(r: Array, p: Params) -> Array:
        norm, energy, _ = equator.orbit(r, p)
        return energy / jnp.sqrt(norm)

    if metric.is_static:  # without roots, so that it is finite on both sides: r N² (N²)'' - 2 r (N²)'² + 3 N² (N²)' = 0
        lapse2 = lambda r, p: 1 - metric.time(r, p)  # pyright: ignore[reportOptionalCall]
        first = jax.grad(lapse2)
        second = jax.grad(first)
        stable = lambda r, p: (
            r * lapse2(r, p) * second(r, p) - 2 * r * first(r, p) ** 2 + 3 * lapse2(r, p) * first(r, p)
        )
        allowed = lambda r, p: 2 * lapse2(r, p) - r * first(r, p)
    else:
        stable, allowed = jax.grad(energy), lambda r, p: equator.orbit(r, p)[0]
    place = _outermost(stable, p, search, allowed)
    norm, top, momentum = equator.orbit(place.value, p)
    return CircularOrbit(place.value, top / jnp.sqrt(norm), momentum / jnp.sqrt(norm), place.status)


def isco(
    metric: Metric, params: Params = None, *, retrograde: bool = False, search: tuple[ArrayLike, ArrayLike] = SEARCH
) -> Observable:
    """The radius of the innermost stable circular orbit; see `isco_orbit`."""
    orbit = isco_orbit(metric, params, retrograde=retrograde, search=search)
    return Observable(orbit.r, orbit.status)
