"""Training a denoiser: the `train` verb of the subject."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxkit.core import checks
from jaxkit.core.run import Run
from jaxkit.core.status import Outcome
from jaxkit.core.struct import struct
from jaxkit.learn.batches import minibatches
from jaxkit.learn.data.images import scaled
from jaxkit.learn.fit import fit
from jaxkit.learn.nets import Net, plain
from jaxkit.learn.units import Inside, standard
from jaxkit.score import losses, nets
from jaxkit.score.config import Config
from jaxkit.score.model import Denoiser


@struct
class Trained(Outcome):
    """A trained denoiser and how it was reached.

    Attributes:
        model: The model, with averaged weights.
        history: Loss before each step, shape `(steps,)`.
        status: `Status` code.
        steps: Steps that moved the weights.
    """

    verb: ClassVar[str] = "score.train"

    model: Denoiser
    history: Float[Array, " steps"]
    status: Int[Array, ""]
    steps: Int[Array, ""]


def train(config: Config, data: Any, *, key: Array, run: Run | None = None) -> Trained:
    """Train a denoiser on data.

    Args:
        config: The run.
        data: Points, shape `(n, d)`, in any units: each coordinate is centred and scaled by itself; or images, shape
            `(n, height, width, channels)`, with one scale for all pixels; bytes are read as [-1, 1].
        key: Random key.
        run: What the host does meanwhile.

    Returns:
        A `Trained`.

    Raises:
        ValueError: The data do not fit.

    Example:
        >>> import jax, jaxkit as jk
        >>> x = jk.models.ring(8).sample(jax.random.key(0), 2000)
        >>> done = jk.score.train(jk.score.Config(steps=20, batch_size=64), x, key=jax.random.key(1)).checked()
        >>> done.model.sample(jax.random.key(2), 5).x.shape
        (5, 2)

    References:
        Karras et al. (2022), for the denoiser; Su, kexue.fm/archives/7038, for the energies.
    """
    data = _array(data)
    config = config.filled(data.shape[1:])
    steps, ema = cast(int, config.steps), cast(float, config.ema)
    first, pick, noise = jax.random.split(key, 3)
    start, loss = _start(config, data, first)
    rate = config.learning_rate
    schedule = rate if callable(rate) else _schedule(rate, steps, images=data.ndim == 4)
    done = fit(
        loss,
        start.params,
        Inside(minibatches(data, min(cast(int, config.batch_size), data.shape[0]), pick), start.units),
        optimizer=optax.chain(optax.clip_by_global_norm(10.0), optax.adam(schedule, b2=0.99)),
        steps=steps,
        key=noise,
        ema=min(ema, 1 - 5 / (steps + 5)),
        run=run,
    )
    return Trained(dataclasses.replace(start, params=done.ema), done.history, done.status, done.steps)


def _array(data: Any) -> Array:
    data = jnp.asarray(data)
    checks.require(data.ndim in (2, 4), "data", "be points (n, d) or images (n, h, w, c)", f"has shape {data.shape}")
    return data


def _start(config: Config, data: Array, key: Array) -> tuple[Denoiser, Callable[..., Array]]:
    """The denoiser with fresh weights, and its loss."""
    shape, dtype, units = data.shape[1:], scaled(data[:1]).dtype, standard(data)
    inputs = jax.ShapeDtypeStruct((1, *shape), dtype), jax.ShapeDtypeStruct((1,), dtype)
    net = _default(config, shape, dtype) if config.net is None else plain(config.net, *inputs)
    apply, loss = _job(config, net)
    return Denoiser(net.init(key), units.mean, units.scale**2, apply, shape, units), loss


def _schedule(rate: float, steps: int, *, images: bool) -> optax.Schedule:
    if not images:
        return optax.cosine_decay_schedule(rate, max(steps, 1))
    rise, fall = min(100, max(steps // 5, 1)), max(0.44 * steps, 1.0)
    return lambda i: rate * jnp.minimum((i + 1) / rise, jnp.clip((steps - i) / fall, 0.02, 1.0))


def _default(config: Config, shape: tuple[int, ...], dtype: Any) -> Net:
    if len(shape) == 3:
        checks.require(config.kind != "energy", "net", "be given for a noise-conditional energy of images", "is None")
        return nets.image_net(shape, config.usual(shape)["widths"], dtype=dtype)
    return (nets.scalar_net if config.kind == "energy" else nets.point_net)(shape[0], dtype=dtype)


def _job(config: Config, net: Net) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """The denoiser's function and its loss, for data of mean 0 and standard deviation 1."""
    if config.kind == "mdsm":
        energy, low, high = nets.Distance(net, 0.0, 1.0), cast(float, config.sigma_min), cast(float, config.sigma_max)

        def mdsm(params: Any, x: Array, key: Array) -> Array:
            share = jnp.linspace(0.0, 1.0, x.shape[0], dtype=x.dtype)  # every batch covers the whole range
            return losses.mdsm(energy, params, x, low * (high / low) ** share, key, sd=1.0)

        return nets.Blind(energy), mdsm
    apply = (nets.Preconditioned if config.kind == "denoiser" else nets.Conservative)(net, 0.0, 1.0)

    def edm(params: Any, x: Array, key: Array) -> Array:
        level, normal = jax.random.split(key)
        logs = config.log_sigma_mean + config.log_sigma_sd * jax.random.normal(level, x.shape[:1], x.dtype)
        denoise = lambda y, sigma: apply(params, y, sigma)
        return losses.edm(denoise, x, 2 * jnp.exp(logs), normal, sd=1.0) / x[0].size

    return apply, edm
