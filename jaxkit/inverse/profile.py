"""Profiles: how much worse the fit gets when one number is held fixed."""

from typing import Any, ClassVar

import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxkit.core import checks
from jaxkit.core.status import Outcome
from jaxkit.core.struct import struct
from jaxkit.dynamics.roots.least_squares import Residuals, least_squares


@struct
class Profile(Outcome):
    """Least sums of squares along one number.

    Attributes:
        values: Values at which the number was held, shape `(points,)`.
        sse: Least sum of squares over all other numbers, at each value.
        status: `Status` code of the fit at each value.
    """

    verb: ClassVar[str] = "profile"

    values: Float[Array, " points"]
    sse: Float[Array, " points"]
    status: Int[Array, " points"]


def profile(
    residuals: Residuals,
    params: PyTree,
    covariance: Float[Array, "n n"],
    index: int,
    args: PyTree = None,
    *,
    span: float = 3.0,
    points: int = 21,
    rtol: float = 1e-10,
    max_steps: int = 200,
) -> Profile:
    """Profile of the sum of squares: one number is held at values about its estimate, and all others are fitted again.

    Args:
        residuals: Maps parameters and `args` to a pytree of residuals.
        params: The estimate, `n >= 2` numbers in all.
        covariance: The covariance of the flattened parameters, shape `(n, n)`.
        index: Index of the number among the flattened parameters.
        args: Data.
        span: Half the width of the range, in standard errors.
        points: Number of values.
        rtol: As in `least_squares`.
        max_steps: Largest number of iterations of each fit.

    Returns:
        A `Profile`.

    Raises:
        ValueError: There is no number of this index, or no other number.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> t = jnp.arange(5.0)
        >>> line = lambda p, _: p[0] + p[1] * t - jnp.array([0.1, 0.9, 2.2, 2.8, 4.1])
        >>> best = jk.least_squares(line, jnp.zeros(2))
        >>> found = jk.inverse.profile(line, best.params, best.covariance, 1, span=1.0, points=3).checked()
        >>> ((found.sse / best.sse - 1) * 3).round(4).tolist()  # one error away the sum rises by sse / 3
        [1.0, 0.0, 1.0]
    """
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    checks.require(flat.size > 1, "params", "hold at least two numbers", f"holds {flat.size}")
    checks.require(0 <= index < flat.size, "index", f"lie between 0 and {flat.size - 1}", f"is {index}")
    held, error = flat[index], jnp.sqrt(covariance[index, index])
    values = held + error * jnp.linspace(-span, span, points, dtype=flat.dtype)
    before, after = flat[:index], flat[index + 1 :]

    def least(value: Array) -> tuple[Array, Array]:
        def others(free: tuple[Array, Array], data: Any) -> PyTree:
            (value, args), (head, tail) = data, free
            return residuals(unravel(jnp.concatenate([head, value[None], tail])), args)

        found = least_squares(others, (before, after), (value, args), rtol=rtol, max_steps=max_steps)
        return found.sse, found.status

    return Profile(values, *jax.vmap(least)(values))
