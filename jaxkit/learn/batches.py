"""Batches without state: the i-th batch is a function of the key and of i alone."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxkit.core import checks
from jaxkit.core.struct import static, struct

D = TypeVar("D")

PRIORS = ("normal", "uniform")


def latent_noise(prior: str, key: PRNGKeyArray, n: int, size: int, dtype: Any) -> Float[Array, "n size"]:
    """Draw the input of a generator: `"normal"`, N(0, 1), or `"uniform"` on [-1, 1].

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkit.learn import batches
        >>> batches.latent_noise("uniform", jax.random.key(0), 4, 2, jnp.float32).shape
        (4, 2)
    """
    if prior == "normal":
        return jax.random.normal(key, (n, size), dtype)
    return jax.random.uniform(key, (n, size), dtype, -1, 1)


@struct
class Minibatches(Generic[D]):
    """The i-th batch of a data set, for any i: epochs are permutations of it.

    Attributes:
        data: Pytree of arrays with a leading axis N.
        key: Key of the permutations.
        size: Rows per batch.
    """

    data: D
    key: PRNGKeyArray
    size: int = static()

    @property
    def per_epoch(self) -> int:
        """Whole batches per epoch; the rows left over are skipped until another epoch's permutation picks them."""
        return jax.tree.leaves(self.data)[0].shape[0] // self.size

    def indices(self, i: Int[Array, ""] | int) -> Int[Array, " size"]:
        """Rows of the i-th batch."""
        return _rows(self.key, jnp.asarray(i), self.size, jax.tree.leaves(self.data)[0].shape[0])

    def __call__(self, i: Int[Array, ""] | int) -> D:
        """The i-th batch."""
        rows = self.indices(i)
        return jax.tree.map(lambda v: v[rows], self.data)


def minibatches(data: D, size: int, key: PRNGKeyArray) -> Minibatches[D]:
    """Batches of `size` rows: a callable `i -> batch` for `fit` and `play`.

    Nothing is stored between batches, so a run can be resumed at any step. Within an epoch of `N // size` batches, no
    row comes twice. Arrays keep their dtype (uint8 images stay uint8 on the device: convert them in the loss).

    Args:
        data: Pytree of arrays with a leading axis N.
        size: Rows per batch, at most N.
        key: Key of the permutations.

    Returns:
        A `Minibatches`.

    Raises:
        ValueError: The leading axes differ, or are shorter than a batch.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkit.learn.batches import minibatches
        >>> batch = minibatches(jnp.arange(6), 3, jax.random.key(0))
        >>> sorted([*batch(0).tolist(), *batch(1).tolist()])
        [0, 1, 2, 3, 4, 5]
    """
    jax.tree.map(checks.whole_numbers_fit, data)
    data = jax.tree.map(jnp.asarray, data)
    _check_rows([v.shape for v in jax.tree.leaves(data)], size)
    return Minibatches(data, key, size)


@dataclasses.dataclass
class HostMinibatches(Generic[D]):
    """The same batches as an endless iterator whose data stay with the host, on a disk for instance.

    Attributes:
        data: Pytree of NumPy arrays, memory maps, or what else is indexed by an array of rows, with a leading axis N.
        key: Key of the permutations.
        size: Rows per batch.
        next: Index of the next batch.
    """

    data: D
    key: PRNGKeyArray
    size: int
    next: int = 0

    def __iter__(self) -> "HostMinibatches[D]":
        """Itself."""
        return self

    def __next__(self) -> D:
        """The next batch, as NumPy arrays."""
        first, within = divmod(self.next, _AHEAD)
        if self._drawn[0] != first:
            ahead = jnp.arange(first * _AHEAD, (first + 1) * _AHEAD)
            self._drawn = first, np.asarray(_many_rows(self.key, ahead, self.size, self._length))
        rows = self._drawn[1][within]
        self.next += 1
        return jax.tree.map(lambda v: np.asarray(v[rows]), self.data)

    def get_state(self) -> dict[str, int]:
        """Where it stands, for checkpoints."""
        return {"next": self.next}

    def set_state(self, state: dict[str, int]) -> None:
        """Go to where another one stood."""
        self.next = state["next"]

    def __post_init__(self) -> None:
        """No rows are drawn yet."""
        self._length = jax.tree.leaves(self.data)[0].shape[0]
        self._drawn: tuple[int, Any] = (-1, None)


_AHEAD = 64  # batches whose rows are drawn at once


def host_minibatches(data: D, size: int, key: PRNGKeyArray) -> HostMinibatches[D]:
    """`minibatches` of data that fit into no memory, such as `np.load(path, mmap_mode="r")`.

    The batches are those of `minibatches`, row by row; only their rows are read, while the device computes. A resumed
    run goes on with the batch that follows.

    Args:
        data: Pytree of arrays with a leading axis N, which are indexed by arrays of rows.
        size: Rows per batch, at most N.
        key: Key of the permutations.

    Returns:
        An endless iterator for `fit` and `play`.

    Raises:
        ValueError: The leading axes differ, or are shorter than a batch.

    Example:
        >>> import jax, numpy as np
        >>> from jaxkit.learn.batches import host_minibatches, minibatches
        >>> key, data = jax.random.key(0), np.arange(10)
        >>> next(host_minibatches(data, 4, key)).tolist() == minibatches(data, 4, key)(0).tolist()
        True
    """
    _check_rows([v.shape for v in jax.tree.leaves(data)], size)
    return HostMinibatches(data, key, size)


@struct
class Draws:
    """Batches that are freshly drawn: the i-th is `sampler(fold_in(key, i), size)`.

    Attributes:
        key: Random key.
        sampler: `sampler(key, n) -> samples`.
        size: Samples per batch.
    """

    key: PRNGKeyArray
    sampler: Callable[[PRNGKeyArray, int], Array] = static()
    size: int = static()

    def __call__(self, i: Int[Array, ""] | int) -> Array:
        """The i-th batch."""
        return self.sampler(jax.random.fold_in(self.key, i), self.size)


def stream(data: Any, size: int, key: PRNGKeyArray) -> Draws | Minibatches[Array]:
    """Batches of an array's rows, or of samples that a function `(key, n) -> samples` draws."""
    return Draws(key, cast(Any, data), size) if callable(data) else minibatches(jnp.asarray(data), size, key)


def _check_rows(shapes: list[tuple[int, ...]], size: int) -> None:
    lengths = sorted({shape[0] if shape else 0 for shape in shapes})
    checks.require(len(lengths) == 1, "data", "have one leading axis", f"has {lengths}")
    checks.require(0 < size <= lengths[0], "size", f"lie in 1..{lengths[0]}", f"is {size}")


def _rows(key: PRNGKeyArray, i: Int[Array, ""], size: int, length: int) -> Int[Array, " size"]:
    """Rows of the i-th batch of `size`, of data with `length` rows."""
    epoch, within = jnp.divmod(i, length // size)
    return _shuffle(jax.random.fold_in(key, epoch), within * size + jnp.arange(size), length).astype(jnp.int32)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _many_rows(key: PRNGKeyArray, i: Int[Array, " n"], size: int, length: int) -> Int[Array, "n size"]:
    return jax.vmap(lambda i: _rows(key, i, size, length))(i)


def _shuffle(key: PRNGKeyArray, positions: Int[Array, " n"], length: int) -> Int[Array, " n"]:
    """Where a pseudo-random permutation of `0..length-1` sends `positions`, without making the whole permutation.

    A Feistel network of six rounds permutes the next even power of two; values that fall outside are sent on until
    they fall inside ("cycle walking"), which keeps it a permutation.

    References:
        Black & Rogaway (2002), Ciphers with arbitrary finite domains.
    """
    half = max(1, -(-max(length - 1, 1).bit_length() // 2))
    mask = jnp.uint32((1 << half) - 1)
    rounds = jax.random.bits(key, (6,), jnp.uint32)

    def once(v: Array) -> Array:
        left, right = v >> half, v & mask
        for k in range(6):
            left, right = right, left ^ (_mix(right ^ rounds[k]) & mask)
        return (left << half) | right

    walk = lambda v: jnp.where(v >= length, once(v), v)
    outside = lambda v: jnp.any(v >= length)
    start = once(positions.astype(jnp.uint32))
    return jax.lax.while_loop(outside, walk, start)


def _mix(v: Array) -> Array:
    """A 32-bit integer hash with good avalanche (constants: Wellons, 2018, "lowbias32")."""
    v = (v ^ (v >> 16)) * jnp.uint32(0x7FEB352D)
    v = (v ^ (v >> 15)) * jnp.uint32(0x846CA68B)
    return v ^ (v >> 16)
