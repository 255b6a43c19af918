"""Theory of the game of two players: the best critic, the value it reaches, and the smallest game."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkit.core import checks
from jaxkit.gan.losses import LOSSES, Loss, find
from jaxkit.models.dirac import DiracGame

LOG_RATIO = ("sgan", "sgan-saturating", "rsgan")  # the losses of the table whose best critic is log p/q


def optimal_value(
    loss: Loss | str, log_p: Float[Array, " n"], log_q: Float[Array, " n"], dx: ArrayLike
) -> Float[Array, ""]:
    """The critic's loss at the best critic of RSGAN and SGAN, `T* = log p/q`, by quadrature on a grid.

    Args:
        loss: A loss whose best critic is the log ratio: `"sgan"`, `"sgan-saturating"`, `"rsgan"`, or such a `Loss`.
        log_p: Log-density of the data on the grid.
        log_q: Log-density of the generator's samples there.
        dx: Weights of the grid points: their spacing, or an array, shape `(n,)`.

    Raises:
        ValueError: The loss has another best critic: its slope in the critic is not zero at `T*`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import gan
        >>> x = jnp.linspace(-12, 13, 501)
        >>> p, q = (-0.5 * (x - m) ** 2 - 0.5 * jnp.log(2 * jnp.pi) for m in (0, 1))
        >>> round(float(gan.optimal_value("rsgan", p, q, x[1] - x[0])), 4)
        0.4918
    """
    loss = find(loss)
    critic, weights = log_p - log_q, (dx * jnp.exp(log_p), dx * jnp.exp(log_q))
    best = loss.name not in LOSSES or loss.name in LOG_RATIO
    if best and not checks.is_traced((critic, weights)):
        slope = jax.grad(lambda values: loss.critic(values, values, weights=weights))(critic)
        best = not jnp.sum(jnp.abs(slope)) > 1e-3  # the weights sum to about 1; NaN passes
    checks.require(bool(best), "loss", "have the best critic `log p/q`", f"{loss.name!r} has another")
    return loss.critic(critic, critic, weights=weights)


def jensen_shannon(log_p: Array, log_q: Array, dx: ArrayLike) -> Float[Array, ""]:
    """Jensen-Shannon divergence in nats (at most log 2), by quadrature; both arrays have the same shape."""
    log_m = jnp.logaddexp(log_p, log_q) - jnp.log(jnp.asarray(2.0, log_p.dtype))
    return 0.5 * jnp.sum(dx * (jnp.exp(log_p) * (log_p - log_m) + jnp.exp(log_q) * (log_q - log_m)))


def swap_divergence(log_p: Float[Array, " n"], log_q: Float[Array, " n"], dx: ArrayLike) -> Float[Array, ""]:
    """`JS(p(x) q(y) || q(x) p(y))`: whether a real and a fake sample could have been exchanged unnoticed.

    The best critic of RSGAN reaches `log 2` minus this divergence; Su calls it the Turing test.

    References:
        Su, kexue.fm/archives/6110.
    """
    weights = jnp.broadcast_to(jnp.asarray(dx, log_p.dtype), log_p.shape)
    joint = log_p[:, None] + log_q[None, :]
    return jensen_shannon(joint, joint.T, weights[:, None] * weights[None, :])


def dirac_game(loss: Loss | str = "rsgan") -> DiracGame:
    """The smallest game with one of the losses, as a `DiracGame` with its flow, eigenvalues and descent.

    Args:
        loss: A `Loss` or its name, except GAN-QP, which needs distances.
    """
    loss = find(loss)
    return DiracGame(loss.critic, loss.generator)
