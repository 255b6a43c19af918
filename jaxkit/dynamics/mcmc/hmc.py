"""Hamiltonian Monte Carlo: a reversible leapfrog and the Metropolis test."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkit.core import checks
from jaxkit.core.struct import static, struct
from jaxkit.dynamics.mcmc.kernel import Evaluate, Kernel, State, metropolis, row_sum


@struct
class HMC(Kernel):
    """Hamiltonian motion from a fresh velocity, and the Metropolis test: exact for any step length.

    Attributes:
        step_size: Length of a leapfrog step; the first guess, with a `target_accept`.
        num_leapfrog_steps: Number of leapfrog steps of a proposal.
        jitter: Each chain's step is changed at random by up to this fraction. Without it, a direction whose period the
            trajectory's length meets never forgets where it was, at an acceptance of nearly 1.
        target_accept: Acceptance probability that the warm-up aims at by changing the step; 0.65 to 0.8 is best. None
            keeps `step_size`.

    References:
        Neal (2011), MCMC using Hamiltonian dynamics.
    """

    corrected: ClassVar[bool] = True

    step_size: ArrayLike = 0.1
    num_leapfrog_steps: int = static(default=10)
    jitter: float = static(default=0.3)
    target_accept: float | None = static(default=None)

    def check(self) -> None:
        """Raise `ValueError` where a setting is unusable."""
        super().check()
        count, jitter = self.num_leapfrog_steps, self.jitter
        checks.require(count > 0, "num_leapfrog_steps", "be positive", f"is {count}")
        checks.require(0 <= jitter < 1, "jitter", "be a share below 1", f"is {jitter}")

    def move(self, evaluate: Evaluate, key: Array, state: State, step_size: Float[Array, ""]) -> tuple[State, Array]:
        """Draw a velocity, follow Hamilton's equations, and test."""
        draw, test, shake = jax.random.split(key, 3)
        velocity = jax.random.normal(draw, state.x.shape, state.x.dtype)
        if self.jitter:
            # One length for each chain, drawn independently of the state: the mixture keeps detailed balance.
            share = self.jitter * jax.random.uniform(shake, (len(state.x), 1), step_size.dtype, -1, 1)
            step_size = step_size * (1 + share)
        before = state._replace(velocity=velocity)
        after = leapfrog(evaluate, before, step_size, self.num_leapfrog_steps)
        total = lambda s: s.energy + 0.5 * row_sum(jnp.square(s.velocity))
        error = total(after) - total(before)
        moved, probability = metropolis(test, -error, after, before)
        return moved._replace(error=error), probability


def leapfrog(evaluate: Evaluate, state: State, step_size: Array, steps: int) -> State:
    """Move by Hamilton's equations of `U(x) + |v|^2 / 2`, `steps` steps of length `step_size`.

    The last half kick is included: without it the map is not reversible and the Metropolis test is wrong.

    Args:
        evaluate: Energies and gradients of all chains.
        state: The state to start from, velocities included.
        step_size: Length of a step: one for all chains, or shape `(n, 1)`.
        steps: Number of steps.

    Returns:
        The state after the last step.
    """

    def one(_: int, state: State) -> State:
        velocity = state.velocity - 0.5 * step_size * state.gradient
        x = state.x + step_size * velocity
        energy, gradient = evaluate(x)
        velocity = velocity - 0.5 * step_size * gradient
        return state._replace(x=x, energy=energy, gradient=gradient, velocity=velocity)

    return jax.lax.fori_loop(0, steps, one, state)
