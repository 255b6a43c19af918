"""Times at which a field changes its form: where it compares time with quantities that do not move.

`where(t < dose, 2.0, 0.0)` jumps at `dose`; `floor(t)`, `t % 24 < 8` and `sin(w * t) > 0` do so again and again. No
error estimate sees a pulse that lies between two evaluations of the field, so the steps end there. Between two such
times all that depends on time alone is linear in time or constant (`Form`), so that the next switch is a quotient.

Recognised are comparisons, `abs`, `sign`, `max`, `min`, `clip`, `floor`, `ceil`, `round`, `%` and conversions to whole
numbers of `a * t + b`, and comparisons of its sine and cosine, where `a`, `b` and the other side of the comparison
depend on parameters, or on what is constant between such times. Not recognised are other functions of time
(`t**2 < 2`), tables (`interp`), comparisons inside a loop or with more than 64 numbers, and what depends on the state.

Measurements: docs/devdocs/unsmooth.md.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxkit.compile.nodes import MOVING, Atom, Literal, Node
from jaxkit.compile.rows import Constants, Lanes, Row, State
from jaxkit.compile.scalars import ScalarField
from jaxkit.dynamics.ode.engine.recurrences import Maker
from jaxkit.dynamics.ode.saltation import COMPARISONS, STEPS, across, is_switch

WHOLE = {"floor": 0.0, "ceil": 0.0, "round": 0.5}  # they jump where their argument is a whole number plus this
BREAKS = COMPARISONS | frozenset("sign abs max min clamp rem convert_element_type".split()) | frozenset(WHOLE)
WAVES = frozenset(("sin", "cos"))
SLACK = 4.0  # in units of how far rounding can move a change of sign


def jumps_with_state(field: ScalarField, atoms: Sequence[Atom], known: set[Atom]) -> bool:
    """Whether nodes depend on a comparison of the state, other than those at `known` times: see `saltation`."""
    for number in field.needed(atoms):
        node = field.nodes[number]
        if node.level == MOVING and number not in known and node.name in COMPARISONS | STEPS:
            if is_switch(node.name, node.inputs, field.builder.dtype(node.inputs[0]), node.dtype):
                return True
    return False


class Form(NamedTuple):
    """A number that is `slope * base + offset` until the next switch; the base is time, or the sine of a form."""

    slope: Atom
    offset: Atom
    size: Atom  # size of the numbers from which the offset is computed, the measure of its rounding
    base: Atom | None  # None where the number is constant and the slope is 0


class Switch(NamedTuple):
    """The field changes where a form of time has a value, or that value plus any number of periods."""

    form: Form
    value: Atom
    period: Atom | None


class Stretch(NamedTuple):
    """A stretch of time between two switches, in a lane's own direction: times are multiplied by `sign`."""

    sign: Array
    ahead: Array  # the next switch
    behind: Array  # the last switch
    first: Array  # the field is evaluated between these two times, kept off the switches by rounding
    last: Array

    def seen(self, t: Array) -> Array:
        """The time nearest to `t` at which the field has its form of this stretch."""
        return self.sign * jnp.minimum(jnp.maximum(self.sign * t, self.first), self.last)


class Switches:
    """The switches of a scalar field.

    Args:
        field: The field; helper nodes are added to its builder.
        atoms: The nodes in question, e.g. the velocity.
    """

    def __init__(self, field: ScalarField, atoms: Sequence[Atom]) -> None:
        self.field, self.make = field, Maker(field.builder)
        self.forms: dict[Atom, Form] = {}
        self.steps: set[Atom] = set()  # the nodes that are constant between switches
        self.covered: set[Atom] = set()  # nodes that are smooth between switches, whatever their primitive
        self.found: list[Switch] = []
        self.eps = 0.0
        self.one = Literal(np.ones((), field.builder.dtype(field.t))[()])
        self.zero = Literal(np.zeros((), field.builder.dtype(field.t))[()])
        for number in field.needed(atoms):
            self._note(number)
        self.found = list(dict.fromkeys(self.found))
        parts = [(*switch.form[:3], switch.value, switch.period) for switch in self.found]
        self.roots = [a for part in parts for a in part if a is not None and not isinstance(a, Literal)]

    def __bool__(self) -> bool:
        return bool(self.found)

    def _fixed(self, atom: Atom) -> bool:
        return atom in self.steps or self.field.builder.level(atom) < MOVING

    def _form(self, atom: Atom) -> Form | None:
        if atom in self.forms or not self._fixed(atom):
            return self.forms.get(atom)
        number = self._number(atom)
        return None if number is None else Form(self.zero, number, self._abs(number), None)

    def _number(self, atom: Atom) -> Atom | None:
        """A constant in the type of time."""
        have, want = self.field.builder.dtype(atom), self.one.dtype
        if have == want or not (jnp.issubdtype(have, jnp.number) or have == np.dtype(bool)):
            return atom if have == want else None
        return self._held(jax.lax.convert_element_type_p, atom, new_dtype=want, weak_type=False, sharding=None)

    def _held(self, primitive: Any, *atoms: Atom, **params: Any) -> Atom:
        """A new node that is constant between switches."""
        node = self.make(primitive, *atoms, **params)
        if not isinstance(node, Literal) and all(map(self._fixed, atoms)):
            self.steps.add(node)
        return node

    def _abs(self, atom: Atom) -> Atom:
        return self._held(jax.lax.abs_p, atom)

    def _note(self, number: Any) -> None:
        """What becomes of a node between switches."""
        field, node = self.field, self.field.nodes[number]
        if number in self.covered or node.level < MOVING:
            return
        if number == field.t:
            self.forms[number] = Form(self.one, self.zero, self.zero, number)
            self.eps = max(self.eps, float(jnp.finfo(node.dtype).eps))
        elif node.inputs and all(map(self._fixed, node.inputs)):
            self.steps.add(number)
            self.covered.add(number)
        elif node.name == "select_n" and self._fixed(node.inputs[0]):
            self.covered.add(number)
            self._select(number, node)
        elif node.inputs and None not in (forms := [self._form(a) for a in node.inputs]):
            form = self._of(node, forms)  # pyright: ignore[reportArgumentType]
            if form == "steps":
                self.steps.add(number)
            elif form is not None:
                self.forms[number] = form
                self.eps = max(self.eps, float(jnp.finfo(node.dtype).eps))
            if form is not None:
                self.covered.add(number)

    def _of(self, node: Node, forms: list[Form]) -> Any:
        """The form of a node whose operands are forms; "steps" where it is constant between switches; else None."""
        name, held, lax = node.name, self._held, jax.lax
        bases = {form.base for form in forms if form.base is not None}
        base, u = next(iter(bases), None), forms[0]
        if len(bases) > 1:
            return None
        if name in COMPARISONS or (name in ("max", "min", "sub") and len(forms) == 2):
            return self._two(node, forms, base)
        if name in ("add", "add_any"):
            sums = [held(lax.add_p, a, b) for a, b in zip(forms[0][:3], forms[1][:3], strict=True)]
            return Form(sums[0], sums[1], sums[2], base)
        if name in ("mul", "div"):
            other = forms[1] if name == "div" or forms[1].base is None else forms[0]
            u = forms[0] if name == "div" or other is forms[1] else forms[1]
            if other.base is not None:
                return None
            operation = lax.div_p if name == "div" else lax.mul_p
            size = held(operation, u.size, self._abs(other.offset))
            return Form(held(operation, u.slope, other.offset), held(operation, u.offset, other.offset), size, base)
        if name == "neg":
            return u._replace(slope=held(lax.neg_p, u.slope), offset=held(lax.neg_p, u.offset))
        if name in ("abs", "sign"):
            self._switch(u, self.zero)
            sign = self._sign(node.inputs[0])
            slope, offset = (self._times(sign, v) for v in u[:2])
            return "steps" if name == "sign" else Form(slope, offset, u.size, base)
        if name == "clamp":
            return self._clamp(node)
        if name == "convert_element_type" and jnp.issubdtype(node.dtype, jnp.floating):
            return u
        return self._periodic(node, forms, base)

    def _periodic(self, node: Node, forms: list[Form], base: Atom | None) -> Any:
        """The form of a node that repeats itself; for functions of time itself alone."""
        name, u, held = node.name, forms[0], self._held
        if base != self.field.t:
            return None
        if name in WHOLE or (name == "convert_element_type" and jnp.issubdtype(node.dtype, jnp.integer)):
            self._switch(u, self._literal(WHOLE.get(name, 0.0)), self.one)
            return "steps"
        if name == "rem" and forms[1].base is None:
            m = forms[1].offset
            self._switch(u, self.zero, self._abs(m))
            ratio = self.make.div(node.inputs[0], node.inputs[1])
            count = self.make(jax.lax.floor_p, self.make(jax.lax.abs_p, ratio))
            turns = self.make.mul(self._sign(ratio), count)
            self.steps |= {count, turns}
            whole = self._number(turns)
            taken = held(jax.lax.mul_p, m, turns if whole is None else whole)
            size = held(jax.lax.add_p, u.size, self._abs(taken))
            return Form(u.slope, held(jax.lax.sub_p, u.offset, taken), size, base)
        if name in WAVES:
            return Form(self.one, self.zero, self.zero, self.make(node.primitive, *node.inputs, **dict(node.params)))
        return None

    def _two(self, node: Node, forms: list[Form], base: Atom | None) -> Any:
        """The form of a difference, or of what depends on its sign."""
        a, b = forms
        slope, offset = (self._held(jax.lax.sub_p, u, v) for u, v in zip(a[:2], b[:2], strict=True))
        gap = Form(slope, offset, self._held(jax.lax.add_p, a.size, b.size), base)
        if node.name == "sub":
            return gap
        self._switch(gap, self.zero)
        if node.name in COMPARISONS:
            return "steps"
        first = self.make(jax.lax.ge_p if node.name == "max" else jax.lax.le_p, *node.inputs)
        self.steps.add(first)
        parts = [self._held(jax.lax.select_n_p, first, v, u) for u, v in zip(a[:3], b[:3], strict=True)]
        return Form(parts[0], parts[1], parts[2], base)

    def _clamp(self, node: Node) -> Any:
        low, x, high = node.inputs
        above = self.make(jax.lax.max_p, x, low)
        inside = self.make(jax.lax.min_p, above, high)
        for number in (above, inside):
            if not isinstance(number, Literal):
                self._note(number)
        return "steps" if self._fixed(inside) else self.forms.get(inside)

    def _select(self, number: int, node: Node) -> None:
        """The form of a choice by something constant between switches."""
        forms = [self._form(a) for a in node.inputs[1:]]
        bases = {form.base for form in forms if form is not None and form.base is not None}
        if None in forms or len(bases) > 1:
            return
        parts = zip(*(form[:3] for form in forms if form is not None), strict=True)
        chosen = [self._held(jax.lax.select_n_p, node.inputs[0], *part) for part in parts]
        self.forms[number] = Form(chosen[0], chosen[1], chosen[2], next(iter(bases), None))

    def _sign(self, atom: Atom) -> Atom:
        sign = self.make(jax.lax.sign_p, atom)
        self.steps.add(sign)
        return sign

    def _times(self, a: Atom, b: Atom) -> Atom:
        return self._held(jax.lax.mul_p, a, b)

    def _literal(self, value: float) -> Literal:
        return self.make.number(value, self.one)

    def _switch(self, form: Form, value: Atom, period: Atom | None = None) -> None:
        """Note that the field changes where a form has a value."""
        if form.base is None:
            return
        if form.base == self.field.t:
            self.found.append(Switch(form, value, period))
            return
        # For a sine: its argument, between -pi and pi, repeated after 2 pi.
        base: Any = form.base
        wave, held = self.field.nodes[base], self._held
        height = held(jax.lax.div_p, held(jax.lax.sub_p, value, form.offset), form.slope)
        most = 1 - 4 * float(jnp.finfo(self.one.dtype).eps)
        height = held(jax.lax.max_p, held(jax.lax.min_p, height, self._literal(most)), self._literal(-most))
        angle = held(jax.lax.asin_p if wave.name == "sin" else jax.lax.acos_p, height)
        flipped = self._literal(math.pi if wave.name == "sin" else 0.0)
        inner = self._form(wave.inputs[0])
        assert inner is not None  # noqa: S101 (waves are noted of forms only)
        for at in (angle, held(jax.lax.sub_p, flipped, angle)):
            self.found.append(Switch(inner, at, self._literal(2 * math.pi)))

    def stretch(self, t: Array, span: Array, constants: Constants) -> Stretch:
        """The stretch that begins at `t`, or contains it, for one lane whose times cover `span` (signed)."""
        sign = jnp.where(span < 0, -jnp.ones_like(t), jnp.ones_like(t))
        most = math.sqrt(self.eps) * jnp.abs(span)
        edge = lambda value: jnp.full_like(t, value)
        found = Stretch(sign, edge(jnp.inf), edge(-jnp.inf), edge(-jnp.inf), edge(jnp.inf))
        still, moving = [], []
        for switch in self.found:
            atoms = [a for a in (*switch.form[:3], switch.value, switch.period) if a is not None]
            (still if self.field.builder.level(*atoms) < MOVING else moving).append(switch)
        for group in ([still] if still else []) + [[switch] for switch in moving]:
            found = self._narrowed(found, group, t, constants, most)
        return found

    def _narrowed(self, found: Stretch, group: list[Switch], t: Array, constants: Constants, most: Array) -> Stretch:
        """The stretch between further switches, whose numbers are constant in it.

        A switch is ignored where rounding leaves its time uncertain by more than `most`.
        """
        now, eps, least = found.seen(t), self.eps, 1e4 * float(jnp.finfo(t.dtype).tiny)
        times, slacks = [], []
        for switch in group:
            atoms = [*switch.form[:3], switch.value, *(() if switch.period is None else (switch.period,))]
            values = self.field(now, [now] * len(self.field.x), constants, atoms)
            slope, offset, size, value = values[:4]
            steady = slope == 0
            slope = jnp.where(steady, 1, slope)
            time = (value - offset) / slope
            again, gap = [time], jnp.inf
            if switch.period is not None:
                period = jnp.abs(values[4] / slope)
                gap, period = period, jnp.where(period > 0, period, 1)
                count = jax.lax.stop_gradient(jnp.floor((t - time) / period))
                again = [time + (count + i) * period for i in (-1, 0, 1, 2)]
            rounding = jax.lax.stop_gradient((size + jnp.abs(value)) / jnp.abs(slope))
            slack = [least + SLACK * eps * (jnp.abs(jax.lax.stop_gradient(v)) + rounding) for v in again]
            known = [~steady & (s <= jnp.minimum(most + least, gap / 8)) for s in slack]
            times += [jnp.where(sure, v, jnp.inf) for v, sure in zip(again, known, strict=True)]
            slacks += slack
        time, slack, sign = jnp.stack(times) * found.sign, jnp.stack(slacks), found.sign
        # A switch nearer than rounding can tell lies behind: the stretch begins there.
        past = time <= sign * t + 2 * slack
        here = jnp.isfinite(time)
        later, earlier = here & ~past, here & past
        nearest = lambda v: jnp.min(jnp.where(later, v, jnp.inf), axis=0)
        latest = lambda v: jnp.max(jnp.where(earlier, v, -jnp.inf), axis=0)
        return Stretch(
            sign,
            jnp.minimum(found.ahead, nearest(time)),
            jnp.maximum(found.behind, latest(time)),
            jnp.maximum(found.first, latest(time + slack)),
            jnp.minimum(found.last, nearest(time - slack)),
        )


def ahead(switches: Switches, row: Row, lanes: Lanes, t: Array) -> tuple[Row, Array]:
    """A row with the field of the stretch that begins at `t`, and the end of a step: the next switch, or `t1`."""
    if not switches:
        return row, lanes.t1
    stretch = row.apart(lambda: _stretch(switches, row, lanes, t))
    sign, until = stretch.sign, stretch.ahead
    return row.seeing(stretch.seen), jnp.where(until < sign * lanes.t1, sign * until, lanes.t1)


def _stretch(switches: Switches, row: Row, lanes: Lanes, t: Array) -> Stretch:
    return row.each(lambda constants, t, span: switches.stretch(t, span, constants), t, lanes.t1 - lanes.t0)


def crossing(
    stepper: Any, row: Row, lanes: Lanes, span: tuple[Array, Array], new: State, memory: State
) -> tuple[State, State]:
    """State, time and memory after steps that may have come to a switch.

    The previous step tells nothing about the length of the next: a method that keeps it begins anew. And tangents jump
    where the switch's time depends on parameters: if it comes later, the field before it moves the state for longer.

    Args:
        stepper: How lanes step.
        row: The row of the lanes.
        lanes: The lanes.
        span: Where the steps began, and how far they could go.
        new: Where they ended: state with tangents, and time.
        memory: The stepper's memory.
    """
    n, x, later = len(stepper.field.x), new[:-1], new[-1]
    met = (later == span[1]) & (later != lanes.t1) & (later != span[0])
    behind = ahead(stepper.switches, row, lanes, later)[0]
    if not stepper.shortens:
        begun = lambda: stepper.start(later, x, lanes.t1 - later, behind)[0]
        memory = (jnp.where(met, jax.lax.cond(jnp.any(met), begun, lambda: memory[0]), memory[0]), *memory[1:])
    if len(x) == n:
        return new, memory
    when = lambda constants, t, span: [(s := stepper.switches.stretch(t, span, constants)).sign * s.ahead]
    (_,), (shift,) = row.push(when, (span[0], lanes.t1 - lanes.t0), (None, None))
    if shift is None:
        return new, memory
    before = ahead(stepper.switches, row, lanes, span[0])[0]
    rates = [side(later, x[:n], stepper.field.outputs[:n]) for side in (before, behind)]
    jumps = [jnp.where(met[None], (a - b)[None] * shift, 0) for a, b in zip(*rates, strict=True)]
    return (*x[:n], *map(jnp.add, x[n:], jumps), later), memory


def behind(stepper: Any, here: Row, span: tuple[Array, Array], before: State, new: State) -> State:
    """States after steps over a span, with tangents that jump where the state has met a switch: see `saltation`."""
    field, n = stepper.field, len(stepper.field.x)
    velocity = lambda t, x, constants: tuple(field(t, x, constants, field.outputs[:n]))

    def moved(constants: Constants, t0: Array, t1: Array, *x: Array) -> list[Array]:
        return list(across(velocity, t0, x[:n], t1, x[n:], constants))

    numbers = (*map(here.seen, span), *before[:n], *new[:n])
    if len(new) == n:
        return tuple(here.each(moved, *numbers))
    values, dots = here.push(moved, numbers, (None,) * (n + 2) + new[n:])
    return (*values, *dots)


def between(switches: Switches, row: Row, lanes: Lanes, here: Array, there: Array) -> tuple[Row, Array, Array]:
    """A step as a function of the row's constants: its row, start and length, which move with the switches."""
    if not switches:
        return row, here, there - here
    stretch = _stretch(switches, row, lanes, here)
    sign, held = stretch.sign, jax.lax.stop_gradient
    begun = held(stretch.first) > sign * here
    behind = jnp.where(begun, stretch.behind, 0)
    start = here + sign * (behind - held(behind))
    end = jnp.where((there == sign * stretch.ahead) & (there != lanes.t1), sign * stretch.ahead, there)
    return row.seeing(stretch.seen), start, jnp.where(there == here, 0, end - start)  # a refused step keeps length 0
