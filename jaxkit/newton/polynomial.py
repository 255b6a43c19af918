"""All complex roots of polynomials at once."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Complex, Float, Int

from jaxkit.core.checks import require, whole_as_floating
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.iterate import iterate
from jaxkit.dynamics.linear.implicit import failed, implicit

TABLE = 1 << 20  # most differences of roots that are in memory at once


@struct
class PolynomialRoots(Outcome):
    """The roots of one polynomial (or, under `vmap`, of many).

    Attributes:
        value: Roots, shape `(n,)`.
        condition: Factor by which the relative error of a root may exceed that of the coefficients, shape `(n,)`.
        error: First-order bound on the distance to a true root from rounding alone, shape `(n,)`.
        status: `Status` code.
        steps: Iterations taken.
    """

    verb: ClassVar[str] = "polynomial_roots"

    value: Complex[Array, "... n"]
    condition: Float[Array, "... n"]
    error: Float[Array, "... n"]
    status: Int[Array, "..."]
    steps: Int[Array, "..."]

    @property
    def ill_conditioned(self) -> Bool[Array, "... n"]:
        """Roots that may have lost more than half of their digits to rounding (multiple or clustered ones)."""
        eps = jnp.finfo(self.condition.dtype).eps
        return ~(self.condition < eps**-0.5)


def polynomial_roots(coefficients: ArrayLike, *, max_steps: int = 200) -> PolynomialRoots:
    """All complex roots of `c[0] z^n + ... + c[n]`, by the Ehrlich-Aberth iteration.

    It is differentiable in the coefficients (at simple roots) and works under `vmap`. The starting circles come from
    the Newton polygon of `log|c|` (Bini, Numerical Algorithms 13, 1996), so coefficients may span hundreds of orders
    of magnitude.

    Args:
        coefficients: Highest power first, as for `numpy.roots`; shape `(n + 1,)`, real or complex. The first must
            not be 0.
        max_steps: Most iterations.

    Returns:
        The roots, in no particular order, with their condition numbers.

    Raises:
        ValueError: There are fewer than two coefficients.

    Example:
        >>> from jaxkit import newton
        >>> r = newton.polynomial_roots([1.0, 0.0, -2.0, -5.0]).checked()  # Wallis's cubic of 1685
        >>> round(float(r.value.real.max()), 6)
        2.094551
    """
    c = jnp.asarray(whole_as_floating(coefficients))
    require(c.ndim == 1 and c.size >= 2, "coefficients", "have shape (n + 1,) with n >= 1", f"has shape {c.shape}")
    real = jnp.finfo(c.dtype).dtype if jnp.issubdtype(c.dtype, jnp.inexact) else jnp.result_type(float)
    c = c.astype(jnp.complex128 if real == jnp.float64 else jnp.complex64)

    def rule(z: Array, inputs: tuple[Array], tangents: tuple[Array]) -> Array:
        return -jnp.polyval(tangents[0], z) / jnp.polyval(_derived(inputs[0]), z)

    solved = implicit(lambda c: _aberth(c, max_steps), rule, lost=failed)
    z, (status, steps) = solved(c)
    condition, error = jax.lax.stop_gradient(_conditioning(c, z))
    return PolynomialRoots(z, condition, error, status, steps)


def _derived(c: Array) -> Array:
    return c[:-1] * jnp.arange(c.size - 1, 0, -1).astype(c.dtype)


def _starts(c: Array) -> Array:
    """Points on circles whose radii are the slopes of the upper hull of `log |c_k|`."""
    n = c.size - 1
    size = jnp.log(jnp.abs(c[::-1]))  # of the coefficient of z^k; -inf if it is missing
    hull = _upper_hull(size)
    radius = jnp.exp(jnp.clip(hull[:-1] - hull[1:], -300, 300))
    radius = jnp.where(jnp.isfinite(radius), radius, 0)
    angle = 2 * jnp.pi / n * jnp.arange(n, dtype=radius.dtype) + 0.7
    return jax.lax.complex(radius * jnp.cos(angle), radius * jnp.sin(angle))


def _upper_hull(size: Float[Array, " m"]) -> Float[Array, " m"]:
    """Height over each index of the upper hull of the points `(k, size_k)`; -inf beyond the first and last of them.

    One point after another becomes a corner, and takes away the corners before it that lie below the new chord.
    """
    m = size.size
    index = jnp.arange(m, dtype=jnp.int32)
    known = jnp.isfinite(size)

    def below(i: Array, corners: Array, count: Array) -> Array:
        a, b = corners[jnp.maximum(count - 2, 0)], corners[jnp.maximum(count - 1, 0)]
        gap = lambda first, second: (second - first).astype(size.dtype)
        return (count >= 2) & ((size[b] - size[a]) * gap(a, i) <= (size[i] - size[a]) * gap(a, b))

    def add(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        corners, count = carry
        left = jax.lax.while_loop(lambda c: known[i] & below(i, corners, c), lambda c: c - 1, count)
        return jnp.where(known[i], corners.at[left].set(i), corners), jnp.where(known[i], left + 1, count)

    corners, count = jax.lax.fori_loop(0, m, add, (jnp.zeros(m, index.dtype), jnp.zeros((), index.dtype)))
    xs = jnp.where(index < count, corners, m + index)
    right = jnp.clip(jnp.searchsorted(xs, index, side="left"), 1, jnp.maximum(count - 1, 1))
    a, b = corners[right - 1], corners[right]
    share = (index - a).astype(size.dtype) / jnp.maximum(b - a, 1).astype(size.dtype)
    height = size[a] + share * (size[b] - size[a])
    inside = (count >= 2) & (index >= corners[0]) & (index <= corners[jnp.maximum(count - 1, 0)])
    return jnp.where(inside, height, -jnp.inf)


def _repulsion(z: Complex[Array, " n"]) -> Complex[Array, " n"]:
    """The sum of `1 / (z_i - z_j)` over the other roots, some rows of the table after others where it is large."""
    n = z.size

    def row(one: Array, i: Array) -> Array:
        gaps = one - z
        other = (jnp.arange(n) != i) & (gaps != 0)
        return jnp.sum(jnp.where(other, 1 / jnp.where(other, gaps, 1), 0))

    if n * n <= TABLE:
        return jax.vmap(row)(z, jnp.arange(n))
    return jax.lax.map(lambda given: row(*given), (z, jnp.arange(n)), batch_size=max(1, TABLE // n))


def _evaluate(c: Array, z: Array) -> tuple[Array, Array, Array]:
    """`p/p'`, `|p|` and the rounding bound of `|p|` inside the unit circle; outside, by the reversed polynomial."""
    n = c.size - 1
    large = jnp.abs(z) > 1
    w = jnp.where(large, 1 / jnp.where(z == 0, 1, z), z)

    def horner(carry: tuple, pair: tuple) -> tuple:
        p, dp, q, dq, bound, bound_r = carry
        forward, backward = pair
        size = jnp.abs(w)
        carry = (p * w + forward, dp * w + p, q * w + backward, dq * w + q)
        return (*carry, bound * size + jnp.abs(forward), bound_r * size + jnp.abs(backward)), None

    zero, size = jnp.zeros_like(w), jnp.zeros(w.shape, jnp.abs(w).dtype)
    (p, dp, q, dq, bound, bound_r), _ = jax.lax.scan(horner, (zero, zero, zero, zero, size, size), (c, c[::-1]))
    # p(z) = z^n q(1/z), so p'/p = (n - w q'/q) / z at a large z.
    outside = q / (n * q - w * dq) * z
    ratio = jnp.where(large, outside, p / dp)
    return ratio, jnp.abs(jnp.where(large, q, p)), jnp.where(large, bound_r, bound)


def _aberth(c: Array, max_steps: int) -> tuple[Array, tuple[Array, Array]]:
    eps = jnp.finfo(c.dtype).eps
    n = c.size - 1
    usable = jnp.all(jnp.isfinite(c)) & (c[0] != 0)

    def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
        z, still = state
        ratio, value, bound = _evaluate(c, z)
        repel = _repulsion(z)
        dz = ratio / (1 - ratio * repel)
        dz = jnp.where(jnp.isfinite(dz), dz, jnp.where(jnp.isfinite(ratio), ratio, 0))
        small = (value <= 4 * n * eps * bound) | (jnp.abs(dz) <= 2 * eps * jnp.abs(z))
        return jnp.where(still, z - dz, z), still & ~small

    start = (_starts(c), jnp.ones(n, bool))
    okay = lambda state: jnp.where(usable & jnp.all(jnp.isfinite(state[0])), int(Status.ok), int(Status.not_applicable))
    (z, _), status, steps = iterate(
        step, start, status=okay, done=lambda state: ~jnp.any(state[1]), max_steps=max_steps
    )
    return z, (status, steps)


def _conditioning(c: Array, z: Array) -> tuple[Array, Array]:
    """`sum |c_k| |z|^k / (|z| |p'(z)|)`, and that times the rounding unit times `|z|`."""
    eps = jnp.finfo(c.dtype).eps
    ratio, value, bound = _evaluate(c, z)
    size = jnp.where(z == 0, 1, jnp.abs(z))
    slope = value / jnp.abs(ratio)  # |p'|, in the units of |p|
    # Where p is zero to the last digit, p' itself; outside the unit circle, that of the reversed polynomial, like p.
    large = jnp.abs(z) > 1
    w = 1 / jnp.where(large, z, 1)
    outside = w**2 * jnp.polyval(_derived(c[::-1]), w)
    straight = jnp.abs(jnp.where(large, outside, jnp.polyval(_derived(c), jnp.where(large, 0, z))))
    slope = jnp.where(jnp.isfinite(slope), slope, straight)
    condition = bound / (size * slope)
    return condition, 4 * c.size * eps * condition * size
