"""Expressions on complex numbers kept as pairs of real arrays, which XLA vectorises."""

import math
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array

from jaxkit.core.expression.tree import Apply, Node, Number, fold, integer, walk

Split = tuple[Array, Array]


def multiply(a: Split, b: Split) -> Split:
    """Product."""
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def square(a: Split) -> Split:
    """Square, with one product fewer."""
    return (a[0] - a[1]) * (a[0] + a[1]), 2 * (a[0] * a[1])


def divide(a: Split, b: Split) -> Split:
    """Quotient."""
    scale = 1 / (b[0] * b[0] + b[1] * b[1])
    return (a[0] * b[0] + a[1] * b[1]) * scale, (a[1] * b[0] - a[0] * b[1]) * scale


def _power(a: Split, exponent: int) -> Split:
    if exponent < 0:
        return divide((jnp.ones_like(a[0]), jnp.zeros_like(a[1])), _power(a, -exponent))
    if exponent == 0:
        return jnp.ones_like(a[0]), jnp.zeros_like(a[1])
    half = _power(a, exponent // 2) if exponent > 1 else None
    if half is None:
        return a
    return multiply(square(half), a) if exponent % 2 else square(half)


_FUNCTIONS = {
    "exp": lambda a: (jnp.exp(a[0]) * jnp.cos(a[1]), jnp.exp(a[0]) * jnp.sin(a[1])),
    "sin": lambda a: (jnp.sin(a[0]) * jnp.cosh(a[1]), jnp.cos(a[0]) * jnp.sinh(a[1])),
    "cos": lambda a: (jnp.cos(a[0]) * jnp.cosh(a[1]), -jnp.sin(a[0]) * jnp.sinh(a[1])),
    "sinh": lambda a: (jnp.sinh(a[0]) * jnp.cos(a[1]), jnp.cosh(a[0]) * jnp.sin(a[1])),
    "cosh": lambda a: (jnp.cosh(a[0]) * jnp.cos(a[1]), jnp.sinh(a[0]) * jnp.sin(a[1])),
    "log": lambda a: (0.5 * jnp.log(a[0] * a[0] + a[1] * a[1]), jnp.arctan2(a[1], a[0])),
    "+": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "-": lambda a, b: (a[0] - b[0], a[1] - b[1]),
    "*": multiply,
    "/": divide,
    "neg": lambda a: (-a[0], -a[1]),
}
_CONSTANTS = {"pi": (math.pi, 0.0), "e": (math.e, 0.0), "i": (0.0, 1.0)}


def is_splittable(node: Node) -> bool:
    """Whether every operation of the tree is known here."""
    for part in walk(node):
        if isinstance(part, Apply):
            power = part.op == "^" and integer(part.args[1]) is not None
            if not (power or part.op in _FUNCTIONS or part.op in _CONSTANTS):
                return False
    return True


def evaluate_split(node: Node, values: Mapping[str, Split]) -> Split:
    """The value of a tree; names stand for (real, imaginary) pairs."""
    like = next(iter(values.values()))[0]
    constant = lambda re, im: (jnp.full_like(like, re), jnp.full_like(like, im))

    def apply(op: str, args: tuple[Split, ...], nodes: tuple[Node, ...]) -> Split:
        if op in _CONSTANTS:
            return constant(*_CONSTANTS[op])
        if op == "^":
            return _power(args[0], integer(nodes[1]) or 0)
        return _FUNCTIONS[op](*args)

    def number(node: Number) -> Split:
        return constant(node.value, 0.0)

    return fold(node, number, values, apply)
