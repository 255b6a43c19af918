"""The classifier behind the features: it learns, is saved, and sees bytes and numbers alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit.learn import checkpoint
from jaxkit.learn import data as datasets
from jaxkit.learn.metrics import features


@pytest.fixture(scope="module")
def stripes():
    """Bars across or along: two classes that are learned in a moment."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    x = np.where(y[:, None, None] == 1, np.arange(8)[:, None] % 4 < 2, np.arange(8)[None, :] % 4 < 2)
    x = np.clip(200 * x + rng.integers(0, 55, (200, 8, 8)), 0, 255).astype(np.uint8)[..., None]
    data = datasets.Images(jnp.asarray(x), jnp.asarray(y, jnp.int32), "stripes")
    part = lambda rows: datasets.Images(data.x[rows], data.y[rows], "stripes")
    return part(slice(0, 150)), part(slice(150, None))


@pytest.fixture(scope="module")
def eyes(stripes):
    return features.train(*stripes, epochs=6, batch_size=32)


def test_it_learns(eyes, stripes):
    seen, done = eyes
    assert bool(done.ok)
    assert seen.accuracy == 1.0
    assert float(done.history[-1]) < 0.2 * float(done.history[0])
    np.testing.assert_array_equal(seen.classify(stripes[1].x), stripes[1].y)
    assert "accuracy 100.00 %" in str(seen)
    assert seen.digest in str(seen)


def test_bytes_and_numbers_are_seen_alike(eyes, stripes):
    seen, x = eyes[0], stripes[1].x
    found = seen(x)
    assert found.dtype == np.float64
    assert found.shape == (50, 128)
    np.testing.assert_array_equal(seen(datasets.scaled(x)), found)
    np.testing.assert_array_equal(seen(datasets.scaled(x, jnp.float64) + 1e-4), found)
    with pytest.raises(ValueError, match=r"`x` must have shape \(n, 8, 8, 1\)"):
        seen(x[:, :4])


def test_saved_and_loaded(eyes, stripes, tmp_path):
    seen, path = eyes[0], tmp_path / "eyes.safetensors"
    features.save(path, seen)
    back = features.load(path)
    assert (back.accuracy, back.digest, back.name, back.shape) == (1.0, seen.digest, "stripes", (8, 8, 1))
    assert features.weights_digest(back.params) == seen.digest
    np.testing.assert_array_equal(back(stripes[1].x), seen(stripes[1].x))
    assert features.weights_digest(jax.tree.map(lambda v: v + 1, seen.params)) != seen.digest
    checkpoint.write(path, {"w": jnp.zeros(2)})
    with pytest.raises(checkpoint.CheckpointError, match="does not hold features"):
        features.load(path)
