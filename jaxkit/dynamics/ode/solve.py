"""Continuous motion: the `solve` verb, diffrax behind a status instead of exceptions."""

import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Generic, TypeVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import optimistix
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from jaxkit.core import checks
from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import struct
from jaxkit.dynamics.ode.field import Field, as_state, check_field

X = TypeVar("X")

METHODS: Mapping[str, Callable[[], diffrax.AbstractSolver]] = MappingProxyType(
    {
        "euler": diffrax.Euler,
        "midpoint": diffrax.Midpoint,
        "heun": diffrax.Heun,
        "ralston": diffrax.Ralston,
        "bosh3": diffrax.Bosh3,
        "tsit5": diffrax.Tsit5,
        "dopri5": diffrax.Dopri5,
        "dopri8": diffrax.Dopri8,
        "implicit_euler": diffrax.ImplicitEuler,
        "kvaerno3": diffrax.Kvaerno3,
        "kvaerno5": diffrax.Kvaerno5,
    }
)
# Which derivatives a solve offers. `BacksolveAdjoint` is left out: it is 3% wrong, silently, on the competition model.
ADJOINTS: Mapping[str, Callable[[], diffrax.AbstractAdjoint]] = MappingProxyType(
    {
        "direct": diffrax.DirectAdjoint,
        "checkpointed": diffrax.RecursiveCheckpointAdjoint,
        "forward": diffrax.ForwardMode,
    }
)


@struct
class Solution(Outcome, Generic[X]):
    """A trajectory and how it was reached.

    Attributes:
        ts: Times, shape `(n,)`.
        xs: States at `ts`: the state's structure, each leaf with a leading axis `n`. Times that were not reached
            (after an event or a failure) hold infinities.
        status: `Status` code.
        steps: Steps accepted.
        rejected: Steps rejected by the error control.
        end: The last time reached: `ts[-1]`, or the time of the event.
        final: The state at `end`.
    """

    verb: ClassVar[str] = "solve"

    ts: Float[Array, "... n"]
    xs: X
    status: Int[Array, "..."]
    steps: Int[Array, "..."]
    rejected: Int[Array, "..."]
    end: Float[Array, "..."]
    final: X


def solve(
    field: Field,
    x0: X,
    ts: ArrayLike,
    args: PyTree = None,
    *,
    method: str | diffrax.AbstractSolver = "tsit5",
    rtol: float = 1e-7,
    atol: ArrayLike = 1e-9,
    dt: float | None = None,
    max_steps: int = 4096,
    adjoint: str = "checkpointed",
    event: Callable[[Array, X, Any], Array] | None = None,
    noise: Field | None = None,
    key: Array | None = None,
) -> Solution[X]:
    """Integrate `dx/dt = field(t, x, args)` from `x(ts[0]) = x0` and return the states at `ts`.

    The derivative is that of the discrete computation (never a backward re-integration), with respect to `x0`, `ts`
    and `args`.

    Args:
        field: Velocity of the state: `field(t, x, args)`, of `x`'s structure and shapes.
        x0: State at `ts[0]`: any pytree of real arrays.
        ts: Increasing times, shape `(n,)`, `n >= 2`.
        args: Parameters; any pytree; differentiable.
        method: `"taylor"` (smooth fields, forward and reverse derivatives), one of `METHODS`, or any diffrax solver.
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step, in units of the state.
        dt: Fixed step in units of `ts`; None adapts the step to the tolerances.
        max_steps: Most steps; beyond, the status is `max_steps`.
        adjoint: `"checkpointed"` (reverse mode, least memory), `"forward"` (forward mode, few parameters), or
            `"direct"` (both modes, to any order).
        event: Stops the motion where `event(t, x, args)` crosses zero.
        noise: Diagonal diffusion `g(t, x, args)` of `dx = f dt + g dW` (Itô with `method="euler"`), of the state's
            structure; needs `key` and `dt`.
        key: Random key of the Brownian path.

    Returns:
        A `Solution`. It does not raise inside `jit`: call `.checked()` on the host, or look at `.status`.

    Raises:
        ValueError: An argument has a wrong shape, or a value that can be seen to be unusable.

    Example:
        >>> import jax, jax.numpy as jnp, jaxkit as jk
        >>> decay = lambda t, x, rate: -rate * x
        >>> sol = jk.solve(decay, 1.0, jnp.array([0.0, 1.0, 2.0]), 0.5).checked()
        >>> [round(float(x), 6) for x in sol.xs]  # exp(-t / 2)
        [1.0, 0.606531, 0.367879]
        >>> grad = jax.grad(lambda rate: jk.solve(decay, 1.0, jnp.array([0.0, 2.0]), rate).final)(0.5)
        >>> round(float(grad), 6)  # -2 exp(-1)
        -0.735759

    References:
        Kidger (2021), On Neural Differential Equations, for the solvers and their adjoints (diffrax).
    """
    x0, times = as_state("x0", x0), checks.floating("ts", ts)
    checks.require(times.ndim == 1 and times.size >= 2, "ts", "have shape (n,), n >= 2", f"has shape {times.shape}")
    checks.increasing("ts", times)
    checks.one_of("adjoint", adjoint, ADJOINTS)
    checks.require((noise is None) == (key is None), "key", "come with `noise`", "one of them is missing")
    checks.require(noise is None or dt is not None, "dt", "be given with `noise`", "is None")
    check_field(field, times[0], x0, args)
    dtype = jnp.result_type(*jax.tree.leaves(x0))
    if dt is None and rtol < 50 * float(jnp.finfo(dtype).eps):
        warnings.warn(
            f"`rtol` = {rtol:g} is below what {dtype} can resolve: raise it, or call `jaxkit.set_precision('double')`.",
            stacklevel=2,
        )
    if method == "taylor":
        for name, value in (("dt", dt), ("noise", noise)):
            checks.require(value is None, name, "be None with method='taylor'", "is given")
        return _taylor(field, x0, times, args, rtol=rtol, atol=atol, max_steps=max_steps, event=event)
    solver = _solver(method)
    implicit = isinstance(solver, diffrax.AbstractImplicitSolver)
    control = diffrax.ConstantStepSize() if dt is not None else diffrax.PIDController(rtol, atol)  # pyright: ignore[reportArgumentType]
    found = diffrax.diffeqsolve(
        _terms(field, noise, key, times, x0, dt),
        solver,
        t0=times[0],
        t1=times[-1],
        dt0=dt,
        y0=x0,
        args=args,
        saveat=diffrax.SaveAt(subs=[diffrax.SubSaveAt(ts=times), diffrax.SubSaveAt(t1=True)]),
        stepsize_controller=control,
        adjoint=ADJOINTS["forward" if implicit and adjoint == "forward" else adjoint](),
        event=None if event is None else _event(event, rtol, atol),
        max_steps=max_steps,
        throw=False,
    )
    assert found.ts is not None  # noqa: S101 (`saveat` asks for both; this tells the type checker)
    assert found.ys is not None  # noqa: S101
    saved, end, final = found.ys[0], found.ts[1][-1], jax.tree.map(lambda v: v[-1], found.ys[1])
    status = _status(found.result, final)
    stats = found.stats
    return Solution(times, saved, status, stats["num_accepted_steps"], stats["num_rejected_steps"], end, final)


def _taylor(field: Field, x0: Any, ts: Array, args: Any, **settings: Any) -> Solution:
    """One trajectory by Taylor's method: an ensemble of one lane."""
    from jaxkit.dynamics.ode.ensemble import ensemble

    settings["event"] = settings["event"] or ()
    one = jax.tree.map(lambda v: v[None], x0)
    found = ensemble(field, one, args, ts[-1], t0=ts[0], ts=ts, in_axes=(0, None), width=1, **settings)
    first = lambda tree: jax.tree.map(lambda v: v[0], tree)
    xs, final, end = first(found.xs), first(found.final), found.end[0]
    return Solution(ts, xs, found.status[0], found.steps[0], found.rejected[0], end, final)


def _solver(method: str | diffrax.AbstractSolver) -> diffrax.AbstractSolver:
    if isinstance(method, diffrax.AbstractSolver):
        return method
    checks.one_of("method", method, METHODS)
    return METHODS[method]()


def _terms(field: Any, noise: Field | None, key: Array | None, ts: Array, x0: Any, dt: float | None) -> Any:
    """The drift alone, or drift and diagonal diffusion along one Brownian path."""
    if noise is None or key is None:
        return diffrax.ODETerm(field)
    shape = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), x0)
    path = diffrax.VirtualBrownianTree(ts[0], ts[-1], tol=(dt or 1.0) / 2, shape=shape, key=key)
    diagonal = lambda t, x, args: lineax.DiagonalLinearOperator(noise(t, x, args))
    return diffrax.MultiTerm(diffrax.ODETerm(field), diffrax.ControlTerm(diagonal, path))


class _Bisection(optimistix.Bisection):
    """Bisection inside the step in which the event occurred: unlike Newton's method it cannot leave that step.

    Where no event occurred there is no root, and under `vmap` it is looked for all the same: that is no error.
    """

    def init(self, fn: Any, y: Any, args: Any, options: Any, f_struct: Any, aux_struct: Any, tags: Any) -> Any:
        state = optimistix.Bisection(self.rtol, self.atol, flip=False).init(
            fn, y, args, options, f_struct, aux_struct, tags
        )
        falls = fn(state.lower, args)[0] > fn(state.upper, args)[0]
        return eqx.tree_at(lambda s: s.flip, state, falls)


def _event(event: Callable[[Array, Any, Any], Array], rtol: float, atol: Any) -> diffrax.Event:
    finder = _Bisection(rtol, atol)
    return diffrax.Event(lambda t, y, args, **_: event(t, y, args), finder)


def _status(result: Any, final: Any) -> Int[Array, ""]:
    """Our code for diffrax's result."""
    codes = diffrax.RESULTS
    fine = (result == codes.successful) | (result == codes.event_occurred)
    slow = (result == codes.max_steps_reached) | (result == codes.nonlinear_max_steps_reached)
    small = result == codes.dt_min_reached
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(v)) for v in jax.tree.leaves(final)]))
    code = jnp.where(slow, int(Status.max_steps), jnp.where(small, int(Status.step_too_small), int(Status.singular)))
    return jnp.where(fine, jnp.where(finite, int(Status.ok), int(Status.not_finite)), code)
