"""Images: bytes in, bytes out, on one device and on several; figures; modes found (slow)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit import gan, models
from jaxkit.learn import metrics
from jaxkit.report.figures import save

TINY = dataclasses.replace(
    gan.IMAGES, steps=3, batch_size=8, latent=4, generator_channels=(8,), critic_channels=(4, 8), blocks=(1, 0), ema=0.5
)


def pictures():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (40, 6, 6, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def trained():
    return gan.train(TINY, pictures(), key=jax.random.key(0)).checked()


def test_bytes_in_bytes_out(trained):
    samples = trained.model.sample(jax.random.key(1), 7)
    assert samples.shape == (7, 6, 6, 1)
    assert samples.dtype == jnp.uint8
    assert all(v.dtype == jnp.float32 for v in jax.tree.leaves(trained.model))
    assert trained.model.score(pictures()[:5]).shape == (5,)


def test_pictures_of_numbers_from_0_to_255_play_the_same_game(trained):
    """The generator's [-1, 1] is no unit of the data: their range is brought to it, and back."""
    floats = gan.train(TINY, pictures().astype(np.float32), key=jax.random.key(0)).checked()
    np.testing.assert_allclose(floats.history["critic"], trained.history["critic"], rtol=1e-4)
    made, bytes_made = (np.asarray(done.model.sample(jax.random.key(1), 7), float) for done in (floats, trained))
    assert np.max(np.abs(np.clip(made, 0, 255) - bytes_made)) < 1


def test_several_devices_play_the_same_game(trained):
    devices = jax.devices()[:2]
    if len(devices) < 2:
        pytest.skip("one device only")
    spread = gan.train(TINY, pictures(), key=jax.random.key(0), run=jk.Run(devices=devices)).checked()
    np.testing.assert_allclose(spread.history["critic"], trained.history["critic"], rtol=1e-4)
    np.testing.assert_allclose(spread.history["generator"], trained.history["generator"], rtol=1e-4)


def test_figures(trained, tmp_path):
    ways = trained.model.interpolate(jax.random.key(2), rows=2, points=3)
    assert ways.shape == (2, 3, 6, 6, 1)
    plots = {
        "images": gan.plot_images(trained.model.sample(jax.random.key(1), 20)),
        "ways": gan.plot_interpolation(ways),
        "losses": gan.plot_history(trained, span=2),
    }
    assert plots["losses"].get_xlabel() == "step"
    for name, axes in plots.items():
        assert save(axes.figure, tmp_path / f"{name}.png").stat().st_size > 2000


@pytest.mark.slow
def test_the_plane_and_the_smallest_game_are_drawn(tmp_path):
    law = models.plane_law("ring8")
    config = gan.Config(steps=5, batch_size=32, width=8, depth=1)
    done = gan.train(config, law.sample, key=jax.random.key(0))
    plots = {
        "points": gan.plot_points(done.model.sample(jax.random.key(1), 500), box=law.box),
        "critic": gan.plot_critic(done.model, box=law.box),
        "dirac": gan.plot_dirac(0.3),
    }
    assert plots["dirac"].get_title() == "R1 x 0.3: stable focus"
    for name, axes in plots.items():
        assert axes.get_xlabel()
        assert save(axes.figure, tmp_path / f"{name}.png").stat().st_size > 12_000


@pytest.mark.slow
def test_all_modes_of_the_ring_are_found():
    law = models.plane_law("ring8")
    sample = lambda key, n: law.sample(key, n, "float32")
    done = gan.train(gan.Config(steps=2500), sample, key=jax.random.key(0)).checked()
    found = metrics.modes(done.model.sample(jax.random.key(1), 2500), law.centers, law.width)
    assert found.found == 8
    assert found.good > 0.5
    # Without a penalty the same budget gives far fewer good samples (they follow the game's circles).
    config = dataclasses.replace(done.model.config, penalty="none")
    bare = gan.train(config, sample, key=jax.random.key(0))
    other = metrics.modes(bare.model.sample(jax.random.key(1), 2500), law.centers, law.width)
    assert other.good < found.good
