"""Fits from many starts at once."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core import checks
from jaxkit.dynamics.roots.least_squares import LeastSquares, LevenbergMarquardt, Residuals, flat_params, posed

P = TypeVar("P")


def multistart(
    residuals: Residuals[P],
    starts: P,
    args: PyTree = None,
    *,
    method: str | LevenbergMarquardt = "levenberg_marquardt",
    rtol: float = 1e-10,
    gtol: float = 1e-10,
    max_steps: int = 200,
) -> tuple[LeastSquares[P], LeastSquares[P]]:
    """Fit by least squares from many starts at once, and choose the best.

    Args:
        residuals: Maps parameters and `args` to a pytree of residuals.
        starts: First guesses, stacked along a leading axis of every leaf, shape `(k, ...)`.
        args: Data.
        method: As in `least_squares`.
        rtol: As in `least_squares`.
        gtol: As in `least_squares`.
        max_steps: Largest number of iterations of each fit.

    Returns:
        The fit with the least finite sum of squares (its own status says whether it converged, and its derivative does
        not depend on the others), and all fits with a leading axis `k`.

    Raises:
        ValueError: There are no starts, no parameters, or fewer residuals than parameters.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> t = jnp.linspace(0.0, 3.0, 20)
        >>> wave = lambda w, _: jnp.sin(w * t) - jnp.sin(5.0 * t)
        >>> best, every = jk.inverse.multistart(wave, jnp.linspace(1.0, 9.0, 16))
        >>> round(float(best.params), 6), every.sse.shape
        (5.0, (16,))
    """
    leaves = jax.tree.leaves(starts)
    shapes = [jnp.shape(v) for v in leaves]
    same = len({shape[:1] for shape in shapes}) == 1 and () not in shapes
    checks.require(same, "starts", "hold arrays with one leading axis, that of the starts", f"holds shapes {shapes}")
    checks.require(shapes[0][0] > 0, "starts", "hold at least one start", "holds none")
    options = {"rtol": rtol, "gtol": gtol, "max_steps": max_steps}
    return run_kept(_best, (residuals, method, options), (starts, args))


def _best(
    residuals: Residuals, method: Any, options: dict[str, Any], starts: PyTree, args: PyTree
) -> tuple[LeastSquares, LeastSquares]:
    problem, first = posed(residuals, jax.tree.map(lambda v: jnp.asarray(v)[0], starts), args, method)
    flat = jax.vmap(lambda start: flat_params("starts", start)[0].astype(first.dtype))(starts)
    found = jax.vmap(lambda start: problem.search(start, **options))(flat)
    every = jax.vmap(problem.fit)(*found)
    index = jnp.argmin(jnp.where(jnp.isfinite(every.sse), every.sse, jnp.inf))
    # The derivative is that of the chosen optimum alone: a failed lane would make it 0 * NaN.
    best = problem.fit(*problem.settle(*jax.tree.map(lambda v: v[index], found)))
    return best, every
