"""`nullclines`: where one component of a plane field vanishes."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxkit.dynamics.ode.field import Field


def nullclines(
    field: Field, window: tuple[float, float, float, float], args: PyTree = None, *, points: int = 200
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The curves on which each component of a field of two variables vanishes; on the host.

    Args:
        field: `field(t, x, args)`, taken at `t = 0`, with `x` of shape `(2,)`.
        window: `(x_low, x_high, y_low, y_high)`.
        args: Parameters.
        points: Number of grid points along each axis; the curves come from linear interpolation between them.

    Returns:
        Polylines of shape `(k, 2)`: those where the first component vanishes, and those where the second does. Where
        they cross, the motion rests.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> circle = lambda t, x, r: jnp.stack([x @ x - r**2, x[0]])
        >>> (ring,), (axis,) = jk.nullclines(circle, (-2.1, 2.0, -2.0, 2.0), 1.0)
        >>> bool(abs((ring**2).sum(axis=1) - 1).max() < 1e-3), bool(abs(axis[:, 0]).max() < 1e-12)
        (True, True)
    """
    import contourpy  # it comes with matplotlib and is not needed elsewhere in this layer

    x, y = np.linspace(*window[:2], points), np.linspace(*window[2:], points)
    grid = jnp.asarray(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
    velocity = np.asarray(jax.vmap(lambda p: field(jnp.zeros((), grid.dtype), p, args))(grid)).reshape(
        points, points, 2
    )
    first, second = (contourpy.contour_generator(x, y, velocity[..., i]).lines(0.0) for i in range(2))
    return [np.asarray(line) for line in first], [np.asarray(line) for line in second]
