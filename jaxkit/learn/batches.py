"""Batches without state: the i-th batch is a function of the key and of i alone."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import jax
import jax.numpy as jnp
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
        length = jax.tree.leaves(self.data)[0].shape[0]
        epoch, within = jnp.divmod(jnp.asarray(i), self.per_epoch)
        rows = _shuffle(jax.random.fold_in(self.key, epoch), within * self.size + jnp.arange(self.size), length)
        return rows.astype(jnp.int32)

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
    data = jax.tree.map(jnp.asarray, data)
    lengths = sorted({v.shape[0] if v.ndim else 0 for v in jax.tree.leaves(data)})
    checks.require(len(lengths) == 1, "data", "have one leading axis", f"has {lengths}")
    checks.require(0 < size <= lengths[0], "size", f"lie in 1..{lengths[0]}", f"is {size}")
    return Minibatches(data, key, size)


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
