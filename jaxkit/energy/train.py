"""Training an energy, against a generator or with a replay buffer: the `train` verb of the subject."""

import functools
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core import checks
from jaxkit.core.run import Run
from jaxkit.core.status import Outcome
from jaxkit.core.struct import static, struct
from jaxkit.energy.config import Config, ReplayConfig
from jaxkit.energy.contrastive import chain_moves, contrastive, replay_buffer
from jaxkit.energy.pits import game
from jaxkit.learn import batches, nets, saving
from jaxkit.learn.fit import fit
from jaxkit.learn.play import play
from jaxkit.learn.units import Inside, Units, drawn

FLOAT = jnp.float32  # nets are trained in single precision, whatever precision is set


@struct
class EnergyModel:
    """A learned energy, and what draws its samples.

    Attributes:
        params: Parameters of the energy (averaged).
        source: Parameters of the generator (averaged); after training with replay, the buffer, shape `(m, size)`.
        config: The run that made it.
        size: Number of coordinates of a point.
        units: Centre and scale of the data that the networks (and the buffer) see.
    """

    params: PyTree
    source: PyTree
    config: Config | ReplayConfig = static()
    size: int = static()
    units: Units = Units()

    def energy(self, x: Float[Array, "n size"]) -> Float[Array, " n"]:
        """The energy of points: minus their log density up to a constant, as far as it was learned."""
        return _energy(self.config, self.size)(self.params, self.units.inside(x).astype(FLOAT))

    def sample(self, key: Array, n: int) -> Float[Array, "n size"]:
        """Draw points: from the generator, or by Langevin steps from states of the replay buffer."""
        return run_kept(_drawn, (n,), (self, key))


def _drawn(n: int, model: EnergyModel, key: Array) -> Float[Array, "n size"]:
    config, size = model.config, model.size
    if isinstance(config, Config):
        z = batches.latent_noise(config.prior, key, n, config.latent, FLOAT)
        return model.units.outside(networks(config, size)[1].apply(model.source, z))
    pick, move = jax.random.split(key)
    start = model.source[jax.random.choice(pick, len(model.source), (n,))]
    return model.units.outside(chain_moves(_energy(config, size), model.params, start, config, move))


@struct
class Trained(Outcome):
    """A trained energy and how it was reached.

    Attributes:
        model: The model, with averaged weights.
        history: Loss of each player before each step (only of the energy, after training with replay).
        metrics: For each player: mean energies at real and fake points; the bound on the information in nats.
        status: `Status` code.
        steps: Steps taken.
    """

    verb: ClassVar[str] = "energy.train"

    model: EnergyModel
    history: dict[str, Float[Array, " steps"]]
    metrics: dict[str, dict[str, Array]]
    status: Int[Array, ""]
    steps: Int[Array, ""]


def train(config: Config | ReplayConfig, data: Any, *, key: Array, run: Run | None = None) -> Trained:
    """Train an energy on points: against a generator, or by Langevin chains with a replay buffer.

    Args:
        config: The run: a `Config` for a game with a generator, a `ReplayConfig` for chains.
        data: Points, shape `(N, size)`, or a function `(key, n) -> points` that draws new ones; in any units, since
            each coordinate is centred and scaled by itself.
        key: Random key.
        run: What the host does meanwhile; chunks of 500 steps by default.

    Returns:
        A `Trained`.

    Raises:
        ValueError: The data are not points.

    Example:
        >>> import jax, jaxkit as jk
        >>> config = jk.energy.Config(steps=20, batch_size=32, width=8)
        >>> done = jk.energy.train(config, jk.models.ring(8).sample, key=jax.random.key(0)).checked()
        >>> x = done.model.sample(jax.random.key(1), 5)
        >>> x.shape, done.model.energy(x).shape
        ((5, 2), (5,))

    References:
        Kumar, Ozair, Goyal, Courville, Bengio (2019), Maximum entropy generators for energy-based models; Su,
        kexue.fm/archives/6331 and 6612; Du and Mordatch (2019).
    """
    seed, draws, noise, fill = jax.random.split(key, 4)
    points = batches.stream(data, config.batch_size, draws)
    shape = jax.eval_shape(points, 0).shape
    checks.require(len(shape) == 2, "data", "be points (N, size)", f"has batches of shape {shape}")
    units = drawn(data, jax.random.fold_in(draws, 1))
    stream, size = Inside(points, units), shape[1]
    real = lambda i: stream(i).astype(FLOAT)
    units = jax.tree.map(lambda v: v.astype(FLOAT), units)
    run = Run(chunk=500) if run is None else run
    if isinstance(config, ReplayConfig):
        return _replay(config, real, size, (seed, noise, fill), run, units)
    losses, players = opening(config, size, seed)
    done = play(
        losses,
        players,
        real,
        optimizers=dict.fromkeys(players, adam(config)),
        ema=dict.fromkeys(players, config.ema),
        steps=config.steps,
        key=noise,
        run=run,
    )
    model = EnergyModel(done.ema["energy"], own_params(config, done.ema["generator"]), config, size, units)
    return Trained(model, done.history, done.metrics, done.status, done.steps)


def _replay(
    config: ReplayConfig, real: Any, size: int, keys: tuple[Array, Array, Array], run: Run, units: Units
) -> Trained:
    seed, noise, fill = keys
    found = fit(
        contrastive(_energy(config, size), config),
        {"net": networks(config, size)[0].init(seed), "log_scale": jnp.asarray(1.0, FLOAT)},
        real,
        optimizer=optax.adam(_falling(config)),
        steps=config.steps,
        key=noise,
        carry=replay_buffer(fill, config.buffer_size, (size,), box=config.box).astype(FLOAT),
        ema=config.ema,
        run=run,
    )
    model = EnergyModel(found.ema, found.carry, config, size, units)
    return Trained(model, {"energy": found.history}, {"energy": found.metrics}, found.status, found.steps)


def opening(config: Config, size: int, key: Array) -> tuple[dict[str, Any], dict[str, Any]]:
    """The losses and the initial players of a game, for `jaxkit.play`."""
    energy, generator, critic = networks(config, size)
    losses = game(energy.apply, generator.apply, config, critic.apply)
    first, second, third = jax.random.split(key, 3)
    own: Any = generator.init(second)
    own = own if config.bound is None else {"net": own, "critic": critic.init(third)}
    return losses, {"energy": energy.init(first), "generator": own}


def own_params(config: Config, player: Any) -> PyTree:
    """The generator's parameters, without those of the bound's critic."""
    return player if config.bound is None else player["net"]


def adam(config: Config) -> optax.GradientTransformation:
    """The optimizer of both players."""
    return optax.adam(_falling(config), b1=config.betas[0], b2=config.betas[1])


def _falling(config: Config | ReplayConfig) -> optax.Schedule:
    begin, end = config.learning_rate
    return optax.cosine_decay_schedule(begin, config.steps, end / begin)


@functools.lru_cache(maxsize=32)
def networks(config: Config | ReplayConfig, size: int) -> tuple[nets.Net, nets.Net, nets.Net]:
    """Energy, generator and critic of pairs (for chains, the energy stands for all three)."""
    x = jax.ShapeDtypeStruct((1, size), FLOAT)
    if isinstance(config, ReplayConfig):
        net = nets.plain(nets.MLP((config.width, config.width, 1), spectral=True, scalar=True), x)
        return net, net, net
    z = jax.ShapeDtypeStruct((1, config.latent), FLOAT)
    inner = (config.width,) * config.depth
    judge = functools.partial(nets.MLP, activation="leaky_relu", scalar=True, frequencies=config.frequencies)
    generator = nets.MLP((*inner, size), activation="relu")
    critic = judge((config.width, config.width, 1))
    return nets.plain(judge((*inner, 1)), x), nets.plain(generator, z), nets.plain(critic, x, z)


@functools.lru_cache(maxsize=32)
def _energy(config: Config | ReplayConfig, size: int) -> Any:
    """The energy as a function of its parameters and points."""
    net = networks(config, size)[0]
    if isinstance(config, Config):
        return lambda params, x: config.the_digging.floor(net.apply(params, x))
    # Kernels of spectral norm 1 alone would keep the energy nearly flat: a learned scale makes it as steep as needed.
    return lambda params, x: jnp.exp(params["log_scale"]) * net.apply(params["net"], x)


def save(path: str | Path, model: EnergyModel) -> Path:
    """Write a model to one file: its parameters, its configuration, and a checksum."""
    return saving.save(path, model)


def load(path: str | Path) -> EnergyModel:
    """Read a model that `save` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is damaged, or holds no such model.
    """
    return saving.load(path, EnergyModel)
