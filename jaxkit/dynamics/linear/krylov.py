"""Linear solves by products alone: GMRES, preconditioned by the diagonal where that is known, or by more.

References:
    Saad and Schultz (1986), GMRES: a generalized minimal residual algorithm for solving nonsymmetric linear systems,
    SIAM Journal on Scientific and Statistical Computing 7.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Vector = Float[Array, " n"]
Product = Callable[[Vector], Vector]
About = Callable[[Product, Vector], Vector]

LENGTH, RESTARTS = 40, 60  # vectors of a basis, and how many bases are begun


def solve(
    product: Product, right: Vector, scale: Vector | None = None, about: About | None = None, *, rtol: float = 1e-10
) -> Vector:
    """`A^-1 right`; NaN where the residual says that the iteration has not converged. It has no derivative.

    Args:
        product: Products with the matrix.
        right: The right side.
        scale: The matrix's diagonal.
        about: A function of `product` and a right side: what solves the system about. Where it does not help, the
            diagonal is used after all.
        rtol: Length of the residual allowed, relative to the right side's; the rounding of the dtype at least.
    """
    eps = float(jnp.finfo(right.dtype).eps)
    rtol = max(rtol, 64 * eps)
    size = jnp.max(jnp.abs(right))
    size = jnp.where((size > 0) & jnp.isfinite(size), size, 1)  # no square of a small number underflows
    inverse = jnp.ones_like(right)
    if scale is not None:
        usable = jnp.isfinite(scale) & (jnp.abs(scale) > eps * jnp.max(jnp.abs(scale)))
        inverse = jnp.where(usable, 1 / jnp.where(usable, scale, 1), 1)
    goal = rtol * jnp.linalg.norm(right / size)

    def near(plain: Array, v: Vector) -> Vector:
        return inverse * v if about is None else jnp.where(plain, inverse * v, about(product, v))

    def stalled(state: _State) -> Array:
        return ~(jnp.linalg.norm(state.left) < 0.999 * state.before) | (state.count >= RESTARTS)

    def turn(state: _State) -> _State:
        if about is not None:
            change, beginning = stalled(state) & ~state.plain, _begin(right / size)
            new = beginning._replace(plain=jnp.asarray(True))  # noqa: FBT003
            state = jax.tree.map(lambda u, v: jnp.where(change, u, v), new, state)
        plain, left = state.plain, state.left
        # From the right, so that the residual stays the system's own.
        found = state.found + near(plain, _cycle(lambda v: product(near(plain, v)), left, goal))
        return _State(found, right / size - product(found), jnp.linalg.norm(left), state.count + 1, plain)

    go = lambda state: ~(jnp.linalg.norm(state.left) <= goal) & ~(stalled(state) & state.plain)
    last = jax.lax.while_loop(go, turn, _begin(right / size)._replace(plain=jnp.asarray(about is None)))
    good = jnp.linalg.norm(last.left) <= 10 * goal
    return jnp.where(good, last.found * size, jnp.nan)


class _State(NamedTuple):
    """The solution so far, what is left (and was before), the bases begun, and whether the diagonal alone is used."""

    found: Vector
    left: Vector
    before: Array
    count: Array
    plain: Array


def _begin(right: Vector) -> _State:
    endless = jnp.asarray(jnp.inf, right.real.dtype)
    return _State(jnp.zeros_like(right), right, endless, jnp.asarray(0), jnp.asarray(True))  # noqa: FBT003


class _Basis(NamedTuple):
    """What a cycle carries: the basis, the triangle and the right side it is turned to, the turns, and their number."""

    vectors: Float[Array, "k1 n"]
    triangle: Float[Array, "k k"]
    right: Float[Array, " k1"]
    turns: Float[Array, "k 2"]
    count: Array


def _cycle(product: Product, left: Vector, goal: Array) -> Vector:
    """The combination of `left` and its products that lowers the residual most."""
    length = jnp.linalg.norm(left)
    first = _Basis(
        jnp.zeros((LENGTH + 1, left.size), left.dtype).at[0].set(left / jnp.where(length == 0, 1, length)),
        jnp.eye(LENGTH, dtype=left.dtype),
        jnp.zeros(LENGTH + 1, left.dtype).at[0].set(length),
        jnp.zeros((LENGTH, 2), left.dtype),
        jnp.asarray(0),
    )
    go = lambda b: (b.count < LENGTH) & (jnp.abs(b.right[b.count]) > goal)
    b = jax.lax.while_loop(go, lambda b: _longer(product, b), first)
    weights = jnp.where(jnp.arange(LENGTH) < b.count, b.right[:-1], 0)
    weights = jax.scipy.linalg.solve_triangular(b.triangle, weights)
    return weights @ b.vectors[:-1]


def _longer(product: Product, b: _Basis) -> _Basis:
    """One more vector, orthogonal to the others, and the turn that takes it out of the triangle."""
    k = b.count
    new = product(b.vectors[k])
    before = jnp.linalg.norm(new)

    def apart(i: Array, carry: tuple[Vector, Array]) -> tuple[Vector, Array]:
        new, column = carry
        part = b.vectors[i] @ new
        return new - part * b.vectors[i], column.at[i].add(part)

    new, column = jax.lax.fori_loop(0, k + 1, apart, (new, jnp.zeros(LENGTH + 1, new.dtype)))
    length = jnp.linalg.norm(new)
    length = jnp.where(length <= 4 * float(jnp.finfo(new.dtype).eps) * before, 0, length)  # the basis is whole

    def turned(i: Array, column: Array) -> Array:
        c, s = b.turns[i]
        x, y = column[i], column[i + 1]
        return column.at[i].set(c * x + s * y).at[i + 1].set(c * y - s * x)

    column = jax.lax.fori_loop(0, k, turned, column)
    size = jnp.hypot(column[k], length)
    safe = jnp.where(size == 0, 1, size)
    c, s = jnp.where(size == 0, 1, column[k] / safe), length / safe
    column = jnp.where(jnp.arange(LENGTH + 1) < k, column, 0).at[k].set(safe)
    right = b.right.at[k + 1].set(-s * b.right[k]).at[k].multiply(c)
    vectors = b.vectors.at[k + 1].set(new / jnp.where(length == 0, 1, length))
    return _Basis(vectors, b.triangle.at[:, k].set(column[:-1]), right, b.turns.at[k].set(jnp.stack([c, s])), k + 1)
