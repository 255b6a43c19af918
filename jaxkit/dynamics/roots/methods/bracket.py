"""Bracketing methods, for one real unknown: the root stays between two ends with values of opposite sign."""

from collections.abc import Callable
from typing import NamedTuple

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxkit.core.status import Status
from jaxkit.dynamics.linear.dense import value_and_jacobian
from jaxkit.dynamics.roots.methods.method import Ends, Iterate, Method, Problem, code, rounding


def bisected(before: Callable[[Array], Array], low: Array, high: Array, *, halvings: int = 60) -> tuple[Array, Array]:
    """The two ends between which `before` ceases to hold, after `halvings` halvings; elementwise, without a derivative.

    Args:
        before: Whether a point lies before the change, on the side of `low`.
        low: An end where it holds.
        high: An end where it does not; it may be below `low`.
        halvings: Number of halvings.

    Example:
        >>> from jaxkit.dynamics.roots.methods.bracket import bisected
        >>> low, high = bisected(lambda x: x**2 < 2, jnp.asarray(0.0), jnp.asarray(2.0))
        >>> round(float(low), 6)
        1.414214
    """

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        still = before(middle)
        return jnp.where(still, middle, low), jnp.where(still, high, middle)

    return jax.lax.fori_loop(0, halvings, halve, (low, high))


class Bracket(NamedTuple):
    """Two ends, their values, and what the method adds.

    Attributes:
        a, b: The ends; `a` is the newer one in Chandrupatla's method, else `a < b`.
        fa, fb: Their values, of opposite sign.
        more: What else the method keeps.
    """

    a: Array
    b: Array
    fa: Array
    fb: Array
    more: tuple[Array, ...] = ()


def _opened(problem: Problem, ends: Ends) -> tuple[Bracket, Iterate]:
    """Evaluate the ends: the bracket, and its better end with its width (0 where an end is a root) as the error.

    Without a sign change, or where a value is NaN, the error is NaN: then the loop does not start, and `checked` finds
    the reason. An infinite value has a sign, as that of `log(x)` at 0.
    """
    if ends is None:
        raise ValueError("Argument `bracket` must be given for a bracketing method, but is None.")
    a, b = ends
    fa, fb = problem.fn(a), problem.fn(b)
    best = jnp.where(jnp.abs(fa) <= jnp.abs(fb), a, b)
    usable = jnp.sign(fa) * jnp.sign(fb) <= 0  # false for NaN
    width = jnp.where((fa == 0) | (fb == 0), 0, jnp.abs(b - a))
    return Bracket(a, b, fa, fb), Iterate(best, jnp.where(usable, width, jnp.nan), code(Status.ok))


def _narrowed(bracket: Bracket, x: Array, fx: Array) -> Bracket:
    """Put `x` in place of the end whose value has the same sign."""
    left = jnp.sign(fx) == jnp.sign(bracket.fa)
    keep = lambda new, old, where: jnp.where(where, new, old)
    return bracket._replace(
        a=keep(x, bracket.a, left),
        fa=keep(fx, bracket.fa, left),
        b=keep(x, bracket.b, ~left),
        fb=keep(fx, bracket.fb, ~left),
    )


def _reached(state: Iterate, bracket: Bracket, fx: Array, x: Array) -> Iterate:
    """The better end, and the width of the bracket as its error (a rigorous one where `fn` is continuous)."""
    best = jnp.where(jnp.abs(bracket.fa) <= jnp.abs(bracket.fb), bracket.a, bracket.b)
    best = jnp.where(fx == 0, x, best)
    error = jnp.where(fx == 0, 0, 0.5 * jnp.abs(bracket.b - bracket.a))
    error = jnp.where(_touching(bracket), 0, error)
    return state._replace(x=best, error=jnp.where(jnp.isnan(fx), jnp.nan, error), memory=bracket)


def _touching(bracket: Bracket) -> Array:
    """Whether no float lies between the ends."""
    middle = bracket.a + 0.5 * (bracket.b - bracket.a)
    return (middle == bracket.a) | (middle == bracket.b)


def _bisect_start(problem: Problem, x0: Array, ends: Ends) -> Iterate:
    del x0
    bracket, first = _opened(problem, ends)
    return first._replace(memory=bracket)


def _bisect(problem: Problem, state: Iterate) -> Iterate:
    bracket = state.memory
    x = bracket.a + 0.5 * (bracket.b - bracket.a)
    fx = problem.fn(x)
    return _reached(state, _narrowed(bracket, x, fx), fx, x)


def _safeguarded_start(problem: Problem, x0: Array, ends: Ends) -> Iterate:
    """The first point is `x0` where it lies inside, else the midpoint."""
    bracket, at = _opened(problem, ends)
    inside = (x0 > bracket.a) & (x0 < bracket.b)
    first = jnp.where(inside, x0, bracket.a + 0.5 * (bracket.b - bracket.a))
    return at._replace(memory=bracket._replace(more=(first, at.error, at.error)))


def _safeguarded(problem: Problem, state: Iterate) -> Iterate:
    """Newton's step where it stays strictly inside and halves every second step, else the midpoint.

    A Newton step below the tolerance is lengthened to the tolerance, so that the next point lies behind the root
    and the bracket closes around it.
    """
    bracket, (x, last, older) = state.memory, state.memory.more
    fx, slope = value_and_jacobian(problem.fn, x)
    bracket = _narrowed(bracket, x, fx)
    width = bracket.b - bracket.a
    middle = bracket.a + 0.5 * width
    dx = -fx / slope
    least = problem.tolerance(x)
    dx = jnp.where(jnp.abs(dx) < least, jnp.sign(-fx * jnp.sign(slope)) * least, dx)
    good = (x + dx > bracket.a) & (x + dx < bracket.b) & (2 * jnp.abs(dx) <= older)
    following = jnp.where(good, x + dx, middle)
    step = jnp.abs(following - x)
    more = (following, jnp.where(good, step, width), jnp.where(good, last, width))
    return _reached(state, bracket._replace(more=more), fx, x)


def _itp_start(problem: Problem, x0: Array, ends: Ends) -> Iterate:
    del x0
    bracket, first = _opened(problem, ends)
    width = bracket.b - bracket.a
    nearest = jnp.where(bracket.a * bracket.b <= 0, 0, jnp.minimum(jnp.abs(bracket.a), jnp.abs(bracket.b)))
    least = jnp.maximum(problem.tolerance(nearest), jnp.finfo(width.dtype).eps * width * 1e-3)
    halvings = jnp.ceil(jnp.log2(jnp.maximum(width / (2 * least), 1))) + 1
    more = (least * 2.0**halvings, 0.2 / jnp.maximum(width, jnp.finfo(width.dtype).tiny))
    return first._replace(memory=bracket._replace(more=more))


def _itp(problem: Problem, state: Iterate) -> Iterate:
    """Interpolate, truncate, project (Oliveira and Takahashi, ACM TOMS 47, 2020; kappa2 = 2, n0 = 1)."""
    bracket, (radius, kappa) = state.memory, state.memory.more
    a, b, fa, fb = bracket.a, bracket.b, bracket.fa, bracket.fb
    width, middle = b - a, a + 0.5 * (b - a)
    secant = (fb * a - fa * b) / (fb - fa)
    secant = jnp.where(jnp.isfinite(secant), secant, middle)
    toward = jnp.sign(middle - secant)
    delta = kappa * width**2
    truncated = jnp.where(delta <= jnp.abs(middle - secant), secant + toward * delta, middle)
    room = jnp.maximum(radius - 0.5 * width, 0)
    x = jnp.where(jnp.abs(truncated - middle) <= room, truncated, middle - toward * room)
    x = jnp.where((x > a) & (x < b), x, middle)
    fx = problem.fn(x)
    return _reached(state, _narrowed(bracket, x, fx)._replace(more=(0.5 * radius, kappa)), fx, x)


def _chandrupatla_start(problem: Problem, x0: Array, ends: Ends) -> Iterate:
    first = _bisect_start(problem, x0, ends)
    return first._replace(memory=first.memory._replace(more=(jnp.full_like(first.x, 0.5),)))


def _chandrupatla(problem: Problem, state: Iterate) -> Iterate:
    """Inverse quadratic interpolation where it is safe, else the midpoint (Chandrupatla, Adv. Eng. Softw. 28, 1997)."""
    a, b, fa, fb, (t,) = state.memory
    x = a + t * (b - a)
    fx = problem.fn(x)
    same = jnp.sign(fx) == jnp.sign(fa)
    c, fc = jnp.where(same, a, b), jnp.where(same, fa, fb)  # the discarded point
    b, fb = jnp.where(same, b, a), jnp.where(same, fb, fa)
    a, fa = x, fx
    xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
    safe = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
    curved = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
    best = jnp.where(jnp.abs(fa) < jnp.abs(fb), a, b)
    least = problem.tolerance(best) / jnp.abs(b - a)  # in widths: never step closer to an end than the tolerance
    least = jnp.minimum(jnp.where(jnp.isfinite(least), least, 0.5), 0.5)
    t = jnp.clip(jnp.where(safe & jnp.isfinite(curved), curved, 0.5), least, 1 - least)
    return _reached(state, Bracket(a, b, fa, fb, (t,)), fx, x)


def checked(problem: Problem, state: Iterate) -> Iterate:
    """A last Newton step within the bracket, and the status.

    It is `not_continuous` where the sign changes without a zero.

    At a root, the Newton step from the better end is at most a few widths long (the root's multiplicity) and points
    into the bracket. At a jump it is long, and at a pole it points outward. Where a cusp leads up to a jump it may be
    short: where the values at both ends are alike, or it is longer than the bracket, others decide (`_near_zero`).
    Beside 0, where differences underflow to 0, the step is taken relative to the point.
    """
    bracket, x = state.memory, state.x
    fx, slope = value_and_jacobian(problem.fn, x)
    dx = jnp.where(jnp.isfinite(slope), -fx / slope, jnp.nan)  # beside a pole at 0 the derivative overflows
    other = jnp.where(x == bracket.a, bracket.b, bracket.a)
    inward = jnp.sign(dx) * jnp.sign(other - x) >= 0
    tolerance = problem.tolerance(x) + 4 * jnp.finfo(fx.dtype).eps * jnp.abs(x)
    low, high = (pick(jnp.abs(bracket.fa), jnp.abs(bracket.fb)) for pick in (jnp.minimum, jnp.maximum))
    widths = jnp.where(low > 0.9 * high, 6, 30)  # similar values on both sides: nearly a jump
    zero = (fx == 0) | ((jnp.abs(dx) <= widths * tolerance) & inward)
    blurred, there, found = _blurred(problem, x, fx, tolerance)
    zero = jnp.where(blurred, found, zero)
    doubt = zero & (fx != 0) & (state.status == int(Status.ok)) & ~blurred
    doubt &= (low > 1e-2 * high) | (jnp.abs(dx) > 2 * jnp.abs(other - x))
    zero &= ~doubt | _near_zero(problem, x, other, fx, tolerance, doubt)
    same = jnp.isnan(state.error) & (jnp.sign(bracket.fa) * jnp.sign(bracket.fb) > 0)
    status = jnp.where(same, code(Status.no_sign_change), state.status)
    status = jnp.where(jnp.isnan(state.error) & ~same, code(Status.not_finite), status)
    ok = status == int(Status.ok)
    inside = (x + dx >= jnp.minimum(bracket.a, bracket.b)) & (x + dx <= jnp.maximum(bracket.a, bracket.b))
    polished = jnp.where(blurred, there, jnp.where(inside & (fx != 0), x + dx, x))
    polished = jnp.where(ok & zero, polished, x)
    status = jnp.where(ok & ~zero, code(Status.not_continuous), status)
    return _at_zero(problem, state._replace(x=polished, status=status))


def _blurred(problem: Problem, x: Array, fx: Array, tolerance: Array) -> tuple[Array, Array, Array]:
    """Whether the tolerance underflows, where Newton's steps in parts of `x` lead, and whether that is a root."""
    least = float(jnp.finfo(fx.dtype).tiny)
    blurred = (tolerance < least) & (x != 0) & (fx != 0)

    def newton(_: int, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x = carry[0]
        value, slope = value_and_jacobian(problem.fn, x)
        part = -value / (slope * x)
        return x * (1 + part), part, jnp.maximum(0.01 * jnp.abs(fx), rounding(x, slope))

    def look() -> tuple[Array, Array]:
        there, part, allowed = jax.lax.fori_loop(0, 4, newton, (x, jnp.ones_like(x), fx))
        near = jnp.abs(there / x - 1) <= 30 * least / jnp.abs(x)
        return there, near & (jnp.abs(part) <= problem.rtol) & (jnp.abs(problem.fn(there)) <= allowed)

    nothing = lambda: (x, jnp.zeros_like(blurred))
    return blurred, *jax.lax.cond(eqxi.unvmap_any(blurred), look, nothing)


def _near_zero(problem: Problem, x: Array, other: Array, fx: Array, tolerance: Array, doubt: Array) -> Array:
    """Whether the value at the better end `x` is small: it grows beside the bracket, or falls within it.

    At a jump it does neither, since it is about the same all around. Only looked at where there is doubt.
    """
    outward = jnp.where(other > x, -4 * tolerance, 4 * tolerance)

    def look(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        turn, small = carry
        beside = turn < 3
        away = jnp.where(beside, outward * 4.0 ** turn.astype(x.dtype), (other - x) * (turn - 2).astype(x.dtype) / 4)
        value = jnp.abs(problem.fn(x + away))
        return turn + 1, small | jnp.where(beside, value >= 2 * jnp.abs(fx), value <= 0.5 * jnp.abs(fx))

    go = lambda carry: doubt & (carry[0] < 6) & ~carry[1]
    return jax.lax.while_loop(go, look, (jnp.asarray(0), jnp.zeros((), bool)))[1]


def _at_zero(problem: Problem, state: Iterate) -> Iterate:
    """Handle the root 0, on which no bracket closes relative to its size; only tried where steps have run out."""
    bracket = state.memory
    across = (jnp.minimum(bracket.a, bracket.b) <= 0) & (jnp.maximum(bracket.a, bracket.b) >= 0)

    def look(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, status, _ = carry
        zero = problem.fn(jnp.zeros_like(x)) == 0
        return jnp.where(zero, 0, x), jnp.where(zero, code(Status.ok), status), jnp.zeros((), bool)

    doubt = across & (state.status == int(Status.max_steps))
    x, status, _ = jax.lax.while_loop(lambda carry: carry[2], look, (state.x, state.status, doubt))
    return state._replace(x=x, status=status)


BISECT = Method("bisect", _bisect_start, _bisect, bracketing=True)
SAFEGUARDED = Method("safeguarded", _safeguarded_start, _safeguarded, bracketing=True)
ITP = Method("itp", _itp_start, _itp, bracketing=True)
CHANDRUPATLA = Method("chandrupatla", _chandrupatla_start, _chandrupatla, bracketing=True)
