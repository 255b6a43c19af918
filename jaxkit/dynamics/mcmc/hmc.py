"""Hamiltonian Monte Carlo: a leapfrog that is reversible, and the Metropolis test."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxkit.dynamics.mcmc.kernel import Evaluate, Kernel, State, Tuning, metropolis, row_sum


def leapfrog(evaluate: Evaluate, state: State, step: Array, steps: int) -> State:
    """Move by Hamilton's equations of `U(x) + |v|^2 / 2`, `steps` steps of length `step`.

    The last half kick is made: without it the map is not reversible and the Metropolis test is wrong.

    Args:
        evaluate: Energies and gradients of all chains.
        state: Where to start, velocities included.
        step: Length of a step: one for all chains, or shape `(n, 1)`.
        steps: How many.

    Returns:
        The state after the last step.
    """

    def one(_: int, state: State) -> State:
        velocity = state.velocity - 0.5 * step * state.gradient
        x = state.x + step * velocity
        energy, gradient = evaluate(x)
        return State(x, energy, gradient, velocity - 0.5 * step * gradient)

    return jax.lax.fori_loop(0, steps, one, state)


def hamiltonian_step(
    evaluate: Evaluate, key: Array, state: State, step: Float[Array, ""], tuning: Tuning
) -> tuple[State, Array]:
    """Draw a velocity, follow Hamilton's equations, test."""
    draw, test, shake = jax.random.split(key, 3)
    velocity = jax.random.normal(draw, state.x.shape, state.x.dtype)
    if tuning.jitter:
        # Drawn without a look at the state, one length a chain: the mixture over lengths keeps detailed balance.
        step = step * (1 + tuning.jitter * jax.random.uniform(shake, (len(state.x), 1), step.dtype, -1, 1))
    before = state._replace(velocity=velocity)
    after = leapfrog(evaluate, before, step, tuning.leapfrogs)
    total = lambda s: s.energy + 0.5 * row_sum(jnp.square(s.velocity))
    return metropolis(test, total(before) - total(after), after, before)


HMC = Kernel(hamiltonian_step, corrected=True)
