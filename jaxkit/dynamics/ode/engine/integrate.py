"""The lean loop: many lanes step side by side, each with its own step size, the method as data.

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
from jaxkit.dynamics.ode.engine.events import crossed, locate, nothing_saved
from jaxkit.dynamics.ode.engine.events import save as save_states
from jaxkit.dynamics.ode.engine.stiffness import limited_by_stability
from jaxkit.dynamics.ode.engine.switches import Switches, ahead, crossing

SHORTEST = 30  # refused in a row: the step is 2^-60 of what it was


class Stepper(Protocol):
    """How lanes move. All functions are pure, and work on a row of lanes."""

    field: ScalarField  # the velocity, one output a state entry, then the event functions
    roots: list[Any]  # the field's nodes that it uses: what constants are needed
    directions: Sequence[Any]  # of the tangents, in each parameter that differs among lanes: see `Row`
    switches: Switches  # where the field changes its form: steps end there
    cautious: bool  # whether its first step must be looked at beforehand: see `caution`
    shortens: bool  # whether it keeps no length of its own, but takes a shorter step where the last was refused

    def start(self, t: Array, x: State, left: Array, row: Row) -> State:
        """The memory before the first step."""
        ...

    def length(self, t: Array, x: State, left: Array, row: Row) -> Array:
        """The length that the first step would have."""
        ...

    def caution(self, t: Array, x: State, left: Array, row: Row) -> Array | None:
        """How often the first step would be refused; None where each step tells."""
        ...

    def step(self, t: Array, x: State, left: Array, memory: State, row: Row, refused: Array) -> Step:
        """A step of at most `left` (signed), after so many that were refused in a row; NaN refuses it."""
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
    event: Any  # whether an event was met, the length of that step, the event functions' values
    saved: Any  # states; and the number of the next time to be saved


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
        lanes: The row.
        constants: Values that all lanes share.
        max_steps: Most steps of a lane, rejected ones included.
        ts: Times at which states are kept, shared by the lanes.
        events: How many of the field's last outputs are event functions; a lane stops where one of them changes sign.
    """
    row = Row(stepper.field, stepper.roots, lanes, constants, stepper.directions)
    k, n = len(lanes.x), len(stepper.field.x)  # rows with and without the tangents
    packed = pack if k == n else tuple  # tangents are kept apart, which costs less
    measure = lambda t, x: row(t, x[:n], stepper.field.outputs[n:])
    inside = lambda t, x: lambda s: stepper.within(t, x, s, ahead(stepper.switches, row, lanes, t)[0])
    save = lambda t, x, saved, until, moved: save_states(
        inside(t, x), saved, t, until, moved, cast(Array, ts), lanes.t1 - lanes.t0
    )

    def running(c: _Carry) -> Array:
        still = under_way(lanes, unpack(c.numbers))
        return still & ~c.event[0] if events else still

    def body(c: _Carry) -> _Carry:
        old, run = unpack(c.numbers), running(c)
        numbers, event, saved = packed(advance(stepper, row, lanes, old, run)), c.event, c.saved
        if events or ts is not None:
            new = unpack(numbers)
            moved = run & (new[k] != old[k])
            if events:
                new, event = _stopped(k, old, new, event, moved, measure(new[k], new[:k]))
                numbers = packed(new)
            if ts is not None:
                saved = save(old[k], old[:k], saved, new[k], moved)
        return _Carry(numbers, event, saved)

    zero = jnp.zeros_like(lanes.t0)
    first = _Carry(
        packed(begin(stepper, row, lanes)),
        (zero != 0, zero, measure(lanes.t0, lanes.x)) if events else (),
        () if ts is None else nothing_saved(ts, lanes.t0, lanes.t1, lanes.x),
    )
    small = not events and ts is None and k <= 3
    c = repeat_while(lambda c: jnp.any(running(c)), body, first, limit=max_steps, small=small)
    numbers, late, saved = unpack(c.numbers), running(c), c.saved
    x, t, event = numbers[:k], numbers[k], jnp.full(row.size, -1, jnp.int32)
    if events:
        hit, length, _ = c.event
        look = lambda: locate(inside(t, x), measure, t, length, hit, x)
        stopped, length, event = jax.lax.cond(jnp.any(hit), look, lambda: (x, jnp.zeros_like(t), event))
        saved = saved if ts is None else save(t, x, saved, t + length, hit)
        x, t = stopped, jnp.where(hit, t + length, t)
    status, steps = outcome(stepper, row, lanes, (*x, t, *numbers[k + 1 :]), late)
    return Arrived(x, t, saved[0] if saved else (), status, steps, numbers[k + 2].astype(jnp.int32), event)


def _stopped(k: int, old: State, new: State, event: Any, moved: Array, after: State) -> tuple[State, Any]:
    """Lanes in whose step an event function changed its sign stay where the step began."""
    changed = jnp.stack([crossed(a, b) for a, b in zip(event[2], after, strict=True)])
    hit = moved & jnp.any(changed, axis=0)
    event = (event[0] | hit, jnp.where(hit, new[k] - old[k], event[1]), after)
    return (*where(hit, old[: k + 1], new[: k + 1]), *new[k + 1 :]), event


def begin(stepper: Stepper, row: Row, lanes: Lanes) -> State:
    """What the loop carries of each lane: state, time, steps with the status, steps rejected, the stepper's memory."""
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


def advance(stepper: Stepper, row: Row, lanes: Lanes, numbers: State, run: Array) -> State:
    """One step; a lane that has stopped takes one of length zero, one whose step is refused stays where it is.

    The new state and time are kept in memory before they are looked at: what looks at them does not compute them again.
    """
    k, n = len(lanes.x), len(stepper.field.x)
    x, t, steps, rejected, memory = numbers[:k], numbers[k], numbers[k + 1], numbers[k + 2], numbers[k + 3 :]
    here, until = ahead(stepper.switches, row, lanes, t)
    left, row_of = jnp.where(run, until - t, 0), in_a_row(rejected)

    def move() -> tuple[State, State]:
        taken = stepper.step(t, x, left, memory, here, row_of)
        return (*taken.x, jnp.where(run & (taken.length == left), until, t + taken.length)), taken.memory

    def apart() -> tuple[State, State]:
        return unpack(row.apart(lambda: pack(move()[0]))), ()

    new, memory = move() if memory else apart()
    if stepper.switches:
        new, memory = crossing(stepper, row, lanes, (t, until), new, memory)
    good = _finite(new[:n])
    x, later = where(good, new[:k], x), jnp.where(good, new[k], t)
    moved = later != t
    if stepper.shortens:
        stuck = ~moved & (good | (row_of >= SHORTEST))
        refused = jnp.where(moved, accepted_again(rejected), refused_again(rejected))
    else:
        least = float(jnp.finfo(t.dtype).eps) ** 2 * jnp.abs(lanes.t1 - lanes.t0)  # at t = 0 any length moves on
        stuck = ~moved & ((t + memory[0] == t) | (memory[0] <= least))
        refused = jnp.where(moved, rejected, rejected + 1)
    counted = jnp.where(
        moved, steps + 1, jnp.where(stuck, failed(steps, jnp.asarray(int(Status.step_too_small))), steps)
    )
    return (*x, later, jnp.where(run, counted, steps), jnp.where(run, refused, rejected), *memory)


def outcome(stepper: Stepper, row: Row, lanes: Lanes, numbers: State, late: Array) -> tuple[Array, Array]:
    """Status and number of steps of each lane, from the loop's last numbers and which lanes it left under way."""
    k, n = len(lanes.x), len(stepper.field.x)
    x, t, steps, memory, t1 = numbers[:k], numbers[k], numbers[k + 1], numbers[k + 3 :], lanes.t1
    row = ahead(stepper.switches, row, lanes, t)[0]
    code = lambda status: jnp.asarray(int(status), jnp.int32)

    def limited() -> Array:
        ahead = memory[0] if memory else stepper.length(t, x, t1 - t, row)
        return limited_by_stability(lambda v: row(t, v, stepper.field.outputs[:n]), x[:n], ahead)

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
    """How many first steps each lane's time span holds: what lanes are sorted by; and how often they would be refused.

    What is seen of a first step is seen here, outside of the loop.
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
