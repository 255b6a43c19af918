"""Dense layers and the multilayer perceptron."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxkit.compile.logistic import logistic
from jaxkit.core import checks
from jaxkit.learn.nets.plain import parameter

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "leaky_relu": lambda x: jnp.where(x >= 0, x, 0.2 * x),
    "elu": jax.nn.elu,
    "silu": lambda x: x * logistic(x),
    "gelu": jax.nn.gelu,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
    "identity": lambda x: x,
}
"""Activations by name; `leaky_relu` has slope 0.2."""


def activate(activation: str | Callable[[Array], Array], x: Array) -> Array:
    """Apply an activation given by name or as a function."""
    if callable(activation):
        return activation(x)
    checks.one_of("activation", activation, ACTIVATIONS)
    return ACTIVATIONS[activation](x)


def spectral_norm(matrix: Float[Array, "m n"], *, iterations: int = 24) -> Float[Array, ""]:
    """Largest singular value by a Lanczos iteration without memory; its gradient is exact for the vectors found.

    Networks here carry no state besides their parameters, so the iteration starts anew each time. It takes the best
    vector in the space that the rounds have spanned: where two singular values lie close, as in all large random
    matrices, it is right to 1e-3 or better, where the last vector alone (the power method) is off by some per cent. The
    value is a lower bound, so a matrix divided by it has norm 1 or slightly more.

    Args:
        matrix: The matrix.
        iterations: Rounds of two products each; as many as the shorter side of the matrix are always enough.

    References:
        Miyato et al. (2018), Spectral normalization for generative adversarial networks; Golub and Van Loan (2013),
        Matrix computations, section 10.1.
    """
    fixed = jax.lax.stop_gradient(matrix)
    fixed = fixed if fixed.shape[0] >= fixed.shape[1] else fixed.T  # the basis has the shorter side's length
    size, rounds = fixed.shape[1], min(iterations, fixed.shape[1])
    tiny = jnp.finfo(matrix.dtype).tiny
    unit = lambda v: v * jax.lax.rsqrt(jnp.maximum(jnp.sum(v * v), tiny))
    scale = jnp.max(jnp.abs(fixed))
    fixed = fixed / jnp.where(scale > 0, scale, 1)

    def grow(k: Array, basis: tuple[Array, Array]) -> tuple[Array, Array]:
        rows, images = basis
        v = rows[k]
        image = fixed @ v
        new = fixed.T @ image
        for _ in range(2):  # twice: after once, rounding errors along the rows are left, which grow
            new = new - rows.T @ (rows @ new)
        return rows.at[k + 1].set(unit(new)), images.at[k].set(image)

    start = unit(jax.random.normal(jax.random.key(0), (size,), matrix.dtype))
    rows = jnp.zeros((rounds + 1, size), matrix.dtype).at[0].set(start)
    images = jnp.zeros((rounds, fixed.shape[0]), matrix.dtype)
    rows, images = jax.lax.fori_loop(0, rounds, grow, (rows, images))
    _, vectors = jnp.linalg.eigh(images @ images.T)
    right = unit(vectors[:, -1] @ rows[:-1])
    left = unit(fixed @ right)
    return left @ matrix @ right if matrix.shape[0] >= matrix.shape[1] else right @ matrix @ left


class Dense(nn.Module):
    """`x @ kernel + bias` over the last axis.

    Attributes:
        features: Size of the output.
        use_bias: Whether there is a bias.
        spectral: Whether the kernel is divided by its spectral norm.
        kernel_init: Initializer; LeCun's normal by default.
        param_dtype: Type of the parameters; that of the input if None.
        product: Computes `x @ kernel`; `text.product` is faster backwards where x is a sequence.
    """

    features: int
    use_bias: bool = True
    spectral: bool = False
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    param_dtype: Any = None
    product: Callable[[Array, Array], Array] = jnp.matmul

    @nn.compact
    def __call__(self, x: Float[Array, "... n"]) -> Float[Array, "... features"]:
        """The layer of `x`."""
        kernel = parameter(self, "kernel", self.kernel_init, (x.shape[-1], self.features), self.param_dtype, x)
        # As one matrix: else XLA's CPU compiler copies whole pictures, transposed, for the kernel's gradient.
        flat = x.reshape(-1, x.shape[-1]) if x.ndim > 2 else x
        y = self.product(flat, kernel / spectral_norm(kernel) if self.spectral else kernel)
        if self.use_bias:
            bias = parameter(self, "bias", nn.initializers.zeros, (self.features,), self.param_dtype, x)
            y = y + bias.reshape((1,) * (y.ndim - 1) + (-1,))
        return y.reshape(*x.shape[:-1], self.features)


class MLP(nn.Module):
    """A multilayer perceptron over the last axis; several inputs are joined along it first.

    Attributes:
        features: Sizes of the layers; the last is that of the output.
        activation: Name or function, applied after every layer but the last.
        final: Activation after the last layer.
        spectral: Whether every kernel is divided by its spectral norm.
        scalar: Drop the last axis of the output (its size must be 1): critics and energies.
        frequencies: Frequencies whose sines and cosines of the first input are joined to it: a perceptron of plain
            coordinates is slow to learn fine structure.
        kernel_init: Initializer; LeCun's normal by default.
        param_dtype: Type of the parameters; that of the input if None.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkit.learn import nets
        >>> critic = nets.plain(nets.MLP((64, 64, 1), activation="leaky_relu", scalar=True), jnp.zeros((1, 2)))
        >>> params = critic.init(jax.random.key(0))
        >>> nets.count(params), critic.apply(params, jnp.ones(2)).shape
        (4417, ())

    References:
        Tancik et al. (2020), Fourier features let networks learn high frequency functions in low dimensional domains.
    """

    features: Sequence[int]
    activation: str | Callable[[Array], Array] = "silu"
    final: str | Callable[[Array], Array] = "identity"
    spectral: bool = False
    scalar: bool = False
    frequencies: tuple[float, ...] = ()
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "... n"], *more: Float[Array, "... m"]) -> Float[Array, "..."]:
        """The network of `x` and any further inputs."""
        phases = [frequency * x for frequency in self.frequencies]
        seen = [x, *(jnp.sin(p) for p in phases), *(jnp.cos(p) for p in phases), *more]
        x = jnp.concatenate(seen, axis=-1) if len(seen) > 1 else x
        for i, size in enumerate(self.features):
            x = Dense(
                size,
                spectral=self.spectral,
                kernel_init=self.kernel_init,
                param_dtype=self.param_dtype,
                name=f"layer{i}",
            )(x)
            x = activate(self.activation if i + 1 < len(self.features) else self.final, x)
        if not self.scalar:
            return x
        checks.require(x.shape[-1] == 1, "features", "end with 1 where `scalar` is set", f"ends with {x.shape[-1]}")
        return x[..., 0]
