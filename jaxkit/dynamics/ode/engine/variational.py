"""Derivatives of many solves: the variational equations along with the state, in the same loop.

A lane carries `S_i = dx/dp_i` with `S_i' = (df/dx) S_i + df/dp_i` in all directions along with one state; with more
than `MANY` directions its steps are pulled back instead. The result is the whole Jacobian of a lane, so that one rule
serves forward and reverse mode. Second derivatives come from lanes that carry one direction each.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxkit.compile.jit_cache import run_kept
from jaxkit.compile.lanes import Layout
from jaxkit.compile.scalars import ScalarField
from jaxkit.core.struct import struct
from jaxkit.dynamics.linear.implicit import no_tangent
from jaxkit.dynamics.ode.engine import wide
from jaxkit.dynamics.ode.engine.adjoint import MANY, integrate_back
from jaxkit.dynamics.ode.engine.batch import Ensemble, Given, Plan, arrive, gather, layout_of
from jaxkit.dynamics.ode.engine.switches import Switches
from jaxkit.dynamics.ode.field import Field
from jaxkit.dynamics.ode.methods import RungeKutta, Taylor

TABLE = 1 << 15  # most directions times saved times whose derivatives are computed one by one


def solve_lanes(plan: Plan, given: Given) -> Ensemble:
    """The ensemble of a plan, with its derivatives.

    Args:
        plan: The plan.
        given: The arrays of the ensemble.
    """
    if plan.wide and plan.settings.method.control == "auto":
        return run_kept(wide.solve, (plan,), (given,), wide=True)
    return _pushed(plan, given)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _pushed(plan: Plan, given: Given) -> Ensemble:
    """The ensemble of a plan, with the derivative of `push`."""
    given = jax.tree.map(jnp.asarray, given)  # a value that a field closes over may be a plain number
    return run_kept(_solve, (plan,), (given,), wide=True)


def _solve(plan: Plan, given: Given) -> Ensemble:
    return wide.solve(plan, given) if plan.wide else gather(given, arrive(plan, given))


@struct
class Jacobian:
    """Derivatives along a plan's directions: of the last state, `(n, k, m)`, and of the saved ones, `(n, s, k, m)`."""

    final: Array
    saved: Array | None


def _variational(field: Field) -> Field:
    """The field of `(x, S)` in the direction that a lane carries among its parameters."""

    def extended(t: Array, state: Any, args: Any) -> Any:
        (x, row), (own, direction) = state, args
        fill = lambda d, v: d if d is not None or v is None else _zero(v)
        dots = jax.tree.map(fill, direction, own, is_leaf=lambda d: d is None)
        return jax.jvp(lambda v, a: field(t, v, a), (x, own), (row, dots))

    return extended


def _zero(leaf: Array) -> Any:
    real = jnp.issubdtype(leaf.dtype, jnp.floating)
    return jnp.zeros_like(leaf) if real else no_tangent(leaf)


def with_jacobian(plan: Plan, given: Given, *, perturbed: tuple[bool, ...]) -> tuple[Ensemble, Jacobian]:
    """The ensemble and its derivatives: with respect to `x0s` (first entry of `perturbed`) and the parameters."""
    n, lanewise = len(given.t0), tuple(a or b for a, b in zip(plan.lanewise, perturbed[1:], strict=True))
    own = lambda leaf, lane, wanted: jnp.broadcast_to(leaf, (n, *leaf.shape)) if wanted and not lane else leaf
    leaves = tuple(map(own, given.leaves, plan.lanewise, perturbed[1:]))
    plan, given = plan._replace(lanewise=lanewise, moved=perturbed), given._replace(leaves=leaves)
    return solve_tangents(plan, given) if any(perturbed) and plan.controlled is None else _repeated(plan, given)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def solve_tangents(plan: Plan, given: Given) -> tuple[Ensemble, Jacobian]:
    """The ensemble of a plan and its derivatives in the directions `plan.moved`, all in one lane."""
    return run_kept(_run, (plan,), (given,), wide=True)


@solve_tangents.defjvp
def _(plan: Plan, primals: Any, tangents: Any) -> Any:
    """Second derivatives, by differentiating the lanes that carry one direction each."""
    return jax.jvp(functools.partial(_run if plan.wide else _repeated, plan), primals, tangents)


def _run(plan: Plan, given: Given) -> tuple[Ensemble, Jacobian]:
    if plan.wide:
        found, final, saved = wide.with_tangents(plan, given)
        return found, Jacobian(final, saved)
    k, n, dtype = plan.size, len(given.t0), given.t0.dtype
    shapes, sizes = wide.directions(plan, given)
    at, m = np.cumsum([0, *sizes]), sum(sizes)
    units = jnp.eye(m, dtype=dtype)
    tangents = [jnp.broadcast_to(units[i] if plan.moved[0] else jnp.zeros(m, dtype), (n, m)) for i in range(k)]
    directions = [
        units[:, at[i + 1] : at[i + 2]].reshape(m, *shapes[i]).astype(given.leaves[i].dtype) if sizes[i + 1] else None
        for i, lane in enumerate(plan.lanewise)
        if lane
    ]
    pulled = m > MANY and plan.settings.method.control != "tangents"
    if pulled and given.ts is None and not plan.settings.events:
        arrived, jacobian = arrive(plan, given, directions=directions, loop=integrate_back)
        return gather(given, arrived), Jacobian(jacobian if plan.moved[0] else jacobian[..., k:], None)
    arrived = arrive(plan, given, tangents, directions)
    of = lambda rows: jnp.stack(rows[k:], axis=-2)
    saved = None if given.ts is None else of(arrived.saved)
    return gather(given, arrived), Jacobian(of(arrived.x), saved)


def _repeated(plan: Plan, given: Given) -> tuple[Ensemble, Jacobian]:
    """The same with each lane repeated for each direction, which can be differentiated again."""
    starts, leaves, t0, t1, ts = given
    if wide.compares(plan, given):  # where the velocity jumps, tangents jump, which these lanes do not know
        found, final, saved = wide.by_steps(_by_arrays_of(plan), given)
        counts = {name: getattr(found, name).astype(jnp.int32) for name in ("steps", "rejected")}
        return dataclasses.replace(found, **counts), Jacobian(final, saved)
    k, n, layout = plan.size, len(t0), layout_of(starts)
    shapes, sizes = wide.directions(plan, given)
    m = max(1, sum(sizes))  # directions: each lane is repeated for each of them
    units = jnp.eye(sum(sizes), dtype=t0.dtype) if sum(sizes) else jnp.zeros((1, 0), t0.dtype)
    again = lambda v: jnp.repeat(v, m, axis=0)
    start = units[:, :k] if plan.moved[0] else jnp.zeros((m, k), t0.dtype)
    at, directions = sizes[0], []
    for leaf, shape, size in zip(leaves, shapes, sizes[1:], strict=True):
        own = units[:, at : at + size].reshape(m, *shape).astype(leaf.dtype) if size else None
        directions.append(None if own is None else jnp.tile(own, (n, *(1 for _ in shape))))
        at += size
    repeated = [again(leaf) if lane else leaf for leaf, lane in zip(leaves, plan.lanewise, strict=True)]
    args = (plan.treedef.unflatten(repeated), plan.treedef.unflatten(directions))
    flat_args, treedef = jax.tree.flatten(args)
    pairs = plan._replace(
        field=_variational(plan.field),
        moved=(),
        settings=plan.settings._replace(events=tuple(_of_first(e) for e in plan.settings.events)),
        size=2 * k,
        controlled=plan.controlled or k,
        treedef=treedef,
        lanewise=(*plan.lanewise, *(True for d in directions if d is not None)),
    )
    state = (jax.tree.map(again, starts), layout.tree(jnp.tile(start, (n, 1))))
    blind = _of_switches(plan, given)  # where a switch moves, tangents jump, which these lanes do not know
    found = solve_lanes(pairs, Given(state, tuple(flat_args), again(t0), again(t1), ts))

    def jacobian(tree: PyTree, lead: int) -> Array:
        flat = layout.flat(tree, lead)
        found = jnp.moveaxis(flat.reshape(n, m, *flat.shape[1:]), 1, -1)[..., : sum(sizes)]
        return jnp.where(jnp.broadcast_to(blind, found.shape), jnp.nan * found, found) if blind.any() else found

    final, xs = found.final, (None, None) if found.xs is None else found.xs
    one = jax.tree.map(lambda v: v[::m], dataclasses.replace(found, ts=(), xs=xs[0], final=final[0]))
    status = jnp.max(found.status.reshape(n, m), axis=1)  # a failed direction fails its lane
    saved = None if xs[1] is None else jacobian(xs[1], 2)
    return dataclasses.replace(one, ts=found.ts, status=status), Jacobian(jacobian(final[1], 1), saved)


def _of_switches(plan: Plan, given: Given) -> np.ndarray:
    """Which directions move the times of switches."""
    shapes, sizes = wide.directions(plan, given)
    types = [jax.ShapeDtypeStruct(s, leaf.dtype) for s, leaf in zip(shapes, given.leaves, strict=True)]
    state = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape[1:], v.dtype), given.starts)
    time = jax.ShapeDtypeStruct((), given.t0.dtype)
    scalar = ScalarField(plan.field, time, state, plan.treedef.unflatten(types), plan.lanewise)
    asked = set(scalar.needed(Switches(scalar, scalar.outputs).roots))
    moved = [np.zeros(sizes[0], bool)]
    for value, size in zip(scalar.args, sizes[1:], strict=True):
        moved.append(np.resize([a in asked for a in value.ravel()], size))
    return np.concatenate(moved)


def _of_first(event: Callable[[Array, Any, Any], Array]) -> Callable[[Array, Any, Any], Array]:
    return lambda t, state, args: event(t, state[0], args[0])


def push(plan: Plan, primals: tuple[Given], tangents: tuple[Given]) -> tuple[Ensemble, Ensemble]:
    """The rule of forward mode, by which lanes are differentiated: linear in the tangents, hence transposable."""
    given = jax.tree.map(jnp.asarray, primals[0])  # a value that a field closes over may be a plain number
    dots, layout = tangents[0], layout_of(given.starts)
    moves_start = not all(map(_is_zero, jax.tree.leaves(dots.starts, is_leaf=_is_zero))) or not _is_zero(dots.t0)
    floating = (jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in given.leaves)
    moved = (moves_start, *(real and not _is_zero(v) for real, v in zip(floating, dots.leaves, strict=True)))
    size = sum(wide.directions(plan._replace(moved=moved), given)[1])
    if given.ts is not None and size * len(given.ts) > TABLE and plan.settings.method.control == "auto":
        return run_kept(_solve, (plan,), (given,), wide=True), _by_arrays(plan, given, dots)
    solved, jacobian = with_jacobian(plan, given, perturbed=moved)
    velocity = velocity_of(plan, given)
    along = _along(plan, given, dots, moved, layout, velocity)
    final_dot = jnp.einsum("nkm,nm->nk", jacobian.final, along)
    end_dot = _filled(dots.t1, given.t1)
    if plan.settings.events:
        moving = event_time(plan, given, solved, jacobian, perturbed=moved)
        end_dot = jnp.where(solved.event < 0, end_dot, jnp.einsum("nm,nm->n", moving, along))
    if plan.settings.events or not _is_zero(dots.t1):
        final_dot = final_dot + velocity(solved.end, solved.final) * end_dot[:, None]
    rows = None
    if given.ts is not None and jacobian.saved is not None:
        reached = jnp.isfinite(layout.flat(solved.xs, 2))
        columns = jnp.where(jnp.isfinite(jacobian.saved), jacobian.saved, 0)
        rows = jnp.where(reached, jnp.einsum("nskm,nm->nsk", columns, along), 0)
        if not _is_zero(dots.ts):
            times = jnp.broadcast_to(given.ts[:, None], (len(given.ts), len(given.t0)))
            each = jax.vmap(velocity, (0, 1), 1)(times, solved.xs)
            rows = rows + jnp.where(reached, each, 0) * cast(Array, dots.ts)[None, :, None]
    return solved, Ensemble(
        ts=jnp.zeros_like(solved.ts) if dots.ts is None else _filled(dots.ts, solved.ts),
        xs=None if rows is None else layout.tree(rows),
        status=no_tangent(solved.status),
        steps=no_tangent(solved.steps),
        rejected=no_tangent(solved.rejected),
        end=end_dot,
        final=layout.tree(final_dot),
        event=no_tangent(solved.event),
    )


def _by_arrays(plan: Plan, given: Given, dots: Given) -> Ensemble:
    """The tangents of a solve with many directions and saved times, without a table of all derivatives."""
    other = _by_arrays_of(plan)
    along = jax.tree.map(_filled, dots, given, is_leaf=_is_zero)
    solved, moved = jax.jvp(functools.partial(wide.solve, other), (given,), (along,))
    reached = lambda v, dot: jnp.where(jnp.isfinite(v), dot, 0)
    return dataclasses.replace(moved, xs=jax.tree.map(reached, solved.xs, moved.xs))


def _by_arrays_of(plan: Plan) -> Plan:
    """The plan whose lanes move as arrays."""
    settings, own = plan.settings, plan.settings.method
    method = RungeKutta("dopri8" if isinstance(own, Taylor) else own.scheme)
    return plan._replace(wide=True, settings=settings._replace(method=method, max_steps=4 * settings.max_steps))


def _along(
    plan: Plan, given: Given, dots: Given, moved: tuple[bool, ...], layout: Layout, velocity: Callable[..., Array]
) -> Float[Array, "n m"]:
    """The tangents as weights of the directions: of the start, moved against its velocity with `t0`, and of `args`."""
    n, weights = len(given.t0), []
    if moved[0]:
        start_dot = layout.flat(jax.tree.map(_filled, dots.starts, given.starts, is_leaf=_is_zero))
        late = 0 if _is_zero(dots.t0) else velocity(given.t0, given.starts) * dots.t0[:, None]
        weights.append(start_dot - late)
    for leaf, dot, lane, wanted in zip(given.leaves, dots.leaves, plan.lanewise, moved[1:], strict=True):
        if wanted:
            weights.append(dot.reshape(n, -1) if lane else jnp.broadcast_to(dot.reshape(1, -1), (n, leaf.size)))
    return jnp.concatenate(weights, -1) if weights else jnp.zeros((n, 0), given.t0.dtype)


def velocity_of(plan: Plan, given: Given) -> Callable[[Array, PyTree], Float[Array, "n k"]]:
    """The field of all lanes, as rows of numbers."""
    layout, axes = layout_of(given.starts), plan.treedef.unflatten([0 if lane else None for lane in plan.lanewise])
    args, field = plan.treedef.unflatten(given.leaves), jax.vmap(plan.field, (0, 0, axes))
    return lambda t, x: layout.flat(field(t, x, args))


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _filled(tangent: Any, primal: Array) -> Any:
    """A tangent, with zeros written out."""
    return _zero(primal) if _is_zero(tangent) else tangent


_pushed.defjvp(push, symbolic_zeros=True)


def event_time(
    plan: Plan, given: Given, solved: Ensemble, jacobian: Jacobian, *, perturbed: tuple[bool, ...]
) -> Float[Array, "n m"]:
    """How the time of each lane's event moves in each direction: the event function stays zero.

    It is 0 in lanes without an event. `jacobian` is that of the last state at a fixed time.
    """
    layout, axes = layout_of(given.starts), [0 if lane else None for lane in plan.lanewise]
    asked = [i for i, wanted in enumerate(perturbed[1:]) if wanted]
    velocity = velocity_of(plan, given)(solved.end, solved.final)
    found = jnp.zeros((len(given.t0), jacobian.final.shape[-1]), velocity.dtype)
    for number, event in enumerate(plan.settings.events):

        def rows(t: Array, x: Any, leaves: Any, event: Any = event) -> tuple[Array, Any, Array]:
            def value(t: Array, x: Any, some: dict[int, Array]) -> Array:
                args = plan.treedef.unflatten([some.get(i, leaf) for i, leaf in enumerate(leaves)])
                return jnp.reshape(event(t, x, args), ())

            by_t, by_x, by_leaves = jax.grad(value, (0, 1, 2))(t, x, {i: leaves[i] for i in asked})
            start = [jnp.zeros(plan.size * perturbed[0], t.dtype)]
            return by_t, by_x, jnp.concatenate([*start, *(by_leaves[i].ravel().astype(t.dtype) for i in asked)])

        by_t, by_x, own = jax.vmap(rows, (0, 0, axes))(solved.end, solved.final, list(given.leaves))
        by_x = layout.flat(by_x, 1)
        change = own + jnp.einsum("nk,nkm->nm", by_x, jacobian.final)
        speed, here = by_t + jnp.sum(by_x * velocity, -1), solved.event == number
        speed = jnp.where(here, jnp.where(speed == 0, jnp.nan, speed), 1)
        found = jnp.where(here[:, None], -change / speed[:, None], found)
    return found
