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
    check_events,
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
from jaxkit.dynamics.ode.saltation import with_jumps
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
    check_events(functions, times[0], x0, args)
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


class _Leg(NamedTuple):
    """What is solved: the field or equation with what it closes over in `args`, from checked arguments.

    Attributes:
        equation: The field, or an equation with noise.
        drift: The field, or the equation's drift.
        event: The event functions as one vector; None without events.
        x0: The start.
        args: Parameters.
        times: The times at which it is solved, beginning and end among them.
        given: The times as the user gave them.
        timed: A status for those.
        whole: The times of the motion of which this is a leg.
        usable: For implicit methods, whether start, parameters and velocity are finite; None where nobody asks.
        settings: The method's settings.
        solver: Diffrax's solver.
        controller: Its step control.
        stable: Whether steps are not limited by stability.
        in_legs: Whether it is a leg of a motion with jumps or events.
    """

    equation: Any
    drift: Field
    event: Any
    x0: Any
    args: Any
    times: Array
    given: Array
    timed: Array
    whole: Array
    usable: Any
    settings: RungeKutta
    solver: Any
    controller: Any
    stable: bool
    in_legs: bool

    @property
    def noisy(self) -> bool:
        """Whether there is noise."""
        return isinstance(self.equation, SDE)


def leg(
    options: Options, field: Field | SDE, x0: Any, times: Array, args: Any, whole: Array | None = None
) -> tuple[Solution, Array]:
    """One trajectory without jumps, to its first event, and the index of that; -1 if none is met.

    If `whole` is given, this is a leg of a motion at those times, and its own are in order but may coincide.
    """
    own = _stated(options, field, x0, times, args, whole)
    met = None if own.event is None else _met(own, options.max_steps)
    times = own.times
    if met is not None:
        way = way_of(times[0], times[-1])
        times = jnp.where(met.hit, way * jnp.minimum(way * times, way * met.t), times)
    (saved, end, final, path), (result, steps, rejected) = _moved(own, times, options)
    saved, end, final = _ended(own, met, times, saved, end, final)
    status = _judged(own, met, times, _status(result, final), (end, final, steps))
    saved, end, final = _with_lost(own, status, saved, end, final)
    which = jnp.asarray(-1, jnp.int32) if met is None else jnp.where(met.hit, met.which, -1)
    found = Solution(own.given, saved, worst(own.timed, status), steps, rejected, end, final)
    return (replace(found, path=_path(own, options, path, end)) if options.dense else found), which


def _stated(options: Options, field: Field | SDE, x0: Any, times: Array, args: Any, whole: Array | None) -> _Leg:
    """Arguments checked, what the functions close over opened, and the solver fitted to the field."""
    method, rtol, atol, _, asked, _ = options
    settings, solver = cast(tuple[RungeKutta, diffrax.AbstractSolver], of_solve(method))
    x0, times = as_state("x0", x0, finite=False), checks.floating("ts", times)
    noisy, fixed = isinstance(field, SDE), settings.dt is not None
    _check(field, settings, solver, times[0], x0, args, rtol)
    check_events(asked.functions, times[0], x0, args)
    given, timed = times, of_times(times, backwards=not noisy)
    if whole is None:
        times = _in_order(times, timed)
    else:
        timed = jnp.full_like(timed, int(Status.ok))
    event = None
    if asked.functions:
        event = lambda t, x, a: jnp.stack([jnp.reshape(e(t, x, a), ()).astype(t.dtype) for e in asked.functions])
    equation, event, args = _opened(field, event, times[0], x0, args)
    equation = noise.in_sense_of(equation, solver) if isinstance(equation, SDE) else equation
    drift = equation.drift if isinstance(equation, SDE) else equation
    controller: Any = diffrax.ConstantStepSize()
    if not fixed:
        controller = with_stops(control(rtol, atol, x0), drift, times, x0, args)
    if isinstance(controller, Stops):
        times = times + jax.lax.stop_gradient(controller.times(times) - times)
    implicit = isinstance(solver, diffrax.AbstractImplicitSolver)
    guarded = implicit and not noisy
    usable = all_finite((x0, args, given, drift(given[0], x0, args))) if guarded else None
    if isinstance(solver, Auto):
        solver = solver.fitted(drift, times[0], x0, args, settings.jacobian, rtol)
    if implicit and (fixed or event is not None):
        solver = with_tolerances(solver, rtol, least(atol))
    if not noisy and not fixed:
        solver = with_jumps(solver, drift, times[0], x0, args)
    stable = implicit or (isinstance(solver, Auto) and solver.implicit)
    over = times if whole is None else whole
    return _Leg(
        equation, drift, event, x0, args, times, given, timed, over, usable, settings, solver, controller, stable,
        whole is not None,
    )  # fmt: skip


def _check(field: Field | SDE, settings: RungeKutta, solver: Any, t: Array, x0: Any, args: Any, rtol: float) -> None:
    noisy, fixed = isinstance(field, SDE), settings.dt is not None
    checks.require(fixed or not noisy, "method", "have a fixed step `dt` for an SDE", "has none")
    noiseless = not (noisy and isinstance(solver, Auto))
    checks.require(noiseless, "scheme", "be one for noise, such as 'euler'", f"is {settings.scheme!r}")
    if not fixed:
        check_tolerance(rtol, jax.tree.leaves(x0)[0].dtype)
    check_field(field.drift if isinstance(field, SDE) else field, t, x0, args)
    if isinstance(field, SDE):
        noise.noises(field, t, x0, args)


def _moved(own: _Leg, times: Array, options: Options) -> tuple[Any, Any]:
    """The states at the times, the end and the state there, the steps' ends; diffrax's result and counts of steps.

    Diffrax has no second derivatives by times: they are held there, and the states moved with them by the field.
    """
    start, held = own.x0, times
    onward = lambda s, t, x: moving_on(own.drift, s, t, x, own.args, in_scan=own.in_legs)
    if not own.noisy:
        held = jax.lax.stop_gradient(times)
        start = onward(held[0] - times[0], times[0], own.x0)
    given = (start, held, own.args)
    (saved, end, final, path), counts = _travel(own, given, options.max_steps, dense=options.dense)
    if not own.noisy:
        saved = jax.vmap(onward)(times - held, held, saved)
        final = onward(times[-1] - held[-1], held[-1], final)
        saved, final = at_rest(own.drift, (saved, final), (own.x0, times, own.args))
    if own.usable is not None:
        saved, final, path = restored((saved, final, path), own.usable, own.settings.dt)
    return (saved, end, final, path), counts


def _ended(own: _Leg, met: Met | None, times: Array, saved: Any, end: Array, final: Any) -> tuple[Any, Array, Any]:
    """The end as it was asked for, or moving with its event; what would have been saved behind that is infinite."""
    if met is None:
        return saved, jnp.where(end == times[-1], own.given[-1], end), final
    there, final = moving(met, cast(Any, own.event), None if own.noisy else own.drift, final, own.args)
    end = jnp.where(met.hit & (end == times[-1]), there, jnp.where(end == times[-1], own.given[-1], end))
    way = way_of(own.times[0], own.times[-1])
    beyond = met.hit & (way * own.times > way * met.t)
    late = lambda v: jnp.where(beyond.reshape(-1, *(1,) * (v.ndim - 1)), jnp.inf, v)
    return jax.tree.map(late, saved), end, final


def _judged(own: _Leg, met: Met | None, times: Array, status: Array, reached: tuple[Array, Any, Array]) -> Array:
    """The status with what is known of the event, and with the true reason of a failure."""
    if met is not None:
        status = jnp.where(met.lost & (status == int(Status.ok)), int(Status.not_finite), status)
        status = jnp.where(met.early & (status == int(Status.ok)), int(Status.max_steps), status)
    return true_reason(status, own.drift, (times[0], own.x0, own.args), reached, explicit=not own.stable)


def _with_lost(own: _Leg, status: Array, saved: Any, end: Array, final: Any) -> tuple[Any, Array, Any]:
    """Without derivatives where the solve failed, and without values where the times are of no use."""
    lost = status != int(Status.ok)
    if own.usable is not None:
        given = (own.given, own.x0, own.args)
        saved, end, final = detached(lost, own.drift, (saved, end, final), given, (end, final))
    else:
        end, final = without_derivative(lost, (end, final))
    return without_derivative(own.timed != int(Status.ok), (saved, end, final), value_too=True)


def _path(own: _Leg, options: Options, ends: tuple[Any, ...], end: Array) -> Path:
    """The solution between its steps."""
    args = own.args
    if has_table(own.solver):
        within, args = by_scheme(own.solver, own.drift, own.controller, args)
    else:
        within = Within(_again, (own.drift, options._replace(actions=Actions(), dense=False)))
    return Path(within, *ends, (own.given[0], end), args)  # pyright: ignore[reportCallIssue]


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


def _travel(own: _Leg, given: tuple[Any, Array, Any], max_steps: int, *, dense: bool) -> tuple[Any, Any]:
    """The states at all times, the end and the state there, the ends of all steps and the states there if `dense`.

    Then diffrax's result and the steps taken and rejected.

    Args:
        own: What is solved. The noise is drawn over its whole times, as if there were no event.
        given: Start, times and parameters.
        max_steps: Largest number of steps.
        dense: Whether the ends of the steps are kept.
    """
    more = [diffrax.SubSaveAt(steps=True)] if dense else []
    equation, solver, settings = own.equation, own.solver, own.settings
    numbers, rest = eqx.partition(own.controller, eqx.is_array)
    changes = isinstance(solver, Auto) and solver.changes
    inputs = (equation if own.noisy else None, given, own.usable, own.whole, numbers)

    def program(adjoint: str) -> Callable[..., tuple[Any, Any]]:
        def travelled(noise: Any, given: Any, usable: Any, whole: Array, numbers: Any) -> tuple[Any, Any]:
            rule, (start, times, args) = equation if noise is None else noise, given
            if noise is None and usable is None and adjoint != "forward":  # a step that overflows is refused
                rule = held_where_not_finite(cast(Field, rule))
            if usable is not None:
                rule, start, args = substituted(own.drift, start, args, usable, again=adjoint == "direct")
            whole, times = jax.lax.stop_gradient((whole, times))
            steps = eqx.combine(numbers, rest)
            found = diffrax.diffeqsolve(
                _terms(rule, solver, whole, start, args, settings.dt),
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


def _met(own: _Leg, max_steps: int) -> Met:
    """Where the event is met, without derivatives: what the functions close over is held fixed, too."""
    x0, args, times, event = own.x0, own.args, own.times, own.event
    if own.usable is not None:
        _, x0, args = substituted(own.drift, x0, args, own.usable, again=False)
    whole = lambda t, x, a: (own.drift(t, x, a), event(t, x, a))
    fn, values = closed(whole, times[0], x0, args)
    given = jax.lax.stop_gradient((x0, times, (args, values)))
    field = lambda t, x, a: fn(t, x, a[0], *a[1])[0]
    way = way_of(given[1][0], given[1][-1])  # times are multiplied by it, so that they increase
    when = lambda t, x, a: fn(t * way, x, a[0], *a[1])[1]
    controller = own.controller
    inner = controller.controller if isinstance(controller, Stops) else controller
    if isinstance(controller, Stops):
        inner = with_stops(inner, field, given[1], given[0], given[2]).wrap(way)
    if own.noisy:
        when, given = event, (*given[:2], given[2][0])
        terms = _terms(own.equation, own.solver, own.whole, own.x0, own.args, own.settings.dt)
    else:
        terms = diffrax.ODETerm(cast(Any, turned(field, way)))
    span = (given[1][0] * way, given[1][-1] * way)
    solver, dt = within_stretches(own.solver, inner), own.settings.dt
    found = first_event(solver, terms, inner, when, given[0], span, given[2], dt=dt, max_steps=max_steps)
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
