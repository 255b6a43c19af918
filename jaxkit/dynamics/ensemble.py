"""Many solves at once: the `ensemble` verb."""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from jaxkit.core import checks
from jaxkit.core.environment import wide_vectors
from jaxkit.core.status import Outcome
from jaxkit.core.struct import struct
from jaxkit.dynamics import lanes
from jaxkit.dynamics.field import Field, as_state, check_field
from jaxkit.dynamics.march import Arrived, Lanes, Method, march, work
from jaxkit.dynamics.pairs import RungeKutta
from jaxkit.dynamics.scalars import SHARED, ScalarField
from jaxkit.dynamics.schemes import TABLEAUS
from jaxkit.dynamics.taylor import Taylor, TaylorSeries, Unsupported

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


class Plan(NamedTuple):
    """What a compiled ensemble depends on beside the arrays."""

    field: Field
    events: tuple[Callable[[Array, Any, Any], Array], ...]
    method: str
    rtol: float
    atol: float
    max_steps: int
    width: int
    lanewise: tuple[bool, ...]  # for each parameter leaf
    treedef: Any  # of the parameters
    devices: tuple[Any, ...]
    size: int  # numbers of a lane's state
    controlled: int | None = None  # how many of them set the step


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
    plan, starts, leaves, _, span, times = prepare(
        field,
        x0s,
        params,
        t1,
        t0=t0,
        ts=ts,
        method=method,
        rtol=rtol,
        atol=atol,
        max_steps=max_steps,
        in_axes=in_axes,
        event=event,
        width=width,
        devices=devices,
    )
    return solve_lanes(plan, starts, leaves, *span, times)


def prepare(
    field: Field,
    x0s: PyTree,
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
    event: Any = (),
    width: int | None = None,
    devices: Sequence[Any] | None = None,
) -> tuple[Plan, PyTree, tuple[Array, ...], Any, tuple[Array, Array], Array | None]:
    """Check an ensemble's arguments: the plan, starts, parameter leaves and their structure, time span, save times."""
    events: tuple[Any, ...] = (event,) if callable(event) else tuple(event)
    checks.one_of("method", method, ("taylor", *PAIRS))
    starts = as_state("x0s", x0s)
    args = jax.tree.map(jnp.asarray, params)
    n = _lanes(starts, args, in_axes, t0, t1)
    leaves: list[Array]
    leaves, treedef = jax.tree.flatten(args)
    lanewise = tuple(in_axes[1] == 0 and bool(leaf.ndim) for leaf in leaves)
    starts = starts if in_axes[0] == 0 else jax.tree.map(lambda v: jnp.broadcast_to(v, (n, *v.shape)), starts)
    dtype = jax.tree.leaves(starts)[0].dtype
    end = lambda name, value: jnp.broadcast_to(checks.floating(name, value).astype(dtype), (n,))
    span = end("t0", t0), end("t1", t1)
    times = None if ts is None else checks.floating("ts", ts).astype(dtype)
    if times is not None:
        checks.shape("ts", times, ("m",))
        checks.finite("ts", times)
    if rtol < 50 * float(jnp.finfo(dtype).eps):
        warnings.warn(
            f"`rtol` = {rtol:g} is below what {dtype} can resolve: raise it, or call `jaxkit.set_precision('double')`.",
            stacklevel=3,
        )
    one = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape[1:], v.dtype), starts)
    own = treedef.unflatten([_one(leaf, lane) for leaf, lane in zip(leaves, lanewise, strict=True)])
    check_field(field, jax.ShapeDtypeStruct((), dtype), one, own)
    method = _possible(method, field, jax.ShapeDtypeStruct((), dtype), one, own, lanewise)
    size = lanes.Layout(one).size
    wide = lanes.default_width(size) if width is None else width
    shape = (max_steps, wide, lanewise, treedef, tuple(devices or ()), size)
    return Plan(field, events, method, rtol, atol, *shape), starts, tuple(leaves), treedef, span, times


@functools.lru_cache(maxsize=256)
def _missing(field: Field, t: Any, x: Any, args: Any, lanewise: tuple[bool, ...]) -> str:
    """The first operation of the field without a Taylor recurrence; empty if there is none."""
    treedef, leaves = args
    scalar = ScalarField(field, t, jax.tree.unflatten(*x), jax.tree.unflatten(treedef, leaves), lanewise)
    try:
        TaylorSeries(scalar, scalar.outputs)
    except Unsupported as problem:
        return str(problem)
    return ""


def _possible(method: str, field: Field, t: Any, x: Any, args: Any, lanewise: tuple[bool, ...]) -> str:
    """The method, or Dopri8 with one sentence where the field has an operation without a Taylor recurrence."""
    if method != "taylor":
        return method
    pair = lambda tree: (lambda v: (v[1], tuple(v[0])))(jax.tree.flatten(tree))
    missing = _missing(field, t, pair(x), pair(args), lanewise)
    if missing:
        warnings.warn(
            f"method='taylor' has no recurrence for `{missing}`: solving with 'dopri8' instead.", stacklevel=4
        )
        return "dopri8"
    return method


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def solve_lanes(
    plan: Plan, starts: PyTree, leaves: tuple[Array, ...], t0: Array, t1: Array, ts: Array | None
) -> Ensemble:
    """The ensemble of a plan, with the derivative of `jaxkit.dynamics.sensitivity`."""
    run = _compiled() if _outside(starts, leaves, t0, t1, ts) else _run
    return run(plan, starts, leaves, t0, t1, ts)


def _pushed(plan: Plan, primals: Any, tangents: Any) -> Any:
    from jaxkit.dynamics.sensitivity import push  # it stands on this module

    return push(plan, primals, tangents)


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


def _outside(*values: Any) -> bool:
    """Whether nothing is being traced, so that compiler options may be given."""
    return not checks.is_traced((values, jnp.zeros(())))


@functools.cache
def _compiled() -> Callable[..., Ensemble]:
    """The compiled ensemble, with wide vectors where the processor and the compiler have them."""
    return jax.jit(_run, static_argnums=0, compiler_options=wide_vectors())


def _run(plan: Plan, starts: PyTree, leaves: tuple[Array, ...], t0: Array, t1: Array, ts: Array | None) -> Ensemble:
    """The whole ensemble: rows of numbers, over devices, in chunks."""
    layout = lanes.Layout(jax.tree.map(lambda v: v[0], starts))
    own = tuple(leaf for leaf, lane in zip(leaves, plan.lanewise, strict=True) if lane)
    shared = tuple(leaf for leaf, lane in zip(leaves, plan.lanewise, strict=True) if not lane)
    one = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape[1:], v.dtype), starts)
    single = plan.treedef.unflatten([_one(leaf, lane) for leaf, lane in zip(leaves, plan.lanewise, strict=True)])

    def outputs(t: Array, x: PyTree, a: PyTree) -> Any:
        return plan.field(t, x, a), [e(t, x, a) for e in plan.events]

    scalar = ScalarField(outputs, jax.ShapeDtypeStruct((), t0.dtype), one, single, plan.lanewise)
    method = _method(plan, scalar)

    def part(rows: Lanes, common: Any) -> Arrived:
        leaves, ts = common
        constants = scalar.constants(SHARED, leaves, {}, method.roots)

        n, width = len(rows.t0), min(plan.width, len(rows.t0))
        settings = {"max_steps": plan.max_steps, "ts": ts, "events": len(plan.events)}
        back = None
        if n > 2 * width:
            amount = lanes.in_chunks(lambda row: work(method, row, constants), rows, width)
            order, back = lanes.by_work(lanes.glue(amount, n))
            rows = jax.tree.map(lambda v: v[order], rows)
        chunked = lanes.in_chunks(lambda row: march(method, row, constants, **settings), rows, width)
        arrived = jax.tree.map(lambda v: jnp.moveaxis(lanes.glue(v, n), -1, 0), chunked)
        return arrived if back is None else jax.tree.map(lambda v: v[back], arrived)

    rows = Lanes(layout.split(starts), t0, t1, own)
    common = (shared, ts)
    arrived = lanes.over_devices(part, plan.devices, rows, common) if len(plan.devices) > 1 else part(rows, common)
    return Ensemble(
        ts=jnp.zeros(0, t0.dtype) if ts is None else ts,
        xs=None if ts is None else layout.join(arrived.saved),
        status=arrived.status,
        steps=arrived.steps,
        rejected=arrived.rejected,
        end=arrived.t,
        final=layout.join(arrived.x),
        event=arrived.event,
    )


def _method(plan: Plan, field: ScalarField) -> Method:
    if plan.method == "taylor":
        return Taylor(field, plan.rtol, plan.atol, controlled=plan.controlled)
    return RungeKutta(field, TABLEAUS[plan.method], plan.rtol, plan.atol, plan.controlled)
