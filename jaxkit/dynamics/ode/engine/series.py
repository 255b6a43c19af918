"""The power series of a solution, coefficient by coefficient, from the recurrences of a field's scalar operations.

A product is a convolution, and so is an elementary function with `y' = g(u, y) u'`: order p costs O(p^2) operations for
each product, and the field is never evaluated.

References:
    Jorba and Zou (2005), A software package for the numerical integration of ODEs by means of high-order Taylor
        methods.
    Biscani and Izzo (2021), Revisiting high-order Taylor methods for astrodynamics and celestial mechanics (heyoka).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxkit.compile.nodes import MOVING, Atom, Literal, Node
from jaxkit.compile.rows import Constants, State
from jaxkit.compile.scalars import ScalarField
from jaxkit.dynamics.ode.engine import recurrences
from jaxkit.dynamics.ode.engine.recurrences import Affine, Rule

LINEAR = ("add", "add_any", "sub", "neg", "mul", "div")


class Unsupported(NotImplementedError):
    """The field has an operation without a Taylor recurrence."""


class TaylorSeries:
    """The recurrences of a scalar field.

    Sums and constant factors are collected, and pulled out of products: `x * (r * (1 - x / N)) - a * x * y` becomes
    `r x - (r / N) x^2 - a (x y)`, two convolutions (one of them a square), whose second is shared with `y`'s equation.

    Args:
        field: The field; helper nodes are added to its builder.
        velocity: The atoms of the velocity of `field.x`.
        more: Further atoms whose series are asked for.

    Raises:
        Unsupported: An operation has no recurrence; its name is in the message.
    """

    def __init__(self, field: ScalarField, velocity: Sequence[Atom], more: Sequence[Atom] = ()) -> None:
        self.field, self.make = field, recurrences.Maker(field.builder)
        self.rules: dict[Any, Rule] = {}  # in an order in which they can run
        self.forms: dict[Atom, Affine] = {}
        self.constants: set[Atom] = set()
        self.later: list[Atom] = []  # derivative factors, needed only one order later
        self.velocity = [self.form(a) for a in velocity]
        self.more = [self.basis(a) for a in more]
        while self.later:
            self.basis(self.later.pop())
        for form in self.velocity:
            self._note(form)
        self.roots = list(self.constants)

    def level(self, atom: Atom) -> int:
        """The highest level among atoms: what they depend on."""
        return self.field.builder.level(atom)

    def _note(self, form: Affine) -> None:
        weights = [w for _, w in form.terms] + [form.constant]
        self.constants |= {a for a in weights if a is not None and not isinstance(a, Literal)}

    def form(self, atom: Atom) -> Affine:
        """An atom as a sum of series; the rules it needs are made on the way."""
        if isinstance(atom, Literal) or self.level(atom) < MOVING:
            return Affine(atom, ())
        if atom not in self.forms:
            self.forms[atom] = self._form(atom)
        return self.forms[atom]

    def _form(self, number: int) -> Affine:
        node, make = self.field.nodes[number], self.make
        name, inputs = node.name, node.inputs
        if name == "input":
            return Affine(None, ((number, None),))
        if name in LINEAR and not np.issubdtype(self.field.builder.dtype(number), np.floating):
            raise Unsupported(f"{name} of whole numbers")  # they jump: places in a table, say
        if name in ("add", "add_any", "sub"):
            second = self.form(inputs[1])
            return self._sum(self.form(inputs[0]), second if name != "sub" else self._scale(second, -1.0))
        if name == "neg":
            return self._scale(self.form(inputs[0]), -1.0)
        if name == "mul":
            return self._product(self.form(inputs[0]), self.form(inputs[1]), inputs)
        if name == "div" and self.level(inputs[1]) < MOVING:
            return self._scale(self.form(inputs[0]), make.reciprocal(inputs[1]))
        self._nonlinear(number)
        return Affine(None, ((number, None),))

    def _sum(self, a: Affine, b: Affine) -> Affine:
        weights = dict(a.terms)
        for term, weight in b.terms:
            one = self.make.number(1.0, term)
            both = self.make.add(weights[term] or one, weight or one) if term in weights else weight
            weights[term] = both
        constant = a.constant if b.constant is None else b.constant
        if a.constant is not None and b.constant is not None:
            constant = self.make.add(a.constant, b.constant)
        return Affine(constant, tuple(weights.items()))

    def _scale(self, a: Affine, factor: Atom | float) -> Affine:
        def times(weight: Atom | None, like: Atom) -> Atom:
            by = self.make.number(factor, like) if isinstance(factor, float) else factor
            return by if weight is None else self.make.mul(weight, by)

        constant = None if a.constant is None else times(a.constant, a.constant)
        return Affine(constant, tuple((term, times(weight, term)) for term, weight in a.terms))

    def _product(self, a: Affine, b: Affine, inputs: Sequence[Atom]) -> Affine:
        if not a.terms:
            return self._scale(b, a.constant) if a.constant is not None else a
        if not b.terms:
            return self._scale(a, b.constant) if b.constant is not None else b
        if len(a.terms) == len(b.terms) == 1 and (a.constant is None or b.constant is None):
            (u, c), (v, d) = a.terms[0], b.terms[0]
            product = Affine(None, ((self._convolution(u, v), None),))
            for weight in (c, d):
                product = product if weight is None else self._scale(product, weight)
            for constant, other in ((a.constant, Affine(None, b.terms)), (b.constant, Affine(None, a.terms))):
                product = product if constant is None else self._sum(product, self._scale(other, constant))
            return product
        return Affine(None, ((self._convolution(self.basis(inputs[0]), self.basis(inputs[1])), None),))

    def _convolution(self, u: Atom, v: Atom) -> Atom:
        product = self.make.mul(u, v)  # shared if it exists already
        if product not in self.rules:
            if u == v:
                self.rules[product] = lambda k, s: recurrences.square(s.list(u, k), k)
            else:
                self.rules[product] = lambda k, s: recurrences.convolve(s.list(u, k), s.list(v, k))
            self.forms[product] = Affine(None, ((product, None),))
        return product

    def basis(self, atom: Atom) -> Atom:
        """An atom of the same value that has a series of its own."""
        form = self.form(atom)
        self._note(form)
        if not form.terms:
            return atom
        if form.constant is None and len(form.terms) == 1 and form.terms[0][1] is None:
            return form.terms[0][0]
        if atom not in self.rules:
            self.rules[atom] = lambda k, s: s.sum(form, k)
        return atom

    def _nonlinear(self, number: int) -> None:
        """Make the rule of an operation that is neither a sum nor a product."""
        node, make = self.field.nodes[number], self.make
        name = node.name
        moving = [self.level(a) == MOVING for a in node.inputs]
        if name == "pow" and any(moving[1:]):
            product = make.mul(node.inputs[1], make(jax.lax.log_p, node.inputs[0], accuracy=None))
            same = self.basis(make(jax.lax.exp_p, product, accuracy=None))
            self.rules[number] = lambda k, s: s(same, k)
            return
        inputs = tuple(self.basis(a) for a in node.inputs)
        self.constants |= {a for a in inputs if not isinstance(a, Literal) and self.level(a) < MOVING}
        node = dataclasses.replace(node, inputs=inputs)
        if name == "convert_element_type":
            whole = not jnp.issubdtype(node.dtype, jnp.floating)  # rounded, as by `floor`
            self.rules[number] = lambda k, s: (
                None if (whole and k) or s(inputs[0], k) is None else recurrences.once(node, s(inputs[0], k))
            )
        elif name == "div":
            self.rules[number] = lambda k, s: recurrences.divide(s, inputs, number, k)
        elif name in recurrences.POWERS or name in ("pow", "integer_pow"):
            self.rules[number] = recurrences.power(number, node)
        elif name in recurrences.DERIVATIVES:
            slope = recurrences.DERIVATIVES[name](make, node.inputs[0], number)
            self._slopes(number, node, [(slope, inputs[0])])
        elif name == "atan2":
            y, x = inputs
            weight = make.reciprocal(make.add(make.mul(x, x), make.mul(y, y)))
            self._slopes(number, node, [(make.mul(x, weight), y), (make.neg(make.mul(y, weight)), x)])
        elif name in recurrences.FLAT:
            self.rules[number] = lambda k, s: recurrences.once(node, *(s(a, 0) for a in inputs)) if k == 0 else None
        elif name in recurrences.PIECES:
            self.rules[number] = lambda k, s: recurrences.piece(node, s, k)
        elif name in recurrences.NESTED:
            self.rules[number] = lambda k, s: recurrences.nested(node, s, k)
        else:
            raise Unsupported(node.primitive.name if node.primitive is not None else name)

    def _slopes(self, number: int, node: Node, slopes: list[tuple[Atom, Atom]]) -> None:
        """Y' = sum g u': the factors g may depend on y, so that their rules come after this one."""
        self.forms[number] = Affine(None, ((number, None),))
        self.later.extend(a for a, _ in slopes if not isinstance(a, Literal))
        pairs: list[tuple[Any, Atom]] = []

        def rule(k: int, s: Any) -> Any:
            if not pairs:
                pairs.extend((self.form(g), u) for g, u in slopes)
            return recurrences.chain(node, s, pairs, k)

        self.rules[number] = rule

    def begin(self, t: Any, x: Sequence[Any]) -> dict[Any, Any]:
        """The coefficients of order 0."""
        field = self.field
        return {(field.t, 0): t, (field.t, 1): jnp.ones_like(t), **{(a, 0): v for a, v in zip(field.x, x, strict=True)}}

    def extend(self, s: recurrences.Values, k: int) -> None:
        """The rules' coefficients of order `k`, and the solution's of order `k + 1`, from those below."""
        for number, rule in self.rules.items():
            s.keep((number, k), rule(k, s))
        for atom, rate in zip(self.field.x, self.velocity, strict=True):
            value = s.sum(rate, k)
            s.keep((atom, k + 1), None if value is None else value * (1 / (k + 1)) if k else value)

    def coefficients(self, t: Array, x: State, order: int, constants: Constants) -> list[list[Array]]:
        """Taylor coefficients of the solution through `(t, x)`, orders `0..order`, one list for each state entry."""
        s, zero = self._extended(t, x, order, constants), jnp.zeros_like(x[0])
        return [[s.found.get((atom, k), zero) for k in range(order + 1)] for atom in self.field.x]

    def further(self, t: Array, x: State, order: int, constants: Constants) -> list[list[Array]]:
        """Taylor coefficients of the further atoms along the solution, orders `0..order`."""
        s, zero = self._extended(t, x, order + 1, constants), jnp.zeros_like(x[0])
        known = lambda value: zero if value is None else zero + value
        return [[known(s(atom, k)) for k in range(order + 1)] for atom in self.more]

    def _extended(self, t: Array, x: State, order: int, constants: Constants) -> recurrences.Values:
        s = recurrences.Values(self.field, constants, self.begin(t, x))
        for k in range(order):
            self.extend(s, k)
        return s
