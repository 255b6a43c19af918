"""Shadows: the critical curve of Kerr in closed form, and images of any metric with a thin disk."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.checks import require
from jaxkit.core.status import Outcome, Status, worst
from jaxkit.core.struct import struct
from jaxkit.dynamics.roots.root import root
from jaxkit.gravity.geodesic import Rays, Stop, camera, trace
from jaxkit.gravity.horizons import horizon
from jaxkit.gravity.metrics import Metric, Params, as_metric, bare
from jaxkit.gravity.observables import isco, photon_sphere
from jaxkit.gravity.places import own_length


class CriticalCurve(NamedTuple):
    """The edge of a shadow on the screen, in impact parameters.

    Attributes:
        alpha: Horizontal coordinates, shape `(n,)`.
        beta: Vertical coordinates of the upper half, shape `(n,)`; the lower half mirrors it.
        area: Area of the whole shadow.
        ends: Least and largest `alpha`.
        status: `Status` code; `not_applicable` if there is no regular horizon, `|a| >= 1`.
    """

    alpha: Array
    beta: Array
    area: Array
    ends: tuple[Array, Array]
    status: Array


def critical_curve_kerr(a: ArrayLike, inclination: ArrayLike = 90.0, *, points: int = 400) -> CriticalCurve:
    """The shadow of Kerr (M = 1) for a distant observer, from the spherical photon orbits.

    Args:
        a: Rotation, `-1 < a < 1`.
        inclination: Angle of the observer from the axis, in degrees.
        points: Number of points on the half curve; the area converges exponentially in it.

    Returns:
        A `CriticalCurve`, differentiable in `a` and `inclination`; it is a circle for `a = 0` and on the axis.

    Example:
        >>> from jaxkit import gravity
        >>> curve = gravity.critical_curve_kerr(0.9)
        >>> round(float(curve.ends[1]), 9), round(float(curve.area), 6)
        (6.83231923, 79.587126)

    References:
        Bardeen, Black Holes (Les Houches 1972); Teo, Gen. Rel. Grav. 35, 1909 (2003).
    """
    return run_kept(_critical_curve, (points,), (jnp.asarray(a, float), jnp.asarray(inclination, float)))


def _critical_curve(points: int, a: Array, inclination: Array) -> CriticalCurve:
    theta = jnp.deg2rad(inclination)
    inside = jnp.abs(a) < 1
    spin, sin, cos2 = jnp.where(inside, jnp.abs(a), 0.5), jnp.sin(theta), jnp.cos(theta) ** 2
    shell = (spin, sin, cos2)
    # From the polar orbit (s = 0), which every observer sees, to the ends of what this one sees.
    polar = _polar_orbit(spin)
    reach = jnp.asarray(3.0)
    wide = spin * sin * reach > polar - 1
    least = -jnp.where(wide, (polar - 1) / jnp.where(wide, spin * sin, 1.0), reach)  # where r = 1
    origin = jnp.zeros(())
    height: Callable[[Array, Any], Array] = lambda s, shell: _seen(s, shell)[2]
    precise = {"method": "chandrupatla", "rtol": 1e-14, "atol": 1e-15}
    low = root(height, bracket=(jax.lax.stop_gradient(least), origin), args=shell, **precise)
    high = root(height, bracket=(origin, reach), args=shell, **precise)
    near, far = low.value, high.value
    t = (jnp.arange(points, dtype=float) + 0.5) / points * jnp.pi
    s = 0.5 * (near + far) - 0.5 * (far - near) * jnp.cos(t)
    side = jnp.where(a < 0, -1.0, 1.0)
    across = lambda s: side * _seen(s, shell)[0]
    beta = jnp.sqrt(jnp.maximum(_seen(s, shell)[1], 0.0))
    slope = jax.vmap(jax.grad(across))(s) * 0.5 * (far - near) * jnp.sin(t)
    area = 2 * jnp.pi / points * jnp.abs(jnp.sum(beta * slope))
    # Judged by the residual, whose slope in s is about 10: rounding may point a last tiny step out of the bracket.
    found = [jnp.where(end.residual <= 1e-10, int(Status.ok), int(Status.no_progress)) for end in (low, high)]
    status = worst(jnp.where(inside, int(Status.ok), int(Status.not_applicable)), *found)
    known = lambda v: jnp.where(status == int(Status.ok), v, jnp.nan)
    left, right = across(near), across(far)
    ends = (known(jnp.minimum(left, right)), known(jnp.maximum(left, right)))
    return CriticalCurve(known(across(s)), known(beta), known(area), ends, status)


def _polar_orbit(a: Array) -> Array:
    """The radius of the photon orbit through both poles, `r³ - 3 r² + a² r + a² = 0`."""
    wide = 1 - a**2 / 3
    return 1 + 2 * jnp.sqrt(wide) * jnp.cos(jnp.arccos((1 - a**2) / wide**1.5) / 3)


def _seen(s: Array, shell: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    """`alpha`, `beta²` and `beta² (r - 1)²` of the spherical photon orbit at `r = polar + a sin(theta) s`.

    In terms of `s`, nothing is divided by `a` or `sin(theta)`: with `r - 3 = a k` and
    `k = sin(theta) s - a (polar + 1) / polar²`, Carter's constant is `r³ (4 - r k²) / (r - 1)²`.
    """
    a, sin, cos2 = shell
    polar = _polar_orbit(a)
    move = a * sin * s
    r = polar + move
    k = sin * s - a * (polar + 1) / polar**2
    cubic = s * (3 * polar**2 - 6 * polar + a**2 + (3 * polar - 3) * move + move**2)  # its value over a sin(theta)
    height2 = r**3 * (4 - r * k**2) + cos2 * (a**2 * (r - 1) ** 2 - cubic**2)
    return cubic / (r - 1), height2 / (r - 1) ** 2, height2


class Disk(NamedTuple):
    """A thin equatorial disk of matter on circular orbits, whose emission falls as a power of the radius.

    Attributes:
        inner: Inner edge; the ISCO by default.
        outer: Outer edge.
        power: The emission in the frame of the matter is `(inner / r)**power`.
    """

    inner: float | None = None
    outer: float = 18.0
    power: float = 3.0


_DISK = Disk()


@struct
class Image(Outcome):
    """A picture.

    Attributes:
        intensity: Observed bolometric intensity, including the fourth power of the redshift factor, shape `(n, n)`.
        redshift: `E_observed / E_emitted` where the disk is seen, NaN elsewhere, shape `(n, n)`.
        captured: Whether each ray ends in the black hole, shape `(n, n)`.
        drift: How far `H` drifted, ray by ray.
        status: `Status` code, ray by ray.
        extent: Half the width of the screen.
    """

    verb: ClassVar[str] = "image"

    intensity: Float[Array, "n n"]
    redshift: Float[Array, "n n"]
    captured: Bool[Array, "n n"]
    drift: Float[Array, "n n"]
    status: Array
    extent: Array


def _equatorial(x: Any, params: Params) -> Array:
    return jnp.cos(x[2])


def image(
    metric: Metric,
    params: Params = None,
    *,
    inclination: float = 80.0,
    extent: float = 12.0,
    pixels: int = 64,
    distance: float = 100.0,
    disk: Disk | None = _DISK,
    passes: int = 2,
) -> Image:
    """A picture of a black hole, with a thin opaque disk or without: each pixel is one ray traced back.

    Args:
        metric: A stationary metric in (t, r, theta, phi).
        params: Parameters instead of its own.
        inclination: Angle of the observer from the axis, in degrees.
        extent: Half the width of the screen, as an impact parameter.
        pixels: Number of pixels in a row.
        distance: Radius of the observer.
        disk: The disk; None leaves only the shadow.
        passes: How often a ray may cross the equatorial plane off the disk before it counts as captured.

    Returns:
        An `Image`.

    Raises:
        ValueError: The metric has other coordinates.

    References:
        Luminet, A&A 75, 228 (1979).
    """
    metric = as_metric(metric)
    coordinates = metric.coordinates
    require(
        coordinates == ("t", "r", "theta", "phi"), "metric", "have coordinates (t, r, theta, phi)", f"has {coordinates}"
    )
    x, p = camera(metric, params, distance=distance, inclination=inclination, extent=extent, pixels=pixels)
    edge = _stop(metric, params)
    go = {"rtol": 1e-7, "atol": 1e-9, "max_steps": 2000}
    stop = Stop(inner=edge, outer=1.05 * distance, event=_equatorial_never if disk is None else _equatorial)
    if disk is None:
        rays = trace(metric, x, p, -4.0 * distance, params, stop=stop, **go)
        return _picture(rays, jnp.full(x.shape[0], jnp.nan), jnp.zeros(x.shape[0]), pixels, extent)
    inner = float(isco(metric, params).value) if disk.inner is None else disk.inner
    seen, struck = jnp.full(x.shape[0], jnp.nan), jnp.full(x.shape[0], jnp.inf)
    count = x.shape[0]
    drift, status, ended, steps = jnp.zeros(count), *(jnp.zeros(count, jnp.int32) for _ in range(3))
    on = jnp.ones(count, bool)
    for _ in range(passes + 1):  # a ray that has ended is not moved: inside the horizon it would run out of steps
        spans = jnp.stack([jnp.zeros(count), jnp.where(on, -4.0 * distance, 0.0)], -1)
        rays = trace(metric, x, p, spans, params, stop=stop, **go)
        r = rays.x[:, 1]
        hit = on & (rays.ended == 3) & (r >= inner) & (r <= disk.outer)
        seen = jnp.where(hit, redshift(metric, rays.x, rays.p, params), seen)
        struck = jnp.where(hit, r, struck)
        drift, status = jnp.where(on, jnp.maximum(drift, rays.drift), drift), jnp.where(on, rays.status, status)
        ended, steps = jnp.where(on, rays.ended, ended), steps + jnp.where(on, rays.steps, 0)
        x, p = jnp.where(on[:, None], rays.x, x), jnp.where(on[:, None], rays.p, p)
        on = on & (ended == 3) & ~hit & (status == int(Status.ok))
        x = jnp.where(on[:, None], _nudge(x, p), x)
    glow = jnp.where(jnp.isfinite(seen), seen**4 * (inner / struck) ** disk.power, 0.0)
    found = Rays(x, p, jnp.zeros(count), ended, drift, status, steps)
    return _picture(found, seen, glow, pixels, extent)


def _equatorial_never(x: Any, params: Params) -> Array:
    return jnp.ones_like(x[1])


def _nudge(x: Array, p: Array) -> Array:
    """Move slightly past the equatorial plane, along the motion back in time, so that it is not crossed again."""
    return x.at[:, 2].set(jnp.pi / 2 - 1e-7 * jnp.where(p[:, 2] < 0, -1.0, 1.0))


def _stop(metric: Metric, params: Params) -> ArrayLike:
    """A radius from which no light returns: near the horizon, or well inside a naked singularity's photon sphere."""
    place = horizon(metric, params)
    if int(place.status) == int(Status.ok):
        return 1.01 * place.value
    light = photon_sphere(metric, params)
    return jnp.where(
        light.status == int(Status.ok), 0.05 * light.value, 1e-3 * own_length(metric, metric.resolve(params))
    )


def redshift(metric: Metric, x: Float[Array, "n 4"], p: Float[Array, "n 4"], params: Params = None) -> Array:
    """`E_observed / E_emitted` of light from matter on circular orbits in the equatorial plane."""
    return run_kept(_redshift, (bare(metric),), (metric.resolve(params), x, p))


def _redshift(metric: Metric, params: Params, x: Array, p: Array) -> Array:
    def entries(r: Array) -> Array:
        g = metric.entries(jnp.stack([jnp.zeros_like(r), r, jnp.full_like(r, jnp.pi / 2), jnp.zeros_like(r)]), params)
        return jnp.stack([jnp.asarray(g.get(key, 0.0), r.dtype) for key in ((0, 0), (0, 3), (3, 3))])

    def one(x: Array, p: Array) -> Array:
        r = x[1]
        g, d = entries(r), jax.jacfwd(entries)(r)
        rate = (-d[1] + jnp.sqrt(d[1] ** 2 - d[0] * d[2])) / d[2]
        proper = jnp.sqrt(-(g[0] + 2 * g[1] * rate + g[2] * rate**2))
        return proper / (1 + rate * p[3] / p[0])

    return jax.vmap(one)(x, p)


def _picture(rays: Rays, seen: Array, glow: Array, pixels: int, extent: float) -> Image:
    square = lambda v: v.reshape(pixels, pixels)
    captured = (rays.ended != 2) & ~jnp.isfinite(seen)
    return Image(
        square(glow), square(seen), square(captured), square(rays.drift), square(rays.status), jnp.asarray(extent)
    )
