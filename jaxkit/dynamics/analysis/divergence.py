"""`divergence`: that of a field, or of a weighted field (Bendixson and Dulac)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array

from jaxkit.dynamics.ode.field import Field


def divergence(field: Field, weight: Callable[[Any], Array] | None = None) -> Callable[[Any, Any], Array]:
    """Divergence of `weight * field` by automatic differentiation: `(x, args) -> number`.

    With a positive `weight` (a Dulac function) a divergence of one sign excludes cycles (Bendixson-Dulac).

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> float(jk.divergence(lambda t, x, a: a * x)(jnp.ones(3), 2.0))
        6.0
    """

    def of(x: Any, args: Any) -> Array:
        flat, unravel = jax.flatten_util.ravel_pytree(x)

        def flow(flat: Array) -> Array:
            velocity = jax.flatten_util.ravel_pytree(field(jnp.zeros((), flat.dtype), unravel(flat), args))[0]
            return velocity if weight is None else weight(unravel(flat)) * velocity

        return jnp.trace(jax.jacfwd(flow)(flat))

    return of
