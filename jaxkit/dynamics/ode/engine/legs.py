"""Motions that go on behind something that happens: a motion is a sequence of legs.

A leg ends at the next jump, at the next event or at the end of the time span; there the state may be changed, and the
next leg begins. Each leg is a solve of its own, which has derivatives with respect to its start, its beginning and its
end, so that those of the whole (which jump where a jump's or an event's time moves) follow by the chain rule.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxkit.core import checks
from jaxkit.core.numerics import all_finite, choose
from jaxkit.core.status import Status
from jaxkit.dynamics.ode.actions import Actions, Crossings
from jaxkit.dynamics.ode.engine.batch import Ensemble
from jaxkit.dynamics.ode.engine.events import first_sign, rounding
from jaxkit.dynamics.ode.field import way_of


class Rules(NamedTuple):
    """How lanes move, and what happens to them. All functions work on all lanes, the leading axis of each array.

    Attributes:
        actions: What may happen.
        run: `run(t, x, until, offset)` is one leg: the event functions, less the offsets `(n, e)`, end it.
        measure: `measure(t, x)` are the event functions, their rates of change along the motion, and what they may be
            at a zero because the state is rounded, each `(n, e)`.
        delayed: `delayed(k, hit, t, x)` are time and state of the k-th event, which is met here already.
        each: `each(fn, t, x, *more)` is `fn(t, x, args, *more)` of each lane.
        times: Times of all jumps, `(n, j)`, those of each kind side by side.
        amounts: For each kind of jump the number of its times, and what is handed to it, with axes `(n, number)`.
    """

    actions: Actions
    run: Callable[[Array, PyTree, Array, Array], Ensemble]
    measure: Callable[[Array, PyTree], tuple[Array, Array, Array]]
    delayed: Callable[[int, Array, Array, PyTree], tuple[Array, PyTree]]
    each: Callable[..., PyTree]
    times: Float[Array, "n j"]
    amounts: list[tuple[int, Any]]


class _Carry(NamedTuple):
    """What is known of the lanes at the beginning of a leg."""

    t: Float[Array, " n"]
    x: PyTree
    first: PyTree  # the state after the jumps at the beginning of the time span
    value: Float[Array, "n e"]  # the event functions less the offsets, and their rates of change
    rate: Float[Array, "n e"]
    offset: Float[Array, "n e"]
    jumps: Int[Array, " n"]  # the number of jumps that are made, or lie before the time span
    counts: Int[Array, "n e"]
    log: Crossings
    saved: PyTree
    done: Bool[Array, " n"]
    status: Int[Array, " n"]
    steps: Int[Array, " n"]
    rejected: Int[Array, " n"]
    event: Int[Array, " n"]  # the event that ended the motion; -1 if there is none


def travel(rules: Rules, x0: PyTree, t0: Array, t1: Array, ts: Array | None) -> tuple[Ensemble, PyTree]:
    """All legs of all lanes.

    Args:
        rules: How they move.
        x0: Starts, `(n, ...)`.
        t0: Beginnings, `(n,)`.
        t1: Ends, `(n,)`.
        ts: Times at which states are kept, shared by all lanes.

    Returns:
        The motions, and the states at `t0` after the jumps there.
    """
    actions, n = rules.actions, len(t0)
    for event in actions.events:
        if event.change is not None:
            _check_change(rules, event.change, x0, t0)
    sign = way_of(t0, t1)
    held = jax.lax.stop_gradient
    order = jnp.argsort(held(rules.times * sign[:, None]), axis=1)  # (NaN comes last)
    times = jnp.take_along_axis(rules.times, order, axis=1)
    j = times.shape[1]
    for change, (size, amount) in zip(actions.jumps, rules.amounts, strict=True):
        if size:
            more = () if amount is None else (jax.tree.map(lambda v: v[:, 0], amount),)
            _check_change(rules, change, x0, t0, *more)

    def body(c: _Carry, _: Any) -> tuple[_Carry, None]:
        due, until = _next(c, times, sign, t1)
        before = first_sign(c.value, c.rate, c.t[:, None], until[:, None])
        found = rules.run(c.t, c.x, until, held(c.offset))
        live = ~c.done
        moved = found.end != c.t
        fine = found.status == int(Status.ok)
        hit, there = live & fine & (found.event >= 0), live & fine & (found.event < 0)
        saved = _kept(c, found, sign, ts)
        t, x = choose(live, found.end, c.t), choose(live, found.final, c.x)
        later = c._replace(
            t=t,
            x=x,
            saved=saved,
            status=jnp.where(live, found.status, c.status),
            steps=c.steps + jnp.where(live, found.steps, 0),
            rejected=c.rejected + jnp.where(live, found.rejected, 0),
            done=c.done | ~fine | (there & ~due),
        )
        at_jump = there & due
        met = jnp.zeros((n, 0), bool)
        if actions.events:
            value, rate, _ = rules.measure(t, x)
            which = jnp.arange(len(actions.events), dtype=jnp.int32)[None] == found.event[:, None]
            late = jnp.where(
                which & hit[:, None], jnp.abs(value - c.offset) / jnp.where(rate == 0, 1, jnp.abs(rate)), 0
            )
            slack = rounding(rate, c.t[:, None], t1[:, None]) + 4 * jnp.max(late, axis=1)[:, None] * jnp.abs(rate)
            near = (before != 0) & (before * (value - c.offset) <= slack) & (before * rate * sign[:, None] < 0)
            met = (hit[:, None] & (which | near)) | ((at_jump & moved)[:, None] & near)
            later = _met(rules, later, (x0, t0), met, which, (before, value, rate, sign))
        at_jump = at_jump & ~jnp.any(met, axis=1)
        if j:
            x = _jumped(rules, later, at_jump, order, (x0, t0))
            later = later._replace(x=x, jumps=later.jumps + at_jump.astype(jnp.int32))
        if actions.events:
            after, speed, size = rules.measure(later.t, later.x)
            offset = _offset(rules, met, (before, value, rate), (after, speed, size), (c.t, until), c.offset)
            later = later._replace(offset=offset, value=after - offset, rate=speed)
        first = choose(later.t == t0, later.x, c.first)
        return later._replace(first=first), None

    c, _ = jax.lax.scan(body, _start(rules, x0, t0, ts, (times, sign)), None, length=j + actions.legs)
    made = jax.vmap(all_finite)(x0) & (c.status == int(Status.start_not_finite))  # by a change, not by the user
    status = jnp.where(made, int(Status.not_finite), c.status)
    status = jnp.where(c.done, status, int(Status.too_many_events))
    kept = jnp.zeros(0, t0.dtype) if ts is None else ts
    log = None if not actions.events else c.log
    found = Ensemble(kept, c.saved, status, c.steps, c.rejected, c.t, c.x, c.event, log)
    return found, c.first


def _start(rules: Rules, x0: PyTree, t0: Array, ts: Array | None, jumps: tuple[Array, Array]) -> _Carry:
    n, actions, (times, sign) = len(t0), rules.actions, jumps
    e, r = len(actions.events), actions.most
    none, never = jnp.zeros(n, jnp.int32), jnp.zeros(n, bool)
    rows = lambda size: jax.tree.map(lambda v: jnp.full((n, size, *v.shape[1:]), jnp.inf, v.dtype), x0)
    value, rate, _ = rules.measure(t0, x0) if e else (jnp.zeros((n, 0), t0.dtype),) * 3
    past = jnp.sum(sign[:, None] * (times - t0[:, None]) < 0, axis=1, dtype=jnp.int32)
    log = Crossings(jnp.full((n, r), jnp.inf, t0.dtype), rows(r), jnp.full((n, r), -1, jnp.int32), none)
    unusable = jnp.any(jnp.isnan(times), axis=1)
    status = jnp.where(unusable, int(Status.not_finite), int(Status.ok)).astype(jnp.int32)
    return _Carry(
        t=t0, x=x0, first=x0, value=value, rate=rate, offset=jnp.zeros_like(value), jumps=past,
        counts=jnp.zeros((n, e), jnp.int32), log=log, saved=None if ts is None else rows(len(ts)),
        done=never | unusable, status=status, steps=none, rejected=none, event=jnp.full(n, -1, jnp.int32),
    )  # fmt: skip


def _next(c: _Carry, times: Array, sign: Array, t1: Array) -> tuple[Array, Array]:
    """Whether a jump is due before the end, and where the next leg ends."""
    j = times.shape[1]
    if not j:
        return jnp.zeros(len(t1), bool), jnp.where(c.done, c.t, t1)
    time = jnp.take_along_axis(times, jnp.minimum(c.jumps, j - 1)[:, None], axis=1)[:, 0]
    due = (c.jumps < j) & (sign * (t1 - time) >= 0)
    return due, jnp.where(c.done, c.t, jnp.where(due, time, t1))


def _kept(c: _Carry, found: Ensemble, sign: Array, ts: Array | None) -> PyTree:
    """The saved states, with those of a leg; at the leg's beginning its start, which is behind a jump."""
    if ts is None:
        return None
    after = lambda t: sign[:, None] * (ts[None] - t[:, None])
    within = ~c.done[:, None] & (after(c.t) >= 0) & (after(found.end) <= 0) & (found.end != c.t)[:, None]
    still = ~c.done[:, None] & (after(c.t) == 0) & (found.end == c.t)[:, None]
    here = jax.tree.map(lambda v: jnp.broadcast_to(v[:, None], (len(c.t), len(ts), *v.shape[1:])), c.x)
    return choose(within, found.xs, choose(still, here, c.saved))


def _met(
    rules: Rules, c: _Carry, safe: tuple[PyTree, Array], met: Array, which: Array, seen: tuple[Array, ...]
) -> _Carry:
    """What is done at the events that are met, one after another."""
    before, value, rate, sign = seen
    for k, event in enumerate(rules.actions.events):
        known = jnp.where(before[:, k] != 0, -before[:, k], jnp.sign(value[:, k]))
        way = jnp.where(jnp.abs(rate[:, k]) > 0, jnp.sign(rate[:, k]) * sign, known)
        hit = met[:, k] & ~c.done & ((event.direction == 0) | (way == event.direction))
        if len(rules.actions.events) > 1 or rules.times.shape[1]:  # met by the way: its time moves by itself
            other = hit & ~which[:, k]
            t, x = rules.delayed(k, other, c.t, c.x)
            c = c._replace(t=choose(other, t, c.t), x=choose(other, x, c.x))
        count, changes = c.counts[:, k], event.change is not None
        over = hit & changes & (count >= event.repeats)
        known = hit & ~over
        ended = over | (known & (not changes) & (count + 1 >= event.repeats))
        place = known[:, None] & (jnp.arange(rules.actions.most, dtype=jnp.int32)[None] == c.log.count[:, None])
        row = lambda v: jnp.broadcast_to(v[:, None], (len(v), rules.actions.most, *v.shape[1:]))
        log = Crossings(
            jnp.where(place, c.t[:, None], c.log.ts),
            choose(place, jax.tree.map(row, c.x), c.log.xs),
            jnp.where(place, k, c.log.which),
            c.log.count + known.astype(jnp.int32),
        )
        x = _changed(rules, event.change, known, c.t, c.x, safe) if changes else c.x
        c = c._replace(
            x=x,
            log=log,
            counts=c.counts.at[:, k].add(known.astype(jnp.int32)),
            done=c.done | ended,
            event=jnp.where(ended, k, c.event),
            status=jnp.where(over, int(Status.too_many_events), c.status),
        )
    return c


def _offset(
    rules: Rules, met: Array, there: tuple[Array, ...], here: tuple[Array, ...], span: tuple[Array, Array], last: Array
) -> Array:
    """What the event functions are at a leg's start that is their own zero up to rounding; 0 elsewhere.

    Less this, they are zero there, and take the sign to which they move. At rest they keep their side: the one before
    the event where the state was changed, the one behind it otherwise.
    """
    (before, value, rate), (after, speed, size) = there, here
    slack = rounding(jnp.maximum(jnp.abs(rate), jnp.abs(speed)), span[0][:, None], span[1][:, None]) + size
    at_zero = met & (jnp.abs(after - last) <= 8 * jnp.abs(value - last) + slack)
    changes = np.array([e.change is not None for e in rules.actions.events])
    side = jnp.where(changes[None], before, -before)
    least = jnp.maximum(jnp.maximum(slack, jnp.abs(after - last)), float(jnp.finfo(after.dtype).tiny))
    return jax.lax.stop_gradient(jnp.where(at_zero, jnp.where(speed == 0, after - side * least, after), 0))


def _changed(
    rules: Rules, change: Any, applies: Array, t: Array, x: PyTree, safe: tuple[PyTree, Array], *more: Any
) -> PyTree:
    """The states after a change where it applies; it is computed at the lanes' starts where it does not."""
    given = choose(applies, t, safe[1]), choose(applies, x, safe[0])
    new = rules.each(change, *given, *more)
    return choose(applies, jax.tree.map(lambda v, old: jnp.asarray(v, old.dtype), new, x), x)


def _jumped(rules: Rules, c: _Carry, applies: Array, order: Array, safe: tuple[PyTree, Array]) -> PyTree:
    """The states after the jumps that are due."""
    number = jnp.take_along_axis(order, jnp.minimum(c.jumps, order.shape[1] - 1)[:, None], axis=1)[:, 0]
    x, begun = c.x, 0
    for change, (size, amount) in zip(rules.actions.jumps, rules.amounts, strict=True):
        if size:
            place = jnp.clip(number - begun, 0, size - 1)
            pick = lambda v, place=place: jax.vmap(lambda row, i: row[i])(v, place)
            more = () if amount is None else (jax.tree.map(pick, amount),)
            x = _changed(rules, change, applies & (number >= begun) & (number < begun + size), c.t, x, safe, *more)
        begun += size
    return x


def _check_change(rules: Rules, change: Any, x: PyTree, t: Array, *more: Any) -> None:
    """Check at trace time that a change returns a state of the structure and shapes of the one it is given."""
    new = jax.eval_shape(functools.partial(rules.each, change), t, x, *more)
    have, want = jax.tree.structure(new), jax.tree.structure(x)
    checks.require(have == want, "change", f"return the structure of the state, {want}", f"returns {have}")
    shapes, wanted = ([tuple(v.shape[1:]) for v in jax.tree.leaves(tree)] for tree in (new, x))
    checks.require(shapes == wanted, "change", f"return the shapes of the state, {wanted}", f"returns {shapes}")


def measured(field: Any, events: Any, t: Array, x: PyTree, args: PyTree) -> tuple[Array, Array, Array]:
    """The event functions of one lane, their rates of change along the motion, and what rounding of the state does."""
    values = lambda t, x: jnp.stack([jnp.reshape(e(t, x, args), ()).astype(t.dtype) for e in events])
    value, rate = jax.jvp(values, (t, x), (jnp.ones_like(t), field(t, x, args)))
    slopes = jax.tree.leaves(jax.jacrev(values, 1)(t, x))
    parts = zip(slopes, jax.tree.leaves(x), strict=True)
    size = sum(jnp.sum(jnp.abs(slope * v[None]).reshape(len(events), -1), axis=1) for slope, v in parts)
    size = 32 * float(jnp.finfo(t.dtype).eps) * jnp.where(jnp.isfinite(size), size, 0)
    return jax.lax.stop_gradient((value, rate, size))
