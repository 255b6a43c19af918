"""All complex roots of polynomials at once."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Complex, Float, Int

from jaxkit.core.checks import require
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.iterate import iterate
from jaxkit.dynamics.linear.implicit import implicit


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
    c = jnp.asarray(coefficients)
    require(c.ndim == 1 and c.size >= 2, "coefficients", "have shape (n + 1,) with n >= 1", f"has shape {c.shape}")
    real = jnp.finfo(c.dtype).dtype if jnp.issubdtype(c.dtype, jnp.inexact) else jnp.result_type(float)
    c = c.astype(jnp.complex128 if real == jnp.float64 else jnp.complex64)

    def rule(z: Array, inputs: tuple[Array], tangents: tuple[Array]) -> Array:
        return -jnp.polyval(tangents[0], z) / jnp.polyval(_derived(inputs[0]), z)

    solved = implicit(lambda c: _aberth(c, max_steps), rule)
    z, (status, steps) = solved(c)
    condition, error = jax.lax.stop_gradient(_conditioning(c, z))
    return PolynomialRoots(z, condition, error, status, steps)


def _derived(c: Array) -> Array:
    return c[:-1] * jnp.arange(c.size - 1, 0, -1).astype(c.dtype)


def _starts(c: Array) -> Array:
    """Points on circles whose radii are the slopes of the upper hull of `log |c_k|`."""
    n = c.size - 1
    size = jnp.log(jnp.abs(c[::-1]))  # of the coefficient of z^k; -inf if it is missing
    k = jnp.arange(n + 1, dtype=size.dtype)
    left, right = jnp.meshgrid(k, k, indexing="ij")
    proper = (left < right) & jnp.isfinite(size[:, None]) & jnp.isfinite(size[None, :])
    rate = jnp.where(proper, (size[None, :] - size[:, None]) / jnp.maximum(right - left, 1), 0)
    # Height of the hull over each k: the highest chord from a left to a right point.
    at = size[:, None, None] + rate[:, :, None] * (k[None, None, :] - left[:, :, None])
    over = proper[:, :, None] & (left[:, :, None] <= k[None, None, :]) & (k[None, None, :] <= right[:, :, None])
    hull = jnp.max(jnp.where(over, at, -jnp.inf), axis=(0, 1))
    radius = jnp.exp(jnp.clip(hull[:-1] - hull[1:], -300, 300))
    radius = jnp.where(jnp.isfinite(radius), radius, 0)
    angle = 2 * jnp.pi / n * jnp.arange(n, dtype=radius.dtype) + 0.7
    return jax.lax.complex(radius * jnp.cos(angle), radius * jnp.sin(angle))


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
    others = ~jnp.eye(n, dtype=bool)

    def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
        z, still = state
        ratio, value, bound = _evaluate(c, z)
        gaps = z[:, None] - z[None, :]
        repel = jnp.sum(jnp.where(others, 1 / jnp.where(others & (gaps != 0), gaps, 1), 0), axis=1)
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
