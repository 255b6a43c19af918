"""What the game of two players must do: the best critic, the value it reaches, and the smallest game."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkit.gan.losses import Loss, find
from jaxkit.models.dirac import DiracGame


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
    loss = find(loss)
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


def dirac_game(loss: Loss | str = "rsgan") -> DiracGame:
    """The smallest game with one of the losses: its flow, its eigenvalues and its descent are those of `DiracGame`.

    Args:
        loss: A `Loss` or its name; not GAN-QP, which needs distances.
    """
    loss = find(loss)
    return DiracGame(loss.critic, loss.generator)
