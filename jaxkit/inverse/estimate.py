"""Fits from many starts at once."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxkit.core import checks
from jaxkit.dynamics.roots.least_squares import LeastSquares, LevenbergMarquardt, Residuals, least_squares

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
    """Fit by least squares from many starts at once, and pick the best.

    Args:
        residuals: Maps parameters and `args` to a pytree of residuals.
        starts: First guesses, stacked along a leading axis of every leaf, shape `(k, ...)`.
        args: Data.
        method: As in `least_squares`.
        rtol: As in `least_squares`.
        gtol: As in `least_squares`.
        max_steps: Most iterations of each fit.

    Returns:
        The fit with the least finite sum of squares (its own status says whether it converged), and all fits with a
        leading axis `k`.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> t = jnp.linspace(0.0, 3.0, 20)
        >>> wave = lambda w, _: jnp.sin(w * t) - jnp.sin(5.0 * t)
        >>> best, every = jk.inverse.multistart(wave, jnp.linspace(1.0, 9.0, 16))
        >>> round(float(best.params), 6), every.sse.shape
        (5.0, (16,))
    """
    leading = [jnp.shape(v)[:1] for v in jax.tree.leaves(starts)]
    checks.require((0,) not in leading, "starts", "hold at least one start", "holds none")
    options = {"method": method, "rtol": rtol, "gtol": gtol, "max_steps": max_steps}
    every = jax.vmap(lambda start: least_squares(residuals, start, args, **options))(starts)
    index = jnp.argmin(jnp.where(jnp.isfinite(every.sse), every.sse, jnp.inf))
    return jax.tree.map(lambda v: v[index], every), every
