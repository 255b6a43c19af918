"""Langevin motion: unadjusted (ULA), and with the Metropolis test that makes it exact (MALA)."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkit.core.struct import static, struct
from jaxkit.dynamics.mcmc.kernel import Evaluate, Kernel, State, metropolis, row_sum


@struct
class ULA(Kernel):
    """Unadjusted Langevin motion, `x' = x - step_size/2 grad U + sqrt(step_size) noise`.

    Its bias grows with the step: it samples N(0, 1/(1 - step_size/4)) where N(0, 1) is asked for.

    Attributes:
        step_size: Length of a step.
    """

    step_size: ArrayLike = 0.1

    def move(self, evaluate: Evaluate, key: Array, state: State, step_size: Float[Array, ""]) -> tuple[State, Array]:
        """One step without correction."""
        x, _ = propose(key, state, step_size)
        energy, gradient = evaluate(x)
        return state._replace(x=x, energy=energy, gradient=gradient), jnp.ones_like(energy)


@struct
class MALA(Kernel):
    """Langevin motion with the Metropolis test: exact for any step.

    Attributes:
        step_size: Length of a step; the first guess, with a `target_accept`.
        target_accept: Acceptance probability that the warm-up aims at by changing the step; about 0.57 is best. None
            keeps `step_size`.

    References:
        Roberts and Tweedie (1996). Su (2019), An energy view of GAN II, kexue.fm/archives/6331 (the drift there is that
        of another step; here the test is right).
    """

    corrected: ClassVar[bool] = True

    step_size: ArrayLike = 0.1
    target_accept: float | None = static(default=None)

    def move(self, evaluate: Evaluate, key: Array, state: State, step_size: Float[Array, ""]) -> tuple[State, Array]:
        """One proposal and its test."""
        draw, test = jax.random.split(key)
        x, noise = propose(draw, state, step_size)
        energy, gradient = evaluate(x)
        forward = -0.5 * row_sum(jnp.square(noise))  # log_proposal(x, state.x, ...), without its rounding
        backward = log_proposal(state.x, x, gradient, step_size)
        log_ratio = state.energy - energy + backward - forward
        return metropolis(test, log_ratio, state._replace(x=x, energy=energy, gradient=gradient), state)


def propose(key: Array, state: State, step_size: Float[Array, ""]) -> tuple[Array, Array]:
    """`x' = x - step_size/2 grad U + sqrt(step_size) noise`; returns `x'` and the noise."""
    noise = jax.random.normal(key, state.x.shape, state.x.dtype)
    return state.x - 0.5 * step_size * state.gradient + jnp.sqrt(step_size) * noise, noise


def log_proposal(to: Array, at: Array, gradient: Array, step_size: Float[Array, ""]) -> Float[Array, " n"]:
    """Log density of proposing `to` from `at`, up to a constant: `-|to - at + s/2 grad U(at)|^2 / (2 s)`."""
    return -row_sum(jnp.square(to - at + 0.5 * step_size * gradient)) / (2 * step_size)
