"""Figures of the subject."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxkit.report.figures import axes_or_new, plain, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LogProb = Callable[[Array], Array]


def on_grid(log_prob: LogProb, box: float, points: int = 80) -> Float[np.ndarray, "points points"]:
    """A density on a square grid over `[-box, box]^2`, rows along the second coordinate."""
    ticks = jnp.linspace(-box, box, points)
    grid = jnp.stack(jnp.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    return np.exp(np.asarray(log_prob(grid)).reshape(points, points))


def plot_density(
    density: Float[np.ndarray, "n n"], box: float, *, title: str, top: float | None = None, axes: "Axes | None" = None
) -> "Axes":
    """A density of the plane as an image.

    Args:
        density: What `on_grid` gives.
        box: Half the side of the square.
        title: Title of the figure.
        top: The density that is drawn brightest; the maximum by default.
        axes: Where to draw; new ones by default.
    """
    with axes_or_new(axes, figsize=(3.2, 3.2)) as axes:
        axes.imshow(density, origin="lower", extent=(-box, box, -box, box), cmap="magma", vmin=0, vmax=top)
        axes.set(title=title, xlabel="x1", ylabel="x2")
        axes.grid(visible=False)
    return axes


def plot_suite(rows: Sequence[tuple[str, Float[Array, "n 2"], LogProb, LogProb, float]], box: Sequence[float]) -> Any:
    """Samples of a denoiser, its density by the probability flow, and the true density, in one row per law.

    Args:
        rows: Name, samples, learned log density, true log density, divergence in nats.
        box: Half the side of the square, for each row.

    Returns:
        The figure.
    """
    with style() as plt:
        figure, panels = plt.subplots(len(rows), 3, figsize=(8.4, 2.9 * len(rows)), squeeze=False)
        for (name, samples, learned, exact, nats), half, row in zip(rows, box, panels, strict=True):
            x, truth = np.asarray(samples), on_grid(exact, half)
            row[0].plot(x[:, 0], x[:, 1], ".", markersize=1.2, alpha=0.6)
            row[0].set(xlim=(-half, half), ylim=(-half, half), aspect="equal", title=plain(f"{name}: samples"))
            row[0].set(xlabel="x1", ylabel="x2")
            top = float(truth.max())
            learned_title = f"learned density ({nats:.3f} nats off)"
            plot_density(on_grid(learned, half), half, title=learned_title, top=top, axes=row[1])
            plot_density(truth, half, title="true density", top=top, axes=row[2])
        return figure


def plot_rows(rows: Mapping[str, Any], *, columns: int = 12, title: str = "") -> Any:
    """One row of pictures for each name.

    Args:
        rows: Name -> pictures in [-1, 1], shape `(n, h, w, 1 or 3)`.
        columns: Pictures per row.
        title: Title of the figure.

    Returns:
        The figure.
    """
    with style() as plt:
        figure, panels = plt.subplots(
            len(rows), 1, figsize=(0.62 * columns + 1.3, 0.72 * len(rows) + 0.5), squeeze=False
        )
        for (name, pictures), axes in zip(rows.items(), panels[:, 0], strict=True):
            shown = np.clip(0.5 * (np.asarray(pictures[:columns], float) + 1), 0, 1)
            strip = np.concatenate(list(np.pad(shown, ((0, 0), (0, 0), (1, 1), (0, 0)), constant_values=1)), axis=1)
            axes.imshow(strip.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
        figure.suptitle(title, fontsize=10)
        return figure


def plot_likelihood(
    tolerances: Sequence[float], errors: Mapping[str, Sequence[float]], *, axes: "Axes | None" = None
) -> "Axes":
    """Largest error of the log-likelihood of a known mixture against the tolerance of the solver, log-log.

    Args:
        tolerances: Relative tolerances.
        errors: Name -> largest error (or bar) in nats at each tolerance.
        axes: Where to draw; new ones by default.
    """
    with axes_or_new(axes) as axes:
        for mark, (name, values) in zip("osD^vP", errors.items(), strict=False):
            axes.loglog(tolerances, values, marker=mark, label=plain(name))
        axes.set(xlabel="relative tolerance of the solver", ylabel="nats", title="Likelihood of a known mixture")
        axes.legend(fontsize=8)
    return axes


def batched(log_prob: LogProb, size: int = 1600) -> LogProb:
    """`log_prob`, compiled once and called on parts of one size, for data of any length."""
    program = jax.jit(log_prob)

    def call(x: Array) -> Array:
        missing = -x.shape[0] % size
        full = jnp.concatenate([x, jnp.broadcast_to(x[:1], (missing, *x.shape[1:]))]) if missing else x
        parts = [program(part) for part in jnp.split(full, full.shape[0] // size)]
        return jnp.concatenate(parts)[: x.shape[0]]

    return call
