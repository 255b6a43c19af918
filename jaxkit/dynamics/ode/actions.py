"""What happens on the way: events, which the state decides, and jumps at given times."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from jaxkit.core import checks
from jaxkit.core.struct import static, struct

X = TypeVar("X")
EventFunction = Callable[[Array, Any, Any], Array]
Change = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Event:
    """A change of sign of `fn(t, x, args)` along the motion, after the start.

    Without a `change`, the motion ends at the `repeats`-th of its events. With one, the state is changed at each and
    the motion goes on; an event more than `repeats` ends it with the status `too_many_events`, and its state is the one
    before a change. So a ball that bounces ever faster has an honest end.

    The point from which a motion starts, or goes on after an event, is no event itself: only the next change of sign is
    one. Nor is a change of sign by a jump.

    Attributes:
        fn: The event function.
        direction: 1 for changes from negative to positive, -1 for those from positive to negative, as they are met
            along the motion; 0 for both.
        change: `change(t, x, args)` is the state with which the motion goes on, of `x`'s structure and shapes.
        repeats: How many events there may be.

    Example:
        A ball that is dropped from a height of 1, and keeps 0.8 of its speed at each bounce:

        >>> import jax.numpy as jnp, jaxkit as jk
        >>> fall = lambda t, x, args: (x[1], -2.0 * jnp.ones_like(x[1]))
        >>> bounce = jk.Event(lambda t, x, args: x[0], change=lambda t, x, e: (x[0], -e * x[1]), repeats=10)
        >>> sol = jk.solve(fall, (1.0, 0.0), jnp.array([0.0, 4.0]), 0.8, event=bounce).checked()
        >>> [round(float(t), 6) for t in sol.events.ts[:3]]  # 1, then 2 * 0.8, 2 * 0.8^2, ... more
        [1.0, 2.6, 3.88]
        >>> int(sol.events.count)
        3

        The first three times at which an oscillator goes up through zero (a Poincare section):

        >>> turn = lambda t, x, args: (x[1], -x[0])
        >>> section = jk.Event(lambda t, x, args: x[0], direction=1, repeats=3)
        >>> sol = jk.solve(turn, (1.0, 0.0), jnp.array([0.0, 100.0]), method="taylor", event=section).checked()
        >>> [round(float(t) / jnp.pi, 4) for t in sol.events.ts]
        [1.5, 3.5, 5.5]
    """

    fn: EventFunction
    direction: int = 0
    change: Change | None = None
    repeats: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        checks.require(callable(self.fn), "fn", "be a function `fn(t, x, args)`", f"is {type(self.fn).__name__}")
        checks.one_of("direction", self.direction, (-1, 0, 1))
        checks.require(
            self.change is None or callable(self.change), "change", "be a function `change(t, x, args)`", "is not"
        )
        whole = isinstance(self.repeats, int) and not isinstance(self.repeats, bool) and self.repeats >= 1
        checks.require(whole, "repeats", "be a whole number of at least 1", f"is {self.repeats!r}")


@struct
class Jumps:
    """Given times at which the state is changed: doses, kicks, measurements.

    Steps end there, so that the derivatives with respect to the times and to what the change depends on are those of
    the solution, and so are second ones.

    Jumps are made at times from the first to the last of `ts`, both included; others are not. A state saved at the time
    of a jump is the one after it (so is `final`, and `xs[0]` where there is a jump at the start). Times need no order;
    jumps at equal times are made in the order given. Infinite times are never met, so lanes with fewer jumps are filled
    up with infinities.

    Attributes:
        times: Times, shape `(j,)`; for an ensemble also `(n, j)`, each lane's own.
        change: `change(t, x, args)` is the state after the jump, of `x`'s structure and shapes; with `amounts`,
            `change(t, x, args, amount)`.
        amounts: What differs from jump to jump: any pytree, whose leaves have the leading axes of `times`.

    Example:
        Two doses of a drug that decays:

        >>> import jax, jax.numpy as jnp, jaxkit as jk
        >>> decay = lambda t, x, rate: -rate * x
        >>> def later(times, doses):
        ...     given = jk.Jumps(times, lambda t, x, rate, dose: x + dose, doses)
        ...     return jk.solve(decay, 0.0, jnp.array([0.0, 3.0]), 1.0, event=given).checked().final
        >>> times, doses = jnp.array([0.0, 2.0]), jnp.array([1.0, 5.0])
        >>> round(float(later(times, doses)), 6)  # exp(-3) + 5 exp(-1)
        1.889184
        >>> [round(float(v), 6) for v in jax.grad(later)(times, doses)]  # exp(-3), 5 exp(-1)
        [0.049787, 1.839397]
    """

    times: ArrayLike
    change: Change = static()
    amounts: PyTree = None


@struct
class Crossings(Generic[X]):
    """The events that were met, in their order; places that are not used hold infinities.

    Attributes:
        ts: Their times, shape `(r,)`, for `r` events at most; after the axis of lanes, if there is one.
        xs: The states there, before any change: the state's structure, each leaf with the axes of `ts` in front.
        which: Which event function it was, counted from 0; -1 in places that are not used.
        count: How many there were.
    """

    ts: Float[Array, "... r"]
    xs: X
    which: Int[Array, "... r"]
    count: Int[Array, "..."]


class Actions(NamedTuple):
    """What is asked for by the argument `event`, apart from numbers."""

    events: tuple[Event, ...] = ()
    jumps: tuple[Change, ...] = ()

    @property
    def goes_on(self) -> bool:
        """Whether the motion may go on behind something that happens."""
        plain = all(e.repeats == 1 and e.direction == 0 and e.change is None for e in self.events)
        return bool(self.jumps) or not plain

    @property
    def functions(self) -> tuple[EventFunction, ...]:
        """The event functions."""
        return tuple(e.fn for e in self.events)

    @property
    def most(self) -> int:
        """The largest number of events that are told."""
        return sum(e.repeats for e in self.events)

    @property
    def legs(self) -> int:
        """The largest number of legs, without those that end at jumps: stops, and crossings in another direction.

        Of these there is at most one of each event between two that count.
        """
        if not self.events:
            return 1
        counted = sum(e.repeats - 1 + (e.change is not None) for e in self.events) + 1
        return counted * (1 + sum(e.direction != 0 for e in self.events))


NOTHING = Actions()
Happening = EventFunction | Event | Jumps
Numbers = tuple[tuple[Any, Any], ...]  # times and amounts of each of the jumps


def actions(event: Happening | Sequence[Happening] | None) -> tuple[Actions, Numbers]:
    """The argument `event` of a verb, as what is known when a program is made, and the numbers of its jumps."""
    if event is None:
        return NOTHING, ()
    given: tuple[Any, ...] = tuple(event) if isinstance(event, list | tuple) else (event,)
    for one in given:
        fits = callable(one) or isinstance(one, Event | Jumps)
        must = "be a function `event(t, x, args)`, `Event`, `Jumps`, or a sequence of these"
        checks.require(fits, "event", must, f"has {type(one).__name__}")
    jumps = tuple(one for one in given if isinstance(one, Jumps))
    numbers = []
    for jump in jumps:
        checks.require(callable(jump.change), "change", "be a function `change(t, x, args)`", "is not")
        times, amounts = checks.floating("times", jump.times), jump.amounts
        if not checks.is_traced(times):
            checks.require(not np.any(np.isnan(np.asarray(times))), "times", "be numbers", "has NaN")
        plain = isinstance(amounts, list | tuple) and all(isinstance(v, int | float) for v in amounts)
        numbers.append((times, jnp.asarray(amounts) if plain else amounts))
    events = tuple(one if isinstance(one, Event) else Event(one) for one in given if not isinstance(one, Jumps))
    return Actions(events, tuple(j.change for j in jumps)), tuple(numbers)


def as_numbers(numbers: Numbers, n: int, dtype: Any, *, lanes: bool) -> tuple[Array, list[tuple[int, Any]]]:
    """All times of jumps side by side, `(n, j)`, and for each kind their number and amounts, with axes `(n, number)`.

    Args:
        numbers: The times and amounts of each kind of jump.
        n: Number of lanes.
        dtype: Of the times.
        lanes: Whether they may have an axis of lanes.
    """
    rows, amounts = [], []
    for times, sizes in numbers:
        shape = times.shape
        fits = len(shape) == 1 or (lanes and len(shape) == 2 and shape[0] in (1, n))
        must = f"have shape (j,) or ({n}, j)" if lanes else "have shape (j,)"
        checks.require(fits, "times", must, f"has shape {shape}")
        for leaf in jax.tree.leaves(sizes):
            have = jnp.shape(leaf)[: len(shape)]
            checks.require(have == shape, "amounts", f"have the leading axes {shape} of the times", f"has {have}")
        wide = lambda v, shape=shape: jnp.broadcast_to(
            jnp.asarray(v) if len(shape) == 2 else jnp.asarray(v)[None], (n, shape[-1], *jnp.shape(v)[len(shape) :])
        )
        rows.append(wide(times).astype(dtype))
        amounts.append((shape[-1], jax.tree.map(wide, sizes)))
    return jnp.concatenate([jnp.zeros((n, 0), dtype), *rows], 1), amounts


def told(hit: Array, t: Array, x: Any, which: Array) -> Crossings:
    """The one event that ended each lane, if it was met."""
    spread = lambda v: jnp.where(hit.reshape(hit.shape + (1,) * (v.ndim - hit.ndim)), v, jnp.inf)
    row = lambda v: jnp.expand_dims(spread(v), hit.ndim)
    index = jnp.where(hit, which, -1)[..., None]
    return Crossings(row(t), jax.tree.map(row, x), index, hit.astype(jnp.int32))
