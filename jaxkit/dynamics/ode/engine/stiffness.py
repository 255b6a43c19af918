"""Was it stiffness? Told from the last state of a lane that ran out of steps.

An explicit method on a stiff problem takes steps that its stability allows, though the motion is slow: the fastest
rate `rho` of the Jacobian times the step is above one, while the state hardly changes in a step. Where accuracy sets
the step, the state changes by a fair part of itself.

References:
    Hairer and Wanner (1996), Solving Ordinary Differential Equations II, section IV.2 (stiffness detection).
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

Velocity = Callable[[tuple[Array, ...]], tuple[Array, ...]]


def limited_by_stability(velocity: Velocity, x: tuple[Array, ...], step: Array) -> Bool[Array, " w"]:
    """Whether the step length of each lane is what stability allows rather than what accuracy asks for.

    Args:
        velocity: Rows of numbers, each `(w,)`, to the velocities in the same form.
        x: The states.
        step: Length of the next step, `(w,)`.
    """
    norm = lambda v: jnp.sqrt(sum((a * a for a in v[1:]), v[0] * v[0]))
    size, speed = norm(x), velocity(x)
    tiny = jnp.finfo(step.dtype).tiny
    distance = math.sqrt(float(jnp.finfo(step.dtype).eps)) * jnp.maximum(size, tiny)

    def turn(_: int, carry: tuple[tuple[Array, ...], Array]) -> tuple[tuple[Array, ...], Array]:
        """One power iteration with the Jacobian as a difference quotient."""
        direction = carry[0]
        length = distance / jnp.maximum(norm(direction), tiny)
        there = velocity(tuple(a + length * v for a, v in zip(x, direction, strict=True)))
        change = tuple(a - b for a, b in zip(there, speed, strict=True))
        return change, norm(change) / distance

    # Any direction with a part along the fastest one will do: unequal entries, of either sign.
    start = tuple(jnp.full_like(v, math.cos(1.0 + 2.4 * i)) for i, v in enumerate(x))
    rate = jax.lax.fori_loop(0, 12, turn, (start, jnp.zeros_like(step)))[1]
    step = jnp.abs(step)
    return (rate * step > 1) & (norm(speed) * step < 0.1 * size)
