"""One trajectory by a Runge-Kutta scheme: diffrax behind a status instead of exceptions."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxkit.core import checks
from jaxkit.core.numerics import all_finite
from jaxkit.core.status import Status, worst
from jaxkit.dynamics.linear.both_modes import both_modes
from jaxkit.dynamics.linear.implicit import closed
from jaxkit.dynamics.ode import noise
from jaxkit.dynamics.ode.actions import Actions, Event, Numbers, as_numbers, told
from jaxkit.dynamics.ode.auto import Auto, in_two_loops
from jaxkit.dynamics.ode.dense import Path, Within, by_scheme, has_table
from jaxkit.dynamics.ode.engine.batch import Ensemble
from jaxkit.dynamics.ode.engine.legs import Rules, measured, travel
from jaxkit.dynamics.ode.field import (
    Field,
    as_state,
    check_field,
    check_tolerance,
    held_where_not_finite,
    way_of,
)
from jaxkit.dynamics.ode.first_event import Met, delayed, first_event, moving
from jaxkit.dynamics.ode.implicit_steps import detached, opened, restored, substituted, with_tolerances
from jaxkit.dynamics.ode.methods import ADJOINTS, SDE, Method, RungeKutta, of_solve
from jaxkit.dynamics.ode.onward import after, at_rest, moving_on
from jaxkit.dynamics.ode.reasons import nought, of_times, true_reason, without_derivative
from jaxkit.dynamics.ode.solution import Solution, only_lane
from jaxkit.dynamics.ode.stops import Stops, turned, with_stops, within_stretches
from jaxkit.dynamics.ode.tolerance import control, least

ROOM = 1 << 18  # most numbers that checkpoints take, but for the fewest of them
FEWEST = 24


class Options(NamedTuple):
    """How diffrax solves."""

    method: str | Method | diffrax.AbstractSolver
    rtol: float
    atol: Any  # see `absolute`
    max_steps: int
    actions: Actions
    dense: bool = False


def by_diffrax(options: Options, field: Field | SDE, x0: Any, times: Array, args: Any, numbers: Numbers) -> Solution:
    """One trajectory by a Runge-Kutta scheme."""
    if options.actions.goes_on:
        return _in_legs(options, field, x0, times, args, numbers)
    found, which = leg(options, field, x0, times, args)
    if not options.actions.events:
        return found
    return replace(found, events=told(which >= 0, found.end, found.final, which))


def _in_legs(options: Options, field: Field | SDE, x0: Any, times: Array, args: Any, numbers: Numbers) -> Solution:
    """One trajectory that may go on behind jumps and events: as an ensemble of one lane."""
    x0, times = as_state("x0", x0, finite=False), checks.floating("ts", times)
    drift, functions = field.drift if isinstance(field, SDE) else field, options.actions.functions
    check_field(drift, times[0], x0, args)
    timed = of_times(times, backwards=False)
    times = _in_order(times, timed)
    less = lambda k: lambda t, x, a: functions[k](t, x, a[0]) - a[1][k]
    own = options._replace(actions=Actions(tuple(Event(less(k)) for k in range(len(functions)))))
    of = lambda fn: lambda t, x, a: fn(t, x, a[0])
    noisy = isinstance(field, SDE)
    lone = replace(field, drift=of(field.drift), diffusion=of(field.diffusion)) if noisy else of(field)
    lane = lambda tree: jax.tree.map(lambda v: jnp.asarray(v)[None], tree)
    only = lambda tree: jax.tree.map(lambda v: v[0], tree)

    def run(t: Array, x: Any, until: Array, offset: Array) -> Ensemble:
        t, x, until, offset = only((t, x, until, offset))
        inner = jnp.where(times < t, t, jnp.where(times > until, until, times))
        legs = jnp.concatenate([t[None], inner, until[None]])
        found, which = leg(own, lone, x, legs, (args, offset), whole=times)
        flow = after(nought(until) - nought(t), lambda t, x: drift(t, x, args), t, x)  # a leg of no length
        final = jax.tree.map(lambda a, b: jnp.where(until == t, a, b), flow, found.final)
        xs = jax.tree.map(lambda v: v[1:-1], found.xs)
        return Ensemble(times, *lane((xs, found.status, found.steps, found.rejected, found.end, final, which)))

    each = lambda fn, t, x, *more: lane(fn(t[0], only(x), args, *only(more)))
    measure = lambda t, x: lane(measured(drift, functions, *jax.lax.stop_gradient((t[0], only(x), args))))

    def moved(k: int, hit: Array, t: Array, x: Any) -> tuple[Array, Any]:
        return lane(delayed(hit[0], functions[k], drift, t[0], only(x), args))

    jumps, amounts = as_numbers(numbers, 1, times.dtype, lanes=False)
    rules = Rules(options.actions, run, measure, moved, each, jumps, amounts)
    found = only_lane(times, travel(rules, lane(x0), times[:1], times[-1:], times)[0])
    lost = worst(timed, found.status) != int(Status.ok)
    end, final = without_derivative(lost, (found.end, found.final))
    xs, end, final = without_derivative(timed != int(Status.ok), (found.xs, end, final), value_too=True)
    return replace(found, xs=xs, end=end, final=final, status=worst(timed, found.status))


def leg(
    options: Options, field: Field | SDE, x0: Any, times: Array, args: Any, whole: Array | None = None
) -> tuple[Solution, Array]:
    """One trajectory without jumps, to its first event, and the index of that; -1 if none is met.

    If `whole` is given, this is a leg of a motion at those times, and its own are in order but may coincide.
    """
    method, rtol, atol, max_steps, asked, dense = options
    event = asked.functions or None
    if event is not None:
        event = lambda t, x, a: jnp.stack([jnp.reshape(e(t, x, a), ()).astype(t.dtype) for e in asked.functions])
    settings, solver = cast(tuple[RungeKutta, diffrax.AbstractSolver], of_solve(method))
    x0, times = as_state("x0", x0, finite=False), checks.floating("ts", times)
    drift, fixed = field.drift if isinstance(field, SDE) else field, settings.dt is not None
    checks.require(fixed or drift is field, "method", "have a fixed step `dt` for an SDE", "has none")
    noiseless = drift is field or not isinstance(solver, Auto)
    checks.require(noiseless, "scheme", "be one for noise, such as 'euler'", f"is {settings.scheme!r}")
    if not fixed:
        check_tolerance(rtol, jax.tree.leaves(x0)[0].dtype)
    check_field(drift, times[0], x0, args)
    if isinstance(field, SDE):
        noise.noises(field, times[0], x0, args)
    given, timed = times, of_times(times, backwards=drift is field)
    if whole is not None:
        timed = jnp.full_like(timed, int(Status.ok))
    else:
        times = _in_order(times, timed)
    implicit = isinstance(solver, diffrax.AbstractImplicitSolver)
    guarded = implicit and drift is field
    field, event, args = _opened(field, event, times[0], x0, args)
    field = noise.in_sense_of(field, solver) if isinstance(field, SDE) else field
    drift = field.drift if isinstance(field, SDE) else field
    controller: Any = diffrax.ConstantStepSize() if fixed else control(rtol, atol, x0)
    controller = controller if fixed else with_stops(controller, drift, times, x0, args)
    if isinstance(controller, Stops):
        times = times + jax.lax.stop_gradient(controller.times(times) - times)
    way = way_of(times[0], times[-1])
    usable = all_finite((x0, args, given, drift(given[0], x0, args))) if guarded else None
    if isinstance(solver, Auto):
        solver = solver.fitted(drift, times[0], x0, args, settings.jacobian, rtol)
    if implicit and (fixed or event is not None):
        solver = with_tolerances(solver, rtol, least(atol))
    stable = implicit or (isinstance(solver, Auto) and solver.implicit)
    in_legs = whole is not None
    goal, met, whole = times, None, times if whole is None else whole
    if event is not None:
        equation, start, given_args = field, x0, args
        if usable is not None:
            equation, start, given_args = substituted(drift, x0, args, usable, again=False)
        terms = _terms(equation, solver, whole, x0, args, settings.dt)
        met = _met(drift, terms, solver, controller, event, start, times, given_args, settings.dt, max_steps)
        times = jnp.where(met.hit, way * jnp.minimum(way * times, way * met.t), times)
    start, held = x0, times
    if drift is field:  # diffrax has no second derivatives by times
        held = jax.lax.stop_gradient(times)
        onward = lambda s, t, x: moving_on(drift, s, t, x, args, in_scan=in_legs)
        start = onward(held[0] - times[0], times[0], x0)
    (saved, end, final, path), (result, steps, rejected) = _travel(
        field, (start, held, args), usable, whole, solver, controller, settings, max_steps, dense=dense
    )
    if drift is field:
        onward = lambda s, t, x: moving_on(drift, s, t, x, args, in_scan=in_legs)
        saved = jax.vmap(onward)(times - held, held, saved)
        final = onward(times[-1] - held[-1], held[-1], final)
        saved, final = at_rest(drift, (saved, final), (x0, times, args))
    if usable is not None:
        saved, final, path = restored((saved, final, path), usable, settings.dt)
    if met is None:
        end = jnp.where(end == times[-1], given[-1], end)
    else:
        there, final = moving(met, cast(Any, event), drift if drift is field else None, final, args)
        end = jnp.where(met.hit & (end == times[-1]), there, jnp.where(end == times[-1], given[-1], end))
        beyond = met.hit & (way * goal > way * met.t)
        late = lambda v: jnp.where(beyond.reshape(-1, *(1,) * (v.ndim - 1)), jnp.inf, v)
        saved = jax.tree.map(late, saved)
    status = _status(result, final)
    if met is not None:
        status = jnp.where(met.hit & met.lost & (status == int(Status.ok)), int(Status.not_finite), status)
        status = jnp.where(met.early & (status == int(Status.ok)), int(Status.max_steps), status)
    status = true_reason(status, drift, (times[0], x0, args), (end, final, steps), explicit=not stable)
    lost = status != int(Status.ok)
    if guarded:
        saved, end, final = detached(lost, drift, (saved, end, final), (given, x0, args), (end, final))
    else:
        end, final = without_derivative(lost, (end, final))
    lost = timed != int(Status.ok)
    saved, end, final = without_derivative(lost, (saved, end, final), value_too=True)
    which = jnp.asarray(-1, jnp.int32) if met is None else jnp.where(met.hit, met.which, -1)
    found = Solution(given, saved, worst(timed, status), steps, rejected, end, final)
    if not dense:
        return found, which
    if has_table(solver):
        within, args = by_scheme(solver, drift, controller, args)
    else:
        within = Within(_again, (drift, options._replace(actions=Actions(), dense=False)))
    path = Path(within, *path, (given[0], end), args)  # pyright: ignore[reportCallIssue]
    return replace(found, path=path), which


def _again(moves: tuple[Field, Options], t: Array, x: Any, h: Array, args: Any) -> Any:
    """The state a time `h` after `(t, x)`, by a solve of its own."""
    found = leg(moves[1], moves[0], x, jnp.stack([t, t + h]), args)[0]
    return without_derivative(~found.ok, found.final, value_too=True)


def _opened(field: Field | SDE, event: Any, t: Array, x0: Any, args: Any) -> tuple[Any, Any, Any]:
    """Field (or equation), event and parameters, where the parameters hold the tracers that the field closes over."""
    if not isinstance(field, SDE):
        return opened(field, event, t, x0, args)
    both, seen, args = opened(lambda t, x, a: (field.drift(t, x, a), field.diffusion(t, x, a)), event, t, x0, args)
    drift, diffusion = (lambda t, x, a: both(t, x, a)[0]), (lambda t, x, a: both(t, x, a)[1])
    return replace(field, drift=drift, diffusion=diffusion), seen, args


def _travel(
    equation: Any, given: tuple[Any, Array, Any], usable: Any, whole: Array, solver: Any, controller: Any,
    settings: RungeKutta, max_steps: int, *, dense: bool,
) -> tuple[Any, Any]:  # fmt: skip
    """The states at all times, the end and the state there, the ends of all steps and the states there if `dense`.

    Then diffrax's result and the steps taken and rejected.

    Args:
        equation: The field, or an equation with noise.
        given: Start, times and parameters.
        usable: For implicit methods, whether these are finite (see `substituted`); else None.
        whole: The times as if there were no event, over which the noise is drawn.
        solver: Diffrax's solver.
        controller: Its step control.
        settings: The method's settings: its fixed step and its adjoint.
        max_steps: Largest number of steps.
        dense: Whether the ends of the steps are kept.
    """
    more = [diffrax.SubSaveAt(steps=True)] if dense else []
    numbers, rest = eqx.partition(controller, eqx.is_array)
    changes = isinstance(solver, Auto) and solver.changes
    field: Any = equation
    inputs = (equation if isinstance(equation, SDE) else None, given, usable, whole, numbers)

    def program(adjoint: str) -> Callable[..., tuple[Any, Any]]:
        def travelled(noise: Any, given: Any, usable: Any, whole: Array, numbers: Any) -> tuple[Any, Any]:
            own, (start, times, args) = equation if noise is None else noise, given
            if noise is None and usable is None and adjoint != "forward":  # a step that overflows is refused
                own = held_where_not_finite(cast(Field, own))
            if usable is not None:
                own, start, args = substituted(field, start, args, usable, again=adjoint == "direct")
            whole, times = jax.lax.stop_gradient((whole, times))
            steps = eqx.combine(numbers, rest)
            found = diffrax.diffeqsolve(
                _terms(own, solver, whole, start, args, settings.dt),
                within_stretches(solver, steps),
                t0=times[0],
                t1=times[-1],
                dt0=None if settings.dt is None else settings.dt * way_of(times[0], times[-1]),
                y0=start,
                args=args,
                saveat=diffrax.SaveAt(subs=[diffrax.SubSaveAt(ts=times), diffrax.SubSaveAt(t1=True), *more]),
                stepsize_controller=steps,
                adjoint=_adjoint(adjoint, start, max_steps, in_two=changes),
                max_steps=max_steps,
                throw=False,
            )
            saved, end = cast(Any, found.ys)[0], cast(Any, found.ts)[1][-1]
            final = jax.tree.map(lambda v: v[-1], cast(Any, found.ys)[1])
            stats, path = found.stats, ()
            if dense:
                first = lambda a, b: jnp.concatenate([a[None], b])
                path = first(times[0], cast(Any, found.ts)[2]), jax.tree.map(first, start, cast(Any, found.ys)[2])
            return (saved, end, final, path), (found.result, stats["num_accepted_steps"], stats["num_rejected_steps"])

        return travelled

    if settings.adjoint != "auto":
        return program(settings.adjoint)(*inputs)
    return both_modes(*map(program, ("forward", "checkpointed", "direct")), *inputs)


def _adjoint(name: str, start: Any, max_steps: int, *, in_two: bool) -> diffrax.AbstractAdjoint:
    """What gives a solve its derivatives.

    Checkpoints are allocated before the number of steps is known. For few numbers there are as many as `max_steps` asks
    for; a large state has fewer, from which more steps are repeated: 24 of them repeat each of 2,900 steps thrice.
    """
    options = {}
    if name == "checkpointed":
        size = max(1, sum(v.size for v in jax.tree.leaves(start)))
        usual = 1 + math.floor(math.sqrt(2 * max_steps + 0.25) - 1.5)
        options["checkpoints"] = max(1, min(usual, max(FEWEST, ROOM // size)))
    kind = ADJOINTS[name]
    return in_two_loops(kind, **options) if in_two else kind(**options)


def _terms(field: Any, solver: Any, ts: Array, x0: Any, args: Any, dt: float | None) -> Any:
    """The velocity alone, or drift and diffusion along one Brownian path."""
    return noise.terms(field, solver, ts, x0, args, dt) if isinstance(field, SDE) else diffrax.ODETerm(field)


def _met(
    drift: Field, terms: Any, solver: Any, controller: Any, event: Any, x0: Any, times: Array, args: Any, dt: Any,
    max_steps: int,
) -> Met:  # fmt: skip
    """Where the event is met, without derivatives: what the functions close over is held fixed, too."""
    noisy = not isinstance(terms, diffrax.ODETerm)
    whole = lambda t, x, a: (drift(t, x, a), event(t, x, a))
    fn, values = closed(whole, times[0], x0, args)
    given = jax.lax.stop_gradient((x0, times, (args, values)))
    field = lambda t, x, a: fn(t, x, a[0], *a[1])[0]
    way = way_of(given[1][0], given[1][-1])  # times are multiplied by it, so that they increase
    when = lambda t, x, a: fn(t * way, x, a[0], *a[1])[1]
    inner = controller.controller if isinstance(controller, Stops) else controller
    if isinstance(controller, Stops):
        inner = with_stops(inner, field, given[1], given[0], given[2]).wrap(way)
    if noisy:
        when, given = event, (*given[:2], given[2][0])
    span = (given[1][0] * way, given[1][-1] * way)
    own = terms if noisy else diffrax.ODETerm(cast(Any, turned(field, way)))
    solver = within_stretches(solver, inner)
    found = first_event(solver, own, inner, when, given[0], span, given[2], dt=dt, max_steps=max_steps)
    return jax.lax.stop_gradient(found._replace(t=found.t * way))


def _in_order(times: Array, timed: Array) -> Array:
    """Times that are not known, replaced where they are unusable: diffrax raises from inside the program there."""
    if not checks.is_traced(times):
        return times
    return jnp.where(timed == int(Status.ok), times, jnp.arange(times.size, dtype=times.dtype) + nought(times))


def _status(result: Any, final: Any) -> Int[Array, ""]:
    """Our code for diffrax's result."""
    codes = diffrax.RESULTS
    fine = (result == codes.successful) | (result == codes.event_occurred)
    slow = (result == codes.max_steps_reached) | (result == codes.nonlinear_max_steps_reached)
    small = result == codes.dt_min_reached
    finite = all_finite(final)
    code = jnp.where(slow, int(Status.max_steps), jnp.where(small, int(Status.step_too_small), int(Status.singular)))
    return jnp.where(fine, jnp.where(finite, int(Status.ok), int(Status.not_finite)), code)
