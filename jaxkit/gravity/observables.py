"""Circular orbits of light and matter: photon sphere, shadow, strong field, innermost stable orbit.

Places are roots with implicit derivatives, so every observable is differentiable in every parameter of the metric.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.checks import floating
from jaxkit.core.status import Status
from jaxkit.gravity.horizons import horizon_edge
from jaxkit.gravity.metrics import Metric, Params, Radial, as_metric, bare
from jaxkit.gravity.places import (
    Observable,
    Scan,
    Search,
    after,
    and_then,
    equator_of,
    innermost,
    last,
    outermost,
    profile_of,
    radii,
    refine,
    sample,
    scan,
    spherical,
)


class _Circular(NamedTuple):
    """Circular orbits in the equatorial plane, as radial functions.

    Attributes:
        light: Positive where matter can circle; it rises through 0 at an unstable orbit of light.
        stable: Rises through 0 at the inner edge of the stable orbits.
        allowed: Positive where there are orbits at all, a condition besides `light`.
        pulls: Positive where gravity attracts: elsewhere nothing circles.
        sizes: The magnitudes of the terms that cancel in `light` and in `stable`.
    """

    light: Radial
    stable: Radial
    allowed: Radial
    pulls: Radial
    sizes: Callable[[Array, Params], tuple[Array, Array]]


def _circular(metric: Metric, *, retrograde: bool) -> _Circular:
    return _static(metric) if metric.is_static else _rotating(metric, retrograde=retrograde)


def _static(metric: Metric) -> _Circular:
    """Conditions without square roots, finite on both sides: `r N² (N²)'' - 2 r (N²)'² + 3 N² (N²)' = 0`."""
    lapse2 = lambda r, p: 1 - metric.time(r, p)  # pyright: ignore[reportOptionalCall]
    first = jax.grad(lapse2)
    second = jax.grad(first)

    def terms(r: Array, p: Params) -> tuple[Array, Array, Array]:
        n, dn, ddn = lapse2(r, p), first(r, p), second(r, p)
        return r * n * ddn, -2 * r * dn**2, 3 * n * dn

    def sizes(r: Array, p: Params) -> tuple[Array, Array]:
        light = 2 * jnp.abs(lapse2(r, p)) + r * jnp.abs(first(r, p))
        return light, sum((jnp.abs(term) for term in terms(r, p)), jnp.zeros(()))

    light = lambda r, p: 2 * lapse2(r, p) - r * first(r, p)
    stable = lambda r, p: sum(terms(r, p), jnp.zeros(()))
    return _Circular(light, stable, lapse2, first, sizes)


def _rotating(metric: Metric, *, retrograde: bool) -> _Circular:
    equator = equator_of(metric, retrograde=retrograde)

    def energy(r: Array, p: Params) -> Array:
        norm, energy, _ = equator.orbit(r, p)
        return energy / jnp.sqrt(norm)

    def allowed(r: Array, p: Params) -> Array:
        """Positive where the norm exceeds rounding."""
        size = jnp.abs(equator.entries(r, p)[0])
        return jnp.abs(equator.orbit(r, p)[0]) - 1e-13 * size

    def sizes(r: Array, p: Params) -> tuple[Array, Array]:
        return jnp.abs(equator.entries(r, p)[0]), jnp.abs(energy(r, p)) / r

    light = lambda r, p: equator.orbit(r, p)[0]
    return _Circular(light, jax.grad(energy), allowed, lambda r, p: jnp.ones_like(r), sizes)


def _outside(metric: Metric, params: Params, search: Search) -> Array:
    """The radii at which orbits are sought: those of `search`, or all; for rotating metrics from the horizon outwards.

    Near an extremal rotating horizon the orbits are as close to it as to each other.
    """
    if search is not None or metric.is_static:
        return radii(metric, params, search)
    return radii(metric, params, None, horizon_edge(metric, params))


def _rings(light: Scan, allowed: Array, size: Array) -> Array:
    """After which radii there is an unstable orbit of light, outside the event horizon."""
    there = allowed > 0
    inside = jnp.flip(jnp.cumsum(jnp.flip(~there[:-1] & there[1:]))) > 0  # a horizon is still to come, further out
    return light.rising() & light.clear(size) & there[:-1] & there[1:] & ~inside


def _light_rings(metric: Metric, params: Params, search: Search, *, retrograde: bool) -> tuple[Radial, Scan, Array]:
    """The function whose roots are orbits of light, its scan, and after which radii there is an unstable one."""
    circular, held = _circular(metric, retrograde=retrograde), jax.lax.stop_gradient(params)
    look = scan if metric.is_static else sample
    seen = look(circular.light, params, _outside(metric, params, search))
    allowed, size = jax.vmap(lambda r: (circular.allowed(r, held), circular.sizes(r, held)[0]))(seen.r)
    return circular.light, seen, _rings(seen, allowed, size)


def photon_sphere(
    metric: Metric, params: Params = None, *, retrograde: bool = False, search: Search = None
) -> Observable:
    """The outermost unstable circular orbit of light: the photon sphere, or the equatorial orbit.

    Args:
        metric: Any stationary metric in (t, r, theta, phi).
        params: Parameters instead of its own.
        retrograde: Whether the orbit runs against the rotation.
        search: Radii between which to look; from the event horizon outwards by default.

    Returns:
        Its radius; status `not_applicable` if there is none.
    """
    metric = as_metric(metric)
    return run_kept(_photon_sphere, (bare(metric), bool(retrograde)), (metric.resolve(params), search))


def _photon_sphere(metric: Metric, retrograde: bool, params: Params, search: Search) -> Observable:  # noqa: FBT001
    fn, seen, rings = _light_rings(metric, params, search, retrograde=retrograde)
    place = refine(fn, params, outermost(seen, rings))
    if metric.formulas.orbits is None or search is not None:
        return place
    needed, light, *_ = metric.formulas.orbits(params, retrograde)
    return Observable(jnp.where(needed, light, place.value), jnp.where(needed, int(Status.ok), place.status))


def shadow_radius(
    metric: Metric, params: Params = None, *, observer: ArrayLike | None = None, search: Search = None
) -> Observable:
    """The radius of the shadow: the impact parameter `r / N` of the photon sphere, a length.

    Among several unstable orbits of light, the one with the least impact parameter is the edge.

    Args:
        metric: A static metric.
        params: Parameters instead of its own.
        observer: Radius of an observer at rest, for whom the angular radius of the shadow (in radians) is returned; by
            default the observer is at infinity, in a flat region.
        search: Radii between which to look for the photon sphere.

    Returns:
        The impact parameter, or the angle.
    """
    metric = as_metric(metric)
    profile_of(metric, params)  # raises where it is none
    r = None if observer is None else floating("observer", observer)
    return run_kept(_shadow_radius, (bare(metric),), (metric.resolve(params), r, search))


def _shadow_radius(metric: Metric, params: Params, observer: Array | None, search: Search) -> Observable:
    """The shadow of the light ring with the least impact parameter: a ray falls in only past the highest barrier."""
    light, seen, rings = _light_rings(spherical(metric), params, search, retrograde=False)
    profile = profile_of(metric, params)
    outer = 0.5 * (seen.r[1:] + seen.r[:-1])
    impact2 = jnp.where(rings, outer**2 / jax.lax.stop_gradient(jax.vmap(profile.lapse2)(outer)), jnp.inf)
    place = refine(light, params, after(seen, jnp.argmin(impact2), jnp.any(rings)))
    impact = place.value / jnp.sqrt(profile.lapse2(place.value))
    if observer is None:
        return and_then(place, impact)
    return and_then(place, jnp.arcsin(impact * jnp.sqrt(profile.lapse2(observer)) / observer))


class StrongField(NamedTuple):
    """Light near the photon sphere.

    Attributes:
        lyapunov: Rate at which neighbouring rays leave the photon sphere, per coordinate time.
        bending: Bozza's coefficient of the logarithm in the deflection angle.
        frequency: Orbital frequency: the real part of the eikonal quasi-normal mode per multipole number.
        status: `Status` of the photon sphere.
    """

    lyapunov: Array
    bending: Array
    frequency: Array
    status: Array


def strong_field(metric: Metric, params: Params = None, *, search: Search = None) -> StrongField:
    """Lyapunov exponent, Bozza's coefficient and eikonal frequency of the photon sphere.

    References:
        Cardoso et al., PRD 79, 064016 (2009); Bozza, PRD 66, 103001 (2002).
    """
    metric = as_metric(metric)
    profile_of(metric, params)  # raises where it is none
    return run_kept(_strong_field, (bare(metric),), (metric.resolve(params), search))


def _strong_field(metric: Metric, params: Params, search: Search) -> StrongField:
    place, profile = photon_sphere(spherical(metric), params, search=search), profile_of(metric, params)
    r = place.value
    h, f, bend = profile.lapse2(r), profile.f(r), jax.grad(jax.grad(profile.lapse2))(r)
    unstable = 2 * h - r**2 * bend
    bending = and_then(place, jnp.sqrt(2 * h / (f * unstable)))
    return StrongField(jnp.sqrt(f * unstable / 2) / r, bending.value, jnp.sqrt(h) / r, bending.status)


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


def _innermost_stable(metric: Metric, params: Params, search: Search, *, retrograde: bool) -> Observable:
    light, stable, *within, sizes = _circular(metric, retrograde=retrograde)
    held, r = jax.lax.stop_gradient(params), _outside(metric, params, search)
    allowed, pulls = (jax.vmap(lambda r, fn=fn: fn(r, held))(r) for fn in within)
    of_light, of_stable = jax.vmap(lambda r: sizes(r, held))(r)
    seen, circles = sample(stable, params, r), sample(light, params, r)
    rings = _rings(circles, allowed, of_light)
    there = (circles.value > 0) & (allowed > 0) & (pulls > 0)
    edges = seen.rising() & seen.clear(of_stable) & there[:-1] & there[1:] & (jnp.arange(rings.size) > last(rings))
    known = jnp.any(jnp.isfinite(circles.value))
    return refine(stable, params, innermost(seen, edges)._replace(known=known))


def isco_orbit(
    metric: Metric, params: Params = None, *, retrograde: bool = False, search: Search = None
) -> CircularOrbit:
    """The innermost stable circular orbit with its energy and angular momentum.

    It is the inner edge of the stable orbits outside the photon sphere.

    Args:
        metric: Any stationary metric in (t, r, theta, phi).
        params: Parameters instead of its own.
        retrograde: Whether the orbit runs against the rotation.
        search: Radii between which to look; from the event horizon outwards by default.

    Returns:
        A `CircularOrbit`; `1 - energy` is the efficiency of a thin disk.
    """
    metric = as_metric(metric)
    return run_kept(_isco_orbit, (bare(metric), bool(retrograde)), (metric.resolve(params), search))


def _isco_orbit(metric: Metric, retrograde: bool, params: Params, search: Search) -> CircularOrbit:  # noqa: FBT001
    place = _innermost_stable(metric, params, search, retrograde=retrograde)
    norm, top, momentum = equator_of(metric, retrograde=retrograde).orbit(place.value, params)
    found = CircularOrbit(place.value, top / jnp.sqrt(norm), momentum / jnp.sqrt(norm), place.status)
    if metric.formulas.orbits is None or search is not None:
        return found
    needed, _, *closed = metric.formulas.orbits(params, retrograde)
    return CircularOrbit(*(jnp.where(needed, u, v) for u, v in zip((*closed, int(Status.ok)), found, strict=True)))


def isco(metric: Metric, params: Params = None, *, retrograde: bool = False, search: Search = None) -> Observable:
    """The radius of the innermost stable circular orbit; see `isco_orbit`."""
    orbit = isco_orbit(metric, params, retrograde=retrograde, search=search)
    return Observable(orbit.r, orbit.status)
