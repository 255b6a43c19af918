"""Penalties on the gradient of a network with respect to its input, at the price of a first derivative."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxkit.core import checks

Energy = Callable[[Any, Array], Array]
MODES = ("forward", "reverse")


def half_square_gradient(
    fn: Energy, params: PyTree, x: Float[Array, "batch ..."], *, target: Array | None = None, mode: str = "forward"
) -> Float[Array, " batch"]:
    """Half the squared norm of the gradient of `fn` in `x` (minus `target`, if given), sample by sample.

    With `v = stop_gradient(grad_x E)`, the derivative of `1/2 |grad_x E|^2` is that of the directional derivative of
    `E` along `v`: no second backward pass through the network. It is exact in `params`, in `x` and in what `fn` closes
    over, for first derivatives; second derivatives of the result are not those of the squared norm.

    Args:
        fn: Maps `params` and `x` to one number per sample, shape `(batch,)`; samples must not depend on each other.
        params: Weights; any pytree.
        x: Inputs; the norm is over all axes but the first.
        target: Array of `x`'s shape to subtract: the score-matching loss `1/2 |grad_x E - target|^2`.
        mode: `"forward"` (the identity above), or `"reverse"` (double backward: correct to every order, and needed for
            networks whose layers have rules for reverse mode only).

    Returns:
        Shape `(batch,)`.

    Raises:
        ValueError: `mode` is unknown, `target` differs in shape from `x`, or `fn` does not give one number per sample.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit.learn.gradients import half_square_gradient
        >>> energy = lambda a, x: 0.5 * a * jnp.sum(x**2, axis=1)
        >>> [float(v) for v in half_square_gradient(energy, 3.0, jnp.array([[1.0, 0.0], [1.0, 1.0]]))]
        [4.5, 9.0]
        >>> float(jax.grad(lambda a: half_square_gradient(energy, a, jnp.ones((1, 2))).sum())(3.0))  # a |x|^2
        6.0

    References:
        Su, kexue.fm/archives/7038, for the losses; the identity is the chain rule with half of it held fixed.
    """
    return value_and_half_square_gradient(fn, params, x, target=target, mode=mode)[1]


def value_and_half_square_gradient(
    fn: Energy, params: PyTree, x: Float[Array, "batch ..."], *, target: Array | None = None, mode: str = "forward"
) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
    """The values of `fn` and its `half_square_gradient` from the same forward pass; the arguments are the same."""
    checks.one_of("mode", mode, MODES)
    values = jax.eval_shape(fn, params, x)
    checks.require(
        values.shape == x.shape[:1], "fn", f"give one number a sample, shape {x.shape[:1]}", f"gives {values.shape}"
    )
    if target is not None:
        checks.shape("target", target, x.shape)
    axes = tuple(range(1, x.ndim))
    inner = lambda a, b: jnp.sum(a * b, axis=axes)
    excess = lambda gradient: gradient if target is None else gradient - target
    at = lambda y: fn(params, y)
    if mode == "reverse":
        values, pull = jax.vjp(at, x)
        v = excess(pull(jnp.ones_like(values))[0])
        return values, 0.5 * inner(v, v)
    v = jax.lax.stop_gradient(excess(jax.grad(lambda y: jnp.sum(at(y)))(x)))
    values, along = jax.jvp(at, (x,), (v,))
    if target is not None:
        along = along - inner(v, target)
    return values, along - jax.lax.stop_gradient(along) + 0.5 * inner(v, v)
