"""Was it stiffness? The answer comes from the last state of a lane that ran out of steps.

On a stiff problem, stability limits the steps of an explicit method, although the motion is slow: the fastest rate
`rho` of the Jacobian times the step is above one, while the state hardly changes in a step. Where accuracy sets the
step, the state changes by a fair part of itself.

References:
    Hairer and Wanner (1996), Solving Ordinary Differential Equations II, section IV.2 (stiffness detection).
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Velocity = Callable[[Float[Array, "k w"]], Float[Array, "k w"]]


def limited_by_stability(velocity: Velocity, x: Float[Array, "k w"], step: Float[Array, " w"]) -> Bool[Array, " w"]:
    """Whether the step length of each lane is what stability allows rather than what accuracy asks for.

    Args:
        velocity: Maps states to their velocities, both `(k, w)`.
        x: The states, one lane in each column.
        step: Length of the next step of each lane.
    """
    norm = lambda v: jnp.sqrt(jnp.sum(v * v, axis=0))
    size, speed = norm(x), velocity(x)
    tiny = jnp.finfo(step.dtype).tiny
    distance = math.sqrt(float(jnp.finfo(step.dtype).eps)) * jnp.maximum(size, tiny)

    def turn(_: int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        """One power iteration with the Jacobian as a difference quotient."""
        length = distance / jnp.maximum(norm(carry[0]), tiny)
        change = velocity(x + length[None] * carry[0]) - speed
        return change, norm(change) / distance

    # Any direction with a component along the fastest one will do: unequal entries of both signs.
    start = jnp.cos(1.0 + 2.4 * jnp.arange(len(x), dtype=x.dtype))
    start = jnp.broadcast_to(start[:, None], x.shape)
    rate = jax.lax.fori_loop(0, 12, turn, (start, jnp.zeros_like(step)))[1]
    step = jnp.abs(step)
    return (rate * step > 1) & (norm(speed) * step < 0.1 * size)
