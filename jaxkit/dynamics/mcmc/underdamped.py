"""Underdamped Langevin motion: `dx = v dt, dv = -(g v + grad U) dt + sqrt(2 g) dW`.

The splitting is our own: diffrax's solvers for these terms compare the frictions of drift and diffusion by a host
callback, which a program that is to be cached, exported or sharded must not hold.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkit.core import checks
from jaxkit.core.struct import static, struct
from jaxkit.dynamics.mcmc.hmc import leapfrog
from jaxkit.dynamics.mcmc.kernel import Evaluate, Kernel, State, start


@struct
class Underdamped(Kernel):
    """Langevin motion with inertia, without a test.

    Where N(0, 1) is asked for, it samples N(0, 1/(1 - step_size^2/4)): its bias is of second order in the step, while
    ULA's is of first order.

    Attributes:
        step_size: Length of a step, in time.
        friction: Rate at which velocities are forgotten, per unit of time.

    References:
        Bussi and Parrinello, Phys. Rev. E 75, 056707 (2007).
    """

    step_size: ArrayLike = 0.1
    friction: float = static(default=1.0)

    def check(self) -> None:
        """Raise `ValueError` where a setting is unusable."""
        checks.require(self.friction >= 0, "friction", "not be negative", f"is {self.friction}")

    def init(self, evaluate: Evaluate, x: Float[Array, "n d"], key: Array) -> State:
        """The state at `x`, with velocities drawn from N(0, 1)."""
        return start(evaluate, x, jax.random.normal(key, x.shape, x.dtype))

    def move(self, evaluate: Evaluate, key: Array, state: State, step_size: Float[Array, ""]) -> tuple[State, Array]:
        """Half of friction and noise (exact), one leapfrog, the other half: OBABO, of order 2, with one gradient."""
        keep = jnp.exp(-0.5 * self.friction * step_size)
        spread = jnp.sqrt(-jnp.expm1(-self.friction * step_size))
        noise = jax.random.normal(key, (2, *state.x.shape), state.x.dtype)
        rub = lambda v, n: keep * v + spread * n
        moved = leapfrog(evaluate, state._replace(velocity=rub(state.velocity, noise[0])), step_size, 1)
        return moved._replace(velocity=rub(moved.velocity, noise[1])), jnp.ones_like(moved.energy)
