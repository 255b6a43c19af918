"""A small U-Net that knows how much noise is in its input: `ScoreNet`.

Its layers are those of `layers`, written for CPUs; `patch` turns small squares into channels at the entrance, which
about halves the time of a step.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxkit.compile.convolution import conv
from jaxkit.core import checks
from jaxkit.learn.nets.layers import Conv, GroupNorm, avg_pool, upsample
from jaxkit.learn.nets.mlp import Dense, activate
from jaxkit.learn.nets.plain import parameter

INIT, zeros = nn.initializers.lecun_normal(), nn.initializers.zeros


class ScoreNet(nn.Module):
    """A U-Net of images and a noise level, with an output of the images' shape (zero before training).

    Attributes:
        widths: Channels at each resolution, each half the one before. The sides must be divisible accordingly.
        patch: Side of the square patches that become channels at the entrance: 2 halves the largest resolution, which
            is where most of the time goes.
        embedding: Size of the embedding of the noise level.
        groups: Groups of the normalisation; widths must be divisible by it.
        param_dtype: Type of the parameters; that of the input if None.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkit.learn import nets
        >>> net = nets.plain(nets.ScoreNet((16, 24), embedding=32), jnp.zeros((1, 8, 8, 1)), jnp.zeros(1))
        >>> params = net.init(jax.random.key(0))
        >>> net.apply(params, jnp.ones((2, 8, 8, 1)), jnp.zeros(2)).shape
        (2, 8, 8, 1)

    References:
        Ronneberger et al. (2015); Ho et al. (2020); Karras et al. (2022) for the scale-and-shift by the noise.
    """

    widths: Sequence[int] = (32, 48, 64)
    patch: int = 1
    embedding: int = 128
    groups: int = 8
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], level: Float[Array, " n"]) -> Float[Array, "n h w c"]:
        """The network of images `x` and one noise level each."""
        side = self.patch * 2 ** (len(self.widths) - 1)
        fits = x.ndim == 4 and x.shape[1] % side == 0 and x.shape[2] % side == 0
        checks.require(fits, "x", f"be images with sides divisible by {side}", f"has shape {x.shape}")
        noise = activate("silu", Dense(self.embedding, param_dtype=self.param_dtype, name="noise")(waves(level)))
        own = {"groups": self.groups, "param_dtype": self.param_dtype}
        h = Conv(self.widths[0], kernel_init=INIT, param_dtype=self.param_dtype, name="enter")(to_depth(x, self.patch))
        skips = []
        for i, width in enumerate(self.widths):
            h = NoisyBlock(width, name=f"down{i}", **own)(h, noise)
            if i + 1 < len(self.widths):
                skips.append(h)
                h = avg_pool(h)
        h = NoisyBlock(self.widths[-1], name="bottom", **own)(h, noise)
        for i, width in reversed(list(enumerate(self.widths[:-1]))):
            h = NoisyBlock(width, name=f"up{i}", **own)(skips[i], noise, h)
        h = activate("silu", GroupNorm(self.groups, param_dtype=self.param_dtype, name="norm")(h))
        size = x.shape[-1] * self.patch**2
        return to_space(Conv(size, kernel_init=zeros, param_dtype=self.param_dtype, name="leave")(h), self.patch)


class NoisyBlock(nn.Module):
    """Two convolutions with a shortcut; the noise level scales and shifts the normalised input of the second.

    Attributes:
        features: Channels of the output; an input with another number of them passes a 1 x 1 convolution first.
        groups: Groups of the normalisation.
        param_dtype: Type of the parameters; that of the input if None.
    """

    features: int
    groups: int = 8
    param_dtype: Any = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], noise: Float[Array, "n e"], coarse: Array | None = None
    ) -> Float[Array, "n h w features"]:
        """The block of `x`, joined with the scaled-up channels of a coarser picture if given, under the noise."""
        own = {"param_dtype": self.param_dtype}
        if coarse is not None:
            x = Join(self.features, name="match", **own)(coarse, x)
        elif x.shape[-1] != self.features:
            x = Dense(self.features, name="match", **own)(x)
        h = activate("silu", GroupNorm(self.groups, name="norm0", **own)(x))
        h = Conv(self.features, kernel_init=INIT, name="conv0", **own)(h)
        scale, shift = jnp.split(Dense(2 * self.features, name="modulate", **own)(noise), 2, axis=-1)
        h = GroupNorm(self.groups, name="norm1", **own)(h, scale, shift)
        return x + Conv(self.features, kernel_init=zeros, name="conv1", **own)(activate("silu", h))


class Join(nn.Module):
    """`Dense` of the channels of a scaled-up picture and of a fine one, before they are joined.

    A product at each pixel and scaling up by repetition commute: the coarse picture is multiplied first, at a quarter
    of the cost, and nothing is concatenated.

    Attributes:
        features: Channels of the output.
        param_dtype: Type of the parameters; that of the input if None.
    """

    features: int
    param_dtype: Any = None

    @nn.compact
    def __call__(self, coarse: Float[Array, "n h/2 w/2 a"], fine: Float[Array, "n h w b"]) -> Array:
        """The layer of both, shape `(n, h, w, features)`."""
        split, shape = coarse.shape[-1], (coarse.shape[-1] + fine.shape[-1], self.features)
        kernel = parameter(self, "kernel", INIT, shape, self.param_dtype, fine)
        bias = parameter(self, "bias", zeros, (self.features,), self.param_dtype, fine)
        one_by_one = kernel[None, None]
        coarse = conv(coarse, one_by_one[:, :, :split]) + bias[None, None, None]
        return upsample(coarse) + conv(fine, one_by_one[:, :, split:])


def waves(level: Float[Array, " n"], size: int = 64) -> Float[Array, "n size"]:
    """Sines and cosines of a noise level (of order 1), at frequencies from 1/4 to 16."""
    frequencies = jnp.exp2(jnp.linspace(-2.0, 4.0, size // 2, dtype=level.dtype))
    angles = 2 * math.pi * level[:, None] * frequencies[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)


def to_depth(x: Float[Array, "n h w c"], patch: int) -> Float[Array, "n h/p w/p c*p*p"]:
    """Square patches as channels."""
    if patch == 1:
        return x
    n, h, w, c = x.shape
    x = x.reshape(n, h // patch, patch, w // patch, patch, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, h // patch, w // patch, patch * patch * c)


def to_space(x: Float[Array, "n h w c"], patch: int) -> Float[Array, "n h*p w*p c/(p*p)"]:
    """The inverse of `to_depth`."""
    if patch == 1:
        return x
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, patch, patch, c // patch**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, h * patch, w * patch, c // patch**2)
