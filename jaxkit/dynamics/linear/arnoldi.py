"""A few eigenvalues of a large matrix that is given by its products: Arnoldi's method.

References:
    Saad (2011), Numerical Methods for Large Eigenvalue Problems, chapters 6 and 8 (shift and invert).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, Inexact

LENGTH = 120  # vectors of the basis, beyond twice the number of eigenvalues sought

Vector = Inexact[Array, " n"]
Product = Callable[[Vector], Vector]


class Ritz(NamedTuple):
    """Approximate eigenvalues and eigenvectors.

    Attributes:
        values: Eigenvalues, shape `(m,)`; NaN where the basis holds none.
        vectors: Eigenvectors of length one, shape `(m, n)`.
        residuals: `|A v - lambda v|`, shape `(m,)`; infinite where there is no eigenvalue.
    """

    values: Complex[Array, " m"]
    vectors: Complex[Array, "m n"]
    residuals: Float[Array, " m"]


def ritz(product: Product, like: Vector, count: int, more: int = LENGTH) -> Ritz:
    """The eigenvalues that a Krylov space tells of: those of largest modulus first of all, one of each if repeated.

    Args:
        product: Products with the matrix.
        like: A vector with the shape and dtype of its arguments.
        count: Number of eigenvalues sought; the space is larger.
        more: Vectors of the basis, beyond twice that number.
    """
    length = min(2 * count + more, like.size)
    basis, square, last = _basis(product, like, length)
    values, weights = jnp.linalg.eig(square)
    vectors = weights.T @ basis[:length].astype(weights.dtype)
    size = jnp.linalg.norm(vectors, axis=1)
    there = size > 0.5  # beside the whole of an invariant space stand zeros that are no eigenvalues
    vectors = vectors / jnp.where(there, size, 1)[:, None].astype(vectors.dtype)
    left = jnp.where(there, last * jnp.abs(weights[-1]), jnp.inf)
    return Ritz(jnp.where(there, values, jnp.nan), vectors, left)


def _basis(product: Product, like: Vector, length: int) -> tuple[Array, Array, Array]:
    """Orthonormal vectors, the matrix among them, and the length of what leads out of their space."""
    first = jax.random.normal(jax.random.key(0), like.shape, like.dtype)
    vectors = (
        jnp.zeros((length + 1, like.size), like.dtype).at[0].set(first / jnp.linalg.norm(first).astype(like.dtype))
    )
    eps = float(jnp.finfo(like.dtype).eps)

    def longer(k: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        vectors, table = carry
        new = product(vectors[k])
        before = jnp.linalg.norm(new)
        column = vectors.conj() @ new
        new = new - column @ vectors
        again = vectors.conj() @ new  # twice is enough (Kahan)
        new = new - again @ vectors
        size = jnp.linalg.norm(new)
        size = jnp.where(size <= 8 * eps * before, 0, size).astype(new.dtype)  # the space is whole
        column = (column + again).at[k + 1].set(size)
        new = jnp.where(size == 0, 0, new / jnp.where(size == 0, 1, size))
        return vectors.at[k + 1].set(new), table.at[:, k].set(column)

    table = jnp.zeros((length + 1, length), like.dtype)
    vectors, table = jax.lax.fori_loop(0, length, longer, (vectors, table))
    return vectors, table[:length], jnp.abs(table[length, length - 1])
