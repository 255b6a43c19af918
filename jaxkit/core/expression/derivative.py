"""Derivatives as trees, short enough to show."""

import functools

from jaxkit.core.expression.functions import FUNCTIONS
from jaxkit.core.expression.parser import Parser
from jaxkit.core.expression.tree import (
    ONE,
    TWO,
    ZERO,
    Apply,
    Name,
    Node,
    Number,
    add,
    div,
    free,
    integer,
    mul,
    neg,
    power,
    sub,
    substitute,
)


def derivative(node: Node, name: str) -> Node:
    """The derivative with respect to `name`."""
    if isinstance(node, Number):
        return ZERO
    if isinstance(node, Name):
        return ONE if node.name == name else ZERO
    if name not in free(node):
        return ZERO
    op, args = node.op, node.args
    rates = [derivative(arg, name) for arg in args]
    if op == "neg":
        return neg(rates[0])
    if op in ("+", "-"):
        return (add if op == "+" else sub)(*rates)
    if op == "*":
        return add(mul(rates[0], args[1]), mul(args[0], rates[1]))
    if op == "/":
        if rates[1] == ZERO:
            return div(rates[0], args[1])
        return div(sub(mul(rates[0], args[1]), mul(args[0], rates[1])), power(args[1], TWO))
    if op == "^":
        return _power_rule(node, args, rates)
    return mul(outer(op, args[0]), rates[0])


def _power_rule(node: Node, args: tuple[Node, ...], rates: list[Node]) -> Node:
    base, exponent = args
    if rates[1] == ZERO:
        whole = integer(exponent)
        lower = _whole(whole - 1) if whole is not None else sub(exponent, ONE)
        return mul(mul(exponent, power(base, lower)), rates[0])
    growth = mul(rates[1], ONE if base == Apply("e") else Apply("log", (base,)))
    if rates[0] == ZERO:
        return mul(node, growth)
    return mul(node, add(growth, div(mul(exponent, rates[0]), base)))


def _whole(value: int) -> Node:
    return Number(float(value)) if value >= 0 else neg(Number(float(-value)))


def outer(op: str, argument: Node) -> Node:
    """The derivative of a function from the table, at `argument`."""
    return substitute(_table(op), {"u": argument})


@functools.cache
def _table(op: str) -> Node:
    row = FUNCTIONS[op]
    return derivative(definition(op), "u") if row.definition else Parser(row.derivative, ("u",)).equations()[0][0]


@functools.cache
def definition(op: str) -> Node:
    """A function defined in terms of others, as a tree in `u`."""
    return Parser(FUNCTIONS[op].definition, ("u",)).equations()[0][0]
