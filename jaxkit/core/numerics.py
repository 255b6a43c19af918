"""Numerics whose derivatives stay finite where the naive forms give NaN (jax issues 347, 1052)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, PyTree


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether all floating-point numbers of a tree are finite; true for a tree without any."""
    leaves = [jnp.asarray(v) for v in jax.tree.leaves(tree)]
    each = [jnp.all(jnp.isfinite(v)) for v in leaves if jnp.issubdtype(v.dtype, jnp.inexact)]
    return jnp.all(jnp.stack(each)) if each else jnp.ones((), bool)


def choose(mask: Array, a: PyTree, b: PyTree) -> PyTree:
    """`a` where the mask, whose axes come first in each leaf, holds; `b` elsewhere."""
    mask = jnp.asarray(mask)
    wide = lambda v: mask.reshape(mask.shape + (1,) * (jnp.ndim(v) - mask.ndim))
    return jax.tree.map(lambda u, v: jnp.where(wide(u), u, v), a, b)


def representable(t: Array, h: Array) -> Array:
    """The step nearest to `h` that leads from the time `t` to a time that there is in floating point.

    A state that moves by a step that its time cannot make comes to another time than it says.
    """
    return (t + h) - t


def safe_divide(numerator: ArrayLike, denominator: ArrayLike, fill: float = 0.0) -> Array:
    """`numerator / denominator`, and `fill` with zero derivative where the denominator is 0.

    Example:
        >>> import jax
        >>> from jaxkit.core.numerics import safe_divide
        >>> float(jax.grad(safe_divide)(1.0, 0.0))
        0.0
    """
    denominator = jnp.asarray(denominator)
    good = denominator != 0
    return jnp.where(good, numerator / jnp.where(good, denominator, 1), fill)


def safe_sqrt(x: ArrayLike) -> Array:
    """Square root; 0 with zero derivative where `x <= 0`."""
    x = jnp.asarray(x)
    good = x > 0
    return jnp.where(good, jnp.sqrt(jnp.where(good, x, 1)), 0)


def safe_norm(x: Array, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Array:
    """Euclidean norm whose derivative at the origin is 0 instead of NaN."""
    return safe_sqrt(jnp.sum(jnp.square(x), axis=axis, keepdims=keepdims))


def safe_log(x: ArrayLike, tiny: float | None = None) -> Array:
    """Logarithm of `max(x, tiny)`, with derivative zero below `tiny` (the smallest normal number by default)."""
    x = jnp.asarray(x)
    floor = float(jnp.finfo(x.dtype).tiny) if tiny is None else tiny
    good = x > floor
    return jnp.where(good, jnp.log(jnp.where(good, x, 1)), jnp.log(jnp.asarray(floor, x.dtype)))
