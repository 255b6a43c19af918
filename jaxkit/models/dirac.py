"""The smallest adversarial game: data at 0, a generator at `theta`, a critic `T(x) = psi x`, a penalty on its slope."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Complex, Float

from jaxkit.core import checks
from jaxkit.core.struct import struct
from jaxkit.dynamics.analysis.linearize import Linearization, linearize

Player = Callable[[Array, Array], Array]


def _relativistic(r: Array, f: Array) -> Array:
    return jnp.mean(jax.nn.softplus(f - r))


def _fooled(r: Array, f: Array) -> Array:
    return _relativistic(f, r)


@struct
class DiracRun:
    """The game under descent with momentum, by eigenvalues and by simulation.

    Attributes:
        growth: Growth per step of a small displacement (see `growth`); below 1 the players settle.
        distance: Distance from the equilibrium after the steps; infinite where it diverged.
        flow: Linear part of the gradient flow at the equilibrium.
    """

    growth: Float[Array, ""]
    distance: Float[Array, ""]
    flow: Linearization


@dataclasses.dataclass(frozen=True)
class DiracGame:
    """The game with a pair of losses; the relativistic logistic pair by default. A state is `(theta, psi)`.

    Attributes:
        critic: `critic(r, f) -> ()`: what the critic minimises, given its outputs on real and on fake samples.
        generator: `generator(r, f) -> ()`: what the generator minimises.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> game = jk.models.DiracGame()
        >>> at = lambda gamma: jk.linearize(game.field, jnp.zeros(2), gamma)
        >>> [jk.Kind(int(at(gamma).kind)).label for gamma in (0.0, 0.3, 2.0)]
        ['center (of the linear part)', 'stable focus', 'stable node']

    References:
        Mescheder, Geiger and Nowozin (2018), Which training methods for GANs do actually converge?
    """

    critic: Player = _relativistic
    generator: Player = _fooled

    def losses(self, state: Float[Array, " 2"], gamma: ArrayLike = 0.0) -> tuple[Array, Array]:
        """The losses of the critic, which pays `gamma/2 psi^2` (R1), and of the generator."""
        theta, psi = state[0], state[1]
        r, f = jnp.zeros_like(theta)[None], (psi * theta)[None]
        return self.critic(r, f) + 0.5 * gamma * psi**2, self.generator(r, f)

    def field(self, t: ArrayLike, state: Float[Array, " 2"], gamma: ArrayLike) -> Float[Array, " 2"]:
        """Both players' gradient flow, for `solve`, `linearize` and the other verbs.

        Args:
            t: Not used.
            state: `(theta, psi)`.
            gamma: Strength of R1.
        """
        del t
        critic, generator = jax.jacrev(lambda s: jnp.stack(self.losses(s, gamma)))(state)
        return -jnp.stack([generator[0], critic[1]])

    def descend(
        self, gamma: ArrayLike, momentum: ArrayLike = 0.0, *, learning_rate: float = 0.1, steps: int = 2000
    ) -> DiracRun:
        """Simultaneous heavy-ball steps of both players from (1, 1).

        Args:
            gamma: Strength of R1.
            momentum: Momentum of both players.
            learning_rate: Learning rate of both players.
            steps: Number of steps.

        Example:
            >>> import jaxkit as jk
            >>> run = jk.models.DiracGame().descend(1.0)
            >>> bool(run.growth < 1), bool(run.distance < 1e-30), bool(run.flow.stable)
            (True, True, True)
        """
        gamma = checks.floating("gamma", gamma)

        def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
            x, velocity = carry
            velocity = jnp.asarray(momentum, x.dtype) * velocity + self.field(0.0, x, gamma)
            return (x + learning_rate * velocity, velocity), None

        start = (jnp.ones(2, gamma.dtype), jnp.zeros(2, gamma.dtype))
        (x, _), _ = jax.lax.scan(step, start, None, length=steps)
        distance = jnp.hypot(x[0], x[1])
        flow = linearize(self.field, jnp.zeros(2, gamma.dtype), gamma)
        rate = jnp.max(growth(flow.eigenvalues, learning_rate, momentum))
        return DiracRun(rate, jnp.where(distance < 1e6, distance, jnp.inf), flow)


def dirac_eigenvalues(gamma: ArrayLike, slope: ArrayLike = 0.5) -> Complex[Array, "2 ..."]:
    """Eigenvalues at the equilibrium by the formula `-gamma/2 +- sqrt(gamma^2/4 - slope^2)`.

    Args:
        gamma: Strength of R1.
        slope: `|f'(0)|` of the loss `f` of the critic: 1/2 for the logistic losses, 1 for WGAN and hinge.

    References:
        Huang et al. (2024), The GAN is dead; long live the GAN!, where equation 12 lacks the square on `slope`.
    """
    gamma = checks.floating("gamma", gamma)
    slope = jnp.asarray(slope, gamma.dtype)
    whole = lambda v: jax.lax.complex(v, jnp.zeros_like(gamma))
    root = jnp.sqrt(whole(0.25 * gamma**2 - slope**2))
    return jnp.stack([whole(-0.5 * gamma) + root, whole(-0.5 * gamma) - root])


def growth(
    eigenvalues: Complex[Array, "..."], learning_rate: ArrayLike, momentum: ArrayLike = 0.0
) -> Float[Array, "..."]:
    """Growth per step of a displacement when simultaneous descent follows a flow with these eigenvalues.

    Heavy-ball steps `m <- momentum m + field`, `x <- x + rate m` multiply a mode of eigenvalue `s` by the roots of
    `z^2 - (1 + momentum + rate s) z + momentum = 0`; the larger modulus is returned. Below 1, the players settle.

    Args:
        eigenvalues: Eigenvalues of the flow.
        learning_rate: Learning rate of all players.
        momentum: Momentum of all players.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> [round(float(jk.models.growth(jnp.array(0.5j), 0.1, b)), 4) for b in (0.0, 0.9)]
        [1.0012, 1.1211]
    """
    half = 0.5 * (1 + momentum + learning_rate * eigenvalues)
    root = jnp.sqrt(half**2 - momentum)
    return jnp.maximum(jnp.abs(half + root), jnp.abs(half - root))
