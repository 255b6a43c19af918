"""Units of data: a model sees every coordinate centred and scaled, and its results are in the data's units."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxkit.core import checks
from jaxkit.core.jax_internals import is_tracer
from jaxkit.core.struct import struct
from jaxkit.learn.data.images import scaled

ROWS = {True: 10_000, False: 200_000}
"""Rows of an array from which its units are taken: of pictures (True), of points (False)."""
DRAWS = 4096
"""Number of samples of a function from which its units are taken."""


@struct
class Units:
    """Centre and scale of each coordinate (one pair for all pixels of pictures): a model sees `(x - mean) / scale`.

    They are arrays, not constants of a program: models of differently scaled data share their compiled programs. The
    units of a model made by hand are 0 and 1.

    Attributes:
        mean: What is subtracted: a scalar, or an array of the data's shape.
        scale: What the difference is divided by: a scalar, or an array of the data's shape.
    """

    mean: Any = 0.0
    scale: Any = 1.0

    def inside(self, x: Array) -> Array:
        """Data as the model sees them, for any leading axes."""
        return (x - _leading(self.mean, x)) / _leading(self.scale, x)

    def outside(self, x: Array) -> Array:
        """What the model sees as data: the inverse of `inside`."""
        return _leading(self.mean, x) + _leading(self.scale, x) * x

    def log_det(self, shape: tuple[int, ...]) -> Float[Array, ""]:
        """Log of the volume that `outside` gives to a unit volume: a log density in data units is less by that."""
        return jnp.sum(jnp.log(jnp.broadcast_to(jnp.asarray(self.scale), shape)))


@struct
class Inside:
    """Batches of another stream as a model sees them; bytes are read as [-1, 1] first.

    Attributes:
        stream: `i -> batch`.
        units: The units.
    """

    stream: Any
    units: Units

    def __call__(self, i: Int[Array, ""] | int) -> Array:
        """The i-th batch."""
        return self.units.inside(scaled(self.stream(i)))


def standard(data: Array) -> Units:
    """Mean and standard deviation of each coordinate of points `(n, d)`, or of all pixels of pictures together.

    A coordinate that never varies is scaled by its size: it has no other scale.
    """
    checks.require(data.shape[0] > 0, "data", "hold at least one sample", f"has shape {data.shape}")
    pictures, dtype = data.ndim > 2, scaled(data[:1]).dtype
    traced = is_tracer(data)
    part = data[: ROWS[pictures]]
    x: Any = scaled(part) if traced or part.dtype == jnp.uint8 else part
    lib: Any = jnp if traced else np
    x = x if traced else np.asarray(x, np.float64)
    axis = None if pictures else 0
    mean = lib.mean(x, axis=axis)
    off = x - (mean if pictures else mean[None])
    peak = lib.max(lib.abs(off), axis=axis)  # after division by it, squares neither overflow nor vanish
    safe = lib.where(peak > 0, peak, 1.0)
    sd = safe * lib.sqrt(lib.mean((off / (safe if pictures else safe[None])) ** 2, axis=axis))
    size = lib.abs(mean)
    constant = sd <= 4 * float(jnp.finfo(dtype).eps) * size
    scale = lib.where(constant, lib.where(size > 0, size, 1.0), sd)
    return Units(jnp.asarray(mean, dtype), jnp.asarray(scale, dtype))


def drawn(data: Any, key: Array, *, pictures_by_range: bool = False) -> Units:
    """Units of an array, or of what a function `(key, n) -> samples` draws.

    Args:
        data: The array or the function.
        key: Key of the draws.
        pictures_by_range: Whether pictures are brought to [-1, 1] (bytes, which are read so, then stay as they are).
    """
    data = data(key, DRAWS) if callable(data) else jnp.asarray(data)
    if data.ndim < 3 or not pictures_by_range:
        return standard(data)
    if data.dtype == jnp.uint8:
        return Units(jnp.zeros((), jnp.float32), jnp.ones((), jnp.float32))
    low, high = jnp.min(data), jnp.max(data)
    return Units((low + high) / 2, jnp.where(high > low, (high - low) / 2, 1))


def _leading(value: Any, x: Array) -> Array:
    value = jnp.asarray(value, x.dtype)
    return value.reshape((1,) * (x.ndim - value.ndim) + value.shape) if value.ndim else value
