"""Figures of competition: time series, phase portraits, basins, maps, fits, bifurcations, an animated flow."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betainc

from jaxkit.competition.basins import basin, outcome_map, separatrix
from jaxkit.competition.fit import CompetitionFit, band
from jaxkit.competition.model import simulate
from jaxkit.competition.theory import Regime, equilibria, outcome
from jaxkit.dynamics.analysis.branch import Special
from jaxkit.dynamics.analysis.continuation import Branch
from jaxkit.dynamics.ode.ensemble import ensemble
from jaxkit.models.lotka_volterra import Params, as_rates, lotka_volterra
from jaxkit.report.animation import animate
from jaxkit.report.figures import axes_or_new, plain
from jaxkit.report.portrait import plot_equilibria, plot_field

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SPECIES = ("species 1", "species 2")
# Pale background colours for who wins, in the order of `Regime`, or of `NAMES` for basins.
REGIME_COLORS = ("#bfe3d0", "#f3e2b3", "#bcd7ee", "#f6c9b0", "#cccccc")
BASIN_COLORS = {1: "#f6c9b0", 2: "#bcd7ee", 3: "#bfe3d0", -1: "#dddddd"}


def plot_time_series(
    p: Params,
    x0: Any,
    horizon: float,
    *,
    axes: "Axes | None" = None,
    names: tuple[str, ...] = SPECIES,
    unit: str = "time",
    quantity: str = "population",
) -> "Axes":
    """Both populations over time; dotted: where they are at the end."""
    ts = jnp.linspace(0.0, horizon, 400)
    sol = simulate(p, x0, ts, max_steps=16384)
    with axes_or_new(axes) as axes:
        for i, name in enumerate(names):
            axes.plot(ts, sol.xs[:, i], color=f"C{i}", label=plain(name))
            axes.axhline(float(sol.final[i]), color=f"C{i}", linewidth=0.7, linestyle=":")
        axes.set(xlabel=plain(unit), ylabel=plain(quantity), ylim=(0, None), xlim=(0, horizon))
        axes.set_title("Populations over time")
        axes.legend()
    return axes


def plot_portrait(
    p: Params, *, axes: "Axes | None" = None, names: tuple[str, ...] = SPECIES, starts: Any = None, basins: bool = True
) -> "Axes":
    """Direction field coloured by speed, nullclines, equilibria; with two winners also the separatrix and basins."""
    p = p.arrays()
    window = (0.0, 1.15 * float(p.N[0]), 0.0, 1.15 * float(p.N[1]))
    bistable = outcome(p) is Regime.bistable
    with axes_or_new(axes) as axes:
        plot_field(lotka_volterra, window, p.rates, axes=axes, colorbar="speed (population per unit time)")
        if bistable and basins:
            _shade_basins(p, window, axes)
            x1 = np.linspace(0, window[1], 400)
            axes.plot(x1, np.asarray(separatrix(p)(x1)), color="black", linewidth=2, label="separatrix", zorder=4)
        ts = jnp.linspace(0.0, 60.0 / float(jnp.min(p.r)), 400)
        for start in () if starts is None else starts:
            path = simulate(p, start, ts, max_steps=16384).xs
            axes.plot(path[:, 0], path[:, 1], color="C0", linewidth=1.4, zorder=3)
        eq = equilibria(p)
        plot_equilibria(eq.x, eq.kind, axes=axes)
        axes.set(xlabel=plain(names[0]), ylabel=plain(names[1]))
        axes.set_title(f"Phase portrait: {outcome(p).name.replace('_', ' ')}")
    return axes


def _shade_basins(p: Params, window: tuple[float, ...], axes: "Axes", points: int = 60) -> None:
    from matplotlib.colors import ListedColormap

    x, y = np.linspace(1e-3, window[1], points), np.linspace(1e-3, window[3], points)
    grid = jnp.asarray(np.stack(np.meshgrid(x, y), axis=-1))
    winners = np.asarray(basin(p, grid))
    codes = sorted(BASIN_COLORS)
    image = np.searchsorted(codes, winners)
    colors = ListedColormap([BASIN_COLORS[code] for code in codes])
    axes.pcolormesh(x, y, image, cmap=colors, vmin=-0.5, vmax=len(codes) - 0.5, zorder=0, rasterized=True)


def plot_outcome_map(p: Params, *, axes: "Axes | None" = None, span: float = 3.0, points: int = 241) -> "Axes":
    """Who wins as the two harms vary, with the borders where an invasion rate is zero and the given `p` marked."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    p = p.arrays()
    border = np.asarray(p.r / p.N[::-1])
    a1, a2 = (np.linspace(1e-6, span * b, points) for b in border)
    regimes = np.asarray(outcome_map(p, a1, a2)).T
    with axes_or_new(axes) as axes:
        colors = ListedColormap(list(REGIME_COLORS))
        axes.pcolormesh(a1, a2, regimes, cmap=colors, vmin=-0.5, vmax=4.5, rasterized=True)
        axes.axvline(border[0], color="black", linewidth=1)
        axes.axhline(border[1], color="black", linewidth=1)
        mark = axes.plot(
            float(p.a[0]), float(p.a[1]), "*", color="black", markersize=11, linestyle="none", label="here"
        )
        boxes = [Patch(color=REGIME_COLORS[r], label=r.name.replace("_", " ")) for r in list(Regime)[:4]]
        axes.legend(handles=[*boxes, *mark], frameon=True, fontsize=8, loc="upper right")
        axes.set(
            xlabel="a1: harm of species 2 to 1", ylabel="a2: harm of species 1 to 2", title="Who is left in the end"
        )
        axes.grid(visible=False)
    return axes


def plot_fit(found: CompetitionFit, *, axes: "Axes | None" = None) -> "Axes":
    """Data, fitted curves and their 95% confidence bands (Student's t, errors by the delta method)."""
    data = found.data
    ts = jnp.linspace(data.start, float(jnp.max(data.time)), 200)
    mean, error = (np.asarray(v) for v in band(found, ts))
    error = _students_t(found.degrees_of_freedom) * error
    with axes_or_new(axes) as axes:
        for i, name in enumerate(data.names):
            here = np.asarray(data.species) == i
            axes.plot(np.asarray(data.time)[here], np.asarray(data.volume)[here], "o", color=f"C{i}", label=plain(name))
            axes.plot(ts, mean[:, i], color=f"C{i}")
            low, high = mean[:, i] - error[:, i], mean[:, i] + error[:, i]
            axes.fill_between(ts, np.maximum(low, 0), high, color=f"C{i}", alpha=0.18, linewidth=0)
        axes.set(xlabel=plain(f"time ({data.unit})"), ylabel=plain(data.quantity), ylim=(0, None))
        axes.set_title("Fit through the solver, 95% band")
        axes.legend()
    return axes


def _students_t(degrees: int) -> float:
    """The number of standard errors that hold 95% of Student's t."""
    t = np.geomspace(1.9, 13.0, 4001)  # 1.96 for a great many degrees of freedom, 12.71 for one
    outside = betainc(0.5 * degrees, 0.5, degrees / (degrees + t**2))
    return float(np.interp(0.95, 1 - np.asarray(outside), t))


def plot_branches(branches: dict[str, Branch], *, axes: "Axes | None" = None, label: str = "parameter") -> "Axes":
    """Bifurcation diagram: population 1 along the branches, solid where stable, with special points marked."""
    marks = {
        Special.fold: ("v", "fold"),
        Special.branch_point: ("o", "exchange of stability"),
        Special.hopf: ("D", "Hopf"),
        Special.kink: ("x", "kink"),
    }
    seen: set[Special] = set()
    with axes_or_new(axes) as axes:
        for i, (name, branch) in enumerate(branches.items()):
            stable = np.asarray(branch.stable)
            x, q = np.asarray(branch.x[:, 0]), np.asarray(branch.parameter)
            axes.plot(q, np.where(stable, x, np.nan), color=f"C{i}", label=name)
            axes.plot(q, np.where(stable, np.nan, x), color=f"C{i}", linestyle=":")
            for j in np.flatnonzero(np.asarray(branch.special)):
                kind = Special(int(branch.special[j]))
                marker, text = marks[kind]
                at = float(branch.special_parameter[j]), float(branch.special_x[j, 0])
                axes.plot(*at, marker, color="black", markersize=7, label=None if kind in seen else text, zorder=5)
                seen.add(kind)
        top = max(float(branch.x[0, 0]) for branch in branches.values())
        axes.set(xlabel=plain(label), ylabel="population 1 at rest", title="Solid: stable. Dotted: unstable.")
        axes.set(
            ylim=(-0.15 * top, 1.1 * top), xlim=(0, max(float(jnp.nanmax(b.parameter)) for b in branches.values()))
        )
        axes.legend()
    return axes


def animate_flow(
    p: Params,
    path: str | Path,
    *,
    populations: int = 600,
    frames: int = 40,
    horizon: float | None = None,
    key: Any = None,
) -> Path:
    """A GIF of many populations moving at once, from scattered starts to where they end."""
    from matplotlib.collections import LineCollection

    p = p.arrays()
    window = (0.0, 1.15 * float(p.N[0]), 0.0, 1.15 * float(p.N[1]))
    high = jnp.array([window[1], window[3]], p.N.dtype)
    starts = jax.random.uniform(jax.random.key(0) if key is None else key, (populations, 2), p.N.dtype) * high[None]
    end = 12.0 / float(jnp.min(p.r)) if horizon is None else horizon
    ts = jnp.linspace(0.0, 1.0, frames, dtype=p.N.dtype) ** 2 * end  # in slow motion at first, where everything is fast
    shared = jax.tree.map(lambda v: v[None], as_rates(p))
    found = ensemble(lotka_volterra, tuple(starts.T), ts, shared, rtol=1e-5, atol=1e-6)
    xs = np.stack(jax.tree.leaves(found.xs), axis=-1)
    eq = equilibria(p)

    def draw(axes: "Axes", i: int) -> None:
        axes.add_collection(LineCollection(list(xs[:, max(0, i - 3) : i + 1]), colors="C0", linewidths=0.5, alpha=0.35))
        axes.plot(xs[:, i, 0], xs[:, i, 1], "o", color="C0", markersize=2)
        plot_equilibria(eq.x, eq.kind, axes=axes, legend=False)
        axes.set(xlim=window[:2], ylim=window[2:], xlabel="species 1", ylabel="species 2")
        axes.set_title(f"{populations} populations, time {float(ts[i]):.0f}")

    return animate(draw, frames, path)
