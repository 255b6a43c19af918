"""What happens on the way: event functions stop a lane, and states are kept at given times.

The loop only notices that an event function changed sign in a step, and leaves that lane where the step began. The
moment itself is looked for once, when all lanes of the chunk have stopped: each look costs a step of every lane.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxkit.compile.rows import State, where

Inside = Callable[[Array], State]  # the states a time after the beginning of the lanes' last steps
Measure = Callable[[Array, State], tuple[Array, ...]]  # the event functions' values


def crossed(before: Array, after: Array) -> Array:
    """Whether an event function changed its sign."""
    return (before * after < 0) | ((after == 0) & (before != 0))


def locate(
    inside: Inside, measure: Measure, t: Array, length: Array, hit: Array, last: State
) -> tuple[State, Float[Array, " w"], Int[Array, " w"]]:
    """The earliest sign change in `[0, length]` by the Illinois rule for all event functions at once.

    Every third look is a bisection, so that the bracket shrinks whatever the functions do.

    Args:
        inside: State a time after `t`.
        measure: Values of the event functions.
        t: Beginning of the steps, `(w,)`.
        length: Their lengths (signed), in which some event function changed its sign.
        hit: The lanes in question.
        last: Any state, kept in the lanes that are not.

    Returns:
        The state, how far from `t` it is, and which event function changed its sign (-1 where not `hit`).
    """
    eps = float(jnp.finfo(length.dtype).eps)
    values = lambda s, x: jnp.stack(measure(t + s, x))
    here = inside(jnp.zeros_like(length))
    there = inside(length)
    base = values(jnp.zeros_like(length), here)
    first = values(length, there)

    def guesses(low: Array, high: Array, f_low: Array, f_high: Array) -> Array:
        """Where the secants of the functions that have crossed meet zero; infinitely far for the others."""
        over = crossed(base, f_high) | (f_low * f_high < 0)
        secant = high[None] - f_high * (high - low)[None] / jnp.where(f_high == f_low, 1, f_high - f_low)
        return jnp.where(over, secant, jnp.inf * jnp.sign(length)[None])

    def wide(c: tuple) -> Array:
        return jnp.any(hit & (jnp.abs(c[1] - c[0]) > 4 * eps * jnp.abs(length))) & (c[4] < 80)

    def narrow(c: tuple) -> tuple:
        low, high, f_low, f_high, count, side, x, _ = c
        nearest = guesses(low, high, f_low, f_high)
        nearest = jnp.where(length > 0, jnp.min(nearest, axis=0), jnp.max(nearest, axis=0))
        middle = jnp.where(count % 3 == 2, (low + high) / 2, nearest)
        good = (jnp.abs(middle - low) <= jnp.abs(high - low)) & (jnp.abs(high - middle) <= jnp.abs(high - low))
        middle = jnp.where(good, middle, (low + high) / 2)
        x_new = inside(middle)
        value = values(middle, x_new)
        over = jnp.any(crossed(base, value), axis=0)
        f_high = jnp.where(over[None], value, jnp.where((side == 1)[None], f_high / 2, f_high))
        f_low = jnp.where(over[None], jnp.where((side == -1)[None], f_low / 2, f_low), value)
        low, high = jnp.where(over, low, middle), jnp.where(over, middle, high)
        exact = jnp.any(over[None] & (value == 0), axis=0)
        number = jnp.where(over, _which(base, value), c[7])
        state = where(over, x_new, x)
        side = jnp.where(over, -1, 1).astype(jnp.int32)
        return jnp.where(exact, high, low), high, f_low, f_high, count + 1, side, state, number

    zero = jnp.zeros(length.shape, jnp.int32)
    start = (jnp.zeros_like(length), length, base, first, jnp.asarray(0, jnp.int32), zero, there, _which(base, first))
    found = jax.lax.while_loop(wide, narrow, start)
    state = where(hit, found[6], last)
    return state, jnp.where(hit, found[1], 0), jnp.where(hit, found[7], -1)


def _which(before: Array, after: Array) -> Int[Array, " w"]:
    """The first event function that changed its sign."""
    return jnp.argmax(crossed(before, after), axis=0).astype(jnp.int32)


def save(
    inside: Inside,
    carried: tuple[State, Array],
    before: Array,
    t: Array,
    moved: Array,
    ts: Float[Array, " m"],
    forward: Array,
) -> tuple[State, Array]:
    """Keep the states at those `ts` that the steps from `before` to `t` passed."""
    lanes, last = jnp.arange(len(t)), len(ts)

    def due(number: Array) -> tuple[Array, Array]:
        time = ts[jnp.minimum(number, last - 1)]
        return moved & (number < last) & (jnp.sign(forward) * (time - t) <= 0), time

    def keep(carry: tuple[State, Array]) -> tuple[State, Array]:
        saved, number = carry
        now, time = due(number)
        x = inside(jnp.where(now, time - before, 0))
        row = jnp.where(now, number, last)  # out of range: dropped
        put = lambda s, v: s.at[row, ..., lanes].set(jnp.moveaxis(v, -1, 0), mode="drop")
        saved = tuple(map(put, saved, x))
        return saved, number + now.astype(jnp.int32)

    return jax.lax.while_loop(lambda s: jnp.any(due(s[1])[0]), keep, carried)


def nothing_saved(ts: Array, t0: Array, t1: Array, x: State) -> tuple[State, Any]:
    """No state saved yet, and the number of the first of `ts` that lies ahead of each lane."""
    past = jnp.sign(t1 - t0)[None] * (ts[:, None] - t0[None])
    number = jnp.sum(past < 0, axis=0, dtype=jnp.int32)
    return tuple(jnp.full((len(ts), *v.shape), jnp.inf, v.dtype) for v in x), number
