"""Lanes of many numbers: diffrax moves their arrays, where the engine would take them apart into numbers."""

import dataclasses
import functools
import itertools
import math
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxkit.compile import lanes
from jaxkit.dynamics.linear.implicit import no_tangent
from jaxkit.dynamics.ode.actions import Actions, Event
from jaxkit.dynamics.ode.by_diffrax import Options, leg
from jaxkit.dynamics.ode.engine.batch import Ensemble, Given, Plan, layout_of
from jaxkit.dynamics.ode.methods import SOLVERS, RungeKutta
from jaxkit.dynamics.ode.saltation import has_switches
from jaxkit.dynamics.ode.schemes import Tableau
from jaxkit.dynamics.ode.tolerance import Each, Tangents

TOGETHER = 1 << 14  # numbers of the lanes that move together on a CPU: they stay in its cache


def solve(plan: Plan, given: Given) -> Ensemble:
    """The ensemble of a plan; its derivatives are those of diffrax's steps.

    Args:
        plan: The plan.
        given: The arrays of the ensemble.
    """
    return _moved(plan, given, plan.field, given.starts, given.leaves, _absolute(plan, given))


def with_tangents(plan: Plan, given: Given) -> tuple[Ensemble, Array, Array | None]:
    """The ensemble of a plan and its derivatives in the directions `plan.moved`, which set the steps as well.

    Args:
        plan: The plan.
        given: The arrays of the ensemble; parameters along which there is a direction have an axis of lanes.

    Returns:
        The ensemble, and the derivatives of the last state, `(n, k, m)`, and of the saved ones, `(n, s, k, m)`.
    """
    if compares(plan, given):
        return by_steps(plan, given)
    layout, n, dtype = layout_of(given.starts), len(given.t0), given.t0.dtype
    shapes, sizes = directions(plan, given)
    m, at = sum(sizes), list(itertools.accumulate(sizes))
    units = jnp.eye(m, dtype=dtype)
    start = units[:, : plan.size] if plan.moved[0] else jnp.zeros((m, plan.size), dtype)
    along = [
        units[:, a:b].reshape(m, *shape).astype(leaf.dtype) if b > a else None
        for leaf, shape, a, b in zip(given.leaves, shapes, at, at[1:], strict=False)
    ]

    def field(t: Array, state: Any, args: PyTree) -> Any:
        (x, tangents), leaves = state, jax.tree.leaves(args)

        def pushed(row: PyTree, dots: list[Any]) -> Any:
            dots = [_still(v) if dot is None else dot for v, dot in zip(leaves, dots, strict=True)]
            moved = lambda x, leaves: plan.field(t, x, plan.treedef.unflatten(leaves))
            return jax.jvp(moved, (x, leaves), (row, dots))

        velocity, changes = jax.vmap(pushed, out_axes=(None, 0))(tangents, along)
        return velocity, changes

    both = (given.starts, jax.tree.map(lambda v: jnp.broadcast_to(v, (n, *v.shape)), layout.tree(start)))
    atol = Tangents(_absolute(plan, given))
    events = tuple(_of_state(e) for e in plan.settings.events)
    plan = plan._replace(settings=plan.settings._replace(events=events))
    found = _moved(plan, given, field, both, given.leaves, atol)
    tangents = lambda tree, lead: jnp.moveaxis(layout.flat(tree, lead), -2, -1)
    saved = None if found.xs is None else tangents(found.xs[1], 3)
    own = None if found.xs is None else found.xs[0]
    return dataclasses.replace(found, xs=own, final=found.final[0]), tangents(found.final[1], 2), saved


def directions(plan: Plan, given: Given) -> tuple[list[tuple[int, ...]], list[int]]:
    """Shapes of one lane's parameters, and the numbers of directions in the start and in each parameter."""
    shapes = [leaf.shape[1:] if lane else leaf.shape for leaf, lane in zip(given.leaves, plan.lanewise, strict=True)]
    return shapes, [plan.size * plan.moved[0], *(math.prod(s) * w for s, w in zip(shapes, plan.moved[1:], strict=True))]


def compares(plan: Plan, given: Given) -> bool:
    """Whether the field compares the state with anything, so that derivatives may jump (see `saltation`)."""
    one = lambda v: jax.ShapeDtypeStruct(v.shape[1:], v.dtype)
    leaves = [one(v) if lane else v for v, lane in zip(given.leaves, plan.lanewise, strict=True)]
    time = jax.ShapeDtypeStruct((), given.t0.dtype)
    return has_switches(plan.field, time, jax.tree.map(one, given.starts), plan.treedef.unflatten(leaves))


def by_steps(plan: Plan, given: Given) -> tuple[Ensemble, Array, Array | None]:
    """The same as `with_tangents`, but the steps follow the state alone, and are differentiated in each direction."""
    layout, n, dtype = layout_of(given.starts), len(given.t0), given.t0.dtype
    shapes, sizes = directions(plan, given)
    at = list(itertools.accumulate(sizes))

    def along(unit: Array) -> tuple[Ensemble, Array, Array | None]:
        row = unit[: plan.size] if plan.moved[0] else jnp.zeros(plan.size, dtype)
        dots = jax.tree.map(_still, given)
        leaves = [
            jnp.broadcast_to(unit[a:b].reshape(shape), leaf.shape).astype(leaf.dtype) if b > a else dot
            for leaf, dot, shape, a, b in zip(given.leaves, dots.leaves, shapes, at, at[1:], strict=False)
        ]
        dots = dots._replace(starts=layout.tree(jnp.broadcast_to(row, (n, plan.size))), leaves=tuple(leaves))
        found, moved = jax.jvp(functools.partial(solve, plan), (given,), (dots,))
        return found, layout.flat(moved.final), None if moved.xs is None else layout.flat(moved.xs, 2)

    found, final, saved = jax.vmap(along, out_axes=(None, -1, -1))(jnp.eye(sum(sizes), dtype=dtype))
    return found, final, saved


def _of_state(event: Any) -> Any:
    return lambda t, state, args: event(t, state[0], args)


def _still(leaf: Array) -> Any:
    return jnp.zeros_like(leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else no_tangent(leaf)


def _absolute(plan: Plan, given: Given) -> Any:
    """The absolute tolerances, one number or one for each number of the state."""
    atol, layout = plan.settings.atol, layout_of(given.starts)
    if isinstance(atol, Each) or not isinstance(atol, tuple):
        return atol
    return Each(layout.treedef, tuple(layout.shapes), atol)


def _moved(plan: Plan, given: Given, field: Any, starts: PyTree, leaves: tuple[Array, ...], atol: Any) -> Ensemble:
    """All lanes by diffrax, as many together as stay in the cache."""
    settings, (t0, t1, ts) = plan.settings, given[2:]
    n, lanewise = len(t0), plan.lanewise
    options = Options(
        RungeKutta(_solver(settings.method.scheme)),  # pyright: ignore[reportAttributeAccessIssue]
        settings.rtol,
        atol,
        settings.max_steps,
        Actions(tuple(map(Event, settings.events))),
    )

    def one(row: Any, common: Any) -> Ensemble:
        (x, own, t0, t1), (shared, ts) = row, common
        own, shared = iter(own), iter(shared)
        args = plan.treedef.unflatten([next(own if lane else shared) for lane in lanewise])
        times = jnp.stack([t0, t1])
        if ts is not None:  # of a leg, those outside of it are not looked at
            low, high = jnp.minimum(t0, t1), jnp.maximum(t0, t1)
            inside = jnp.where((ts >= low) & (ts <= high), ts, jnp.where(ts < low, low, high))
            times = jnp.concatenate([t0[None], inside, t1[None]])
        found, which = leg(options, field, x, times, args, whole=times)
        xs = None if ts is None else jax.tree.map(lambda v: v[1:-1], found.xs)
        no_times: Any = ()
        return Ensemble(no_times, xs, found.status, found.steps, found.rejected, found.end, found.final, which)

    def part(rows: Any, common: Any) -> Ensemble:
        n = len(rows[2])
        width = min(n, max(1, _together(plan, settings.method.width)))
        if n == 1:
            return jax.tree.map(lambda v: v[None], one(jax.tree.map(lambda v: v[0], rows), common))
        chunked = lanes.in_chunks(lambda rows: jax.vmap(one, (0, None))(rows, common), rows, width)
        return jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:])[:n], chunked)

    split = lambda wanted: tuple(v for v, lane in zip(leaves, lanewise, strict=True) if lane == wanted)
    rows, common = (starts, split(True), t0, t1), (split(False), ts)  # noqa: FBT003
    if not n:
        first = jax.tree.map(lambda v: jax.ShapeDtypeStruct((1, *v.shape[1:]), v.dtype), rows)
        found = jax.tree.map(lambda v: jnp.zeros((0, *v.shape[1:]), v.dtype), jax.eval_shape(part, first, common))
    elif len(settings.devices) > 1:
        found = lanes.over_devices(part, settings.devices, rows, common)
    else:
        found = part(rows, common)
    return dataclasses.replace(found, ts=jnp.zeros(0, t0.dtype) if ts is None else ts)


def _together(plan: Plan, asked: int | None) -> int:
    if asked is not None:
        return asked
    return TOGETHER // plan.size if jax.default_backend() == "cpu" else 1 << 14


def _solver(scheme: Any) -> diffrax.AbstractSolver:
    return _of_table(scheme) if isinstance(scheme, Tableau) else SOLVERS[scheme]()


@functools.cache
def _of_table(table: Tableau) -> diffrax.AbstractSolver:
    """A solver of diffrax with the user's coefficients."""
    coefficients = diffrax.ButcherTableau(
        c=np.asarray(table.c[1:]),
        b_sol=np.asarray(table.b),
        b_error=np.asarray(table.error),
        a_lower=tuple(np.asarray(table.a[i, :i]) for i in range(1, len(table.b))),
    )

    class Custom(diffrax.AbstractERK):
        tableau = coefficients
        interpolation_cls = diffrax.ThirdOrderHermitePolynomialInterpolation.from_k

        def order(self, terms: Any) -> int:
            return table.order

    return Custom()
