"""Article I's claim about optimizers: with momentum a point overshoots the nearest pit."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxkit.compile.jit_cache import run_kept
from jaxkit.learn.fit import fit


def double_pit(x: Float[Array, "..."], args: Any = None) -> Float[Array, "..."]:
    """`U = x^4/4 - x^2/2`: pits at -1 and 1, a ridge at 0."""
    del args
    return x**4 / 4 - x**2 / 2


def crossings(
    optimizer: optax.GradientTransformation, *, starts: int = 2000, steps: int = 2000
) -> tuple[Float[Array, " starts"], Float[Array, " starts"]]:
    """Where descent from points in the right-hand pit ends.

    Args:
        optimizer: Any optax optimizer.
        starts: Number of starts, spaced evenly over (0.05, 2).
        steps: Number of steps of each.

    Returns:
        The starts and the ends. An end below 0 is in the wrong pit.

    Example:
        >>> import optax
        >>> from jaxkit.energy import crossings
        >>> _, ends = crossings(optax.sgd(0.05, momentum=0.9), starts=200, steps=1000)
        >>> round(float((ends < 0).mean()), 2)
        0.18
    """
    x0 = jnp.linspace(0.05, 2.0, starts)
    return x0, run_kept(_ends, (optimizer, steps), (x0,))


def _ends(optimizer: optax.GradientTransformation, steps: int, x0: Array) -> Array:
    return jax.vmap(lambda x: fit(double_pit, x, optimizer=optimizer, steps=steps).params)(x0)
