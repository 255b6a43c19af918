"""What the game of two players must do: the best critic, the value it reaches, and the motion near the equilibrium."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Complex, Float

from jaxkit.core import checks
from jaxkit.gan.losses import LOSSES, Loss


def optimal_value(
    loss: Loss | str, log_p: Float[Array, " n"], log_q: Float[Array, " n"], dx: ArrayLike
) -> Float[Array, ""]:
    """What the critic's loss is at the best critic of RSGAN and SGAN, `T* = log p/q`, by quadrature on a grid.

    Args:
        loss: `"sgan"` or `"rsgan"` (or such a `Loss`).
        log_p: Log-density of the data on the grid.
        log_q: Log-density of the generator's samples there.
        dx: Weight of the grid's points: their spacing, or an array `(n,)`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import gan
        >>> x = jnp.linspace(-12, 13, 501)
        >>> p, q = (-0.5 * (x - m) ** 2 - 0.5 * jnp.log(2 * jnp.pi) for m in (0, 1))
        >>> round(float(gan.optimal_value("rsgan", p, q, x[1] - x[0])), 4)
        0.4918
    """
    loss = LOSSES[loss] if isinstance(loss, str) else loss
    critic = log_p - log_q
    return loss.critic(critic, critic, weights=(dx * jnp.exp(log_p), dx * jnp.exp(log_q)))


def jensen_shannon(log_p: Array, log_q: Array, dx: ArrayLike) -> Float[Array, ""]:
    """Jensen-Shannon divergence in nats (at most log 2), by quadrature: arrays of one shape."""
    log_m = jnp.logaddexp(log_p, log_q) - jnp.log(jnp.asarray(2.0, log_p.dtype))
    return 0.5 * jnp.sum(dx * (jnp.exp(log_p) * (log_p - log_m) + jnp.exp(log_q) * (log_q - log_m)))


def swap_divergence(log_p: Float[Array, " n"], log_q: Float[Array, " n"], dx: ArrayLike) -> Float[Array, ""]:
    """`JS(p(x) q(y) || q(x) p(y))`: whether a real and a fake sample could have been exchanged unnoticed.

    The best critic of RSGAN reaches `log 2` less this divergence; Su calls it the Turing test.

    References:
        Su, kexue.fm/archives/6110.
    """
    weights = jnp.broadcast_to(jnp.asarray(dx, log_p.dtype), log_p.shape)
    joint = log_p[:, None] + log_q[None, :]
    return jensen_shannon(joint, joint.T, weights[:, None] * weights[None, :])


def dirac_field(t: ArrayLike, state: Float[Array, " 2"], args: dict[str, Any]) -> Float[Array, " 2"]:
    """Both players' gradient flow in the smallest game: data at 0, a generator at `theta`, a critic `T(x) = psi x`.

    Args:
        t: Not used.
        state: `(theta, psi)`.
        args: `{"loss": Loss or name, "gamma": strength of R1}`; `loss` is static. R1 costs `gamma/2 psi^2`.

    Returns:
        Velocities, shape `(2,)`.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> from jaxkit import gan
        >>> at = lambda gamma: jk.linearize(gan.dirac_field, jnp.zeros(2), {"loss": "rsgan", "gamma": gamma})
        >>> [jk.Kind(int(at(g).kind)).label for g in (0.0, 0.3, 2.0)]
        ['center (of the linear part)', 'stable focus', 'stable node']

    References:
        Mescheder, Geiger and Nowozin (2018), Which training methods for GANs do actually converge?
    """
    critic, generator = dirac_losses(args["loss"], args["gamma"])
    theta, psi = state[0], state[1]
    return -jnp.stack([jax.grad(generator)(theta, psi), jax.grad(critic, argnums=1)(theta, psi)])


def dirac_losses(loss: Loss | str, gamma: ArrayLike = 0.0) -> tuple[Any, Any]:
    """The two players' losses in the smallest game, each a function of `(theta, psi)`: critic, generator."""
    pair = LOSSES[loss] if isinstance(loss, str) else loss
    outputs = lambda theta, psi: (jnp.zeros((1,), theta.dtype), jnp.reshape(psi * theta, (1,)))
    critic = lambda theta, psi: pair.critic(*outputs(theta, psi)) + 0.5 * gamma * psi**2
    return critic, lambda theta, psi: pair.generator(*outputs(theta, psi))


def dirac_eigenvalues(gamma: ArrayLike, slope: ArrayLike = 0.5) -> Complex[Array, " 2"]:
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


def growth(eigenvalues: Complex[Array, "..."], rate: ArrayLike, momentum: ArrayLike = 0.0) -> Float[Array, "..."]:
    """Growth of a displacement a step when simultaneous descent follows a flow with these eigenvalues.

    Heavy-ball steps `m <- momentum m + field`, `x <- x + rate m` multiply a mode of eigenvalue `s` by the roots of
    `z^2 - (1 + momentum + rate s) z + momentum = 0`; the larger modulus is returned. Below 1: the players settle.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import gan
        >>> [round(float(gan.growth(jnp.array(0.5j), 0.1, b)), 4) for b in (0.0, 0.9)]
        [1.0012, 1.1211]
    """
    half = 0.5 * (1 + momentum + rate * eigenvalues)
    root = jnp.sqrt(half**2 - momentum)
    return jnp.maximum(jnp.abs(half + root), jnp.abs(half - root))
