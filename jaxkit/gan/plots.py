"""Pictures of a game: samples, ways between them, losses, the plane with its critic, the smallest game."""

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkit.dynamics.analysis.linearize import Kind, linearize
from jaxkit.gan.model import Model, generate
from jaxkit.gan.theory import dirac_game
from jaxkit.gan.train import Trained
from jaxkit.models.dirac import DiracGame
from jaxkit.report.figures import axes_or_new, style
from jaxkit.report.portrait import plot_equilibria, plot_field

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_images(images: Any, *, columns: int = 10, axes: "Axes | None" = None, title: str = "Samples") -> "Axes":
    """Images side by side.

    Args:
        images: Bytes or numbers in [-1, 1], shape `(n, height, width, channels)`.
        columns: Images a row.
        axes: Where to draw; new ones by default.
        title: Title.
    """
    images = np.asarray(images)
    images = images.astype(float) / 255 if images.dtype == np.uint8 else np.clip((images + 1) / 2, 0, 1)
    rows = len(images) // columns
    # A grey line around each: the eye must see where one ends.
    framed = np.pad(images[: rows * columns], ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=0.5)
    _, height, width, channels = framed.shape
    tiles = framed.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    board = tiles.reshape(rows * height, columns * width, channels)
    with axes_or_new(axes, figsize=(0.7 * columns, 0.7 * rows + 0.4)) as axes:
        axes.imshow(board[..., 0] if channels == 1 else board, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set(title=title)
        axes.set_axis_off()
    return axes


def plot_interpolation(ways: Any, *, axes: "Axes | None" = None) -> "Axes":
    """Samples along ways between pairs of noise: images, shape `(rows, points, h, w, c)`, or points in the plane."""
    ways = np.asarray(ways)
    if ways.ndim == 5:
        title = "Each row: from one noise to another"
        return plot_images(ways.reshape(-1, *ways.shape[2:]), columns=ways.shape[1], axes=axes, title=title)
    with axes_or_new(axes, figsize=(4.5, 4.5)) as axes:
        for i, way in enumerate(ways):
            axes.plot(*way.T, ".-", color=f"C{i % 8}", markersize=3, linewidth=0.8)
        axes.set(xlabel="x1", ylabel="x2", title="Ways between pairs of noise", aspect="equal")
    return axes


def plot_history(trained: Trained, *, axes: "Axes | None" = None, span: int = 100) -> "Axes":
    """Both losses, running means over `span` steps; for a relativistic game both rest at `log 2`."""
    with axes_or_new(axes) as axes:
        for i, (name, values) in enumerate(trained.history.items()):
            values = np.asarray(values)[np.isfinite(np.asarray(values))]
            wide = min(span, len(values))
            smooth = np.convolve(values, np.ones(wide) / wide, "valid")
            axes.plot(np.arange(len(smooth)) + wide, smooth, color=f"C{i}", label=name)
        if trained.model.config.loss in ("rsgan", "rasgan"):
            axes.axhline(np.log(2), color="grey", linestyle=":", label="log 2: no difference left")
        axes.set(xlabel="step", ylabel=f"loss (mean of {span} steps)", title="Both players' losses")
        axes.legend()
    return axes


def plot_plane(
    model: Model, real: Any, *, key: Any = None, n: int = 4000, box: float | None = None, points: int = 160
) -> "Figure":
    """Real samples, the generator's, and the critic with its gradient field: three panels.

    Args:
        model: A model of points in the plane.
        real: Real samples, shape `(m, 2)`.
        key: Random key of the samples.
        n: How many.
        box: Half-width of the window.
        points: Grid points an axis for the critic.
    """
    real = np.asarray(real)
    box = 1.15 * float(np.abs(real).max()) if box is None else box
    fake = np.asarray(generate(model, jax.random.key(0) if key is None else key, n))
    line = np.linspace(-box, box, points)
    grid = jnp.asarray(np.stack(np.meshgrid(line, line), -1).reshape(-1, 2), fake.dtype)
    height = np.asarray(model.score(grid)).reshape(points, points)
    coarse = np.linspace(-box, box, 22)
    at = jnp.asarray(np.stack(np.meshgrid(coarse, coarse), -1).reshape(-1, 2), fake.dtype)
    slope = np.asarray(jax.grad(lambda x: jnp.sum(model.score(x)))(at))
    with style() as plt:
        figure, panels = plt.subplots(1, 3, figsize=(12, 4.2), sharex=True, sharey=True)
        for axes, x, title in zip(panels, (real, fake), ("data", "generator"), strict=False):
            bins = axes.hist2d(*x.T, bins=120, range=[[-box, box]] * 2, cmap="magma", density=True)
            figure.colorbar(bins[3], ax=axes, shrink=0.8, label="density (1/unit area)")
            axes.set(title=title)
        image = panels[2].pcolormesh(line, line, height, cmap="viridis", rasterized=True)
        figure.colorbar(image, ax=panels[2], shrink=0.8, label="critic T")
        panels[2].quiver(*np.asarray(at).T, *slope.T, color="white", width=0.003)
        panels[2].set(title="critic and its gradient")
        for axes in panels:
            axes.set(xlabel="x1", ylabel="x2", aspect="equal", xlim=(-box, box), ylim=(-box, box))
            axes.grid(visible=False)
    return figure


def plot_dirac(loss: str = "rsgan", gammas: tuple[float, ...] = (0.0, 0.3, 1.5), *, span: float = 2.0) -> "Figure":
    """Both players' flow in the smallest game, without and with R1: a circle becomes a spiral, then a straight way."""
    with style() as plt:
        figure, panels = plt.subplots(1, len(gammas), figsize=(4.2 * len(gammas), 3.9), squeeze=False)
        for axes, gamma in zip(panels[0], gammas, strict=True):
            field = functools.partial(_flow, dirac_game(loss), gamma)
            plot_field(field, (-span, span, -span, span), axes=axes, colorbar=None)
            kind = linearize(field, jnp.zeros(2)).kind
            plot_equilibria(np.zeros((1, 2)), np.asarray([int(kind)]), axes=axes, legend=False)
            axes.set(xlabel="generator theta", ylabel="critic psi", title=f"R1 x {gamma:g}: {Kind(int(kind)).label}")
    return figure


def _flow(game: DiracGame, gamma: float, t: Any, state: Any, args: Any) -> Any:
    return game.field(t, state, gamma)
