"""Derivatives of many solves: the `sensitivity` verb."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.run import Run
from jaxkit.core.status import Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.ode.actions import Happening, Numbers, actions
from jaxkit.dynamics.ode.directions import all_directions
from jaxkit.dynamics.ode.engine.batch import Ensemble, Settings, as_times, layout_of, prepare, with_ends, with_events
from jaxkit.dynamics.ode.engine.variational import event_time, velocity_of, with_jacobian
from jaxkit.dynamics.ode.ensemble import solve_ensemble, widened
from jaxkit.dynamics.ode.field import Field
from jaxkit.dynamics.ode.forms import Form
from jaxkit.dynamics.ode.methods import Method
from jaxkit.dynamics.parts import apart

X = TypeVar("X")


@struct
class Sensitivity(Generic[X]):
    """An ensemble with the derivatives of its last states and times, which are NaN for a lane that failed.

    For a lane that met an event, they are those of the event: its time moves, and the last state with it.

    Attributes:
        ensemble: The trajectories.
        x0s: d final / d x0, shape `(n, k, k)`, with the states flattened to `k` numbers.
        args: d final / d args: the parameters' pytree, each leaf of shape `(n, k, *shape)` for a lane's `shape`.
        xs_x0s: d xs / d x0 at each of the times, shape `(n, m, k, k)`; NaN at times that a lane did not reach.
        xs_args: d xs / d args: the parameters' pytree, each leaf of shape `(n, m, k, *shape)`.
        end_x0s: d end / d x0, shape `(n, k)`; zero in lanes that met no event.
        end_args: d end / d args: the parameters' pytree, each leaf of shape `(n, *shape)`.
    """

    ensemble: Ensemble[X]
    x0s: Float[Array, "n k k"]
    args: PyTree
    xs_x0s: Float[Array, "n m k k"]
    xs_args: PyTree
    end_x0s: Float[Array, "n k"]
    end_args: PyTree


def sensitivity(
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
) -> Sensitivity[X]:
    """Derivatives of each lane's states and its event's time with respect to its start and its parameters.

    The steps follow the derivatives as well as the state: `rtol` bounds a step's error in the derivatives along one
    direction relative to their largest entry, or to a tenth of the largest so far. With more than 20 directions
    (entries of the start and the parameters), two times and no event, the steps follow the state alone, and the result
    is the exact derivative of what those steps compute; unless the method has `control="tangents"`. The same holds for
    all wide lanes (see `ensemble`).

    Args:
        field: Velocity of one lane, `field(t, x, args)`.
        x0s: Starts, with a leading axis of `n` lanes, as for `ensemble`.
        ts: Times from the beginning to the end, shape `(m,)`, or `(n, 2)`.
        args: Parameters; leaves with a leading axis of `n` lanes, or of 1, or plain numbers; the last two are shared.
        method: As for `ensemble`.
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step, in units of the state: a number; or one for each number of a lane's state,
            in its structure, with numbers or arrays of its shapes as leaves. Taylor's method, whose relative tolerance
            is one of the largest number of a state, then counts each number in units of its tolerance.
        max_steps: Largest number of steps of a lane.
        event: Stops a lane, as in `ensemble`.
        run: `Run(devices=...)` shares the lanes out over devices.

    Returns:
        A `Sensitivity`, whose `ensemble` is the solution itself.

    Raises:
        ValueError: As for `ensemble`.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> decay = lambda t, x, rate: -rate * x
        >>> s = jk.sensitivity(decay, jnp.ones(3), (0.0, 1.0), jnp.array([0.5, 1.0, 2.0]))
        >>> [round(float(v), 5) for v in s.args[:, 0]]  # -exp(-rate)
        [-0.60653, -0.36788, -0.13534]
    """
    own, parts = apart(args)
    if parts is not None:
        options: Any = {"method": method, "rtol": rtol, "atol": atol, "max_steps": max_steps}
        form = Form(None, parts)
        found = sensitivity(form.field(field), x0s, ts, own, event=form.events(event), run=run, **options)
        return dataclasses.replace(
            found,
            args=parts.alone(found.args),
            end_args=parts.alone(found.end_args),
            xs_args=parts.alone(found.xs_args),
        )
    asked, numbers = actions(event)
    settings = Settings.of(method, rtol=rtol, atol=atol, max_steps=max_steps, actions=asked, run=run)
    arrays = (x0s, as_times(ts), args, numbers)
    return run_kept(_derive, (field, settings), arrays, wide=True)


def _derive(field: Field, settings: Settings, x0s: PyTree, ts: Any, args: PyTree, numbers: Numbers) -> Sensitivity:
    if settings.actions.goes_on:
        return _pushed(field, settings, x0s, ts, args, numbers)
    plan, given = prepare(field, settings, x0s, ts, args)
    if plan.wide:
        return _pushed(field, settings, x0s, ts, args, numbers)
    leaves, k = given.leaves, plan.size
    floating = tuple(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)
    perturbed = (True, *floating)
    solved, jacobian = with_jacobian(plan, given, perturbed=perturbed)
    final, end = jacobian.final, jnp.zeros_like(jacobian.final[:, 0])
    if settings.events:
        end = event_time(plan, given, solved, jacobian, perturbed=perturbed)
        final = final + velocity_of(plan, given)(solved.end, solved.final)[:, :, None] * end[:, None]
    ended, state = with_events(with_ends(solved, given, ts), settings), slice(k)
    failed = (ended.status != int(Status.ok))[:, None, None]
    saved = jacobian.saved
    if saved is None:  # the beginning and the end alone
        reached = (solved.end == given.t1)[:, None, None]
        start = jnp.broadcast_to(jnp.eye(k, final.shape[-1], dtype=final.dtype), final.shape)
        saved = jnp.stack([start, jnp.where(reached, final, jnp.nan)], axis=1)
    saved = jnp.where(jnp.isfinite(saved), saved, jnp.nan).reshape(len(saved), -1, saved.shape[-1])
    derivatives = jnp.where(failed, jnp.nan, jnp.concatenate([final, end[:, None], saved], axis=1))
    columns, tangents = derivatives[:, :, k:], []
    for leaf, lane, wanted in zip(leaves, plan.lanewise, floating, strict=True):
        shape = leaf.shape[1:] if lane else leaf.shape
        size = math.prod(shape) if wanted else 0
        own, columns = columns[:, :, :size], columns[:, :, size:]
        full = own if wanted else jnp.zeros((*columns.shape[:2], math.prod(shape)), columns.dtype)
        tangents.append(full.reshape(*columns.shape[:2], *shape))

    def by_args(part: Any) -> PyTree:
        tree = plan.treedef.unflatten([leaf[:, part] for leaf in tangents])
        return tree[0] if plan.closes else tree

    many = lambda v: v.reshape(len(v), -1, k, *v.shape[2:])
    later = slice(k + 1, None)
    return Sensitivity(
        ensemble=ended,
        x0s=derivatives[:, state, :k],
        args=by_args(state),
        xs_x0s=many(derivatives[:, later, :k]),
        xs_args=jax.tree.map(many, by_args(later)),
        end_x0s=derivatives[:, k, :k],
        end_args=by_args(k),
    )


def _pushed(field: Field, settings: Settings, x0s: PyTree, ts: Any, args: PyTree, numbers: Numbers) -> Sensitivity:
    """The derivatives of lanes that go on behind jumps and events, or that are wide: those of the whole solve."""
    x0s = widened(x0s, args, numbers)
    plan, given = prepare(field, settings, x0s, ts, args)
    treedef, layout, n = jax.tree.structure(args), layout_of(given.starts), len(given.t0)
    wide = lambda leaf, lane: leaf if lane else jnp.broadcast_to(leaf, (n, *leaf.shape))
    leaves = [wide(*pair) for pair in zip(given.leaves, plan.lanewise, strict=True)][: treedef.num_leaves]
    real = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]

    def solved(flat: Array, own: list[Array]) -> Any:
        rest = iter(own)
        whole = treedef.unflatten([next(rest) if moves else v for v, moves in zip(leaves, real, strict=True)])
        found = solve_ensemble(field, settings, layout.tree(flat), ts, whole, numbers)
        xs = layout.flat(found.xs, 2)
        return (layout.flat(found.final), found.end, jnp.where(jnp.isfinite(xs), xs, 0)), found

    start, own = layout.flat(given.starts), [leaf for leaf, moves in zip(leaves, real, strict=True) if moves]
    sizes = [plan.size, *(math.prod(v.shape[1:]) for v in own)]
    (final, end, xs), found = all_directions(solved, (start, own))
    failed = found.status != int(Status.ok)
    final = jnp.where(failed[:, None, None], jnp.nan, final)
    end = jnp.where(failed[:, None], jnp.nan, end)
    reached = jnp.isfinite(layout.flat(found.xs, 2)) & ~failed[:, None, None]
    xs = jnp.where(reached[..., None], xs, jnp.nan)

    def by_args(table: Array) -> PyTree:
        parts, lead = iter(jnp.split(table, np.cumsum(sizes)[:-1], axis=-1)[1:]), table.shape[:-1]
        shape = lambda v: (*lead, *v.shape[1:])
        moved = [next(parts).reshape(shape(v)) if moves else jnp.zeros(shape(v), table.dtype)
                 for v, moves in zip(leaves, real, strict=True)]  # fmt: skip
        return treedef.unflatten(moved)

    k = plan.size
    return Sensitivity(found, final[..., :k], by_args(final), xs[..., :k], by_args(xs), end[..., :k], by_args(end))
