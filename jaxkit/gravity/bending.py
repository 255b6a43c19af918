"""The classical tests as integrals over whole orbits: deflection, precession, delay.

With `u = 1/r` and the deficits `a = 1 - N²`, `b = 1 - f`, each integrand is 1 plus a small term. Only that term is
computed: by divided differences of `a u²` and the like, taken as integrals of derivatives, and by `expm1` and `log1p`.
Near an orbit that winds without end, the integrand is `1 / sqrt(margin + psi²)`, `psi` being the angle from the nearest
point: there the nodes cluster on the scale of `sqrt(margin)`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.checks import floating, require
from jaxkit.core.status import Status, worst
from jaxkit.gravity.metrics import Metric, Params, as_metric, bare
from jaxkit.gravity.places import Observable, Profile, minus_g_tt, outermost, profile_of, radii, refine, scan, spherical

_INNER = 20  # nodes of a divided difference
_OUTER = (96, 72)  # nodes of an orbit; the second number checks the first
_LEAST = 1e-12  # margin below which rounding decides the answer


def _gauss(n: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(n)
    return jnp.asarray((x + 1) / 2), jnp.asarray(w / 2)


def _first_difference(g: Callable[[Array], Array], a: Array, b: Array) -> Array:
    """`(g(b) - g(a)) / (b - a)`, also where the two are equal or close."""
    s, w = _gauss(_INNER)
    return jnp.sum(w * jax.vmap(lambda s: jax.grad(g)(a + s * (b - a)))(s))


def _second_difference(g: Callable[[Array], Array], a: Array, b: Array, c: Array) -> Array:
    """The second divided difference `g[a, b, c]`: the mean of `g''/2` over the simplex of the three points."""
    s, w = _gauss(_INNER)
    at = lambda s, t: s * jax.grad(jax.grad(g))(a + s * (b - a) + s * t * (c - b))
    return jnp.sum(w[:, None] * w[None, :] * jax.vmap(lambda s_: jax.vmap(lambda t: at(s_, t))(s))(s))


def _in_u(profile: Profile) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    return lambda u: profile.time(1 / u), lambda u: profile.space(1 / u)


def _along(fn: Callable[[Array], Array], length: ArrayLike, margin: Array) -> tuple[Array, Array]:
    """Integral of `fn` from 0 to `length`, with nodes on the scale `sqrt(margin)` near 0; and whether it converges."""
    scale = jax.lax.stop_gradient(jnp.sqrt(jnp.clip(jnp.where(jnp.isfinite(margin), margin, 1.0), _LEAST, 1.0)))
    far = jnp.arcsinh(length / scale)

    def summed(nodes: int) -> Array:
        t, weight = _gauss(nodes)
        return far * jnp.sum(weight * scale * jnp.cosh(far * t) * jax.vmap(fn)(scale * jnp.sinh(far * t)))

    value, check = (summed(n) for n in _OUTER)
    return value, jnp.abs(value - check) <= 1e-8 * jnp.abs(value) + 1e-15


def _judged(value: Array, converged: Array, margin: Array, *, exists: Array) -> Observable:
    """The value with its status: there may be no such orbit, or nodes and rounding may not resolve it."""
    there = exists & (margin > 64 * jnp.finfo(value.dtype).eps) & jnp.isfinite(value)
    fine = there & converged & (margin >= _LEAST)
    status = jnp.where(there, int(Status.unresolved), int(Status.not_applicable))
    return Observable(jnp.where(fine, value, jnp.nan), jnp.where(fine, int(Status.ok), status))


def _log_ratio(profile: Profile, r: Array) -> Array:
    """`log(f / N²)`."""
    return jnp.log1p(-profile.space(r)) - jnp.log1p(-profile.time(r))


def deflection(
    metric: Metric,
    params: Params = None,
    *,
    r0: ArrayLike | None = None,
    b: ArrayLike | None = None,
) -> Observable:
    """The angle by which light from far away is bent.

    Args:
        metric: A static metric.
        params: Parameters instead of its own.
        r0: Least radius of the ray (give either this or `b`).
        b: Impact parameter.

    Returns:
        Angle in radians; status `not_applicable` for a ray that does not return.

    Raises:
        ValueError: Not exactly one of `r0` and `b` is given, or the metric is not static.

    Example:
        >>> from jaxkit import gravity
        >>> round(float(gravity.deflection(gravity.schwarzschild(), r0=10.0).value), 12)
        0.500235656608

    References:
        Weinberg, Gravitation and Cosmology, 8.5.
    """
    metric = as_metric(metric)
    profile_of(metric, params)  # raises if the metric is not static and spherical
    require((r0 is None) != (b is None), "r0", "be given, or `b`, not both", "that is not so")
    nearest, impact = (None if v is None else floating(name, v) for name, v in (("r0", r0), ("b", b)))
    return run_kept(_deflection, (bare(metric),), (metric.resolve(params), nearest, impact))


def _deflection(metric: Metric, params: Params, nearest: Array | None, impact: Any) -> Observable:
    profile = profile_of(metric, params)
    if nearest is None:
        lapse2 = minus_g_tt(spherical(metric))
        condition = lambda r, p: r**2 / p[1] ** 2 - lapse2(r, p[0])
        given = (params, impact)
        seen = scan(condition, given, radii(metric, params, (1e-3 * impact, 3 * impact)))
        place = refine(condition, given, outermost(seen, seen.rising()))
        nearest, exists = place.value, place.ok
    else:
        place, exists = None, (nearest > 0) & (profile.lapse2(nearest) > 0)

    u0 = 1 / nearest
    time, _ = _in_u(profile)
    lowered = lambda u: time(u) * u**2
    margin = profile.lapse2(nearest) + 0.5 * nearest * jax.grad(profile.time)(nearest)  # 0 at the photon sphere

    def bent(angle: Array) -> Array:
        u = u0 * jnp.cos(angle)
        x = _first_difference(lowered, u0, u) / (u0 + u)
        return jnp.expm1(-0.5 * (_log_ratio(profile, 1 / u) + jnp.log1p(-x)))

    value, converged = _along(bent, 0.5 * jnp.pi, margin)
    found = _judged(2 * value, converged, margin, exists=exists)
    return found if place is None else Observable(found.value, worst(place.status, found.status))


def precession(metric: Metric, params: Params = None, *, p: ArrayLike, e: ArrayLike) -> Observable:
    """The advance of the pericentre per turn of a bound orbit: the angle between two pericentres minus `2 pi`.

    Args:
        metric: A static metric.
        params: Parameters instead of its own.
        p: Semi-latus rectum, in the metric's units of length: the turning points are `p / (1 ± e)`.
        e: Eccentricity, between 0 and 1.

    Returns:
        Radians per turn; status `not_applicable` where there is no such bound orbit.

    Example:
        >>> from jaxkit import gravity
        >>> orbit = gravity.precession(gravity.schwarzschild(), p=20.0, e=0.3)
        >>> round(float(orbit.checked().value), 12)
        1.229246428756
    """
    metric = as_metric(metric)
    profile_of(metric, params)  # raises if the metric is not static and spherical
    return run_kept(_precession, (bare(metric),), (metric.resolve(params), floating("p", p), floating("e", e)))


def _precession(metric: Metric, params: Params, p: Array, e: Array) -> Observable:
    profile = profile_of(metric, params)
    u1, u2 = (1 - e) / p, (1 + e) / p
    time, _ = _in_u(profile)
    # E² = N² (1 + L² u²) at both ends gives L²; with N² = 1 - a it is a[u1,u2] / ((u² - a u²)[u1,u2]).
    weighted = lambda u: time(u) * u**2
    momentum2 = _first_difference(time, u1, u2) / ((u1 + u2) - _first_difference(weighted, u1, u2))
    lowered = lambda u: time(u) * (u**2 + 1 / momentum2)
    factor = lambda u: _second_difference(lowered, u1, u2, u)

    def ahead(angle: Array) -> Array:
        u = (1 + e * jnp.cos(angle)) / p
        return jnp.expm1(-0.5 * (_log_ratio(profile, 1 / u) + jnp.log1p(-factor(u))))

    margin = 1 - factor(u2)  # 0 for the orbit that winds around the circle of its pericentre
    value, converged = _along(ahead, jnp.pi, margin)
    energy2 = profile.lapse2(1 / u1) * (1 + momentum2 * u1**2)
    exists = (p > 0) & (e >= 0) & (e < 1) & (momentum2 > 0) & (energy2 > 0)
    return _judged(2 * value, converged, margin, exists=exists)


def shapiro(metric: Metric, params: Params = None, *, r0: ArrayLike, r1: ArrayLike) -> Observable:
    """Shapiro's delay, one leg: how much longer light takes from its nearest point `r0` to `r1` than in flat space.

    Args:
        metric: A static metric.
        params: Parameters instead of its own.
        r0: Least radius of the ray.
        r1: Radius of its end.

    Returns:
        Delay in units of length; add `sqrt(r1² - r0²)` for the travel time itself.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import gravity
        >>> delay = gravity.shapiro(gravity.schwarzschild(), r0=10.0, r1=1000.0).value
        >>> round(float(delay + jnp.sqrt(1000.0**2 - 10.0**2)), 10)
        1012.7443251125
    """
    metric = as_metric(metric)
    profile_of(metric, params)  # raises if the metric is not static and spherical
    return run_kept(_shapiro, (bare(metric),), (metric.resolve(params), floating("r0", r0), floating("r1", r1)))


def _shapiro(metric: Metric, params: Params, r0: Array, r1: Array) -> Observable:
    profile = profile_of(metric, params)
    u0 = 1 / r0
    time, _ = _in_u(profile)
    lowered = lambda u: time(u) * u**2

    def late(v: Array) -> Array:
        r = r0 * jnp.cosh(v)
        x = _first_difference(lowered, u0, 1 / r) / (u0 + 1 / r)
        logs = jnp.log1p(-profile.time(r0)) - jnp.log1p(-x) - jnp.log1p(-profile.space(r)) - jnp.log1p(-profile.time(r))
        return r * jnp.expm1(0.5 * logs)

    margin = profile.lapse2(r0) + 0.5 * r0 * jax.grad(profile.time)(r0)
    value, converged = _along(late, jnp.arccosh(r1 / r0), margin)
    return _judged(value, converged, margin, exists=(r0 > 0) & (profile.lapse2(r0) > 0))
