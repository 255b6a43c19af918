"""Many solves at once: the `ensemble` verb."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from jaxtyping import Array, ArrayLike, PyTree

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.run import Run
from jaxkit.dynamics.ode.engine.batch import Ensemble, Settings, as_times, prepare, with_ends
from jaxkit.dynamics.ode.engine.variational import solve_lanes
from jaxkit.dynamics.ode.field import Field
from jaxkit.dynamics.ode.methods import Method

X = TypeVar("X")


def ensemble(
    field: Field,
    x0s: X,
    ts: ArrayLike,
    args: PyTree = None,
    *,
    method: str | Method = "taylor",
    rtol: float = 1e-6,
    atol: float = 1e-8,
    max_steps: int = 4096,
    event: Callable[[Array, X, Any], Array] | Sequence[Callable[[Array, X, Any], Array]] | None = None,
    run: Run | None = None,
) -> Ensemble[X]:
    """Integrate `dx/dt = field(t, x, args)` for many starts and parameters, each lane with its own step sizes.

    Differentiable in both modes, to any order, with respect to `x0s`, `ts` and `args`.

    Args:
        field: Velocity of one lane: `field(t, x, args)`, of `x`'s structure and shapes. Where it compares `t` (a
            linear function of it, or the sine or cosine of one) with numbers or parameters, or takes `abs`, `max`,
            `clip`, `floor` or `%` of it, steps end: no pulse is stepped over. Other switches in time (tables,
            `t**2 < 2`) are left to the error estimate. First derivatives with respect to the time of a switch are
            those of the solution; second ones are NaN.
        x0s: Starts: the state's pytree. Each leaf has a leading axis of `n` lanes, or of 1, or is a plain number; the
            last two are shared by all lanes.
        ts: Times from the beginning to the end, forwards or backwards: shape `(m,)` for all lanes, or `(n, 2)` for the
            beginning and the end of each lane. States are kept at each; with two times none is saved on the way.
        args: Parameters: any pytree, whose leaves have leading axes like those of `x0s`.
        method: `"taylor"`, whose order follows from `rtol`; an explicit embedded Runge-Kutta scheme, e.g. `"tsit5"` or
            `"dopri8"`; or `Taylor(...)`, `RungeKutta(...)` with their own settings.
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step, in units of the state.
        max_steps: Largest number of steps of a lane, rejected ones included; beyond it the status is `max_steps`, or
            `stiff` where stability set the steps (then use `jaxkit.solve` with an implicit method).
        event: Stops a lane where `event(t, x, args)` first changes its sign after the start; or several such functions.
            A pair of changes within a step is found where the cubic through its ends' values and rates shows it.
        run: `Run(devices=...)` shares the lanes out over devices; an ensemble uses no other field of it.

    Returns:
        An `Ensemble`. It does not raise inside `jit`: call `.checked()` on the host, or look at `.status`.

    Raises:
        ValueError: An argument has a wrong shape, or a value known to be unusable.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> decay = lambda t, x, rate: -rate * x
        >>> found = jk.ensemble(decay, jnp.ones(3), (0.0, 1.0), jnp.array([0.5, 1.0, 2.0])).checked()
        >>> [round(float(x), 5) for x in found.final]  # exp(-rate)
        [0.60653, 0.36788, 0.13534]
    """
    settings = Settings.of(method, rtol=rtol, atol=atol, max_steps=max_steps, event=event, run=run)
    arrays = (x0s, as_times(ts), args)
    return run_kept(_solve, (field, settings), arrays, wide=True)  # the arguments are checked during tracing


def _solve(field: Field, settings: Settings, x0s: PyTree, ts: Any, args: PyTree) -> Ensemble:
    plan, given = prepare(field, settings, x0s, ts, args)
    return with_ends(solve_lanes(plan, given), given, ts)
