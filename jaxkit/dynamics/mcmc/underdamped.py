"""Underdamped Langevin motion: `dx = v dt, dv = -(g v + grad U) dt + sqrt(2 g) dW`.

A splitting of our own: diffrax's solvers for these terms compare the frictions of drift and diffusion by a host
callback, which a program that is to be cached, exported or sharded must not hold.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxkit.dynamics.mcmc.hmc import leapfrog
from jaxkit.dynamics.mcmc.kernel import Evaluate, Kernel, State, Tuning


def underdamped_step(
    evaluate: Evaluate, key: Array, state: State, step: Float[Array, ""], tuning: Tuning
) -> tuple[State, Array]:
    """Half of friction and noise (exact), one leapfrog, the other half: OBABO, order 2, one gradient.

    Without a test. Where N(0, 1) is asked for, it samples N(0, 1/(1 - step^2/4)): a bias of second order in time,
    where ULA's is of first.

    References:
        Bussi and Parrinello, Phys. Rev. E 75, 056707 (2007).
    """
    keep = jnp.exp(-0.5 * tuning.friction * step)
    spread = jnp.sqrt(-jnp.expm1(-tuning.friction * step))
    noise = jax.random.normal(key, (2, *state.x.shape), state.x.dtype)
    rub = lambda v, n: keep * v + spread * n
    moved = leapfrog(evaluate, state._replace(velocity=rub(state.velocity, noise[0])), step, 1)
    return moved._replace(velocity=rub(moved.velocity, noise[1])), jnp.ones_like(moved.energy)


UNDERDAMPED = Kernel(underdamped_step, corrected=False, velocity=True)
