"""Taylor's method: steps along the solution's power series (`series`).

The step length follows from the last two coefficients; the polynomial is dense output.

References:
    Jorba and Zou (2005), A software package for the numerical integration of ODEs by means of high-order Taylor
        methods.
    Biscani and Izzo (2021), Revisiting high-order Taylor methods for astrodynamics and celestial mechanics (heyoka).
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxkit.compile.fast_log import fast_exp2, fast_log2
from jaxkit.compile.nodes import MOVING, Atom
from jaxkit.compile.packing import Named, pack, pack_named, unpack, unpack_named
from jaxkit.compile.rows import Constants, Row, State, Step, like
from jaxkit.compile.scalars import ScalarField
from jaxkit.core.numerics import representable
from jaxkit.dynamics.ode.engine import recurrences
from jaxkit.dynamics.ode.engine.events import FINEST
from jaxkit.dynamics.ode.engine.series import TaylorSeries, Unsupported
from jaxkit.dynamics.ode.engine.switches import Switches, jumps_with_state
from jaxkit.dynamics.ode.tolerance import weighed, weights

# In units of the tolerance: how much velocity times length may differ from the polynomial's at a step's end.
DEFECT = 10.0
FEWEST = 8  # most times that a first step is shortened before it is tried
COARSEST = 1 / 64  # part by which a step may be lengthened to a time that there is
FARTHEST = 120.0  # logarithm of a length beyond which nothing limits a step
FADED = 0.1  # part of a tangent's largest size so far; a tangent that has decayed further does not limit the step
PLAIN = frozenset("input add add_any sub neg mul div sin cos integer_pow convert_element_type".split())
ROUGH = recurrences.FLAT | recurrences.PIECES


class TaylorStepper:
    """Taylor's method of a fixed order as a method of the lean loop.

    Args:
        field: The scalar field whose first outputs are the velocity; event functions may follow.
        rtol: Relative tolerance, in units of the state's largest entry.
        atol: Absolute tolerance; or one for each number of the state, which then counts in units of it.
        order: Order of the series; None takes Jorba and Zou's ceil(1 - ln(rtol) / 2).
        controlled: Number of leading entries that are the state; those behind are tangents. None: all are the state.
        directions: Directions of further tangents: see `Row`.
    """

    shortens = True

    def __init__(
        self,
        field: ScalarField,
        rtol: float,
        atol: float | tuple[float, ...],
        *,
        order: int | None = None,
        controlled: int | None = None,
        directions: Sequence[Any] = (),
    ) -> None:
        self.field, self.directions = field, directions
        self.order = max(2, math.ceil(1 - math.log(rtol) / 2)) if order is None else order
        self.scale, self.weights = (max(atol) if isinstance(atol, tuple) else atol) / rtol, weights(atol)
        self.controlled = len(field.x) if controlled is None else controlled
        velocity = field.outputs[: len(field.x)]
        self.switches = Switches(field, velocity)
        self.jumps = jumps_with_state(field, velocity, self.switches.covered)
        self.series = TaylorSeries(field, velocity)
        self.watched = _series_of_events(field, velocity)
        events = () if self.watched is None else self.watched.roots
        self.roots = [*self.series.roots, *field.outputs, *self.switches.roots, *events]
        self.bound = DEFECT * rtol
        self.looks = looks(field, velocity, self.order, self.switches)
        self.cautious = not self.looks

    def start(self, t: Array, x: State, left: Array, row: Row) -> State:
        """The memory: the largest size of the tangents so far; the length of each step follows from the series."""
        k = len(self.field.x)
        return () if len(x) == k else (jnp.zeros_like(t), self._largest(x[k:]))

    def length(self, t: Array, x: State, left: Array, row: Row) -> Array:
        """The length that a step would have."""
        return self._length(self._series(t, x, row)(), row)

    def caution(self, t: Array, x: State, left: Array, row: Row) -> Array | None:
        """How often the first step would be refused, where steps are not examined; None where all of them are.

        At a start with round numbers a series may have gaps, and the last coefficients may lie in one.
        """
        if self.looks:
            return None
        series = self._series(t, x, row)()
        length = self._length(series, row)

        def look(refused: Array) -> Array:
            short = shortened(length, left, refused)
            return self._fits(series, t, jnp.where(short >= jnp.abs(left), left, short * jnp.sign(left)), row)

        def again(c: tuple[Array, Array]) -> tuple[Array, Array]:
            refused = jnp.where(c[1], c[0], c[0] + 1)
            return refused, look(refused) | (refused >= FEWEST)

        first = jnp.zeros_like(t)
        return jax.lax.while_loop(lambda c: ~jnp.all(c[1]), again, (first, look(first)))[0]

    def step(
        self, t: Array, x: State, left: Array, memory: State, row: Row, refused: Array, *, look: Array | None = None
    ) -> Step:
        """One step; NaN where it must be refused because the velocity at its end is not what the series says."""
        series = self._series(t, x, row)
        # Kept in memory, so that all rows move by the same length: recomputed in another loop it rounds differently, by
        # percents where it depends on coefficients that are nothing but rounding.
        length = row.apart(
            lambda: shortened(
                self._length((series if memory else self._series(t, x, row))(), row, *memory[1:]), left, refused
            )
        )
        if self.watched is not None:
            trusted = row.apart(lambda: self._trusted(t, x, row))
            length = jnp.minimum(length, jnp.maximum(trusted, FINEST * length))  # a steep function is no fast one
        whole = length >= jnp.abs(left)
        own = _reached(t, length * jnp.sign(left))
        signed = jnp.where(whole if look is None else whole | look, left, own)
        if not memory:
            return Step(self._end(series(), t, signed, row, look), signed, ())
        k = len(self.field.x)
        state, tangents = row.apart(
            lambda: (self._end(series()[:k], t, signed, row, look), pack(polynomials(series()[k:], signed)))
        )
        tangents = unpack(tangents)
        return Step((*state, *tangents), signed, (length, jnp.maximum(memory[1], self._largest(tangents))))

    def _end(self, series: list[list[Array]], t: Array, s: Array, row: Row, look: Array | None) -> State:
        """The polynomials at `s`; NaN where they do not move as the field says.

        A series knows the field only where the step begins. What it cannot know (a switch or a kink on the way, the
        other branch of a root, a rise too steep to be seen from afar) shows in the velocity at the step's end.
        """
        end = polynomials(series, s)
        if not self.looks:
            return end
        fits = functools.reduce(jnp.logical_and, [self._fits(series, t, s * part, row) for part in self.looks])
        fits = fits if look is None else fits | look
        return (jnp.where(fits, end[0], jnp.nan), *end[1:])

    def _fits(self, series: list[list[Array]], t: Array, s: Array, row: Row) -> Array:
        """Whether the polynomials' velocity at `s` is the field's, within the error allowed for a step."""
        state = series[: len(self.field.x)]
        there = polynomials(state, s)
        rates = polynomials([[c * float(j) for j, c in enumerate(part)][1:] for part in state], s)
        first = lambda constants, t, *x: [pair[1] for pair in self.series.coefficients(t, x, 1, constants)]
        velocity = row.each(first, row.seen(t + s), *there)
        gap = self._largest([a - b for a, b in zip(rates, velocity, strict=True)][: self.controlled])
        size = self._largest([*(part[0] for part in state[: self.controlled]), *there[: self.controlled]])
        return gap * jnp.abs(s) <= self.bound * jnp.maximum(size, self.scale)

    def within(self, t: Array, x: State, s: Array, row: Row) -> State:
        """The polynomial at `s`."""
        return polynomials(self._series(t, x, row)(), s)

    def _series(self, t: Array, x: State, row: Row) -> Callable[[], list[list[Array]]]:
        """The coefficients, one list for each row of numbers: the state's, then the tangents' in all directions.

        They come from a function, to be called where they are used: where they are kept in memory, it reads them.
        """
        field, k = self.field, len(self.field.x)
        parts: list[tuple[Named, Named]] = []

        def known() -> tuple[dict[Any, Any], dict[Any, Any]]:
            found = self.series.begin(row.seen(t), x[:k])
            dots = {(a, 0): v for a, v in zip(field.x, x[k:], strict=False)}
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
        """The next order of all series and of their tangents."""
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

    def _length(self, series: list[list[Array]], row: Row, largest: Array | None = None) -> Array:
        """The state's step, or the tangents' where that is shorter, in units of each direction's largest entry."""
        p, state, tangents = self.order, series[: self.controlled], series[self.controlled :]
        of = lambda rows, *orders: [self._largest([part[k] for part in rows]) for k in orders]
        along = lambda size, before, last: self._radius(jnp.maximum(size, self.scale), before, last)
        of_state = lambda: along(*of(state, 0, p - 1, p))
        if not tangents:
            return of_state()
        # Two pieces, kept in memory: of one larger than this, XLA thinks that two threads should share each step.
        length, (size, speed, before, last) = row.apart(
            lambda: (of_state(), list(map(_log2, of(tangents, 0, 1, p - 1, p))))
        )
        radius = row.apart(lambda: self._radii(size, speed, before, last, _log2(length), largest))
        least = functools.reduce(jnp.minimum, list(radius)) if radius.ndim > 1 else radius
        return jnp.minimum(length, fast_exp2(least))

    def _radii(
        self, size: Array, speed: Array, before: Array, last: Array, length: Array, largest: Array | None
    ) -> Array:
        """The step along each direction, from sizes of its coefficients and the state's step; all are logarithms."""
        p = self.order
        # A tangent that begins at zero has the size to which it grows within its own step or the state's; at rest, a
        # state has steps of any length.
        own = jnp.minimum((speed - last) / (p - 1), (speed - before) / max(p - 2, 1)) - 2 / math.log(2)
        size = jnp.maximum(size, speed + jnp.minimum(like(length, speed), own))
        least = -jnp.inf if largest is None else _log2(FADED * largest)
        size = jnp.maximum(size, jnp.maximum(least, float(jnp.finfo(size.dtype).minexp)))
        return self._log_radius(size, before, last)

    def _trusted(self, t: Array, x: State, row: Row) -> Array:
        """The length of a step in which event functions have no time to oscillate: their radius of convergence over e.

        It is estimated from each of their last two coefficients, and the largest of the estimates that the first three
        give, as a function may begin at zero or at an extremum. A polynomial of lower order is trusted at any length.
        """
        n, watched, p = len(self.field.x), cast(TaylorSeries, self.watched), self.order - 1
        of = lambda constants, t, *x: [c for part in watched.further(t, x, p, constants) for c in part]
        found, least = row.each(of, row.seen(t), *x[:n]), jnp.full_like(t, FARTHEST)
        for series in (found[i : i + p + 1] for i in range(0, len(found), p + 1)):
            fine = functools.reduce(jnp.logical_and, map(jnp.isfinite, series))
            sizes = [fast_log2(jnp.abs(c)) for c in series]
            for k in (p - 1, p):
                first = [jnp.where(series[j] == 0, -jnp.inf, (sizes[j] - sizes[k]) / (k - j)) for j in range(min(3, k))]
                radius = functools.reduce(jnp.maximum, first)
                limits = fine & (series[k] != 0) & (radius > -jnp.inf)
                least = jnp.where(limits, jnp.minimum(least, radius), least)
        return fast_exp2(least - 1 / math.log(2))

    def _largest(self, values: Sequence[Array]) -> Array:
        """The largest number of a state, of its tangents or of several of these."""
        return _largest(weighed(values, self.weights))

    def _radius(self, size: Array, before: Array, last: Array) -> Array:
        """Jorba and Zou's step: the radius of convergence estimated from two terms, over e^2, times a safety factor."""
        return fast_exp2(self._log_radius(*map(fast_log2, (size, before, last))))

    def _log_radius(self, size: Array, before: Array, last: Array) -> Array:
        """The same step, all in logarithms."""
        p = self.order
        return jnp.minimum((size - last) / p, (size - before) / (p - 1)) - (2 + 0.7 / (p - 1)) / math.log(2)


def _series_of_events(field: ScalarField, velocity: Sequence[Atom]) -> TaylorSeries | None:
    """The series of the event functions behind the velocity; None without any that moves or has a series."""
    events = [a for a in field.outputs[len(field.x) :] if field.builder.level(a) == MOVING]
    try:
        return TaylorSeries(field, velocity, events) if events else None
    except Unsupported:
        return None


def _log2(x: Array) -> Array:
    """A logarithm, far below all others for zero: a direction in which nothing moves sets no step."""
    return jnp.where(x == 0, -1e5, fast_log2(x))


def _reached(t: Array, h: Array) -> Array:
    """The step that time can make; none where that is not nearly the step asked for, whose length decides its error."""
    step = representable(t, h)
    return jnp.where(jnp.abs(step - h) <= COARSEST * jnp.abs(h), step, 0)


def shortened(length: Array, left: Array, refused: Array) -> Array:
    """A length, divided by four for each time that a step from here was refused."""
    return jnp.where(refused > 0, jnp.minimum(length, jnp.abs(left)) * fast_exp2(-2 * refused), length)


def looks(field: ScalarField, velocity: Sequence[Atom], order: int, switches: Switches) -> tuple[float, ...]:
    """The fractions of each step at which the velocity is checked.

    A field of sums, products, quotients and sines shows its singularities from afar, so that none of its steps need be
    checked, except the first (see `caution`). Exponentials and high powers do not: a rise as steep as theirs is not
    seen before it is there. A root has a second branch. Between kinks and switches a field can return to its earlier
    form: such a step is checked on the way, too, unless the switches depend on time alone and so are known.
    """
    nodes = [(n, field.nodes[n]) for n in field.needed(velocity) if field.nodes[n].level == MOVING]
    if any(node.name in ROUGH and n not in switches.covered for n, node in nodes):
        return (0.25, 0.5, 0.75, 1.0)
    degrees: dict[Any, int] = {}
    for number, node in nodes:
        parts = [degrees.get(a, 0) for a in node.inputs]
        degrees[number] = 1 if node.name == "input" else sum(parts) if node.name == "mul" else max(parts, default=1)
    plain = not switches and all(node.name in PLAIN for _, node in nodes)
    return () if plain and max(degrees.values(), default=0) <= order else (1.0,)


def _largest(values: Sequence[Array]) -> Array:
    most = jnp.abs(values[0])
    for value in values[1:]:
        most = jnp.maximum(most, jnp.abs(value))
    return most


def polynomials(series: list[list[Array]], s: Array) -> State:
    """Polynomials at `s`, one for each row of numbers: pairs of terms first, then pairs of those (Estrin's scheme)."""
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
