"""Article III: an energy trained without a generator. Langevin chains with a replay buffer give the fakes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxkit.core import checks
from jaxkit.dynamics.mcmc.langevin import ULA
from jaxkit.dynamics.mcmc.sample import sample
from jaxkit.energy.config import Negatives, ReplayConfig


def negatives(
    rule: Negatives, energy: Callable[[PyTree, Array], Array], weights: PyTree, fake: Array, key: Array
) -> Array:
    """The points to push up, from a generator's points `(batch, ...)`."""
    place, run = jax.random.split(key)
    fresh, moved = (round(share * len(fake)) for share in (rule.fresh, rule.moved))
    anew = jax.random.uniform(place, fake[:fresh].shape, fake.dtype, *rule.box)
    fake = jnp.concatenate([anew, fake[fresh:]])
    if not moved:
        return fake
    one = lambda x, w: energy(w, x[None])[0]
    ends = langevin(one, fake[:moved], weights, step=rule.step_size, moves=rule.moves, box=rule.box, key=run)
    return jax.lax.stop_gradient(jnp.concatenate([ends, fake[moved:]]))


def langevin(
    one: Callable[[Array, PyTree], Array],
    start: Array,
    weights: PyTree,
    *,
    step: float,
    moves: int,
    box: tuple[float, float],
    key: Array,
) -> Array:
    """Langevin chains after some steps under the energy `one` of a datum; what leaves the box is put back."""
    weights = jax.lax.stop_gradient(weights)
    run = sample(one, start, weights, key=key, steps=moves, method=ULA(step), thin=moves)
    return jax.lax.stop_gradient(jnp.clip(run.final, *box))


def contrastive(energy: Callable[[PyTree, Array], Float[Array, " batch"]], config: ReplayConfig) -> Callable[..., Any]:
    """The loss of contrastive training, for `jk.fit(loss, params, batches, key=..., carry=replay_buffer(...))`.

    The replay buffer is the carry: in each step, some of its states make a Langevin run under the energy as it is; the
    energy is pushed up where they arrive, and they are put back.

    Args:
        energy: `energy(params, x) -> (batch,)`. Divide its kernels by their spectral norm
            (`nets.MLP(spectral=True)`), or the landscape grows steeper without end.
        config: What the chains do, and the regulariser.

    Returns:
        `loss(params, real, key, buffer) -> (value, metrics, buffer)`, where `real` is an array of real points.

    References:
        Su, An energy view of GAN III, kexue.fm/archives/6612. Du and Mordatch (2019), Implicit generation and modeling
        with energy-based models.
    """
    batch, box = config.batch_size, config.box

    def chains(params: PyTree, buffer: Array, key: Array) -> tuple[Array, Array]:
        checks.require(
            batch <= len(buffer), "batch_size", f"be at most the buffer's size, {len(buffer)}", f"is {batch}"
        )
        pick, renew, place, move = jax.random.split(key, 4)
        which = jax.random.choice(pick, len(buffer), (batch,), replace=False)
        start = buffer[which]
        anew = jax.random.uniform(place, start.shape, start.dtype, *box)
        mask = jax.random.bernoulli(renew, config.fresh, (batch,)).reshape((batch,) + (1,) * (start.ndim - 1))
        end = chain_moves(energy, params, jnp.where(mask, anew, start), config, move)
        return end, buffer.at[which].set(end)

    def loss(params: PyTree, real: Array, key: Array, buffer: Array) -> tuple[Array, dict[str, Array], Array]:
        fake, buffer = chains(params, buffer, key)
        at_real, at_fake = energy(params, real), energy(params, fake)
        squares = jnp.mean(jnp.square(at_real)) + jnp.mean(jnp.square(at_fake))
        value = jnp.mean(at_real) - jnp.mean(at_fake) + config.regulariser * squares
        return value, {"real": jnp.mean(at_real), "fake": jnp.mean(at_fake)}, buffer

    return loss


def chain_moves(
    energy: Callable[[PyTree, Array], Array], params: PyTree, start: Array, config: ReplayConfig, key: Array
) -> Array:
    """Chains of a run after their Langevin steps.

    With noise below 1, the motion is the true one at a lower temperature with a shorter step.
    """
    one = lambda x, params: energy(params, x[None])[0] / config.noise**2
    step = config.step_size * config.noise**2
    return langevin(one, start, params, step=step, moves=config.moves, box=config.box, key=key)


def replay_buffer(key: Array, size: int, shape: tuple[int, ...], *, box: tuple[float, float] = (-3.0, 3.0)) -> Array:
    """A buffer of `size` states of the given shape, uniform in `box`: the carry of `contrastive`."""
    return jax.random.uniform(key, (size, *shape), minval=box[0], maxval=box[1])
