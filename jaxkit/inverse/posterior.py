"""Draws from the posterior of parameters, given measurements with known errors."""

import dataclasses
from typing import Any, TypeVar

import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxkit.dynamics.mcmc.langevin import MALA
from jaxkit.dynamics.mcmc.sample import Chains, sample
from jaxkit.dynamics.roots.least_squares import LeastSquares, Residuals

P = TypeVar("P")


def sample_posterior(
    residuals: Residuals[P],
    best: LeastSquares[P],
    args: PyTree = None,
    *,
    key: Array,
    chains: int = 8,
    steps: int = 400,
    warmup: int = 100,
) -> Chains[P]:
    """Draw parameters from their posterior under a flat prior, given residuals in units of known Gaussian errors.

    The fit gives the mode and the shape about it; MALA, whose gradients run through the residuals, then draws.
    Residuals that are not finite count as a thousand standard deviations.

    Args:
        residuals: Maps parameters and `args` to an array of residuals, each in units of its error.
        best: The least-squares fit of the residuals, with some misfit left.
        args: Data.
        key: Random key.
        chains: Number of chains, which move at once.
        steps: Number of draws of each chain.
        warmup: Number of draws before those, which are discarded.

    Returns:
        The chains: `xs` has the structure of `best.params`, leaves of shape `(steps, chains, ...)`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxkit as jk
        >>> y = 2.0 + 0.1 * jax.random.normal(jax.random.key(0), (25,))
        >>> mean = lambda m, _: (m - y) / 0.1
        >>> drawn = jk.inverse.sample_posterior(mean, jk.least_squares(mean, 1.0), key=jax.random.key(1)).checked()
        >>> bool(abs(drawn.xs.mean() - y.mean()) < 0.004), bool(abs(drawn.xs.std() / 0.02 - 1) < 0.1)
        (True, True)
    """
    mode, unravel = jax.flatten_util.ravel_pytree(best.params)
    # The errors are known, so that the spread of the residuals plays no part.
    spread = jnp.linalg.cholesky(best.covariance * best.degrees_of_freedom / best.sse)
    expand = lambda z, mode, spread: unravel(mode + spread @ z)

    def energy(z: Array, given: Any) -> Array:
        *shape, args = given
        gap = jax.flatten_util.ravel_pytree(residuals(expand(z, *shape), args))[0]
        return 0.5 * jnp.sum(jnp.where(jnp.isfinite(gap), gap, 1e3) ** 2)

    first, walk = jax.random.split(key)
    z0 = jax.random.normal(first, (chains, mode.size), mode.dtype)
    given = (mode, spread, args)
    found: Any = sample(energy, z0, given, key=walk, steps=steps, method=MALA(0.8, target_accept=0.57), warmup=warmup)
    every = jax.vmap(lambda z: expand(z, mode, spread))
    return dataclasses.replace(found, xs=jax.vmap(every)(found.xs), final=every(found.final))
