"""Phase portraits of any field of two variables, with its equilibria named."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkit.dynamics.analysis.linearize import Kind
from jaxkit.dynamics.analysis.nullclines import nullclines
from jaxkit.report.figures import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Filled: stable. Square: saddle. Shape and fill carry the meaning, so that it survives printing in grey.
MARKERS: dict[Kind, dict[str, Any]] = {
    Kind.stable_node: {"marker": "o", "markerfacecolor": "black"},
    Kind.stable_focus: {"marker": "o", "markerfacecolor": "black"},
    Kind.saddle: {"marker": "s", "markerfacecolor": "lightgrey"},
    Kind.unstable_node: {"marker": "o", "markerfacecolor": "white"},
    Kind.unstable_focus: {"marker": "o", "markerfacecolor": "white"},
    Kind.center: {"marker": "D", "markerfacecolor": "white"},
    Kind.degenerate: {"marker": "X", "markerfacecolor": "grey"},
}


def velocities(field: Callable, window: tuple[float, float, float, float], args: Any, points: int) -> tuple[Any, ...]:
    """The field on a grid over `window = (x_low, x_high, y_low, y_high)`: axes `x`, `y`, velocities `u`, `v`."""
    x, y = np.linspace(*window[:2], points), np.linspace(*window[2:], points)
    grid = jnp.asarray(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
    zero = jnp.zeros((), grid.dtype)
    uv = np.asarray(jax.vmap(lambda p: field(zero, p, args))(grid)).reshape(points, points, 2)
    return x, y, uv[..., 0], uv[..., 1]


def plot_field(
    field: Callable,
    window: tuple[float, float, float, float],
    args: Any = None,
    *,
    axes: "Axes | None" = None,
    density: float = 1.1,
    colorbar: str | None = "speed",
    points: int = 60,
) -> "Axes":
    """Streamlines of a field of two variables, coloured by speed, with both nullclines dashed.

    Args:
        field: `field(t, x, args)` with `x` of shape `(2,)`.
        window: `(x_low, x_high, y_low, y_high)`.
        args: Parameters of the field.
        axes: Where to draw; new ones by default.
        density: Density of the streamlines.
        colorbar: Label of the colour bar; None leaves it out.
        points: Number of grid points along each axis.
    """
    x, y, u, v = velocities(field, window, args, points)
    with axes_or_new(axes) as axes:
        from matplotlib.colors import PowerNorm

        speed = np.hypot(u, v)
        lines = axes.streamplot(
            x,
            y,
            u,
            v,
            color=speed,
            cmap="viridis",
            norm=PowerNorm(0.5, 0, speed.max()),
            density=density,
            linewidth=0.7,
            arrowsize=0.7,
            zorder=1,
        )
        if colorbar:
            axes.figure.colorbar(lines.lines, ax=axes, label=colorbar, shrink=0.85)
        for curves, color in zip(nullclines(field, window, args), ("C1", "C3"), strict=True):
            for curve in curves:
                axes.plot(*curve.T, color=color, linestyle="--", linewidth=1.1, zorder=2)
        axes.set(xlim=window[:2], ylim=window[2:])
        axes.grid(visible=False)
    return axes


def plot_equilibria(points: Any, kinds: Any, *, axes: "Axes", legend: bool = True) -> "Axes":
    """Mark equilibria, shape `(k, 2)`, by their `Kind` codes, shape `(k,)`; code 0 is skipped."""
    seen = set()
    for point, code in zip(np.asarray(points), np.asarray(kinds), strict=True):
        kind = Kind(int(code))
        if kind is Kind.none:
            continue
        label = None if kind in seen else kind.label
        seen.add(kind)
        style = MARKERS[kind] | {"markeredgecolor": "black", "markersize": 8, "linestyle": "none", "zorder": 5}
        axes.plot(*point, label=label, clip_on=False, **style)
    if legend and seen:
        axes.legend(loc="upper right", frameon=True, framealpha=0.9)
    return axes
