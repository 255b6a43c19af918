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
            straight line in it, or its sine or cosine) with what does not move (numbers or parameters), or takes
            `abs`, `max`, `clip`, `floor`, `%` of it, steps end: no pulse is stepped over. Other switches in time
            (tables, `t**2 < 2`) are left to the error estimate. First derivatives by the time of a switch are those of
            the solution, second ones are NaN.
        x0s: Starts: the state's pytree, each leaf with a leading axis of `n` lanes, or of 1, or a plain number: shared.
        ts: Times from the beginning to the end, forwards or backwards: shape `(m,)` for all lanes, or `(n, 2)`, the
            beginning and the end of each lane. States are kept at each; with two times nothing is saved on the way.
        args: Parameters: any pytree, its leaves with leading axes as those of `x0s`.
        method: `"taylor"`, whose order follows from `rtol`; an explicit embedded Runge-Kutta scheme, e.g. `"tsit5"` or
            `"dopri8"`; or `Taylor(...)`, `RungeKutta(...)` with settings of their own.
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step, in units of the state.
        max_steps: Most steps of a lane, rejected ones included; beyond, its status is `max_steps`, or `stiff` where
            stability set the steps (then `jaxkit.solve` with an implicit method is the way).
        event: Stops a lane where `event(t, x, args)` first changes its sign after the start; or several such functions.
            What goes there and back within a step is found where a cubic polynomial shows it, by values and rates.
        run: `Run(devices=...)` shares the lanes out over devices; nothing else of it is meant for an ensemble.

    Returns:
        An `Ensemble`. It does not raise inside `jit`: call `.checked()` on the host, or look at `.status`.

    Raises:
        ValueError: An argument has a wrong shape, or a value that can be seen to be unusable.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> decay = lambda t, x, rate: -rate * x
        >>> found = jk.ensemble(decay, jnp.ones(3), (0.0, 1.0), jnp.array([0.5, 1.0, 2.0])).checked()
        >>> [round(float(x), 5) for x in found.final]  # exp(-rate)
        [0.60653, 0.36788, 0.13534]
    """
    settings = Settings.of(method, rtol=rtol, atol=atol, max_steps=max_steps, event=event, run=run)
    arrays = (x0s, as_times(ts), args)
    return run_kept(_solve, (field, settings), arrays, wide=True)  # checked while it is traced


def _solve(field: Field, settings: Settings, x0s: PyTree, ts: Any, args: PyTree) -> Ensemble:
    plan, given = prepare(field, settings, x0s, ts, args)
    return with_ends(solve_lanes(plan, given), given, ts)
