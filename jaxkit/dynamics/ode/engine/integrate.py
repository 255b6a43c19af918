"""The lean loop: many lanes step side by side, each with its own step size, and the method is data.

A `Stepper` knows how lanes take one step; `integrate` repeats it over a chunk of lanes until each has arrived, failed
or met an event. A finished lane takes steps of length zero, so that the loop needs no branches.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxkit.compile.loops import repeat_while
from jaxkit.compile.packing import (
    accepted_again,
    count_of,
    failed,
    in_a_row,
    pack,
    refused_again,
    runs,
    status_of,
    unpack,
)
from jaxkit.compile.rows import Constants, Lanes, Row, State, Step, where
from jaxkit.compile.scalars import ScalarField
from jaxkit.core.status import Status
from jaxkit.dynamics.ode.engine import events as watching
from jaxkit.dynamics.ode.engine.events import Mark, Watch, nothing_saved
from jaxkit.dynamics.ode.engine.events import save as save_states
from jaxkit.dynamics.ode.engine.stiffness import limited_by_stability
from jaxkit.dynamics.ode.engine.switches import Switches, ahead, behind, crossing

NO_LIMIT = 2**31 - 2  # used where each lane counts its own steps
SEVERAL = 32  # numbers of a state of which each is looked at by itself
SHORTEST = 30  # most steps refused in a row: then the step is 2^-60 of what it was


class Stepper(Protocol):
    """How lanes move. All functions are pure, and work on a row of lanes."""

    field: ScalarField  # the velocity, one output for each state entry, then the event functions
    roots: list[Any]  # the nodes of the field that it uses, which tell the constants needed
    directions: Sequence[Any]  # directions of the tangents in each parameter that differs among lanes: see `Row`
    switches: Switches  # where the field changes its form: steps end there
    jumps: bool  # whether the field compares its state with anything
    cautious: bool  # whether its first step must be examined beforehand: see `caution`
    shortens: bool  # whether it keeps no step length, but takes a shorter step where the last was refused

    def start(self, t: Array, x: State, left: Array, row: Row) -> State:
        """The memory before the first step."""
        ...

    def length(self, t: Array, x: State, left: Array, row: Row) -> Array:
        """The length that the first step would have."""
        ...

    def caution(self, t: Array, x: State, left: Array, row: Row) -> Array | None:
        """How often the first step would be refused; None where each step checks itself."""
        ...

    def step(
        self, t: Array, x: State, left: Array, memory: State, row: Row, refused: Array, *, look: Array | None = None
    ) -> Step:
        """A step of at most `left` (signed), after `refused` steps refused in a row; NaN refuses it.

        Lanes that `look` into a step they have taken move by `left`, whatever the error.
        """
        ...

    def within(self, t: Array, x: State, s: Array, row: Row) -> State:
        """The state a time `s` after `(t, x)`, for `s` up to the length of the step from there."""
        ...


class Arrived(NamedTuple):
    """Where each lane of a row ended."""

    x: State
    t: Float[Array, " w"]
    saved: State  # each (n_ts, w)
    status: Int[Array, " w"]
    steps: Int[Array, " w"]
    rejected: Int[Array, " w"]
    event: Int[Array, " w"]


class _Carry(NamedTuple):
    """The state of the loop over a row of lanes."""

    numbers: tuple[Array, ...]  # see `begin`, packed
    event: Any  # the watch on the event functions, and the start of the present step
    saved: Any  # states, and the index of the next time to be saved


def integrate(
    stepper: Stepper,
    lanes: Lanes,
    constants: Constants,
    *,
    max_steps: int,
    ts: Array | None = None,
    events: int = 0,
) -> Arrived:
    """Move a row of lanes from `t0` to `t1`.

    Args:
        stepper: How a lane steps.
        lanes: The lanes of the row.
        constants: Values that all lanes share.
        max_steps: Largest number of steps of a lane, rejected ones included.
        ts: Times at which states are kept, shared by the lanes.
        events: The number of event functions, the field's last outputs; a lane stops where one changes its sign.
    """
    row = Row(stepper.field, stepper.roots, lanes, constants, stepper.directions)
    k, n = len(lanes.x), len(stepper.field.x)  # numbers of rows with and without the tangents
    packed = pack if k == n else tuple  # tangents are kept apart, which costs less
    inside = lambda t, x: lambda s: stepper.within(t, x, s, ahead(stepper.switches, row, lanes, t)[0])
    save = lambda t, x, saved, until, moved: save_states(
        inside(t, x), saved, t, until, moved, cast(Array, ts), lanes.t1 - lanes.t0
    )

    def running(c: _Carry) -> Array:
        numbers = unpack(c.numbers)
        still = under_way(lanes, numbers)
        if not events:
            return still
        watch = c.event[0]
        return ((still & (_tried(k, numbers) < max_steps)) | watch.looking) & ~watch.hit

    def body(c: _Carry) -> _Carry:
        old, run = unpack(c.numbers), running(c)
        if events:
            new, event, passed = _watched(stepper, row, lanes, old, run, c.event)
            (_, begun), numbers = event, packed(new)
        else:
            numbers, event, begun = packed(advance(stepper, row, lanes, old, run)), (), old[: k + 1]
        saved = c.saved
        if ts is not None:
            new = unpack(numbers)
            saved = save(begun[k], begun[:k], saved, new[k], passed if events else run & (new[k] != old[k]))
        return _Carry(numbers, event, saved)

    first = _Carry(
        packed(begin(stepper, row, lanes)),
        _watch(stepper, row, lanes) if events else (),
        () if ts is None else nothing_saved(ts, lanes.t0, lanes.t1, lanes.x),
    )
    small = not events and ts is None and k <= 3
    c = repeat_while(lambda c: jnp.any(running(c)), body, first, limit=NO_LIMIT if events else max_steps, small=small)
    numbers, saved = unpack(c.numbers), c.saved
    late = under_way(lanes, numbers)
    x, t, event = numbers[:k], numbers[k], jnp.full(row.size, -1, jnp.int32)
    if events:
        late, event = late & ~c.event[0].hit, watching.which(c.event[0])
    status, steps = outcome(stepper, row, lanes, (*x, t, *numbers[k + 1 :]), late)
    if events:
        unknown = (status == int(Status.ok)) & ~c.event[0].hit & watching.never_known(c.event[0])
        status = jnp.where(unknown, int(Status.not_finite), status)
    return Arrived(x, t, saved[0] if saved else (), status, steps, numbers[k + 2].astype(jnp.int32), event)


def _tried(k: int, numbers: State) -> Array:
    """The number of steps that each lane has tried."""
    return count_of(numbers[k + 1]) + jnp.floor(numbers[k + 2]).astype(jnp.int32)


def _watch(stepper: Stepper, row: Row, lanes: Lanes) -> tuple[Watch, State]:
    """The watch on the events, and the beginning of the first step."""
    here = ahead(stepper.switches, row, lanes, lanes.t0)[0]
    n, size = len(stepper.field.x), _size(stepper, row, lanes.t0, lanes.x)
    x = lanes.x[:n]
    velocity = here(lanes.t0, x, stepper.field.outputs[:n])
    h = watching.short(lanes.t1 - lanes.t0, *(functools.reduce(jnp.maximum, map(jnp.abs, v)) for v in (x, velocity)))
    value, rate = _measured(stepper, row, here, lanes.t0, lanes.x)
    later = _measured(stepper, row, here, lanes.t0 + h, tuple(v + h * dot for v, dot in zip(x, velocity, strict=True)))
    first = watching.begin(value, rate, (later[1] - rate) / h[None], size, lanes.t0, lanes.t1)
    return first, (*lanes.x, lanes.t0)


def _size(stepper: Stepper, row: Row, t: Array, x: State) -> Array:
    """What time and each number of the state contribute to the event functions to first order, `(events, w)`."""
    n = len(stepper.field.x)
    given = (t, *x[:n])
    values = lambda *given: jnp.stack(row(given[0], given[1:], stepper.field.outputs[n:]))
    along = lambda part: jnp.abs(jax.jvp(values, given, tuple(p * v for p, v in zip(part, given, strict=True)))[1])
    if n < SEVERAL:
        return jnp.sum(jax.vmap(along)(jnp.eye(n + 1, dtype=t.dtype)), axis=0)
    return along(jnp.ones(n + 1, t.dtype))


def _measured(stepper: Stepper, row: Row, here: Row, t: Array, x: State) -> tuple[Array, Array]:
    """The event functions and their rates of change along the motion, each `(events, w)`."""
    n = len(stepper.field.x)
    velocity = here(t, x[:n], stepper.field.outputs[:n])
    values = lambda t, *x: jnp.stack(row(t, x, stepper.field.outputs[n:]))  # the same before and after a switch
    return jax.jvp(values, (t, *x[:n]), (jnp.ones_like(t), *velocity))


def _watched(
    stepper: Stepper, row: Row, lanes: Lanes, numbers: State, run: Array, event: tuple[Watch, State]
) -> tuple[State, tuple[Watch, State], Array]:
    """One step, or one look into the last one: the loop's numbers, the watch, and which lanes are done with a step.

    Until a lane is done with a step, its numbers are those of the step's end, or of an event's time once one is met.
    """
    k, (watch, begun) = len(lanes.x), event
    looking = run & watch.looking
    begun = where(run & ~looking, numbers[: k + 1], begun)
    there = advance(stepper, row, lanes, (*begun, *numbers[k + 1 :]), run, look=(looking, watch.target))
    moved = run & ~looking & (there[k] != begun[k])
    s = jnp.where(looking, watch.target, there[k] - begun[k])
    here = ahead(stepper.switches, row, lanes, begun[k])[0]
    mark = Mark(s, *_measured(stepper, row, here, there[k], there[:k]))
    if stepper.switches:  # the velocity after the switch, not before it
        watch = watch._replace(end=watch.end._replace(rate=_measured(stepper, row, here, begun[k], begun[:k])[1]))
    watch = watching.stepped(watch, moved, mark)
    known = ~watching.lost(watch, mark) | ~(moved | looking)
    calm, doubtful = watching.passed(watch, moved, mark)
    later = jax.lax.cond(  # most steps need no second evaluation
        jnp.any(doubtful), lambda: watching.after(watch, begun[k], moved, mark), lambda: calm
    )
    kept = run & (~looking | (later.end.s == s))  # a sign has changed by then, so the step ends there
    new = where(kept, there[: k + 1], numbers[: k + 1])
    counted = where(looking, numbers[k + 1 : k + 3], there[k + 1 : k + 3])
    lost = failed(counted[0], jnp.asarray(int(Status.not_finite)))
    later = later._replace(looking=later.looking & known & run)
    new = (*new, jnp.where(known, counted[0], lost), counted[1], *there[k + 3 :])
    return new, (later, begun), (moved | looking) & ~later.looking & known


def begin(stepper: Stepper, row: Row, lanes: Lanes) -> State:
    """What the loop carries for each lane: state, time, steps and status, rejected steps, the stepper's memory."""
    row = ahead(stepper.switches, row, lanes, lanes.t0)[0]
    first = stepper.start(lanes.t0, lanes.x, lanes.t1 - lanes.t0, row)
    zero = jnp.zeros_like(lanes.t0)
    steps = jnp.where(_finite(lanes.x), zero, failed(zero, jnp.asarray(int(Status.start_not_finite))))
    rejected = zero if lanes.refused is None else refused_again(zero, lanes.refused)
    return (*lanes.x, lanes.t0, steps, rejected, *first)


def under_way(lanes: Lanes, numbers: State) -> Array:
    """Which lanes have neither arrived nor failed."""
    k = len(lanes.x)
    return (numbers[k] != lanes.t1) & runs(numbers[k + 1])


def advance(
    stepper: Stepper, row: Row, lanes: Lanes, numbers: State, run: Array, look: tuple[Array, Array] | None = None
) -> State:
    """One step; a stopped lane takes one of length zero, and a lane whose step is refused stays where it is.

    Where `look` is given, it holds which lanes look, and how far into the step from here.

    The new state and time are kept in memory, so that what reads them does not compute them again.
    """
    k, n = len(lanes.x), len(stepper.field.x)
    x, t, steps, rejected, memory = numbers[:k], numbers[k], numbers[k + 1], numbers[k + 2], numbers[k + 3 :]
    here, until = ahead(stepper.switches, row, lanes, t)
    left, row_of = jnp.where(run, until - t, 0), in_a_row(rejected)
    left = left if look is None else jnp.where(look[0], look[1], left)

    def move() -> tuple[State, State]:
        if look is not None:
            taken = stepper.step(t, x, left, memory, here, row_of, look=look[0])
            whole = run & ~look[0] & (taken.length == left)
            after = where(look[0], memory, taken.memory)
            return (*taken.x, jnp.where(whole, until, t + taken.length)), after
        taken = stepper.step(t, x, left, memory, here, row_of)
        return (*taken.x, jnp.where(run & (taken.length == left), until, t + taken.length)), taken.memory

    def apart() -> tuple[State, State]:
        return unpack(row.apart(lambda: pack(move()[0]))), ()

    new, memory = move() if memory else apart()
    if stepper.jumps and k > n:
        new = (*behind(stepper, here, (t, new[k]), x, new[:k]), new[k])
    if stepper.switches:
        new, memory = crossing(stepper, row, lanes, (t, until), new, memory)
    good = _finite(new[:n])
    x, later = where(good, new[:k], x), jnp.where(good, new[k], t)
    moved = later != t
    if stepper.shortens:
        stuck = ~moved & (good | (row_of >= SHORTEST))
        refused = jnp.where(moved, accepted_again(rejected), refused_again(rejected))
    else:
        least = float(jnp.finfo(t.dtype).eps) ** 2 * jnp.abs(lanes.t1 - lanes.t0)  # at t = 0 any length makes progress
        stuck = ~moved & ((t + memory[0] == t) | (memory[0] <= least))
        refused = jnp.where(moved, rejected, rejected + 1)
    counted = jnp.where(
        moved, steps + 1, jnp.where(stuck, failed(steps, jnp.asarray(int(Status.step_too_small))), steps)
    )
    return (*x, later, jnp.where(run, counted, steps), jnp.where(run, refused, rejected), *memory)


def outcome(stepper: Stepper, row: Row, lanes: Lanes, numbers: State, late: Array) -> tuple[Array, Array]:
    """Status and number of steps of each lane, from the loop's last numbers and the lanes it left under way."""
    k, n = len(lanes.x), len(stepper.field.x)
    x, t, steps, memory, t1 = numbers[:k], numbers[k], numbers[k + 1], numbers[k + 3 :], lanes.t1
    row = ahead(stepper.switches, row, lanes, t)[0]
    code = lambda status: jnp.asarray(int(status), jnp.int32)

    def limited() -> Array:
        ahead = memory[0] if memory else stepper.length(t, x, t1 - t, row)
        velocity = lambda v: jnp.stack(row(t, tuple(v), stepper.field.outputs[:n]))
        return limited_by_stability(velocity, jnp.stack(x[:n]), ahead)

    stiff = jax.lax.cond(jnp.any(late), limited, lambda: jnp.zeros_like(late))
    status = status_of(steps)
    status = jnp.where(late, jnp.where(stiff, code(Status.stiff), code(Status.max_steps)), status)
    halted = late | (status == int(Status.step_too_small))
    velocity = lambda: _finite(row(t, x[:n], stepper.field.outputs[:n]))
    known = jax.lax.cond(jnp.any(halted), velocity, lambda: jnp.ones_like(late))
    huge = functools.reduce(jnp.maximum, map(jnp.abs, x[:n])) > float(jnp.finfo(t.dtype).max) ** 0.5
    status = jnp.where(halted & huge, code(Status.not_finite), status)
    status = jnp.where(halted & ~huge & ~known, code(Status.velocity_not_finite), status)
    if k > n:
        status = jnp.where(runs(steps) & ~_finite(x[n:]), code(Status.not_finite), status)
    return status, count_of(steps)


def work(stepper: Stepper, lanes: Lanes, constants: Constants) -> tuple[Float[Array, " w"], Any]:
    """How many first steps each lane's time span holds, by which lanes are sorted, and how often they would be refused.

    The first step is examined here, outside the loop.
    """
    span = lanes.t1 - lanes.t0
    x = lanes.x[: len(stepper.field.x)]
    row = Row(stepper.field, stepper.roots, lanes._replace(x=x), constants)
    row = ahead(stepper.switches, row, lanes, lanes.t0)[0]
    lengths = stepper.length(lanes.t0, x, span, row)
    amount = jnp.abs(span) / jnp.where(lengths > 0, lengths, jnp.inf)
    return amount, stepper.caution(lanes.t0, x, span, row)


def _finite(x: State) -> Array:
    """Whether all numbers of a lane are finite."""
    spread = [jnp.sum(v - v, axis=tuple(range(v.ndim - 1))) if v.ndim > 1 else v - v for v in x]
    return functools.reduce(jnp.add, spread) == 0  # infinities and NaN make NaN
