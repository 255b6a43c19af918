"""Article II: lower bounds on the mutual information of two variables, from the scores of a critic.

A critic gives a score to a pair. `joint` holds the scores of pairs drawn together, `marginal` those of pairs drawn
separately: either one per sample (with the partners shuffled) or a square matrix (every `x` with every `z`, with the
joint pairs on its diagonal). A line in `BOUNDS` adds a bound.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Joint = Float[Array, " n"]
Scalar = Float[Array, ""]
Critic = Callable[[Array, Array], Array]


class Bound(NamedTuple):
    """A lower bound on the mutual information.

    Attributes:
        estimate: `(joint, marginal) -> nats`; its mean is a lower bound for every critic.
        objective: `(joint, marginal) -> scalar`, to be maximised over the critic (and a generator).
        optimum: `log p(x, z) / (p(x) p(z)) -> score` of the best critic.
        scores: `(critic, x, z, key) -> (joint, marginal)`.
    """

    estimate: Callable[[Joint, Array], Scalar]
    objective: Callable[[Joint, Array], Scalar]
    optimum: Callable[[Array], Array]
    scores: Callable[[Critic, Array, Array, Array], tuple[Joint, Array]]


def shuffled(critic: Critic, x: Array, z: Array, key: Array) -> tuple[Joint, Joint]:
    """Scores of the pairs, and of as many pairs with the partners shifted by a random number of places."""
    shift = jax.random.randint(key, (), 1, len(z))
    return critic(x, z), critic(x, jnp.roll(z, shift, axis=0))


def every_pair(critic: Critic, x: Array, z: Array, key: Array) -> tuple[Joint, Float[Array, "n n"]]:
    """Scores of the pairs, and the matrix of all scores: row `i` is `x[i]` with every `z`."""
    del key
    matrix = jax.vmap(lambda one: critic(jnp.broadcast_to(one, x.shape), z))(x)
    return jnp.diagonal(matrix), matrix


def joint_only(critic: Critic, x: Array, z: Array, key: Array) -> tuple[Joint, Joint]:
    """Scores of the pairs alone; the marginal is not used."""
    del key
    joint = critic(x, z)
    return joint, jnp.zeros_like(joint)


def deep_infomax(joint: Joint, marginal: Array) -> Scalar:
    """`-E sp(-T) - E' sp(T)` (Deep InfoMax): stable, but not a bound on the information itself."""
    return -jnp.mean(jax.nn.softplus(-joint)) - jnp.mean(jax.nn.softplus(marginal))


def donsker_varadhan(joint: Joint, marginal: Array) -> Scalar:
    """`E T - log E' exp(T)` (MINE)."""
    return jnp.mean(joint) - jax.nn.logsumexp(marginal) + math.log(marginal.size)


def nguyen_wainwright_jordan(joint: Joint, marginal: Array) -> Scalar:
    """`E T - E' exp(T - 1)`."""
    return jnp.mean(joint) - jnp.mean(jnp.exp(marginal - 1))


def info_nce(joint: Joint, marginal: Float[Array, "n n"]) -> Scalar:
    """`E [T - logsumexp of its row] + log n`, which is never above `log n`."""
    return jnp.mean(joint - jax.nn.logsumexp(marginal, axis=1)) + math.log(len(joint))


def corrected(joint: Joint, marginal: Array, mean: Scalar) -> Scalar:
    """MINE's objective with its corrected gradient: `E T - E' exp(T) / mean`, with a moving average of `E' exp(T)`.

    The gradient of a batch's `log E' exp(T)` divides two averages over the same few points and is biased; the moving
    average (`moving_mean`) removes the bias. The value is not an estimate: use `donsker_varadhan` for that.
    """
    return jnp.mean(joint) - jnp.mean(jnp.exp(marginal)) / jax.lax.stop_gradient(mean)


def moving_mean(mean: Scalar, marginal: Array, *, decay: float = 0.99) -> Scalar:
    """MINE's moving average of `E' exp(T)` after one more batch: the carry of a `jk.fit`."""
    return decay * mean + (1 - decay) * jnp.mean(jnp.exp(marginal))


def _sum_bound(joint: Joint, marginal: Array) -> Scalar:
    """NWJ at `T + 1`: what a critic trained for the Jensen-Shannon objective says about the information."""
    return nguyen_wainwright_jordan(joint + 1, marginal + 1)


def _mean_joint(joint: Joint, marginal: Array) -> Scalar:
    """Barber-Agakov: `E log q(z|x) - log p(z)`; the score is that difference, so no marginal is needed."""
    del marginal
    return jnp.mean(joint)


BOUNDS: Mapping[str, Bound] = MappingProxyType(
    {
        "jsd": Bound(_sum_bound, deep_infomax, lambda r: r, shuffled),
        "dv": Bound(donsker_varadhan, donsker_varadhan, lambda r: r, shuffled),
        "nwj": Bound(nguyen_wainwright_jordan, nguyen_wainwright_jordan, lambda r: r + 1, shuffled),
        "infonce": Bound(info_nce, info_nce, lambda r: r, every_pair),
        "barber-agakov": Bound(_mean_joint, _mean_joint, lambda r: r, joint_only),
    }
)
"""Name -> bound. For `"barber-agakov"` the critic is `gaussian_decoder(...)`."""


def gaussian_decoder(decode: Callable[[Array], tuple[Array, Array]]) -> Critic:
    """The critic `log q(z|x) - log p(z)` of a Gaussian decoder, for `z` drawn from N(0, 1).

    Args:
        decode: `x -> (mean, log of the standard deviation)` of `z`, each of the shape of `z`.

    Returns:
        `critic(x, z) -> (n,)`. With a fixed deviation this is the article's `|z - E(G(z))|^2`.
    """

    def critic(x: Array, z: Array) -> Array:
        mean, log_sd = decode(x)
        inside = -0.5 * jnp.square((z - mean) * jnp.exp(-log_sd)) - log_sd
        return jnp.sum(inside + 0.5 * jnp.square(z), axis=-1)  # the constants of both densities cancel

    return critic
