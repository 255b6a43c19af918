"""Figures of gravity: metric functions, potentials, orbits, bounce, shadow, bounds."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkit.gravity import cosmology
from jaxkit.gravity.fit import Bound
from jaxkit.gravity.metrics import Metric, Params
from jaxkit.gravity.shadow import Image
from jaxkit.report.figures import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _value(profile: Any, r: Any, metric: Metric) -> Any:
    return profile(r, metric.params)


def plot_profiles(
    metrics: Mapping[str, Metric], *, radii: tuple[float, float] = (0.3, 10.0), axes: "Axes | None" = None
) -> "Axes":
    """`f(r)` of static metrics; horizons are its zeros."""
    r = jnp.linspace(*radii, 600)
    with axes_or_new(axes) as axes:
        for label, metric in metrics.items():
            axes.plot(r, 1 - jax.vmap(lambda r, m=metric: _value(m.space, r, m))(r), label=label)
        axes.axhline(0, color="0.5", lw=0.8)
        axes.set(xlabel="r / M (Lu-Mei-Pope: in units of its own length)", ylabel="f(r)", ylim=(-1.5, 2.5))
        axes.legend()
    return axes


def plot_potentials(metrics: Mapping[str, Metric], *, momentum: float = 3.9, axes: "Axes | None" = None) -> "Axes":
    """Effective potentials of massive particles, `N² (1 + L²/r²)`."""
    r = jnp.linspace(2.02, 30.0, 600)
    with axes_or_new(axes) as axes:
        for label, metric in metrics.items():
            lapse2 = 1 - jax.vmap(lambda r, m=metric: _value(m.time, r, m))(r)
            axes.plot(r, lapse2 * (1 + momentum**2 / r**2), label=label)
        axes.set(xlabel="r / M", ylabel=f"N² (1 + L²/r²),  L = {momentum:g} M", ylim=(0.8, 1.25))
        axes.legend()
    return axes


def orbit(metric: Metric, params: Params, p: float, e: float, turns: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Radius and angle along a bound orbit with the turning points `p / (1 ± e)`, by quadrature in the anomaly."""
    given = metric.resolve(params)
    u1, u2 = (1 - e) / p, (1 + e) / p
    lapse2 = lambda u: 1 - metric.time(1 / u, given)  # pyright: ignore[reportOptionalCall]
    f = lambda u: 1 - metric.space(1 / u, given)  # pyright: ignore[reportOptionalCall]
    n1, n2 = lapse2(u1), lapse2(u2)
    momentum2 = (n2 - n1) / (n1 * u1**2 - n2 * u2**2)
    chi = jnp.linspace(0, 2 * np.pi * turns, 600 * turns + 1)
    middle = 0.5 * (chi[1:] + chi[:-1])
    u = (1 + e * jnp.cos(middle)) / p
    energy2 = n1 * (1 + momentum2 * u1**2)
    n, g = jax.vmap(lapse2)(u), jax.vmap(f)(u)
    speed2 = g / n * (energy2 - n * (1 + momentum2 * u**2)) / momentum2
    rate = jnp.sqrt(jnp.maximum((u - u1) * (u2 - u) / speed2, 0))
    angle = jnp.concatenate([jnp.zeros(1), jnp.cumsum(rate) * (chi[1] - chi[0])])
    return np.asarray(p / (1 + e * jnp.cos(chi))), np.asarray(angle)


def plot_orbits(
    metrics: Mapping[str, Metric], *, p: float = 12.0, e: float = 0.5, axes: "Axes | None" = None
) -> "Axes":
    """Three turns of the same bound orbit in several metrics."""
    with axes_or_new(axes, figsize=(4.8, 4.8)) as axes:
        for label, metric in metrics.items():
            r, angle = orbit(metric, None, p, e)
            axes.plot(r * np.cos(angle), r * np.sin(angle), lw=1.1, label=label)
        axes.plot(0, 0, "o", color="black")
        axes.set(xlabel="x / M", ylabel="y / M", aspect="equal")
        axes.legend(loc="upper left")
    return axes


def plot_bounce(params: Params, *, axes: "Axes | None" = None) -> "Axes":
    """The oscillating universe, computed and exact."""
    period = float(2 * np.pi / (2 * np.sqrt(-params["Lw"] / (3 * params["lam"] - 1))))
    t = jnp.linspace(0.0, 3 * period, 240)
    with axes_or_new(axes) as axes:
        axes.plot(t, cosmology.expand(t, params).a, label="integrated")
        axes.plot(t[::8], cosmology.bounce(t[::8], params), "o", mfc="none", label="exact")
        low, high = (float(v) for v in cosmology.turning_points(params))
        axes.axhline(low, color="0.5", lw=0.8, ls="--")
        axes.axhline(high, color="0.5", lw=0.8, ls="--")
        axes.set(xlabel="time (units of length / c)", ylabel="scale factor a", ylim=(0, 1.25 * high))
        axes.legend()
    return axes


def plot_image(image: Image, *, axes: "Axes | None" = None, curve: Any = None) -> "Axes":
    """A traced picture; `curve` draws an analytic shadow edge over it."""
    extent = float(image.extent)
    glow = np.asarray(image.intensity)
    shown = glow if np.any(glow > 0) else 1 - np.asarray(image.captured, float)
    with axes_or_new(axes, figsize=(5.2, 4.4)) as axes:
        picture = axes.imshow(
            np.sqrt(shown), extent=(-extent, extent, -extent, extent), cmap="inferno", interpolation="nearest"
        )
        axes.figure.colorbar(picture, ax=axes, label="square root of intensity (source frame = 1)")
        if curve is not None:
            for sign in (1, -1):
                axes.plot(curve.alpha, sign * curve.beta, color="#56B4E9", lw=1.0, ls="--")
        axes.set(xlabel="alpha / M", ylabel="beta / M")
        axes.grid(visible=False)
    return axes


def plot_bounds(rows: Sequence[Bound], *, axes: "Axes | None" = None) -> "Axes":
    """Least allowed coupling of each measurement, in one unit: the solar system decides."""
    shown = [row for row in rows if row.omega > 0]
    with axes_or_new(axes) as axes:
        axes.barh([row.name for row in shown], [row.omega for row in shown], left=1e-30, color="#0072B2")
        axes.set(xscale="log", xlabel="least omega allowed (1/m²), one standard deviation", xlim=(1e-28, 1e-15))
    return axes
