"""Animated GIFs, drawn frame by frame."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxkit.core import checks
from jaxkit.core.files import replacing
from jaxkit.report.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def animate(
    draw: Callable[["Axes", int], None],
    frames: int,
    path: str | Path,
    *,
    seconds: float = 4.0,
    figsize: tuple[float, float] = (4.8, 4.0),
    dpi: int = 80,
) -> Path:
    """Write a GIF of `frames` pictures; `draw(axes, i)` draws picture `i` on cleared axes.

    Args:
        draw: Draws one frame.
        frames: Number of frames.
        path: Where to write (`.gif` is added where it has no suffix); folders are created.
        seconds: Duration of one round.
        figsize: Size in inches.
        dpi: Pixels per inch.

    Returns:
        The path of the file.
    """
    from PIL import Image

    checks.require(frames > 0, "frames", "be positive", f"is {frames}")
    path = Path(path) if Path(path).suffix else Path(path).with_suffix(".gif")
    pictures: list[Any] = []
    with style() as plt:
        # A layout computed anew for each frame would make the axes jitter, and would take most of the time.
        figure, axes = plt.subplots(figsize=figsize, dpi=dpi, layout="none")
        figure.subplots_adjust(left=0.15, bottom=0.14, right=0.96, top=0.9)
        for i in range(frames):
            axes.clear()
            draw(axes, i)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=dpi, bbox_inches=None)
            pictures.append(Image.open(buffer).convert("P", palette=Image.Palette.ADAPTIVE))
        plt.close(figure)
    pace = max(20, round(1000 * seconds / frames))
    with replacing(path) as temporary:
        pictures[0].save(
            temporary, format="GIF", save_all=True, append_images=pictures[1:], duration=pace, loop=0, optimize=True
        )
    return path
