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


def integer(node: Any) -> int | None:
    """The value of a whole number of moderate size, else None; sees through a minus sign."""
    if isinstance(node, Apply) and node.op == "neg":
        inner = integer(node.args[0])
        return None if inner is None else -inner
    if isinstance(node, Number) and node.exact and node.value.is_integer() and abs(node.value) <= 1024:
        return int(node.value)
    return None


# Builders that keep derivatives short: they drop zeros and ones and add up numbers.


def _number(value: float, *parts: Number) -> Number | None:
    """A folded number, where nothing is lost by folding."""
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
    """`a * b`, a number in front."""
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
