"""Figures: one style, drawn without a screen, saved the same way every time."""

import contextlib
import functools
import os
import warnings
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxkit.core import arguments
from jaxkit.core.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Looked for first; then any font that has Chinese characters.
CHINESE = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei", "SimHei", "PingFang SC")


@contextlib.contextmanager
def style() -> Iterator[Any]:
    """Give figures jaxkit's style within the block; yields `matplotlib.pyplot`.

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
        chinese = chinese_font()
        if chinese is not None:  # for the characters that the first font lacks
            plt.rcParams["font.family"] = [*plt.rcParams["font.family"], chinese]
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

    fonts = {font.name: font.fname for font in font_manager.fontManager.ttflist if "Last Resort" not in font.name}
    known = [name for name in CHINESE if name in fonts]  # else any other font with the character
    return next((name for name in [*known, *fonts] if name in known or ord("中") in _characters(fonts[name])), None)


def _characters(path: str) -> Any:
    """The characters of a font; none where the file is not a font."""
    from matplotlib import font_manager

    try:
        return font_manager.get_font(path).get_charmap()
    except (OSError, RuntimeError):
        return ()


@functools.cache
def _drawable() -> frozenset[int]:
    """The characters that figures can show."""
    from matplotlib import font_manager

    families = [None, *filter(None, [chinese_font()])]
    fonts = [font_manager.findfont(font_manager.FontProperties(family=family)) for family in families]
    return frozenset(c for font in fonts for c in _characters(font))


@functools.cache
def _warn_of_boxes() -> None:
    warnings.warn(
        "Figures show boxes for characters that no font on this machine has; for Chinese ones install a font, e.g. "
        "Noto Sans CJK.",
        stacklevel=4,
    )


def plain(text: object) -> str:
    r"""Text of a user that a figure, its legend included, shows as it stands and not as a formula.

    Characters that no font has become boxes, and one warning is given.

    Example:
        >>> from jaxkit.report.figures import plain
        >>> print(plain("$A_1$"))
        \$A_1\$
    """
    shown = "".join(c if ord(c) in _drawable() or c == "\n" else "\u25a1" for c in str(text))
    if shown != str(text):
        _warn_of_boxes()
    # A legend omits labels that begin with an underscore; a zero-width space in front is not seen.
    return ("\u200b" if shown.startswith("_") else "") + shown.replace("$", r"\$")


def save(figure: "Figure", path: str | Path, *, caption: str = "") -> Path:
    """Write a figure (format by suffix, PNG without one) through a temporary name, close it, and return its path.

    Args:
        figure: A matplotlib figure.
        path: Where to write; folders are created.
        caption: Text that is stored as the PNG's description.

    Returns:
        The file: `path`, or `path` with `.png` where it has no suffix.

    Raises:
        ValueError: matplotlib cannot write this format. Nothing is left behind.
    """
    import matplotlib.pyplot as plt

    path = Path(path)
    path = path if path.suffix.strip(".") else path.with_name(path.name.rstrip(".") + ".png")
    known = sorted(f".{name}" for name in figure.canvas.get_supported_filetypes())
    arguments.require(path.suffix.lower() in known, "path", f"end in one of {', '.join(known)}", f"is {path.name}")
    try:
        with replacing(path) as temporary:
            png = path.suffix.lower() == ".png"
            figure.savefig(temporary, metadata={"Description": caption} if caption and png else None)
    finally:
        plt.close(figure)
    return path
