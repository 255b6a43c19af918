"""Logarithms and powers of two from the bits of a number: enough for a step length, and cheap."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def _bits(dtype: Any) -> tuple[Any, int, int]:
    """Integer type, mantissa bits and exponent bias of a floating type."""
    info = jnp.finfo(dtype)
    return (jnp.int64 if info.bits == 64 else jnp.int32), info.nmant, -int(info.minexp) + 1


def fast_log2(x: Array) -> Array:
    """Base-2 logarithm to 0.01."""
    integer, mantissa, bias = _bits(x.dtype)
    scaled = jax.lax.bitcast_convert_type(x, integer).astype(x.dtype) * 2.0**-mantissa
    fraction = scaled - jnp.floor(scaled)
    return scaled - bias + 0.344 * fraction * (1 - fraction)


def fast_exp2(x: Array) -> Array:
    """Power of two to 0.5%."""
    integer, mantissa, bias = _bits(x.dtype)
    x = jnp.clip(x, 2.0 - bias, bias - 1.0)
    fraction = x - jnp.floor(x)
    scaled = (x + bias - 0.3372 * fraction * (1 - fraction)) * 2.0**mantissa
    return jax.lax.bitcast_convert_type(scaled.astype(integer), x.dtype)
