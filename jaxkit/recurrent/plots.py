"""Figures of the subject."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxkit.recurrent.inference import Inference
from jaxkit.recurrent.problem import Observations
from jaxkit.report.figures import axes_or_new, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_orders(
    steps: np.ndarray,
    errors: Mapping[str, np.ndarray],
    slopes: Mapping[str, float],
    *,
    axes: "Sequence[Axes] | None" = None,
) -> "Sequence[Axes]":
    """Error of each scheme as a cell against its step, log-log: one panel for explicit, one for implicit schemes.

    Args:
        steps: Steps, shape `(n,)`.
        errors: Scheme -> relative errors, shape `(n,)`.
        slopes: Scheme -> measured order.
        axes: Two axes; new ones by default.

    Returns:
        The axes.
    """
    implicit = (
        "backward_euler",
        "implicit_midpoint",
        "trapezoid",
        "radau3",
        "gauss4",
        "gauss6",
        "kvaerno3",
        "kvaerno5",
    )
    with style() as plt:
        panels = plt.subplots(1, 2, figsize=(9.0, 5.0), sharey=True)[1] if axes is None else axes
        marks = "osD^vPX*<>"
        for panel, title, members in (
            (panels[0], "explicit", [n for n in errors if n not in implicit]),
            (panels[1], "implicit, by Newton", [n for n in errors if n in implicit]),
        ):
            for mark, name in zip(marks, members, strict=False):
                colour = f"C{marks.index(mark) % 7}"
                label = f"{name.replace('_', ' ')} ({slopes[name]:.2f})"
                panel.loglog(steps, errors[name], marker=mark, label=label, color=colour)
            panel.set(xlabel="step h", title=title)
            panel.set_xticks(steps, [f"1/{round(1 / step)}" if step < 1 else f"{step:g}" for step in steps])
            panel.minorticks_off()
            panel.legend(
                title="scheme (measured order)", fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3
            )
        panels[0].set_ylabel("relative error at t = 4")
        figure: Any = panels[0].figure
        figure.suptitle("Every scheme is a recurrent cell: its error over the step", fontsize=11)
        return panels


def plot_article(
    seen: Observations,
    recipe: Inference,
    ours: Inference,
    truth: Mapping[str, np.ndarray],
    *,
    axes: "Sequence[Axes] | None" = None,
) -> "Sequence[Axes]":
    """The article's seven points, both fits, and the errors of the six parameters.

    Args:
        seen: The observations.
        recipe: Fit by the article's recipe.
        ours: Fit by Levenberg-Marquardt.
        truth: Parameters behind the observations.
        axes: Two axes; new ones by default.

    Returns:
        The axes.
    """
    with style() as plt:
        panels = plt.subplots(1, 2, figsize=(9.0, 3.8), width_ratios=(3, 2))[1] if axes is None else axes
        left, right = panels
        for fit, line, label in ((recipe, "--", "Adam + Euler"), (ours, "-", "LM + RK4")):
            for species in range(2):
                name = f"$x_{species + 1}$, {label} (SSE {float(fit.sse):.3g})"
                left.plot(fit.times, fit.xs[:, species], line, color=f"C{species}", label=name)
        for species in range(2):
            left.plot(seen.times, seen.values[:, species], "o", color=f"C{species}", mec="k", ms=6, zorder=3)
        left.set(xlabel="time", ylabel="population", title="seven observations (dots) and two fits")
        left.legend(fontsize=8)
        names = [(key, index) for key in ("r", "c", "a") for index in range(2)]
        places = np.arange(len(names))
        for fit, shift, colour, label in ((recipe, -0.2, "C6", "Adam + Euler"), (ours, 0.2, "C2", "LM + RK4, ± s.e.")):
            off = [100 * (float(fit.params[k][i]) / truth[k][i] - 1) for k, i in names]
            spread = [100 * float(fit.standard_errors[k][i]) / truth[k][i] for k, i in names] if fit is ours else None
            right.bar(places + shift, off, 0.4, yerr=spread, color=colour, label=label, capsize=3)
        right.set_xticks(places, [rf"${dict(r='r', c='1/N', a='a')[k]}_{{{i + 1}}}$" for k, i in names])
        right.axhline(0, color="k", lw=0.8)
        right.set(ylabel="error of the parameter (%)", title="against the truth")
        right.legend(fontsize=8)
        return panels


def plot_starts(fit: Inference, recipe_sse: float, *, axes: "Axes | None" = None) -> "Axes":
    """Where each of the starts led, from the best to the worst.

    Args:
        fit: A multistart fit.
        recipe_sse: Sum of squares of the article's recipe, for comparison.
        axes: Where to draw; new axes by default.

    Returns:
        The axes.
    """
    sums = np.sort(np.where(np.isfinite(fit.all_sse), fit.all_sse, np.nan))
    share = float(np.mean(np.asarray(fit.all_sse) <= 1.001 * float(fit.sse)))
    with axes_or_new(axes) as axes:
        axes.semilogy(np.arange(1, sums.size + 1), sums, "o", ms=4)
        axes.axhline(recipe_sse, color="C1", ls="--", label=f"the article's recipe, {recipe_sse:.3g}")
        axes.axhline(float(fit.sse), color="C2", label=f"best, {float(fit.sse):.4g} ({100 * share:.0f}% of the starts)")
        lost = int(np.sum(~np.isfinite(sums)))
        if lost:
            axes.plot([], [], " ", label=f"{lost} starts overflow at once and are not shown")
        axes.set(xlabel="start, sorted", ylabel="sum of squares reached", title="Levenberg-Marquardt from many starts")
        axes.legend(loc="upper left")
        return axes


def plot_gause(seen: Observations, fit: Inference, *, axes: "Axes | None" = None) -> "Axes":
    """Gause's Paramecium counts and the cell that was trained on them.

    Args:
        seen: The observations.
        fit: The fit.
        axes: Where to draw; new axes by default.

    Returns:
        The axes.
    """
    with axes_or_new(axes) as axes:
        for species, name in enumerate(("P. caudatum", "P. aurelia")):
            axes.plot(fit.times, fit.xs[:, species], color=f"C{species}", label=name)
            axes.plot(seen.times, seen.values[:, species], "o", color=f"C{species}", mec="w", mew=0.5)
        title = f"Gause 1934 and a trained RK4 cell, SSE {float(fit.sse):.1f}"
        axes.set(xlabel="time (days)", ylabel="volume", title=title)
        axes.legend()
        return axes


def plot_newton(errors: Mapping[str, np.ndarray], *, axes: "Sequence[Axes] | None" = None) -> "Sequence[Axes]":
    """How Newton's method in parallel over time converges: errors against iteration and time.

    Args:
        errors: Variant -> absolute errors of the states, shape `(iterations, length)`.
        axes: One axes for each variant; new ones by default.

    Returns:
        The axes.
    """
    with style() as plt:
        size = {"figsize": (9.0, 3.6), "sharey": True, "squeeze": False}
        panels = plt.subplots(1, len(errors), **size)[1][0] if axes is None else axes
        for panel, (name, error) in zip(panels, errors.items(), strict=True):
            seen = np.log10(np.maximum(error, 1e-16))
            shown = panel.imshow(
                seen, aspect="auto", vmin=-16, vmax=0, extent=(0, error.shape[1], error.shape[0] + 0.5, 0.5)
            )
            panel.set(xlabel="time step", title=name)
            panel.grid(visible=False)
        figure: Any = panels[0].figure
        panels[0].set_ylabel("Newton iteration")
        figure.colorbar(shown, ax=panels, label="log10 of the largest error of the state")
        figure.suptitle("A GRU solved for all times at once", fontsize=11)
        return panels
