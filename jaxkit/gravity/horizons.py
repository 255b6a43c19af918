"""Horizons and their temperature, with derivatives in every parameter."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from jaxkit.core.checks import require
from jaxkit.core.status import Status
from jaxkit.gravity.metrics import Metric, Params, Radial, as_metric
from jaxkit.gravity.places import SEARCH, Observable, and_then, crossings, equator_of, outermost, refine


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
    simple = outermost(fn, p, search)
    touching = outermost(jax.grad(fn), p, search)
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
    found = crossings(fn, p, search)
    index = jax.lax.top_k(jnp.where(found.mask, jnp.arange(found.mask.size), -1), most)[0]
    radius = lambda i: refine(fn, p, found.r[i], found.r[i + 1], exists=i >= 0)
    return jax.vmap(radius)(index)


def hawking_temperature(
    metric: Metric, params: Params = None, *, search: tuple[ArrayLike, ArrayLike] = SEARCH
) -> Observable:
    """Hawking's temperature of the outermost horizon, `sqrt((N²)' (g^rr)') / 4 pi` (units hbar = k = 1).

    Args:
        metric: Any stationary metric in (t, r, theta, phi); `N² = -1 / g^tt`.
        params: Parameters instead of its own.
        search: Radii between which to look for the horizon.

    Returns:
        The temperature; 0 of an extremal horizon; status `not_applicable` where there is none.

    Example:
        >>> from jaxkit import gravity
        >>> hot = gravity.hawking_temperature(gravity.kerr(a=0.6)).checked()  # (r+ - r-) / (4 pi (r+² + a²))
        >>> round(float(hot.value), 10)
        0.0353677651
    """
    metric = as_metric(metric)
    p, place = metric.resolve(params), horizon(metric, params, search=search)
    product = jax.grad(_lapse_squared(metric))(place.value, p) * jax.grad(_radial(metric))(place.value, p)
    extremal = product <= 1e-24
    return and_then(place, jnp.where(extremal, 0.0, jnp.sqrt(jnp.where(extremal, 1.0, product))) / (4 * jnp.pi))


def _lapse_squared(metric: Metric) -> Radial:
    """`-1 / g^tt` in the equatorial plane."""
    if metric.time is not None:
        return lambda r, p: 1 - metric.time(r, p)  # pyright: ignore[reportOptionalCall]
    equator = equator_of(metric, retrograde=False)

    def squared(r: Array, p: Params) -> Array:
        tt, tphi, phiphi = equator.entries(r, p)
        return tphi**2 / phiphi - tt

    return squared
