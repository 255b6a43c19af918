"""Networks as denoisers: EDM's preconditioning, energies, and the networks beneath them.

Each constructor gives a callable that is compared by value, so that compiled programs are shared between models.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, DTypeLike, Float

from jaxkit.learn.nets import MLP, Net, ScoreNet, plain
from jaxkit.learn.nets.unet import waves
from jaxkit.score.model import over


@dataclasses.dataclass(frozen=True)
class Preconditioned:
    """The denoiser `D = mean + c_skip (y - mean) + c_out F(c_in (y - mean), ln(sigma) / 4)` of a network `F`.

    With these factors, the input and the target of the network have unit variance at every noise level.

    Attributes:
        net: The network `F`, with outputs of the data's shape.
        mean: Mean of the data.
        sd: Standard deviation of the data.

    References:
        Karras et al. (2022), eq. 7 and table 1.
    """

    net: Net
    mean: float
    sd: float

    def __call__(self, params: Any, y: Float[Array, "n ..."], sigma: Float[Array, " n"]) -> Float[Array, "n ..."]:
        """The denoised `y`."""
        skip, out, into = _factors(sigma, self.sd)
        y = y - self.mean
        inner = self.net.apply(params, over(into, y) * y, 0.25 * jnp.log(sigma))
        return self.mean + over(skip, y) * y + over(out, y) * inner


@dataclasses.dataclass(frozen=True)
class Conservative:
    """The same denoiser with the gradient of a scalar network as `F`: its score is curl-free and has a log density.

    Attributes:
        net: A network of `(y, level)` with one number per datum.
        mean: Mean of the data.
        sd: Standard deviation of the data.

    References:
        Salimans and Ho (2021), Should EBMs model the energy or the score?
    """

    net: Net
    mean: float
    sd: float

    def log_density(self, params: Any, y: Float[Array, "n ..."], sigma: Float[Array, " n"]) -> Float[Array, " n"]:
        """`log p_sigma(y)` up to a number that depends only on `sigma`."""
        skip, out, into = _factors(sigma, self.sd)
        y = y - self.mean
        square = jnp.sum(y**2, axis=tuple(range(1, y.ndim)))
        potential = self.net.apply(params, over(into, y) * y, 0.25 * jnp.log(sigma))
        return (0.5 * (skip - 1) * square + out / into * potential) / sigma**2

    def __call__(self, params: Any, y: Float[Array, "n ..."], sigma: Float[Array, " n"]) -> Float[Array, "n ..."]:
        """The denoised `y`."""
        slope = jax.grad(lambda y: jnp.sum(self.log_density(params, y, sigma)))(y)
        return y + over(sigma, y) ** 2 * slope


@dataclasses.dataclass(frozen=True)
class Blind:
    """A denoiser that is not told the noise: `y - grad E(y)` for one energy of all noise levels (MDSM).

    Attributes:
        energy: `energy(params, y)`, shape `(n,)`.
    """

    energy: Any

    def __call__(self, params: Any, y: Float[Array, "n ..."], sigma: Float[Array, " n"]) -> Float[Array, "n ..."]:
        """The denoised `y`."""
        del sigma
        return y - jax.grad(lambda y: jnp.sum(self.energy(params, y)))(y)


@dataclasses.dataclass(frozen=True)
class Distance:
    """The energy `1/2 |y - D(y)|^2`: half the squared distance of `y` from what a denoiser makes of it.

    Its gradient is `(1 - D'(y)^T) (y - D(y))`: where `D` denoises, that is close to the residual of the denoiser. `D`
    has EDM's factors at the noise level that `y` itself shows (see `noise_in`), so that one energy serves all levels.

    Attributes:
        net: The network in `D`, with outputs of the data's shape.
        mean: Mean of the data.
        sd: Standard deviation of the data.
    """

    net: Net
    mean: float
    sd: float

    def __call__(self, params: Any, y: Float[Array, "n ..."]) -> Float[Array, " n"]:
        """The energy of each datum."""
        y = y - self.mean
        sigma = noise_in(y, self.sd)
        skip, out, into = _factors(sigma, self.sd)
        inner = self.net.apply(params, over(into, y) * y, 0.25 * jnp.log(sigma))
        rest = over(1 - skip, y) * y - over(out, y) * inner
        return 0.5 * jnp.sum(rest**2, axis=tuple(range(1, y.ndim)))


def noise_in(y: Float[Array, "n ..."], sd: float) -> Float[Array, " n"]:
    """A rough, smooth estimate of the noise in data of standard deviation `sd`, from the data alone.

    Pictures show it in the mixed second differences of neighbouring pixels, which vanish for smooth pictures and have
    variance 4 sigma^2 for noise; points show it only in their distance from the centre.
    """
    least = 0.02 * sd
    if y.ndim == 4 and min(y.shape[1:3]) > 1:
        rows = y[:, 1:] - y[:, :-1]
        square = 0.25 * jnp.mean((rows[:, :, 1:] - rows[:, :, :-1]) ** 2, axis=(1, 2, 3))
    else:
        square = jnp.mean(y**2, axis=tuple(range(1, y.ndim)))
    return jnp.sqrt(square + least**2)


@dataclasses.dataclass(frozen=True)
class LogDensity:
    """An unnormalised log density of points: a broad normal plus a network's correction.

    Attributes:
        net: A network of `y` with one number per point.
        sd: Standard deviation of the normal.
    """

    net: Net
    sd: float

    def __call__(self, params: Any, y: Float[Array, "n d"]) -> Float[Array, " n"]:
        """Log density up to a constant."""
        return -0.5 * jnp.sum(y**2, axis=1) / self.sd**2 + self.net.apply(params, y / self.sd)


class PointNet(nn.Module):
    """A perceptron of points and a noise level, both also as sines and cosines, to resolve fine details.

    Attributes:
        features: Sizes of the hidden layers.
        out: Size of the output; 0 gives one number per point, without an axis.
        octaves: Number of frequencies of the sines and cosines of points: 1, 2, 4, ... quarter turns per unit.
        activation: See `jaxkit.learn.nets.MLP`.
        param_dtype: Type of the parameters; that of the input if None.
    """

    features: Sequence[int] = (128, 128, 128)
    out: int = 2
    octaves: int = 3
    activation: str = "silu"
    param_dtype: Any = None

    @nn.compact
    def __call__(self, y: Float[Array, "n d"], level: Float[Array, " n"] | None = None) -> Float[Array, "n ..."]:
        """The network of `y`, and of `level` if it depends on the noise."""
        parts = [y]
        if self.octaves:
            turns = jnp.exp2(jnp.arange(self.octaves).astype(y.dtype)) * (0.5 * math.pi)
            angles = (y[:, :, None] * turns[None, None]).reshape(y.shape[0], -1)
            parts += [jnp.sin(angles), jnp.cos(angles)]
        if level is not None:
            parts += [level[:, None], waves(level, 16)]
        inner = MLP(
            (*self.features, max(self.out, 1)),
            activation=self.activation,
            scalar=self.out == 0,
            param_dtype=self.param_dtype,
            name="mlp",
        )
        return inner(jnp.concatenate(parts, axis=1))


def point_net(
    dimensions: int, features: Sequence[int] = (128, 128, 128), *, octaves: int = 3, dtype: DTypeLike | None = None
) -> Net:
    """`PointNet` with an output of the points' shape.

    Args:
        dimensions: Number of coordinates of a point.
        features: Sizes of the hidden layers.
        octaves: See `PointNet`.
        dtype: Type of the parameters; by default that of the precision that is set.
    """
    return plain(PointNet(tuple(features), dimensions, octaves), _like(dtype, 1, dimensions), _like(dtype, 1))


def scalar_net(
    dimensions: int,
    features: Sequence[int] = (128, 128, 128),
    *,
    octaves: int = 3,
    leveled: bool = True,
    dtype: DTypeLike | None = None,
) -> Net:
    """`PointNet` with one number per point; `leveled` networks get the noise level. For the rest see `point_net`."""
    inputs = [_like(dtype, 1, dimensions), *([_like(dtype, 1)] if leveled else [])]
    return plain(PointNet(tuple(features), 0, octaves), *inputs)


def image_net(
    shape: tuple[int, ...], widths: Sequence[int] = (64, 96), *, patch: int = 2, dtype: DTypeLike = jnp.float32
) -> Net:
    """`ScoreNet` for images of one shape.

    Args:
        shape: Height, width, channels.
        widths: Channels at each resolution.
        patch: Side of the patches at the entrance.
        dtype: Type of the parameters.
    """
    return plain(ScoreNet(tuple(widths), patch=patch), _like(dtype, 1, *shape), _like(dtype, 1))


def _like(dtype: DTypeLike | None, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.result_type(float) if dtype is None else dtype)


def _factors(sigma: Array, sd: float) -> tuple[Array, Array, Array]:
    """`c_skip`, `c_out`, `c_in`."""
    total = sigma**2 + sd**2
    return sd**2 / total, sigma * sd * jax.lax.rsqrt(total), jax.lax.rsqrt(total)
