"""The time at which a motion by one of diffrax's methods meets its event: the first change of sign after the start.

An event means the same as in ensembles (`engine.events`), whose watch looks into each step by diffrax's dense output.
The search is a loop of its own, without derivatives; the motion is then solved up to the time that was found. How this
time moves follows from the event function, which stays zero.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxkit.core.numerics import choose
from jaxkit.dynamics.linear.implicit import closed, implicit
from jaxkit.dynamics.linear.ways import root_tangent
from jaxkit.dynamics.ode.auto import Auto
from jaxkit.dynamics.ode.engine import events as watching
from jaxkit.dynamics.ode.engine.events import Mark, Watch
from jaxkit.dynamics.ode.field import Field
from jaxkit.dynamics.ode.onward import after
from jaxkit.dynamics.ode.reasons import nought, without_derivative

Events = Callable[[Array, Any, Any], Float[Array, " e"]]  # the values of all event functions


class Met(NamedTuple):
    """Where the first of the events was met."""

    hit: Bool[Array, ""]
    which: Int[Array, ""]  # the index of the event function; -1 where there is no event
    lost: Bool[Array, ""]  # whether the event function is not a number there, or never was one on the way
    early: Bool[Array, ""]  # whether the search ended before it came to an event or to the end
    t: Float[Array, ""]  # the end of the time span where there is no event
    x: PyTree
    velocity: PyTree  # velocity of the dense output


class _Carry(NamedTuple):
    span: tuple[Array, Array]  # time span of the next step
    x: PyTree
    states: tuple[Any, Any, Any]  # states of the solver and the controller, and whether there was a jump
    tried: Array
    fine: Array
    watch: Watch
    met: Met


def first_event(
    solver: diffrax.AbstractSolver, terms: Any, controller: Any, event: Events, x0: PyTree, span: tuple[Array, Array],
    args: PyTree, *, dt: float | None, max_steps: int,
) -> Met:  # fmt: skip
    """Step from the beginning of `span` until the event, the end of `span`, a failure or `max_steps`."""
    t0, t1 = span
    order = solver.error_order(terms)
    until, control = controller.init(terms, t0, t1, x0, dt, args, solver.func, order)
    until = jnp.minimum(until, t1)
    row = lambda v: jnp.asarray(v, t0.dtype)[..., None]

    no = jnp.asarray(False)  # noqa: FBT003

    def mark(s: Array, value: Array, rate: Array) -> Mark:
        return Mark(row(s), row(value), row(rate))

    def body(c: _Carry) -> _Carry:
        (t, end), (memory, control, jumped) = c.span, c.states
        x, error, dense, later, result = solver.step(terms, t, end, c.x, args, memory, jumped)
        keep, start, until, jump, control, outcome = controller.adapt_step_size(
            t, end, c.x, x, args, error, order, control
        )
        advanced = lambda a, b: jax.tree.map(lambda u, v: jnp.where(keep, u, v) if eqx.is_array(u) else u, a, b)
        path = solver.interpolation_cls(t0=t, t1=end, **dense)

        def inside(s: Array) -> PyTree:
            between = path.evaluate(t + s)
            again = _by_a_step(solver, path)
            if again is False:
                return between

            def stepped() -> PyTree:
                found = solver.step(terms, t, t + s, c.x, args, memory, jumped)
                return choose(found[4] == diffrax.RESULTS.successful, found[0], between)

            if again is True:
                return stepped()
            return choose(again, jax.lax.cond(eqxi.unvmap_any(again), stepped, lambda: between), between)

        def seen(s: Array, x: PyTree) -> Mark:
            rate = jax.jvp(path.evaluate, (t + s,), (jnp.ones_like(t),))[1]
            value = lambda time, x: event(time, x, args)
            return mark(s, *jax.jvp(value, (t + s, x), (jnp.ones_like(t), rate)))

        last = seen(end - t, x)
        moved = row(keep) > 0
        watch = watching.after(watching.stepped(c.watch, moved, last), row(t), moved, last)
        watch = jax.lax.while_loop(
            lambda w: w.looking[0],
            lambda w: watching.after(w, row(t), jnp.zeros(1, bool), seen(w.target[0], inside(w.target[0]))),
            watch,
        )
        hit, at = watch.hit[0], watch.end.s[0]
        place = jax.lax.cond(hit & (at != end - t), lambda: inside(at), lambda: x)
        velocity = jax.jvp(path.evaluate, (t + at,), (jnp.ones_like(t),))[1]
        lost = watching.lost(watch, watch.end)[0]
        met = choose(hit, Met(hit, watching.which(watch)[0], lost, no, t + at, place, velocity), c.met)
        start, until = jnp.minimum(start, t1), jnp.minimum(until, t1)
        solved = (result == diffrax.RESULTS.successful) | ~jnp.asarray(keep)  # an unsolved stage: take a shorter step
        fine = solved & (outcome == diffrax.RESULTS.successful)
        states = (advanced(later, memory), control, advanced(jump, jumped))
        return _Carry((start, until), advanced(x, c.x), states, c.tried + 1, fine, watch, met)

    def running(c: _Carry) -> Array:
        return (c.span[0] < t1) & (c.tried < max_steps) & c.fine & ~c.met.hit

    value, rate, bend, size = _at_the_start(terms, event, t0, t1 - t0, x0, args)
    nowhere = Met(no, jnp.asarray(-1, jnp.int32), no, no, t1, x0, x0)
    states = (solver.init(terms, t0, until, x0, args), control, no)
    watch = watching.begin(*map(row, (value, rate, bend, size, t0, t1)))
    first = _Carry((t0, until), x0, states, jnp.asarray(0, jnp.int32), jnp.asarray(True), watch, nowhere)  # noqa: FBT003
    last = jax.lax.while_loop(running, body, first)
    hit = last.met.hit
    lost = jnp.where(hit, last.met.lost, watching.never_known(last.watch)[0])
    return last.met._replace(early=~hit & ~(last.span[0] >= t1), lost=lost)


def _by_a_step(solver: diffrax.AbstractSolver, path: Any) -> bool | Bool[Array, ""]:
    """Whether the state within a step comes from a shorter step: a stiff field's dense output is not exact."""
    if isinstance(solver, Auto) and solver.implicit:
        return path.stiff
    return isinstance(solver, diffrax.AbstractImplicitSolver)


def _at_the_start(terms: Any, event: Events, t: Array, span: Array, x: PyTree, args: PyTree) -> tuple[Array, ...]:
    """The event functions, two derivatives along the motion, and what time and state contribute to them to first order.

    The rates are those along the drift where the equation has noise.
    """
    drift = terms.terms[0] if isinstance(terms, diffrax.MultiTerm) else terms
    velocity = drift.vf(t, x, args)

    def measured(t: Array, x: PyTree) -> tuple[Array, Array]:
        return jax.jvp(lambda t, x: event(t, x, args), (t, x), (jnp.ones_like(t), drift.vf(t, x, args)))

    largest = lambda tree: functools.reduce(jnp.maximum, [jnp.max(jnp.abs(v)) for v in jax.tree.leaves(tree)])
    h = watching.short(span, largest(x), largest(velocity))
    value, rate = measured(t, x)
    bend = (measured(t + h, jax.tree.map(lambda v, dot: v + h * dot, x, velocity))[1] - rate) / h
    slopes = jax.tree.leaves(jax.jacfwd(lambda t, x: event(t, x, args), (0, 1))(t, x))
    pairs = zip(slopes, jax.tree.leaves((t, x)), strict=True)
    parts = [jnp.sum(jnp.abs(slope * v[None]).reshape(len(value), -1), axis=1) for slope, v in pairs]
    return value, rate, bend, sum(parts[1:], parts[0]).astype(value.dtype)


def moving(met: Met, event: Events, field: Field | None, x: PyTree, args: PyTree) -> tuple[Array, PyTree]:
    """The event's time and state with their derivatives, up to the third: the event function stays zero.

    Args:
        met: Where the event was met, without derivatives.
        event: The event functions.
        field: The velocity; None with noise, where the velocity is that of `met`, and second derivatives are NaN.
        x: The state at that time, held fixed, with its derivative.
        args: Parameters.
    """
    one = lambda t, x, a: event(t, x, a)[met.which]
    there, later = delayed(met.hit, one, field, met.t, x, args, velocity=met.velocity)
    held = jax.lax.stop_gradient
    moved = jax.tree.map(lambda p, v, u: jnp.where(met.hit, p + (v - held(u)), u), met.x, later, x)
    return there, moved


def delayed(
    hit: Bool[Array, ""], event: Callable[[Array, Any, Any], Array], field: Field | None, t: Array, x: PyTree,
    args: PyTree, *, velocity: PyTree = None,
) -> tuple[Array, PyTree]:  # fmt: skip
    """Time and state where an event function is zero, if `hit`, as functions of the time and state where it is already.

    The delay is zero, but its derivatives are not; the state after that delay comes from one Runge-Kutta step of the
    fourth order.

    Args:
        hit: Whether the event function is zero here.
        event: The event function.
        field: The velocity; None where there is none, but a `velocity` that is held.
        t: Time.
        x: State.
        args: Parameters.
        velocity: The velocity where there is no field; second derivatives are NaN.
    """
    if field is None:
        return _delayed_along(hit, event, velocity, t, x, args)
    flow = lambda s: after(s, lambda t, x: field(t, x, args), t, x)
    value, shift = lambda s: jnp.reshape(event(t + s, flow(s), args), ()), jnp.zeros_like(t)
    for _ in range(2):  # Newton's steps, of length zero; each doubles the number of derivatives that are right
        there, speed = jax.jvp(value, (shift,), (jnp.ones_like(t),))
        still = speed == 0
        step = jnp.where(hit, (there - jax.lax.stop_gradient(there)) / jnp.where(still, 1, speed), 0)
        shift = shift - without_derivative(hit & still, step)
    return t + shift, flow(shift)


def _delayed_along(
    hit: Bool[Array, ""], event: Callable[[Array, Any, Any], Array], velocity: PyTree, t: Array, x: PyTree, args: PyTree
) -> tuple[Array, PyTree]:
    """`delayed` along a velocity that is held."""
    fn, values = closed(event, t, x, args)

    def residual(s: Array, hit: Array, t: Array, x: PyTree, args: PyTree, velocity: PyTree, values: Any) -> Array:
        there = after(s, None, t, x, velocity=velocity)
        return jnp.where(hit, jnp.reshape(fn(t + s, there, args, *values), ()), s)

    def rule(s: Array, inputs: Any, tangents: Any) -> Array:
        return without_derivative(jnp.ones((), bool), root_tangent(residual, s, inputs, tangents))

    inputs = (hit, t, x, args, velocity, values)
    shift, _ = implicit(lambda hit, t, *_: (nought(t), ()), rule)(*inputs)
    return t + shift, after(shift, None, t, x, velocity=velocity)
