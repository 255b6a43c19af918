"""Every iterate of a root finder, for tables, figures and the observed order."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.struct import struct
from jaxkit.dynamics.iterate import record
from jaxkit.dynamics.roots.methods.method import Method, Problem, Settings, running
from jaxkit.dynamics.roots.methods.registry import choose
from jaxkit.dynamics.roots.unknowns import check_ends, flat_residual, flatten, guess, tolerances


@struct
class History:
    """The way to a root; entry 0 is the start, and after the last step the last entry repeats.

    Attributes:
        x: Iterates, each leaf with a leading axis of `max_steps + 1`.
        residual: Largest absolute residual at each iterate.
        step: Largest absolute change that led to each iterate (infinite at the start).
        steps: Number of steps taken.
    """

    x: PyTree
    residual: Float[Array, " k"]
    step: Float[Array, " k"]
    steps: Array


def history(
    fn: Callable[[Any, Any], Any],
    x0: Any = None,
    args: Any = None,
    *,
    method: str | Method | Settings | None = None,
    bracket: tuple[Any, Any] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 100,
) -> History:
    """The iterates that `root` runs through, with the same arguments but without its fallbacks.

    Example:
        >>> from jaxkit.dynamics.roots.history import history
        >>> h = history(lambda x, a: x**2 - a, 1.0, 2.0, max_steps=6)
        >>> [round(float(x), 6) for x in h.x[:5]]
        [1.0, 1.5, 1.416667, 1.414216, 1.414214]
    """
    check_ends(bracket)
    options = {"method": method, "rtol": rtol, "atol": atol, "max_steps": max_steps}
    return run_kept(_recorded, (fn, options), (x0, args, bracket))


def _recorded(fn: Any, options: dict[str, Any], x0: Any, args: Any, bracket: Any) -> History:
    method, rtol, atol, max_steps = (options[name] for name in ("method", "rtol", "atol", "max_steps"))
    solver = choose(method, bracket)
    x0, ends = guess(x0, bracket, solver)
    start, unravel = flatten(x0, flat=solver.flat)
    residual, start = flat_residual(fn, start, unravel, args)
    real = jnp.finfo(start.dtype).dtype
    ends = None if ends is None else (jnp.asarray(ends[0], real), jnp.asarray(ends[1], real))
    problem = Problem(residual, *tolerances(real, rtol, atol))
    first = solver.start(problem, start, ends)
    step, going = (lambda s: solver.step(problem, s)), (lambda s: running(problem, s))
    states, turns = record(step, first, running=going, max_steps=max_steps + solver.opening)
    states = jax.tree.map(lambda v: v[solver.opening :], states)
    largest = lambda v: jnp.max(jnp.abs(v.reshape(v.shape[0], -1)), axis=1)
    change = jnp.concatenate([jnp.full((1,), jnp.inf, real), largest(jnp.diff(states.x, axis=0))])
    steps = jnp.maximum(turns - solver.opening, 0)
    return History(jax.vmap(unravel)(states.x), largest(jax.vmap(residual)(states.x)), change, steps)
