"""Layers for pictures: convolutions of the closed family, group norm, resampling, residual blocks.

All take `(..., *space, channels)` with any leading axes. What is costly on the CPU is written in its cheap form: 1 x 1
convolutions are matrix products, norms start from sums over channels, pooling adds slices, up-sampling broadcasts.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxkit.compile.convolution import Padding, Spread, conv, conv_transpose
from jaxkit.compile.group_norm import group_norm
from jaxkit.core import checks
from jaxkit.learn.nets.mlp import activate, spectral_norm
from jaxkit.learn.nets.plain import parameter

Activation = str | Callable[[Array], Array]
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")
he_normal_transposed = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal", in_axis=-1, out_axis=-2)


class Conv(nn.Module):
    """Convolution.

    Attributes:
        features: Channels of the output.
        window: Size of the kernel; one number means a square.
        stride: Stride of the windows; this and the next three are as for `jaxkit.compile.convolution.conv`.
        padding: Padding of the pictures.
        dilation: Dilation of the kernel.
        groups: Number of groups of channels.
        use_bias: Whether there is a bias.
        spectral: Whether the kernel, as a matrix from window and input to output, is divided by its spectral norm.
        kernel_init: Initializer; He's normal by default.
        param_dtype: Type of the parameters; that of the input if None.
    """

    features: int
    window: Spread = 3
    stride: Spread = 1
    padding: Padding = "same"
    dilation: Spread = 1
    groups: int = 1
    use_bias: bool = True
    spectral: bool = False
    kernel_init: Callable[..., Array] = he_normal
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... features"]:
        """The convolution of `x`."""
        window = _window(self.window)
        shape = (*window, x.shape[-1] // self.groups, self.features)
        kernel = parameter(self, "kernel", self.kernel_init, shape, self.param_dtype, x)
        if self.spectral:
            kernel = kernel / spectral_norm(kernel.reshape(-1, self.features))
        options = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}
        y = _over_batch(lambda v: conv(v, kernel, **options), x, len(window))
        return _biased(self, y, self.features) if self.use_bias else y


class ConvTranspose(nn.Module):
    """Transposed convolution: scales up by `stride`.

    Attributes:
        features: Channels of the output.
        window: Size of the kernel; one number means a square.
        stride: Scale factor.
        padding: Padding of the convolution whose transpose it is.
        use_bias: Whether there is a bias.
        spectral: Whether the kernel is divided by its spectral norm.
        kernel_init: Initializer of the kernel, shape `(*window, features, channels of the input)`.
        param_dtype: Type of the parameters; that of the input if None.
    """

    features: int
    window: Spread = 4
    stride: Spread = 2
    padding: Padding = "same"
    use_bias: bool = True
    spectral: bool = False
    kernel_init: Callable[..., Array] = he_normal_transposed
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... features"]:
        """The transposed convolution of `x`."""
        window = _window(self.window)
        kernel = parameter(self, "kernel", self.kernel_init, (*window, self.features, x.shape[-1]), self.param_dtype, x)
        if self.spectral:
            matrix = jnp.moveaxis(kernel, -2, 0).reshape(self.features, -1)
            kernel = kernel / spectral_norm(matrix)
        y = _over_batch(lambda v: conv_transpose(v, kernel, stride=self.stride, padding=self.padding), x, len(window))
        return _biased(self, y, self.features) if self.use_bias else y


class GroupNorm(nn.Module):
    """Normalisation of groups of channels of each picture, with a scale and a bias per channel.

    Attributes:
        groups: Number of groups; it must divide the channels.
        space: Number of spatial axes.
        epsilon: Added to the variance.
        param_dtype: Type of the parameters; that of the input if None.

    References:
        Wu, He (2018), Group normalization.
    """

    groups: int = 8
    space: int = 2
    epsilon: float = 1e-5
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "... c"], scale: Array | None = None, shift: Array | None = None) -> Array:
        """Normalise `x`; then multiply by `1 + scale` and add `shift`, if given: one number per channel and picture."""
        channels = x.shape[-1]
        checks.require(channels % self.groups == 0, "groups", f"divide {channels} channels", f"is {self.groups}")
        own = parameter(self, "scale", nn.initializers.ones, (channels,), self.param_dtype, x)
        bias = parameter(self, "bias", nn.initializers.zeros, (channels,), self.param_dtype, x)
        options = {"groups": self.groups, "space": self.space, "epsilon": self.epsilon, "scale": scale, "shift": shift}
        return group_norm(x, own, bias, **options)


class ResBlock(nn.Module):
    """`skip(x) + conv(act(conv(act(x))))`: the second kernel starts at zero, so the block starts as its skip.

    Attributes:
        features: Channels of the output; those of the input if None. A 1 x 1 product changes them on the skip.
        activation: Name or function.
        window: Size of the kernels.
        groups: Groups of the group norm before each activation; None for no norm.
        spectral: Whether kernels are divided by their spectral norms (then none starts at zero).
        param_dtype: Type of the parameters; that of the input if None.
    """

    features: int | None = None
    activation: Activation = "leaky_relu"
    window: Spread = 3
    groups: int | None = None
    spectral: bool = False
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "... h w c"]) -> Float[Array, "... h w features"]:
        """The block of `x`."""
        features = x.shape[-1] if self.features is None else self.features
        shared = {"spectral": self.spectral, "param_dtype": self.param_dtype}
        y = x
        for i, kernel_init in enumerate((he_normal, he_normal if self.spectral else nn.initializers.zeros)):
            if self.groups is not None:
                y = GroupNorm(self.groups, param_dtype=self.param_dtype, name=f"norm{i}")(y)
            y = Conv(features, self.window, kernel_init=kernel_init, name=f"conv{i}", **shared)(
                activate(self.activation, y)
            )
        if features != x.shape[-1]:
            x = Conv(features, 1, use_bias=False, kernel_init=nn.initializers.lecun_normal(), name="skip", **shared)(x)
        return x + y


def avg_pool(x: Float[Array, "... h w c"], by: int = 2) -> Float[Array, "... h/by w/by c"]:
    """Means of squares of `by` by `by`; rows and columns that do not fill a square are left out.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit.learn.nets.layers import avg_pool, upsample
        >>> float(avg_pool(upsample(jnp.arange(4.0).reshape(2, 2, 1)))[1, 0, 0])
        2.0
    """
    return sum(_squares(x, by)[1:], _squares(x, by)[0]) / by**2


def max_pool(x: Float[Array, "... h w c"], by: int = 2) -> Float[Array, "... h/by w/by c"]:
    """Maxima of squares of `by` by `by`; rows and columns that do not fill a square are left out."""
    first, *rest = _squares(x, by)
    for other in rest:
        first = jnp.maximum(first, other)
    return first


def upsample(x: Float[Array, "... h w c"], by: int = 2, method: str = "nearest") -> Float[Array, "... h*by w*by c"]:
    """Scale up by repeating pixels, or (`"bilinear"`, by 2 only) by weights 3/4 and 1/4 of neighbours.

    Raises:
        ValueError: An unknown method, or bilinear by another factor.
    """
    checks.one_of("method", method, ("nearest", "bilinear"))
    if method == "bilinear":
        checks.require(by == 2, "by", 'be 2 where the method is "bilinear"', f"is {by}")
        return _bilinear(_bilinear(x, x.ndim - 3), x.ndim - 2)
    *lead, h, w, c = x.shape
    wide = jnp.broadcast_to(x[..., :, None, :, None, :], (*lead, h, by, w, by, c))
    return wide.reshape(*lead, h * by, w * by, c)


def _bilinear(x: Array, axis: int) -> Array:
    """Twice as many pixels along an axis: each one's halves lean towards its neighbours; the edges are repeated."""
    n = x.shape[axis]
    take = lambda start, stop: jax.lax.slice_in_dim(x, start, stop, axis=axis)
    before = jnp.concatenate([take(0, 1), take(0, n - 1)], axis)
    after = jnp.concatenate([take(1, n), take(n - 1, n)], axis)
    both = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
    return both.reshape(*x.shape[:axis], 2 * n, *x.shape[axis + 1 :])


def _squares(x: Array, by: int) -> list[Array]:
    h, w = (n - n % by for n in x.shape[-3:-1])
    return [x[..., i:h:by, j:w:by, :] for i in range(by) for j in range(by)]


def _window(window: Spread) -> tuple[int, ...]:
    return (window, window) if isinstance(window, int) else tuple(window)


def _row(values: Array, ndim: int) -> Array:
    """A vector over channels, with the axes of a batch of pictures."""
    return values.reshape((1,) * (ndim - 1) + (-1,))


def _biased(module: nn.Module, y: Array, features: int) -> Array:
    dtype = getattr(module, "param_dtype")  # noqa: B009
    return y + _row(parameter(module, "bias", nn.initializers.zeros, (features,), dtype, y), y.ndim)


def _over_batch(fn: Callable[[Array], Array], x: Array, space: int) -> Array:
    """Apply `fn`, which takes one batch axis, to any number of them."""
    lead: Sequence[int] = x.shape[: x.ndim - space - 1]
    y = fn(x.reshape(math.prod(lead), *x.shape[len(lead) :]))
    return y.reshape(*lead, *y.shape[1:])
