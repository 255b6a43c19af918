"""Training a denoiser: the `train` verb of the subject."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from jaxkit.core import checks
from jaxkit.core.run import Run
from jaxkit.core.status import Outcome
from jaxkit.core.struct import struct
from jaxkit.learn.batches import minibatches
from jaxkit.learn.fit import fit
from jaxkit.learn.nets import Net
from jaxkit.score import losses, nets
from jaxkit.score.model import Model

KINDS = ("denoiser", "energy", "mdsm")
POINTS: dict[str, Any] = {"steps": 3000, "batch": 256, "ema": 0.999, "levels": (0.1, 3.0)}
# What reached the distances of `benchmarks/score_images.py` on Fashion-MNIST, each in under 15 minutes of two cores.
PICTURES: dict[str, Any] = {"widths": (64, 96), "steps": 10_000, "batch": 64, "ema": 0.999, "levels": (0.1, 3.0)}
MDSM: dict[str, Any] = {"widths": (48, 64), "steps": 5000, "batch": 64, "ema": 0.998, "levels": (0.05, 12.0)}


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

    model: Model
    history: Float[Array, " steps"]
    status: Int[Array, ""]
    steps: Int[Array, ""]


def train(
    data: Any,
    key: Array,
    *,
    kind: str = "denoiser",
    net: Net | None = None,
    steps: int | None = None,
    batch: int | None = None,
    rate: float | optax.Schedule = 2e-3,
    ema: float | None = None,
    center: float = -1.2,
    width: float = 1.2,
    levels: tuple[float, float] | None = None,
    run: Run | None = None,
) -> Trained:
    """Train a denoiser on data.

    Args:
        data: Points, shape `(n, d)`, or images, shape `(n, height, width, channels)`; bytes are read as [-1, 1].
        key: Random key.
        kind: `"denoiser"` (EDM); `"energy"`, the same with a curl-free score that has a log density at every noise
            level; `"mdsm"`, one energy for all noise levels (see `losses.mdsm` for what it learns).
        net: Network of `(y, level)` behind the denoiser: with an output of `y`'s shape, or one number a datum for
            `"energy"`; a perceptron or a U-Net by default. For images all defaults are the recipe measured in
            `benchmarks/score_images.py`.
        steps: Steps of Adam: 3,000 for points, 10,000 for images (5,000 for `"mdsm"`) by default.
        batch: Data a step: 256 points or 64 images by default.
        rate: Learning rate: for points at the start, from where it falls to zero as a cosine; for images after a rise
            of 100 steps, held until it falls to zero over the last 44 % of the steps; or any schedule of optax.
        ema: Decay of the averaged weights: 0.999 by default, 0.998 for `"mdsm"` on images.
        center: Mean of `ln(sigma / 2 sd)` in training (EDM's -1.2 is stated for data of standard deviation 1/2).
        width: Standard deviation of `ln sigma`.
        levels: For `"mdsm"`: least and largest noise, in units of the data's standard deviation, (0.1, 3) for points
            and (0.05, 12) for images by default; levels cover the batch geometrically.
        run: What the host does meanwhile.

    Returns:
        A `Trained`.

    Raises:
        ValueError: An argument is unusable.

    Example:
        >>> import jax
        >>> from jaxkit import models, score
        >>> x = models.ring(8).sample(jax.random.key(0), 2000)
        >>> done = score.train(x, jax.random.key(1), steps=20, batch=64).checked()
        >>> score.sample(done.model, jax.random.key(2), 5).x.shape
        (5, 2)

    References:
        Karras et al. (2022), for the denoiser; Su, kexue.fm/archives/7038, for the energies.
    """
    data, mean, variance, network = _facts(data, kind, net)
    shape, dtype, sd = data.shape[1:], to_unit(data[:1]).dtype, float(np.sqrt(np.mean(variance)))
    recipe = _recipe(kind, shape)
    apply, loss = _job(kind, network, float(np.mean(mean)), sd, (center, width, levels or recipe["levels"]))
    first, pick, noise = jax.random.split(key, 3)
    points = data.ndim == 2
    count = recipe["steps"] if steps is None else steps
    size = recipe["batch"] if batch is None else batch
    decay = recipe["ema"] if ema is None else ema
    schedule = rate if callable(rate) else _schedule(rate, count, images=not points)
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(schedule, b2=0.99))
    done = fit(
        loss,
        network.init(first),
        minibatches(data, min(size, data.shape[0]), pick),
        optimizer=optimizer,
        steps=count,
        key=noise,
        ema=min(decay, 1 - 5 / (count + 5)),
        run=run,
    )
    model = Model(done.ema, jnp.asarray(mean, dtype), jnp.asarray(variance, dtype), apply, shape)
    return Trained(model, done.history, done.status, done.steps)


def untrained(data: Any, key: Array, *, kind: str = "denoiser", net: Net | None = None) -> Model:
    """The model that `train` starts from: what `score.load` reads the weights of a trained one into.

    Args:
        data: The data of the training, whose moments belong to the denoiser.
        key: Random key of the weights.
        kind: As for `train`, like the next.
        net: Network behind the denoiser.

    Example:
        >>> import jax
        >>> from jaxkit import models, score
        >>> x = models.ring(8).sample(jax.random.key(0), 100)
        >>> score.untrained(x, jax.random.key(1)).denoise(x, 0.5).shape
        (100, 2)
    """
    data, mean, variance, network = _facts(data, kind, net)
    dtype, sd = to_unit(data[:1]).dtype, float(np.sqrt(np.mean(variance)))
    apply, _ = _job(kind, network, float(np.mean(mean)), sd, (0.0, 1.0, (0.1, 1.0)))
    return Model(network.init(key), jnp.asarray(mean, dtype), jnp.asarray(variance, dtype), apply, data.shape[1:])


def _facts(data: Any, kind: str, net: Net | None) -> tuple[Array, np.ndarray, np.ndarray, Net]:
    """The data as an array, their moments, and the network."""
    checks.one_of("kind", kind, KINDS)
    data = jnp.asarray(data)
    checks.require(data.ndim in (2, 4), "data", "be points (n, d) or images (n, h, w, c)", f"has shape {data.shape}")
    mean, variance = _moments(data)
    return data, mean, variance, _default(kind, data.shape[1:], to_unit(data[:1]).dtype) if net is None else net


def _recipe(kind: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return POINTS if len(shape) == 1 else MDSM if kind == "mdsm" else PICTURES


def to_unit(data: Array) -> Array:
    """Bytes as numbers in [-1, 1], in single precision; anything else as it is."""
    return data.astype(jnp.float32) / 127.5 - 1 if data.dtype == jnp.uint8 else data


def _schedule(rate: float, steps: int, *, images: bool) -> optax.Schedule:
    if not images:
        return optax.cosine_decay_schedule(rate, max(steps, 1))
    rise, fall = min(100, max(steps // 5, 1)), max(0.44 * steps, 1.0)
    return lambda i: rate * jnp.minimum((i + 1) / rise, jnp.clip((steps - i) / fall, 0.02, 1.0))


def _moments(data: Array) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each coordinate of points; of all pixels together for images, whose corners never vary."""
    part = np.asarray(data[: 200_000 if data.ndim == 2 else 10_000], np.float64)
    if data.dtype == jnp.uint8:
        part = part / 127.5 - 1
    axis = 0 if data.ndim == 2 else None
    return part.mean(axis), part.var(axis)


def _default(kind: str, shape: tuple[int, ...], dtype: Any) -> Net:
    if len(shape) == 3:
        checks.require(kind != "energy", "net", "be given for a noise-conditional energy of images", "is None")
        return nets.image_net(shape, _recipe(kind, shape)["widths"], dtype=dtype)
    return (nets.scalar_net if kind == "energy" else nets.point_net)(shape[0], dtype=dtype)


def _job(
    kind: str, net: Net, mean: float, sd: float, noise: tuple[float, float, tuple[float, float]]
) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """The denoiser and its loss."""
    center, width, (low, high) = noise
    if kind == "mdsm":
        energy = nets.Distance(net, mean, sd)

        def mdsm(params: Any, batch: Array, key: Array) -> Array:
            x = to_unit(batch)
            share = jnp.linspace(0.0, 1.0, x.shape[0], dtype=x.dtype)  # every batch covers the whole range
            return losses.mdsm(energy, params, x, sd * low * (high / low) ** share, key, sd=sd)

        return nets.Blind(energy), mdsm
    apply = (nets.Preconditioned if kind == "denoiser" else nets.Conservative)(net, mean, sd)

    def edm(params: Any, batch: Array, key: Array) -> Array:
        x, (level, normal) = to_unit(batch), jax.random.split(key)
        sigma = 2 * sd * jnp.exp(center + width * jax.random.normal(level, x.shape[:1], x.dtype))
        denoise = lambda y, sigma: apply(params, y, sigma)
        return losses.edm(denoise, x, sigma, normal, sd=sd) / x[0].size

    return apply, edm
