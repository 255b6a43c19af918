"""Metrics typed as text, read by jaxkit's own parser; nothing a user types is ever run as Python."""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from jaxkit.core.expression import Expression, parse
from jaxkit.gravity.metrics import Metric, Params, static


def from_text(f: str, N: str | None = None, params: Mapping[str, ArrayLike] | None = None) -> Metric:
    """A static spherical metric, `ds² = -N² dt² + dr²/f + r² dΩ²`, from formulas in `r` and your parameters.

    Args:
        f: Formula of `g^rr`, e.g. `"1 - 2M/r + q^2/r^2"`.
        N: Formula of the lapse; `sqrt(f)` by default.
        params: Names in the formulas and their values.

    Returns:
        The metric, for every function of `jaxkit.gravity`, differentiable in the parameters.

    Raises:
        ParseError: A formula cannot be read; the message points at the place.

    Example:
        >>> from jaxkit import gravity
        >>> hole = gravity.from_text("1 - 2M/r + M l^2 exp(-r/l)/r^3", params={"M": 1.0, "l": 0.5})
        >>> round(float(gravity.photon_sphere(hole).checked().value), 6)
        2.999621
    """
    params = dict(params or {})
    names = ["r", *params]
    read = lambda text: parse(text, names)

    def profile(expression: Expression):
        def value(r: Array, p: Params) -> Array:
            given = {name: jnp.asarray(p[name], r.dtype) for name in expression.names if name != "r"}
            return jnp.asarray(expression(r=r, **given), r.dtype)

        return value

    return static(profile(read(f)), None if N is None else profile(read(N)), params=params, name=f"f = {f}")
