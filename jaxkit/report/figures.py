"""Figures: one style, drawn without a screen, saved the same way every time."""

import contextlib
import functools
import os
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxkit.core import checks
from jaxkit.core.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


CHINESE = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei", "SimHei", "PingFang SC")


@contextlib.contextmanager
def style() -> Iterator[Any]:
    """Within the block, figures have jaxkit's style; gives `matplotlib.pyplot`.

    Example:
        >>> from jaxkit.report.figures import style
        >>> with style() as plt:
        ...     figure, axes = plt.subplots()
        ...     _ = axes.set(xlabel="time (days)", ylabel="volume")
        ...     plt.close(figure)
    """
    import matplotlib

    if not os.environ.get("DISPLAY") and "MPLBACKEND" not in os.environ:
        matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with as_file(files("jaxkit.report") / "jaxkit.mplstyle") as sheet, plt.style.context(str(sheet)):
        yield plt


@contextlib.contextmanager
def axes_or_new(axes: "Axes | None", **size: Any) -> Iterator["Axes"]:
    """The axes given, or new ones in jaxkit's style: the first line of every `plot_*` function."""
    with style() as plt:
        yield plt.subplots(**size)[1] if axes is None else axes


@functools.cache
def chinese_font() -> str | None:
    """Name of a font on this machine that has Chinese characters, or None."""
    from matplotlib import font_manager

    have = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in CHINESE if name in have), None)


def save(figure: "Figure", path: str | Path, *, caption: str = "") -> Path:
    """Write a figure (format by suffix, PNG without one) through a temporary name, close it, and return its path.

    Args:
        figure: A matplotlib figure.
        path: Where to; folders are made.
        caption: Stored as the PNG's description.

    Returns:
        The file: `path`, or `path` with `.png` where it has no suffix.

    Raises:
        ValueError: matplotlib writes no such format. Nothing is left behind.
    """
    import matplotlib.pyplot as plt

    path = Path(path)
    path = path if path.suffix.strip(".") else path.with_name(path.name.rstrip(".") + ".png")
    known = sorted(f".{name}" for name in figure.canvas.get_supported_filetypes())
    checks.require(path.suffix.lower() in known, "path", f"end in one of {', '.join(known)}", f"is {path.name}")
    try:
        with replacing(path) as temporary:
            png = path.suffix.lower() == ".png"
            figure.savefig(temporary, metadata={"Description": caption} if caption and png else None)
    finally:
        plt.close(figure)
    return path
