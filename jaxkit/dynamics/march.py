"""The lean loop: many lanes step side by side, each with its own step size, the method as data.

A `Method` knows how one lane takes one step; `march` repeats it over a chunk of lanes until each has arrived, failed or
met an event. A finished lane takes steps of length zero, so that the loop needs no branches.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxkit.core.status import Status
from jaxkit.dynamics.scalars import LANE, ScalarField
from jaxkit.dynamics.schemes import Tableau

State = tuple[Array, ...]  # one number a state entry (a row of lanes inside the loop)
Constants = dict[int, Any]


class Step(NamedTuple):
    """One lane's step: the new state, what the next step needs, and what `within` needs."""

    x: State
    h: Array  # signed length taken; 0 if rejected
    h_next: Array  # magnitude to try next
    memory: Any
    dense: Any
    accepted: Array


class Method(Protocol):
    """How one lane moves. All functions are pure and see the numbers of one lane."""

    field: ScalarField  # the velocity, one output a state entry, then the event functions
    roots: list[Any]  # the field's nodes that it uses: what constants are needed

    def start(self, t: Array, x: State, left: Array, constants: Constants) -> tuple[Array, Any]:
        """First step length to try, and the memory."""
        ...

    def step(self, t: Array, x: State, left: Array, h: Array, memory: Any, constants: Constants) -> Step:
        """A step of at most `left` (signed)."""
        ...

    def within(self, t: Array, x: State, s: Array, dense: Any, constants: Constants) -> State:
        """The state a time `s` after the beginning of the last step."""
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


class Carry(NamedTuple):
    """The state of the loop over a row of lanes."""

    x: State
    t: Array
    h: Array
    memory: Any
    running: Bool[Array, " w"]
    status: Array
    steps: Array
    rejected: Array
    event: Array
    signs: tuple[Array, ...]  # value of each event function
    saved: State
    next_save: Array


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
    field, size = method.field, len(lanes.t0)
    ours = jax.vmap(lambda args: field.constants(LANE, args, constants, method.roots))(lanes.args) if lanes.args else {}
    over = lambda fn: lambda *rows: jax.vmap(lambda own, *v: fn(*v, {**constants, **own}), axis_size=size)(ours, *rows)
    first_step, step, within = over(method.start), over(method.step), over(method.within)
    gauges = field.outputs[len(lanes.x) :]
    measure = over(lambda t, x, own: tuple(field(t, x, own, gauges))) if events else lambda t, x: ()

    code = lambda status: jnp.full(size, int(status), jnp.int32)
    h, memory = first_step(lanes.t0, lanes.x, lanes.t1 - lanes.t0)
    finite = _finite(lanes.x) & jnp.isfinite(h)
    saved = () if ts is None else tuple(jnp.full((len(ts), size), jnp.inf, v.dtype) for v in lanes.x)
    carry = Carry(
        x=lanes.x,
        t=lanes.t0,
        h=h,
        memory=memory,
        running=finite & (lanes.t0 != lanes.t1),
        status=jnp.where(finite, code(Status.ok), code(Status.not_finite)),
        steps=code(0),
        rejected=code(0),
        event=code(-1),
        signs=measure(lanes.t0, lanes.x),
        saved=saved,
        next_save=code(0),
    )
    forward = jnp.sign(lanes.t1 - lanes.t0)

    def body(c: Carry) -> Carry:
        left = jnp.where(c.running, lanes.t1 - c.t, 0)
        taken = step(c.t, c.x, left, c.h, c.memory)
        x, length, event, signs, accepted = taken.x, taken.h, c.event, c.signs, taken.accepted
        good = _finite(x)
        arrived = length == left
        if events:
            signs = measure(c.t + length, x)
            inside = lambda s: within(c.t, c.x, s, taken.dense)
            crossed = tuple(c.running & accepted & good & _crossed(a, b) for a, b in zip(c.signs, signs, strict=True))
            length, event = _first_event(inside, lambda s, x: measure(c.t + s, x), crossed, c.signs, length)
            hit = event >= 0
            event = jnp.where(hit, event, c.event)
            moved = jax.lax.cond(jnp.any(hit), inside, lambda s: x, length)
            x = tuple(jnp.where(hit, a, b) for a, b in zip(moved, x, strict=True))
            arrived = arrived & ~hit
        t = jnp.where(arrived, lanes.t1, c.t + length)
        moves = c.running & accepted & good
        keep, next_save = c.saved, c.next_save
        if ts is not None:
            keep, next_save = _save(lambda s: within(c.t, c.x, s, taken.dense), c, t, moves, ts, forward)
        steps, rejected = c.steps + moves.astype(jnp.int32), c.rejected + (c.running & ~accepted).astype(jnp.int32)
        stuck = c.running & (c.t + forward * taken.h_next == c.t) & ~arrived
        stuck = stuck | (moves & (t == c.t) & (event < 0))
        status = jnp.where(c.running & ~good, int(Status.not_finite), c.status)
        status = jnp.where(stuck & good, int(Status.step_too_small), status).astype(jnp.int32)
        status = jnp.where(
            c.running & (steps + rejected >= max_steps) & ~(moves & arrived) & (status == 0) & (event < 0),
            int(Status.max_steps),
            status,
        ).astype(jnp.int32)
        running = c.running & (status == 0) & (event < 0) & ~(moves & arrived)
        pick = lambda new, old: jnp.where(moves, new, old)
        return Carry(
            x=jax.tree.map(pick, x, c.x),
            t=pick(t, c.t),
            h=jnp.where(c.running, taken.h_next, c.h),
            memory=jax.tree.map(pick, taken.memory, c.memory),
            running=running,
            status=status,
            steps=steps,
            rejected=rejected,
            event=event,
            signs=jax.tree.map(pick, signs, c.signs),
            saved=keep,
            next_save=next_save,
        )

    c = jax.lax.while_loop(lambda c: jnp.any(c.running), body, carry)
    return Arrived(c.x, c.t, c.saved, c.status, c.steps, c.rejected, c.event)


def _finite(x: State) -> Array:
    total = x[0] - x[0]
    for value in x[1:]:
        total = total + (value - value)
    return total == 0  # infinities and NaN make NaN


def _crossed(before: Array, after: Array) -> Array:
    return (before * after < 0) | ((after == 0) & (before != 0))


def _first_event(
    inside: Callable[[Array], State],
    measure: Callable[[Array, State], tuple[Array, ...]],
    crossed: tuple[Array, ...],
    signs: tuple[Array, ...],
    length: Array,
) -> tuple[Array, Array]:
    """The earliest sign change in a step: how far, and which event (-1: none)."""
    event = jnp.full(length.shape, -1, jnp.int32)
    best = length
    for number, (hit, before) in enumerate(zip(crossed, signs, strict=True)):
        at = _locate(lambda s, number=number: measure(s, inside(s))[number], before, length, hit)
        sooner = hit & ((event < 0) | (jnp.abs(at) < jnp.abs(best)))
        best, event = jnp.where(sooner, at, best), jnp.where(sooner, number, event).astype(jnp.int32)
    return best, event


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
    inside: Callable[[Array], State], c: Carry, t: Array, moves: Array, ts: Array, forward: Array
) -> tuple[State, Array]:
    """Keep the states at those `ts` that this step passed."""
    lanes, last = jnp.arange(len(t)), len(ts)

    def due(next_save: Array) -> Array:
        time = ts[jnp.minimum(next_save, last - 1)]
        return moves & (next_save < last) & (forward * (time - t) <= 0)

    def keep(carry: tuple[State, Array]) -> tuple[State, Array]:
        saved, next_save = carry
        now = due(next_save)
        time = ts[jnp.minimum(next_save, last - 1)]
        x = inside(jnp.where(now, time - c.t, 0))
        row = jnp.where(now, next_save, last)  # out of range: dropped
        saved = tuple(s.at[row, lanes].set(v, mode="drop") for s, v in zip(saved, x, strict=True))
        return saved, next_save + now.astype(jnp.int32)

    return jax.lax.while_loop(lambda s: jnp.any(due(s[1])), keep, (c.saved, c.next_save))


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

    def start(self, t: Array, x: State, left: Array, constants: Constants) -> tuple[Array, Any]:
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
        return jnp.minimum(100 * trial, h), tuple(rate) if self.reuses else ()

    @property
    def order(self) -> int:
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

    def stages(self, t: Array, x: State, h: Array, first: Any, constants: Constants) -> list[list[Array]]:
        """The velocities of all stages."""
        a, c = self.tableau.a, self.tableau.c
        rates = [list(first) if self.reuses else self.field(t, x, constants, self.velocity)]
        for i in range(1, len(c)):
            moved = self._combine(x, h, a[i, :i], rates)
            rates.append(self.field(t + float(c[i]) * h, moved, constants, self.velocity))
        return rates

    @staticmethod
    def _combine(x: State, h: Array, weights: np.ndarray, rates: list[list[Array]]) -> State:
        return tuple(v + h * _weighted(weights, [rate[i] for rate in rates]) for i, v in enumerate(x))

    def step(self, t: Array, x: State, left: Array, h: Array, memory: Any, constants: Constants) -> Step:
        """One step, accepted where the error estimate is within the tolerance."""
        last = h >= jnp.abs(left)
        signed = jnp.where(last, left, h * jnp.sign(left))
        rates = self.stages(t, x, signed, memory, constants)
        new = self._combine(x, signed, self.tableau.b, rates)
        gaps = [signed * _weighted(self.tableau.error, [rate[i] for rate in rates]) for i in range(len(x))]
        error = self._norm(gaps, x, new)
        accepted = error <= 1
        tiny = jnp.where(jnp.isfinite(error), jnp.maximum(error, 1e-10), 1e10)
        factor = jnp.clip(0.9 * tiny ** (-1 / self.order), 0.2, 10.0)
        grown = jnp.abs(signed) * jnp.where(accepted, factor, jnp.minimum(factor, 0.9))
        grown = jnp.where(last & accepted, jnp.maximum(grown, h), grown)
        new = tuple(jnp.where(accepted, a, b) for a, b in zip(new, x, strict=True))
        return Step(
            new, jnp.where(accepted, signed, 0), grown, tuple(rates[-1]) if self.reuses else (), memory, accepted
        )

    def within(self, t: Array, x: State, s: Array, dense: Any, constants: Constants) -> State:
        """A step of length `s` again: as accurate as the step itself."""
        return self._combine(x, s, self.tableau.b, self.stages(t, x, s, dense, constants))


def _weighted(weights: Any, values: Sequence[Array]) -> Array:
    total = None
    for weight, value in zip(np.asarray(weights, float), values, strict=True):
        if weight:
            term = jnp.asarray(weight, value.dtype) * value
            total = term if total is None else total + term
    return jnp.zeros_like(values[0]) if total is None else total
