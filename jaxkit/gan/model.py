"""A trained generator with its critic: samples, interpolation, files."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxkit.core import checks
from jaxkit.core.struct import static, struct
from jaxkit.gan import nets
from jaxkit.gan.config import Config

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


def save(model: Model, folder: str | Path) -> Path:
    """Write a model: one file with its parameters and a checksum, its configuration inside.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    meta = {"config": dataclasses.asdict(model.config), "shape": model.shape, "bits": model.bits}
    tree = {"generator": model.generator, "critic": model.critic}
    from jaxkit.learn import checkpoint

    checkpoint.save(folder / "model.safetensors", tree, meta={"gan": json.dumps(meta)})
    (folder / "config.json").write_text(json.dumps(meta, indent=1) + "\n")
    return folder


def load(folder: str | Path) -> Model:
    """Read a model that `save` wrote.

    Raises:
        FileNotFoundError: There is none.
        ValueError: A file is damaged, or does not fit.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"Argument `folder` must hold a model that `gan.save` wrote, but {path} is not there.")
    meta = json.loads(path.read_text())
    config, shape = Config(**meta["config"]), tuple(meta["shape"])
    networks = nets.networks(config, shape)
    like = jax.eval_shape(lambda k: tuple(n.init(k) for n in networks), jax.random.key(0))
    from jaxkit.learn import checkpoint

    tree = checkpoint.load(Path(folder) / "model.safetensors", {"generator": like[0], "critic": like[1]})
    return Model(tree["generator"], tree["critic"], config, shape, meta["bits"])
