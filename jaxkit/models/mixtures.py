"""Mixtures of round Gaussians: laws whose every noisy density, score and denoiser is known exactly."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxkit.core import checks
from jaxkit.core.struct import struct


@struct
class Mixture:
    """A mixture of round Gaussians in any number of dimensions; made by `mixture`.

    Attributes:
        log_weights: Logarithms of the weights, shape `(k,)`.
        means: Means, shape `(k, d)`.
        sd: Standard deviations, shape `(k,)`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxkit as jk
        >>> two = jk.models.mixture([[-2.0, 0.0], [2.0, 0.0]], 0.5, [0.8, 0.2])
        >>> two.sample(jax.random.key(0), 3).shape, round(float(two.log_prob(jnp.array([2.0, 0.0]))), 3)
        ((3, 2), -2.061)
    """

    log_weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    sd: Float[Array, " k"]

    @property
    def weights(self) -> Float[Array, " k"]:
        """The weights; their sum is 1."""
        return jnp.exp(self.log_weights)

    def log_prob(self, x: Float[Array, "... d"], sigma: ArrayLike = 0.0) -> Float[Array, "..."]:
        """Log density at `x` of the mixture with noise `sigma`, which is a scalar or one value for each point."""
        logs, _, _ = self._parts(x, sigma)
        return jax.nn.logsumexp(logs, axis=1).reshape(x.shape[:-1])

    def score(self, x: Float[Array, "... d"], sigma: ArrayLike = 0.0) -> Float[Array, "... d"]:
        """Gradient of `log_prob` with respect to `x`, in closed form."""
        logs, away, variance = self._parts(x, sigma)
        return jnp.sum((jax.nn.softmax(logs, axis=1) / variance)[..., None] * -away, axis=1).reshape(x.shape)

    def denoise(self, y: Float[Array, "... d"], sigma: ArrayLike) -> Float[Array, "... d"]:
        """Mean of `x` given `y = x + sigma n`: the posterior mean of each component, weighted by its responsibility."""
        logs, away, variance = self._parts(y, sigma)
        kept = (self.sd.astype(y.dtype) ** 2)[None, :] / variance
        mean = self.means.astype(y.dtype)[None] + kept[..., None] * away
        return jnp.sum(jax.nn.softmax(logs, axis=1)[..., None] * mean, axis=1).reshape(y.shape)

    def sample(self, key: Array, n: int, dtype: DTypeLike | None = None) -> Float[Array, "n d"]:
        """Draw `n` points, in the dtype of the means by default."""
        dtype = self.means.dtype if dtype is None else dtype
        pick, noise = jax.random.split(key)
        which = jax.random.choice(pick, len(self.means), (n,), p=self.weights.astype(dtype))
        means, sd = self.means.astype(dtype)[which], self.sd.astype(dtype)[which]
        return means + sd[:, None] * jax.random.normal(noise, means.shape, dtype)

    def moments(self) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """Mean and variance of each coordinate."""
        weights = self.weights[:, None]
        mean = jnp.sum(weights * self.means, axis=0)
        return mean, jnp.sum(weights * (self.means**2 + (self.sd**2)[:, None]), axis=0) - mean**2

    def _parts(self, x: Array, sigma: ArrayLike) -> tuple[Array, Array, Array]:
        """Log joint densities `(n, k)`, differences from the means `(n, k, d)`, variances `(n or 1, k)`."""
        d = self.means.shape[1]
        checks.require(x.shape[-1:] == (d,), "x", f"have shape (..., {d})", f"has shape {x.shape}")
        log_weights, means, sd = (v.astype(x.dtype) for v in (self.log_weights, self.means, self.sd))
        level = jnp.asarray(sigma, x.dtype)
        level = jnp.broadcast_to(level, x.shape[:-1]) if level.ndim else level
        away = x.reshape(-1, 1, d) - means[None]
        variance = (sd**2)[None, :] + (level**2).reshape(-1, 1)
        logs = log_weights[None] - 0.5 * d * jnp.log(2 * math.pi * variance)
        return logs - 0.5 * jnp.sum(away**2, axis=2) / variance, away, variance


def mixture(means: ArrayLike | list, sd: ArrayLike | list, weights: ArrayLike | list | None = None) -> Mixture:
    """A mixture of round Gaussians.

    Args:
        means: Means, shape `(k, d)`.
        sd: Standard deviation of all components, or of each, shape `(k,)`.
        weights: Positive weights, shape `(k,)`, which are normalised to sum to 1; equal by default.

    Raises:
        ValueError: A shape does not fit, or a number is not positive.
    """
    centers, spread = checks.floating("means", means), checks.floating("sd", sd)
    checks.shape("means", centers, ("k", "d"))
    shares = jnp.ones_like(centers[:, 0]) if weights is None else checks.floating("weights", weights)
    spread = jnp.broadcast_to(spread, shares.shape) if spread.ndim == 0 else spread
    for name, value in (("weights", shares), ("sd", spread)):
        checks.shape(name, value, centers.shape[:1])
        checks.positive(name, value)
    return Mixture(jax.nn.log_softmax(jnp.log(shares)), centers, spread)


def ring(k: int = 8, radius: float = 2.0, sd: float = 0.2, weights: ArrayLike | None = None) -> Mixture:
    """`k` Gaussians on a circle in the plane.

    Args:
        k: Number of components.
        radius: Radius of the circle.
        sd: Standard deviation of each component.
        weights: Weights of the components, shape `(k,)`; equal by default.
    """
    angle = jnp.linspace(0.0, 2 * math.pi, k, endpoint=False)
    return mixture(radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1), sd, weights)
