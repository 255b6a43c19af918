"""Many solves at once: the `ensemble` verb."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PyTree

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.numerics import choose
from jaxkit.core.run import Run
from jaxkit.dynamics.ode.actions import Happening, Numbers, actions, as_numbers
from jaxkit.dynamics.ode.engine.batch import Ensemble, Given, Settings, as_times, prepare, with_ends, with_events
from jaxkit.dynamics.ode.engine.legs import Rules, measured, travel
from jaxkit.dynamics.ode.engine.variational import solve_lanes
from jaxkit.dynamics.ode.field import Field, as_state
from jaxkit.dynamics.ode.first_event import delayed
from jaxkit.dynamics.ode.forms import form_of
from jaxkit.dynamics.ode.methods import Method
from jaxkit.dynamics.ode.onward import after

X = TypeVar("X")


def ensemble(
    field: Field,
    x0s: X,
    ts: ArrayLike,
    args: PyTree = None,
    *,
    method: str | Method = "taylor",
    rtol: float = 1e-6,
    atol: ArrayLike | PyTree = 1e-8,
    max_steps: int = 4096,
    event: Happening | Sequence[Happening] | None = None,
    run: Run | None = None,
) -> Ensemble[X]:
    """Integrate `dx/dt = field(t, x, args)` for many starts and parameters, each lane with its own step sizes.

    Differentiable in both modes, to any order, with respect to `x0s`, `ts` and `args`.

    Args:
        field: Velocity of one lane: `field(t, x, args)`, of `x`'s structure and shapes. Where it compares `t` (a
            linear function of it, or the sine or cosine of one) with numbers or parameters, or takes `abs`, `max`,
            `clip`, `floor` or `%` of it, steps end: no pulse is stepped over. Other switches in time (tables,
            `t**2 < 2`) are left to the error estimate, as are those of the state (`x < a`). First derivatives through a
            switch are those of the solution, which jump where the velocity jumps; second ones are NaN there.
        x0s: Starts: the state's pytree, real or complex. Each leaf has a leading axis of `n` lanes, or of 1, or is a
            plain number; the last two are shared by all lanes.
        ts: Times from the beginning to the end, forwards or backwards: shape `(m,)` for all lanes, or `(n, 2)` for the
            beginning and the end of each lane. States are kept at each; with two times none is saved on the way.
        args: Parameters: any pytree, whose leaves have leading axes like those of `x0s`. It may hold nets of equinox or
            flax; the arrays of one that all lanes share need a leading axis of 1, or the field closes over it.
        method: `"taylor"`, whose order follows from `rtol`; an explicit embedded Runge-Kutta scheme, e.g. `"tsit5"` or
            `"dopri8"`; or `Taylor(...)`, `RungeKutta(...)` with their own settings. Lanes of more than some 250 numbers
            and operations (a neural net in the field, for one) are moved as arrays by diffrax, in steps that follow the
            state alone unless `control="tangents"`. There, and where the number of operations times its order is above
            1,000, `"dopri8"` takes the place of Taylor's method.
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step, in units of the state: a number; or one for each number of a lane's state,
            in its structure, with numbers or arrays of its shapes as leaves. Taylor's method, whose relative tolerance
            is one of the largest number of a state, then counts each number in units of its tolerance.
        max_steps: Largest number of steps of a lane (from one jump or event to the next), rejected ones included;
            beyond it the status is `max_steps`, or `stiff` where stability set the steps (then use `jaxkit.solve` with
            an implicit method).
        event: What happens on the way: a function that stops a lane where `event(t, x, args)` first changes its sign
            after the start; an `Event` with a direction, a change of state or repeats; `Jumps` at given times; or a
            sequence of these. A pair of changes within a step is found where the cubic through its ends' values and
            rates shows it.
        run: `Run(devices=...)` shares the lanes out over devices; an ensemble uses no other field of it.

    Returns:
        An `Ensemble`. It does not raise inside `jit`: call `.checked()` on the host, or look at `.status`.

    Raises:
        ValueError: An argument has a wrong shape, or a value known to be unusable.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> decay = lambda t, x, rate: -rate * x
        >>> found = jk.ensemble(decay, jnp.ones(3), (0.0, 1.0), jnp.array([0.5, 1.0, 2.0])).checked()
        >>> [round(float(x), 5) for x in found.final]  # exp(-rate)
        [0.60653, 0.36788, 0.13534]
    """
    form, own = form_of(x0s, args)
    if form is not None:
        options: Any = {"method": method, "rtol": rtol, "atol": form.tolerance(atol), "max_steps": max_steps}
        events = form.events(event)
        found = ensemble(form.field(field), form.state(x0s), ts, own, event=events, run=run, **options)
        return form.result(found)
    asked, numbers = actions(event)
    settings = Settings.of(method, rtol=rtol, atol=atol, max_steps=max_steps, actions=asked, run=run)
    arrays = (x0s, as_times(ts), args, numbers)
    return run_kept(_solve, (field, settings), arrays, wide=True)  # the arguments are checked during tracing


def _solve(field: Field, settings: Settings, x0s: PyTree, ts: Any, args: PyTree, numbers: Numbers) -> Ensemble:
    return solve_ensemble(field, settings, x0s, ts, args, numbers)


def solve_ensemble(field: Field, settings: Settings, x0s: PyTree, ts: Any, args: PyTree, numbers: Numbers) -> Ensemble:
    """The ensemble, as a part of a program.

    Args:
        field: The field.
        settings: How it is solved.
        x0s: Starts.
        ts: Times.
        args: Parameters.
        numbers: Times and amounts of the jumps.
    """
    if settings.actions.goes_on:
        return _in_legs(field, settings, x0s, ts, args, numbers)
    plan, given = prepare(field, settings, x0s, ts, args)
    return with_events(with_ends(solve_lanes(plan, given), given, ts), settings)


def _in_legs(field: Field, settings: Settings, x0s: PyTree, ts: Any, args: PyTree, numbers: Numbers) -> Ensemble:
    """An ensemble whose lanes may go on behind jumps and events."""
    count, alike = len(settings.events), settings.method.alike
    args = jax.tree.map(jnp.asarray, args)
    x0s = widened(x0s, args, numbers)
    place = len(jax.tree.leaves(args))  # of the offsets, which each lane has for itself, among the parameters
    less = lambda k: lambda t, x, a: settings.events[k](t, x, a[0]) - a[1][k]
    shifted = settings._replace(events=tuple(map(less, range(count))))
    if alike is not None:
        shifted = shifted._replace(method=dataclasses.replace(shifted.method, alike=lambda x, a: alike(x, a[0])))
    own = lambda t, x, a: field(t, x, a[0])
    offsets = jnp.zeros((1, count), jax.tree.leaves(x0s)[0].dtype)
    plan, given = prepare(own, shifted, x0s, ts, (args, offsets))
    plan = plan._replace(lanewise=(*plan.lanewise[:place], True, *plan.lanewise[place + 1 :]))
    n, dtype = len(given.t0), given.t0.dtype
    none = jnp.zeros((n, count), dtype)
    leaves = lambda offset: (*given.leaves[:place], offset, *given.leaves[place + 1 :])
    axes = plan.treedef.unflatten([0 if lane else None for lane in plan.lanewise])
    whole = plan.treedef.unflatten(leaves(none))
    theirs = lambda a: a[0][0] if plan.closes else a[0]

    def run(t: Array, x: PyTree, until: Array, offset: Array) -> Ensemble:
        found = solve_lanes(plan, Given(x, leaves(offset), t, until, given.ts))
        if not numbers:
            return found
        flow = lambda s, t, x, a: after(s, lambda t, x: plan.field(t, x, a), t, x)
        still = until == t  # a leg of no length, to a jump at its very beginning
        s = jnp.where(still, until, t) - t
        final = jax.vmap(flow, (0, 0, 0, axes))(s, t, x, whole)
        return dataclasses.replace(
            found, final=choose(still, final, found.final), end=jnp.where(still, t + s, found.end)
        )

    def each(fn: Any, t: Array, x: PyTree, *more: Any) -> PyTree:
        return jax.vmap(lambda t, x, a, *more: fn(t, x, theirs(a), *more), (0, 0, axes, *(0 for _ in more)))(
            t, x, whole, *more
        )

    def measure(t: Array, x: PyTree) -> tuple[Array, Array, Array]:
        events = [lambda t, x, a, e=e: e(t, x, a) for e in plan.settings.events]
        return jax.vmap(functools.partial(measured, plan.field, events), (0, 0, axes))(
            *jax.lax.stop_gradient((t, x, whole))
        )

    def moved(k: int, hit: Array, t: Array, x: PyTree) -> tuple[Array, PyTree]:
        one = lambda hit, t, x, a: delayed(hit, plan.settings.events[k], plan.field, t, x, a)
        return jax.vmap(one, (0, 0, 0, axes))(hit, t, x, whole)

    times, amounts = as_numbers(numbers, n, dtype, lanes=True)
    rules = Rules(settings.actions, run, measure, moved, each, times, amounts)
    found, starts = travel(rules, given.starts, given.t0, given.t1, given.ts)
    return with_ends(found, given._replace(starts=starts), ts)


def widened(x0s: PyTree, args: PyTree, numbers: Numbers) -> PyTree:
    """Starts, repeated for each lane where the times of jumps alone tell how many lanes there are."""
    x0s = as_state("x0s", x0s, finite=False)
    rows = max((jnp.shape(times)[0] for times, _ in numbers if jnp.ndim(times) == 2), default=1)
    if rows == 1 or any(jnp.ndim(v) and jnp.shape(v)[0] != 1 for v in jax.tree.leaves((x0s, args))):
        return x0s
    return jax.tree.map(lambda v: jnp.broadcast_to(v, (rows, *v.shape[1:])), x0s)
