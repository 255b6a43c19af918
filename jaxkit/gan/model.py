"""A trained generator with its critic: samples, interpolation, files."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxkit.core import checks
from jaxkit.core.struct import static, struct
from jaxkit.gan import nets
from jaxkit.gan.config import Config
from jaxkit.learn import saving
from jaxkit.learn.data.images import pixels, scaled
from jaxkit.learn.units import Units

BLOCK = 500
"""Number of samples made at once, such that they stay in the caches."""


@struct
class GAN:
    """A generator and its critic.

    Attributes:
        generator: Parameters of the generator (the averaged ones).
        critic: Parameters of the critic.
        config: The run that made it.
        shape: Shape of a sample.
        bits: Whether samples are bytes, 0 to 255 (images), or else floating-point numbers.
        units: Centre and scale of the data that the networks see.
    """

    generator: Any
    critic: Any
    config: Config = static()
    shape: tuple[int, ...] = static()
    bits: bool = static()
    units: Units = Units()

    def __call__(self, z: Float[Array, "n latent"]) -> Float[Array, "n ..."]:
        """The generator: noise to samples (in [-1, 1] for a model of bytes)."""
        return self.units.outside(nets.networks(self.config, self.shape)[0].apply(self.generator, z))

    def score(self, x: Array) -> Float[Array, " n"]:
        """The critic's outputs on samples, shape `(n, ...)` (bytes, or what the generator makes)."""
        return nets.networks(self.config, self.shape)[1].apply(self.critic, self.units.inside(scaled(x)))

    def sample(self, key: Array, n: int) -> Array:
        """Draw samples.

        Args:
            key: Random key.
            n: Number of samples.

        Returns:
            Shape `(n, *shape)`: bytes for a model of images, floating-point numbers otherwise.
        """
        checks.require(n > 0, "n", "be positive", f"is {n}")
        return _sample(self, key, -(-n // BLOCK), min(n, BLOCK)).reshape(-1, *self.shape)[:n]

    def interpolate(self, key: Array, rows: int = 6, points: int = 9) -> Array:
        """Samples along paths between pairs of noise: straight ones, or on the sphere for normal noise.

        Args:
            key: Random key of the ends.
            rows: Number of paths.
            points: Points on each path, including the ends.

        Returns:
            Shape `(rows, points, *shape)`.

        References:
            White (2016), Sampling generative networks (for the spherical paths).
        """
        a, b = (nets.noise(self.config, k, rows, self.dtype)[:, None] for k in jax.random.split(key))
        t = jnp.linspace(0, 1, points, dtype=self.dtype)[None, :, None]
        if self.config.prior == "normal":
            unit = lambda v: v / jnp.linalg.norm(v, axis=-1, keepdims=True)
            angle = jnp.arccos(jnp.clip(jnp.sum(unit(a) * unit(b), axis=-1, keepdims=True), -1, 1))
            z = (jnp.sin((1 - t) * angle) * a + jnp.sin(t * angle) * b) / jnp.sin(angle)
        else:
            z = (1 - t) * a + t * b
        return self._made(z.reshape(rows * points, -1)).reshape(rows, points, *self.shape)

    @property
    def dtype(self) -> Any:
        """Type of the parameters."""
        return jax.tree.leaves(self.generator)[0].dtype

    def _made(self, z: Array) -> Array:
        return pixels(self(z)) if self.bits else self(z)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _sample(model: GAN, key: Array, blocks: int, size: int) -> Array:
    one = lambda k: model._made(nets.noise(model.config, k, size, model.dtype))
    return jax.lax.map(one, jax.random.split(key, blocks))


def save(path: str | Path, model: GAN) -> Path:
    """Write a model to one file: its parameters, its configuration, and a checksum.

    Returns:
        The file.

    Raises:
        ValueError: A user's own loss or penalty holds functions that cannot be imported by name (lambdas, say).
    """
    return saving.save(path, model)


def load(path: str | Path) -> GAN:
    """Read a model that `save` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is damaged, or holds no such model (see `jaxkit.learn.checkpoint`).
    """
    return saving.load(path, GAN)
