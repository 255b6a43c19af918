"""Layers over sequences with masks: the gated dilated convolution and additive attention pooling.

They follow Su Jianlin's DGCNN (kexue.fm/archives/5409, equation 3, and 6906). Nothing leaks from padding, and a row
that is all padding stays finite and gives zeros.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from jaxkit.compile.logistic import logistic
from jaxkit.core import checks
from jaxkit.learn.nets.plain import parameter


def direct(x: Float[Array, "b n c"], kernel: Float[Array, "3 c d"], dilation: int) -> Float[Array, "b n d"]:
    """The three-tap dilated convolution as XLA has it; its gradient is slow inside a loop on the CPU."""
    return jax.lax.conv_general_dilated(
        x, kernel, (1,), [(dilation, dilation)], rhs_dilation=(dilation,), dimension_numbers=("NWC", "WIO", "NWC")
    )


def unfolded(x: Float[Array, "b n c"], kernel: Float[Array, "3 c d"], dilation: int) -> Float[Array, "b n d"]:
    """The same, as one matrix product with the three shifted inputs side by side."""
    batch, size, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (dilation, dilation), (0, 0)))
    wide = jnp.concatenate([padded[:, i * dilation : i * dilation + size] for i in range(3)], axis=-1)
    return (wide.reshape(-1, 3 * channels) @ kernel.reshape(3 * channels, -1)).reshape(batch, size, -1)


def winograd(x: Float[Array, "b n c"], kernel: Float[Array, "3 c d"], dilation: int) -> Float[Array, "b n d"]:
    """The same with a third fewer multiplications: four products give two outputs, `dilation` apart.

    The minimal filter F(2, 3): with inputs x0 ... x3 and taps g0, g1, g2 the two outputs are m0 + m1 + m2 and
    m1 - m2 - m3, where m0 = (x0 - x2) g0, m1 = (x1 + x2)(g0 + g1 + g2)/2, m2 = (x2 - x1)(g0 - g1 + g2)/2,
    m3 = (x1 - x3) g2.

    References:
        Winograd (1980); Lavin & Gray (2016), arXiv 1509.09308.
    """
    batch, size, channels = x.shape
    pairs = -(-size // (2 * dilation))
    whole = pairs * 2 * dilation
    padded = jnp.pad(x, ((0, 0), (dilation, dilation + whole - size), (0, 0)))
    cut = lambda v: v.reshape(batch, pairs, 2, dilation, channels)
    early, late = cut(padded[:, :whole]), cut(padded[:, 2 * dilation :])
    x0, x1, x2, x3 = early[:, :, 0], early[:, :, 1], late[:, :, 0], late[:, :, 1]
    g0, g1, g2 = kernel
    times = lambda v, g: (v.reshape(-1, channels) @ g).reshape(batch, pairs, dilation, -1)
    m0, m3 = times(x0 - x2, g0), times(x1 - x3, g2)
    m1, m2 = times(x1 + x2, 0.5 * (g0 + g1 + g2)), times(x2 - x1, 0.5 * (g0 - g1 + g2))
    both = jnp.stack([m0 + m1 + m2, m1 - m2 - m3], axis=2)
    return both.reshape(batch, whole, -1)[:, :size]


@jax.custom_vjp
def product(x: Float[Array, "... c"], kernel: Float[Array, "c d"]) -> Float[Array, "... d"]:
    """`x @ kernel`, with the derivative by the kernel as `x^T dy`.

    Autodiff writes it as `(dy^T x)^T`, and for that XLA on the CPU computes dy once more, in transposed order, which is
    slow. (There is no forward derivative, as with every `custom_vjp`.)
    """
    return x @ kernel


def _product_backward(kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    x, kernel = kept
    rows = lambda v: v.reshape(-1, v.shape[-1])
    by_kernel = jax.lax.dot_general(rows(x), rows(slope), (((0,), (0,)), ((), ())))
    return (rows(slope) @ kernel.T).reshape(x.shape), by_kernel


product.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _product_backward)


@jax.custom_vjp
def settled(x: Float[Array, "... c"]) -> Float[Array, "... c"]:
    """The identity, with a derivative that is computed only once.

    XLA on the CPU fuses a cheap derivative into everything that uses it and so computes it several times; it ignores
    `optimization_barrier`. It does not fuse through a product, not even one with the identity, which is exact.
    """
    return x


def _settled_backward(_: None, slope: Array) -> tuple[Array]:
    one = jnp.eye(slope.shape[-1], dtype=slope.dtype)
    return (jnp.matmul(slope.reshape(-1, slope.shape[-1]), one, precision="highest").reshape(slope.shape),)


settled.defvjp(lambda x: (x, None), _settled_backward)


@jax.custom_vjp
def shifted(x: Float[Array, "... c"], bias: Float[Array, " c"]) -> Float[Array, "... c"]:
    """`x + bias`, with its derivative in the bias as a product with ones: XLA is slow at summing rows."""
    return x + bias.reshape((1,) * (x.ndim - 1) + (-1,))


def _shifted_backward(_: None, slope: Array) -> tuple[Array, Array]:
    rows = slope.reshape(-1, slope.shape[-1])
    return slope, (jnp.ones((1, rows.shape[0]), rows.dtype) @ rows)[0]


shifted.defvjp(lambda x, bias: (shifted(x, bias), None), _shifted_backward)


FORMS: dict[str, Callable[[Array, Array, int], Array]] = {
    "direct": direct,
    "unfolded": unfolded,
    "winograd": winograd,
}
"""Three programs for one linear map; they agree up to rounding."""


class GatedDilatedConv(nn.Module):
    """`y = x (1 - s) + a s` with `[a, g] = conv(x)` and `s = sigmoid(g)`: a gate decides how much is new.

    Attributes:
        dilation: Distance of the three taps.
        form: Which program computes the convolution (`FORMS`).
        noise: In training, gates before the sigmoid are multiplied by `1 + U[-noise, noise]` (equation 9).
        drop: In training, share of channels whose gate is dropped before the sigmoid.
        kernel_init: Initializer of the kernel.
        param_dtype: Type of the parameters; that of the input if None.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkit.learn import nets
        >>> x, mask = jnp.ones((1, 6, 4)), jnp.array([[True] * 4 + [False] * 2])
        >>> net = nets.plain(nets.GatedDilatedConv(2), x, mask)
        >>> y = net.apply(net.init(jax.random.key(0)), x, mask)
        >>> y.shape, bool(jnp.all(y[0, 4:] == 0))
        ((1, 6, 4), True)
    """

    dilation: int
    form: str = "winograd"
    noise: float = 0.0
    drop: float = 0.0
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    param_dtype: Any = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], mask: Bool[Array, "b n"], key: Array | None = None
    ) -> Float[Array, "b n c"]:
        """The layer of `x`; `key` is that of the noise, and None outside training."""
        checks.one_of("form", self.form, FORMS)
        channels = x.shape[-1]
        kernel = parameter(self, "kernel", self.kernel_init, (3, channels, 2 * channels), self.param_dtype, x)
        bias = parameter(self, "bias", nn.initializers.zeros, (2 * channels,), self.param_dtype, x)
        real = mask[..., None].astype(x.dtype)
        x = settled(x) * real
        both = shifted(FORMS[self.form](x, kernel, self.dilation), bias)
        new, gate = jnp.split(both, 2, axis=-1)
        if key is not None and (self.noise or self.drop):
            gate = gate * self._disturbance(key, (x.shape[0], 1, channels), x.dtype)
        open_ = logistic(gate)
        return (x + (new - x) * open_) * real

    def _disturbance(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        first, second = jax.random.split(key)
        factor = 1 + jax.random.uniform(first, shape, dtype, -self.noise, self.noise)
        kept = jax.random.bernoulli(second, 1 - self.drop, shape)
        return factor * kept.astype(dtype) / (1 - self.drop)


class AttentionPool(nn.Module):
    """A sequence as one vector: `sum_i w_i x_i`, `w = softmax_i(alpha . tanh(W x_i))` over what is not padding.

    Attributes:
        param_dtype: Type of the parameters; that of the input if None.
    """

    param_dtype: Any = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], mask: Bool[Array, "b n"], same: Float[Array, "b d"] | None = None
    ) -> Float[Array, "b c"]:
        """The mean of `x` under the attention; zeros if all is padding.

        The result with `same` is as if it were joined to `x` at every place. It need not be: its part of the products
        is the same everywhere.
        """
        size = x.shape[-1] + (0 if same is None else same.shape[-1])
        kernel = Kernel((size, size), self.param_dtype, name="hidden")(x)
        hidden = product(x, kernel[: x.shape[-1]])
        hidden = hidden if same is None else hidden + (same @ kernel[x.shape[-1] :])[:, None, :]
        score = product(jnp.tanh(hidden), Kernel((size, 1), self.param_dtype, name="score")(x))[..., 0]
        weight = masked_softmax(score, mask)
        mean = jnp.einsum("bn,bnc->bc", weight, jnp.where(mask[..., None], x, 0))
        return mean if same is None else jnp.concatenate([mean, same * jnp.sum(weight, 1)[:, None]], axis=-1)


class Kernel(nn.Module):
    """A matrix of parameters, like that of a dense layer without bias."""

    shape: tuple[int, int]
    param_dtype: Any = None

    @nn.compact
    def __call__(self, like: Array) -> Float[Array, "m n"]:
        """The matrix, in the type of `like` if none was given."""
        return parameter(self, "kernel", nn.initializers.lecun_normal(), self.shape, self.param_dtype, like)


def masked_softmax(score: Float[Array, "... n"], mask: Bool[Array, "... n"]) -> Float[Array, "... n"]:
    """Softmax over the last axis where `mask` is true; zeros (and a finite derivative) where it is nowhere."""
    score = jnp.where(mask, score, jnp.finfo(score.dtype).min)
    top = jax.lax.stop_gradient(jnp.max(score, axis=-1, keepdims=True))
    weight = jnp.where(mask, jnp.exp(jnp.where(mask, score - top, 0)), 0)
    total = jnp.sum(weight, axis=-1, keepdims=True)
    return weight / jnp.where(total > 0, total, 1)
