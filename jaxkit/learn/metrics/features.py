"""Features of pictures from a small classifier of our own, by which generated pictures are judged.

Distances between sets of pictures are comparable only on the same features. A `Features` therefore carries the accuracy
of its classifier on the test split and a digest of its weights; print both beside every distance.
"""

import functools
import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from jaxkit.core import checks
from jaxkit.core.run import Run
from jaxkit.core.struct import static, struct
from jaxkit.learn import checkpoint
from jaxkit.learn.batches import minibatches
from jaxkit.learn.data.images import Images, pixels, scaled
from jaxkit.learn.fit import Fit, fit
from jaxkit.learn.nets.layers import Conv
from jaxkit.learn.nets.mlp import Dense
from jaxkit.learn.nets.plain import plain


class Classifier(nn.Module):
    """A small LeNet: two strided convolutions, one dense layer of features, one of logits.

    Strides in place of pooling make a step much cheaper on a CPU.

    Attributes:
        classes: Number of classes.
        channels: Channels of the two convolutions.
        width: Number of features.
    """

    classes: int = 10
    channels: tuple[int, int] = (32, 64)
    width: int = 128

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> tuple[Float[Array, "n width"], Float[Array, "n classes"]]:
        """Features and logits of pictures."""
        for i, (channels, window) in enumerate(zip(self.channels, (4, 3), strict=True)):
            x = nn.relu(Conv(channels, window, stride=2, name=f"conv{i}")(x))
        features = nn.relu(Dense(self.width, name="features")(x.reshape(x.shape[0], -1)))
        return features, Dense(self.classes, name="logits")(features)


@struct
class Features:
    """A trained classifier whose penultimate layer gives the features.

    Attributes:
        params: Its weights.
        shape: Shape `(h, w, c)` of the pictures.
        classes: Number of classes.
        name: Name of the data set.
        accuracy: Share of the test split that it classifies correctly.
        digest: First digits of the SHA-256 of the weights.
    """

    params: PyTree
    shape: tuple[int, int, int] = static(default=(28, 28, 1))
    classes: int = static(default=10)
    name: str = static(default="images")
    accuracy: float = static(default=float("nan"))
    digest: str = static(default="")

    def __call__(self, x: Array, *, batch: int = 500) -> np.ndarray:
        """Features, shape `(n, 128)`, float64 on the host: distances are computed in double precision.

        Args:
            x: Pictures, shape `(n, *shape)`: bytes, or numbers from -1 to 1, which are rounded to bytes first, so that
                generated and real pictures are seen alike.
            batch: Pictures at a time.
        """
        return self._both(x, batch)[0]

    def classify(self, x: Array, *, batch: int = 500) -> np.ndarray:
        """Most probable classes, shape `(n,)`."""
        return np.argmax(self._both(x, batch)[1], axis=1)

    def __str__(self) -> str:
        """One phrase to print beside distances."""
        return f"features of {self.name} (accuracy {100 * self.accuracy:.2f} %, weights {self.digest})"

    def _both(self, x: Array, batch: int) -> tuple[np.ndarray, np.ndarray]:
        x = jnp.asarray(x)
        checks.require(x.shape[1:] == self.shape, "x", f"have shape (n, {str(self.shape)[1:]}", f"has {x.shape}")
        x = x if x.dtype == jnp.uint8 else pixels(x)
        padded = jnp.concatenate([x, jnp.zeros((-len(x) % batch, *self.shape), jnp.uint8)])
        parts = [_see(self.params, part, self.classes) for part in padded.reshape(-1, batch, *self.shape)]
        features, logits = (np.concatenate([np.asarray(p[i], np.float64) for p in parts])[: len(x)] for i in range(2))
        return features, logits


def train(
    data: Images,
    test: Images,
    *,
    epochs: float = 3,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    shift: int = 0,
    key: PRNGKeyArray | None = None,
    run: Run | None = None,
) -> tuple[Features, Fit]:
    """Train the classifier on labelled pictures with Adam and a cosine schedule to zero.

    Args:
        data: Training split.
        test: Test split, on which the accuracy is measured.
        epochs: Passes through the training split.
        batch_size: Pictures per step.
        learning_rate: Learning rate at the first step.
        shift: Shift each batch by up to this many pixels along both axes, cyclically (an even background hides that).
        key: Random key of the weights and the order; `jax.random.key(0)` if None.
        run: What the host does meanwhile.

    Returns:
        The features, and the fit that led to them.

    Example:
        >>> from jaxkit.learn import data as datasets
        >>> from jaxkit.learn.metrics import features
        >>> digits, test = datasets.load("digits"), datasets.load("digits", "test")
        >>> eyes, _ = features.train(digits, test, epochs=5, batch_size=64)
        >>> eyes.accuracy > 0.85, eyes(test.x).shape
        (True, (360, 128))
    """
    checks.require(data.x.shape[1:] == test.x.shape[1:], "test", f"hold pictures {data.x.shape[1:]}", "does not")
    first, second, third = jax.random.split(jax.random.key(0) if key is None else key, 3)
    classes = int(jnp.max(data.y)) + 1
    net = plain(Classifier(classes), jax.ShapeDtypeStruct((1, *data.x.shape[1:]), jnp.float32))
    steps = max(1, round(epochs * len(data) / batch_size))

    def loss(params: PyTree, rows: Images, key: Array) -> Array:
        by = jax.random.randint(key, (2,), -shift, shift + 1)
        x = jnp.roll(rows.x, by, (1, 2)) if shift else rows.x
        _, logits = net.apply(params, scaled(x))
        labels = jax.nn.one_hot(rows.y, classes, dtype=logits.dtype)
        return -jnp.mean(jnp.sum(labels * jax.nn.log_softmax(logits), axis=1))

    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    batches = minibatches(data, batch_size, second)
    done = fit(loss, net.init(first), batches, optimizer=optimizer, steps=steps, key=third, run=run)
    height, width, colours = map(int, data.x.shape[1:])
    shape = (height, width, colours)
    found = Features(done.params, shape, classes, data.name)
    accuracy = float(np.mean(found.classify(test.x) == np.asarray(test.y)))
    return Features(done.params, shape, classes, data.name, accuracy, weights_digest(done.params)), done


def save(path: str | Path, features: Features) -> Path:
    """Write features to one file (safetensors with its own checksum)."""
    meta = {"shape": list(features.shape), "classes": features.classes, "name": features.name}
    meta |= {"accuracy": features.accuracy, "digest": features.digest}
    return checkpoint.write(path, features.params, meta=meta)


def load(path: str | Path) -> Features:
    """Read features that `save` wrote.

    Raises:
        CheckpointError: The file is damaged, or is not of this kind.
    """
    meta = checkpoint.meta(path)
    if not {"shape", "classes", "name", "accuracy", "digest"} <= set(meta):
        raise checkpoint.CheckpointError(f"The file {path} does not hold features.")
    shape = tuple(meta["shape"])
    net = plain(Classifier(meta["classes"]), jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    params = checkpoint.read(path, jax.eval_shape(net.init, jax.random.key(0)))
    return Features(params, shape, meta["classes"], meta["name"], meta["accuracy"], meta["digest"])


def weights_digest(params: PyTree) -> str:
    """First twelve hexadecimal digits of the SHA-256 of all weights, in the order of their names."""
    total = hashlib.sha256()
    for path, leaf in sorted(jax.tree.leaves_with_path(params), key=lambda pair: jax.tree_util.keystr(pair[0])):
        total.update(jax.tree_util.keystr(path).encode())
        total.update(np.asarray(leaf).tobytes())
    return total.hexdigest()[:12]


@functools.partial(jax.jit, static_argnames="classes")
def _see(params: PyTree, x: Int[Array, "n h w c"], classes: int) -> Any:
    return Classifier(classes).apply({"params": params}, scaled(x))
