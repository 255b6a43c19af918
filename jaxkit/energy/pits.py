"""Article I: dig pits at real points, let the generator jump into them."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxkit.core import checks
from jaxkit.energy.config import Config, Negatives
from jaxkit.energy.contrastive import negatives
from jaxkit.energy.digging import Energies
from jaxkit.learn import batches
from jaxkit.learn.gradients import value_and_half_square_gradient


def game(
    energy: Callable[[PyTree, Array], Energies],
    generator: Callable[[PyTree, Array], Array],
    config: Config,
    critic: Callable[[PyTree, Array, Array], Array] | None = None,
) -> dict[str, Callable[..., Any]]:
    """The two losses of an energy GAN, for `jk.play`: players `"energy"` and `"generator"`.

    The landscape minimises `E_real U - E_fake U + penalty * E_real |grad U|^2` (or its `digging`), so that real points
    lie at the bottom of pits; the generator minimises `E U(G(z))` and, with a `bound`, also maximises `entropy` times a
    lower bound on the mutual information of `G(z)` and `z`: its entropy, which keeps it from falling into one pit.

    Args:
        energy: `energy(params, x) -> (batch,)`.
        generator: `generator(params, z) -> x`; with a bound, `params` is `{"net": ..., "critic": ...}`.
        config: Digging, penalty, bound, noise and negatives of the game.
        critic: `critic(params, x, z) -> (batch,)` of the bound.

    Returns:
        Player -> `loss(players, batch, key)`, where a batch is an array of real points.

    Raises:
        ValueError: A bound is given without a critic.

    Example:
        >>> import dataclasses, jax, jax.numpy as jnp, optax, jaxkit as jk
        >>> bowl = lambda w, x: jnp.sum((x - w) ** 2, axis=1)  # a pit that can only be moved
        >>> shift = lambda w, z: w + 0.0 * z
        >>> losses = jk.energy.game(bowl, shift, dataclasses.replace(jk.energy.LANDSCAPE, penalty=1.0))
        >>> start, real = {"energy": jnp.zeros(2), "generator": -jnp.ones(2)}, jnp.ones((64, 2))
        >>> sgd = dict.fromkeys(start, optax.sgd(0.05))
        >>> end = jk.play(losses, start, real, optimizers=sgd, steps=300, key=jax.random.key(0)).checked()
        >>> bool(jnp.allclose(end.players["generator"], 1.0, atol=1e-3))
        True

    References:
        Su, An energy view of GAN I and II, kexue.fm/archives/6316 and 6331. Kumar et al. (2019), Maximum entropy
        generators for energy-based models (whose code takes the penalty's norm over channels only).
    """
    bound, how = config.the_bound, config.the_digging
    checks.require(bound is None or critic is not None, "critic", "be given with a `bound`", "is None")
    landscape = lambda params, x: how.floor(energy(params, x))
    own = lambda params: params if bound is None else params["net"]
    noise = lambda key, real: batches.latent_noise(config.prior, key, len(real), config.latent, real.dtype)

    def dig(players: Mapping[str, PyTree], real: Array, key: Array) -> tuple[Array, dict[str, Array]]:
        draw, move = jax.random.split(key)
        fake = jax.lax.stop_gradient(generator(own(players["generator"]), noise(draw, real)))
        at_real, at_fake, square = _heights(config.negatives, landscape, players["energy"], real, fake, move)
        means = {"real": jnp.mean(at_real), "fake": jnp.mean(at_fake)}
        return how.dig(at_real, at_fake) + config.penalty * square, means

    def jump(players: Mapping[str, PyTree], real: Array, key: Array) -> tuple[Array, dict[str, Array]]:
        draw, shuffle = jax.random.split(key)
        z = noise(draw, real)
        fake = generator(own(players["generator"]), z)
        loss = how.jump(landscape(players["energy"], fake))
        if bound is None or critic is None:
            return loss, {}
        score = functools.partial(critic, players["generator"]["critic"])
        joint, marginal = bound.scores(score, fake, z, shuffle)
        loss = loss - config.entropy * bound.objective(joint, marginal)
        return loss, {"information": bound.estimate(joint, marginal)}

    return {"energy": dig, "generator": jump}


def _heights(
    rule: Negatives | None, landscape: Callable[..., Array], weights: PyTree, real: Array, fake: Array, key: Array
) -> tuple[Array, Array, Array]:
    """Energies at real points and at the negatives, and the squared gradient that enters the penalty."""
    at_real, half_square = value_and_half_square_gradient(landscape, weights, real)
    if rule is None:
        return at_real, landscape(weights, fake), 2 * jnp.mean(half_square)
    at_fake, more = value_and_half_square_gradient(landscape, weights, negatives(rule, landscape, weights, fake, key))
    return at_real, at_fake, 2 * jnp.mean(half_square) + 2 * jnp.mean(more)
