"""Many solves at once: the `ensemble` verb."""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from jaxkit.compile import lanes
from jaxkit.compile.jit_cache import holds_tracer, run
from jaxkit.compile.rows import Lanes
from jaxkit.compile.scalars import SHARED, ScalarField
from jaxkit.core import checks
from jaxkit.core.status import Outcome
from jaxkit.core.struct import struct
from jaxkit.dynamics.linear.implicit import closed
from jaxkit.dynamics.ode.engine.integrate import Arrived, Method, march, work
from jaxkit.dynamics.ode.engine.runge_kutta import RungeKutta
from jaxkit.dynamics.ode.engine.taylor import Taylor, TaylorSeries, Unsupported
from jaxkit.dynamics.ode.field import Field, as_state, check_field
from jaxkit.dynamics.ode.schemes import TABLEAUS

X = TypeVar("X")
PAIRS = ("heun", "tsit5", "dopri5", "dopri8")  # embedded Runge-Kutta pairs


@struct
class Ensemble(Outcome, Generic[X]):
    """Many trajectories and how each was reached; every leaf has the `n` lanes as its leading axis.

    Attributes:
        ts: Times of `xs`, shape `(m,)`; empty if none were asked for.
        xs: States at `ts`, the state's structure with leading axes `(n, m)`; times that a lane did not reach (after an
            event or a failure) hold infinities. None without `ts`.
        status: `Status` code of each lane.
        steps: Steps accepted.
        rejected: Steps rejected by the error control.
        end: The last time that each lane reached: `t1`, or the time of its event.
        final: The state at `end`.
        event: Which event stopped the lane, counted from 0; -1 for none.
    """

    verb: ClassVar[str] = "ensemble"

    ts: Float[Array, " m"]
    xs: X | None
    status: Int[Array, " n"]
    steps: Int[Array, " n"]
    rejected: Int[Array, " n"]
    end: Float[Array, " n"]
    final: X
    event: Int[Array, " n"]


class Settings(NamedTuple):
    """How an ensemble is solved: see `ensemble`."""

    method: str = "taylor"
    rtol: float = 1e-6
    atol: float = 1e-8
    max_steps: int = 4096
    in_axes: tuple[int | None, int | None] = (0, 0)
    events: tuple[Callable[[Array, Any, Any], Array], ...] = ()
    width: int | None = None
    devices: tuple[Any, ...] = ()

    @classmethod
    def of(cls, *, event: Any = (), devices: Sequence[Any] | None = None, **rest: Any) -> "Settings":
        """Settings from the arguments of `ensemble`."""
        checks.one_of("method", rest.get("method", "taylor"), ("taylor", *PAIRS))
        events: tuple[Any, ...] = (event,) if callable(event) else tuple(event)
        numbers = {name: float(rest[name]) for name in ("rtol", "atol") if name in rest}
        return cls(events=events, devices=tuple(devices or ()), **{**rest, **numbers})


class Plan(NamedTuple):
    """What a compiled ensemble depends on beside the arrays."""

    field: Field
    settings: Settings
    lanewise: tuple[bool, ...]  # for each parameter leaf
    treedef: Any  # of the parameters
    size: int  # numbers of a lane's state
    closes: bool = False  # whether the parameters are (the user's, the values that the field closes over)
    controlled: int | None = None  # how many of the state's numbers set the step
    moved: tuple[bool, ...] = ()  # whether there are tangents by `x0s`, and by each parameter


class Given(NamedTuple):
    """The arrays of an ensemble, checked and of one dtype."""

    starts: PyTree
    leaves: tuple[Array, ...]  # of the parameters
    t0: Float[Array, " n"]
    t1: Float[Array, " n"]
    ts: Float[Array, " m"] | None


def ensemble(
    field: Field,
    x0s: X,
    params: PyTree,
    t1: ArrayLike,
    *,
    t0: ArrayLike = 0.0,
    ts: ArrayLike | None = None,
    method: str = "taylor",
    rtol: float = 1e-6,
    atol: float = 1e-8,
    max_steps: int = 4096,
    in_axes: tuple[int | None, int | None] = (0, 0),
    event: Callable[[Array, X, Any], Array] | Sequence[Callable[[Array, X, Any], Array]] = (),
    width: int | None = None,
    devices: Sequence[Any] | None = None,
) -> Ensemble[X]:
    """Integrate `dx/dt = field(t, x, params)` for many starts and parameters, each lane with its own step sizes.

    Args:
        field: Velocity of one lane: `field(t, x, args)`, of `x`'s structure and shapes.
        x0s: Starts: the state's pytree, each leaf with a leading axis of `n` lanes.
        params: Parameters: any pytree, each leaf with a leading axis of `n` lanes; plain numbers are shared by all.
        t1: End, one for all or shape `(n,)`; may lie before `t0`.
        t0: Beginning, one for all or shape `(n,)`.
        ts: Times at which states are kept, shape `(m,)`, ordered from `t0` to `t1`; None keeps the last state only.
        method: `"taylor"`, whose order follows from `rtol`, or an embedded Runge-Kutta pair, one of `PAIRS`.
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step, in units of the state.
        max_steps: Most steps of a lane, rejected ones included; beyond, its status is `max_steps`, or `stiff` where
            stability set the steps (then `jaxkit.solve` with an implicit method is the way).
        in_axes: Whether `x0s` and `params` have lanes (0) or are shared by all lanes (None).
        event: Stops a lane where `event(t, x, args)` crosses zero; or several such functions.
        width: Lanes of a chunk; None chooses for the machine.
        devices: Devices to share the lanes out over; None uses the default device.

    Returns:
        An `Ensemble`. It does not raise inside `jit`: call `.checked()` on the host, or look at `.status`.

    Raises:
        ValueError: An argument has a wrong shape, or a value that can be seen to be unusable.
    """
    settings = Settings.of(
        method=method,
        rtol=rtol,
        atol=atol,
        max_steps=max_steps,
        in_axes=in_axes,
        event=event,
        width=width,
        devices=devices,
    )
    arrays = (x0s, params, t1, t0, ts)
    keep = not any(map(holds_tracer, (field, *settings.events)))
    return run(_solve, (field, settings), arrays, keep=keep)  # all checks are made while it is traced


def _solve(field: Field, settings: Settings, *arrays: Any) -> Ensemble:
    return solve_lanes(*prepare(field, settings, *arrays))


def prepare(
    field: Field, settings: Settings, x0s: PyTree, params: PyTree, t1: ArrayLike, t0: ArrayLike, ts: ArrayLike | None
) -> tuple[Plan, Given]:
    """Check an ensemble's arguments and plan it."""
    in_axes = settings.in_axes
    starts = as_state("x0s", x0s)
    args = jax.tree.map(jnp.asarray, params)
    n = _lanes(starts, args, in_axes, t0, t1)
    lanewise = [in_axes[1] == 0 and bool(leaf.ndim) for leaf in jax.tree.leaves(args)]
    starts = starts if in_axes[0] == 0 else jax.tree.map(lambda v: jnp.broadcast_to(v, (n, *v.shape)), starts)
    dtype = jax.tree.leaves(starts)[0].dtype
    end = lambda name, value: jnp.broadcast_to(checks.floating(name, value).astype(dtype), (n,))
    times = None if ts is None else checks.floating("ts", ts).astype(dtype)
    if times is not None:
        checks.shape("ts", times, ("m",))
        checks.finite("ts", times)
    if settings.rtol < 50 * float(jnp.finfo(dtype).eps):
        warnings.warn(
            f"`rtol` = {settings.rtol:g} is below what {dtype} can resolve: raise it, or call "
            "`jaxkit.set_precision('double')`.",
            stacklevel=3,
        )
    t, one = jax.ShapeDtypeStruct((), dtype), jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape[1:], v.dtype), starts)
    own = jax.tree.map(_one, args, jax.tree.structure(args).unflatten(lanewise))
    check_field(field, t, one, own)
    whole = lambda t, x, a: (field(t, x, a), [e(t, x, a) for e in settings.events])
    fn, values = closed(whole, t, one, own)
    if values:  # they become parameters that all lanes share
        field = lambda t, x, a: fn(t, x, a[0], *a[1])[0]
        event = lambda i: lambda t, x, a: fn(t, x, a[0], *a[1])[1][i]
        events = tuple(map(event, range(len(settings.events))))
        settings, args, own = settings._replace(events=events), (args, values), (own, values)
        lanewise += [False] * len(values)
    leaves, treedef = jax.tree.flatten(args)
    method = _possible(settings.method, field, (t, one, own), tuple(lanewise), keep=not values)
    size = lanes.Layout(one).size
    wide = lanes.default_width(size) if settings.width is None else settings.width
    settings = settings._replace(method=method, width=wide)
    plan = Plan(field, settings, tuple(lanewise), treedef, size, closes=bool(values))
    return plan, Given(starts, tuple(leaves), end("t0", t0), end("t1", t1), times)


def _scalar(field: Field, shapes: tuple[Any, Any, Any], lanewise: tuple[bool, ...]) -> ScalarField:
    return ScalarField(field, *shapes, lanewise)


@functools.lru_cache(maxsize=256)
def _missing(field: Field, shapes: Any, treedef: Any, lanewise: tuple[bool, ...]) -> str:
    """The first operation of the field without a Taylor recurrence; empty if there is none."""
    scalar = _scalar(field, treedef.unflatten(shapes), lanewise)
    try:
        TaylorSeries(scalar, scalar.outputs)
    except Unsupported as problem:
        return str(problem)
    return ""


def _possible(method: str, field: Field, shapes: Any, lanewise: tuple[bool, ...], *, keep: bool) -> str:
    """The method, or Dopri8 with one sentence where the field has an operation without a Taylor recurrence."""
    if method != "taylor":
        return method
    leaves, treedef = jax.tree.flatten(jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), shapes))
    missing = (_missing if keep else _missing.__wrapped__)(field, tuple(leaves), treedef, lanewise)
    if missing:
        warnings.warn(
            f"method='taylor' has no recurrence for `{missing}`: solving with 'dopri8' instead.", stacklevel=4
        )
        return "dopri8"
    return method


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def solve_lanes(plan: Plan, given: Given) -> Ensemble:
    """The ensemble of a plan, with the derivative of `jaxkit.dynamics.ode.sensitivity`."""
    given = jax.tree.map(jnp.asarray, given)  # a value that a field closes over may be a plain number
    return run(_run, (plan,), (given,))


def _pushed(plan: Plan, primals: Any, tangents: Any) -> Any:
    from jaxkit.dynamics.ode.sensitivity import push  # it stands on this module

    return push(plan, primals[0], tangents[0])


solve_lanes.defjvp(_pushed, symbolic_zeros=True)


def _one(leaf: Array, lane: bool) -> jax.ShapeDtypeStruct:  # noqa: FBT001
    return jax.ShapeDtypeStruct(leaf.shape[1:] if lane else leaf.shape, leaf.dtype)


def _lanes(starts: PyTree, args: PyTree, in_axes: tuple[int | None, int | None], t0: Any, t1: Any) -> int:
    """The number of lanes, the same in all arguments."""
    found = {
        "x0s": lanes.count("x0s", starts, in_axes[0]),
        "params": lanes.count("params", args, in_axes[1]),
        "t0": jnp.shape(t0)[0] if jnp.ndim(t0) else None,
        "t1": jnp.shape(t1)[0] if jnp.ndim(t1) else None,
    }
    numbers = {name: length for name, length in found.items() if length is not None}
    checks.require(bool(numbers), "x0s", "have a leading axis of lanes", "no argument has one")
    n = next(iter(numbers.values()))
    for name, length in numbers.items():
        checks.require(length == n, name, f"have {n} lanes, as `{next(iter(numbers))}` has", f"has {length}")
    if in_axes[0] == 0:
        scalar = any(jnp.ndim(v) == 0 for v in jax.tree.leaves(starts))
        checks.require(not scalar, "x0s", "have a leading axis of lanes in each leaf", "a leaf is a plain number")
    return n


def _run(plan: Plan, given: Given) -> Ensemble:
    """The whole ensemble."""
    return gather(given, arrive(plan, given))


def arrive(
    plan: Plan,
    given: Given,
    tangents: Sequence[Array] = (),
    directions: Sequence[Any] = (),
    march: Callable[..., Any] = march,
) -> Any:
    """Where all lanes end: rows of numbers, over devices, in chunks.

    Args:
        plan: The plan.
        given: Its arrays.
        tangents: At the start, one array `(n, m)` a number of the state.
        directions: Of the tangents, in each parameter in which lanes differ: see `Row`.
        march: The loop.

    Returns:
        What `march` returns, the lanes as the leading axis of each leaf; the tangents are behind the state.
    """
    settings, (starts, leaves, t0, t1, ts) = plan.settings, given
    own = tuple(leaf for leaf, lane in zip(leaves, plan.lanewise, strict=True) if lane)
    shared = tuple(leaf for leaf, lane in zip(leaves, plan.lanewise, strict=True) if not lane)
    one = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape[1:], v.dtype), starts)
    single = plan.treedef.unflatten([_one(leaf, lane) for leaf, lane in zip(leaves, plan.lanewise, strict=True)])

    def outputs(t: Array, x: PyTree, a: PyTree) -> Any:
        return plan.field(t, x, a), [e(t, x, a) for e in settings.events]

    scalar = ScalarField(outputs, jax.ShapeDtypeStruct((), t0.dtype), one, single, plan.lanewise)
    method = _method(plan, scalar, directions)

    def part(rows: Lanes, common: Any) -> Any:
        leaves, ts = common
        constants = scalar.constants(SHARED, leaves, {}, method.roots)
        n, width = len(rows.t0), min(settings.width or lanes.WIDTH, len(rows.t0))
        upright = lambda row: row._replace(x=tuple(jnp.moveaxis(v, 0, -1) for v in row.x))
        move = functools.partial(march, method, max_steps=settings.max_steps, ts=ts, events=len(settings.events))
        back = None
        if n > 2 * width:
            amount = lanes.in_chunks(lambda row: work(method, upright(row), constants), rows, width)
            order, back = lanes.by_work(lanes.glue(amount, n))
            rows = jax.tree.map(lambda v: v[order], rows)
        chunked = lanes.in_chunks(lambda row: move(upright(row), constants), rows, width)
        arrived = jax.tree.map(lambda v: jnp.moveaxis(lanes.glue(v, n), -1, 0), chunked)
        return arrived if back is None else jax.tree.map(lambda v: v[back], arrived)

    rows = Lanes((*lanes.Layout(one).split(starts), *tangents), t0, t1, own)
    common = (shared, ts)
    return lanes.over_devices(part, settings.devices, rows, common) if len(settings.devices) > 1 else part(rows, common)


def gather(given: Given, arrived: Arrived) -> Ensemble:
    """The result in the user's structure."""
    layout = lanes.Layout(jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape[1:], v.dtype), given.starts))
    return Ensemble(
        ts=jnp.zeros(0, given.t0.dtype) if given.ts is None else given.ts,
        xs=None if given.ts is None else layout.join(arrived.saved[: layout.size]),
        status=arrived.status,
        steps=arrived.steps,
        rejected=arrived.rejected,
        end=arrived.t,
        final=layout.join(arrived.x[: layout.size]),
        event=arrived.event,
    )


def _method(plan: Plan, field: ScalarField, directions: Sequence[Any]) -> Method:
    name, rtol, atol = plan.settings.method, plan.settings.rtol, plan.settings.atol
    if name == "taylor":
        return Taylor(field, rtol, atol, controlled=plan.controlled, directions=directions)
    return RungeKutta(field, TABLEAUS[name], rtol, atol, controlled=plan.controlled, directions=directions)
