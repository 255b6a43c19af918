"""Training: two players, each with its own loss, moved in turn by `jaxkit.play`."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxkit.core import checks
from jaxkit.core.run import Run
from jaxkit.core.status import Outcome
from jaxkit.core.struct import static, struct
from jaxkit.gan import losses, nets, penalties
from jaxkit.gan.config import Config
from jaxkit.gan.model import GAN
from jaxkit.learn import scale
from jaxkit.learn.batches import stream
from jaxkit.learn.data.images import scaled
from jaxkit.learn.gradients import value_and_half_square_gradient
from jaxkit.learn.play import play
from jaxkit.learn.units import Inside, drawn


@struct
class Trained(Outcome):
    """A trained pair and how it was reached.

    Attributes:
        model: The averaged generator and the critic.
        players: Parameters of both after the last step (those of the generator without averaging).
        opt_states: States of both optimizers.
        history: Loss of each player, shape `(steps,)`.
        metrics: Metrics of each player: for the critic, the penalty and the gap `E T(real) - E T(fake)`.
        status: `Status` code.
        steps: Steps taken.
    """

    verb: ClassVar[str] = "gan.train"

    model: GAN
    players: dict[str, Any]
    opt_states: dict[str, Any]
    history: dict[str, Float[Array, "... steps"]]
    metrics: dict[str, dict[str, Array]]
    status: Int[Array, "..."]
    steps: Int[Array, "..."]


@struct
class _Stream:
    """Batch `j` of a run: real samples, and the progress of the run (0 to 1)."""

    real: Any
    updates: int = static()
    steps: int = static()

    def __call__(self, j: Array) -> dict[str, Array]:
        return {"real": self.real(j), "progress": (j // self.updates).astype(jnp.float32) / self.steps}


def train(
    config: Config,
    data: Any,
    *,
    key: Array,
    run: Run | None = None,
) -> Trained:
    """Train a generator against a critic.

    Args:
        config: The run.
        data: Samples, shape `(N, size)` (points) or `(N, height, width, channels)` (images; bytes stay bytes on the
            device); or a function `(key, n) -> samples` that draws new ones. Any units will do: each coordinate of
            points is centred and scaled by itself, images that are not bytes are scaled to [-1, 1] by their range, and
            the model carries these units.
        key: Random key of the initial parameters, the noise and the batches.
        run: What the host does meanwhile; chunks of 500 steps by default.

    Returns:
        A `Trained`; `vmap` over `key` works. A failed run does not raise: call `.checked()`, or look at `.status`.

    Raises:
        ValueError: The data do not fit.

    Example:
        >>> import jax, jaxkit as jk
        >>> config = jk.gan.Config(steps=200, batch_size=64, width=16)
        >>> ring = jk.models.plane_law("ring8")
        >>> trained = jk.gan.train(config, ring.sample, key=jax.random.key(0)).checked()
        >>> trained.model.sample(jax.random.key(1), 1000).shape
        (1000, 2)

    References:
        Su, kexue.fm/archives/6110 and 6316; Huang et al. (2024), The GAN is dead; long live the GAN!
    """
    first, noise, draws, order = jax.random.split(key, 4)
    data = data if callable(data) else _checked(data)
    units = drawn(data, jax.random.fold_in(draws, 1), pictures_by_range=True)
    real = stream(data, config.batch_size, draws if callable(data) else order)
    example = jax.eval_shape(real, 0)
    shape, dtype = example.shape[1:], example.dtype
    generator, critic = nets.networks(config, shape)
    floats = jnp.float32 if dtype == jnp.uint8 else dtype
    start = {
        "generator": generator.init(jax.random.fold_in(first, 0)),
        "critic": critic.init(jax.random.fold_in(first, 1)),
    }
    start = jax.tree.map(lambda v: v.astype(floats), start)
    done = play(
        two_losses(config, shape),
        {name: start[name] for name in ("critic", "generator")},
        _Stream(Inside(real, units), config.critic_steps + 1, config.steps),
        optimizers={name: _adam(config, config.critic_steps if name == "critic" else 1) for name in start},
        steps=config.steps,
        key=noise,
        turns={"critic": config.critic_steps},
        ema={"generator": config.decay},
        run=Run(chunk=500) if run is None else run,
    )
    model = GAN(done.ema["generator"], done.players["critic"], config, shape, bool(dtype == jnp.uint8), units)
    return Trained(model, done.players, done.opt_states, done.history, done.metrics, done.status, done.steps)


def two_losses(config: Config, shape: tuple[int, ...]) -> dict[str, Callable[..., Any]]:
    """The losses of both players as `jaxkit.play` takes them: `loss(players, batch, key)`."""
    generator, critic = nets.networks(config, shape)
    pair, penalty = config.the_loss, config.the_penalty
    begin, end = config.weights

    def fakes(players: dict, key: Array, real: Array) -> Array:
        z = scale.shard_batch(nets.noise(config, key, len(real), real.dtype))
        return generator.apply(players["generator"], z)

    def criticise(players: dict, batch: dict, key: Array) -> tuple[Array, dict[str, Array]]:
        z_key, between = jax.random.split(key)
        real = scaled(batch["real"])
        fake = jax.lax.stop_gradient(fakes(players, z_key, real))
        r, f, paid = judge(penalty, critic.apply, players["critic"], real, fake, between, nets.gradient_mode(shape))
        extra = {"distance": losses.distances(real, fake)} if pair.distance else {}
        weight = end + (begin - end) * 0.5 * (1 + jnp.cos(jnp.pi * batch["progress"]))
        loss = pair.critic(r, f, **extra) + weight.astype(r.dtype) * paid
        return loss, {"penalty": paid, "gap": jnp.mean(r) - jnp.mean(f)}

    def fool(players: dict, batch: dict, key: Array) -> Array:
        real = scaled(batch["real"])
        f = critic.apply(players["critic"], fakes(players, key, real))
        return pair.generator(critic.apply(players["critic"], real), f)

    return {"critic": criticise, "generator": fool}


def judge(
    penalty: penalties.Penalty,
    critic: penalties.Critic,
    params: Any,
    real: Array,
    fake: Array,
    key: Array | None = None,
    mode: str = "forward",
) -> tuple[Array, Array, Array]:
    """The critic on real and fake samples, and the penalty.

    One pass of the critic goes over both, and also serves the penalty if that is taken at these samples.

    Returns:
        `(r, f, penalty)`: shapes `(batch,)`, `(batch,)`, `()`.
    """
    with_gradient = lambda x: value_and_half_square_gradient(critic, params, x, mode=mode)
    if penalty.at == "both":
        values, half = with_gradient(jnp.concatenate([real, fake]))
        return values[: len(real)], values[len(real) :], 2 * jnp.mean(penalty.price(half))
    if penalty.at == "between" or penalty.name == "none":
        values = critic(params, jnp.concatenate([real, fake]))
        paid = penalties.penalise(penalty, critic, params, real, fake, key=key, mode=mode)
        return values[: len(real)], values[len(real) :], paid
    at, other = (real, fake) if penalty.at == "real" else (fake, real)
    values, half = with_gradient(at)
    both = (values, critic(params, other))
    r, f = both if penalty.at == "real" else both[::-1]
    return r, f, jnp.mean(penalty.price(half))


def _adam(config: Config, updates: int) -> optax.GradientTransformation:
    begin, end = config.learning_rate
    rate = optax.cosine_decay_schedule(begin, config.steps * updates, alpha=end / begin)
    return optax.adam(rate, b1=config.betas[0], b2=config.betas[1])


def _checked(data: Any) -> Array:
    data = jnp.asarray(data)
    fits = data.ndim in (2, 4)
    checks.require(fits, "data", "have shape (N, size) or (N, height, width, channels)", f"has {data.shape}")
    if data.dtype != jnp.uint8:
        checks.finite("data", data)
    return data
