"""Horizons and their temperatures, with derivatives in every parameter."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.checks import require
from jaxkit.core.status import Status
from jaxkit.dynamics.ode.reasons import without_derivative
from jaxkit.dynamics.roots.methods.bracket import bisected
from jaxkit.gravity.metrics import Metric, Params, Radial, as_metric, bare
from jaxkit.gravity.places import Observable, Search, after, and_then, equator_of, outermost, radii, refine, scan


def _radial(metric: Metric) -> Radial:
    """`g^rr` in the equatorial plane."""
    if metric.space is not None:
        return lambda r, p: 1 - metric.space(r, p)  # pyright: ignore[reportOptionalCall]
    require(metric.coordinates[1] == "r", "metric", "have a radial coordinate `r`", f"has {metric.coordinates}")

    def inverse(r: Array, p: Params) -> Array:
        x = jnp.stack([jnp.zeros_like(r), r, jnp.full_like(r, jnp.pi / 2), jnp.zeros_like(r)])
        if metric.formulas.inverse is not None:
            return jnp.asarray(metric.formulas.inverse(x, p)[1, 1])
        g = metric(x, p)
        up = jnp.linalg.inv(g)
        lost = jnp.max(jnp.diagonal(jnp.abs(up) @ jnp.abs(g))) > 1e10  # near a singularity: nothing but rounding
        return jnp.where(lost, jnp.nan, up[1, 1])

    return inverse


class _Pair(NamedTuple):
    """The horizons in closed form, where they nearly meet.

    Attributes:
        needed: Whether they do.
        exists: Whether there are any.
        outer, inner: Their radii; equal, and without a derivative, where there is one.
        two: Whether they are two.
    """

    needed: Array
    exists: Array
    outer: Array
    inner: Array
    two: Array


def _pair(metric: Metric, params: Params, search: Search) -> _Pair | None:
    """The horizons `m ± sqrt(d²)`: a root of `g^rr` loses as many digits as its slope is small. None if not known."""
    if metric.formulas.horizons is None:
        return None
    middle, square = (jnp.asarray(v, float) for v in metric.formulas.horizons(params))
    two = square > 0
    alone = square - jax.lax.stop_gradient(square)  # 0, but it depends on what its derivative is lost in
    apart = without_derivative(square <= 0, jnp.where(two, jnp.sqrt(jnp.where(two, square, 1.0)), alone))
    outer, inner = middle + apart, middle - apart
    needed = (middle > 0) & (jnp.abs(square) < 1e-3 * middle**2)
    if search is not None:  # both or none: a bracket around one of them is looked into as it is
        needed &= (jnp.asarray(search[0]) < inner) & (outer < jnp.asarray(search[1]))
    return _Pair(needed, square >= 0, outer, inner, two)


def _closed(place: Observable, needed: Array, exists: Array, value: Array) -> Observable:
    """The place, or the value of a formula where that is needed."""
    status = jnp.where(exists, int(Status.ok), int(Status.not_applicable))
    value = without_derivative(~exists, value, value_too=True)
    return Observable(jnp.where(needed, value, place.value), jnp.where(needed, status, place.status))


def horizon_edge(metric: Metric, params: Params) -> Array:
    """The event horizon, found from outside to the last digit, without a derivative; 0 if there is none."""
    fn, held = _radial(metric), jax.lax.stop_gradient(params)
    seen = scan(fn, held, radii(metric, held, None))
    low, high, exists, double, _ = outermost(seen, seen.rising())
    _, edge = bisected(lambda r: fn(r, held) < 0, low, high, halvings=60)
    found, pair = jnp.where(exists, jnp.where(double, low, edge), 0.0), _pair(metric, held, None)
    return found if pair is None else jnp.where(pair.needed, jnp.where(pair.exists, pair.outer, 0.0), found)


def horizon(metric: Metric, params: Params = None, *, search: Search = None) -> Observable:
    """The event horizon: the outermost radius at which `g^rr` rises through 0; a double (extremal) one is found too.

    At a cosmological horizon `g^rr` falls; see `horizons`.

    Args:
        metric: Any metric with a radial coordinate.
        params: Parameters instead of its own.
        search: Radii between which to look; by default wherever the metric has structure, in its own units.

    Returns:
        Its radius; status `not_applicable` if there is none. An extremal one has no derivative (NaN). Where two
        horizons nearly meet, at a distance `d`, the radius is known to `rounding / d` and an extremal one to the root
        of the rounding; to all digits if the metric has `Formulas.horizons`, as those of Kerr, Reissner and Nordstrom,
        Kerr and Newman, and Kehagias and Sfetsos have.

    Example:
        >>> import jax
        >>> from jaxkit import gravity
        >>> hole = gravity.kerr()
        >>> round(float(jax.grad(lambda a: gravity.horizon(hole, {"a": a}).value)(0.6)), 10)
        -0.75
    """
    metric = as_metric(metric)
    return run_kept(_horizon, (bare(metric),), (metric.resolve(params), search))


def _horizon(metric: Metric, params: Params, search: Search) -> Observable:
    fn = _radial(metric)
    seen = scan(fn, params, radii(metric, params, search))
    place, pair = refine(fn, params, outermost(seen, seen.rising())), _pair(metric, params, search)
    return place if pair is None else _closed(place, pair.needed, pair.exists, pair.outer)


def horizons(metric: Metric, params: Params = None, *, most: int = 3, search: Search = None) -> Observable:
    """All horizons, including cosmological ones, from the outermost inwards.

    Unused entries are NaN, with status `not_applicable`.

    Args:
        metric: Any metric with a radial coordinate.
        params: Parameters instead of its own.
        most: Number of entries to return.
        search: Radii between which to look; see `horizon`.

    Returns:
        Radii, shape `(most,)`.

    Example:
        >>> from jaxkit import gravity
        >>> found = gravity.horizons(gravity.de_sitter(M=1.0, L=0.03))  # the cosmological, then the event horizon
        >>> [round(float(r), 6) for r in found.value[:2]]
        [8.788851, 2.091488]
    """
    metric = as_metric(metric)
    return run_kept(_horizons, (bare(metric), most), (metric.resolve(params), search))


def _horizons(metric: Metric, most: int, params: Params, search: Search) -> Observable:
    fn = _radial(metric)
    seen = scan(fn, params, radii(metric, params, search))
    here = seen.rising() | (seen.falling() & ~seen.double[1:])
    index = jax.lax.top_k(jnp.where(here, jnp.arange(here.size), -1), most)[0]
    places, pair = jax.vmap(lambda i: refine(fn, params, after(seen, i, i >= 0)))(index), _pair(metric, params, search)
    if pair is None:
        return places
    row = jnp.arange(most)
    exists = pair.exists & ((row == 0) | ((row == 1) & pair.two))
    return _closed(places, pair.needed, exists, jnp.where(row == 0, pair.outer, pair.inner))


def hawking_temperature(metric: Metric, params: Params = None, *, search: Search = None) -> Observable:
    """Hawking's temperature of the event horizon, `sqrt((N²)' (g^rr)') / 4 pi` (units hbar = k = 1).

    Args:
        metric: Any stationary metric in (t, r, theta, phi); `N² = -1 / g^tt`.
        params: Parameters instead of its own.
        search: Radii between which to look for the horizon; see `horizon`.

    Returns:
        The temperature, 0 for an extremal horizon; status `not_applicable` if there is no horizon.

    Example:
        >>> from jaxkit import gravity
        >>> hot = gravity.hawking_temperature(gravity.kerr(a=0.6)).checked()  # (r+ - r-) / (4 pi (r+² + a²))
        >>> round(float(hot.value), 10)
        0.0353677651
    """
    metric = as_metric(metric)
    return run_kept(_temperature, (bare(metric),), (metric.resolve(params), search))


def _temperature(metric: Metric, params: Params, search: Search) -> Observable:
    place = _horizon(metric, params, search)
    product = jax.grad(_lapse_squared(metric))(place.value, params) * jax.grad(_radial(metric))(place.value, params)
    extremal = jnp.abs(product * place.value**2) <= 1e-30
    cold = place.value - jax.lax.stop_gradient(place.value)  # 0, without a derivative, as a double root
    return and_then(place, jnp.where(extremal, cold, jnp.sqrt(jnp.where(extremal, 1.0, product)) / (4 * jnp.pi)))


def _lapse_squared(metric: Metric) -> Radial:
    """`-1 / g^tt` in the equatorial plane."""
    if metric.time is not None:
        return lambda r, p: 1 - metric.time(r, p)  # pyright: ignore[reportOptionalCall]
    equator = equator_of(metric, retrograde=False)

    def squared(r: Array, p: Params) -> Array:
        tt, tphi, phiphi = equator.entries(r, p)
        return tphi**2 / phiphi - tt

    return squared
