"""Horizons and their temperatures, with derivatives in every parameter."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.checks import require
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
        if metric.inverse is not None:
            return jnp.asarray(metric.inverse(x, p)[1, 1])
        g = metric(x, p)
        up = jnp.linalg.inv(g)
        lost = jnp.max(jnp.diagonal(jnp.abs(up) @ jnp.abs(g))) > 1e10  # near a singularity: nothing but rounding
        return jnp.where(lost, jnp.nan, up[1, 1])

    return inverse


def horizon_edge(metric: Metric, params: Params) -> Array:
    """The event horizon, found from outside to the last digit, without a derivative; 0 if there is none."""
    fn, held = _radial(metric), jax.lax.stop_gradient(params)
    seen = scan(fn, held, radii(metric, held, None))
    low, high, exists, double, _ = outermost(seen, seen.rising())
    _, edge = bisected(lambda r: fn(r, held) < 0, low, high, halvings=60)
    return jnp.where(exists, jnp.where(double, low, edge), 0.0)


def horizon(metric: Metric, params: Params = None, *, search: Search = None) -> Observable:
    """The event horizon: the outermost radius at which `g^rr` rises through 0; a double (extremal) one is found too.

    At a cosmological horizon `g^rr` falls; see `horizons`.

    Args:
        metric: Any metric with a radial coordinate.
        params: Parameters instead of its own.
        search: Radii between which to look; by default wherever the metric has structure, in its own units.

    Returns:
        Its radius; status `not_applicable` if there is none. An extremal one has no derivative (NaN).

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
    return refine(fn, params, outermost(seen, seen.rising()))


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
    return jax.vmap(lambda i: refine(fn, params, after(seen, i, i >= 0)))(index)


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
