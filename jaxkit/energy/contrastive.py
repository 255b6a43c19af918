"""Article III: an energy trained without a generator. Langevin chains with a replay buffer give the fakes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxkit.core import checks
from jaxkit.dynamics.mcmc.langevin import ULA
from jaxkit.dynamics.mcmc.sample import sample


class Negatives(NamedTuple):
    """Where a landscape is pushed up: what is made of a generator's points before.

    A generator that has found the pits sits in them, and between them nothing tells the energy how high it should be.
    Some points uniform in a box and some Langevin moves, which leave a pit as far as the energy lets them, do.

    Attributes:
        fresh: Share of the points that are replaced by ones uniform in `box`.
        moved: Share of the points that then move.
        moves: Langevin steps they make, under the energy as it is.
        step: Of these.
        box: Where; what leaves it is put on its edge.
    """

    fresh: float = 0.2
    moved: float = 0.6
    moves: int = 10
    step: float = 0.01
    box: tuple[float, float] = (-1.0, 1.0)

    def of(self, energy: Callable[[PyTree, Array], Array], weights: PyTree, fake: Array, key: Array) -> Array:
        """The points to push up, from a generator's points `(batch, ...)`."""
        place, run = jax.random.split(key)
        fresh, moved = (round(share * len(fake)) for share in (self.fresh, self.moved))
        anew = jax.random.uniform(place, fake[:fresh].shape, fake.dtype, *self.box)
        fake = jnp.concatenate([anew, fake[fresh:]])
        if not moved:
            return fake
        one = lambda x, w: energy(w, x[None])[0]
        ends = _langevin(one, fake[:moved], weights, step=self.step, moves=self.moves, box=self.box, key=run)
        return jax.lax.stop_gradient(jnp.concatenate([ends, fake[moved:]]))


def _langevin(
    one: Callable[[Array, PyTree], Array],
    start: Array,
    weights: PyTree,
    *,
    step: float,
    moves: int,
    box: tuple[float, float],
    key: Array,
) -> Array:
    """Where Langevin chains are after some moves under the energy `one` of a datum; what leaves the box is put back."""
    weights = jax.lax.stop_gradient(weights)
    run = sample(one, start, weights, key=key, steps=moves, method=ULA(step), thin=moves)
    return jax.lax.stop_gradient(jnp.clip(run.final, *box))


def contrastive(
    energy: Callable[[PyTree, Array], Float[Array, " batch"]],
    *,
    batch: int,
    step: float,
    moves: int = 30,
    fresh: float = 0.05,
    box: tuple[float, float] = (-1.0, 1.0),
    regulariser: float = 0.1,
    noise: float = 1.0,
) -> Callable[..., Any]:
    """The loss of contrastive training, for `jk.fit(loss, params, batches, key=..., carry=replay_buffer(...))`.

    The replay buffer is the carry: in each step some of its states make a Langevin run under the energy as it is, are
    where the energy is pushed up, and are put back.

    Args:
        energy: `energy(params, x) -> (batch,)`. Divide its kernels by their spectral norm (`nets.MLP(spectral=True)`)
            or the landscape grows steeper without end.
        batch: Chains moved a step.
        step: Of the Langevin steps.
        moves: Langevin steps a training step.
        fresh: Share of the chains that start anew, uniformly in `box`; the others go on from the buffer.
        box: Where.
        regulariser: Weight of `U_real^2 + U_fake^2`. (The article prints a minus: then the loss is unbounded below in
            the fakes' energy.)
        noise: Standard deviation of the Langevin noise in units of `sqrt(step)`; 1 is the true motion. Published image
            models take far less noise than that, a tempered motion: say so if you do.

    Returns:
        `loss(params, real, key, buffer) -> (value, metrics, buffer)`, where `real` is an array of real points.

    References:
        Su, An energy view of GAN III, kexue.fm/archives/6612. Du and Mordatch (2019), Implicit generation and modeling
        with energy-based models.
    """
    checks.require(0 <= fresh <= 1, "fresh", "be a share", f"is {fresh}")
    checks.positive("regulariser", regulariser, strict=False)
    checks.positive("noise", noise)
    checks.require(batch > 0 and moves > 0, "batch", "be positive, as `moves`", f"is {batch}, with moves={moves}")
    one = lambda x, params: energy(params, x[None])[0] / noise**2

    def chains(params: PyTree, buffer: Array, key: Array) -> tuple[Array, Array]:
        checks.require(batch <= len(buffer), "batch", f"be at most the buffer's size, {len(buffer)}", f"is {batch}")
        pick, renew, place, move = jax.random.split(key, 4)
        which = jax.random.choice(pick, len(buffer), (batch,), replace=False)
        start = buffer[which]
        anew = jax.random.uniform(place, start.shape, start.dtype, *box)
        mask = jax.random.bernoulli(renew, fresh, (batch,)).reshape((batch,) + (1,) * (start.ndim - 1))
        start = jnp.where(mask, anew, start)
        # With less noise the motion is the true one at a lower temperature and a shorter step.
        end = _langevin(one, start, params, step=step * noise**2, moves=moves, box=box, key=move)
        return end, buffer.at[which].set(end)

    def loss(params: PyTree, real: Array, key: Array, buffer: Array) -> tuple[Array, dict[str, Array], Array]:
        fake, buffer = chains(params, buffer, key)
        at_real, at_fake = energy(params, real), energy(params, fake)
        squares = jnp.mean(jnp.square(at_real)) + jnp.mean(jnp.square(at_fake))
        value = jnp.mean(at_real) - jnp.mean(at_fake) + regulariser * squares
        return value, {"real": jnp.mean(at_real), "fake": jnp.mean(at_fake)}, buffer

    return loss


def replay_buffer(key: Array, size: int, shape: tuple[int, ...], *, box: tuple[float, float] = (-1.0, 1.0)) -> Array:
    """A buffer of `size` states of the given shape, uniform in `box`: the carry of `contrastive`."""
    return jax.random.uniform(key, (size, *shape), minval=box[0], maxval=box[1])
