"""Interval arithmetic on the host: bounds that hold whatever the rounding.

Results of `+ - * / sqrt` are rounded outward by one float (IEEE arithmetic is correctly rounded), those of library
functions by `SLACK` floats (numpy's stay within 4). `tests/core` checks the enclosures against Arb.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxkit.core.expression.derivative import definition, outer
from jaxkit.core.expression.functions import FUNCTIONS
from jaxkit.core.expression.tree import LARGEST, Name, Node, Number, fold, integer

SLACK = 8


@dataclasses.dataclass(frozen=True)
class Interval:
    """An array of intervals.

    Attributes:
        lo, hi: Bounds of the same shape, infinite where there are none; NaN where the interval is empty, nowhere else.
        defined: Whether the expression is defined and continuous for all numbers in its arguments' intervals. Where it
            is not, the bounds hold for those numbers for which it is.
        empty: Whether it is certain that the expression is defined for none of those numbers.
    """

    lo: np.ndarray
    hi: np.ndarray
    defined: np.ndarray
    empty: np.ndarray

    @property
    def width(self) -> np.ndarray:
        """Upper minus lower bound."""
        return self.hi - self.lo

    @property
    def middle(self) -> np.ndarray:
        """A number inside."""
        return np.clip(0.5 * self.lo + 0.5 * self.hi, self.lo, self.hi)

    def contains(self, value: Any) -> np.ndarray:
        """Whether `value` lies within the bounds."""
        return (self.lo <= value) & (value <= self.hi)

    def take(self, chosen: np.ndarray) -> "Interval":
        """The chosen ones."""
        return Interval(self.lo[chosen], self.hi[chosen], self.defined[chosen], self.empty[chosen])


def interval(lo: Any, hi: Any = None) -> Interval:
    """Intervals from bounds that are exact floats; a single number without `hi`."""
    lo = np.asarray(lo, np.float64)
    hi = lo if hi is None else np.asarray(hi, np.float64)
    lo, hi = np.broadcast_arrays(lo, hi)
    return Interval(lo, hi, np.ones(lo.shape, bool), np.zeros(lo.shape, bool))


def _interval(lo: Any, hi: Any, defined: Any, empty: Any) -> Interval:
    """Bounds as they are. A bound that came out as NaN is no bound, and no sign of emptiness."""
    lo, hi, empty = np.asarray(lo, np.float64), np.asarray(hi, np.float64), np.asarray(empty)
    lo = np.where(empty, np.nan, np.where(np.isnan(lo), -np.inf, lo))
    hi = np.where(empty, np.nan, np.where(np.isnan(hi), np.inf, hi))
    return Interval(lo, hi, np.asarray(defined) & ~empty, empty)


def _outward(lo: Any, hi: Any, defined: Any, empty: Any, slack: int = 1) -> Interval:
    """Bounds moved outward by `slack` floats."""
    lo, hi = np.asarray(lo, np.float64), np.asarray(hi, np.float64)
    if slack == 1:
        return _interval(np.nextafter(lo, -np.inf), np.nextafter(hi, np.inf), defined, empty)
    far = lambda v: np.where(np.isfinite(v), slack * np.spacing(np.where(np.isfinite(v), np.abs(v), 1)), 0)
    below = np.where(lo == np.inf, np.finfo(float).max, lo - far(lo))  # an overflow is a large number, not infinity
    above = np.where(hi == -np.inf, -np.finfo(float).max, hi + far(hi))
    return _interval(below, above, defined, empty)


def add(a: Interval, b: Interval) -> Interval:
    """Sum."""
    return _outward(a.lo + b.lo, a.hi + b.hi, a.defined & b.defined, a.empty | b.empty)


def neg(a: Interval) -> Interval:
    """Negative."""
    return Interval(-a.hi, -a.lo, a.defined, a.empty)


def sub(a: Interval, b: Interval) -> Interval:
    """Difference."""
    return add(a, neg(b))


def _products(a: Interval, b: Interval, operate: Callable[[Any, Any], Any]) -> tuple[np.ndarray, np.ndarray]:
    four = [operate(x, y) for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
    four = [np.where(np.isnan(v), 0, v) for v in four]  # 0 * inf is 0 for sets of numbers, and inf / inf reaches 0
    return np.minimum.reduce(four), np.maximum.reduce(four)


def mul(a: Interval, b: Interval) -> Interval:
    """Product."""
    return _outward(*_products(a, b, np.multiply), a.defined & b.defined, a.empty | b.empty)


def div(a: Interval, b: Interval) -> Interval:
    """Quotient; where the divisor has zero inside, it is the whole line and undefined there.

    The same holds where the divisor is just zero, which is not called empty: floats go on from there, as in `1/(1/x)`.
    """
    inside = (b.lo < 0) & (b.hi > 0)
    nothing = (b.lo == 0) & (b.hi == 0)
    b_lo = np.where(b.lo == 0, 0.0, b.lo)  # +0 from above, -0 from below, so that quotients get the right infinity
    b_hi = np.where(b.hi == 0, -0.0, b.hi)
    lo, hi = _products(a, Interval(b_lo, b_hi, b.defined, b.empty), np.divide)
    straddles = ((b.lo == 0) | (b.hi == 0)) & (a.lo <= 0) & (a.hi >= 0)
    anything = inside | straddles | nothing
    lo, hi = np.where(anything, -np.inf, lo), np.where(anything, np.inf, hi)
    return _outward(lo, hi, a.defined & b.defined & ((b.lo > 0) | (b.hi < 0)), a.empty | b.empty)


def _monotone(
    name: str, low: float = -np.inf, high: float = np.inf, *, falls: bool = False, open_: bool = False
) -> Any:
    """An increasing or decreasing function on its domain, outside of which it is undefined."""
    f = (lambda v: np.vectorize(math.erf, otypes=[float])(v)) if name == "erf" else getattr(np, name)

    def apply(a: Interval) -> Interval:
        empty = a.empty | (a.hi < low) | (a.lo > high)
        lo, hi = np.clip(a.lo, low, high), np.clip(a.hi, low, high)
        inside = (a.lo > low) & (a.hi < high) if open_ else (a.lo >= low) & (a.hi <= high)
        first, last = (f(hi), f(lo)) if falls else (f(lo), f(hi))
        return _outward(first, last, a.defined & inside, empty, SLACK)

    return apply


def _within(result: Interval, low: float, high: float = np.inf) -> Interval:
    return Interval(np.maximum(result.lo, low), np.minimum(result.hi, high), result.defined, result.empty)


def _passes(a: Interval, first: float, period: float) -> np.ndarray:
    """Whether a point `first + k period` may lie inside (always true if one does)."""
    slack = 1e-12 * (1 + np.maximum(np.abs(a.lo), np.abs(a.hi)))
    low, high = (a.lo - slack - first) / period, (a.hi + slack - first) / period
    return (np.ceil(low) <= np.floor(high)) | ~np.isfinite(low) | ~np.isfinite(high) | (slack > 1e-3)


def _sine(a: Interval, shift: float) -> Interval:
    """`sin(a + shift)` for shift 0 (sine) or pi/2 (cosine)."""
    f = np.sin if shift == 0 else np.cos
    lo, hi = f(a.lo), f(a.hi)
    low, high = np.minimum(lo, hi), np.maximum(lo, hi)
    high = np.where(_passes(a, math.pi / 2 - shift, 2 * math.pi), 1, high)
    low = np.where(_passes(a, -math.pi / 2 - shift, 2 * math.pi), -1, low)
    return _within(_outward(low, high, a.defined, a.empty, SLACK), -1.0, 1.0)


def _tangent(a: Interval) -> Interval:
    pole = _passes(a, math.pi / 2, math.pi)
    lo, hi = np.where(pole, -np.inf, np.tan(a.lo)), np.where(pole, np.inf, np.tan(a.hi))
    return _outward(lo, hi, a.defined & ~pole, a.empty, SLACK)


def absolute(a: Interval) -> Interval:
    """Absolute value."""
    across = (a.lo <= 0) & (a.hi >= 0)
    low = np.where(across, 0, np.minimum(np.abs(a.lo), np.abs(a.hi)))
    return _interval(low, np.maximum(np.abs(a.lo), np.abs(a.hi)), a.defined, a.empty)


def _sign(a: Interval) -> Interval:
    steady = (a.lo > 0) | (a.hi < 0)
    return _interval(np.sign(a.lo), np.sign(a.hi), a.defined & steady, a.empty)


def _slope_of_abs(a: Interval) -> Interval:
    """Generalised derivative of `|x|`: [-1, 1] where the corner is inside, which suffices for uniqueness."""
    return _interval(np.where(a.lo >= 0, 1.0, -1.0), np.where(a.hi <= 0, -1.0, 1.0), a.defined, a.empty)


def _cosh(a: Interval) -> Interval:
    size = absolute(a)
    return _within(_outward(np.cosh(size.lo), np.cosh(size.hi), a.defined, a.empty, SLACK), 1.0)


def power(a: Interval, exponent: int) -> Interval:
    """A whole power."""
    if exponent < 0:
        return div(interval(np.ones_like(a.lo)), power(a, -exponent))
    if exponent == 0:
        return _interval(np.ones_like(a.lo), np.ones_like(a.lo), a.defined, a.empty)
    if exponent == 1:
        return a
    if exponent % 2:
        return _outward(a.lo**exponent, a.hi**exponent, a.defined, a.empty, SLACK)
    size = absolute(a)
    return _within(_outward(size.lo**exponent, size.hi**exponent, a.defined, a.empty, SLACK), 0.0)


FUNCTION: Mapping[str, Callable[[Interval], Interval]] = {
    "exp": lambda a: _within(_monotone("exp")(a), 0.0),
    "log": _monotone("log", 0.0, open_=True),
    "log10": _monotone("log10", 0.0, open_=True),
    "log2": _monotone("log2", 0.0, open_=True),
    "sqrt": lambda a: _within(_monotone("sqrt", 0.0)(a), 0.0),
    "cbrt": _monotone("cbrt"),
    "sin": lambda a: _sine(a, 0.0),
    "cos": lambda a: _sine(a, math.pi / 2),
    "tan": _tangent,
    "asin": _monotone("arcsin", -1.0, 1.0),
    "acos": _monotone("arccos", -1.0, 1.0, falls=True),
    "atan": _monotone("arctan"),
    "sinh": _monotone("sinh"),
    "cosh": _cosh,
    "tanh": lambda a: _within(_monotone("tanh")(a), -1.0, 1.0),
    "asinh": _monotone("arcsinh"),
    "acosh": lambda a: _within(_monotone("arccosh", 1.0)(a), 0.0),
    "atanh": _monotone("arctanh", -1.0, 1.0, open_=True),
    "erf": lambda a: _within(_monotone("erf")(a), -1.0, 1.0),
    "abs": absolute,
    "sign": _sign,
}


def constant(number: Number) -> Interval:
    """A literal: a point if the float is exactly what was typed, else the float's neighbourhood."""
    if number.exact:
        return interval(number.value)
    return _outward(number.value, number.value, np.asarray(True), np.asarray(False))  # noqa: FBT003


def _named(op: str) -> Interval:
    value = {"pi": math.pi, "e": math.e}[op]
    return _outward(value, value, np.asarray(True), np.asarray(False))  # noqa: FBT003


def enclose(node: Node, values: Mapping[str, Interval]) -> Interval:
    """Bounds on the values of a real expression over all numbers in the given intervals."""
    with np.errstate(all="ignore"):
        return fold(node, constant, values, _apply)


def _apply(op: str, args: tuple[Interval, ...], nodes: tuple[Node, ...]) -> Interval:
    if not args:
        return _named(op)
    if op == "^":
        return _any_power(args, nodes[1])
    if op in _BINARY:
        return _BINARY[op](*args)
    if op == "neg":
        return neg(args[0])
    return function(op, args[0])


def function(op: str, a: Interval) -> Interval:
    """A function from the table."""
    if FUNCTIONS[op].definition:
        return fold(definition(op), constant, {"u": a}, _apply)
    return FUNCTION[op](a)


def _any_power(args: tuple[Interval, ...], node: Node) -> Interval:
    whole = integer(node)
    if whole is not None:
        return power(args[0], whole)
    return real_power(*args)


def real_power(base: Interval, exponent: Interval) -> Interval:
    """Any power, as floats have it: negative numbers have whole powers only."""
    size = function("exp", mul(exponent, function("log", base)))  # for the positive part of `base`
    whole = (exponent.lo == exponent.hi) & (exponent.lo == np.round(exponent.lo)) & (np.abs(exponent.lo) <= LARGEST)
    some = np.floor(exponent.hi) >= np.ceil(exponent.lo)  # whether a whole number lies within
    other = function("exp", mul(exponent, function("log", neg(base))))
    negative = (base.lo < 0) & some & ~other.empty
    lo = np.where(negative, np.fmin(size.lo, -other.hi), size.lo)
    hi = np.where(negative, np.fmax(size.hi, other.hi), size.hi)
    gone = base.empty | exponent.empty | (size.empty & ~negative)
    result = _interval(lo, hi, size.defined & ~(base.lo < 0), gone)
    for k in np.unique(exponent.lo[whole]).astype(int):
        exact, here = power(base, int(k)), whole & (exponent.lo == k)
        parts = zip((exact.lo, exact.hi, exact.defined, exact.empty), dataclasses.astuple(result), strict=True)
        result = Interval(*(np.where(here, one, many) for one, many in parts))
    return result


_BINARY = {"+": add, "-": sub, "*": mul, "/": div}


def enclose_slope(node: Node, values: Mapping[str, Interval], name: str) -> tuple[Interval, Interval]:
    """Bounds on the values of an expression and its derivative with respect to `name`, by forward differentiation."""
    zero, one = interval(0.0), interval(1.0)
    pairs = {key: (value, one if key == name else zero) for key, value in values.items()}
    with np.errstate(all="ignore"):
        return fold(node, lambda n: (constant(n), zero), pairs, _apply_pair)


Pair = tuple[Interval, Interval]


def _apply_pair(op: str, args: tuple[Pair, ...], nodes: tuple[Node, ...]) -> Pair:
    value = _apply(op, tuple(arg[0] for arg in args), nodes)
    if not args:
        return value, interval(0.0)
    (u, du), (v, dv) = args[0], args[-1]
    if op in "+-":
        return value, _BINARY[op](du, dv)
    if op == "neg":
        return value, neg(du)
    if op == "*":
        return value, add(mul(du, v), mul(u, dv))
    if op == "/":
        return value, div(sub(du, mul(value, dv)), v)
    if op == "^":
        return value, _power_slope(value, args, nodes)
    if op == "abs":
        return value, mul(_slope_of_abs(u), du)
    slope = fold(outer(op, Name("u")), constant, {"u": u}, _apply)
    return value, mul(slope, du)


def _power_slope(value: Interval, args: tuple[Pair, ...], nodes: tuple[Node, ...]) -> Interval:
    (u, du), (v, dv) = args
    whole = integer(nodes[1])
    if whole is not None:
        factor = mul(interval(float(whole)), power(u, whole - 1)) if whole else interval(0.0)
        return mul(factor, du)
    if np.all((dv.lo == 0) & (dv.hi == 0)):  # this holds for negative numbers, too
        one_less = (
            interval(v.lo - 1) if np.all(v.lo == v.hi) and np.all(np.abs(v.lo) < 2**52) else sub(v, interval(1.0))
        )
        return mul(mul(v, real_power(u, one_less)), du)
    growth = add(mul(dv, function("log", u)), div(mul(v, du), u))
    return mul(value, growth)
