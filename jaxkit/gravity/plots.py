"""Figures of gravity: metric functions, potentials, orbits, the bounce, the shadow, bounds."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkit.gravity import cosmology
from jaxkit.gravity.fit import Bound, Posterior
from jaxkit.gravity.metrics import Metric, Params
from jaxkit.gravity.shadow import Image
from jaxkit.report.figures import axes_or_new, plain

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
            axes.plot(r, 1 - jax.vmap(lambda r, m=metric: _value(m.space, r, m))(r), label=plain(label))
        axes.axhline(0, color="0.5", lw=0.8)
        axes.set(xlabel="r / M (Lu-Mei-Pope: in units of its own length)", ylabel="f(r)", ylim=(-1.5, 2.5))
        axes.legend()
    return axes


def plot_potentials(metrics: Mapping[str, Metric], *, momentum: float = 3.9, axes: "Axes | None" = None) -> "Axes":
    """Effective potentials of massive particles, `N² (1 + L²/r²)`; bound orbits lie in a dip below 1."""
    r = jnp.geomspace(1.5, 60.0, 800)
    with axes_or_new(axes) as axes:
        for label, metric in metrics.items():
            lapse2 = 1 - jax.vmap(lambda r, m=metric: _value(m.time, r, m))(r)
            axes.plot(r, lapse2 * (1 + momentum**2 / r**2), label=plain(label))
        axes.axhline(1, color="0.5", lw=0.8, ls="--")
        axes.set(xlabel="r / M", ylabel=f"N² (1 + L²/r²),  L = {momentum:g} M", xscale="log")
        axes.set(xlim=(1.5, 60), ylim=(0.86, 1.14))
        axes.set_xticks([2, 3, 5, 10, 20, 50], ["2", "3", "5", "10", "20", "50"])
        axes.set_xticks([], minor=True)
        axes.legend(loc="upper right")
    return axes


def orbit(metric: Metric, params: Params, p: float, e: float, turns: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Radius and angle along a bound orbit with turning points `p / (1 ± e)`, by quadrature in the anomaly."""
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
            axes.plot(r * np.cos(angle), r * np.sin(angle), lw=1.1, label=plain(label))
        axes.plot(0, 0, "o", color="black")
        axes.set(xlabel="x / M", ylabel="y / M", aspect="equal", ylim=(-26, 31))
        axes.legend(loc="upper center", ncols=3, fontsize=8)
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
    lit = bool(np.any(glow > 0))
    shown = (glow / glow.max()) ** 0.3 if lit else 1 - np.asarray(image.captured, float)
    with axes_or_new(axes, figsize=(5.2, 4.4)) as axes:
        box = (-extent, extent, -extent, extent)
        picture = axes.imshow(shown, extent=box, cmap="inferno", interpolation="nearest")
        label = "(intensity / largest) to the power 0.3" if lit else "seen (1) or captured (0)"
        axes.figure.colorbar(picture, ax=axes, label=label)
        _edge(curve, axes)
        axes.set(xlabel="alpha / M", ylabel="beta / M")
        axes.grid(visible=False)
    return axes


def plot_redshift(image: Image, *, axes: "Axes | None" = None, curve: Any = None) -> "Axes":
    """The disk's redshift: what approaches us is blue and brighter, what recedes or lies deep in the field is red."""
    extent = float(image.extent)
    with axes_or_new(axes, figsize=(5.2, 4.4)) as axes:
        box = (-extent, extent, -extent, extent)
        axes.set_facecolor("black")
        shown = np.log2(np.asarray(image.redshift))
        picture = axes.imshow(shown, extent=box, cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest")
        axes.figure.colorbar(picture, ax=axes, label="log2 (frequency observed / emitted)", extend="min")
        _edge(curve, axes)
        axes.set(xlabel="alpha / M", ylabel="beta / M")
        axes.grid(visible=False)
    return axes


def _edge(curve: Any, axes: "Axes") -> None:
    if curve is not None:
        for sign in (1, -1):
            axes.plot(curve.alpha, sign * curve.beta, color="#56B4E9", lw=1.0, ls="--")


def plot_posterior(found: Posterior, *, axes: "Axes | None" = None) -> "Axes":
    """The posterior of `1/omega` and its limits."""
    x = 1 / np.asarray(found.omega) / 1e18
    top = 2.2 / found.least95 / 1e18
    with axes_or_new(axes) as axes:
        axes.plot(x, np.asarray(found.density) * 1e18, color="#0072B2")
        for share, least, line in ((68, found.least68, "--"), (95, found.least95, ":")):
            axes.axvline(1 / least / 1e18, color="0.3", ls=line, label=f"{share}% below: omega > {least:.1e} 1/m²")
        axes.set(xlabel="1 / omega (10¹⁸ m²)", ylabel="probability density", xlim=(0, top), ylim=(0, None))
        axes.legend()
    return axes


def plot_bounds(rows: Sequence[Bound], *, axes: "Axes | None" = None) -> "Axes":
    """Least coupling that each measurement allows, in one unit: the solar system decides."""
    shown = [row for row in rows if row.omega > 0]
    with axes_or_new(axes) as axes:
        axes.barh([row.name for row in shown], [row.omega for row in shown], left=1e-30, color="#0072B2")
        axes.set(xscale="log", xlabel="least omega allowed (1/m²), one standard deviation", xlim=(1e-28, 1e-15))
    return axes
