"""Jacobians of flat functions, and linear solves with them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array


def value_and_jacobian(fn: Callable[[Array], Array], x: Array, *, mode: str = "forward") -> tuple[Array, Array]:
    """Value and Jacobian at once: shapes `()` and `()`, or `(m,)` and `(m, n)`. Holomorphic for complex `x`.

    Args:
        fn: Maps a scalar to a scalar, or a vector to a vector.
        x: The point, shape `()` or `(n,)`.
        mode: `"forward"` or `"reverse"` (vectors only).
    """
    if x.ndim == 0:
        return jax.jvp(fn, (x,), (jnp.ones_like(x),))
    if mode == "reverse":
        value, pull = jax.vjp(fn, x)
        return value, jax.vmap(lambda v: pull(v)[0])(jnp.eye(value.size, dtype=value.dtype))
    # By `jvp`, not `linearize`: a loop inside `fn` would run once for the value and again for the derivative.
    column = lambda v: jax.jvp(fn, (x,), (v,))
    return jax.vmap(column, out_axes=(None, 1))(jnp.eye(x.size, dtype=x.dtype))


def solve_dense(matrix: Array, right: Array) -> Array:
    """Solve `matrix @ y = right`; one and two unknowns are solved by hand, which stays fast for millions of lanes."""
    if matrix.ndim == 0:
        return right / matrix
    if matrix.shape == (1, 1):
        return right / matrix[0]
    if matrix.shape == (2, 2):
        return _solve_two(matrix, right)
    return jnp.linalg.solve(matrix, right)


def _solve_two(matrix: Array, right: Array) -> Array:
    """Gauss elimination with row pivoting."""
    swap = jnp.abs(matrix[1, 0]) > jnp.abs(matrix[0, 0])
    pick = lambda u, v: jnp.where(swap, v, u)
    a, b, r = pick(matrix[0, 0], matrix[1, 0]), pick(matrix[0, 1], matrix[1, 1]), pick(right[0], right[1])
    c, d, s = pick(matrix[1, 0], matrix[0, 0]), pick(matrix[1, 1], matrix[0, 1]), pick(right[1], right[0])
    ratio = c / a
    y = (s - ratio * r) / (d - ratio * b)
    return jnp.stack([(r - b * y) / a, y])
