"""The trust-region core of `least_squares` and of the root finders whose residual must fall.

Every turn evaluates the residual and Jacobian once, at a trial point, accepts or refuses it, and proposes the next.
There is only one such evaluation in the program, so that the first turn only evaluates the start. A refused trial
wastes a Jacobian, but the program compiles faster, and under `vmap` both branches would run anyway.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxkit.dynamics.linear.dense import solve_dense


class Region(NamedTuple):
    """The best point so far, and the step that will be tried from it.

    Attributes:
        x: The point, shape `(n,)`.
        value: Residual there, shape `(m,)`; infinite before the first turn.
        slope: Jacobian there, shape `(m, n)`.
        scale: Weights of the unknowns, shape `(n,)`: the largest norm each column of the Jacobian has had.
        size: Damping, radius or fraction of the Newton step, by the rule.
        factor: Growth of the damping after the next refusal.
        move: The step to try, shape `(n,)`.
        length: Scaled length of that step.
        predicted: The decrease that it should bring, in the norm of the residual or in its square.
        unit: What `value` and `slope` are multiplied by.
    """

    x: Array
    value: Array
    slope: Array
    scale: Array
    size: Float[Array, ""]
    factor: Float[Array, ""]
    move: Array
    length: Float[Array, ""]
    predicted: Float[Array, ""]
    unit: Float[Array, ""]


# A parameter whose doubling would change the residuals by less than this part is damped as if it did: a column that has
# all but vanished would carry it off to infinity.
_INSENSITIVE = 1e-3

# From what holds the Jacobian, the weights of the unknowns, the damping and the residual: the scaled step, and the
# gradient of half the squared residual by the scaled unknowns.
Damped = Callable[[Array, Array, Array, Array], tuple[Array, Array]]
Propose = Callable[[Region, Array, Array, Array], Region]  # (region, gain ratio, accepted, Newton step)


class Rule(NamedTuple):
    """A way to choose steps.

    Attributes:
        propose: Gives the region with its next step and size.
        vanished: Tells whether steps have become too short to go on.
        size: The first size.
        squared: Whether it predicts the decrease of the square of the norm.
    """

    propose: Propose
    vanished: Callable[[Region], Bool[Array, ""]]
    size: float
    squared: bool = False


def begin(x0: Array, count: int, size: float, shape: tuple[int, ...] | None = None) -> Region:
    """The region before the first turn: the step to try is 0, and any finite residual of length `count` is better.

    Args:
        x0: The start.
        count: Number of residuals.
        size: The first size.
        shape: Shape of what holds the Jacobian; `(count, n)` by default.
    """
    real = jnp.finfo(x0.dtype).dtype
    number = lambda value: jnp.asarray(value, real)
    value, slope = jnp.full(count, jnp.inf, x0.dtype), jnp.zeros(shape or (count, x0.size), x0.dtype)
    nothing = jnp.zeros_like(x0)
    return Region(
        x0,
        value,
        slope,
        scale=jnp.zeros(x0.shape, real),
        size=number(size),
        factor=number(2),
        move=nothing,
        length=number(0),
        predicted=number(jnp.inf),
        unit=number(1),
    )


def unseen(region: Region) -> Bool[Array, ""]:
    """Whether no finite residual has been found yet."""
    return jnp.all(jnp.isinf(region.value))


def column_norms(slope: Array) -> Array:
    """Norms of the columns; 1 for a column of norm 0."""
    return or_one(jnp.linalg.norm(slope, axis=0))


def unit_of(x: Array, value: Array, slope: Array) -> Float[Array, ""]:
    """A power of two that brings residuals where their squares neither over- nor underflow; 1 for those of usual size.

    Their size is that of the numbers whose difference they are: residuals that are small beside these stay so.
    """
    most = jnp.finfo(value.dtype).maxexp
    usual, steepest, size = most // 3, 7 * most // 16, jnp.max(jnp.abs(value), initial=0)
    size = jnp.maximum(size, jnp.max(jnp.abs(slope) * jnp.abs(x)[None, :], initial=0))
    exponent = lambda v: jnp.frexp(jnp.where(jnp.isfinite(v) & (v > 0), v, 1))[1]
    power = jnp.clip(exponent(size), 0, usual) - exponent(size)
    power = jnp.minimum(power, jnp.maximum(steepest - exponent(jnp.max(jnp.abs(slope), initial=0)), 0))
    return jnp.ldexp(jnp.ones_like(size), power)


def or_one(norms: Array) -> Array:
    """Norms of columns, but 1 for a column of norm 0."""
    return jnp.where((norms > 0) & jnp.isfinite(norms), norms, 1)


def advance(
    both: Callable[[Array], tuple[Array, Array]],
    region: Region,
    *,
    squared: bool,
    least: float,
    norms: Callable[[Array], Array] = column_norms,
    unit: Callable[[Array, Array, Array], Array] | None = None,
) -> tuple[Region, Float[Array, ""], Bool[Array, ""]]:
    """Evaluate the trial point, and move there if the residual falls enough.

    Args:
        both: Gives the residual and Jacobian at a point.
        region: The present region.
        squared: Whether `region.predicted` refers to the square of the norm.
        least: The trial is accepted if the ratio of actual to predicted decrease exceeds this.
        norms: Norms of the Jacobian's columns, from what holds it; 1 for a column of norm 0.
        unit: Gives `region.unit`, from a point, the residual and the Jacobian there, at the first turn; 1 without it.

    Returns:
        The region at the better point (its step still the old one), the ratio of actual to predicted decrease (1/2 for
        the first evaluation, which leaves all sizes as they are, and -1 where something is not finite), and whether the
        trial was accepted.
    """
    trial = region.x + region.move
    value, slope = both(trial)
    if unit is not None:
        region = region._replace(unit=jnp.where(unseen(region), unit(trial, value, slope), region.unit))
        value, slope = region.unit * value, region.unit * slope
    old, new = jnp.linalg.norm(region.value), jnp.linalg.norm(value)
    finite = jnp.isfinite(new) & jnp.all(jnp.isfinite(slope)) & jnp.all(jnp.isfinite(region.move))
    gain = (old - new) * (old + new) if squared else old - new
    ratio = jnp.where(unseen(region), 0.5, gain / jnp.maximum(region.predicted, jnp.finfo(old.dtype).tiny))
    ratio = jnp.where(finite, ratio, -1)
    accept = ratio > least
    pick = lambda there, here: jnp.where(accept, there, here)
    slope = pick(slope, region.slope)
    scale = jnp.maximum(region.scale, norms(slope))
    return (
        region._replace(x=pick(trial, region.x), value=pick(value, region.value), slope=slope, scale=scale),
        ratio,
        accept,
    )


def pull(region: Region) -> Array:
    """The gradient of half the squared residual."""
    return jnp.conj(region.slope.T) @ region.value


def _marquardt(region: Region, ratio: Array, accepted: Array, newton: Array) -> Region:
    """Damped least squares by QR."""
    del newton
    value = region.value
    scale = jnp.maximum(region.scale, _INSENSITIVE * jnp.linalg.norm(value) / jnp.abs(region.x))  # (inf / inf is NaN)
    scale = jnp.where(jnp.isfinite(scale), scale, region.scale)
    return marquardt(region, ratio, accepted, _by_qr, scale)


def marquardt(region: Region, ratio: Array, accepted: Array, damped: Damped, scale: Array) -> Region:
    """Damped least squares, scaled as in MINPACK (Moré 1978), with damping changed as by Nielsen (1999)."""
    shrink = jnp.maximum(1 / 3, 1 - (2 * jnp.clip(ratio, 0, 1) - 1) ** 3)
    size = jnp.where(accepted, jnp.maximum(region.size * shrink, 1e-20), region.size * region.factor)
    factor = jnp.where(accepted, 2, 2 * region.factor)
    z, pulled = damped(region.slope, scale, size, region.value)
    predicted = jnp.real(jnp.vdot(z, size * z - pulled))
    return region._replace(size=size, factor=factor, move=z / scale, length=jnp.linalg.norm(z), predicted=predicted)


def _by_qr(slope: Array, scale: Array, size: Array, value: Array) -> tuple[Array, Array]:
    """QR of the augmented system: the condition number is not squared."""
    slope = slope / scale[None, :]
    damping = jnp.sqrt(size) * jnp.eye(slope.shape[1], dtype=slope.dtype)
    q, upper = jnp.linalg.qr(jnp.concatenate([slope, damping]))
    right = -jnp.conj(q[: value.size].T) @ value
    z = solve_dense(upper, right) if right.size <= 2 else jax.scipy.linalg.solve_triangular(upper, right)
    return z, jnp.conj(slope.T) @ value


def _dogleg(region: Region, ratio: Array, accepted: Array, newton: Array) -> Region:
    """Powell's hybrid step: down the gradient, then towards the Newton step, as far as the radius reaches."""
    del accepted
    norm, least = (lambda v: jnp.linalg.norm(region.scale * v)), jnp.finfo(region.size.dtype).tiny
    start = jnp.where(norm(region.x) > 0, norm(region.x), jnp.linalg.norm(region.scale))
    shorter = 0.25 * jnp.where(jnp.isfinite(region.length), region.length, region.size)
    longer = jnp.maximum(region.size, 2 * region.length)
    size = jnp.where(ratio < 0.1, shorter, jnp.where(ratio > 0.5, longer, region.size))
    size = jnp.where(jnp.isinf(region.size), start, size)
    descent = -pull(region) / region.scale**2
    along = jnp.linalg.norm(region.slope @ descent)
    cauchy = descent * jnp.where(along > 0, (norm(descent) / along) ** 2, 0)
    newton = jnp.where(jnp.all(jnp.isfinite(newton)), newton, cauchy)
    leg = newton - cauchy
    a, c = norm(leg) ** 2, norm(cauchy) ** 2 - size**2
    b = jnp.real(jnp.vdot(region.scale * cauchy, region.scale * leg))
    part = -c / jnp.maximum(b + jnp.sqrt(jnp.maximum(b**2 - a * c, 0)), least)
    bent = cauchy + jnp.clip(part, 0, 1) * leg
    cut = cauchy * (size / jnp.maximum(norm(cauchy), least))
    move = jnp.where(norm(newton) <= size, newton, jnp.where(norm(cauchy) >= size, cut, bent))
    left = jnp.linalg.norm(region.slope @ move + region.value)
    return region._replace(size=size, move=move, length=norm(move), predicted=jnp.linalg.norm(region.value) - left)


def _fraction(region: Region, ratio: Array, accepted: Array, newton: Array) -> Region:
    """A fraction of the Newton step, halved until the residual falls, doubled after each success."""
    del ratio
    size = jnp.where(accepted, jnp.minimum(2 * region.size, 1), 0.5 * region.size)
    move = size * jnp.where(jnp.all(jnp.isfinite(newton)), newton, -pull(region))
    length = jnp.linalg.norm(region.scale * move)
    return region._replace(size=size, move=move, length=length, predicted=size * jnp.linalg.norm(region.value))


def _radius_vanished(region: Region) -> Array:
    return region.size <= 1e-3 * jnp.finfo(region.size.dtype).eps * jnp.linalg.norm(region.scale * region.x)


MARQUARDT = Rule(_marquardt, lambda region: region.size > 1e20, size=1e-3, squared=True)
DOGLEG = Rule(_dogleg, _radius_vanished, size=jnp.inf)  # the first radius follows from the start
FRACTION = Rule(_fraction, lambda region: region.size < 1e-12, size=1.0)
