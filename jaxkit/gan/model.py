"""A trained generator with its critic: samples, interpolation, files."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxkit.core import checks
from jaxkit.core.struct import static, struct
from jaxkit.gan import nets
from jaxkit.gan.config import Config
from jaxkit.learn import checkpoint

BLOCK = 500
"""Samples made at once: what stays in the caches."""


@struct
class Model:
    """A generator and its critic.

    Attributes:
        generator: Parameters of the generator (the averaged ones).
        critic: Parameters of the critic.
        config: The run that made it.
        shape: Shape of a sample.
        bits: Whether samples are bytes 0..255 (images), else floating.
    """

    generator: Any
    critic: Any
    config: Config = static()
    shape: tuple[int, ...] = static()
    bits: bool = static()

    def __call__(self, z: Float[Array, "n latent"]) -> Float[Array, "n ..."]:
        """The generator: noise to samples in the critic's units."""
        return nets.networks(self.config, self.shape)[0].apply(self.generator, z)

    def score(self, x: Array) -> Float[Array, " n"]:
        """The critic's opinion of samples, shape `(n, ...)` (bytes, or the critic's units)."""
        return nets.networks(self.config, self.shape)[1].apply(self.critic, nets.decode(x))


def generate(model: Model, key: Array, n: int) -> Array:
    """Draw samples.

    Args:
        model: A trained model.
        key: Random key.
        n: How many.

    Returns:
        Shape `(n, ...)`: bytes for a model of images, else floating.
    """
    checks.require(n > 0, "n", "be positive", f"is {n}")
    blocks = -(-n // BLOCK)
    samples = _generate(model, key, blocks, min(n, BLOCK))
    return samples.reshape(-1, *model.shape)[:n]


@functools.partial(jax.jit, static_argnums=(2, 3))
def _generate(model: Model, key: Array, blocks: int, size: int) -> Array:
    dtype = jax.tree.leaves(model.generator)[0].dtype
    keys = jax.random.split(key, blocks)
    return jax.lax.map(lambda k: nets.encode(model(nets.noise(model.config, k, size, dtype)), model.bits), keys)


def interpolate(model: Model, key: Array, rows: int = 6, points: int = 9) -> Array:
    """Samples along ways between pairs of noise: straight ones, for normal noise on the sphere.

    Args:
        model: A trained model.
        key: Random key of the ends.
        rows: Ways.
        points: Points on each, the ends among them.

    Returns:
        Shape `(rows, points, ...)`.

    References:
        White (2016), Sampling generative networks (the spherical way).
    """
    dtype = jax.tree.leaves(model.generator)[0].dtype
    a, b = (nets.noise(model.config, k, rows, dtype)[:, None] for k in jax.random.split(key))
    t = jnp.linspace(0, 1, points, dtype=dtype)[None, :, None]
    if model.config.prior == "normal":
        unit = lambda v: v / jnp.linalg.norm(v, axis=-1, keepdims=True)
        angle = jnp.arccos(jnp.clip(jnp.sum(unit(a) * unit(b), axis=-1, keepdims=True), -1, 1))
        z = (jnp.sin((1 - t) * angle) * a + jnp.sin(t * angle) * b) / jnp.sin(angle)
    else:
        z = (1 - t) * a + t * b
    x = nets.encode(model(z.reshape(rows * points, -1)), model.bits)
    return x.reshape(rows, points, *model.shape)


def save(model: Model, path: str | Path) -> Path:
    """Write a model: one file with its parameters, a checksum, and the configuration inside.

    Returns:
        The file.
    """
    meta = {"config": dataclasses.asdict(model.config), "shape": list(model.shape), "bits": model.bits}
    meta["dtype"] = jax.tree.leaves(model.generator)[0].dtype.name
    return checkpoint.write(path, {"generator": model.generator, "critic": model.critic}, meta={"gan": meta})


def load(path: str | Path) -> Model:
    """Read a model that `save` wrote.

    Raises:
        FileNotFoundError: There is none.
        CheckpointError: The file is damaged, or is not of a model (see `jaxkit.learn.checkpoint`).
    """
    meta = checkpoint.meta(path).get("gan") or {}
    checks.require(bool(meta), "path", "be a model that `gan.save` wrote", f"is {str(path)!r}, which is not")
    config, shape = Config(**meta["config"]), tuple(meta["shape"])
    parts = zip(("generator", "critic"), nets.networks(config, shape), strict=True)
    init = lambda net: jax.tree.map(lambda v: v.astype(meta["dtype"]), net.init(jax.random.key(0)))
    like = {name: jax.eval_shape(lambda net=net: init(net)) for name, net in parts}
    tree = checkpoint.read(path, like)
    return Model(tree["generator"], tree["critic"], config, shape, meta["bits"])
