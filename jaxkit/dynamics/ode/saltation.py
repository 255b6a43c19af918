"""Tangents behind a switch of the state: where `where(x < a, ...)` makes the velocity jump, tangents jump, too.

A motion that meets the switch later by `dtau` moves for that long with the velocity before it, not with that behind it:
`dx+ = dx- + (f- - f+) dtau`, where `dtau = -dg / g'` follows from the number `g` that changes its sign. Differentiating
the steps does not see this, as a comparison has no derivative. `across` is the state at a step's end with this
derivative. Switches that depend on time alone are those of `engine.switches`.

Recognised are comparisons, `sign`, `floor`, `ceil`, `round`, `%` and conversions to whole numbers, of arrays too; not
those inside of loops (a search in a table is one: `jnp.searchsorted`), no `argmax` and no sort. Where the velocity
jumps, second derivatives are NaN.

References:
    Leine and Nijmeijer (2004), Dynamics and Bifurcations of Non-Smooth Mechanical Systems, section 7.3.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxkit.core.jax_internals import evaluated, inner_jaxpr, is_literal
from jaxkit.dynamics.ode.reasons import nought, without_derivative

COMPARISONS = frozenset("lt le gt ge eq ne lt_to le_to".split())
STEPS = frozenset("sign floor ceil round rem convert_element_type".split())
SAME = frozenset(
    "broadcast_in_dim reshape squeeze slice transpose expand_dims rev copy".split()
)  # of entries elsewhere
JUMP = 1e-3  # part of the velocity from which on a change of it is a jump, not the rounding of a kink
Velocity = Callable[[Array, Any, Any], Any]


class _Change(NamedTuple):
    """Where a number is another behind the switches."""

    changed: Array
    later: Array  # how much later the switch comes, along the tangent
    since: Array  # the time that has passed since the switch


class _Number(NamedTuple):
    """A number of the field at a step's end, as it would be before the switches.

    Attributes:
        value: Its value.
        rate: Its rate of change along the motion; None where it is no floating number, or constant.
        dot: Its tangent, likewise.
        shift: How later switches move it: minus its jumps, times the delays, along the tangent.
        unit: Its jumps.
        new: What it is behind the switches; None where it is the same.
        turn: The rate of that.
        change: Where and when it changes; of a floating number, where it jumps.
    """

    value: Any
    rate: Any = None
    dot: Any = None
    shift: Any = None
    unit: Any = None
    new: Any = None
    turn: Any = None
    change: _Change | None = None

    @property
    def there(self) -> tuple[Any, Any]:
        """Value and rate behind the switches."""
        return (self.value, self.rate) if self.new is None else (self.new, self.turn)


def has_switches(field: Velocity, t: Any, x: PyTree, args: PyTree) -> bool:
    """Whether a field compares its state with anything. All may be shapes."""
    jaxpr = jax.make_jaxpr(field)(t, x, args).jaxpr
    first, size = len(jax.tree.leaves(t)), len(jax.tree.leaves(x))
    moves = [first <= i < first + size for i in range(len(jaxpr.invars))]
    return _walk(jaxpr, moves)[1]


def _walk(jaxpr: Any, moves: Sequence[bool]) -> tuple[list[bool], bool]:
    """Which outputs depend on the state, and whether there is a switch."""
    moving, found = {v for v, own in zip(jaxpr.invars, moves, strict=True) if own}, False
    asked = lambda v: not is_literal(v) and v in moving
    for eqn in jaxpr.eqns:
        own = [asked(v) for v in eqn.invars]
        inner = _inner(eqn)
        outs = [any(own)] * len(eqn.outvars)
        if inner is not None:
            outs, more = _walk(inner[0], own)
            found |= more
        elif any(own):
            found |= _switches(eqn)
        moving |= {v for v, out in zip(eqn.outvars, outs, strict=True) if out}
    return [asked(v) for v in jaxpr.outvars], found


def _inner(eqn: Any) -> Any:
    """The program of a call, unless that has a derivative of its own."""
    return None if eqn.primitive.name.startswith("custom") else inner_jaxpr(eqn)


def is_switch(name: str, inputs: Sequence[Any], kind: Any, into: Any) -> bool:
    """Whether an operation jumps.

    Args:
        name: Name of the primitive.
        inputs: What it works on, of which equal ones are the same.
        kind: Type of the first of them.
        into: Type of the result.
    """
    if not jnp.issubdtype(kind, jnp.floating):
        return False
    if name in COMPARISONS:
        return inputs[0] != inputs[1]  # a number compared with itself: whether it is NaN
    return name in STEPS and not (name == "convert_element_type" and jnp.issubdtype(into, jnp.floating))


def _switches(eqn: Any) -> bool:
    name, inputs = eqn.primitive.name, eqn.invars
    if not inputs or len(eqn.outvars) != 1:
        return False
    own = [id(v) for v in inputs]
    return is_switch(name, own, inputs[0].aval.dtype, eqn.outvars[0].aval.dtype)


def across(field: Velocity, t0: Array, x0: PyTree, t1: Array, x1: PyTree, args: PyTree) -> PyTree:
    """The state `x1` at the end of a step from `(t0, x0)`, with tangents that jump where the field has switched.

    Args:
        field: The velocity, `field(t, x, args)`, which closes over no tracers.
        t0: Time at the step's beginning.
        x0: State there.
        t1: Time at its end.
        x1: State there.
        args: Parameters.
    """

    @jax.custom_jvp
    def moved(t0: Array, x0: PyTree, t1: Array, x1: PyTree, args: PyTree) -> PyTree:
        return x1

    @moved.defjvp
    def _(primals: Any, dots: Any) -> Any:
        t0, x0, t1, x1, args = primals
        program = jax.make_jaxpr(field)(t1, x1, args)
        held = jax.lax.stop_gradient
        inputs = lambda t, x: jax.tree.leaves((t, x, args))
        old, _ = _outcomes(program, held(inputs(t0, x0)), None)
        new, velocity = _outcomes(program, held(inputs(t1, x1)), old)
        switched = jnp.zeros((), bool)
        for a, b in zip(old, new, strict=True):
            switched |= jnp.any(a != b)

        def shifted() -> PyTree:
            at = jax.tree.leaves((t1, x1, args))
            rates = [jnp.ones_like(t1), *velocity, *[None] * (len(at) - 1 - len(velocity))]
            numbers = [
                _Number(v, rate if _real(v) else None, dot if _real(v) else None)
                for v, rate, dot in zip(at, rates, [None, *jax.tree.leaves((dots[3], dots[4]))], strict=True)
            ]
            ends = _pushed(program.jaxpr, program.consts, numbers, iter(old))
            leaves, tree = jax.tree.flatten(x1)
            none = [jnp.zeros_like(v) for v in leaves]
            shifts = [zero if n.shift is None else n.shift for n, zero in zip(ends, none, strict=True)]
            jumps = [zero if n.unit is None else n.unit for n, zero in zip(ends, none, strict=True)]
            size = lambda parts: jnp.asarray(sum(jnp.sum(jnp.abs(v)) for v in parts))
            jump = size(jumps) > JUMP * size(velocity)
            # A factor of one, whose derivative is NaN where the velocity jumps: second derivatives are not known there.
            moving = sum(jnp.sum(nought(v)).astype(t1.dtype) for v in at[1:] if _real(v))
            once = without_derivative(jump, 1 + moving)
            moved = zip(jax.tree.leaves(dots[3]), shifts, strict=True)
            return tree.unflatten([dot + (once * v).astype(dot.dtype) for dot, v in moved])

        return x1, jax.lax.cond(eqxi.unvmap_any(switched), shifted, lambda: dots[3])

    return moved(t0, x0, t1, x1, args)


def with_jumps(solver: Any, field: Velocity, t: Any, x: PyTree, args: PyTree) -> Any:
    """A solver of diffrax whose steps end `across` the switches of a field; the same one if it has none."""
    if not has_switches(field, t, x, args):
        return solver
    own = {f.name: getattr(solver, f.name) for f in dataclasses.fields(solver)}
    return _jumping(type(solver))(**own, jumping=field)


@functools.cache
def _jumping(kind: type) -> type:
    class Jumping(kind):
        # The field itself: that of `terms` may be held at points where it has no derivative.
        jumping: Any = eqx.field(static=True, default=None)

        def step(
            self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any
        ) -> tuple[Any, Any, Any, Any, Any]:
            y1, error, dense, state, result = super().step(terms, t0, t1, y0, args, solver_state, made_jump)
            y1 = across(self.jumping, _seen(terms, t0), y0, _seen(terms, t1), y1, args)
            dense = {**dense, "y1": y1} if "y1" in dense else dense
            return y1, error, dense, state, result

    return Jumping


def _seen(terms: Any, t: Any) -> Any:
    """The time at which the terms of a step evaluate the field: see `stops`; diffrax lets time run forward."""
    if hasattr(terms, "last"):
        t = jnp.where(t > terms.last, terms.last, t)
    if hasattr(terms, "direction"):
        t = t * terms.direction.astype(t.dtype)
    return _seen(terms.term, t) if hasattr(terms, "term") else t


def _real(value: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(value), jnp.floating)


def _outcomes(closed: Any, inputs: list[Any], held: list[Array] | None) -> tuple[list[Array], list[Array]]:
    """What all switches say, and the velocity, with the switches as they are or held at other outcomes."""
    rest, found = None if held is None else iter(held), []
    values = _values(closed.jaxpr, closed.consts, inputs, rest, found)
    return found, values


def _values(jaxpr: Any, consts: Any, inputs: list[Any], held: Any, found: list[Array]) -> list[Any]:
    values = dict(zip(jaxpr.constvars, consts, strict=True)) | dict(zip(jaxpr.invars, inputs, strict=True))
    read = lambda v: jnp.asarray(v.val, v.aval.dtype) if is_literal(v) else values[v]
    for eqn in jaxpr.eqns:
        operands, inner = [read(v) for v in eqn.invars], _inner(eqn)
        if inner is not None:
            outs = _values(inner[0], inner[1], operands, held, found)
        elif _switches(eqn):
            outcome = _outcome(eqn, operands)
            found.append(outcome)
            outs = [_with(eqn, operands, outcome if held is None else next(held))]
        else:
            outs = evaluated(eqn, operands)
        values |= dict(zip(eqn.outvars, outs, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _outcome(eqn: Any, operands: Sequence[Any]) -> Array:
    """Which of its pieces a switch is on."""
    if eqn.primitive.name == "rem":
        return jnp.trunc(operands[0] / operands[1])
    return eqn.primitive.bind(*operands, **eqn.params)


def _with(eqn: Any, operands: Sequence[Any], outcome: Array) -> Array:
    """The result of a switch on a given piece."""
    return operands[0] - outcome * operands[1] if eqn.primitive.name == "rem" else outcome


def _gap(eqn: Any, old: Array, new: Array) -> Callable[..., Array]:
    """The number, as a function of the operands, that is zero where a switch goes from one piece to another."""
    name = eqn.primitive.name
    if name in COMPARISONS:
        return lambda a, b: a - b
    if name == "sign":
        return lambda a: a
    old, new = (v.astype(eqn.invars[0].aval.dtype) for v in (old, new))
    further = jnp.where(jnp.abs(new) > jnp.abs(old), new, old)
    level = {"floor": jnp.maximum(old, new), "ceil": jnp.minimum(old, new), "round": (old + new) / 2}.get(name, further)
    return (lambda a, b: a - level * b) if name == "rem" else (lambda a: a - level)


def _pushed(jaxpr: Any, consts: Any, inputs: list[_Number], held: Any) -> list[_Number]:
    """The numbers of a program."""
    values = dict(zip(jaxpr.constvars, map(_Number, consts), strict=True)) | dict(
        zip(jaxpr.invars, inputs, strict=True)
    )
    read = lambda v: _Number(jnp.asarray(v.val, v.aval.dtype)) if is_literal(v) else values[v]
    for eqn in jaxpr.eqns:
        operands, inner = [read(v) for v in eqn.invars], _inner(eqn)
        if inner is not None:
            outs = _pushed(inner[0], inner[1], operands, held)
        elif _switches(eqn):
            outs = [_switched(eqn, operands, next(held))]
        else:
            outs = _applied(eqn, operands)
        values |= dict(zip(eqn.outvars, outs, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _tangent(fn: Callable[..., Any], values: Sequence[Any], dots: Sequence[Any]) -> Any:
    """The tangent of `fn`; None where nothing moves."""
    if all(dot is None for dot in dots):
        return None
    moving = [i for i, dot in enumerate(dots) if dot is not None]

    def of(*some: Any) -> Any:
        full = list(values)
        for i, v in zip(moving, some, strict=True):
            full[i] = v
        return fn(*full)

    return jax.jvp(of, [values[i] for i in moving], [dots[i] for i in moving])[1]


def _switched(eqn: Any, operands: list[_Number], old: Array) -> _Number:
    """The result of a switch."""
    values, behind = [n.value for n in operands], [n.there[0] for n in operands]
    new = _outcome(eqn, behind)
    gap = _gap(eqn, old, new)
    value, rate, dot = gap(*values), *(_tangent(gap, values, [n[i] for n in operands]) for i in (1, 2))
    speed = jnp.zeros_like(value) if rate is None else rate
    # (A step that is to be refused may end at a state that is not finite.)
    changed = jnp.broadcast_to(old != new, value.shape) & jnp.isfinite(value) & jnp.isfinite(speed)
    safe, still = jnp.where(changed, speed, 1), jnp.zeros_like(value)
    later = jnp.where(changed, -(still if dot is None else dot) / safe, 0)
    change = _Change(changed, later, jnp.where(changed, value / safe, 0))
    changes = [n.change for n in operands if n.change is not None]
    if changes:  # the number itself jumps over the switch, when what it depends on does
        earlier = _delay(eqn, operands, changes, value.shape)
        leap = earlier.changed & (jnp.sign(value) * jnp.sign(gap(*_leapt(operands))) <= 0)
        change = _Change(changed, *(jnp.where(leap, a, b) for a, b in zip(earlier[1:], change[1:], strict=True)))
    held = _with(eqn, values, old)
    before, after = (lambda *v: _with(eqn, v, old)), (lambda *v: _with(eqn, v, new))
    there = jnp.where(changed, after(*behind), held)
    if not _real(held):
        return _Number(held, new=there, change=change)
    rate, dot = (_tangent(before, values, [n[i] for n in operands]) for i in (1, 2))
    turn = _tangent(after, behind, [n.there[1] for n in operands])
    shift, unit = (_tangent(before, values, [n[i] for n in operands]) for i in (3, 4))
    return _jumped(_Number(held, rate, dot, shift, unit, there, turn), change)


def _jumped(number: _Number, change: _Change) -> _Number:
    """A floating number that jumps as a whole where something changes."""
    turn = _sum(number.turn, None if number.rate is None else -number.rate)
    jump = number.value - number.new + change.since * (0 if turn is None else turn)
    jump = jnp.where(change.changed, jnp.where(jnp.isfinite(jump), jump, number.value - number.new), 0)
    keep = lambda v: None if v is None else jnp.where(change.changed, 0, v)
    unit = _sum(keep(number.unit), jump)
    number = number._replace(shift=_sum(keep(number.shift), jump * change.later), unit=unit)
    return number._replace(change=_where_it_jumps(number, change))


def _bent(number: _Number, behind: Array, change: _Change) -> _Number:
    """A floating number that jumps because its operands do: of lines alone the slope tells by how much.

    Args:
        number: The number, with jumps along the slope.
        behind: What it is where its operands have jumped.
        change: Where and when they jump.
    """
    more = jnp.where(change.changed, number.value - behind - (0 if number.unit is None else number.unit), 0)
    more = jnp.where(jnp.isfinite(number.value), more, 0)
    number = number._replace(shift=_sum(number.shift, more * change.later), unit=_sum(number.unit, more))
    return number._replace(change=_where_it_jumps(number, change))


def _leapt(operands: list[_Number]) -> list[Any]:
    """Numbers that have jumped, and moved no further."""
    return [n.value if n.unit is None else n.value - n.unit for n in operands]


def _where_it_jumps(number: _Number, change: _Change) -> _Change:
    """Where a floating number changes by more than a kink's rounding."""
    least = jnp.sqrt(jnp.finfo(number.value.dtype).eps) * jnp.abs(number.value)
    return _only(change, jnp.broadcast_to(jnp.abs(number.unit) > least, number.value.shape))


def _where_it_differs(number: _Number, change: _Change) -> _Change:
    return _only(change, number.value != number.new)


def _only(change: _Change, there: Array) -> _Change:
    changed = there & change.changed
    return _Change(changed, jnp.where(changed, change.later, 0), jnp.where(changed, change.since, 0))


def _sum(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a + b


def _applied(eqn: Any, operands: list[_Number]) -> list[_Number]:
    """The results of an operation that does not jump by itself."""
    values, behind = [n.value for n in operands], [n.there[0] for n in operands]
    bind = lambda *v: evaluated(eqn, v)
    found = bind(*values)
    real = [i for i, v in enumerate(found) if _real(v)]
    floats = lambda *v: [out for i, out in enumerate(bind(*v)) if i in real]
    moved = lambda at, dots: _tangent(floats, at, [d if _real(v) else None for v, d in zip(at, dots, strict=True)])
    parts = [moved(values, [n[i] for n in operands]) if real else None for i in range(1, 5)]
    jumps = any(n.new is not None for n in operands)
    new = bind(*behind) if jumps else [None] * len(found)
    parts.append(moved(behind, [n.there[1] for n in operands]) if jumps and real else None)
    bends = any(n.change is not None and _real(n.value) for n in operands)
    leapt = bind(*_leapt(operands)) if bends else found
    changes = [n.change for n in operands if n.change is not None]
    choices = [n.change for n in operands if n.change is not None and not _real(n.value)]
    numbers = []
    for i, (value, there) in enumerate(zip(found, new, strict=True)):
        rate, dot, shift, unit, turn = (p[real.index(i)] if p is not None and i in real else None for p in parts)
        number = _Number(value, rate, dot, shift, unit, there, turn)
        if bends and i in real:
            number = _bent(number, leapt[i], _delay(eqn, operands, changes, value.shape))
        if choices and i in real:
            number = _jumped(number, _delay(eqn, operands, choices, value.shape))
        elif changes and i not in real:
            number = number._replace(change=_where_it_differs(number, _delay(eqn, operands, changes, value.shape)))
        numbers.append(number)
    return numbers


def _delay(eqn: Any, operands: list[_Number], changes: list[_Change], shape: tuple[int, ...]) -> _Change:
    """Which entries of a result may change, by how much later, and how long ago.

    Of several changes that meet in one entry, the one that happened last counts, or the first where one is enough.
    Where entries cannot be told apart, each of a result may be changed by it.
    """
    if eqn.primitive.name in SAME:
        move = lambda v: eqn.primitive.bind(v, *(n.value for n in operands[1:]), **eqn.params)
        return _Change(*map(move, changes[0]))
    if any(c.later.shape not in ((), shape) for c in changes):
        changed, later, since = (jnp.concatenate([jnp.ravel(c[i]) for c in changes]) for i in range(3))
        ago = jnp.where(changed, jnp.abs(since), -1 if eqn.primitive.name == "reduce_or" else jnp.inf)
        one = jnp.argmax(ago) if eqn.primitive.name == "reduce_or" else jnp.argmin(ago)
        parts = changed[one], later[one], since[one]
        return _Change(*(jnp.broadcast_to(v, shape) for v in parts))
    changed, later, since = (jnp.broadcast_to(v, shape) for v in changes[0])
    for change in changes[1:]:
        own, other, ago = (jnp.broadcast_to(v, shape) for v in change)
        takes = own & (~changed | (jnp.abs(ago) < jnp.abs(since)))
        later, since, changed = jnp.where(takes, other, later), jnp.where(takes, ago, since), changed | own
    return _Change(changed, later, since)
