"""Are the chains good? Effective sample size and split R-hat, as Stan computes them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxkit.core import checks


def _draws(xs: Array) -> Array:
    xs = checks.floating("xs", xs)
    fits = xs.ndim >= 2 and xs.shape[0] >= 4
    checks.require(fits, "xs", "have shape (draws, chains, ...) with 4 draws or more", f"has shape {xs.shape}")
    return xs


def autocovariance(xs: Float[Array, "draws ..."]) -> Float[Array, "draws ..."]:
    """Autocovariances over the first axis at every lag, by the Fourier transform, divided by the number of draws.

    Args:
        xs: Shape `(draws, ...)`.
    """
    n = xs.shape[0]
    centred = xs - jnp.mean(xs, axis=0, keepdims=True)
    spectrum = jnp.fft.rfft(centred, n=2 * n, axis=0)
    return jnp.fft.irfft(jnp.real(spectrum * jnp.conj(spectrum)), n=2 * n, axis=0)[:n].astype(xs.dtype) / n


@jax.jit
def effective_sample_size(xs: Float[Array, "draws chains ..."]) -> Float[Array, "..."]:
    """How many independent draws the chains are worth, for the mean of each quantity.

    Geyer's initial monotone sequence over the autocorrelations of all chains together (Vehtari et al. 2021, without
    rank-normalisation).

    Args:
        xs: Shape `(draws, chains, ...)`.

    Returns:
        Shape `(...)`; at most `draws * chains * log10(draws * chains)`.

    Example:
        >>> import jax
        >>> from jaxkit.dynamics.mcmc.diagnostics import effective_sample_size
        >>> independent = jax.random.normal(jax.random.key(0), (1000, 4))
        >>> 3000 < float(effective_sample_size(independent)) < 5000
        True
    """
    xs = _draws(xs)
    draws, chains = xs.shape[:2]
    covariance = jnp.mean(autocovariance(xs), axis=1)
    within = covariance[0] * draws / (draws - 1)
    total = covariance[0]
    if chains > 1:
        total = total + jnp.var(jnp.mean(xs, axis=0), axis=0, ddof=1)
    still = total <= 0
    total = jnp.where(still, 1, total)
    correlation = (1 - (within[None] - covariance) / total[None]).at[0].set(1)
    even = correlation[: draws // 2 * 2].reshape(draws // 2, 2, *correlation.shape[1:])
    pairs = jnp.sum(even, axis=1)
    positive = jax.lax.associative_scan(jnp.logical_and, pairs > 0)
    falling = jax.lax.associative_scan(jnp.minimum, jnp.where(positive, pairs, 0))
    time = jnp.maximum(-1 + 2 * jnp.sum(falling, axis=0), 1 / jnp.log10(jnp.asarray(draws * chains, xs.dtype)))
    return jnp.where(still, 0, draws * chains / time)


@jax.jit
def split_rhat(xs: Float[Array, "draws chains ..."]) -> Float[Array, "..."]:
    """Split R-hat: the spread between half chains over the spread within them; near 1 where all tell the same story.

    Args:
        xs: Shape `(draws, chains, ...)`; one chain is enough, since each is cut in two.

    Returns:
        Shape `(...)`. Above 1.01 the chains have not mixed (Vehtari et al. 2021); NaN where nothing ever moved.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkit.dynamics.mcmc.diagnostics import split_rhat
        >>> draws = jax.random.normal(jax.random.key(0), (1000, 2))
        >>> apart = draws + jnp.array([[0.0, 3.0]])  # two chains in two places
        >>> bool(split_rhat(draws) < 1.01), bool(split_rhat(apart) > 1.5)
        (True, True)
    """
    xs = _draws(xs)
    half = xs.shape[0] // 2
    halves = jnp.concatenate([xs[:half], xs[-half:]], axis=1)
    within = jnp.mean(jnp.var(halves, axis=0, ddof=1), axis=0)
    between = jnp.var(jnp.mean(halves, axis=0), axis=0, ddof=1)
    return jnp.sqrt((half - 1) / half + between / within)
