"""Group norm whose loops all run along memory: sums over groups and their broadcasts are products with constants.

Why: XLA's CPU compiler does not vectorise a sum over all spatial axes, nor its derivative. Here only the first spatial
axis is reduced by a sum; the rest, with the means over groups, is reduced by a product, whose transpose broadcasts the
numbers again. The sums leave a few numbers for each picture; one pass reads the pictures, and one writes them.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def group_norm(
    x: Float[Array, "... c"],
    weight: Float[Array, " c"],
    bias: Float[Array, " c"],
    *,
    groups: int,
    space: int,
    epsilon: float,
    scale: Array | None = None,
    shift: Array | None = None,
) -> Float[Array, "... c"]:
    """`x` normalised over its `space` axes and each group of channels, times `weight`, plus `bias`.

    Where given, `1 + scale` multiplies the result and `shift` is added: one number for each channel of each picture.
    """
    channels = x.shape[-1]
    lead, first = x.shape[: -1 - space], len(x.shape) - 1 - space
    rest = math.prod(x.shape[first + 1 : -1])
    group = np.arange(channels) // (channels // groups)
    entries = x.shape[first] * rest * channels // groups
    together = jnp.asarray(np.tile(group[:, None] == group, (rest, 1)) / entries, x.dtype)
    each = jnp.asarray(np.tile(np.eye(channels), (1, rest)), x.dtype)
    product = lambda v, matrix: jnp.matmul(v, matrix, precision="highest")
    row = lambda v: v.reshape((1,) * len(lead) + (-1,))
    sums = jnp.stack([jnp.sum(v, first).reshape(*lead, -1) for v in (x, x * x)])
    mean, square = product(sums, together)
    factor = jax.lax.rsqrt(jnp.maximum(square - mean**2, 0) + epsilon) * row(weight)
    offset = row(bias) - mean * factor
    if scale is not None:
        factor, offset = factor * (1 + scale), offset * (1 + scale)
    if shift is not None:
        offset = offset + shift
    factor, offset = product(jnp.stack([factor, offset]), each).reshape(2, *lead, 1, *x.shape[first + 1 :])
    return x * factor + offset
