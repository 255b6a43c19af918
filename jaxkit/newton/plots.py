"""Figures of the subject: tangents, all roots of an equation, basins of attraction."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxkit.core.arguments import require
from jaxkit.report.figures import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jaxkit.newton.all_roots import AllRoots
    from jaxkit.newton.basins import Basins
    from jaxkit.newton.quick import QuickRoot
    from jaxkit.newton.result import EquationRoot


def plot_solution(solution: "EquationRoot | QuickRoot", args: Any = None, *, axes: "Axes | None" = None) -> "Axes":
    """The curve of one real equation, and Newton's tangents running to its root.

    Args:
        solution: Result of `solve` with one real unknown.
        args: As given to `solve`.
        axes: Where to draw; new ones by default.
    """
    system = solution.equations
    require(system is not None, "solution", "be of a typed equation", "is of a function")
    assert system is not None  # noqa: S101
    require(system.single and not np.iscomplexobj(solution.value), "solution", "have one real unknown", "has not")
    require(solution.history is not None, "solution", "have a history", "was made inside a program")
    way = solution.history
    assert way is not None  # noqa: S101
    x = np.asarray(way.x)[: int(way.steps) + 1][:8]
    low, high = float(np.min(x)), float(np.max(x))
    pad = 0.25 * (high - low) or 1.0
    grid = np.linspace(low - pad, high + pad, 600)
    known = {name: np.float64(value) for name, value in (args or {}).items()}
    on_host = lambda x: system.on_host(x, known)
    with axes_or_new(axes, figsize=(6.0, 4.0)) as axes:
        axes.axhline(0, color="0.6", lw=0.8)
        axes.plot(grid, on_host(grid), label=f"f({system.unknowns[0]}) = {system.residuals[0]}")
        heights = on_host(x)
        for k in range(len(x) - 1):
            axes.plot(
                [x[k], x[k], x[k + 1]], [0, heights[k], 0], color="C1", lw=1, label="tangents" if k == 0 else None
            )
        axes.plot(x, 0 * x, "o", ms=4, color="C1")
        if bool(solution.ok):
            value = float(solution.value)
            axes.plot(value, 0, "*", ms=12, color="C3", label=f"root {value:.10g}")
        axes.set(xlabel=system.unknowns[0], ylabel="left side minus right side", title=system.shown[0])
        axes.legend()
    return axes


def plot_all_roots(found: "AllRoots", args: Any = None, *, axes: "Axes | None" = None) -> "Axes":
    """The curve over the interval with its roots.

    Args:
        found: Result of `all_roots` for a typed equation.
        args: As given to `all_roots`.
        axes: Where to draw; new ones by default.
    """
    system = found.equations
    require(system is not None, "found", "be of a typed equation", "is of a function")
    assert system is not None  # noqa: S101
    x = np.linspace(*found.ends, 2001)
    y = system.on_host(x, args)
    with axes_or_new(axes, figsize=(7.0, 3.6)) as axes:
        axes.axhline(0, color="0.6", lw=0.8)
        limit = 3 * np.nanpercentile(np.abs(np.where(np.isfinite(y), y, np.nan)), 80)
        axes.plot(x, np.where(np.abs(y) <= limit, y, np.nan), lw=1.2)
        for kind, colour in (("proven", "C2"), ("simple", "C0"), ("double", "C1"), ("undecided", "C3")):
            chosen = [value for value, what in zip(found.values, found.kinds, strict=True) if what == kind]
            if chosen:
                axes.plot(chosen, np.zeros(len(chosen)), "o", ms=5, color=colour, label=f"{len(chosen)} {kind}")
        axes.set(xlabel=system.unknowns[0], ylabel="left side minus right side", title=system.shown[0])
        if len(found.values):
            axes.legend()
    return axes


def plot_basins(found: "Basins", *, axes: "Axes | None" = None) -> "Axes":
    """One hue per root, darker where Newton's method took longer, black where it did not arrive.

    Args:
        found: Result of `basins`.
        axes: Where to draw; new ones by default.
    """
    from matplotlib.colors import hsv_to_rgb

    index, steps = np.asarray(found.root), np.asarray(found.steps)
    count = max(1, len(found.roots))
    slowest = max(8.0, float(np.percentile(steps, 99.5)))
    shade = np.clip(1.08 - 0.85 * np.sqrt(np.clip((steps - steps.min()) / (slowest - steps.min()), 0, 1)), 0, 1)
    rank = np.argsort(np.argsort([-np.mean(index == k) for k in range(count)]))  # the largest basins differ most
    hue = (0.58 + rank[np.maximum(index, 0)] * (1 / count if count <= 6 else 0.381966)) % 1
    colours = hsv_to_rgb(np.stack([hue, np.full_like(shade, 0.62), np.where(index < 0, 0, shade)], -1))
    with axes_or_new(axes, figsize=(6.0, 6.0)) as axes:
        axes.imshow(colours, origin="lower", extent=found.window, interpolation="antialiased")
        real, imag = np.real(found.roots), np.imag(found.roots)
        a, b, c, d = found.window
        seen = (real >= a) & (real <= b) & (imag >= c) & (imag <= d)
        axes.plot(real[seen], imag[seen], "o", ms=5, mfc="white", mec="black")
        name = found.equations.unknowns[0]
        axes.set(xlabel=f"Re {name}", ylabel=f"Im {name}", title=f"Newton's method for {found.equations.shown[0]}")
        axes.grid(visible=False)
    return axes
