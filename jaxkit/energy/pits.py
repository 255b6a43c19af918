"""Article I: dig pits at real points, let the generator jump into them."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxkit.core import checks
from jaxkit.energy.bounds import BOUNDS
from jaxkit.energy.contrastive import Negatives
from jaxkit.learn import batches
from jaxkit.learn.gradients import value_and_half_square_gradient

Energies = Float[Array, " batch"]


class Digging(NamedTuple):
    """How the landscape is dug.

    Attributes:
        dig: Loss of the landscape, from the energies at real and at fake points.
        jump: Loss of the generator, from the energies at fake points.
        floor: Applied to the network's output first: the energy's range.
    """

    dig: Callable[[Energies, Energies], Float[Array, ""]]
    jump: Callable[[Energies], Float[Array, ""]]
    floor: Callable[[Energies], Energies] = lambda u: u


MARGIN = 1.0
DIGGINGS: Mapping[str, Digging] = MappingProxyType(
    {
        "linear": Digging(lambda real, fake: jnp.mean(real) - jnp.mean(fake), jnp.mean),
        "hinge": Digging(
            lambda real, fake: jnp.mean(jax.nn.relu(1 + real)) + jnp.mean(jax.nn.relu(1 - fake)), jnp.mean
        ),
        "nonnegative": Digging(
            lambda real, fake: jnp.mean(real) + jnp.mean(jax.nn.relu(MARGIN - fake)), jnp.mean, jax.nn.softplus
        ),
    }
)
"""Name -> how to dig. `linear`: `E_real U - E_fake U`; `hinge`; `nonnegative`: `E_real U + E_fake max(0, m - U)`."""


def game(
    energy: Callable[[PyTree, Array], Energies],
    generator: Callable[[PyTree, Array], Array],
    *,
    latent: int,
    digging: str = "linear",
    penalty: float = 0.1,
    bound: str | None = None,
    critic: Callable[[PyTree, Array, Array], Array] | None = None,
    weight: float = 1.0,
    prior: str = "normal",
    negatives: Negatives | None = None,
) -> dict[str, Callable[..., Any]]:
    """The two losses of an energy GAN, for `jk.play`: players `"energy"` and `"generator"`.

    The landscape minimises `E_real U - E_fake U + penalty * E_real |grad U|^2` (or its `digging`), so that real points
    lie at the bottom of pits; the generator minimises `E U(G(z))`, and with a `bound` also maximises `weight` times a
    lower bound of the mutual information of `G(z)` and `z`: its entropy, which keeps it from falling into one pit.

    Args:
        energy: `energy(params, x) -> (batch,)`.
        generator: `generator(params, z) -> x`; with a bound, `params` is `{"net": ..., "critic": ...}`.
        latent: Numbers in `z`.
        digging: A name in `DIGGINGS`.
        penalty: Weight of the squared gradient at real points, over all axes of a sample.
        bound: A name in `BOUNDS`, or None.
        critic: `critic(params, x, z) -> (batch,)` of the bound.
        weight: Of the bound.
        prior: What `z` is drawn from: `"normal"`, N(0, 1), or `"uniform"` on [-1, 1].
        negatives: What is made of the generator's points before the landscape is pushed up there; the penalty then also
            counts the gradients there, with equal weight. None leaves them.

    Returns:
        Player -> `loss(players, batch, key)`, where a batch is an array of real points.

    Raises:
        ValueError: An argument is unusable.

    Example:
        >>> import jax, jax.numpy as jnp, optax, jaxkit as jk
        >>> from jaxkit.energy import game
        >>> bowl = lambda w, x: jnp.sum((x - w) ** 2, axis=1)  # a pit that can only be moved
        >>> shift = lambda w, z: w + 0.0 * z
        >>> losses = game(bowl, shift, latent=2, penalty=1.0)
        >>> start = {"energy": jnp.zeros(2), "generator": -jnp.ones(2)}
        >>> sgd = {"energy": optax.sgd(0.05), "generator": optax.sgd(0.05)}
        >>> real = jnp.ones((64, 2))
        >>> end = jk.play(losses, start, real, optimizers=sgd, steps=300, key=jax.random.key(0)).checked().players
        >>> bool(jnp.allclose(end["generator"], 1.0, atol=1e-3))
        True

    References:
        Su, An energy view of GAN I and II, kexue.fm/archives/6316 and 6331. Kumar et al. (2019), Maximum entropy
        generators for energy-based models (whose code takes the penalty's norm over channels only; here it is a
        sample's).
    """
    checks.one_of("digging", digging, DIGGINGS)
    checks.positive("penalty", penalty, strict=False)
    checks.require(latent > 0, "latent", "be positive", f"is {latent}")
    if bound is not None:
        checks.one_of("bound", bound, BOUNDS)
        checks.require(critic is not None, "critic", "be given with a `bound`", "is None")
    how = DIGGINGS[digging]
    landscape = lambda params, x: how.floor(energy(params, x))
    own = lambda params: params if bound is None else params["net"]
    checks.one_of("prior", prior, batches.PRIORS)
    noise = lambda key, real: batches.noise(prior, key, len(real), latent, real.dtype)

    def dig(players: Mapping[str, PyTree], real: Array, key: Array) -> tuple[Array, dict[str, Array]]:
        draw, move = jax.random.split(key)
        fake = jax.lax.stop_gradient(generator(own(players["generator"]), noise(draw, real)))
        at_real, half_square = value_and_half_square_gradient(landscape, players["energy"], real)
        if negatives is None:
            at_fake, square = landscape(players["energy"], fake), 2 * jnp.mean(half_square)
        else:
            fake = negatives.of(landscape, players["energy"], fake, move)
            at_fake, more = value_and_half_square_gradient(landscape, players["energy"], fake)
            square = 2 * jnp.mean(half_square) + 2 * jnp.mean(more)
        return how.dig(at_real, at_fake) + penalty * square, {"real": jnp.mean(at_real), "fake": jnp.mean(at_fake)}

    def jump(players: Mapping[str, PyTree], real: Array, key: Array) -> tuple[Array, dict[str, Array]]:
        draw, shuffle = jax.random.split(key)
        z = noise(draw, real)
        fake = generator(own(players["generator"]), z)
        loss = how.jump(landscape(players["energy"], fake))
        if bound is None or critic is None:
            return loss, {}
        rule, score = BOUNDS[bound], functools.partial(critic, players["generator"]["critic"])
        joint, marginal = rule.scores(score, fake, z, shuffle)
        return loss - weight * rule.objective(joint, marginal), {"information": rule.estimate(joint, marginal)}

    return {"energy": dig, "generator": jump}
