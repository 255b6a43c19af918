"""The lean loop: many lanes step side by side, each with its own step size, the method as data.

A `Method` knows how one lane takes one step; `march` repeats it over a chunk of lanes until each has arrived, failed or
met an event. A finished lane takes steps of length zero, so that the loop needs no branches.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxkit.core.status import Status
from jaxkit.dynamics.scalars import LANE, ScalarField
from jaxkit.dynamics.schemes import Tableau
from jaxkit.dynamics.stiffness import limited_by_stability

State = tuple[Array, ...]  # one number a state entry (a row of lanes inside the loop)
Constants = dict[int, Any]


class Step(NamedTuple):
    """One lane's step."""

    x: State
    length: Array  # signed; 0 if the step was rejected
    memory: State  # what the next step needs, e.g. the length to try


class Method(Protocol):
    """How one lane moves. All functions are pure and see the numbers of one lane."""

    field: ScalarField  # the velocity, one output a state entry, then the event functions
    roots: list[Any]  # the field's nodes that it uses: what constants are needed

    def start(self, t: Array, x: State, left: Array, constants: Constants) -> State:
        """The memory before the first step."""
        ...

    def length(self, t: Array, x: State, left: Array, constants: Constants) -> Array:
        """The length that the first step would have."""
        ...

    def step(self, t: Array, x: State, left: Array, memory: State, constants: Constants) -> Step:
        """A step of at most `left` (signed)."""
        ...

    def within(self, t: Array, x: State, s: Array, constants: Constants) -> State:
        """The state a time `s` after `(t, x)`, for `s` up to the length of the step from there."""
        ...


class Lanes(NamedTuple):
    """A row of lanes: states, ends of the time span, and the parameters that differ."""

    x: State
    t0: Float[Array, " w"]
    t1: Float[Array, " w"]
    args: tuple[Array, ...]


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

    numbers: tuple[Array, ...]  # packed: x, t, steps (-1 - steps once a lane is stuck), steps rejected, the memory
    count: Int[Array, ""]
    event: Any  # which event; and the value of each event function
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
    field, size, k = method.field, len(lanes.t0), len(lanes.x)
    ours = jax.vmap(lambda args: field.constants(LANE, args, constants, method.roots))(lanes.args) if lanes.args else {}
    over = lambda fn: lambda *rows: jax.vmap(lambda own, *v: fn(*v, {**constants, **own}), axis_size=size)(ours, *rows)
    within = over(method.within)
    gauges = field.outputs[k:]
    measure = over(lambda t, x, own: tuple(field(t, x, own, gauges))) if events else None

    def running(c: _Carry) -> Array:
        numbers = _unpack(c.numbers)
        still = (numbers[k] != lanes.t1) & (numbers[k + 1] >= 0)
        return still & (c.event[0] < 0) if events else still

    def one(run: Array, t1: Array, numbers: State, own: Constants) -> State:
        """One lane's step; a lane that has stopped takes a step of length zero, one into nowhere stays where it is."""
        x, t, steps, rejected, memory = numbers[:k], numbers[k], numbers[k + 1], numbers[k + 2], numbers[k + 3 :]
        left = jnp.where(run, t1 - t, 0)
        taken = method.step(t, x, left, memory, own)
        good = _finite(taken.x)
        later = jnp.where(run & (taken.length == left), t1, t + taken.length)
        later = jnp.where(good, later, t)
        moved = later != t
        stuck = ~moved & (t + taken.memory[0] == t) if memory else ~moved
        counted = jnp.where(moved, steps + 1, jnp.where(stuck, -1 - steps, steps))
        new = tuple(jnp.where(good, a, b) for a, b in zip(taken.x, x, strict=True))
        failed = rejected + jnp.where(run & ~moved, 1, 0).astype(t.dtype) if memory else rejected
        return (*new, later, jnp.where(run, counted, steps), failed, *taken.memory)

    def body(c: _Carry) -> _Carry:
        old, run = _unpack(c.numbers), running(c)
        packed = jax.lax.optimization_barrier(_pack(over(one)(run, lanes.t1, old)))
        event, saved = c.event, c.saved
        if measure is not None or ts is not None:
            x, t, new = old[:k], old[k], _unpack(packed)
            moved = run & (new[k] != t)
            if measure is not None:
                new, event = _events(measure, lambda s: within(t, x, s), c.event, t, new, k, moved)
                packed = _pack(new)
            if ts is not None:
                saved = _save(lambda s: within(t, x, s), c.saved, t, new[k], moved, ts, lanes.t1 - lanes.t0)
        return _Carry(packed, c.count + 1, event, saved)

    # Two steps a turn: the second writes where the first has read, and the condition is looked at half as often.
    double = measure is None and ts is None and k <= 3
    turn = (lambda c: body(body(c))) if double else body
    first = over(method.start)(lanes.t0, lanes.x, lanes.t1 - lanes.t0)
    zero, bad = jnp.zeros_like(lanes.t0), jnp.where(_finite(lanes.x), 0, -1).astype(lanes.t0.dtype)
    c = _Carry(
        _pack((*lanes.x, lanes.t0, bad, zero, *first)),
        jnp.asarray(0, jnp.int32),
        () if measure is None else (jnp.full(size, -1, jnp.int32), measure(lanes.t0, lanes.x)),
        () if ts is None else _empty(ts, lanes),
    )
    c = jax.lax.while_loop(lambda c: jnp.any(running(c)) & (c.count < max_steps), turn, c)
    x, t, steps, rejected, memory = (lambda v: (v[:k], v[k], v[k + 1], v[k + 2], v[k + 3 :]))(_unpack(c.numbers))
    stuck = steps < 0
    again = jax.lax.cond(
        jnp.any(stuck), lambda: _finite(over(method.step)(t, x, lanes.t1 - t, memory).x), lambda: jnp.ones_like(stuck)
    )
    code = lambda status: jnp.asarray(int(status), jnp.int32)
    why = jnp.where(again & _finite(x), code(Status.step_too_small), code(Status.not_finite))
    late = running(c)
    ahead = lambda: memory[0] if memory else over(method.length)(t, x, lanes.t1 - t)
    velocity = lambda v: tuple(over(lambda *a: field(a[0], a[1], a[2], field.outputs[:k]))(t, v))
    stiff = jax.lax.cond(
        jnp.any(late), lambda: limited_by_stability(velocity, x, ahead()), lambda: jnp.zeros_like(stuck)
    )
    out = jnp.where(stiff, code(Status.stiff), code(Status.max_steps))
    status = jnp.where(late, out, jnp.where(stuck, why, code(Status.ok)))
    whole = lambda v: v.astype(jnp.int32)
    event = c.event[0] if events else jnp.full(size, -1, jnp.int32)
    taken = jnp.where(stuck, -1 - steps, steps)
    return Arrived(x, t, c.saved[0] if c.saved else (), status, whole(taken), whole(rejected), event)


def work(method: Method, lanes: Lanes, constants: Constants) -> Float[Array, " w"]:
    """How many first steps each lane's time span holds: what lanes are sorted by."""
    args = lanes.args
    own = jax.vmap(lambda a: method.field.constants(LANE, a, constants, method.roots))(args) if args else {}
    length = lambda own, t, x, left: method.length(t, x, left, {**constants, **own})
    span = lanes.t1 - lanes.t0
    lengths = jax.vmap(length, axis_size=len(span))(own, lanes.t0, lanes.x, span)
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


def _empty(ts: Array, lanes: Lanes) -> tuple[State, Array]:
    """Nothing saved yet, and the first of `ts` that lies ahead."""
    size = len(lanes.t0)
    past = jnp.sign(lanes.t1 - lanes.t0)[None] * (ts[:, None] - lanes.t0[None])
    number = jnp.sum(past < 0, axis=0, dtype=jnp.int32)
    return tuple(jnp.full((len(ts), size), jnp.inf, v.dtype) for v in lanes.x), number


def _finite(x: State) -> Array:
    total = x[0] - x[0]
    for value in x[1:]:
        total = total + (value - value)
    return total == 0  # infinities and NaN make NaN


def _crossed(before: Array, after: Array) -> Array:
    return (before * after < 0) | ((after == 0) & (before != 0))


def _events(
    measure: Callable[..., tuple[Array, ...]],
    inside: Callable[[Array], State],
    carried: tuple[Array, tuple[Array, ...]],
    t: Array,
    new: State,
    k: int,
    moved: Array,
) -> tuple[State, Any]:
    """Cut the step from `t` at the earliest sign change: the numbers, and what to carry."""
    before, after = carried[1], measure(new[k], new[:k])
    event, length = jnp.full(t.shape, -1, jnp.int32), new[k] - t
    whole = length
    for number, (old, now) in enumerate(zip(before, after, strict=True)):
        crossed = moved & ((old * now < 0) | ((now == 0) & (old != 0)))
        at = _locate(lambda s, number=number: measure(t + s, inside(s))[number], old, whole, crossed)
        sooner = crossed & ((event < 0) | (jnp.abs(at) < jnp.abs(length)))
        length, event = jnp.where(sooner, at, length), jnp.where(sooner, jnp.asarray(number, jnp.int32), event)
    hit = event >= 0
    stopped = jax.lax.cond(jnp.any(hit), inside, lambda s: new[:k], length)
    numbers = tuple(jnp.where(hit, a, b) for a, b in zip((*stopped, t + length), new[: k + 1], strict=True))
    return (*numbers, *new[k + 1 :]), (jnp.where(hit, event, carried[0]), after)


def _locate(fn: Callable[[Array], Array], before: Array, length: Array, hit: Array) -> Array:
    """Where `fn` changes sign in `[0, length]`, by the Illinois rule with a bisection every third time."""
    eps = float(jnp.finfo(length.dtype).eps)

    def wide(c: tuple) -> Array:
        low, high, _, _, count, _ = c
        return jnp.any(hit & (jnp.abs(high - low) > 4 * eps * jnp.abs(length))) & (count < 80)

    def narrow(c: tuple) -> tuple:
        low, high, f_low, f_high, count, side = c
        secant = high - f_high * (high - low) / jnp.where(f_high == f_low, 1, f_high - f_low)
        middle = jnp.where(count % 3 == 2, (low + high) / 2, secant)
        good = (jnp.abs(middle - low) <= jnp.abs(high - low)) & (jnp.abs(high - middle) <= jnp.abs(high - low))
        middle = jnp.where(good, middle, (low + high) / 2)
        value = fn(middle)
        left = f_low * value > 0
        f_high_new = jnp.where(left, jnp.where(side == 1, f_high / 2, f_high), value)
        f_low_new = jnp.where(left, value, jnp.where(side == -1, f_low / 2, f_low))
        exact = value == 0
        low_new = jnp.where(left | exact, middle, low)
        high_new = jnp.where(left & ~exact, high, middle)
        return low_new, high_new, f_low_new, f_high_new, count + 1, jnp.where(left, 1, -1).astype(jnp.int32)

    end = jax.lax.cond(jnp.any(hit), fn, lambda s: before, length)
    start = (jnp.zeros_like(length), length, before, end, jnp.asarray(0, jnp.int32), jnp.zeros(length.shape, jnp.int32))
    return jax.lax.while_loop(wide, narrow, start)[1]


def _save(
    inside: Callable[[Array], State],
    carried: tuple[State, Array],
    before: Array,
    t: Array,
    moved: Array,
    ts: Array,
    forward: Array,
) -> tuple[State, Array]:
    """Keep the states at those `ts` that this step passed."""
    lanes, last = jnp.arange(len(t)), len(ts)

    def due(number: Array) -> tuple[Array, Array]:
        time = ts[jnp.minimum(number, last - 1)]
        return moved & (number < last) & (jnp.sign(forward) * (time - t) <= 0), time

    def keep(carry: tuple[State, Array]) -> tuple[State, Array]:
        saved, number = carry
        now, time = due(number)
        x = inside(jnp.where(now, time - before, 0))
        row = jnp.where(now, number, last)  # out of range: dropped
        saved = tuple(s.at[row, lanes].set(v, mode="drop") for s, v in zip(saved, x, strict=True))
        return saved, number + now.astype(jnp.int32)

    return jax.lax.while_loop(lambda s: jnp.any(due(s[1])[0]), keep, carried)


class RungeKutta:
    """An embedded explicit pair: `x' = x + h sum b_i k_i`, the error estimate beside it.

    Args:
        field: The velocity.
        tableau: Coefficients with an error estimate.
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step.
        controlled: Number of leading state entries whose error counts; None for all.
    """

    def __init__(self, field: ScalarField, tableau: Tableau, rtol: float, atol: float, controlled: int | None = None):
        self.field, self.tableau, self.rtol, self.atol = field, tableau, rtol, atol
        self.controlled = len(field.x) if controlled is None else controlled
        self.reuses = bool(np.allclose(tableau.a[-1], tableau.b, atol=1e-15)) and tableau.c[-1] == 1
        self.roots = list(field.outputs)
        self.velocity = field.outputs[: len(field.x)]

    def start(self, t: Array, x: State, left: Array, constants: Constants) -> State:
        """The first step of Hairer, Nørsett and Wanner (II.4), with the Euler step's second derivative."""
        rate = self.field(t, x, constants, self.velocity)
        size, speed = self._norm(x, x), self._norm(rate, x)
        trial = jnp.where((size < 1e-5) | (speed < 1e-5), 1e-6, 0.01 * size / jnp.maximum(speed, 1e-30))
        trial = jnp.minimum(trial, jnp.abs(left))
        signed = trial * jnp.sign(left)
        later = self.field(
            t + signed, tuple(v + signed * k for v, k in zip(x, rate, strict=True)), constants, self.velocity
        )
        bend = self._norm([a - b for a, b in zip(later, rate, strict=True)], x) / jnp.where(trial > 0, trial, 1)
        most = jnp.maximum(speed, bend)
        h = jnp.where(
            most <= 1e-15, jnp.maximum(1e-6, trial * 1e-3), (0.01 / jnp.maximum(most, 1e-30)) ** (1 / self.order)
        )
        return (jnp.minimum(100 * trial, h), *(rate if self.reuses else ()))

    def length(self, t: Array, x: State, left: Array, constants: Constants) -> Array:
        """The length that the first step would have."""
        return self.start(t, x, left, constants)[0]

    @property
    def order(self) -> int:
        """Order of accuracy."""
        return self.tableau.order

    def _norm(self, values: Sequence[Array], *scales: State) -> Array:
        """Root mean square of `values` in units of the tolerance at the larger of the states."""
        total = jnp.zeros_like(values[0])
        for i in range(self.controlled):
            size = jnp.abs(scales[0][i])
            for other in scales[1:]:
                size = jnp.maximum(size, jnp.abs(other[i]))
            total = total + (values[i] / (self.atol + self.rtol * size)) ** 2
        return jnp.sqrt(total / self.controlled)

    def stages(self, t: Array, x: State, h: Array, constants: Constants, first: State = ()) -> list[list[Array]]:
        """The velocities of all stages."""
        a, c = self.tableau.a, self.tableau.c
        rates = [list(first) if first else self.field(t, x, constants, self.velocity)]
        for i in range(1, len(c)):
            moved = self._combine(x, h, a[i, :i], rates)
            rates.append(self.field(t + float(c[i]) * h, moved, constants, self.velocity))
        return rates

    @staticmethod
    def _combine(x: State, h: Array, weights: np.ndarray, rates: list[list[Array]]) -> State:
        return tuple(v + h * _weighted(weights, [rate[i] for rate in rates]) for i, v in enumerate(x))

    def step(self, t: Array, x: State, left: Array, memory: State, constants: Constants) -> Step:
        """One step, accepted where the error estimate is within the tolerance."""
        h, first = memory[0], memory[1:]
        last = h >= jnp.abs(left)
        signed = jnp.where(last, left, h * jnp.sign(left))
        rates = self.stages(t, x, signed, constants, first)
        new = self._combine(x, signed, self.tableau.b, rates)
        gaps = [signed * _weighted(self.tableau.error, [rate[i] for rate in rates]) for i in range(len(x))]
        error = self._norm(gaps, x, new)
        accepted = error <= 1
        tiny = jnp.where(jnp.isfinite(error), jnp.maximum(error, 1e-10), 1e10)
        factor = jnp.clip(0.9 * rough_exp2(-rough_log2(tiny) / self.order), 0.2, 10.0)
        grown = jnp.abs(signed) * jnp.where(accepted, factor, jnp.minimum(factor, 0.9))
        grown = jnp.where(last & accepted, jnp.maximum(grown, h), grown)
        pick = lambda a, b: tuple(jnp.where(accepted, u, v) for u, v in zip(a, b, strict=True))
        kept = pick(rates[-1], first) if self.reuses else ()
        return Step(pick(new, x), jnp.where(accepted, signed, 0), (grown, *kept))

    def within(self, t: Array, x: State, s: Array, constants: Constants) -> State:
        """A step of length `s` again: as accurate as the step itself."""
        return self._combine(x, s, self.tableau.b, self.stages(t, x, s, constants))


def _weighted(weights: Any, values: Sequence[Array]) -> Array:
    total = None
    for weight, value in zip(np.asarray(weights, float), values, strict=True):
        if weight:
            term = jnp.asarray(weight, value.dtype) * value
            total = term if total is None else total + term
    return jnp.zeros_like(values[0]) if total is None else total


def _bits(dtype: Any) -> tuple[Any, int, int]:
    """Integer type, mantissa bits and exponent bias of a floating type."""
    info = jnp.finfo(dtype)
    return (jnp.int64 if info.bits == 64 else jnp.int32), info.nmant, -int(info.minexp) + 1


def rough_log2(x: Array) -> Array:
    """Base-2 logarithm to 0.01, from the bits of the number: enough for a step length, and cheap."""
    integer, mantissa, bias = _bits(x.dtype)
    scaled = jax.lax.bitcast_convert_type(x, integer).astype(x.dtype) * 2.0**-mantissa
    fraction = scaled - jnp.floor(scaled)
    return scaled - bias + 0.344 * fraction * (1 - fraction)


def rough_exp2(x: Array) -> Array:
    """Power of two to 0.5%, into the bits of the number."""
    integer, mantissa, bias = _bits(x.dtype)
    x = jnp.clip(x, 2.0 - bias, bias - 1.0)
    fraction = x - jnp.floor(x)
    scaled = (x + bias - 0.3372 * fraction * (1 - fraction)) * 2.0**mantissa
    return jax.lax.bitcast_convert_type(scaled.astype(integer), x.dtype)
