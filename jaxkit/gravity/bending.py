"""The classical tests as integrals over whole orbits: deflection, precession, delay.

With `u = 1/r` and the deficits `a = 1 - N²`, `b = 1 - f`, each integrand is 1 plus something small, which is what is
computed: a divided difference of `a u²` and the like, taken as an integral of derivatives; `expm1` and `log1p` do
the rest.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from jaxkit.core.checks import floating, require
from jaxkit.core.status import Status
from jaxkit.gravity.metrics import Metric, Params, as_metric
from jaxkit.gravity.places import Observable, Profile, outermost, profile_of, radii, refine, scan

_INNER = 20  # nodes of a divided difference
_OUTER = 96  # nodes of an orbit


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
        r0: Least distance of the ray (this or `b`).
        b: Impact parameter.

    Returns:
        Angle in radians; status `not_applicable` for a ray that does not come back.

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
    profile = profile_of(metric, params)
    require((r0 is None) != (b is None), "r0", "be given, or `b`, not both", "that is not so")
    if r0 is None:
        impact = floating("b", b)  # pyright: ignore[reportArgumentType]
        condition = lambda r, p: r**2 / p[1] ** 2 - (1 - metric.time(r, p[0]))  # pyright: ignore[reportOptionalCall]
        given = (metric.resolve(params), impact)
        seen = scan(condition, given, radii(metric, given[0], (1e-3 * impact, 3 * impact)))
        place = refine(condition, given, outermost(seen, seen.rising()))
        nearest, status = place.value, place.status
    else:
        nearest = floating("r0", r0)
        status = jnp.where(profile.lapse2(nearest) > 0, int(Status.ok), int(Status.not_applicable))

    u0 = 1 / nearest
    time, _ = _in_u(profile)
    lowered = lambda u: time(u) * u**2
    angle, weight = _gauss(_OUTER)

    def bent(t: Array) -> Array:
        # Nodes gather at the far end (t = 1 is the nearest point): powers of r other than 1/r stay harmless there.
        u = u0 * jnp.sin(0.5 * jnp.pi * t)
        x = _first_difference(lowered, u0, u) / (u0 + u)
        return jnp.expm1(-0.5 * (_log_ratio(profile, 1 / u) + jnp.log1p(-x)))

    value = jnp.pi * jnp.sum(weight * jax.vmap(bent)(angle))
    returns = (status == 0) & (2 * profile.lapse2(nearest) + nearest * jax.grad(profile.time)(nearest) > 0)
    fine = returns & jnp.isfinite(value)
    status = jnp.where((status == 0) & ~fine, int(Status.not_applicable), status)
    return Observable(jnp.where(fine, value, jnp.nan), status)


def precession(metric: Metric, params: Params = None, *, p: ArrayLike, e: ArrayLike) -> Observable:
    """The advance of the pericentre per turn of a bound orbit, `2 pi` less than the angle between two pericentres.

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
    profile = profile_of(metric, params)
    p, e = floating("p", p), floating("e", e)
    u1, u2 = (1 - e) / p, (1 + e) / p
    time, _ = _in_u(profile)
    # E² = N² (1 + L² u²) at both ends gives L²; with N² = 1 - a it is a[u1,u2] / ((u² - a u²)[u1,u2]).
    weighted = lambda u: time(u) * u**2
    momentum2 = _first_difference(time, u1, u2) / ((u1 + u2) - _first_difference(weighted, u1, u2))
    lowered = lambda u: time(u) * (u**2 + 1 / momentum2)
    turn, weight = _gauss(_OUTER)

    def ahead(t: Array) -> Array:
        u = (1 + e * jnp.cos(jnp.pi * t)) / p
        x = _second_difference(lowered, u1, u2, u)
        return jnp.expm1(-0.5 * (_log_ratio(profile, 1 / u) + jnp.log1p(-x)))

    value = 2 * jnp.pi * jnp.sum(weight * jax.vmap(ahead)(turn))
    energy2 = profile.lapse2(1 / u1) * (1 + momentum2 * u1**2)
    fine = jnp.isfinite(value) & (momentum2 > 0) & (energy2 > 0)
    return Observable(jnp.where(fine, value, jnp.nan), jnp.where(fine, int(Status.ok), int(Status.not_applicable)))


def shapiro(metric: Metric, params: Params = None, *, r0: ArrayLike, r1: ArrayLike) -> Observable:
    """How much longer light takes from its nearest point `r0` to `r1` than in flat space: Shapiro's delay, one leg.

    Args:
        metric: A static metric.
        params: Parameters instead of its own.
        r0: Least distance of the ray.
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
    profile = profile_of(metric, params)
    r0, r1 = floating("r0", r0), floating("r1", r1)
    u0, (node, weight) = 1 / r0, _gauss(_OUTER)
    time, _ = _in_u(profile)
    lowered = lambda u: time(u) * u**2
    far = jnp.arccosh(r1 / r0)

    def late(t: Array) -> Array:
        v = far * t
        r = r0 * jnp.cosh(v)
        x = _first_difference(lowered, u0, 1 / r) / (u0 + 1 / r)
        logs = jnp.log1p(-profile.time(r0)) - jnp.log1p(-x) - jnp.log1p(-profile.space(r)) - jnp.log1p(-profile.time(r))
        return r * jnp.expm1(0.5 * logs)

    value = far * jnp.sum(weight * jax.vmap(late)(node))
    fine = jnp.isfinite(value) & (profile.lapse2(r0) > 0)
    return Observable(jnp.where(fine, value, jnp.nan), jnp.where(fine, int(Status.ok), int(Status.not_applicable)))
