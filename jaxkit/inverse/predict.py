"""What a fit says about anything computed from its parameters, with standard errors."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Float

P = TypeVar("P")
Y = TypeVar("Y")


def predict(fn: Callable[[P], Y], params: P, covariance: Float[Array, "n n"]) -> tuple[Y, Y]:
    """`fn(params)` and its standard errors, by the delta method.

    Args:
        fn: Maps the parameters to a pytree of real arrays; differentiable in forward mode.
        params: The estimate, `n` numbers in all.
        covariance: Covariance of the flattened parameters, shape `(n, n)`.

    Returns:
        The value, and the standard error of every number in it, in the same structure.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> area = lambda p: p["width"] * p["height"]
        >>> value, error = jk.inverse.predict(area, {"width": 3.0, "height": 2.0}, jnp.diag(jnp.array([0.01, 0.04])))
        >>> round(float(value), 6), round(float(error), 4)  # sqrt(.01 3^2 + .04 2^2)
        (6.0, 0.5)
    """
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def both(p: Array) -> tuple[Array, Y]:
        value = fn(unravel(p))
        return jax.flatten_util.ravel_pytree(value)[0], value

    rows, value = jax.jacfwd(both, has_aux=True)(flat)
    errors = jnp.sqrt(jnp.einsum("ij,jk,ik->i", rows, covariance, rows))
    return value, jax.flatten_util.ravel_pytree(value)[1](errors)
