"""Continuous motion: the `solve` verb."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PyTree

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core import checks
from jaxkit.dynamics.ode import noise
from jaxkit.dynamics.ode.actions import Actions, Happening, Numbers, actions
from jaxkit.dynamics.ode.by_diffrax import Options, by_diffrax
from jaxkit.dynamics.ode.dense import Dense, Path, Within
from jaxkit.dynamics.ode.engine.batch import Settings, prepare, with_ends, with_events
from jaxkit.dynamics.ode.engine.path import with_path
from jaxkit.dynamics.ode.ensemble import solve_ensemble
from jaxkit.dynamics.ode.field import Field, as_state, check_state
from jaxkit.dynamics.ode.forms import form_of
from jaxkit.dynamics.ode.implicit_steps import opened
from jaxkit.dynamics.ode.methods import SDE, Method, Taylor, of_solve
from jaxkit.dynamics.ode.solution import Solution, only_lane
from jaxkit.dynamics.ode.tolerance import absolute

X = TypeVar("X")


def solve(
    field: Field | SDE,
    x0: X,
    ts: ArrayLike | Dense,
    args: PyTree = None,
    *,
    method: str | Method | diffrax.AbstractSolver = "tsit5",
    rtol: float = 1e-7,
    atol: ArrayLike | PyTree = 1e-9,
    max_steps: int = 4096,
    event: Happening | Sequence[Happening] | None = None,
) -> Solution[X]:
    """Integrate `dx/dt = field(t, x, args)` from `x(ts[0]) = x0` and return the states at `ts`.

    Differentiable in both modes, to any order, with respect to `x0`, `ts` (not with noise), `args` and whatever the
    field closes over: tangents are pushed through a forward solve, cotangents pulled through one with checkpoints. The
    derivative is that of the discrete computation, never a re-integration backward in time. What is promised: the state
    is within the tolerance asked for at each step; the derivative is exact for the steps taken, which the state alone
    has set. Where a derivative moves faster than the state, it is less accurate than the state, and no status says so:
    take `method="taylor"` or `RungeKutta(..., control="tangents")`, whose steps follow the derivatives as well. (The
    derivative of a loss has the state's error, too, times the loss's curvature: near an optimum this may be more than
    the derivative itself, and then tighter tolerances alone help.)

    Args:
        field: Velocity of the state: `field(t, x, args)`, of `x`'s structure and shapes; or an `SDE`, which needs a
            method with a fixed step, `RungeKutta("euler", dt=...)`. Where it compares `t` with numbers or parameters,
            steps end (see `ensemble`); derivatives through a switch of the state (`x < a`) are those of the solution,
            but not where `argmax`, a sort, or a search in a loop (`jnp.searchsorted`, `jnp.digitize`) decides. Neither
            holds for steps of fixed length.
        x0: State at `ts[0]`: any pytree of real or complex arrays.
        ts: Times, shape `(n,)`, `n >= 2`, that do not turn back: they increase or, without noise, decrease. Neighbours
            may be equal, as where a measurement is repeated. With `Dense(ts)`, the solution is a function of time.
        args: Parameters: any pytree; differentiable. It may hold whole nets (of flax or equinox): what is no number in
            them stays as it is.
        method: `"taylor"` (smooth fields, forward and reverse derivatives), the name of a Runge-Kutta scheme (see
            `RungeKutta`), any diffrax solver, or `Taylor(...)` or `RungeKutta(...)` with their own settings. For wide
            states and for neural nets, `"dopri8"` takes the place of Taylor's method (see `ensemble`); so it does for
            derivatives along very many directions (30,000, counted at each of `ts`).
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step, in units of the state: a number; or one for each number of the state, in its
            structure, with numbers or arrays of its shapes as leaves.
        max_steps: Largest number of steps (from one jump or event to the next); beyond it, the status is `max_steps`.
        event: What happens on the way, as in `ensemble`: a function that stops the motion where it first changes its
            sign after the start; an `Event` with a direction, a change of state or repeats; `Jumps` at given times; or
            a sequence of these.

    Returns:
        A `Solution`. It does not raise inside `jit`: call `.checked()` on the host, or look at `.status`.

    Raises:
        ValueError: An argument has a wrong shape, or a value known to be unusable.

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
    form, numbers = form_of(x0, args)
    if form is not None:
        options: Any = {"method": method, "rtol": rtol, "atol": form.tolerance(atol), "max_steps": max_steps}
        found = solve(form.field(field), form.state(x0), ts, numbers, event=form.events(event), **options)
        return form.result(found)
    dense, ts = isinstance(ts, Dense), ts.ts if isinstance(ts, Dense) else ts
    ts = ts if isinstance(ts, jax.Array) else checks.floating("ts", ts)
    shape, noisy = ts.shape, isinstance(field, SDE)
    checks.require(len(shape) == 1 and shape[0] >= 2, "ts", "have shape (n,), n >= 2", f"has shape {shape}")
    by_engine = method == "taylor" or getattr(method, "control", "") == "tangents" or isinstance(method, Taylor)
    checks.one_way("ts", ts, backwards=not noisy)
    check_state("x0", x0)
    asked, amounts = actions(event)
    atol = absolute(atol)
    checks.require(not (dense and asked.goes_on), "ts", "be an array of times where events go on", "is `Dense`")
    if by_engine:
        checks.require(not noisy, "method", "have a fixed step for an SDE", "has none")
        one = Taylor(width=1) if isinstance(method, str) else replace(method, width=1)
        settings = Settings.of(one, rtol=rtol, atol=atol, max_steps=max_steps, actions=asked)
        return run_kept(_by_engine, (field, settings, dense), (x0, ts, args, amounts), wide=True)
    checks.require(not (dense and noisy), "ts", "be an array of times for an SDE", "is `Dense`")
    if isinstance(field, SDE):
        _warn(field, method, x0, ts, args)
    options = Options(method, rtol, atol, max_steps, asked, dense)
    return run_kept(by_diffrax, (options,), (field, x0, ts, args, amounts))


def _warn(field: SDE, method: Any, x0: Any, ts: Array, args: Any) -> None:
    solver = cast(Any, of_solve(method))[1]
    if not checks.is_traced(x0):
        noise.warn_of_order(field, solver, ts[0], as_state("x0", x0, finite=False), args)


def _by_engine(
    field: Field,
    settings: Settings,
    dense: bool,  # noqa: FBT001
    x0: Any,
    ts: Array,
    args: Any,
    numbers: Numbers,
) -> Solution:
    """One trajectory as an ensemble of one lane: by Taylor's method, or where tangents set the steps, too."""
    x0, ts = as_state("x0", x0, finite=False), checks.floating("ts", ts)
    lane = lambda tree: jax.tree.map(lambda v: jnp.asarray(v)[None], tree)
    if not dense:
        numbers = tuple((times[None], lane(amounts)) for times, amounts in numbers)
        return only_lane(ts, solve_ensemble(field, settings, lane(x0), ts, lane(args), numbers))
    plan, given = prepare(field, settings, lane(x0), ts, lane(args))
    if plan.wide:
        follows = settings.method.control == "auto"
        must = "be an array of times where tangents set the steps of a wide state"
        checks.require(follows, "ts", must, "is `Dense`")
        options = Options(
            plan.settings.method, settings.rtol, settings.atol, settings.max_steps, settings.actions, dense
        )
        return by_diffrax(options, field, x0, ts, args, ())
    solved, ends, states = with_path(plan, given, ts)
    solution = only_lane(ts, with_events(with_ends(solved, given, ts), settings))
    own, _, args = opened(field, None, ts[0], x0, args)
    within = Within(_onward, (own, settings._replace(events=(), actions=Actions())))
    states = jax.tree.map(lambda v: v[0], states)
    path = Path(within, ends, states, (ts[0], solution.end), args)  # pyright: ignore[reportCallIssue]
    return replace(solution, path=path)


def _onward(moves: tuple[Field, Settings], t: Array, x: Any, h: Array, args: Any) -> Any:
    """The state a time `h` after `(t, x)`."""
    return _by_engine(*moves, False, x, jnp.stack([t, t + h]), args, ()).final  # noqa: FBT003
