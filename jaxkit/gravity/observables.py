"""Circular orbits of light and matter: photon sphere, shadow, strong field, innermost stable orbit.

Places are roots with implicit derivatives, so every observable is differentiable in every parameter of the metric.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from jaxkit.core.checks import floating
from jaxkit.gravity.metrics import Metric, Params, as_metric
from jaxkit.gravity.places import SEARCH, Observable, and_then, equator_of, outermost, profile_of


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
        return outermost(condition, metric.resolve(params), search, outside)
    equator = equator_of(metric, retrograde=retrograde)
    return outermost(lambda r, p: equator.orbit(r, p)[0], metric.resolve(params), search)


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
    place, profile = photon_sphere(metric, params, search=search), profile_of(metric, params)
    impact = place.value / jnp.sqrt(profile.lapse2(place.value))
    if observer is None:
        return and_then(place, impact)
    r = floating("observer", observer)
    return and_then(place, jnp.arcsin(impact * jnp.sqrt(profile.lapse2(r)) / r))


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
    place, profile = photon_sphere(metric, params, search=search), profile_of(metric, params)
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
    p, equator = metric.resolve(params), equator_of(metric, retrograde=retrograde)

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
    place = outermost(stable, p, search, allowed)
    norm, top, momentum = equator.orbit(place.value, p)
    return CircularOrbit(place.value, top / jnp.sqrt(norm), momentum / jnp.sqrt(norm), place.status)


def isco(
    metric: Metric, params: Params = None, *, retrograde: bool = False, search: tuple[ArrayLike, ArrayLike] = SEARCH
) -> Observable:
    """The radius of the innermost stable circular orbit; see `isco_orbit`."""
    orbit = isco_orbit(metric, params, retrograde=retrograde, search=search)
    return Observable(orbit.r, orbit.status)
