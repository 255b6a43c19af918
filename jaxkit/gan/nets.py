"""The networks of a run as plain functions, and noise for the generator."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxkit.core import checks
from jaxkit.gan.config import Config
from jaxkit.learn import batches
from jaxkit.learn.nets import MLP, Critic, Generator, Net, plain

HE = nn.initializers.he_normal()


class PointGenerator(nn.Module):
    """A perceptron with rectified units: piecewise linear, so that small changes of noise can jump between modes."""

    size: int
    width: int
    depth: int

    @nn.compact
    def __call__(self, z: Float[Array, "n latent"]) -> Float[Array, "n size"]:
        """Noise to points."""
        return MLP((*(self.width,) * self.depth, self.size), activation="relu", kernel_init=HE, name="mlp")(z)


class PointCritic(nn.Module):
    """Points to numbers, from the coordinates and their sines and cosines at a few frequencies."""

    width: int
    depth: int
    frequencies: tuple[float, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "n size"]) -> Float[Array, " n"]:
        """Points to numbers."""
        return MLP(
            (*(self.width,) * self.depth, 1),
            activation="leaky_relu",
            scalar=True,
            frequencies=self.frequencies,
            kernel_init=HE,
            name="mlp",
        )(x)


@functools.lru_cache(maxsize=32)
def networks(config: Config, shape: tuple[int, ...]) -> tuple[Net, Net]:
    """Generator and critic for samples of that shape: `(size,)` for points, `(height, width, channels)` for images."""
    z, x = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((1, config.latent), (1, *shape)))
    if len(shape) == 3:
        height, width, channels = shape
        generator = Generator(
            (height, width, channels),
            config.generator_channels,
            config.blocks[0],
            resample=config.resample,
            final="identity",
        )
        return plain(generator, z), plain(Critic(config.critic_channels, config.blocks[1]), x)
    checks.require(len(shape) == 1, "data", "hold samples of one axis or three", f"holds {len(shape)}")
    generator = PointGenerator(shape[0], config.width, config.depth)
    critic = PointCritic(config.width, config.depth, config.frequencies)
    return plain(generator, z), plain(critic, x)


def gradient_mode(shape: tuple[int, ...]) -> str:
    """How the critic's penalty is differentiated: double backward is faster where convolutions do the work."""
    return "forward" if len(shape) == 1 else "reverse"


def noise(config: Config, key: Array, n: int, dtype: Any) -> Float[Array, "n latent"]:
    """Draw the input of the generator."""
    return batches.latent_noise(config.prior, key, n, config.latent, dtype)
