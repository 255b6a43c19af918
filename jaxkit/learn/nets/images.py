"""Residual networks for pictures without normalisation: generator, critic, energy.

They follow R3GAN: no norm layers, leaky rectifiers, resampling by repetition instead of transposed convolutions (no
checkerboard), second kernels that start at zero. To be affordable on a CPU, only the first and the last convolution
work at full resolution.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxkit.core import checks
from jaxkit.learn.nets.layers import Conv, ResBlock, avg_pool, upsample
from jaxkit.learn.nets.mlp import Dense, activate

Activation = str | Callable[[Array], Array]


class Generator(nn.Module):
    """Pictures from vectors: `channels[0]` at the coarsest scale, and a factor of two in size from each to the next.

    Attributes:
        shape: Shape `(h, w, c)` of a picture; surplus pixels at the edges are cut off.
        channels: Channels at each scale but the finest.
        depth: Residual blocks per scale.
        activation: Name or function.
        resample: `"nearest"` or `"bilinear"`.
        final: Activation of the pixels.
        param_dtype: Type of the parameters; that of the input if None.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkit.learn import nets
        >>> net = nets.plain(nets.Generator((28, 28, 1), channels=(32, 16)), jnp.zeros((1, 64)))
        >>> net.apply(net.init(jax.random.key(0)), jnp.ones((5, 64))).shape
        (5, 28, 28, 1)

    References:
        Huang et al. (2024), The GAN is dead; long live the GAN! A modern GAN baseline (R3GAN).
    """

    shape: tuple[int, int, int]
    channels: Sequence[int] = (64, 32)
    depth: int = 1
    activation: Activation = "leaky_relu"
    resample: str = "nearest"
    final: Activation = "tanh"
    param_dtype: Any = None

    @nn.compact
    def __call__(self, z: Float[Array, "... n"]) -> Float[Array, "... h w c"]:
        """Pictures from `z`."""
        height, width, colours = self.shape
        scale = 2 ** len(self.channels)
        start = (math.ceil(height / scale), math.ceil(width / scale), self.channels[0])
        x = Dense(math.prod(start), param_dtype=self.param_dtype, name="start")(z).reshape(*z.shape[:-1], *start)
        for i, features in enumerate(self.channels):
            if features != x.shape[-1]:
                x = Conv(features, 1, param_dtype=self.param_dtype, name=f"narrow{i}")(x)
            x = upsample(x, 2, self.resample) if i else x
            for j in range(self.depth):
                x = ResBlock(activation=self.activation, param_dtype=self.param_dtype, name=f"block{i}_{j}")(x)
        x = upsample(activate(self.activation, x), 2, self.resample)
        x = Conv(colours, kernel_init=nn.initializers.lecun_normal(), param_dtype=self.param_dtype, name="pixels")(x)
        return activate(self.final, x[..., :height, :width, :])


class Critic(nn.Module):
    """One number per picture, for the second player of a GAN.

    Attributes:
        channels: Channels at each scale, from half the resolution down.
        depth: Residual blocks per scale.
        activation: Name or function.
        spectral: Whether every kernel is divided by its spectral norm.
        param_dtype: Type of the parameters; that of the input if None.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkit.learn import nets
        >>> net = nets.plain(nets.Critic((16, 32)), jnp.zeros((1, 28, 28, 1)))
        >>> net.apply(net.init(jax.random.key(0)), jnp.ones((5, 28, 28, 1))).shape
        (5,)
    """

    channels: Sequence[int] = (32, 64)
    depth: int = 1
    activation: Activation = "leaky_relu"
    spectral: bool = False
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "... h w c"]) -> Float[Array, "..."]:
        """Scores of pictures."""
        checks.require(x.ndim >= 3, "x", "have shape (..., h, w, c)", f"has {x.shape}")
        shared: dict[str, Any] = {"spectral": self.spectral, "param_dtype": self.param_dtype}
        for i, features in enumerate(self.channels):
            x = x if i == 0 else activate(self.activation, x)
            x = Conv(features, 4, stride=2, name=f"down{i}", **shared)(x)
            for j in range(self.depth):
                x = ResBlock(activation=self.activation, name=f"block{i}_{j}", **shared)(x)
        x = activate(self.activation, x)
        return Dense(1, name="score", **shared)(x.reshape(*x.shape[:-3], -1))[..., 0]


class EnergyNet(nn.Module):
    """The energy of a picture: smooth activations, means over space, a quadratic head.

    Attributes:
        channels: Channels at each scale, the first at full resolution; scales are halved by means.
        depth: Residual blocks per scale (none at full resolution if `cheap`).
        activation: Name or function; smooth, since energies are differentiated twice.
        cheap: Leave out the blocks at full resolution.
        param_dtype: Type of the parameters; that of the input if None.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkit.learn import nets
        >>> net = nets.plain(nets.EnergyNet((8, 16, 32)), jnp.zeros((1, 28, 28, 1)))
        >>> net.apply(net.init(jax.random.key(0)), jnp.ones((5, 28, 28, 1))).shape
        (5,)

    References:
        Li, Chen, Sommer (2019), Learning energy-based models in high-dimensional spaces with multi-scale denoising
        score matching (head).
    """

    channels: Sequence[int] = (16, 32, 64)
    depth: int = 1
    activation: Activation = "silu"
    cheap: bool = True
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "... h w c"]) -> Float[Array, "..."]:
        """Energies of pictures."""
        checks.require(x.ndim >= 3, "x", "have shape (..., h, w, c)", f"has {x.shape}")
        x = Conv(self.channels[0], param_dtype=self.param_dtype, name="pixels")(x)
        for i, features in enumerate(self.channels):
            if i:
                x = Conv(features, 1, param_dtype=self.param_dtype, name=f"widen{i}")(avg_pool(x))
            for j in range(0 if self.cheap and i == 0 else self.depth):
                x = ResBlock(activation=self.activation, param_dtype=self.param_dtype, name=f"block{i}_{j}")(x)
        h = jnp.mean(activate(self.activation, x), (-3, -2))
        first, second, square = (Dense(1, param_dtype=self.param_dtype, name=f"head{i}") for i in range(3))
        return (first(h) * second(h) + square(h * h))[..., 0]
