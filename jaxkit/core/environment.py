"""The environment: precision, data folder, versions."""

import importlib.metadata
import os
import platform
from pathlib import Path

import jax

from jaxkit.core.checks import one_of

PACKAGES = ("jax", "jaxlib", "flax", "optax", "diffrax", "numpy", "matplotlib", "safetensors", "rich", "jaxtyping")


def set_precision(precision: str) -> None:
    """Choose `"single"` (float32) or `"double"` (float64) for every array made from now on.

    jaxkit never does this on import: that is for the script, the command line or the test suite to decide.

    Args:
        precision: `"single"` or `"double"`.

    Raises:
        ValueError: `precision` is neither.

    Example:
        >>> import jaxkit as jk
        >>> jk.set_precision("double")
        >>> jax.numpy.ones(()).dtype.name
        'float64'
    """
    one_of("precision", precision, ("single", "double"))
    jax.config.update("jax_enable_x64", precision == "double")


def data_root() -> Path:
    """The folder of data sets: `$JAXKIT_DATA`, or `~/.cache/jaxkit`."""
    return Path(os.environ.get("JAXKIT_DATA") or Path.home() / ".cache" / "jaxkit").expanduser()


def versions() -> dict[str, str]:
    """Versions of Python and of every package that jaxkit depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
