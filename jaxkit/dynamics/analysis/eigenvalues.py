"""All eigenvalues of a small real matrix."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from jaxkit.core.numerics import safe_sqrt


def eigenvalues(matrix: Float[Array, "n n"]) -> Complex[Array, " n"]:
    """Eigenvalues of a small real matrix by decreasing real part; in closed form for n <= 2 (any device, any mode).

    They are NaN where the matrix is not finite.
    """
    n, known = matrix.shape[-1], jnp.all(jnp.isfinite(matrix))
    if n == 1:
        return jax.lax.complex(matrix[0], jnp.zeros_like(matrix[0]))
    if n == 2:
        matrix, unit = _scaled(matrix)
        half = 0.5 * (matrix[0, 0] + matrix[1, 1])
        square = 0.25 * (matrix[0, 0] - matrix[1, 1]) ** 2 + matrix[0, 1] * matrix[1, 0]
        real, imag = safe_sqrt(square), safe_sqrt(-square)
        # The determinant gives the smaller real root without cancellation.
        big = half + jnp.where(half >= 0, real, -real)
        det = matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]
        small = jnp.where(big != 0, det / jnp.where(big != 0, big, 1), 0)
        first = jnp.where(square >= 0, jnp.maximum(big, small), half)
        second = jnp.where(square >= 0, jnp.minimum(big, small), half)
        unit = jnp.where(known, unit, jnp.nan)
        return jax.lax.complex(unit * jnp.stack([first, second]), unit * jnp.stack([imag, -imag]))
    values = jnp.linalg.eigvals(jnp.where(known, matrix, 0))
    return jnp.where(known, values[jnp.argsort(-jnp.real(values))], jnp.nan)


def _scaled(matrix: Float[Array, "n n"]) -> tuple[Float[Array, "n n"], Float[Array, ""]]:
    """The matrix over a power of two near its largest entry, so that its determinant neither over- nor underflows."""
    info = jnp.finfo(matrix.dtype)
    exponent = jnp.frexp(jax.lax.stop_gradient(jnp.max(jnp.abs(matrix))))[1]
    exponent = jnp.clip(exponent, int(info.minexp) + 2, int(info.maxexp) - 2)
    unit = jnp.ldexp(jnp.ones((), matrix.dtype), exponent)
    return matrix / unit, unit
