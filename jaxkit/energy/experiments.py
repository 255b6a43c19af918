"""The articles' experiments in the plane: the landscape as it is dug, momentum, what an energy has learned."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxkit.core.struct import struct
from jaxkit.energy.config import Config
from jaxkit.energy.train import FLOAT, EnergyModel, adam, networks, opening, own_params
from jaxkit.learn import batches, metrics
from jaxkit.learn.play import Play, play
from jaxkit.models.plane_laws import PlaneLaw

NOISES = (0.0, 0.05, 0.1, 0.2)


@struct
class Frames:
    """A landscape while it is being dug.

    Attributes:
        axis: Grid points of both axes, shape `(n,)`.
        energy: Energies, shape `(frames, n, n)`, rows along the second coordinate; the least value of each frame is 0.
        fakes: The generator's points at each frame, shape `(frames, m, 2)`.
        real: Some real points, shape `(m, 2)`.
        steps: Steps taken before each frame, shape `(frames,)`.
    """

    axis: Float[Array, " n"]
    energy: Float[Array, "frames n n"]
    fakes: Float[Array, "frames m 2"]
    real: Float[Array, "m 2"]
    steps: Array


def landscape(
    config: Config,
    law: PlaneLaw,
    *,
    key: Array,
    frames: int = 40,
    every: int = 25,
    points: int = 41,
    shown: int = 300,
) -> Frames:
    """Dig a landscape at real points and let a generator jump, frame by frame, in one compiled program.

    Args:
        config: The run, such as `LANDSCAPE`; `frames` times `every` replaces its number of steps.
        law: The law of the real points.
        key: Random key.
        frames: Number of frames.
        every: Steps between frames.
        points: Grid points per axis.
        shown: Generated points per frame.
    """
    seed, data, noise = jax.random.split(key, 3)
    config = dataclasses.replace(config, steps=frames * every)
    energy, generator, _ = networks(config, 2)
    losses, players = opening(config, 2, seed)
    methods = dict.fromkeys(players, adam(config))
    axis = jnp.linspace(-law.box, law.box, points, dtype=FLOAT)
    grid = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    z = batches.latent_noise(config.prior, noise, shown, config.latent, FLOAT)

    draw = lambda j: law.sample(jax.random.fold_in(data, j), config.batch_size, FLOAT)
    go = lambda players: play(losses, players, draw, optimizers=methods, steps=every, key=noise)

    def frame(game: Play, _: None) -> tuple[Play, tuple[Array, Array]]:
        players = game.players
        heights = energy.apply(players["energy"], grid).reshape(points, points)
        seen = (heights - jnp.min(heights), generator.apply(own_params(config, players["generator"]), z))
        return go(game), seen

    def filmed(players: dict[str, Any]) -> tuple[Array, Array]:
        states = {name: methods[name].init(players[name]) for name in methods}
        form = jax.eval_shape(go, players)
        blank = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), form)
        return jax.lax.scan(frame, dataclasses.replace(blank, players=players, opt_states=states), None, frames)[1]

    heights, fakes = jax.jit(filmed)(players)
    return Frames(axis, heights, fakes, law.sample(data, shown, FLOAT), every * jnp.arange(frames))


def by_momentum(
    config: Config, law: PlaneLaw, momenta: Sequence[float], *, key: Array, steps: int = 2000, seeds: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """How momentum spoils the game of digging and jumping (article I).

    Args:
        config: The run, such as `LANDSCAPE`, without an entropy, which would repair it.
        law: A law with components.
        momenta: Values of Adam's first decay rate, for both players.
        key: Random key.
        steps: Steps of both players, in eight frames of which the last is judged.
        seeds: Runs per momentum, side by side in one program.

    Returns:
        Modes found and share of good points (see `jaxkit.metrics.modes`), each of shape `(len(momenta), seeds)`.
    """
    keys, found = jax.random.split(key, seeds), []
    for momentum in momenta:
        own = dataclasses.replace(config, betas=(momentum, config.betas[1]))
        run = lambda k, own=own: landscape(own, law, key=k, frames=8, every=steps // 7, points=2).fakes[-1]
        found.append([modes_of(law, points) for points in np.asarray(jax.vmap(run)(keys))])
    table = lambda name: np.array([[getattr(one, name) for one in row] for row in found])
    return table("found"), table("good")


@struct
class Assessment:
    """How well an energy and its samples agree with a law.

    Attributes:
        fakes: The model's points, shape `(m, 2)`.
        modes: Modes found, good points, evenness (see `jaxkit.metrics.modes`); None if the law has no components.
        correlations: See `agreement`.
    """

    fakes: Float[Array, "m 2"]
    modes: metrics.Modes | None
    correlations: dict[str, float]


def assess(model: EnergyModel, law: PlaneLaw, *, key: Array, points: int = 10_000) -> Assessment:
    """Compare a model of points in the plane with the law it was trained on.

    Args:
        model: The model.
        law: The law.
        key: Random key.
        points: Number of samples that are judged.
    """
    fakes = model.sample(key, points)
    modes = None if law.mixture is None else modes_of(law, fakes)
    return Assessment(fakes, modes, agreement(jax.jit(model.energy), law, key))


def agreement(energy: Callable[[Array], Array], law: PlaneLaw, key: Array, *, n: int = 5000) -> dict[str, float]:
    """Correlation of `-energy` with the true log density of a law, at its points and around them.

    Args:
        energy: The energy, `(n, 2) -> (n,)`.
        law: The law.
        key: Random key.
        n: Number of points.

    Returns:
        `"real"`: at real points; `"real + s"`: at real points moved by noise of standard deviation `s`; `"square"`: on
        a grid over the law's square and a quarter beyond.
    """
    draw, move = jax.random.split(key)
    real = law.sample(draw, n, FLOAT)
    noise = jax.random.normal(move, real.shape, FLOAT)
    axis = jnp.linspace(-1.25 * law.box, 1.25 * law.box, 101, dtype=FLOAT)
    places = {("real" if s == 0 else f"real + {s:g}"): real + s * noise for s in NOISES}
    places["square"] = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    at = lambda x: float(np.corrcoef(-np.asarray(energy(x)), np.asarray(law.log_prob(x)))[0, 1])
    return {name: at(x) for name, x in places.items()}


def modes_of(law: PlaneLaw, points: Any) -> metrics.Modes:
    """The modes of a law with components in a sample."""
    if law.mixture is None:
        raise ValueError(f"Argument `law` must have components, but {law.name!r} has none.")
    return metrics.modes(points, law.mixture.means, law.width, law.mixture.weights)
