"""Conjugate gradients: symmetric systems and damped least squares by products alone.

References:
    Hestenes and Stiefel (1952), Methods of conjugate gradients for solving linear systems, Journal of Research of the
    National Bureau of Standards 49. Björck (1996), Numerical Methods for Least Squares Problems, section 7.4.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Vector = Float[Array, " n"]
Product = Callable[[Array], Array]


def least_squares(
    times: Product, pull: Product, value: Array, damping: Array, *, rtol: float, limit: int
) -> tuple[Vector, Bool[Array, ""]]:
    """The `z` that minimises `|A z + value|^2 + damping |z|^2`, and whether the iteration has converged.

    Where it has not, the step still descends, and is the best one among the combinations that were looked at.

    Args:
        times: Products with `A`, whose columns have lengths of about 1.
        pull: Products with its transpose.
        value: The residuals.
        damping: The damping.
        rtol: Length of the gradient at which it ends, relative to the first; at least what rounding leaves of it.
        limit: Largest number of products.
    """
    first = -pull(value)

    def turn(carry: tuple) -> tuple:
        z, left, p, size, count = carry
        q = times(p)
        along = jnp.vdot(q, q) + damping * jnp.vdot(p, p)
        part = size / jnp.where(along == 0, 1, along)
        z, left = z + part * p, left - part * q
        gradient = pull(left) - damping * z
        new = jnp.vdot(gradient, gradient)
        return z, left, gradient + new / jnp.where(size == 0, 1, size) * p, new, count + 1

    size = jnp.vdot(first, first)
    noise = 4 * float(jnp.finfo(value.dtype).eps) * first.size**0.5 * jnp.linalg.norm(value)
    goal = jnp.maximum(rtol**2 * size, noise**2)
    go = lambda carry: (carry[3] > goal) & (carry[4] < limit)
    start = (jnp.zeros_like(first), -value, first, size, jnp.asarray(0))
    z, *_, last, _ = jax.lax.while_loop(go, turn, start)
    return z, last <= goal


def symmetric(
    product: Product, right: Vector, scale: Vector | None = None, *, rtol: float, limit: int
) -> tuple[Vector, Bool[Array, ""]]:
    """`A^-1 right` for a symmetric positive matrix, and whether it has converged without meeting a negative direction.

    Args:
        product: Products with the matrix.
        right: The right side.
        scale: The matrix's diagonal, about; positive.
        rtol: Length of the residual at which it ends, relative to the right side's.
        limit: Largest number of products.
    """
    inverse = jnp.ones_like(right) if scale is None else 1 / scale
    length = jnp.linalg.norm(right)

    def turn(carry: tuple) -> tuple:
        y, left, p, size, positive, count = carry
        q = product(p)
        along = jnp.vdot(p, q)
        part = size / jnp.where(along == 0, 1, along)
        y, left = y + part * p, left - part * q
        new = jnp.vdot(left, inverse * left)
        p = inverse * left + new / jnp.where(size == 0, 1, size) * p
        return y, left, p, new, positive & (along > 0), count + 1

    def go(carry: tuple) -> Array:
        _, left, _, _, positive, count = carry
        return (jnp.linalg.norm(left) > rtol * length) & positive & (count < limit)

    first = inverse * right
    start = (jnp.zeros_like(right), right, first, jnp.vdot(right, first), jnp.asarray(True), jnp.asarray(0))  # noqa: FBT003
    y, left, _, _, positive, _ = jax.lax.while_loop(go, turn, start)
    return y, positive & (jnp.linalg.norm(left) <= rtol * length)


def solver(product: Product, scale: Vector, *, rtol: float = 1e-10, limit: int = 5000) -> Callable[[Vector], Vector]:
    """Solves with a symmetric positive matrix, differentiable to any order; NaN where the iteration fails."""

    def solve(product: Product, right: Vector) -> Vector:
        found, good = symmetric(
            product, right, scale, rtol=max(rtol, 64 * float(jnp.finfo(right.dtype).eps)), limit=limit
        )
        return jnp.where(good, found, jnp.nan)

    return lambda right: jax.lax.custom_linear_solve(product, right, solve, symmetric=True)
