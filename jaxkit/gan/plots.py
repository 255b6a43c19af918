"""Figures of a game: samples, paths between them, losses, the plane with its critic, the smallest game."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkit.dynamics.analysis.linearize import Kind, linearize
from jaxkit.gan.model import GAN
from jaxkit.gan.theory import dirac_game
from jaxkit.gan.train import Trained
from jaxkit.learn.data.images import scaled
from jaxkit.report.figures import axes_or_new, plain
from jaxkit.report.portrait import plot_equilibria, plot_field

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_images(images: Any, *, columns: int = 10, axes: "Axes | None" = None, title: str = "Samples") -> "Axes":
    """Images side by side.

    Args:
        images: Bytes or numbers in [-1, 1], shape `(n, height, width, channels)`.
        columns: Images per row.
        axes: Where to draw; new ones by default.
        title: Title of the figure.
    """
    images = np.asarray(images)
    images = np.clip((np.asarray(scaled(images), float) + 1) / 2, 0, 1)
    rows = len(images) // columns
    # A grey line around each image shows where it ends.
    framed = np.pad(images[: rows * columns], ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=0.5)
    _, height, width, channels = framed.shape
    tiles = framed.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    board = tiles.reshape(rows * height, columns * width, channels)
    with axes_or_new(axes, figsize=(0.7 * columns, 0.7 * rows + 0.4)) as axes:
        axes.imshow(board[..., 0] if channels == 1 else board, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set(title=plain(title))
        axes.set_axis_off()
    return axes


def plot_interpolation(ways: Any, *, axes: "Axes | None" = None) -> "Axes":
    """Samples along paths between pairs of noise: images, shape `(rows, points, h, w, c)`, or points in the plane."""
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
    """Both losses as running means over `span` steps; in a relativistic game both rest at `log 2`."""
    with axes_or_new(axes) as axes:
        for i, (name, values) in enumerate(trained.history.items()):
            values = np.asarray(values)[np.isfinite(np.asarray(values))]
            wide = min(span, len(values))
            smooth = np.convolve(values, np.ones(wide) / wide, "valid")
            axes.plot(np.arange(len(smooth)) + wide, smooth, color=f"C{i}", label=plain(name))
        if trained.model.config.loss in ("rsgan", "rasgan"):
            axes.axhline(np.log(2), color="grey", linestyle=":", label="log 2: no difference left")
        axes.set(xlabel="step", ylabel=f"loss (mean of {span} steps)", title="Both players' losses")
        axes.legend()
    return axes


def plot_points(x: Any, *, box: float | None = None, title: str = "Samples", axes: "Axes | None" = None) -> "Axes":
    """Density of points in the plane, shape `(n, 2)`, in the window `[-box, box]^2`."""
    x = np.asarray(x)
    box = 1.15 * float(np.abs(x).max()) if box is None else box
    with axes_or_new(axes, figsize=(4.4, 3.9)) as axes:
        bins = axes.hist2d(*x.T, bins=120, range=[[-box, box]] * 2, cmap="magma", density=True)
        axes.figure.colorbar(bins[3], ax=axes, shrink=0.8, label="density (1/unit area)")
        _window(axes, box, title)
    return axes


def plot_critic(model: GAN, *, box: float = 2.0, points: int = 160, axes: "Axes | None" = None) -> "Axes":
    """The critic of points in the plane, with its gradient field, in the window `[-box, box]^2`.

    Args:
        model: A model of points in the plane.
        box: Half-width of the window.
        points: Grid points per axis.
        axes: Where to draw; new ones by default.
    """
    grid = lambda line: jnp.asarray(np.stack(np.meshgrid(line, line), -1).reshape(-1, 2), model.dtype)
    line = np.linspace(-box, box, points)
    height = np.asarray(model.score(grid(line))).reshape(points, points)
    at = grid(np.linspace(-box, box, 22))
    slope = np.asarray(jax.grad(lambda x: jnp.sum(model.score(x)))(at))
    with axes_or_new(axes, figsize=(4.4, 3.9)) as axes:
        image = axes.pcolormesh(line, line, height, cmap="viridis", rasterized=True)
        axes.figure.colorbar(image, ax=axes, shrink=0.8, label="critic T")
        axes.quiver(*np.asarray(at).T, *slope.T, color="white", width=0.003)
        _window(axes, box, "critic and its gradient")
    return axes


def _window(axes: "Axes", box: float, title: str) -> None:
    axes.set(xlabel="x1", ylabel="x2", aspect="equal", xlim=(-box, box), ylim=(-box, box), title=title)
    axes.grid(visible=False)


def plot_dirac(gamma: float = 0.0, *, loss: str = "rsgan", span: float = 2.0, axes: "Axes | None" = None) -> "Axes":
    """Both players' flow in the smallest game, with R1 of weight `gamma`; without it, the linear part is a centre."""
    game = dirac_game(loss)
    field = lambda t, x, _: game.field(t, x, gamma)
    with axes_or_new(axes, figsize=(4.2, 3.9)) as axes:
        plot_field(field, (-span, span, -span, span), axes=axes, colorbar=None)
        kind = linearize(field, jnp.zeros(2)).kind
        plot_equilibria(np.zeros((1, 2)), np.asarray([int(kind)]), axes=axes, legend=False)
        axes.set(xlabel="generator theta", ylabel="critic psi", title=f"R1 x {gamma:g}: {Kind(int(kind)).label}")
    return axes
