"""Derivatives of many solves: the variational equations beside the state, in the same loop.

A lane carries `S_i = dx/dp_i` with `S_i' = (df/dx) S_i + df/dp_i`, all directions beside one state; with more than
`MANY` directions its steps are pulled back instead. What comes out is the whole Jacobian of a lane, so that one rule
serves forward and reverse mode. Second derivatives come from lanes that carry one direction each.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxkit.compile.jit_cache import run
from jaxkit.core.struct import struct
from jaxkit.dynamics.linear.implicit import no_tangent
from jaxkit.dynamics.ode.engine.adjoint import MANY, integrate_back
from jaxkit.dynamics.ode.engine.batch import Ensemble, Given, Plan, arrive, gather
from jaxkit.dynamics.ode.field import Field


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def solve_lanes(plan: Plan, given: Given) -> Ensemble:
    """The ensemble of a plan, with the derivative of `push`."""
    given = jax.tree.map(jnp.asarray, given)  # a value that a field closes over may be a plain number
    return run(_solve, (plan,), (given,))


def _solve(plan: Plan, given: Given) -> Ensemble:
    return gather(given, arrive(plan, given))


@struct
class Jacobian:
    """Derivatives in the directions of a plan: of the last state `(n, k, m)`, and of the saved ones `(n, s, k, m)`."""

    final: Array
    saved: Array | None


@functools.lru_cache(maxsize=128)
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
    """The ensemble and its derivatives: by `x0s` (first entry of `perturbed`) and by the parameters."""
    n, lanewise = len(given.t0), tuple(a or b for a, b in zip(plan.lanewise, perturbed[1:], strict=True))
    own = lambda leaf, lane, wanted: jnp.broadcast_to(leaf, (n, *leaf.shape)) if wanted and not lane else leaf
    leaves = tuple(map(own, given.leaves, plan.lanewise, perturbed[1:]))
    plan, given = plan._replace(lanewise=lanewise, moved=perturbed), given._replace(leaves=leaves)
    return solve_tangents(plan, given) if any(perturbed) and plan.controlled is None else _repeated(plan, given)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def solve_tangents(plan: Plan, given: Given) -> tuple[Ensemble, Jacobian]:
    """The ensemble of a plan and its derivatives in the directions `plan.moved`, all in one lane."""
    return run(_run, (plan,), (given,))


@solve_tangents.defjvp
def _(plan: Plan, primals: Any, tangents: Any) -> Any:
    """Second derivatives: of the lanes that carry one direction each."""
    return jax.jvp(functools.partial(_repeated, plan), primals, tangents)


def _directions(plan: Plan, given: Given) -> tuple[list[tuple[int, ...]], list[int]]:
    """Shapes of one lane's parameters; and how many directions lie in the start and in each parameter."""
    shapes = [leaf.shape[1:] if lane else leaf.shape for leaf, lane in zip(given.leaves, plan.lanewise, strict=True)]
    return shapes, [plan.size * plan.moved[0], *(math.prod(s) * w for s, w in zip(shapes, plan.moved[1:], strict=True))]


def _run(plan: Plan, given: Given) -> tuple[Ensemble, Jacobian]:
    k, n, dtype = plan.size, len(given.t0), given.t0.dtype
    shapes, sizes = _directions(plan, given)
    at, m = np.cumsum([0, *sizes]), sum(sizes)
    units = jnp.eye(m, dtype=dtype)
    tangents = [jnp.broadcast_to(units[i] if plan.moved[0] else jnp.zeros(m, dtype), (n, m)) for i in range(k)]
    directions = [
        units[:, at[i + 1] : at[i + 2]].reshape(m, *shapes[i]).astype(given.leaves[i].dtype) if sizes[i + 1] else None
        for i, lane in enumerate(plan.lanewise)
        if lane
    ]
    if m > MANY and given.ts is None and not plan.settings.events:
        arrived, jacobian = arrive(plan, given, directions=directions, loop=integrate_back)
        return gather(given, arrived), Jacobian(jacobian if plan.moved[0] else jacobian[..., k:], None)
    arrived = arrive(plan, given, tangents, directions)
    of = lambda rows: jnp.stack(rows[k:], axis=-2)
    saved = None if given.ts is None else of(arrived.saved)
    return gather(given, arrived), Jacobian(of(arrived.x), saved)


def _repeated(plan: Plan, given: Given) -> tuple[Ensemble, Jacobian]:
    """The same with each lane repeated for each direction: what has derivatives of its own."""
    starts, leaves, t0, t1, ts = given
    k, n = plan.size, len(t0)
    x_leaves, x_treedef = jax.tree.flatten(starts)
    shapes, sizes = _directions(plan, given)
    m = max(1, sum(sizes))  # directions: each lane is repeated for each of them
    units = jnp.eye(sum(sizes), dtype=x_leaves[0].dtype) if sum(sizes) else jnp.zeros((1, 0), x_leaves[0].dtype)
    again = lambda v: jnp.repeat(v, m, axis=0)
    start, at, rows = (units[:, :k] if plan.moved[0] else jnp.zeros((m, k), units.dtype)), 0, []
    for leaf in x_leaves:
        size = math.prod(leaf.shape[1:])
        rows.append(jnp.tile(start[:, at : at + size].reshape(m, *leaf.shape[1:]), (n, *(1 for _ in leaf.shape[1:]))))
        at += size
    at, directions = sizes[0], []
    for leaf, shape, size in zip(leaves, shapes, sizes[1:], strict=True):
        own = units[:, at : at + size].reshape(m, *shape).astype(leaf.dtype) if size else None
        directions.append(None if own is None else jnp.tile(own, (n, *(1 for _ in shape))))
        at += size
    repeated = [again(leaf) if lane else leaf for leaf, lane in zip(leaves, plan.lanewise, strict=True)]
    args = (plan.treedef.unflatten(repeated), plan.treedef.unflatten(directions))
    flat_args, treedef = jax.tree.flatten(args)
    wide = plan._replace(
        field=_variational(plan.field),
        moved=(),
        settings=plan.settings._replace(events=tuple(_of_first(e) for e in plan.settings.events)),
        size=2 * k,
        controlled=plan.controlled or k,
        treedef=treedef,
        lanewise=(*plan.lanewise, *(True for d in directions if d is not None)),
    )
    state = (jax.tree.map(again, starts), x_treedef.unflatten(rows))
    found = solve_lanes(wide, Given(state, tuple(flat_args), again(t0), again(t1), ts))
    one = lambda tree: jax.tree.map(lambda v: v[::m], tree)
    flatten = lambda tree, lead: jnp.concatenate([v.reshape(*v.shape[:lead], -1) for v in jax.tree.leaves(tree)], -1)
    jacobian = lambda tree, lead: jnp.moveaxis(flatten(tree, lead).reshape(n, m, *_middle(tree, lead), k), 1, -1)
    saved = None if found.xs is None else jacobian(found.xs[1], 2)
    plain = Ensemble(
        ts=found.ts,
        xs=None if found.xs is None else one(found.xs[0]),
        status=jnp.max(found.status.reshape(n, m), axis=1),  # a failed direction is not passed over
        steps=one(found.steps),
        rejected=one(found.rejected),
        end=one(found.end),
        final=one(found.final[0]),
        event=one(found.event),
    )
    final = jacobian(found.final[1], 1)
    keep = sum(sizes)
    return plain, Jacobian(final[..., :keep], None if saved is None else saved[..., :keep])


def _middle(tree: PyTree, lead: int) -> tuple[int, ...]:
    return jax.tree.leaves(tree)[0].shape[1:lead]


@functools.lru_cache(maxsize=128)
def _of_first(event: Callable[[Array, Any, Any], Array]) -> Callable[[Array, Any, Any], Array]:
    return lambda t, state, args: event(t, state[0], args[0])


def push(plan: Plan, primals: tuple[Given], tangents: tuple[Given]) -> tuple[Ensemble, Ensemble]:
    """The rule of forward mode, by which `solve_lanes` differentiates: linear in the tangents, to be transposed."""
    given = jax.tree.map(jnp.asarray, primals[0])  # a value that a field closes over may be a plain number
    starts, leaves, t0, _, ts = given
    zero = lambda v: isinstance(v, jax.custom_derivatives.SymbolicZero)
    x_dots, a_dots, t0_dot, t1_dot, ts_dot = tangents[0]
    moves_start = not all(map(zero, jax.tree.leaves(x_dots, is_leaf=zero))) or not zero(t0_dot)
    perturbed = (
        moves_start,
        *(not zero(v) and jnp.issubdtype(p.dtype, jnp.floating) for v, p in zip(a_dots, leaves, strict=True)),
    )
    solved, jacobian = with_jacobian(plan, given, perturbed=perturbed)
    n = len(t0)
    x_leaves, x_treedef = jax.tree.flatten(starts)
    axes = (0, 0, plan.treedef.unflatten([0 if lane else None for lane in plan.lanewise]))
    args = plan.treedef.unflatten(leaves)
    flat = lambda tree, lead=1: jnp.concatenate([v.reshape(*v.shape[:lead], -1) for v in jax.tree.leaves(tree)], -1)

    def unflat(values: Array, lead: int = 1) -> PyTree:
        parts, at = [], 0
        for leaf in x_leaves:
            size = math.prod(leaf.shape[1:])
            parts.append(values[..., at : at + size].reshape(*values.shape[:lead], *leaf.shape[1:]))
            at += size
        return x_treedef.unflatten(parts)

    velocity = lambda t, x: flat(jax.vmap(plan.field, axes)(t, x, args))
    dots = []
    if moves_start:
        filled = [
            jnp.zeros_like(p) if zero(d) else d
            for d, p in zip(jax.tree.leaves(x_dots, is_leaf=zero), x_leaves, strict=True)
        ]
        start_dot = flat(x_treedef.unflatten(filled))
        dots.append(start_dot if zero(t0_dot) else start_dot - velocity(t0, starts) * t0_dot[:, None])
    for leaf, dot, lane, wanted in zip(leaves, a_dots, plan.lanewise, perturbed[1:], strict=True):
        if wanted:
            dots.append(dot.reshape(n, -1) if lane else jnp.broadcast_to(jnp.reshape(dot, (1, -1)), (n, leaf.size)))
    along = jnp.concatenate(dots, -1) if dots else jnp.zeros((n, 0), t0.dtype)
    final_dot = jnp.einsum("nkm,nm->nk", jacobian.final, along)
    end_dot = jnp.zeros_like(t0) if zero(t1_dot) else t1_dot
    if plan.settings.events:
        end_dot = _event_time(plan, solved, leaves, a_dots, unflat(final_dot), end_dot, axes, zero)
    if plan.settings.events or not zero(t1_dot):
        final_dot = final_dot + velocity(solved.end, solved.final) * end_dot[:, None]
    xs_dot = None
    if solved.xs is not None and jacobian.saved is not None:
        reached = jnp.isfinite(flat(solved.xs, 2))
        rows = jnp.where(
            reached, jnp.einsum("nskm,nm->nsk", jnp.where(jnp.isfinite(jacobian.saved), jacobian.saved, 0), along), 0
        )
        if ts is not None and ts_dot is not None and not zero(ts_dot):
            each = jax.vmap(velocity, (0, 1), 1)(jnp.broadcast_to(ts[:, None], (len(ts), n)), solved.xs)
            rows = rows + jnp.where(reached, each, 0) * ts_dot[None, :, None]
        xs_dot = unflat(rows, 2)
    ts_out = jnp.zeros_like(solved.ts) if ts_dot is None or zero(ts_dot) else ts_dot
    dotted = Ensemble(
        ts_out,
        xs_dot,
        no_tangent(solved.status),
        no_tangent(solved.steps),
        no_tangent(solved.rejected),
        end_dot,
        unflat(final_dot),
        no_tangent(solved.event),
    )
    return solved, dotted


solve_lanes.defjvp(push, symbolic_zeros=True)


def _event_time(
    plan: Plan,
    solved: Ensemble,
    leaves: Any,
    a_dots: Any,
    x_dot: Any,
    end_dot: Array,
    axes: Any,
    zero: Callable[[Any], bool],
) -> Array:
    """How the time of an event moves: the event function stays zero."""
    filled = [_zero(p) if zero(d) else d for d, p in zip(a_dots, leaves, strict=True)]
    args, args_dot = plan.treedef.unflatten(leaves), plan.treedef.unflatten(filled)
    for number, event in enumerate(plan.settings.events):

        def one(t: Array, x: Any, a: Any, x_dot: Any, a_dot: Any, event: Any = event) -> tuple[Array, Array]:
            change = jax.jvp(lambda x, a: event(t, x, a), (x, a), (x_dot, a_dot))[1]
            speed = jax.jvp(lambda t, x: event(t, x, a), (t, x), (jnp.ones_like(t), plan.field(t, x, a)))[1]
            return change, speed

        change, speed = jax.vmap(one, (*axes, 0, axes[2]))(solved.end, solved.final, args, x_dot, args_dot)
        here = solved.event == number
        end_dot = jnp.where(here, -change / jnp.where(here, speed, 1), end_dot)
    return end_dot
