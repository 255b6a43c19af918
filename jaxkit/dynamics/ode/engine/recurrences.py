"""Recurrences of Taylor coefficients: how each scalar operation gets its k-th coefficient from lower ones.

A product is a convolution; an elementary function y = f(u) with y' = g(u, y) u' is one too; the others have
their own rules.

References:
    Jorba and Zou (2005), A software package for the numerical integration of ODEs by means of high-order Taylor
        methods, section 2.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxkit.compile.nodes import MOVING, Atom, Builder, Literal, Node
from jaxkit.compile.scalars import ScalarField, value_of

Series = list[Any]  # the coefficients so far; None is an exact zero


class Maker:
    """Makes new nodes by the names of operators: the helper of the derivative table."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder

    def __call__(self, primitive: Any, *atoms: Atom, **params: Any) -> Atom:
        """The node of any primitive."""
        return self.builder.node(primitive, atoms, params)

    def number(self, value: float, like: Atom) -> Literal:
        """A constant of the type of another atom."""
        return Literal(np.asarray(value, self.builder.dtype(like))[()])

    def add(self, a: Atom, b: Atom) -> Atom:
        """The node `a + b`."""
        return self(jax.lax.add_p, a, b)

    def sub(self, a: Atom, b: Atom) -> Atom:
        """The node `a - b`."""
        return self(jax.lax.sub_p, a, b)

    def mul(self, a: Atom, b: Atom) -> Atom:
        """The node `a * b`."""
        return self(jax.lax.mul_p, a, b)

    def div(self, a: Atom, b: Atom) -> Atom:
        """The node `a / b`."""
        return self(jax.lax.div_p, a, b)

    def neg(self, a: Atom) -> Atom:
        """The node `-a`."""
        return self(jax.lax.neg_p, a)

    def one_plus_square(self, a: Atom, sign: float = 1.0) -> Atom:
        """The node `1 + sign * a^2`."""
        return self.add(self.number(1.0, a), self.mul(self.number(sign, a), self.mul(a, a)))

    def power(self, a: Atom, exponent: float) -> Atom:
        """The node `a^exponent`."""
        return self(jax.lax.pow_p, a, self.number(exponent, a))

    def reciprocal(self, a: Atom) -> Atom:
        """The node `1 / a`."""
        return self.div(self.number(1.0, a), a)


# y = f(u): the g in y' = g u', from u and y.
DERIVATIVES: dict[str, Callable[[Maker, Atom, Atom], Atom]] = {
    "exp": lambda m, u, y: y,
    "exp2": lambda m, u, y: m.mul(m.number(math.log(2), u), y),
    "expm1": lambda m, u, y: m.add(y, m.number(1.0, u)),
    "log": lambda m, u, y: m.reciprocal(u),
    "log1p": lambda m, u, y: m.reciprocal(m.add(u, m.number(1.0, u))),
    "sin": lambda m, u, y: m(jax.lax.cos_p, u, accuracy=None),
    "cos": lambda m, u, y: m.neg(m(jax.lax.sin_p, u, accuracy=None)),
    "tan": lambda m, u, y: m.one_plus_square(y),
    "sinh": lambda m, u, y: m(jax.lax.cosh_p, u),
    "cosh": lambda m, u, y: m(jax.lax.sinh_p, u),
    "tanh": lambda m, u, y: m.one_plus_square(y, -1.0),
    "logistic": lambda m, u, y: m.sub(y, m.mul(y, y)),
    "asin": lambda m, u, y: m.power(m.one_plus_square(u, -1.0), -0.5),
    "acos": lambda m, u, y: m.neg(m.power(m.one_plus_square(u, -1.0), -0.5)),
    "atan": lambda m, u, y: m.reciprocal(m.one_plus_square(u)),
    "asinh": lambda m, u, y: m.power(m.one_plus_square(u), -0.5),
    "acosh": lambda m, u, y: m.power(m.sub(m.mul(u, u), m.number(1.0, u)), -0.5),
    "atanh": lambda m, u, y: m.reciprocal(m.one_plus_square(u, -1.0)),
    "erf": lambda m, u, y: m.mul(
        m.number(2 / math.sqrt(math.pi), u), m(jax.lax.exp_p, m.neg(m.mul(u, u)), accuracy=None)
    ),
    "erfc": lambda m, u, y: m.mul(
        m.number(-2 / math.sqrt(math.pi), u), m(jax.lax.exp_p, m.neg(m.mul(u, u)), accuracy=None)
    ),
}
POWERS = {"sqrt": 0.5, "rsqrt": -0.5, "cbrt": 1 / 3}
# Operations with derivative zero.
FLAT = frozenset("lt le gt ge eq ne lt_to le_to and or not xor floor ceil round sign is_finite".split())
PIECES = frozenset("abs max min select_n clamp rem".split())  # these choose an operand at the beginning of the step
NESTED = frozenset(("lgamma", "digamma", "erf_inv"))  # their derivatives come from nested jvp


class Affine(NamedTuple):
    """`constant + sum of weight * series`: additions and constant factors cost nothing until the sum is needed."""

    constant: Atom | None
    terms: tuple[tuple[Atom, Atom | None], ...]  # (a node with a rule, its weight); a weight of None is 1


Rule = Callable[[int, Any], Any]


class Values:
    """Coefficients known so far: `s(atom, k)`; None is an exact zero.

    Args:
        field: The field.
        constants: Values of the nodes that depend neither on time nor on the state.
        found: What is known: `(atom, k)` -> coefficient, and what the rules keep for later orders.
    """

    def __init__(self, field: ScalarField, constants: dict[int, Any], found: dict[Any, Any]) -> None:
        self.field, self.constants, self.found = field, constants, found

    def __call__(self, atom: Atom, k: int) -> Any:
        """The k-th coefficient of an atom."""
        if isinstance(atom, Literal) or self.field.nodes[atom].level < MOVING:
            return value_of(atom, self.constants) if k == 0 else None
        return self.found.get((atom, k))

    def keep(self, key: Any, value: Any) -> Any:
        """Note a value, unless it is an exact zero."""
        if value is not None:
            self.found[key] = value
        return value

    def sum(self, form: Affine, k: int) -> Any:
        """The k-th coefficient of a sum."""
        total = None if k or form.constant is None else self(form.constant, 0)
        for term, weight in form.terms:
            value = self(term, k)
            total = _plus(total, value if weight is None else _times(self(weight, 0), value))
        return total

    def list(self, atom: Atom, k: int) -> Series:
        """The coefficients `0..k`."""
        return [self(atom, j) for j in range(k + 1)]

    def slope(self, form: Affine, k: int) -> Any:
        """The k-th coefficient of a derivative factor, computed once."""
        return self.found[form, k] if (form, k) in self.found else self.keep((form, k), self.sum(form, k))

    def inverse(self, atom: Atom) -> Any:
        """One over the coefficient of order 0, computed once."""
        key = ("inverse", atom)
        return self.found[key] if key in self.found else self.keep(key, 1 / self(atom, 0))


def once(node: Any, *values: Any) -> Any:
    """The operation itself, applied to numbers."""
    return node.primitive.bind(*values, **dict(node.params))


def _plus(a: Any, b: Any, sign: int = 1) -> Any:
    if b is None:
        return a
    if a is None:
        return b if sign > 0 else -b
    return a + b if sign > 0 else a - b


def _times(a: Any, b: Any) -> Any:
    return None if a is None or b is None else a * b


def convolve(a: Series, b: Series) -> Any:
    """The last coefficient of a product: sum_j a_j b_{k-j}, the newest coefficients last.

    A step is one long chain of dependent operations; what is known already is summed first.
    """
    k, total = len(a) - 1, None
    for j in [*range(1, k), *((0, k) if k else (0,))]:
        total = _plus(total, _times(a[j], b[k - j]))
    return total


def square(a: Series, k: int) -> Any:
    """The k-th coefficient of a square, with half the products and the newest coefficient last."""
    total = None
    for j in range(1, (k + 1) // 2):
        total = _plus(total, _times(a[j], a[k - j]))
    total = None if total is None else total + total
    total = total if k % 2 else _plus(total, _times(a[k // 2], a[k // 2]))
    newest = None if a[0] is None or not k else a[0] + a[0]
    return _plus(total, _times(newest, a[k])) if k else total


def power(number: int, node: Node) -> Rule:
    """Y = u^a: k u_0 y_k = sum_j (a (k - j) - j) u_{k-j} y_j."""
    u = node.inputs[0]
    fixed = node.inputs[1] if node.name == "pow" else None
    constant: Any = dict(node.params)["y"] if node.name == "integer_pow" else POWERS.get(node.name)
    if isinstance(fixed, Literal):
        constant, fixed = float(fixed.value), None

    def rule(k: int, s: Any) -> Any:
        if k == 0:
            return once(node, *(s(a, 0) for a in node.inputs))
        exponent = constant if fixed is None else s(fixed, 0)
        total = None
        for j in range(k):
            term = _times(s(u, k - j), s(number, j))
            if term is not None:
                total = _plus(total, term * (((k - j) * exponent - j) / k))
        return None if total is None else total * s.inverse(u)

    return rule


def divide(s: Values, inputs: Sequence[Atom], number: int, k: int) -> Any:
    """Q = u / v: v_0 q_k = u_k - sum_{j>=1} v_j q_{k-j}."""
    total = s(inputs[0], k)
    for j in range(1, k + 1):
        total = _plus(total, _times(s(inputs[1], j), s(number, k - j)), -1)
    return None if total is None else total * s.inverse(inputs[1])


def chain(node: Any, s: Values, slopes: Sequence[tuple[Affine, Atom]], k: int) -> Any:
    """Y' = sum g u': k y_k = sum over inputs of sum_j j u_j g_{k-j}."""
    if k == 0:
        return once(node, *(s(a, 0) for a in node.inputs))
    total = None
    for slope, u in slopes:
        for j in range(1, k + 1):
            term = _times(s(u, j), s.slope(slope, k - j))
            if term is not None:
                total = _plus(total, term * (j / k) if j != k else term)
    return total


def piece(node: Any, s: Values, k: int) -> Any:
    """The branch chosen by the values at the beginning of the step."""
    base = [s(a, 0) for a in node.inputs]
    if k == 0:
        return once(node, *base)
    parts = [s(a, k) for a in node.inputs]
    zero = jnp.zeros_like(base[-1])
    filled = [zero if v is None else v for v in parts]
    if node.name == "abs":
        return None if parts[0] is None else jnp.where(base[0] < 0, -parts[0], parts[0])
    if node.name == "rem":  # u - n v, with the whole number n rounded towards zero
        turns = jnp.trunc(base[0] / base[1])
        return _plus(parts[0], _times(turns, parts[1]), -1)
    if node.name in ("max", "min"):
        first = base[0] >= base[1] if node.name == "max" else base[0] <= base[1]
        return jnp.where(first, filled[0], filled[1])
    if node.name == "clamp":
        inside = jnp.where(base[1] < base[0], filled[0], filled[1])
        return jnp.where(base[1] > base[2], filled[2], inside)
    return once(node, base[0], *(jnp.zeros_like(base[1]) if v is None else v for v in parts[1:]))


def nested(node: Any, s: Values, k: int) -> Any:
    """f(u) from its derivatives at u_0 (nested jvp) and the powers of u - u_0."""
    u = node.inputs[0]
    fn = lambda v: once(node, v)
    if k == 0:
        return fn(s(u, 0))
    total, powers, factorial = None, None, 1.0
    derivative = fn
    for order in range(1, k + 1):
        derivative = _derivative(derivative)
        factorial *= order
        shift = [None, *(s(u, j) for j in range(1, k + 1))]
        powers = shift if powers is None else [convolve(powers[: j + 1], shift[: j + 1]) for j in range(k + 1)]
        if powers[k] is not None:
            total = _plus(total, powers[k] * (derivative(s(u, 0)) * (1 / factorial)))
    return total


def _derivative(fn: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda v: jax.jvp(fn, (v,), (jnp.ones_like(v),))[1]
