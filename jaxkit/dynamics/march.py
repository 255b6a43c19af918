"""The lean loop: many lanes step side by side, each with its own step size, the method as data.

A `Method` knows how lanes take one step; `march` repeats it over a chunk of lanes until each has arrived, failed or
met an event. A finished lane takes steps of length zero, so that the loop needs no branches.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxkit.core.status import Status
from jaxkit.dynamics import watch
from jaxkit.dynamics.nodes import Atom
from jaxkit.dynamics.scalars import LANE, ScalarField
from jaxkit.dynamics.stiffness import limited_by_stability

State = tuple[Array, ...]  # the state's numbers, each a row of lanes
Constants = dict[int, Any]


class Lanes(NamedTuple):
    """A row of lanes: states, ends of the time span, and the parameters that differ."""

    x: State
    t0: Float[Array, " w"]
    t1: Float[Array, " w"]
    args: tuple[Array, ...]


class Row:
    """A field with the constants of a row of lanes.

    Args:
        field: The field.
        roots: Its nodes that will be asked for.
        lanes: The row.
        shared: Constants that all lanes share.
    """

    def __init__(self, field: ScalarField, roots: list[Any], lanes: Lanes, shared: Constants) -> None:
        self.field, self.shared, self.size = field, shared, len(lanes.t0)
        own = lambda args: field.constants(LANE, args, shared, roots)
        self.own = jax.vmap(own)(lanes.args) if lanes.args else {}

    def each(self, fn: Callable[..., Any], *rows: Any) -> Any:
        """`fn(constants, *numbers)` of each lane."""
        one = lambda own, *numbers: fn({**self.shared, **own}, *numbers)
        return jax.vmap(one, axis_size=self.size)(self.own, *rows)

    def __call__(self, t: Array, x: State, atoms: Sequence[Atom]) -> State:
        """The values of some of the field's nodes."""
        return self.each(lambda constants, t, x: tuple(self.field(t, x, constants, atoms)), t, x)


class Step(NamedTuple):
    """A step of each lane."""

    x: State
    length: Array  # signed; 0 if the step was rejected
    memory: State  # what the next step needs, e.g. the length to try


class Method(Protocol):
    """How lanes move. All functions are pure, and work on a row of lanes."""

    field: ScalarField  # the velocity, one output a state entry, then the event functions
    roots: list[Any]  # the field's nodes that it uses: what constants are needed

    def start(self, t: Array, x: State, left: Array, row: Row) -> State:
        """The memory before the first step."""
        ...

    def length(self, t: Array, x: State, left: Array, row: Row) -> Array:
        """The length that the first step would have."""
        ...

    def step(self, t: Array, x: State, left: Array, memory: State, row: Row) -> Step:
        """A step of at most `left` (signed)."""
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

    numbers: tuple[Array, ...]  # packed: x, t, steps (see `_failed`), steps rejected, the memory
    count: Int[Array, ""]
    event: Any  # whether an event was met, the length of that step, the event functions' values
    saved: Any  # states; and the number of the next time to be saved


def march(
    method: Method,
    lanes: Lanes,
    constants: Constants,
    *,
    max_steps: int,
    ts: Array | None = None,
    events: int = 0,
) -> Arrived:
    """Move a row of lanes from `t0` to `t1`.

    Args:
        method: How a lane steps.
        lanes: The row.
        constants: Values that all lanes share.
        max_steps: Most steps of a lane, rejected ones included.
        ts: Times at which states are kept, shared by the lanes.
        events: How many of the field's last outputs are event functions; a lane stops where one of them changes sign.
    """
    row, k = Row(method.field, method.roots, lanes, constants), len(lanes.x)
    gauges = method.field.outputs[k:]
    measure = lambda t, x: row(t, x, gauges)
    save = lambda t, x, saved, until, moved: watch.save(
        lambda s: method.within(t, x, s, row), saved, t, until, moved, cast(Array, ts), lanes.t1 - lanes.t0
    )

    def running(c: _Carry) -> Array:
        numbers = _unpack(c.numbers)
        still = (numbers[k] != lanes.t1) & (numbers[k + 1] >= 0)
        return still & ~c.event[0] if events else still

    def body(c: _Carry) -> _Carry:
        old, run = _unpack(c.numbers), running(c)
        x, t = old[:k], old[k]
        packed, event, saved = _pack(_advance(method, row, lanes.t1, old, run)), c.event, c.saved
        if events or ts is not None:
            new = _unpack(packed)
            moved = run & (new[k] != t)
            if events:
                after = measure(new[k], new[:k])
                changed = jnp.stack([watch.crossed(a, b) for a, b in zip(event[2], after, strict=True)])
                hit = moved & jnp.any(changed, axis=0)
                event = (event[0] | hit, jnp.where(hit, new[k] - t, event[1]), after)
                new = (*(jnp.where(hit, a, b) for a, b in zip(old, new[: k + 1], strict=False)), *new[k + 1 :])
                packed = _pack(new)
            if ts is not None:
                saved = save(t, x, saved, new[k], moved)
        return _Carry(packed, c.count + 1, event, saved)

    # Two steps a turn: the second writes where the first has read, and the condition is looked at half as often.
    double = not events and ts is None and k <= 3
    turn = (lambda c: body(body(c))) if double else body
    first = method.start(lanes.t0, lanes.x, lanes.t1 - lanes.t0, row)
    zero, bad = jnp.zeros_like(lanes.t0), jnp.where(_finite(lanes.x), 0, -1.5).astype(lanes.t0.dtype)
    c = _Carry(
        _pack((*lanes.x, lanes.t0, bad, zero, *first)),
        jnp.asarray(0, jnp.int32),
        (zero != 0, zero, measure(lanes.t0, lanes.x)) if events else (),
        () if ts is None else watch.nothing_saved(ts, lanes.t0, lanes.t1, lanes.x),
    )
    c = jax.lax.while_loop(lambda c: jnp.any(running(c)) & (c.count < max_steps), turn, c)
    numbers, late, saved = _unpack(c.numbers), running(c), c.saved
    x, t, event = numbers[:k], numbers[k], jnp.full(row.size, -1, jnp.int32)
    if events:
        hit, length, _ = c.event
        inside = lambda s: method.within(t, x, s, row)
        look = lambda: watch.locate(inside, measure, t, length, hit, x)
        stopped, length, event = jax.lax.cond(jnp.any(hit), look, lambda: (x, jnp.zeros_like(t), event))
        saved = saved if ts is None else save(t, x, saved, t + length, hit)
        x, t = stopped, jnp.where(hit, t + length, t)
    status, steps = _outcome(method, row, (*x, t, *numbers[k + 1 :]), lanes.t1, late)
    return Arrived(x, t, saved[0] if saved else (), status, steps, numbers[k + 2].astype(jnp.int32), event)


def _advance(method: Method, row: Row, t1: Array, numbers: State, run: Array) -> State:
    """One step; a lane that has stopped takes one of length zero, one into nowhere stays where it is.

    `x` and `t` come out of two fused loops; both hold the whole step (`good` looks at the last state), so that they
    round alike: where the length hangs on coefficients that are nothing but rounding, it would differ by percents.
    """
    k = len(method.field.x)
    x, t, steps, rejected, memory = numbers[:k], numbers[k], numbers[k + 1], numbers[k + 2], numbers[k + 3 :]
    left = jnp.where(run, t1 - t, 0)
    taken = method.step(t, x, left, memory, row)
    good = _finite(taken.x)
    later = jnp.where(run & (taken.length == left), t1, t + taken.length)
    later = jnp.where(good, later, t)
    moved = later != t
    stuck = ~moved & (t + taken.memory[0] == t) if memory else ~moved
    counted = jnp.where(moved, steps + 1, jnp.where(stuck, _failed(steps, good), steps))
    new = tuple(jnp.where(good, a, b) for a, b in zip(taken.x, x, strict=True))
    failed = rejected + jnp.where(run & ~moved, 1, 0).astype(t.dtype) if memory else rejected
    return (*new, later, jnp.where(run, counted, steps), failed, *taken.memory)


def _failed(steps: Array, good: Array) -> Array:
    """The count of steps of a lane that is stuck: below zero, not a whole number if the next state is not finite."""
    return -1 - steps - jnp.where(good, 0.0, 0.5).astype(steps.dtype)


def _outcome(method: Method, row: Row, numbers: State, t1: Array, late: Array) -> tuple[Array, Array]:
    """Status and number of steps of each lane, from the loop's last numbers and which lanes it left under way."""
    k = len(method.field.x)
    x, t, steps, memory = numbers[:k], numbers[k], numbers[k + 1], numbers[k + 3 :]
    stuck, whole = steps < 0, jnp.trunc(steps)
    code = lambda status: jnp.asarray(int(status), jnp.int32)
    why = jnp.where(whole == steps, code(Status.step_too_small), code(Status.not_finite))

    def limited() -> Array:
        ahead = memory[0] if memory else method.length(t, x, t1 - t, row)
        return limited_by_stability(lambda v: row(t, v, method.field.outputs[:k]), x, ahead)

    stiff = jax.lax.cond(jnp.any(late), limited, lambda: jnp.zeros_like(stuck))
    out = jnp.where(stiff, code(Status.stiff), code(Status.max_steps))
    status = jnp.where(late, out, jnp.where(stuck, why, code(Status.ok)))
    return status, jnp.where(stuck, -1 - whole, steps).astype(jnp.int32)


def work(method: Method, lanes: Lanes, constants: Constants) -> Float[Array, " w"]:
    """How many first steps each lane's time span holds: what lanes are sorted by."""
    span = lanes.t1 - lanes.t0
    lengths = method.length(lanes.t0, lanes.x, span, Row(method.field, method.roots, lanes, constants))
    return jnp.abs(span) / jnp.where(lengths > 0, lengths, jnp.inf)


def _pack(values: Sequence[Array]) -> tuple[Array, ...]:
    """Two numbers in one complex one: XLA computes a fused loop once for each array that comes out of it."""
    pairs = [jax.lax.complex(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
    return (*pairs, *values[len(values) - len(values) % 2 :])


def _unpack(packed: Sequence[Array]) -> State:
    values = []
    for value in packed:
        values.extend((value.real, value.imag) if jnp.iscomplexobj(value) else (value,))
    return tuple(values)


def _finite(x: State) -> Array:
    total = x[0] - x[0]
    for value in x[1:]:
        total = total + (value - value)
    return total == 0  # infinities and NaN make NaN
