"""A batch of lanes: arguments are checked, lanes are put in order, moved in chunks, and put together again."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from jaxkit.compile import lanes
from jaxkit.compile.rows import Lanes
from jaxkit.compile.scalars import SHARED, ScalarField
from jaxkit.core import checks
from jaxkit.core.run import Run
from jaxkit.core.status import Outcome, Status, worst
from jaxkit.core.struct import struct
from jaxkit.dynamics.linear.implicit import closed
from jaxkit.dynamics.ode import methods
from jaxkit.dynamics.ode.actions import NOTHING, Actions, Crossings, told
from jaxkit.dynamics.ode.engine.fitting import fitted
from jaxkit.dynamics.ode.engine.integrate import Arrived, Stepper, integrate, work
from jaxkit.dynamics.ode.engine.runge_kutta import RungeKuttaStepper
from jaxkit.dynamics.ode.engine.taylor import TaylorStepper
from jaxkit.dynamics.ode.field import Field, as_state, check_events, check_field, check_tolerance
from jaxkit.dynamics.ode.methods import Method, Taylor
from jaxkit.dynamics.ode.reasons import nought, of_times, without_derivative
from jaxkit.dynamics.ode.schemes import get as tableau_of
from jaxkit.dynamics.ode.tolerance import Absolute, absolute, rows

X = TypeVar("X")


@struct
class Ensemble(Outcome, Generic[X]):
    """Many trajectories and their outcomes; every leaf has the `n` lanes as its leading axis.

    Attributes:
        ts: Times of `xs`, as they were given: shape `(m,)` or `(n, 2)`.
        xs: States at `ts`: the state's structure with leading axes `(n, m)`; times that a lane did not reach (after an
            event or a failure) hold infinities.
        status: `Status` code of each lane; where its times are not finite or not in order, its states are NaN.
        steps: Number of accepted steps of each lane.
        rejected: Number of steps of each lane that the error control rejected.
        end: The last time that each lane reached: the last of its times, or the time of its event.
        final: The state at `end`.
        event: Which event stopped the lane, counted from 0; -1 for none.
        events: The events that were met; None where none was asked for.
    """

    verb: ClassVar[str] = "ensemble"

    ts: Float[Array, "..."]
    xs: X
    status: Int[Array, " n"]
    steps: Int[Array, " n"]
    rejected: Int[Array, " n"]
    end: Float[Array, " n"]
    final: X
    event: Int[Array, " n"]
    events: Crossings[X] | None = None


class Settings(NamedTuple):
    """How an ensemble is solved: see `jaxkit.ensemble`."""

    method: Method
    rtol: float
    atol: Absolute | tuple[float, ...]  # in a plan, a number, or one for each number of the state
    max_steps: int
    events: tuple[Callable[[Array, Any, Any], Array], ...] = ()
    devices: tuple[Any, ...] = ()
    actions: Actions = NOTHING

    def __contents__(self) -> Hashable:
        """The settings themselves as a key of programs, where they hold no functions; else None."""
        usual = self.actions is NOTHING and not self.events and not self.devices and type(self.method) is Taylor
        return tuple(self) if usual and self.method.alike is None else None

    @classmethod
    def of(
        cls, method: Any, *, rtol: Any, atol: Any, max_steps: int, actions: Actions = NOTHING, run: Run | None = None
    ) -> "Settings":
        """Checked settings from the arguments of `ensemble`."""
        others = [] if run is None else [name for name in run.asked() if name != "devices"]
        checks.require(not others, "run", "have nothing but `devices` for an ensemble", f"has {', '.join(others)}")
        checks.require(max_steps >= 1, "max_steps", "be at least 1", f"is {max_steps}")
        devices = () if run is None else tuple(run.devices or ())
        method = methods.of_ensemble(method)
        return cls(method, float(rtol), absolute(atol), max_steps, actions.functions, devices, actions)


class Plan(NamedTuple):
    """What a compiled ensemble depends on besides the arrays."""

    field: Field
    settings: Settings
    lanewise: tuple[bool, ...]  # for each parameter leaf
    treedef: Any  # of the parameters
    size: int  # number of numbers in a lane's state
    closes: bool = False  # whether the parameters are the user's, then the values that the field closes over
    controlled: int | None = None  # how many of the state's numbers set the step
    moved: tuple[bool, ...] = ()  # whether there are tangents of `x0s`, and of each parameter
    wide: bool = False  # whether lanes are moved as arrays, not as numbers


class Given(NamedTuple):
    """The arrays of an ensemble, checked and of one dtype."""

    starts: PyTree
    leaves: tuple[Array, ...]  # of the parameters
    t0: Float[Array, " n"]
    t1: Float[Array, " n"]
    ts: Float[Array, " m"] | None  # times at which states are saved on the way


def as_times(ts: Any) -> Any:
    """Times as one array; their order is checked where they are known."""
    known = not checks.is_traced(ts)
    try:
        times = ts if isinstance(ts, jax.Array) else np.asarray(ts, float) if known else jnp.asarray(ts)
    except (TypeError, ValueError):
        raise ValueError(f"Argument `ts` must be an array of times, but is {ts!r}.") from None
    fits = (times.ndim == 1 and times.shape[0] >= 2) or (times.ndim == 2 and times.shape[1] == 2)
    checks.require(fits, "ts", "have shape (m,), m >= 2, or (n, 2)", f"has shape {times.shape}")
    if known and times.ndim == 1:
        checks.one_way("ts", times)
    return times


def prepare(field: Field, settings: Settings, x0s: PyTree, ts: Any, args: PyTree) -> tuple[Plan, Given]:
    """Check the arguments of an ensemble and plan it."""
    starts, args = as_state("x0s", x0s, finite=False), jax.tree.map(jnp.asarray, args)
    n = _lanes(x0s=starts, ts=ts if ts.ndim == 2 else (), args=args)
    starts = jax.tree.map(lambda v: jnp.broadcast_to(v, (n, *v.shape[1:])), starts)
    lanewise = [bool(leaf.ndim) and leaf.shape[0] == n != 1 for leaf in jax.tree.leaves(args)]
    shared = lambda leaf, lane: leaf if lane or not leaf.ndim else leaf[0]
    args = jax.tree.map(shared, args, jax.tree.structure(args).unflatten(lanewise))
    dtype = jax.tree.leaves(starts)[0].dtype
    check_tolerance(settings.rtol, dtype)
    ts = checks.floating("ts", ts).astype(dtype)
    usable = of_times(ts) == int(Status.ok)  # otherwise a lane stays where it is
    end = lambda times: jnp.broadcast_to(jnp.where(usable, times, nought(times)), (n,))
    t0, t1 = end(ts[..., 0]), end(ts[..., -1])
    saved = ts if ts.ndim == 1 and len(ts) > 2 else None
    t, one = jax.ShapeDtypeStruct((), dtype), jax.tree.map(lambda v: _one(v, True), starts)  # noqa: FBT003
    own = jax.tree.map(_one, args, jax.tree.structure(args).unflatten(lanewise))
    settings = settings._replace(atol=rows(settings.atol, one))
    check_field(field, t, one, own)
    check_events(settings.events, t, one, own)
    real = lambda v: jnp.asarray(v).astype(dtype)  # an event function may return a whole number
    whole = lambda t, x, a: (field(t, x, a), [real(e(t, x, a)) for e in settings.events])
    cast = any(jax.eval_shape(e, t, one, own).dtype != dtype for e in settings.events)
    fn, values = closed(whole, t, one, own)
    if values or cast:  # the values become parameters that all lanes share
        field = lambda t, x, a: fn(t, x, a[0], *a[1])[0]
        event = lambda i: lambda t, x, a: fn(t, x, a[0], *a[1])[1][i]
        events = tuple(map(event, range(len(settings.events))))
        settings, args, own = settings._replace(events=events), (args, values), (own, values)
        lanewise += [False] * len(values)
    leaves, treedef = jax.tree.flatten(args)
    functions = (field, *settings.events)
    method, wide = fitted(settings.method, settings.rtol, functions, (t, one, own), tuple(lanewise))
    size = lanes.Layout(one).size
    method = dataclasses.replace(method, width=method.width or lanes.default_width(size))
    plan = Plan(
        field, settings._replace(method=method), tuple(lanewise), treedef, size, bool(values) or cast, wide=wide
    )
    return plan, Given(starts, tuple(leaves), t0, t1, saved)


def _lanes(**batches: PyTree) -> int:
    """The number of lanes, the same in all arguments; all lanes share an axis of length 1."""
    n, owner, found = 1, "", False
    for name, tree in batches.items():
        for leaf in jax.tree.leaves(tree):
            found = found or leaf.ndim > 0
            if leaf.ndim and leaf.shape[0] != 1:
                fits = not owner or leaf.shape[0] == n
                checks.require(fits, name, f"have {n} lanes, as `{owner}` has, or 1", f"has {leaf.shape[0]}")
                n, owner = leaf.shape[0], owner or name
    checks.require(found, "x0s", "have a leading axis of lanes", "no argument has one")
    return n


def _one(leaf: Array, lane: bool) -> jax.ShapeDtypeStruct:  # noqa: FBT001
    return jax.ShapeDtypeStruct(leaf.shape[1:] if lane else leaf.shape, leaf.dtype)


def layout_of(starts: PyTree) -> lanes.Layout:
    """How the numbers of a lane's state are laid out in a batch of states."""
    return lanes.Layout(jax.tree.map(lambda v: _one(v, True), starts))  # noqa: FBT003


def arrive(
    plan: Plan,
    given: Given,
    tangents: Sequence[Array] = (),
    directions: Sequence[Any] = (),
    loop: Callable[..., Any] = integrate,
) -> Any:
    """Where all lanes end: rows of numbers, over devices, in chunks.

    Args:
        plan: The plan.
        given: The arrays of the ensemble.
        tangents: Tangents at the start, one array `(n, m)` for each number of the state.
        directions: The directions of the tangents in each parameter in which lanes differ: see `Row`.
        loop: The function that moves a row of lanes.

    Returns:
        What `loop` returns, with the lanes as the leading axis of each leaf; the tangents follow the state.
    """
    settings, (starts, leaves, t0, t1, ts) = plan.settings, given
    own = tuple(leaf for leaf, lane in zip(leaves, plan.lanewise, strict=True) if lane)
    shared = tuple(leaf for leaf, lane in zip(leaves, plan.lanewise, strict=True) if not lane)
    one, layout = jax.tree.map(lambda v: _one(v, True), starts), layout_of(starts)  # noqa: FBT003
    single = plan.treedef.unflatten([_one(leaf, lane) for leaf, lane in zip(leaves, plan.lanewise, strict=True)])

    def outputs(t: Array, x: PyTree, a: PyTree) -> Any:
        return plan.field(t, x, a), [e(t, x, a) for e in settings.events]

    scalar = ScalarField(outputs, jax.ShapeDtypeStruct((), t0.dtype), one, single, plan.lanewise)
    stepper = _stepper(plan, scalar, directions)
    upright = lambda row: row._replace(x=tuple(jnp.moveaxis(v, 0, -1) for v in row.x))

    def part(rows: Lanes, common: Any) -> Any:
        leaves, ts = common
        constants = scalar.constants(SHARED, leaves, {}, stepper.roots)
        n, width = len(rows.t0), min(settings.method.width or lanes.WIDTH, len(rows.t0))
        move = functools.partial(loop, stepper, max_steps=settings.max_steps, ts=ts, events=len(settings.events))
        back, order = None, None
        if n > 2 * width:
            rows, order = _alike(plan, layout, rows, leaves)
        if n > 2 * width or stepper.cautious:
            first = lanes.in_chunks(lambda row: work(stepper, upright(row), constants), rows, width)
            amount, refused = jax.tree.map(lambda v: lanes.glue(v, n), first)
            rows = rows._replace(refused=refused)
        if n > 2 * width:
            rows, back = lanes.by_work(amount, rows, order)
        chunked = lanes.in_chunks(lambda row: move(upright(row), constants), rows, width)
        arrived = jax.tree.map(lambda v: jnp.moveaxis(lanes.glue(v, n), -1, 0), chunked)
        return arrived if back is None else jax.tree.map(lambda v: v[back], arrived)

    rows, common = Lanes((*layout.split(starts), *tangents), t0, t1, own), (shared, ts)
    if not len(t0):
        first = jax.tree.map(lambda v: jax.ShapeDtypeStruct((1, *v.shape[1:]), v.dtype), rows)
        shapes = jax.eval_shape(part, first, common)
        return jax.tree.map(lambda v: jnp.zeros((0, *v.shape[1:]), v.dtype), shapes)
    return lanes.over_devices(part, settings.devices, rows, common) if len(settings.devices) > 1 else part(rows, common)


def _alike(plan: Plan, layout: lanes.Layout, rows: Lanes, shared: Sequence[Array]) -> tuple[Lanes, Array | None]:
    """Lanes in an order in which neighbours are alike by the method's own measure, and that order."""
    alike = plan.settings.method.alike
    if alike is None:
        return rows, None
    own, common = iter(rows.args), iter(shared)
    args = plan.treedef.unflatten([next(own) if lane else next(common) for lane in plan.lanewise])
    axes = plan.treedef.unflatten([0 if lane else None for lane in plan.lanewise])
    args, axes = (args[0], axes[0]) if plan.closes else (args, axes)
    first, second = jax.vmap(alike, (0, axes))(layout.join(rows.x[: layout.size]), args)
    order = lanes.by_likeness(first, second, rows.t1 != rows.t0, width=cast(int, plan.settings.method.width))
    return jax.tree.map(lambda v: v[order], rows), order


def gather(given: Given, arrived: Arrived) -> Ensemble:
    """The result in the user's structure; without times on the way `ts` is empty and `xs` None."""
    layout = layout_of(given.starts)
    return Ensemble(
        ts=jnp.zeros(0, given.t0.dtype) if given.ts is None else given.ts,
        xs=cast(Any, None if given.ts is None else layout.join(arrived.saved[: layout.size])),
        status=arrived.status,
        steps=arrived.steps,
        rejected=arrived.rejected,
        end=arrived.t,
        final=layout.join(arrived.x[: layout.size]),
        event=arrived.event,
    )


def with_ends(found: Ensemble, given: Given, ts: Any) -> Ensemble:
    """The ensemble with the states at its times, where these are only the beginning and the end.

    A lane that failed has no derivative; one whose times are unusable has no states.
    """
    ts = checks.floating("ts", ts).astype(given.t0.dtype)
    timed = jnp.broadcast_to(of_times(ts), found.status.shape)
    end, final = without_derivative((found.status | timed) != int(Status.ok), (found.end, found.final))
    xs = found.xs if given.ts is not None else _ends(given.starts, final, end == given.t1)
    lost = timed != int(Status.ok)
    xs = jax.tree.map(lambda v, x: jnp.where(lost.reshape(-1, *(1,) * (v.ndim - 1)), x[:, None], v), xs, final)
    xs, end, final = without_derivative(lost, (xs, end, final), value_too=True)
    return dataclasses.replace(found, ts=ts, xs=xs, end=end, final=final, status=worst(timed, found.status))


def with_events(found: Ensemble, settings: Settings) -> Ensemble:
    """The ensemble with the events that ended its lanes, where any were asked for."""
    if not settings.events:
        return found
    return dataclasses.replace(found, events=told(found.event >= 0, found.end, found.final, found.event))


@jax.jit
def _ends(starts: PyTree, final: PyTree, reached: Array) -> PyTree:
    def both(start: Array, end: Array) -> Array:
        there = reached.reshape(-1, *(1,) * (end.ndim - 1))
        return jnp.stack([start, jnp.where(there, end, jnp.inf)], axis=1)

    return jax.tree.map(both, starts, final)


def _stepper(plan: Plan, field: ScalarField, directions: Sequence[Any]) -> Stepper:
    method, rtol, atol = plan.settings.method, plan.settings.rtol, cast(Any, plan.settings.atol)
    more = {"controlled": plan.controlled, "directions": directions}
    if isinstance(method, Taylor):
        return TaylorStepper(field, rtol, atol, order=method.order, **more)
    return RungeKuttaStepper(field, tableau_of(method.scheme), rtol, atol, **more)
