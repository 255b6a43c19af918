"""The expression tree: numbers, names, and operations applied to trees."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any, TypeVar

V = TypeVar("V")


@dataclasses.dataclass(frozen=True)
class Number:
    """A real literal; `exact` says whether the float is the very number that was typed."""

    value: float
    exact: bool = True


@dataclasses.dataclass(frozen=True)
class Name:
    """An unknown or a parameter."""

    name: str


@dataclasses.dataclass(frozen=True)
class Apply:
    """An operation (`+ - * / ^ neg`), a function, or a constant (no arguments)."""

    op: str
    args: "tuple[Node, ...]" = ()


Node = Number | Name | Apply
ZERO, ONE, TWO = Number(0.0), Number(1.0), Number(2.0)


def literal(text: str) -> Number:
    """The number a decimal literal stands for."""
    value = float(text)
    return Number(value, len(text) <= 40 and abs(_exponent(text)) <= 400 and Fraction(text) == Fraction(value))


def _exponent(text: str) -> int:
    return int(text.lower().partition("e")[2] or 0)


def fold(
    node: Node,
    number: Callable[[Number], V],
    names: Mapping[str, V],
    apply: Callable[[str, tuple[V, ...], tuple[Node, ...]], V],
) -> V:
    """Evaluate a tree in any algebra: `apply(op, values, nodes)` gets the arguments and the trees they came from."""
    if isinstance(node, Number):
        return number(node)
    if isinstance(node, Name):
        return names[node.name]
    return apply(node.op, tuple(fold(arg, number, names, apply) for arg in node.args), node.args)


def walk(node: Node) -> Iterator[Node]:
    """Every node, the root first, arguments from left to right."""
    yield node
    if isinstance(node, Apply):
        for arg in node.args:
            yield from walk(arg)


def free(node: Node) -> tuple[str, ...]:
    """The names in a tree, in order of appearance."""
    return tuple(dict.fromkeys(part.name for part in walk(node) if isinstance(part, Name)))


def substitute(node: Node, values: Mapping[str, Node]) -> Node:
    """The tree with names replaced by trees."""
    if isinstance(node, Apply):
        return Apply(node.op, tuple(substitute(arg, values) for arg in node.args))
    return values.get(node.name, node) if isinstance(node, Name) else node


_AT_ZERO = {
    **dict.fromkeys(
        ("sin", "tan", "sinh", "tanh", "asin", "atan", "asinh", "atanh", "erf", "sqrt", "cbrt"), Fraction(0)
    ),
    **dict.fromkeys(("exp", "cos", "cosh"), Fraction(1)),
}
LARGEST = 1024  # the largest exponent that is treated as a whole power
_BITS = 4000  # most bits of numerators and denominators


def rational(node: Any, values: Mapping[str, Fraction] | None = None) -> Fraction | None:
    """The exact value of a formula of numbers (`4/2`, `-(1/3)`, `x^2 - 2` where `values` has `x`).

    None where the value is undefined, not rational, or not known to be rational.
    """
    known = {name: None for name in free(node)} | dict(values or {})
    number = lambda n: Fraction(n.value) if n.exact and math.isfinite(n.value) else None
    return fold(node, number, known, _exactly)


def _exactly(op: str, args: tuple[Fraction | None, ...], nodes: tuple[Node, ...]) -> Fraction | None:
    """One operation of `rational`."""
    del nodes
    if not args or any(arg is None for arg in args):
        return None
    first, last = args[0], args[-1]
    assert first is not None and last is not None  # noqa: S101, PT018
    size = max(part.bit_length() for arg in args if arg is not None for part in (arg.numerator, arg.denominator))
    if op == "^":
        whole = last.denominator == 1 and abs(last) * size <= _BITS and (first != 0 or last > 0)
        return first ** int(last) if whole else None
    if op in ("log", "log10", "log2"):
        return Fraction(0) if first == 1 else None
    if op in _AT_ZERO:
        return _AT_ZERO[op] if first == 0 else None
    if size > _BITS or (op == "/" and not last):
        return None
    apply: Mapping[str, Callable[[], Fraction]] = {
        "neg": lambda: -first,
        "abs": lambda: abs(first),
        "sign": lambda: Fraction((first > 0) - (first < 0)),
        "+": lambda: first + last,
        "-": lambda: first - last,
        "*": lambda: first * last,
        "/": lambda: first / last,
    }
    return apply[op]() if op in apply else None


def integer(node: Any) -> int | None:
    """The value of a formula that is a whole number of moderate size, such as `3`, `-(1)` or `4/2`; else None."""
    value = rational(node)
    return int(value) if value is not None and value.denominator == 1 and abs(value) <= LARGEST else None


# Builders that keep derivatives short: they drop zeros and ones and add up numbers.


def _number(value: float, *parts: Number) -> Number | None:
    """A folded number, where folding loses nothing."""
    exact = all(p.exact for p in parts) and math.isfinite(value) and value.is_integer() and abs(value) < 2**53
    return Number(value) if exact else None


def neg(a: Node) -> Node:
    """`-a`."""
    if isinstance(a, Apply) and a.op == "neg":
        return a.args[0]
    return a if a == ZERO else Apply("neg", (a,))


def add(a: Node, b: Node) -> Node:
    """`a + b`."""
    if a == ZERO:
        return b
    if b == ZERO:
        return a
    if isinstance(a, Number) and isinstance(b, Number) and (both := _number(a.value + b.value, a, b)):
        return both
    return sub(a, b.args[0]) if isinstance(b, Apply) and b.op == "neg" else Apply("+", (a, b))


def sub(a: Node, b: Node) -> Node:
    """`a - b`."""
    if b == ZERO:
        return a
    if a == ZERO:
        return neg(b)
    if a == b:
        return ZERO
    if isinstance(a, Number) and isinstance(b, Number) and (both := _number(a.value - b.value, a, b)):
        return both if both.value >= 0 else neg(Number(-both.value))
    return add(a, b.args[0]) if isinstance(b, Apply) and b.op == "neg" else Apply("-", (a, b))


def mul(a: Node, b: Node) -> Node:
    """`a * b`, with a number in front."""
    if ZERO in (a, b):
        return ZERO
    if a == ONE:
        return b
    if b == ONE:
        return a
    for x, y, flip in ((a, b, False), (b, a, True)):
        if isinstance(x, Apply) and x.op == "neg":
            return neg(mul(y, x.args[0]) if flip else mul(x.args[0], y))
    if isinstance(b, Number) and not isinstance(a, Number):
        a, b = b, a
    if isinstance(a, Number) and isinstance(b, Number) and (both := _number(a.value * b.value, a, b)):
        return both
    if isinstance(b, Apply) and b.op == "*" and isinstance(b.args[0], Number) and isinstance(a, Number):
        if both := _number(a.value * b.args[0].value, a, b.args[0]):
            return mul(both, b.args[1])
    elif isinstance(b, Apply) and b.op == "*" and isinstance(b.args[0], Number):
        return mul(b.args[0], mul(a, b.args[1]))
    return Apply("*", (a, b))


def div(a: Node, b: Node) -> Node:
    """`a / b`."""
    if a == ZERO or b == ONE:
        return a
    if isinstance(a, Apply) and a.op == "neg":
        return neg(div(a.args[0], b))
    return Apply("/", (a, b))


def power(a: Node, b: Node) -> Node:
    """`a ^ b`."""
    if b == ONE:
        return a
    return ONE if b == ZERO else Apply("^", (a, b))
