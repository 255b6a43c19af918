"""Taylor's method: the solution's power series, coefficient by coefficient.

Each scalar operation of the field has a recurrence that gives its k-th coefficient from lower ones (a product is a
convolution, `y' = g(u, y) u'` an elementary function), so a step of order p costs O(p^2) operations a product and no
evaluation of the field at all. The step length follows from the last two coefficients; the polynomial is dense output.

References:
    Jorba and Zou (2005), A software package for the numerical integration of ODEs by means of high-order Taylor
        methods.
    Biscani and Izzo (2021), Revisiting high-order Taylor methods for astrodynamics and celestial mechanics (heyoka).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxkit.compile.fast_log import fast_exp2, fast_log2
from jaxkit.compile.nodes import MOVING, Atom, Literal, Node
from jaxkit.compile.packing import Named, pack, pack_named, unpack, unpack_named
from jaxkit.compile.rows import Constants, Row, State, Step, like
from jaxkit.compile.scalars import ScalarField
from jaxkit.dynamics.ode.engine import recurrences
from jaxkit.dynamics.ode.engine.recurrences import Affine, Rule

DEFECT = (
    10.0  # in units of the tolerance: how far velocity times length may differ from the polynomial's at a step's end
)
FEWEST = 8  # times that a first step is made shorter at most, before it is tried
FADED = 0.1  # of the largest that a tangent has been: what has decayed further holds up nobody
PLAIN = frozenset("input add add_any sub neg mul div sin cos integer_pow convert_element_type".split())
ROUGH = recurrences.FLAT | {"abs", "max", "min", "select_n", "clamp"}


class Unsupported(NotImplementedError):
    """The field has an operation without a Taylor recurrence."""


class TaylorSeries:
    """The recurrences of a scalar field.

    Sums and constant factors are collected, and pulled out of products: `x * (r * (1 - x / N)) - a * x * y` becomes
    `r x - (r / N) x^2 - a (x y)`, two convolutions (one of them a square), whose second is shared with `y`'s equation.

    Args:
        field: The field; helper nodes are added to its builder.
        velocity: The atoms that are the velocity of `field.x`.

    Raises:
        Unsupported: An operation has no recurrence; its name is in the message.
    """

    def __init__(self, field: ScalarField, velocity: Sequence[Atom]) -> None:
        self.field, self.make = field, recurrences.Maker(field.builder)
        self.rules: dict[Any, Rule] = {}  # in an order in which they can run
        self.forms: dict[Atom, Affine] = {}
        self.constants: set[Atom] = set()
        self.later: list[Atom] = []  # derivative factors, needed one order later only
        self.velocity = [self.form(a) for a in velocity]
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
        """An atom as a sum of series; its rules are made on the way."""
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
        product = self.make.mul(u, v)  # shared if it is there already
        if product not in self.rules:
            if u == v:
                self.rules[product] = lambda k, s: recurrences.square(s.list(u, k), k)
            else:
                self.rules[product] = lambda k, s: recurrences.convolve(s.list(u, k), s.list(v, k))
            self.forms[product] = Affine(None, ((product, None),))
        return product

    def basis(self, atom: Atom) -> Atom:
        """A series of its own for an atom."""
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
            self.rules[number] = lambda k, s: (
                None if s(inputs[0], k) is None else recurrences.once(node, s(inputs[0], k))
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
        elif name in ("abs", "max", "min", "select_n", "clamp"):
            self.rules[number] = lambda k, s: recurrences.piece(node, s, k)
        elif name in recurrences.NESTED:
            self.rules[number] = lambda k, s: recurrences.nested(node, s, k)
        else:
            raise Unsupported(node.primitive.name if node.primitive is not None else name)

    def _slopes(self, number: int, node: Node, slopes: list[tuple[Atom, Atom]]) -> None:
        """Y' = sum g u': the factors g may depend on y, so their rules come after this one."""
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
        """Taylor coefficients of the solution through `(t, x)`, orders `0..order`, one list a state entry."""
        s = recurrences.Values(self.field, constants, self.begin(t, x))
        for k in range(order):
            self.extend(s, k)
        zero = jnp.zeros_like(x[0])
        return [[s.found.get((atom, k), zero) for k in range(order + 1)] for atom in self.field.x]


class TaylorStepper:
    """Taylor's method of one order as a method of the lean loop.

    Args:
        field: The velocity (and behind it event functions).
        rtol: Relative tolerance, in units of the state's largest entry.
        atol: Absolute tolerance.
        order: Order; None takes Jorba and Zou's ceil(1 - ln(rtol) / 2).
        controlled: Number of leading entries that are the state; those behind it are tangents. None for all.
        directions: Of further tangents: see `Row`.
    """

    shortens = True

    def __init__(
        self,
        field: ScalarField,
        rtol: float,
        atol: float,
        *,
        order: int | None = None,
        controlled: int | None = None,
        directions: Sequence[Any] = (),
    ) -> None:
        self.field, self.directions = field, directions
        self.order = max(2, math.ceil(1 - math.log(rtol) / 2)) if order is None else order
        self.scale = atol / rtol
        self.controlled = len(field.x) if controlled is None else controlled
        self.series = TaylorSeries(field, field.outputs[: len(field.x)])
        self.roots = [*self.series.roots, *field.outputs]
        self.bound = DEFECT * rtol
        self.looks = looks(field, field.outputs[: len(field.x)], self.order)
        self.cautious = not self.looks

    def start(self, t: Array, x: State, left: Array, row: Row) -> State:
        """What is remembered: of tangents, how large they have been; otherwise the series tells each step's length."""
        k = len(self.field.x)
        return () if len(x) == k else (jnp.zeros_like(t), _largest(x[k:]))

    def length(self, t: Array, x: State, left: Array, row: Row) -> Array:
        """The length that a step would have."""
        return self._length(self._series(t, x, row)())

    def caution(self, t: Array, x: State, left: Array, row: Row) -> Array | None:
        """How often the first step would be refused, where steps are not looked at: None where all of them are.

        At a beginning with round numbers a series may have gaps, in which the last coefficients lie.
        """
        if self.looks:
            return None
        series = self._series(t, x, row)()
        length = self._length(series)

        def look(refused: Array) -> Array:
            short = shortened(length, left, refused)
            return self._fits(series, t, jnp.where(short >= jnp.abs(left), left, short * jnp.sign(left)), row)

        def again(c: tuple[Array, Array]) -> tuple[Array, Array]:
            refused = jnp.where(c[1], c[0], c[0] + 1)
            return refused, look(refused) | (refused >= FEWEST)

        first = jnp.zeros_like(t)
        return jax.lax.while_loop(lambda c: ~jnp.all(c[1]), again, (first, look(first)))[0]

    def step(self, t: Array, x: State, left: Array, memory: State, row: Row, refused: Array) -> Step:
        """One step; NaN where it must be refused: its end has another velocity than the series says."""
        series = self._series(t, x, row)
        # Kept in memory, so that all rows move by the same length: computed again in another loop, it rounds otherwise,
        # by percents where it hangs on coefficients that are nothing but rounding.
        length = row.apart(
            lambda: shortened(
                self._length((series if memory else self._series(t, x, row))(), *memory[1:]), left, refused
            )
        )
        signed = jnp.where(length >= jnp.abs(left), left, length * jnp.sign(left))
        if not memory:
            return Step(self._end(series(), t, signed, row), signed, ())
        k = len(self.field.x)
        state, tangents = row.apart(
            lambda: (self._end(series()[:k], t, signed, row), pack(polynomials(series()[k:], signed)))
        )
        tangents = unpack(tangents)
        return Step((*state, *tangents), signed, (length, jnp.maximum(memory[1], _largest(tangents))))

    def _end(self, series: list[list[Array]], t: Array, s: Array, row: Row) -> State:
        """The polynomials at `s`; NaN where they do not move as the field says.

        A series knows the field where the step begins. What it cannot know, a switch or a kink on the way, the other
        branch of a root, a rise that is too steep to be seen from afar, shows in the velocity at the step's end.
        """
        end = polynomials(series, s)
        if not self.looks:
            return end
        fits = functools.reduce(jnp.logical_and, [self._fits(series, t, s * part, row) for part in self.looks])
        return (jnp.where(fits, end[0], jnp.nan), *end[1:])

    def _fits(self, series: list[list[Array]], t: Array, s: Array, row: Row) -> Array:
        """Whether the polynomials' velocity at `s` is the field's, to what a step may be wrong."""
        state = series[: len(self.field.x)]
        there = polynomials(state, s)
        rates = polynomials([[c * float(j) for j, c in enumerate(part)][1:] for part in state], s)
        first = lambda constants, t, *x: [pair[1] for pair in self.series.coefficients(t, x, 1, constants)]
        velocity = row.each(first, t + s, *there)
        gap = _largest([a - b for a, b in zip(rates, velocity, strict=True)][: self.controlled])
        size = _largest([*(part[0] for part in state[: self.controlled]), *there[: self.controlled]])
        return gap * jnp.abs(s) <= self.bound * jnp.maximum(size, self.scale)

    def within(self, t: Array, x: State, s: Array, row: Row) -> State:
        """The polynomial at `s`."""
        return polynomials(self._series(t, x, row)(), s)

    def _series(self, t: Array, x: State, row: Row) -> Callable[[], list[list[Array]]]:
        """The coefficients, one list a row of numbers: the state's, then those of the tangents in all directions.

        They come from a function, to be called where they are used: there they are read from memory, if they are kept.
        """
        field, k = self.field, len(self.field.x)
        parts: list[tuple[Named, Named]] = []

        def known() -> tuple[dict[Any, Any], dict[Any, Any]]:
            found, dots = self.series.begin(t, x[:k]), {(a, 0): v for a, v in zip(field.x, x[k:], strict=False)}
            for values, changes in parts:
                found.update(values.named)
                dots.update(unpack_named(changes.named))
            return found, dots

        for order in range(self.order):
            more = functools.partial(self._order, order, row, known)
            parts.append(row.apart(more) if row.kept else more())

        def series() -> list[list[Array]]:
            found, dots = known()
            lists = lambda named, zero: [
                [named.get((atom, j), zero) for j in range(self.order + 1)] for atom in field.x
            ]
            state = lists(found, jnp.zeros_like(x[0]))
            return state if len(x) == k else [*state, *lists(dots, jnp.zeros_like(x[k]))]

        return series

    def _order(self, k: int, row: Row, known: Callable[[], Any]) -> tuple[Named, Named]:
        """One more order of all series, and of their tangents."""
        found, dots = known()
        names: list[Any] = []

        def more(constants: Constants, *numbers: Array) -> list[Array]:
            s = recurrences.Values(self.field, constants, dict(zip(found, numbers, strict=True)))
            self.series.extend(s, k)
            names[:] = list(s.found)[len(numbers) :]
            return [s.found[name] for name in names]

        values, changes = row.push(more, list(found.values()), [dots.get(name) for name in found])
        moved = {name: change for name, change in zip(names, changes, strict=True) if change is not None}
        both = [(atom, k + 1) for atom in self.field.x if (atom, k + 1) in moved]
        return Named(dict(zip(names, values, strict=True))), Named(pack_named(moved, both))

    def _length(self, series: list[list[Array]], largest: Array | None = None) -> Array:
        """The state's step; and the tangents' where they are shorter, in units of each direction's largest entry."""
        p, state, tangents = self.order, series[: self.controlled], series[self.controlled :]
        size, before, last = (_largest([row[k] for row in state]) for k in (0, p - 1, p))
        length = self._radius(jnp.maximum(size, self.scale), before, last)
        if not tangents:
            return length
        size, speed, before, last = (_largest([row[k] for row in tangents]) for k in (0, 1, p - 1, p))
        size = jnp.maximum(size, speed * like(length, speed))
        unit = 1 / jnp.maximum(
            size if largest is None else jnp.maximum(size, FADED * largest), jnp.finfo(size.dtype).tiny
        )
        over = lambda v: _largest(list(v)) if v.ndim > 1 else v  # not `max`, whose loop has no vectors
        return jnp.minimum(length, self._radius(jnp.ones_like(length), over(before * unit), over(last * unit)))

    def _radius(self, size: Array, before: Array, last: Array) -> Array:
        """Jorba and Zou's step: the radius of convergence seen by the last two terms, over e^2, and a safety factor."""
        p, (size, before, last) = self.order, map(fast_log2, (size, before, last))
        radius = jnp.minimum((size - last) / p, (size - before) / (p - 1))
        return fast_exp2(radius - (2 + 0.7 / (p - 1)) / math.log(2))


def shortened(length: Array, left: Array, refused: Array) -> Array:
    """A length that is a quarter of itself for each time that a step from here was refused."""
    return jnp.where(refused > 0, jnp.minimum(length, jnp.abs(left)) * fast_exp2(-2 * refused), length)


def looks(field: ScalarField, velocity: Sequence[Atom], order: int) -> tuple[float, ...]:
    """At which parts of each step the velocity is looked at.

    A field of sums, products, quotients and sines shows its singularities from afar, so that none of its steps need
    be looked at, but for the first (see `caution`). Exponentials and high powers do not: what rises as
    fast is not seen before it is there. A root has a second branch. Between kinks and switches a field can come back to
    itself: such a step is looked at on the way, too.
    """
    nodes = [(n, field.nodes[n]) for n in field.needed(velocity) if field.nodes[n].level == MOVING]
    if any(node.name in ROUGH for _, node in nodes):
        return (0.25, 0.5, 0.75, 1.0)
    degrees: dict[Any, int] = {}
    for number, node in nodes:
        parts = [degrees.get(a, 0) for a in node.inputs]
        degrees[number] = 1 if node.name == "input" else sum(parts) if node.name == "mul" else max(parts, default=1)
    plain = all(node.name in PLAIN for _, node in nodes)
    return () if plain and max(degrees.values(), default=0) <= order else (1.0,)


def _largest(values: Sequence[Array]) -> Array:
    most = jnp.abs(values[0])
    for value in values[1:]:
        most = jnp.maximum(most, jnp.abs(value))
    return most


def polynomials(series: list[list[Array]], s: Array) -> State:
    """Polynomials, one a row of numbers, at `s`: pairs of terms first, then pairs of those (Estrin's scheme)."""
    values, powers = [], [s]
    for row in series:
        terms, level = list(row), 0
        while len(terms) > 1:
            if level == len(powers):
                powers.append(powers[-1] * powers[-1])
            power = like(powers[level], terms[0])
            pairs = [a + power * b for a, b in zip(terms[::2], terms[1::2], strict=False)]
            terms, level = pairs + terms[len(terms) - len(terms) % 2 :], level + 1
        values.append(terms[0])
    return tuple(values)
