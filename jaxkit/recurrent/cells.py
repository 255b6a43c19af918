"""Recurrent cells as Flax modules with one protocol, that of `unroll`: `cell(state, x, params) -> (state, y)`.

Each cell's elementwise part has a hand-written derivative that stores one coefficient per factor instead of every
intermediate value, so that the backward pass of a scan reads less memory; it works in every mode and to any order.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxkit.compile.logistic import logistic
from jaxkit.core import checks

_GLOROT, _ORTHOGONAL, _ZEROS = nn.initializers.glorot_uniform(), nn.initializers.orthogonal(), nn.initializers.zeros


class Cell(nn.Module):
    """What every cell shares: a pure call, parameters from a key, a zero state.

    Batches are leading axes of `state` and `x`. Inside another Linen module, call `advance(state, x)`.

    Attributes:
        features: Width of the state and of the output.
    """

    features: int

    @nn.nowrap
    def init(self, key: Array, x: Float[Array, "..."]) -> PyTree:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Fresh parameters for inputs like `x`, in its precision.

        Args:
            key: Random key.
            x: An input of one step (its values do not matter).
        """
        checks.require(jnp.ndim(x) > 0, "x", "have shape (..., features)", "is a scalar")
        x = checks.floating("x", x)
        variables = super().init(key, self.zeros(x.shape[:-1], x.dtype), x, method=type(self).advance)
        return variables["params"]

    @nn.nowrap
    def zeros(self, batch: tuple[int, ...] = (), dtype: Any = None) -> PyTree:
        """The zero state, of shape `(*batch, features)`."""
        return jnp.zeros((*batch, self.features), dtype)

    @nn.nowrap
    def __call__(self, state: PyTree, x: Float[Array, "... d"], params: PyTree) -> tuple[PyTree, Array]:
        """Move the state once: the new state and the output."""
        return self.apply({"params": params}, state, x, method=type(self).advance)  # pyright: ignore[reportReturnType]

    def advance(self, state: PyTree, x: Array) -> tuple[PyTree, Array]:
        """One step, inside a Linen model."""
        raise NotImplementedError

    def _kernels(self, x: Array, gates: int, bias: Any = _ZEROS) -> tuple[Array, Array, Array]:
        """The kernel of the input, the kernel of the state (orthogonal, gate by gate), and the bias."""
        width = self.features
        square = lambda key, shape, dtype: jnp.concatenate(
            [_ORTHOGONAL(k, (width, width), dtype) for k in jax.random.split(key, gates)], axis=1
        )
        return (
            self.param("input_kernel", _GLOROT, (x.shape[-1], gates * width), x.dtype),
            self.param("state_kernel", square, (width, gates * width), x.dtype),
            self.param("bias", bias, (gates * width,), x.dtype),
        )


class Vanilla(Cell):
    """The plain recurrent cell, `h' = tanh(x W + h U + b)`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxkit as jk
        >>> cell = jk.recurrent.Vanilla(8)
        >>> params = cell.init(jax.random.key(0), jnp.ones(3))
        >>> jk.unroll(cell, cell.zeros(), jnp.ones((20, 3)), params).ys.shape
        (20, 8)

    References:
        Elman (1990), Finding structure in time.
    """

    @nn.compact
    def advance(self, state: Float[Array, "... h"], x: Float[Array, "... d"]) -> tuple[Array, Array]:
        """One step, inside a Linen model."""
        w, u, b = self._kernels(x, 1)
        state = jnp.tanh(_affine(x, w, b) + state @ u)
        return state, state


class GRU(Cell):
    """The gated recurrent unit, with the reset gate after the product as in cuDNN, PyTorch and Flax.

    `r, z = sigmoid(x W + h U + b)`, `n = tanh(x W_n + b_n + r (h U_n + c))`, `h' = (1 - z) n + z h`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxkit as jk
        >>> cell = jk.recurrent.GRU(8)
        >>> params = cell.init(jax.random.key(0), jnp.ones((5, 3)))  # a batch of five
        >>> jk.unroll(cell, cell.zeros((5,)), jnp.ones((20, 5, 3)), params).ys.shape
        (20, 5, 8)

    References:
        Cho et al. (2014), Learning phrase representations using RNN encoder-decoder.
    """

    @nn.compact
    def advance(self, state: Float[Array, "... h"], x: Float[Array, "... d"]) -> tuple[Array, Array]:
        """One step, inside a Linen model."""
        w, u, b = self._kernels(x, 3)
        c = self.param("state_bias", _ZEROS, (self.features,), x.dtype)
        outer, inner = _affine(x, w, b), state @ u
        two = 2 * self.features
        update = inner[..., two:] + jnp.broadcast_to(c, state.shape)
        state = _gru(outer[..., :two] + inner[..., :two], outer[..., two:], update, state)
        return state, state


class LSTM(Cell):
    """Long short-term memory; its state is the pair (memory c, output h).

    `i, f, g, o = x W + h U + b`, `c' = sigmoid(f) c + sigmoid(i) tanh(g)`, `h' = sigmoid(o) tanh(c')`.

    Attributes:
        forget_bias: Initial value of the forget gate's bias.

    Example:
        >>> import jax, jax.numpy as jnp, jaxkit as jk
        >>> cell = jk.recurrent.LSTM(8)
        >>> params = cell.init(jax.random.key(0), jnp.ones(3))
        >>> memory, output = jk.unroll(cell, cell.zeros(), jnp.ones((20, 3)), params).final
        >>> memory.shape, output.shape
        ((8,), (8,))

    References:
        Hochreiter, Schmidhuber (1997), Long short-term memory; Gers et al. (2000) for the forget gate.
    """

    forget_bias: float = 1.0

    @nn.nowrap
    def zeros(self, batch: tuple[int, ...] = (), dtype: Any = None) -> tuple[Array, Array]:
        """The zero state: two arrays of shape `(*batch, features)`."""
        return jnp.zeros((*batch, self.features), dtype), jnp.zeros((*batch, self.features), dtype)

    @nn.compact
    def advance(self, state: tuple[Array, Array], x: Float[Array, "... d"]) -> tuple[tuple[Array, Array], Array]:
        """One step, inside a Linen model."""
        memory, output = state
        width = self.features
        opened = lambda key, shape, dtype: jnp.zeros(shape, dtype).at[width : 2 * width].set(self.forget_bias)
        w, u, b = self._kernels(x, 4, opened)
        memory, output = _lstm(_affine(x, w, b) + output @ u, memory)
        return (memory, output), output


class MinGRU(Cell):
    """The minimal GRU: its gate reads only the input, so the step is linear in the state.

    `z = sigmoid(x W_z + b_z)`, `h' = (1 - z) h + z (x W + b)`; `unroll` offers `method="associative"` for it.

    Example:
        >>> import jax, jax.numpy as jnp, jaxkit as jk
        >>> cell = jk.recurrent.MinGRU(8)
        >>> params = cell.init(jax.random.key(0), jnp.ones(3))
        >>> run = lambda method: jk.unroll(cell, cell.zeros(), jnp.ones((20, 3)), params, method=method)
        >>> bool(jnp.allclose(run("scan").ys, run("associative").ys, rtol=1e-5))
        True

    References:
        Feng et al. (2024), Were RNNs all we needed?
    """

    @nn.nowrap
    def affine(self, xs: Float[Array, "... d"], params: PyTree) -> tuple[Array, Array]:
        """Decay and drive of the state, for inputs with any leading axes."""
        return self.apply({"params": params}, xs, method=type(self).gates)  # pyright: ignore[reportReturnType]

    @nn.nowrap
    def readout(self, state: Array, x: Array, params: PyTree) -> Array:
        """The output: the state itself."""
        del x, params
        return state

    @nn.compact
    def gates(self, x: Float[Array, "... d"]) -> tuple[Array, Array]:
        """Decay and drive, inside a Linen model."""
        w = self.param("input_kernel", _GLOROT, (x.shape[-1], 2 * self.features), x.dtype)
        b = self.param("bias", _ZEROS, (2 * self.features,), x.dtype)
        gate, drive = jnp.split(_affine(x, w, b), 2, axis=-1)
        gate = logistic(gate)
        return 1 - gate, gate * drive

    def advance(self, state: Float[Array, "... h"], x: Float[Array, "... d"]) -> tuple[Array, Array]:
        """One step, inside a Linen model."""
        decay, drive = self.gates(x)
        state = decay * state + drive
        return state, state


class SRU(Cell):
    """The simple recurrent unit without state in its gates: linear in the state, with a highway connection.

    `f, r = sigmoid(x W + b)`, `c' = f c + (1 - f) x U`, `y = r c' + (1 - r) x` (`x` through a kernel of its own where
    its width is not `features`).

    Example:
        >>> import jax, jax.numpy as jnp, jaxkit as jk
        >>> cell = jk.recurrent.SRU(3)
        >>> params = cell.init(jax.random.key(0), jnp.ones(3))
        >>> jk.unroll(cell, cell.zeros(), jnp.ones((20, 3)), params, method="associative").ys.shape
        (20, 3)

    References:
        Lei et al. (2018), Simple recurrent units for highly parallelizable recurrence, eqs. 1-4 with v = 0.
    """

    @nn.nowrap
    def affine(self, xs: Float[Array, "... d"], params: PyTree) -> tuple[Array, Array]:
        """Decay and drive of the state, for inputs with any leading axes."""
        decay, drive, _, _ = self._parts(params, xs)
        return decay, drive

    @nn.nowrap
    def readout(self, state: Float[Array, "... h"], x: Float[Array, "... d"], params: PyTree) -> Array:
        """The output from the new state and the input."""
        _, _, gate, skip = self._parts(params, x)
        return gate * state + (1 - gate) * skip

    @nn.nowrap
    def _parts(self, params: PyTree, x: Array) -> tuple[Array, ...]:
        return self.apply({"params": params}, x, method=type(self).gates)  # pyright: ignore[reportReturnType]

    @nn.compact
    def gates(self, x: Float[Array, "... d"]) -> tuple[Array, Array, Array, Array]:
        """Decay, drive, output gate and skip input, inside a Linen model."""
        width, wide = self.features, x.shape[-1]
        own = 3 if wide == width else 4
        w = self.param("input_kernel", _GLOROT, (wide, own * width), x.dtype)
        b = self.param("bias", _ZEROS, (2 * width,), x.dtype)
        forget, gate, drive, *skip = jnp.split(x @ w, own, axis=-1)
        forget, gate = (
            logistic(g + jnp.broadcast_to(part, g.shape))
            for g, part in zip((forget, gate), jnp.split(b, 2), strict=True)
        )
        return forget, (1 - forget) * drive, gate, skip[0] if skip else x

    def advance(self, state: Float[Array, "... h"], x: Float[Array, "... d"]) -> tuple[Array, Array]:
        """One step, inside a Linen model."""
        decay, drive, gate, skip = self.gates(x)
        state = decay * state + drive
        return state, gate * state + (1 - gate) * skip


def _affine(x: Array, kernel: Array, bias: Array) -> Array:
    product = x @ kernel
    return product + jnp.broadcast_to(bias, product.shape)


@jax.custom_jvp
def _lstm(z: Float[Array, "... gates"], memory: Float[Array, "... h"]) -> tuple[Array, Array]:
    """New memory and output from the gates' inputs."""
    return _lstm_parts(z, memory)[0]


def _lstm_parts(z: Array, memory: Array) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
    i, f, g, o = jnp.split(z, 4, axis=-1)
    i, f, g, o = logistic(i), logistic(f), jnp.tanh(g), logistic(o)
    new = f * memory + i * g
    squashed = jnp.tanh(new)
    return (new, o * squashed), (i, f, g, o, squashed)


@_lstm.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (z, memory), (dz, dmemory) = primals, tangents
    out, (i, f, g, o, squashed) = _lstm_parts(z, memory)
    slopes = jnp.concatenate([g * i * (1 - i), memory * f * (1 - f), i * (1 - g * g), squashed * o * (1 - o)], axis=-1)
    di, df, dg, do = jnp.split(dz * slopes, 4, axis=-1)
    dnew = f * dmemory + di + df + dg
    return out, (dnew, do + o * (1 - squashed * squashed) * dnew)


@jax.custom_jvp
def _gru(gates: Float[Array, "... gates"], outer: Array, inner: Array, state: Array) -> Float[Array, "... h"]:
    """New state from the inputs of both gates and the two parts of the candidate."""
    return _gru_parts(gates, outer, inner, state)[0]


def _gru_parts(gates: Array, outer: Array, inner: Array, state: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    r, z = jnp.split(logistic(gates), 2, axis=-1)
    n = jnp.tanh(outer + r * inner)
    return (1 - z) * n + z * state, (r, z, n)


@_gru.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (gates, outer, inner, state), (dgates, douter, dinner, dstate) = primals, tangents
    out, (r, z, n) = _gru_parts(gates, outer, inner, state)
    slope = (1 - z) * (1 - n * n)
    slopes = jnp.concatenate([slope * inner * r * (1 - r), (state - n) * z * (1 - z)], axis=-1)
    dr, dz = jnp.split(dgates * slopes, 2, axis=-1)
    return out, dr + dz + slope * douter + slope * r * dinner + z * dstate
