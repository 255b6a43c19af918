"""Figures of the subject."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkit.energy.experiments import Frames
from jaxkit.energy.optimizers import double_pit
from jaxkit.energy.train import EnergyModel
from jaxkit.report.animation import animate
from jaxkit.report.figures import axes_or_new, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_frame(frames: Frames, i: int, axes: "Axes", *, top: float | None = None) -> None:
    """One frame: heights above the lowest point, real points in white, the generator's in black."""
    axis, heights = np.asarray(frames.axis), np.asarray(frames.energy[i])
    top = float(np.quantile(np.asarray(frames.energy[-1]), 0.97)) if top is None else top
    levels = np.linspace(0, top, 25)
    axes.contourf(axis, axis, np.minimum(heights, top), levels=levels, cmap="viridis", extend="max")
    axes.plot(*np.asarray(frames.real).T, ".", color="white", markersize=3, label="real")
    axes.plot(*np.asarray(frames.fakes[i]).T, ".", color="black", markersize=3, label="generated")
    window = (float(axis[0]), float(axis[-1]))
    axes.set(xlim=window, ylim=window, xlabel="x1", ylabel="x2")
    axes.set_title(f"The landscape after {int(frames.steps[i])} steps (dark: deep)")
    axes.grid(visible=False)


def animate_landscape(frames: Frames, path: str | Path, *, seconds: float = 6.0) -> Path:
    """A GIF of the landscape being dug and the generator jumping into its pits."""
    top = float(np.quantile(np.asarray(frames.energy[-1]), 0.97))

    def draw(axes: "Axes", i: int) -> None:
        draw_frame(frames, i, axes, top=top)
        axes.legend(loc="upper right", frameon=True, fontsize=7)

    return animate(draw, len(frames.steps), path, seconds=seconds)


def plot_landscape(frames: Frames, i: int = -1, *, axes: "Axes | None" = None) -> "Axes":
    """One frame of a landscape, the last one by default."""
    with axes_or_new(axes, figsize=(5.2, 4.6)) as axes:
        draw_frame(frames, i, axes)
        axes.legend(loc="upper right", frameon=True, fontsize=8)
    return axes


def plot_momentum(momenta: Any, good: dict[str, Any], *, axes: "Axes | None" = None) -> "Axes":
    """Share of good generated points against momentum: one line per digging, one point per seed."""
    with axes_or_new(axes, figsize=(5.6, 4.0)) as axes:
        for i, (name, shares) in enumerate(good.items()):
            shares = np.asarray(shares)
            axes.plot(momenta, shares.mean(axis=1), color=f"C{i}", label=plain(name))
            axes.plot(momenta, shares, ".", color=f"C{i}", markersize=5)
        axes.set(xlabel="momentum (Adam's b1) of both players", ylabel="share of good points", ylim=(-0.03, 1.03))
        axes.legend(title="digging", fontsize=8)
    return axes


def plot_crossings(ends: dict[str, tuple[Any, Any]], *, axes: "Axes | None" = None) -> "Axes":
    """Where descent from the right-hand pit ended: one row per optimizer, below the landscape itself."""
    with axes_or_new(axes, figsize=(6.4, 4.2)) as axes:
        x = np.linspace(-1.8, 2.05, 400)
        axes.plot(x, np.asarray(double_pit(jnp.asarray(x))), color="black", linewidth=1.2)
        for i, (name, (start, end)) in enumerate(ends.items()):
            start, wrong = np.asarray(start), np.asarray(end) < 0
            level = -0.45 - 0.16 * i
            axes.plot(start, np.full_like(start, level), color="C0", linewidth=4, solid_capstyle="butt")
            axes.plot(start[wrong], np.full(wrong.sum(), level), "|", color="C3", markersize=9)
            axes.text(-1.8, level, f"{name}: {100 * wrong.mean():.1f}% cross", va="center", fontsize=8)
        axes.set(xlabel="where a point starts, x", ylabel="U = x^4/4 - x^2/2", ylim=(-0.6 - 0.16 * len(ends), 1.2))
        axes.set_title("Blue: ends in its own pit. Red: carried over the ridge.")
    return axes


def plot_bounds(rows: list[dict[str, Any]], *, axes: "Axes | None" = None) -> "Axes":
    """The value of each bound on channels of growing information; the diagonal is the truth."""
    with axes_or_new(axes, figsize=(5.2, 4.4)) as axes:
        names = list(dict.fromkeys(row["bound"] for row in rows))
        for i, name in enumerate(names):
            mine = sorted((row["exact"], row["estimate"], row["error"]) for row in rows if row["bound"] == name)
            exact, estimate, error = np.array(mine).T
            axes.errorbar(
                exact, estimate, 2 * error, fmt="o-", color=f"C{i}", markersize=4, capsize=2, label=plain(name)
            )
        top = 1.1 * max(row["exact"] for row in rows)
        axes.plot([0, top], [0, top], color="black", linewidth=0.8, linestyle="--", label="exact")
        axes.set(xlabel="exact information (nats)", ylabel="lower bound (nats)", xlim=(0, top), ylim=(0, top))
        axes.set_title("Bounds of the information of a Gaussian channel")
        axes.legend(fontsize=8)
    return axes


def plot_energy(
    model: EnergyModel, *, key: Any = None, box: float = 1.0, points: int = 141, axes: "Axes | None" = None
) -> "Axes":
    """The learned energy of the plane with the model's own points on it.

    Args:
        model: A model of points in the plane.
        key: Random key of the points; a fixed one by default.
        box: Half-width of the window.
        points: Grid points per axis.
        axes: Where to draw; new ones by default.
    """
    axis = np.linspace(-box, box, points)
    grid = jnp.asarray(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2), jnp.float32)
    heights = np.asarray(model.energy(grid)).reshape(points, points)
    fakes = np.asarray(model.sample(jax.random.key(0) if key is None else key, 2000))
    with axes_or_new(axes, figsize=(5.4, 4.6)) as axes:
        low, high = np.quantile(heights, [0.0, 0.9])
        image = axes.pcolormesh(axis, axis, heights, cmap="viridis", vmin=low, vmax=high, rasterized=True)
        axes.figure.colorbar(image, ax=axes, label="learned energy")
        axes.plot(*fakes.T, ".", color="black", markersize=1.5)
        axes.set(xlabel="x1", ylabel="x2", title="The learned energy and the generated points")
        axes.grid(visible=False)
    return axes
