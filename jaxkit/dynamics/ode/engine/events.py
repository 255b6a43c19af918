"""What happens on the way: event functions stop a lane, and states are kept at given times.

An event is the first change of an event function's sign after the start, whatever the method. In each step the function
is modelled by a cubic polynomial, made from its values and rates of change at both ends. Where this polynomial changes
its sign, or comes so near to zero that a pair of changes could hide, the lane looks inside the step instead of stepping
on: a look is a step of a given length from the step's beginning. What a look finds tells how far the polynomial is to
be trusted. A change is closed in on until it lies between two neighbouring times: only signs are compared. A pair of
changes within a thousandth of a step is not looked for.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxkit.compile.rows import State

Inside = Callable[[Array], State]  # the states at a time after the beginning of the lanes' last steps
DOUBT = 0.25  # how wrong a polynomial that no look has confirmed may be, as a part of its range
WRONG = 1 / 32  # how wrong a polynomial may have been at a look, beside its values, to be trusted in what is left
HUMP = 2.0  # a polynomial that leads so much further from zero than both its ends is not trusted before a look
TURN = 8.0  # nor one whose second derivative, times a step's length squared, differs so much from the last, beside ends
FINEST = 2.0**-10  # the part of a step down to which pairs of changes are looked for
MOST = 2000  # most looks into one step; closing in by halves needs no more
FAR = 1e-3  # in units of a function's change in the first step: no rounding of the start is as large
LONG = 1e10  # in units of the first step: times beyond say nothing about how times are rounded at the start


class Mark(NamedTuple):
    """The event functions at one time of a step."""

    s: Float[Array, "..."]  # time since the step's beginning, signed
    value: Float[Array, "e ..."]
    rate: Float[Array, "e ..."]  # rate of change in time


class Watch(NamedTuple):
    """What is known about the event functions in the present step; the part from `low` to `high` is in question.

    Attributes:
        start: Value of each function at the start, as long as no step is taken; 0 then, and where it is as it seems.
        sign: Sign of each function since the start; 0 as long as it has none.
        low: No sign has changed up to this time.
        high: The end of the part in question.
        end: The end of the step, or the first time at which a sign is known to have changed.
        doubt: How wrong the polynomial between `low` and `high` may be; infinite where no look has been taken.
        beyond: How wrong the polynomial between `high` and `end` may be.
        bend: Second derivative at the beginning, then at the end of the last step's polynomial.
        looking: Whether the lane looks into its step.
        hit: Whether the lane has met its event, at `end`.
        target: Where to look next.
        looks: Number of looks taken in this step.
    """

    start: Float[Array, "e ..."]
    sign: Float[Array, "e ..."]
    low: Mark
    high: Mark
    end: Mark
    doubt: Float[Array, "e ..."]
    beyond: Float[Array, "e ..."]
    bend: Float[Array, "e ..."]
    looking: Bool[Array, "..."]
    hit: Bool[Array, "..."]
    target: Float[Array, "..."]
    looks: Int[Array, "..."]


def _each_lane(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one lane, applied to a row of lanes: the last axis of each leaf."""
    return jax.vmap(fn, in_axes=-1, out_axes=-1)


def short(span: Array, size: Array, speed: Array) -> Array:
    """A length of time in which a difference quotient is a derivative, for a state of that size and speed."""
    eps, whole = float(jnp.finfo(span.dtype).eps), jnp.abs(span)
    own = jnp.where((size > 0) & (speed > 0), size / jnp.where(speed > 0, speed, 1), whole)
    return jnp.sign(span) * eps**0.5 * jnp.minimum(whole, own)


@_each_lane
def begin(value: Array, rate: Array, bend: Array, size: Array, t0: Array, t1: Array) -> Watch:
    """The watch before anything has been looked at.

    A start at a zero of an event function, up to rounding, is no event: the function takes the sign to which it moves.
    A value larger than the `size` of what time and state contribute to it does not come of their rounding.
    """
    near = (jnp.abs(value) <= rounding(rate, t0, t1)) & ~(jnp.abs(value) > 2 * size)
    start = jnp.where(near & (jnp.abs(value) > rounding(rate, t0, t0)), value, 0)
    value = jnp.where(near, 0, value)
    low = Mark(jnp.zeros_like(t0), value, rate)
    never = jnp.zeros(t0.shape, bool)
    unknown = jnp.full_like(value, jnp.inf)
    sign = jnp.where(near, first_sign(value, rate, t0, t1), _sign(value))
    none = jnp.zeros(t0.shape, jnp.int32)
    return Watch(start, sign, low, low, low, unknown, unknown, bend, never, never, jnp.zeros_like(t0), none)


@_each_lane
def stepped(watch: Watch, moved: Array, mark: Mark) -> Watch:
    """The watch in lanes that moved to a mark: a start that is far from zero, as seen from the first step, is none."""
    s, start = mark.s, watch.start
    reach = jnp.broadcast_to(LONG * jnp.abs(s), start.shape)
    change = jnp.maximum(jnp.abs(mark.value - start), jnp.abs(s) * jnp.abs(mark.rate))
    far = (jnp.abs(start) > rounding(watch.end.rate, reach, reach)) | (jnp.abs(start) > FAR * change)
    wrong = moved & far & (start != 0)
    end = watch.end._replace(value=jnp.where(wrong, start, watch.end.value))
    sign = jnp.where(wrong, _sign(start), watch.sign)
    return watch._replace(end=end, sign=sign, start=jnp.where(moved, 0, start))


def rounding(rate: Array, t0: Array, t1: Array) -> Array:
    """How far from zero an event function may be at its zero, because times are rounded."""
    eps = float(jnp.finfo(t0.dtype).eps)
    return 8 * eps * jnp.maximum(jnp.abs(t0), jnp.abs(t1)) * jnp.abs(rate)


def first_sign(value: Array, rate: Array, t0: Array, t1: Array) -> Array:
    """The sign of event functions at a start: where they are zero, that to which they move; 0 where it is not known."""
    onward = jnp.sign(rate) * jnp.sign(t1 - t0)
    near = jnp.abs(value) <= rounding(rate, t0, t1)
    return jnp.where(near & (onward != 0), onward, jnp.where(near, 0, _sign(value)))


@_each_lane
def after(watch: Watch, t: Array, moved: Array, mark: Mark) -> Watch:
    """What is known after a step, in lanes that `moved` from `t` to the mark, or after a look, in lanes that look."""
    low, high = watch.low, watch.high
    width = high.s - low.s
    part = (mark.s - low.s) / jnp.where(width == 0, 1, width)
    wrong = jnp.abs(_cubic(_controls(low, high), jnp.full_like(mark.value, part)) - mark.value)
    wrong = jnp.where(watch.sign == 0, jnp.inf, wrong)  # a polynomial that was not used
    sign = jnp.where((watch.sign == 0) & ~jnp.isnan(low.value), _sign(mark.value), watch.sign)
    beyond = jnp.where(high.s == watch.end.s, wrong, watch.beyond)
    looked = watch._replace(sign=sign, high=mark, doubt=wrong, beyond=beyond, looks=watch.looks + 1)
    over = jnp.any((sign != 0) & (jnp.sign(mark.value) != sign))
    looked = _choose(over, looked._replace(end=mark, beyond=wrong), looked)

    start = Mark(jnp.zeros_like(t), watch.end.value, watch.end.rate)
    unknown = jnp.full_like(watch.doubt, jnp.inf)
    stepped = watch._replace(
        low=start, high=mark, end=mark, doubt=unknown, beyond=unknown, looks=jnp.zeros_like(watch.looks)
    )
    known = _choose(moved | watch.looking, _decided(_choose(watch.looking, looked, stepped), t), watch)
    return known._replace(bend=jnp.where(moved, _bend(start, mark)[1], watch.bend))


@_each_lane
def passed(watch: Watch, moved: Array, mark: Mark) -> tuple[Watch, Bool[Array, "..."]]:
    """What is known after a step in which nothing can hide, and the lanes in which this fails or is not known."""
    start = Mark(jnp.zeros_like(mark.s), watch.end.value, watch.end.rate)
    here = watch.sign[None] * _controls(start, mark)
    change = jnp.any((jnp.sign(mark.value) != watch.sign) & ~jnp.isnan(mark.value))  # or there was no sign yet
    pair = jnp.any(jnp.minimum(here[1], here[2]) <= DOUBT * (jnp.max(here, axis=0) - jnp.min(here, axis=0)))
    doubtful = watch.looking | (moved & (change | pair | jnp.any(_strange(watch, start, mark))))
    bend = jnp.where(moved, _bend(start, mark)[1], watch.bend)
    return watch._replace(end=_choose(moved, mark, watch.end), bend=bend), doubtful


def lost(watch: Watch, mark: Mark) -> Bool[Array, "..."]:
    """Whether a function that had a sign is no longer a number."""
    return jnp.any(jnp.isnan(mark.value) & (watch.sign != 0), axis=0)


def never_known(watch: Watch) -> Bool[Array, "..."]:
    """Whether a function has not been a number so far, as far as was looked."""
    return jnp.any(jnp.isnan(watch.end.value) & (watch.sign == 0), axis=0)


def _sign(value: Array) -> Array:
    return jnp.where(jnp.isnan(value), 0, jnp.sign(value))


def _decided(watch: Watch, t: Array) -> Watch:
    """Where to look next; the part before `high` is settled where nothing can hide there."""
    watch = watch._replace(looking=jnp.ones_like(watch.looking))
    first = _judged(watch, t)
    onward = ~first.looking & ~first.hit & (watch.high.s != watch.end.s)
    known = jnp.where(watch.sign == 0, _sign(watch.high.value), watch.sign)
    on = _judged(watch._replace(sign=known, low=watch.high, high=watch.end, doubt=watch.beyond), t)
    found = _choose(onward, on, first)
    done = ~found.looking
    sign = jnp.where(done & (found.sign == 0), _sign(found.end.value), found.sign)
    return found._replace(sign=sign)


def _judged(watch: Watch, t: Array) -> Watch:
    """Whether the part between `low` and `high` is settled, and where to look otherwise."""
    low, high, sign = watch.low, watch.high, watch.sign
    width = high.s - low.s
    eps = float(jnp.finfo(width.dtype).eps)
    here = sign[None] * _controls(low, high)
    change = (sign != 0) & (jnp.sign(high.value) != sign)
    over = jnp.any(change, axis=0)
    wide = jnp.abs(width) > FINEST * jnp.abs(watch.end.s)
    span = jnp.max(here, axis=0) - jnp.min(here, axis=0)
    doubt = jnp.minimum(watch.doubt, DOUBT * span)
    pair = (jnp.minimum(here[1], here[2]) <= doubt) & (sign != 0)
    known = jnp.where(watch.doubt < jnp.inf, doubt, 0)
    thrice = (here[1] < known) & (here[2] > -known) & (here[1] < here[2])
    wrong = watch.doubt > WRONG * jnp.maximum(jnp.abs(low.value), jnp.abs(high.value))
    strange = jnp.where(watch.doubt < jnp.inf, wrong, _strange(watch, low, high))
    hidden = jnp.where(change, thrice, pair) | (strange & (sign != 0))
    dip = jnp.min(jnp.where(hidden, _lowest(here), 2.0), axis=0)
    middle = jnp.where(dip < 1, dip, 0.5)
    depth = _cubic(here, jnp.where(hidden, _lowest(here), 1.0))
    search = jnp.any(hidden & (wide | (depth < -known)), axis=0)  # what a known polynomial shows is never too narrow
    begins = jnp.isnan(low.value) & wide  # where the function becomes a number is looked for first
    unsigned = (sign == 0) & ~jnp.isnan(high.value)
    unknown = jnp.any(unsigned & (begins | (watch.looks == 0)), axis=0)
    guess = jnp.min(jnp.where(change, _first_zero(here), jnp.inf), axis=0)
    closest = eps * jnp.maximum(jnp.abs(t + high.s), jnp.abs(high.s))
    least = jnp.minimum(closest / jnp.where(width == 0, 1, jnp.abs(width)), 0.5)
    guess = jnp.where(watch.looks % 3 == 2, 0.5, jnp.clip(guess, least, 1 - least))
    part = jnp.where(search, jnp.clip(middle, 0.1, 0.9), guess)
    part = jnp.where(unknown, jnp.where(jnp.any(unsigned & begins, axis=0), 0.5, FINEST / 8), part)
    target = low.s + part * width
    inside = (target != low.s) & (target != high.s) & (watch.looks < MOST)
    narrow = (jnp.abs(width) <= closest) | ~inside
    looking = jnp.where(over, ~narrow, (search | unknown) & inside)
    return watch._replace(looking=looking, hit=watch.hit | (over & ~looking), target=target)


def which(watch: Watch) -> Int[Array, "..."]:
    """The index of the event function that changed its sign at `end` in each lane; -1 without a hit."""
    changed = (watch.sign != 0) & (jnp.sign(watch.end.value) != watch.sign)
    return jnp.where(watch.hit, jnp.argmax(changed, axis=0).astype(jnp.int32), -1)


def _controls(low: Mark, high: Mark) -> Float[Array, "4 e"]:
    """Bernstein's coefficients of the cubic between two marks: its graph lies in their convex hull."""
    third = (high.s - low.s) / 3
    return jnp.stack([low.value, low.value + third * low.rate, high.value - third * high.rate, high.value])


def _strange(watch: Watch, low: Mark, high: Mark) -> Bool[Array, " e"]:
    """Whether a function may oscillate within a step that no look has confirmed, so that it is no cubic.

    Then the cubic leads far away from its ends, or is bent otherwise than the one of the step before.
    """
    controls, width = jnp.abs(_controls(low, high)), high.s - low.s
    ends = jnp.maximum(controls[0], controls[3])
    hump = jnp.maximum(controls[1], controls[2]) > HUMP * ends
    turn = jnp.abs(_bend(low, high)[0] - watch.bend) * width * width > TURN * ends
    return hump | turn


def _bend(low: Mark, high: Mark) -> tuple[Array, Array]:
    """The second derivatives of the cubic between two marks at both."""
    width = jnp.where(high.s == low.s, 1, high.s - low.s)
    mean = (high.value - low.value) / width
    return (6 * mean - 4 * low.rate - 2 * high.rate) / width, (2 * low.rate + 4 * high.rate - 6 * mean) / width


def _cubic(controls: Array, part: Array) -> Array:
    """The polynomial at a fraction of its interval, by de Casteljau's rule."""
    while len(controls) > 1:
        controls = controls[:-1] + part[None] * (controls[1:] - controls[:-1])
    return controls[0]


def _lowest(controls: Array) -> Array:
    """Where a cubic has its least interior value; 1 where it has none."""
    d = controls[1:] - controls[:-1]
    d = d / jnp.maximum(jnp.max(jnp.abs(d), axis=0, keepdims=True), jnp.finfo(d.dtype).tiny)
    a, b, c = d[0] - 2 * d[1] + d[2], d[1] - d[0], d[0]
    root = jnp.sqrt(jnp.maximum(b * b - a * c, 0))
    down = jnp.where(b >= 0, -b - root, -b + root)
    at = jnp.stack([down / jnp.where(a == 0, jnp.inf, a), c / jnp.where(down == 0, jnp.inf, down)])
    rises = a[None] * at + b[None] > 0
    return jnp.min(jnp.where(rises & (at > 0) & (at < 1), at, 1.0), axis=0)


def _first_zero(controls: Array) -> Array:
    """The first zero of a cubic that changes from positive to negative: by its control polygon, then Newton's steps."""
    part = jnp.ones_like(controls[0])
    for i in (2, 1, 0):  # the first edge last
        before, after = controls[i], controls[i + 1]
        fall = before - after
        at = (i + jnp.where(fall > 0, before / jnp.where(fall > 0, fall, 1), 0.5)) / 3
        part = jnp.where(after <= 0, at, part)
    slopes = 3 * (controls[1:] - controls[:-1])
    for _ in range(4):
        slope = _cubic(slopes, part)
        part = jnp.where(slope < 0, jnp.clip(part - _cubic(controls, part) / slope, 0.0, 1.0), part)
    return part


def _choose(condition: Array, a: Any, b: Any) -> Any:
    return jax.tree.map(lambda u, v: jnp.where(condition, u, v), a, b)


def save(
    inside: Inside,
    carried: tuple[State, Array],
    before: Array,
    t: Array,
    moved: Array,
    ts: Float[Array, " m"],
    forward: Array,
) -> tuple[State, Array]:
    """Keep the states at those `ts` that were passed by the steps from `before` to `t`."""
    lanes, last = jnp.arange(len(t)), len(ts)

    def due(number: Array) -> tuple[Array, Array]:
        time = ts[jnp.minimum(number, last - 1)]
        return moved & (number < last) & (jnp.sign(forward) * (time - t) <= 0), time

    def keep(carry: tuple[State, Array]) -> tuple[State, Array]:
        saved, number = carry
        now, time = due(number)
        x = inside(jnp.where(now, time - before, 0))
        row = jnp.where(now, number, last)  # an index out of range is dropped
        put = lambda s, v: s.at[row, ..., lanes].set(jnp.moveaxis(v, -1, 0), mode="drop")
        saved = tuple(map(put, saved, x))
        return saved, number + now.astype(jnp.int32)

    return jax.lax.while_loop(lambda s: jnp.any(due(s[1])[0]), keep, carried)


def nothing_saved(ts: Array, t0: Array, t1: Array, x: State) -> tuple[State, Any]:
    """The record, and the index of the first of `ts` that lies ahead of each lane.

    It holds no state, but for a lane whose times are all the same: that lane takes no step.
    """
    past = jnp.sign(t1 - t0)[None] * (ts[:, None] - t0[None])
    number = jnp.sum(past < 0, axis=0, dtype=jnp.int32)
    return tuple(jnp.broadcast_to(jnp.where(t0 == t1, v, jnp.inf), (len(ts), *v.shape)) for v in x), number
