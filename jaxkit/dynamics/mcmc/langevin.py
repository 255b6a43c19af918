"""Langevin motion: unadjusted (ULA), and with the Metropolis test that makes it exact (MALA)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxkit.dynamics.mcmc.kernel import Evaluate, Kernel, State, Tuning, metropolis, row_sum


def propose(key: Array, state: State, step: Float[Array, ""]) -> tuple[Array, Array]:
    """`x' = x - step/2 grad U + sqrt(step) noise`; returns `x'` and the noise."""
    noise = jax.random.normal(key, state.x.shape, state.x.dtype)
    return state.x - 0.5 * step * state.gradient + jnp.sqrt(step) * noise, noise


def unadjusted(
    evaluate: Evaluate, key: Array, state: State, step: Float[Array, ""], tuning: Tuning
) -> tuple[State, Array]:
    """One step without correction: samples N(0, 1/(1 - step/4)) where N(0, 1) is asked for."""
    del tuning
    x, _ = propose(key, state, step)
    energy, gradient = evaluate(x)
    return State(x, energy, gradient, state.velocity), jnp.ones_like(energy)


def log_proposal(to: Array, at: Array, gradient: Array, step: Float[Array, ""]) -> Float[Array, " n"]:
    """Log density (up to a constant) of proposing `to` from `at`: `-|to - at + step/2 grad U(at)|^2 / (2 step)`."""
    return -row_sum(jnp.square(to - at + 0.5 * step * gradient)) / (2 * step)


def adjusted(
    evaluate: Evaluate, key: Array, state: State, step: Float[Array, ""], tuning: Tuning
) -> tuple[State, Array]:
    """One step with the Metropolis test: the density is exact for any step."""
    del tuning
    draw, test = jax.random.split(key)
    x, noise = propose(draw, state, step)
    energy, gradient = evaluate(x)
    forward = -0.5 * row_sum(jnp.square(noise))  # log_proposal(x, state.x, ...), without its rounding
    backward = log_proposal(state.x, x, gradient, step)
    log_ratio = state.energy - energy + backward - forward
    return metropolis(test, log_ratio, State(x, energy, gradient, state.velocity), state)


ULA = Kernel(unadjusted, corrected=False)
MALA = Kernel(adjusted, corrected=True)
