"""Gaussian mixtures: data whose every noisy density, score and denoiser is known exactly."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkit.core import checks
from jaxkit.core.struct import struct
from jaxkit.score.model import Model


@struct
class Mixture:
    """A mixture of round Gaussians.

    Attributes:
        log_weights: Logarithms of the weights, shape `(k,)`.
        means: Means, shape `(k, d)`.
        sd: Standard deviations, shape `(k,)`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkit import score
        >>> two = score.Mixture.of([0.8, 0.2], [[-2.0, 0.0], [2.0, 0.0]], [0.5, 0.5])
        >>> two.sample(jax.random.key(0), 3).shape, round(float(two.log_prob(jnp.array([[2.0, 0.0]]))[0]), 3)
        ((3, 2), -2.061)
    """

    log_weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    sd: Float[Array, " k"]

    @classmethod
    def of(cls, weights: ArrayLike | list, means: ArrayLike | list, sd: ArrayLike | list) -> "Mixture":
        """Make a mixture of weights (any positive numbers), means and standard deviations."""
        w, m, s = (checks.floating(*v) for v in (("weights", weights), ("means", means), ("sd", sd)))
        checks.shape("means", m, ("k", "d"))
        for name, value in (("weights", w), ("sd", s)):
            checks.shape(name, value, (m.shape[0],))
            checks.positive(name, value)
        return cls(jax.nn.log_softmax(jnp.log(w)), m, s)

    def log_prob(self, y: Float[Array, "n d"], sigma: ArrayLike = 0.0) -> Float[Array, " n"]:
        """Log density of `x + sigma n` at `y`; `sigma` is a scalar or one value a point."""
        logs, _, _ = self._parts(y, sigma)
        return jax.nn.logsumexp(logs, axis=1)

    def score(self, y: Float[Array, "n d"], sigma: ArrayLike = 0.0) -> Float[Array, "n d"]:
        """Gradient of `log_prob` with respect to `y`, in closed form."""
        logs, away, variance = self._parts(y, sigma)
        return jnp.sum((jax.nn.softmax(logs, axis=1) / variance)[..., None] * -away, axis=1)

    def denoise(self, y: Float[Array, "n d"], sigma: ArrayLike) -> Float[Array, "n d"]:
        """Mean of `x` given `y = x + sigma n`: the posterior mean of each component, weighted by its responsibility."""
        logs, away, variance = self._parts(y, sigma)
        kept = (self.sd**2)[None, :] / variance
        return jnp.sum(jax.nn.softmax(logs, axis=1)[..., None] * (self.means[None] + kept[..., None] * away), axis=1)

    def sample(self, key: Array, n: int) -> Float[Array, "n d"]:
        """Draw `n` points."""
        which, normal = jax.random.split(key)
        k = jax.random.categorical(which, self.log_weights, shape=(n,))
        noise = jax.random.normal(normal, (n, self.means.shape[1]), self.means.dtype)
        return self.means[k] + self.sd[k][:, None] * noise

    def model(self) -> Model:
        """The exact denoiser, for every verb of the subject."""
        weights = jnp.exp(self.log_weights)[:, None]
        mean = jnp.sum(weights * self.means, axis=0)
        second = jnp.sum(weights * (self.means**2 + (self.sd**2)[:, None]), axis=0)
        return Model(self, mean, second - mean**2, _denoise, (self.means.shape[1],))

    def _parts(self, y: Array, sigma: ArrayLike) -> tuple[Array, Array, Array]:
        """Log joint densities `(n, k)`, differences from the means `(n, k, d)` and variances `(n, k)`."""
        checks.shape("y", y, ("n", self.means.shape[1]))
        levels = jnp.broadcast_to(jnp.asarray(sigma, y.dtype), y.shape[:1])
        away = y[:, None, :] - self.means[None]
        variance = (self.sd**2)[None, :] + (levels**2)[:, None]
        d = self.means.shape[1]
        logs = self.log_weights[None] - 0.5 * (jnp.sum(away**2, axis=2) / variance + d * jnp.log(2 * jnp.pi * variance))
        return logs, away, variance


def _denoise(mixture: Any, y: Array, sigma: Array) -> Array:
    return mixture.denoise(y, sigma)


def ring(k: int = 8, radius: float = 2.0, sd: float = 0.2, weights: ArrayLike | None = None) -> Mixture:
    """`k` equal Gaussians on a circle.

    Args:
        k: How many.
        radius: Of the circle.
        sd: Standard deviation of each.
        weights: Their weights; equal by default.
    """
    angle = jnp.linspace(0.0, 2 * jnp.pi, k, endpoint=False)
    means = radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    return Mixture.of(jnp.ones(k) if weights is None else weights, means, jnp.full(k, sd))
