"""The articles' experiments on laws in the plane, assembled: the landscape as it is dug, MEG, training by replay."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxkit.core.run import Run
from jaxkit.core.struct import struct
from jaxkit.energy.contrastive import Negatives, contrastive, replay_buffer
from jaxkit.energy.pits import game
from jaxkit.learn import batches, metrics, nets
from jaxkit.learn.fit import fit
from jaxkit.learn.play import play
from jaxkit.models.plane_laws import PlaneLaw

FLOAT = jnp.float32  # nets are trained in single precision, whatever the script's precision


@struct
class Frames:
    """A landscape while it is dug.

    Attributes:
        axis: Grid points of both axes, shape `(n,)`.
        energy: Shape `(frames, n, n)`, rows along the second coordinate; each frame's least value is 0.
        fakes: Where the generator's points then lie, shape `(frames, m, 2)`.
        real: Some real points, shape `(m, 2)`.
        steps: Steps made at each frame, shape `(frames,)`.
    """

    axis: Float[Array, " n"]
    energy: Float[Array, "frames n n"]
    fakes: Float[Array, "frames m 2"]
    real: Float[Array, "m 2"]
    steps: Array


def landscape(
    toy: PlaneLaw,
    *,
    frames: int = 40,
    every: int = 25,
    momentum: float = 0.0,
    entropy: float = 0.0,
    penalty: float = 0.1,
    digging: str = "linear",
    width: int = 64,
    points: int = 41,
    shown: int = 300,
    key: Array | None = None,
) -> Frames:
    """Dig a landscape at real points and let a generator jump, picture by picture: one compiled program.

    Args:
        toy: The law of the real points.
        frames: Pictures.
        every: Steps between pictures.
        momentum: Adam's first decay, of both players.
        entropy: Weight of the generator's information (`"jsd"` bound); 0 leaves it out.
        penalty: Of the gradient at real points.
        digging: A name in `DIGGINGS`.
        width: Of the networks' hidden layers.
        points: Grid points an axis.
        shown: Generated points a picture.
        key: Random key.
    """
    seed, data, noise = jax.random.split(jax.random.key(0) if key is None else key, 3)
    energy, generator, critic = _networks(width)
    bound = "jsd" if entropy else None
    losses = game(
        energy.apply, generator.apply, latent=2, digging=digging, penalty=penalty, bound=bound, critic=critic.apply,
        weight=entropy,
    )  # fmt: skip
    adam = optax.adam(1e-3, b1=momentum, b2=0.9)
    methods = {"energy": adam, "generator": adam}
    players = _players(seed, energy, generator, critic if entropy else None)
    axis = jnp.linspace(-toy.box, toy.box, points, dtype=FLOAT)
    grid = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    z = jax.random.normal(noise, (shown, 2), FLOAT)

    def frame(carry: Any, i: Array) -> tuple[Any, tuple[Array, Array]]:
        players, states = carry
        own = players["generator"]["net"] if entropy else players["generator"]
        heights = energy.apply(players["energy"], grid).reshape(points, points)
        seen = (heights - jnp.min(heights), generator.apply(own, z))
        draw = lambda j: toy.sample(jax.random.fold_in(data, i * every * 2 + j), 256, FLOAT)
        moved = play(
            losses, players, draw, optimizers=methods, steps=every, key=jax.random.fold_in(noise, i), opt_states=states
        )
        return (moved.players, moved.opt_states), seen

    states = {name: methods[name].init(players[name]) for name in methods}
    _, (heights, fakes) = jax.jit(lambda c: jax.lax.scan(frame, c, jnp.arange(frames)))((players, states))
    return Frames(axis, heights, fakes, toy.sample(data, shown, FLOAT), every * jnp.arange(frames))


def by_momentum(
    toy: PlaneLaw,
    momenta: Sequence[float],
    *,
    digging: str = "linear",
    steps: int = 2000,
    seeds: int = 3,
    key: Array | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """How momentum spoils the game of digging and jumping (article I), without an entropy that would mend it.

    Args:
        toy: A law with components.
        momenta: Adam's first decay, of both players.
        digging: A name in `DIGGINGS`.
        steps: Of both players, in eight pictures of which the last is judged.
        seeds: Runs a momentum, side by side in one program.
        key: Random key.

    Returns:
        Modes found and share of good points (see `jaxkit.metrics.modes`), each of shape `(len(momenta), seeds)`.
    """
    keys = jax.random.split(jax.random.key(0) if key is None else key, seeds)
    found = []
    for momentum in momenta:
        play_out = functools.partial(
            landscape, toy, frames=8, every=steps // 7, momentum=momentum, digging=digging, points=2
        )
        fakes = np.asarray(jax.vmap(lambda k, go=play_out: go(key=k).fakes)(keys))[:, -1]
        found.append([_modes(points, toy) for points in fakes])
    table = lambda name: np.array([[getattr(one, name) for one in row] for row in found])
    return table("found"), table("good")


@struct
class Entropic:
    """A maximum-entropy generator and the energy it was trained with.

    Attributes:
        fakes: Generated points, shape `(m, 2)`.
        modes: Modes found, good points, evenness: see `jaxkit.metrics.modes`.
        correlations: Of minus the learned energy with the true log density: at real points; at real points moved by
            noise of half a standard deviation to a few of them, see `NOISES`; on a grid over the law's square.
        information: The bound's last value, in nats.
        energy: `x (n, 2) -> (n,)`, the learned energy (not an array: call it).
    """

    fakes: Any
    modes: metrics.Modes
    correlations: dict[str, float]
    information: float
    energy: Any


def _networks(width: int, *, deep: int = 2, frequencies: tuple[float, ...] = ()) -> tuple[nets.Net, nets.Net, nets.Net]:
    """Energy, generator and critic of pairs, all of two coordinates."""
    x = jnp.zeros((1, 2), FLOAT)
    judge = functools.partial(nets.MLP, activation="leaky_relu", scalar=True, frequencies=frequencies)
    energy = nets.plain(judge((*(width,) * deep, 1)), x)
    generator = nets.plain(nets.MLP((*(width,) * deep, 2), activation="relu"), x)
    return energy, generator, nets.plain(judge((width, width, 1)), x, x)


def _players(key: Array, energy: nets.Net, generator: nets.Net, critic: nets.Net | None) -> dict[str, Any]:
    first, second, third = jax.random.split(key, 3)
    own: Any = generator.init(second)
    return {
        "energy": energy.init(first),
        "generator": own if critic is None else {"net": own, "critic": critic.init(third)},
    }


NOISES = (0.0, 0.05, 0.1, 0.2)


def agreement(energy: Callable[[Array], Array], toy: PlaneLaw, key: Array, *, n: int = 5000) -> dict[str, float]:
    """Correlation of `-energy` with a law's true log density, where the law is and around it.

    Args:
        energy: `x (n, 2) -> (n,)`.
        toy: The law.
        key: Random key.
        n: Points.

    Returns:
        `"real"`: at real points; `"real + s"`: at real points moved by noise of deviation `s`; `"square"`: on a grid
        over the law's square and a quarter beyond.
    """
    draw, move = jax.random.split(key)
    real = toy.sample(draw, n, FLOAT)
    noise = jax.random.normal(move, real.shape, FLOAT)
    axis = jnp.linspace(-1.25 * toy.box, 1.25 * toy.box, 101, dtype=FLOAT)
    places = {("real" if s == 0 else f"real + {s:g}"): real + s * noise for s in NOISES}
    places["square"] = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    at = lambda x: float(np.corrcoef(-np.asarray(energy(x)), np.asarray(toy.log_prob(x)))[0, 1])
    return {name: at(x) for name, x in places.items()}


def maximum_entropy(
    toy: PlaneLaw,
    *,
    steps: int,
    bound: str | None = "jsd",
    weight: float = 1.0,
    penalty: float = 0.03,
    rate: float = 2e-3,
    batch: int = 256,
    width: int = 64,
    frequencies: tuple[float, ...] = (4.0, 12.0),
    negatives: Negatives | None = Negatives(),  # noqa: B008 (a tuple of numbers)
    average: float = 0.998,
    key: Array | None = None,
    points: int = 10_000,
) -> Entropic:
    """Train a maximum-entropy generator on a mixture and count what it found.

    Args:
        toy: A law with components.
        steps: One step of the energy, one of the generator and its critic each.
        bound: A name in `BOUNDS` (not `"barber-agakov"`), or None: an energy GAN without entropy, for comparison.
        weight: Of the bound.
        penalty: Of the gradient at real points, and at the negatives where there are some.
        rate: Adam's first rate (no momentum, b2 .99); it falls to a twentieth along a cosine.
        batch: Real points a step.
        width: Of the hidden layers, three in the energy and the generator, two in the critic of pairs.
        frequencies: Of the sines and cosines that the energy and the critic see beside the coordinates.
        negatives: What is made of the generator's points before the landscape is pushed up, in the law's square and a
            quarter beyond; None: nothing.
        average: Decay of the averaged weights that are judged.
        key: Random key.
        points: Generated points that are judged.

    References:
        Kumar, Ozair, Goyal, Courville, Bengio (2019); Su, kexue.fm/archives/6331.
    """
    seed, data, noise, judge = jax.random.split(jax.random.key(0) if key is None else key, 4)
    energy, generator, critic = _networks(width, deep=3, frequencies=frequencies)
    edge = 1.25 * toy.box
    where = None if negatives is None else negatives._replace(box=(-edge, edge))
    losses = game(
        energy.apply, generator.apply, latent=2, penalty=penalty, bound=bound, critic=critic.apply, weight=weight,
        prior="uniform", negatives=where,
    )  # fmt: skip
    adam = optax.adam(optax.cosine_decay_schedule(rate, steps, 0.05), b1=0.0, b2=0.99)
    done = play(
        losses,
        _players(seed, energy, generator, critic if bound else None),
        lambda i: toy.sample(jax.random.fold_in(data, i), batch, FLOAT),
        optimizers={"energy": adam, "generator": adam},
        ema={"energy": average, "generator": average},
        steps=steps,
        key=noise,
        run=Run(chunk=500),
    ).checked()
    own = done.ema["generator"]["net"] if bound else done.ema["generator"]
    landscape_of = jax.jit(lambda x: energy.apply(done.ema["energy"], x))
    fakes = generator.apply(own, batches.noise("uniform", judge, points, 2, FLOAT))
    found = _modes(fakes, toy)
    said = float(done.metrics["generator"]["information"][-1]) if bound else 0.0
    return Entropic(fakes, found, agreement(landscape_of, toy, judge), said, landscape_of)


def _modes(points: Any, law: PlaneLaw) -> metrics.Modes:
    if law.mixture is None:
        raise ValueError(f"Argument `toy` must have components, but {law.name!r} has none.")
    return metrics.modes(points, law.mixture.means, law.width, law.mixture.weights)


def by_replay(
    toy: PlaneLaw,
    *,
    steps: int,
    width: int = 64,
    batch: int = 128,
    buffer: int = 2048,
    moves: int = 20,
    step: float = 0.01,
    key: Array | None = None,
) -> tuple[Callable[[Array], Array], Array, dict[str, float]]:
    """Train an energy without a generator, by Langevin chains with a replay buffer.

    Returns:
        The learned energy, `x (n, 2) -> (n,)`; the buffer's states; the correlations of `agreement`.
    """
    seed, fill, data, noise, judge = jax.random.split(jax.random.key(0) if key is None else key, 5)
    net = nets.plain(nets.MLP((width, width, 1), spectral=True, scalar=True), jnp.zeros((1, 2), FLOAT))
    # Kernels of spectral norm 1 alone would keep the energy all but flat: a learned scale makes it as steep as needed.
    energy = lambda p, x: jnp.exp(p["log_scale"]) * net.apply(p["net"], x)
    box = (-1.25 * toy.box, 1.25 * toy.box)
    done = fit(
        contrastive(energy, batch=batch, step=step, moves=moves, box=box, regulariser=0.01),
        {"net": net.init(seed), "log_scale": jnp.asarray(1.0, FLOAT)},
        lambda i: toy.sample(jax.random.fold_in(data, i), batch, FLOAT),
        optimizer=optax.adam(optax.cosine_decay_schedule(2e-3, steps, 0.05)),
        steps=steps,
        key=noise,
        carry=replay_buffer(fill, buffer, (2,), box=box).astype(FLOAT),
        ema=0.99,
        run=Run(chunk=500),
    ).checked()
    learned = jax.jit(lambda x: energy(done.ema, x))
    return learned, done.carry, agreement(learned, toy, judge)
