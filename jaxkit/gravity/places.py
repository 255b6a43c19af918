"""Radii of horizons and orbits: roots along the radius, with implicit derivatives.

One rule serves all of them. A radial function's signs and extrema are examined on a logarithmic grid in units of the
metric's own length, so that two close roots, or a double one, are seen; the *direction* of a sign change says what it
is (`g^rr` rises through 0 at an event horizon and falls at a cosmological one); `root` refines it in its bracket and
gives its derivative.

Static metrics enter through their *deficits* `1 - N²` and `1 - f`, which keep their digits in weak fields.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.checks import is_traced, require
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.ode.reasons import without_derivative
from jaxkit.dynamics.roots.methods.bracket import bisected
from jaxkit.dynamics.roots.root import root
from jaxkit.gravity.metrics import Metric, Params, Radial, bare

Search = tuple[ArrayLike, ArrayLike] | None  # radii between which to look; None: wherever the metric has structure

_POINTS = 1500  # points of a grid between given radii


def _offsets() -> Array:
    """Radii in units of the metric's length: 150 per decade near a black hole's orbits, 12 elsewhere."""
    k = jnp.arange(16 * 12 + 7 * 150 + 17 * 12, dtype=float)  # not constants, which would be slow to compile
    left, near = k - 17 * 12, k - (17 * 12 + 7 * 150)
    decade = jnp.where(left < 0, left / 12, jnp.where(near < 0, left / 150, 7 + near / 12))
    return jnp.power(10.0, decade - 3)


@struct
class Observable(Outcome):
    """A number computed from a metric.

    Attributes:
        value: The number; NaN if there is none.
        status: `Status` code; `not_applicable` if there is no such horizon, orbit or ray.
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


def spherical(metric: Metric) -> Metric:
    """The metric with its profile, which is taken from the equator of its matrix if it was not given."""
    if metric.is_static:
        return metric
    entries = metric.entries
    entry = lambda i, r, p: jnp.asarray(entries(_place(r, 0.0), p).get((i, i), 0.0), r.dtype)
    return dataclasses.replace(metric, time=lambda r, p: 1 + entry(0, r, p), space=lambda r, p: 1 - 1 / entry(1, r, p))


def profile_of(metric: Metric, params: Params) -> Profile:
    """The profile of a static metric with its parameters inserted.

    Raises:
        ValueError: The metric is not static and spherical with `r` as its areal radius. Inside a trace, the profile is
            NaN instead.
    """
    p, own = metric.resolve(params), spherical(metric)
    time, space = (lambda r, fn=fn: fn(r, p) for fn in (own.time, own.space))  # pyright: ignore[reportOptionalCall]
    if metric.is_static:
        return Profile(time, space)
    must = "be static and spherical, `diag(g_tt(r), g_rr(r), r², r² sin²(theta))` in (t, r, theta, phi)"
    require(metric.coordinates == ("t", "r", "theta", "phi"), "metric", must, f"has coordinates {metric.coordinates}")
    fits = run_kept(_is_spherical, (bare(metric),), (p,))
    if not is_traced(fits):
        require(bool(fits), "metric", must, f"is not ({metric.name})")
    known = lambda value: jnp.where(fits, value, jnp.nan)
    return Profile(lambda r: known(time(r)), lambda r: known(space(r)))


def _place(r: Array, shift: float) -> Array:
    """A point at a radius: on the equator, or shifted in time, latitude and longitude."""
    zero = jnp.zeros_like(r)
    return jnp.stack([zero + shift, r, zero + jnp.pi / 2 + 0.6 * shift, zero + 2 * shift])


def _is_spherical(metric: Metric, params: Params) -> Bool[Array, ""]:
    """Whether the matrix is that of a static spherical metric, at a few radii and places."""
    held = jax.lax.stop_gradient(params)

    def fits(r: Array) -> Array:
        equator = metric(_place(r, 0.0), held)
        good = jnp.ones((), bool)
        for shift in (0.0, 1.0, -0.7):
            sphere = r**2 * jnp.stack([jnp.ones_like(r), jnp.cos(jnp.asarray(0.6 * shift, r.dtype)) ** 2])
            wanted = jnp.concatenate([jnp.diagonal(equator)[:2], sphere])
            size = jnp.sqrt(jnp.abs(wanted[:, None] * wanted[None, :]))
            good &= jnp.all(jnp.abs(metric(_place(r, shift), held) - jnp.diag(wanted)) <= 1e-9 * size)
        return good | ~jnp.all(jnp.isfinite(equator))

    return jnp.all(jax.vmap(fits)(own_length(metric, held) * jnp.asarray([2.0, 5.0, 30.0])))


def minus_g_tt(metric: Metric) -> Radial:
    """`-g_tt` in the equatorial plane."""
    if metric.time is not None:
        return lambda r, p: 1 - metric.time(r, p)  # pyright: ignore[reportOptionalCall]
    at = lambda r: jnp.stack([jnp.zeros_like(r), r, jnp.full_like(r, jnp.pi / 2), jnp.zeros_like(r)])
    return lambda r, p: -jnp.asarray(metric.entries(at(r), p).get((0, 0), 0.0), r.dtype)


def own_length(metric: Metric, params: Params) -> Array:
    """The metric's unit of length: where `|d log g_tt / d log r|` falls below 1/2 outwards; 6 M for Schwarzschild.

    If it never falls, the least radius where it rises above 1/2 (a cosmological one); 1 in a space without structure.
    """
    r = 10.0 ** (jnp.arange(641, dtype=float) / 8 - 40)
    held, lapse2 = jax.lax.stop_gradient(params), minus_g_tt(metric)
    size = jnp.log(jnp.abs(jax.vmap(lambda r: lapse2(r, held))(r)))
    strong = jnp.abs(jnp.diff(size)) >= 0.5 * math.log(10) / 8
    known = jnp.isfinite(size[1:]) & jnp.isfinite(size[:-1])
    both = known[1:] & known[:-1]
    falls, rises = strong[:-1] & ~strong[1:] & both, ~strong[:-1] & strong[1:] & both
    last = r.size - 2 - jnp.argmax(falls[::-1])
    return jnp.where(jnp.any(falls), r[last], jnp.where(jnp.any(rises), r[1 + jnp.argmax(rises)], 1.0))


def radii(metric: Metric, params: Params, search: Search, start: ArrayLike = 0.0) -> Float[Array, " n"]:
    """The grid: between the radii of `search`, or outwards from `start` in units of the metric's own length."""
    if search is None:
        return jnp.asarray(start) + own_length(metric, params) * _offsets()
    lo, hi = (jnp.log(jnp.asarray(v, float)) for v in jax.lax.stop_gradient(search))
    return jnp.exp(lo + (hi - lo) * jnp.linspace(0.0, 1.0, _POINTS))


class Scan(NamedTuple):
    """A radial function on a grid of radii, one of which is moved to the extremum nearest to 0.

    Attributes:
        r: Radii.
        value: Values there; a double root counts as negative, so that the function rises out of it.
        double: Where the function touches 0 from above.
    """

    r: Float[Array, " n"]
    value: Float[Array, " n"]
    double: Bool[Array, " n"]

    def rising(self) -> Bool[Array, " m"]:
        """After which points the function goes from negative to positive."""
        return (self.value[:-1] < 0) & (self.value[1:] >= 0) & ~self._poles()

    def falling(self) -> Bool[Array, " m"]:
        """After which points the function goes from positive to negative."""
        return (self.value[:-1] >= 0) & (self.value[1:] < 0) & ~self._poles()

    def _poles(self) -> Bool[Array, " m"]:
        """Where the function grows from both sides."""
        size = jnp.abs(self.value)
        padded = jnp.concatenate([size[:1], size, size[-1:]])
        return (size[:-1] > padded[:-3]) & (size[1:] > padded[3:])

    def clear(self, terms: Float[Array, " n"]) -> Bool[Array, " m"]:
        """Between which points the function exceeds the rounding errors of terms of this size."""
        seen = jnp.abs(self.value) > 1e-10 * terms
        return (seen[:-1] | seen[1:]) | self.double[:-1]


def sample(fn: Radial, params: Params, r: Float[Array, " n"]) -> Scan:
    """Values of `fn` on a grid, without looking between its points."""
    held = jax.lax.stop_gradient(params)
    return Scan(r, jax.vmap(lambda r: fn(r, held))(r), jnp.zeros(r.shape, bool))


def scan(fn: Radial, params: Params, r: Float[Array, " n"]) -> Scan:
    """Values of `fn` on a grid; two roots, or a double one, between two of its points are seen at the extremum there.

    Of the extrema towards 0 that lie between two points of one sign, the one with the least values is examined.
    """
    held = jax.lax.stop_gradient(params)
    value = lambda r: fn(r, held)
    v, slope = jax.vmap(jax.value_and_grad(value))(r)
    dips = (slope[:-1] < 0) & (slope[1:] >= 0) & (v[:-1] >= 0) & (v[1:] >= 0)
    tops = (slope[:-1] > 0) & (slope[1:] <= 0) & (v[:-1] < 0) & (v[1:] < 0)
    size = jnp.where(dips | tops, jnp.abs(v[1:]) + jnp.abs(v[:-1]), jnp.inf)
    i, exists = jnp.argmin(size), jnp.any(dips | tops)
    at, _ = bisected(lambda r: jnp.sign(jax.grad(value)(r)) == jnp.sign(slope[i]), r[i], r[i + 1], halvings=60)
    here = value(at)
    touches = exists & dips[i] & (jnp.abs(here) <= 8 * jnp.finfo(here.dtype).eps)
    # It replaces the upper point, or the lower one if the sign changes right behind the upper.
    behind = jnp.sign(v[jnp.minimum(i + 2, r.size - 1)]) == jnp.sign(v[i + 1])
    place = exists & (jnp.arange(r.size) == jnp.where(behind, i + 1, i))
    here = jnp.where(touches, -jnp.finfo(here.dtype).tiny, here)
    return Scan(jnp.where(place, at, r), jnp.where(place, here, v), place & touches)


class Found(NamedTuple):
    """The bracket of a root.

    Attributes:
        low, high: Its ends.
        exists: Whether there is one.
        double: Whether the root is double, and lies at `low`.
        known: Whether the function has any finite value at all.
    """

    low: Array
    high: Array
    exists: Array
    double: Array
    known: Array


def after(scanned: Scan, index: Array, exists: Array) -> Found:
    """The bracket that begins at a point of the grid."""
    at = jnp.where(exists, index, 0)
    known = jnp.any(jnp.isfinite(scanned.value))
    return Found(scanned.r[at], scanned.r[at + 1], exists, exists & scanned.double[at], known)


def last(mask: Bool[Array, " m"]) -> Array:
    """The index of the last marked entry; -1 if there is none."""
    return jnp.where(jnp.any(mask), mask.size - 1 - jnp.argmax(mask[::-1]), -1)


def outermost(scanned: Scan, mask: Bool[Array, " m"]) -> Found:
    """The last of the marked brackets."""
    index = last(mask)
    return after(scanned, index, index >= 0)


def innermost(scanned: Scan, mask: Bool[Array, " m"]) -> Found:
    """The first of the marked brackets."""
    return after(scanned, jnp.argmax(mask), jnp.any(mask))


def refine(fn: Radial, params: Params, found: Found) -> Observable:
    """The root in a bracket with its implicit derivative; a double root has none (NaN)."""
    held, (low, high, exists, double, known) = jax.lax.stop_gradient(params), jax.lax.stop_gradient(found)
    simple = exists & ~double
    low_, start = jnp.where(simple, low, high), jnp.where(simple, 0.5 * (low + high), high)
    # The unknown and the residual are scaled to 1, so that tolerances mean the same in any units.
    size = jnp.maximum(jnp.abs(fn(low_, held)), jnp.abs(fn(high, held)))
    scale = jax.lax.stop_gradient(1 / jnp.where(size > 0, size, 1.0))
    scaled = lambda z, args: fn(z * args[1], args[0]) * args[2]
    ends = (low_ / start, high / start)
    args = (params, start, scale)
    reached = root(scaled, bracket=ends, args=args, method="chandrupatla", rtol=1e-13, atol=1e-15, max_steps=200)
    touching = fn(low, params)
    value = jnp.where(double, low + (touching - jax.lax.stop_gradient(touching)), reached.value * start)
    value = without_derivative(double, value)
    absent = jnp.where(known, int(Status.not_applicable), int(Status.not_finite))
    # Rounding may point a last tiny step out of the bracket; what counts is how far the residual can shift the root.
    close = (reached.residual <= 1e-3) & (reached.residual * (high - low_) <= 1e-10 * start)
    there = jnp.where(close, int(Status.ok), jnp.where(reached.status == 0, int(Status.not_continuous), reached.status))
    status = jnp.where(double, int(Status.ok), jnp.where(exists, there, absent))
    return Observable(jnp.where(status == int(Status.ok), value, jnp.nan), status)


def and_then(place: Observable, value: Array) -> Observable:
    """A number computed at a place: it exists if the place does and it is finite."""
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
