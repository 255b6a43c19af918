"""Training: both players learn, runs repeat bit for bit, seeds vmap; what comes out can be sampled and saved."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit import gan
from jaxkit.gan.train import judge
from jaxkit.learn import checkpoint

SMALL = gan.Config(
    steps=300, batch_size=64, width=32, depth=1, frequencies=(1.0,), learning_rate=(5e-3, 5e-4), ema=0.97
)
MEAN, SPREAD = jnp.array([1.0, -0.5]), 0.3


def blob(key, n):
    return MEAN[None] + SPREAD * jax.random.normal(key, (n, 2))


@functools.cache
def trained():
    return gan.train(SMALL, blob, key=jax.random.key(0)).checked()


def test_the_generator_finds_the_data():
    done = trained()
    assert done.history["critic"].shape == done.metrics["critic"]["penalty"].shape == (300,)
    assert int(done.steps) == 300
    samples = done.model.sample(jax.random.key(1), 1203)
    assert samples.shape == (1203, 2)
    assert samples.dtype == jnp.float64
    np.testing.assert_allclose(np.mean(samples, axis=0), MEAN, atol=0.1)
    np.testing.assert_allclose(np.std(samples, axis=0), SPREAD, rtol=0.6)


def test_the_critic_tells_real_from_fake_until_it_cannot():
    gap = np.abs(trained().metrics["critic"]["gap"])
    assert np.max(gap[:100]) > 10 * np.mean(gap[-50:])


def test_a_run_is_a_function_of_its_key_and_seeds_vmap():
    config = dataclasses.replace(SMALL, steps=20)
    keys = jax.random.split(jax.random.key(5), 2)
    run = lambda key: gan.train(config, blob, key=key)
    both = jax.jit(jax.vmap(run))(keys)
    assert both.status.shape == (2,)
    alone = run(keys[1])
    for a, b in zip(jax.tree.leaves(both.model.generator), jax.tree.leaves(alone.model.generator), strict=True):
        np.testing.assert_allclose(a[1], b, rtol=1e-9, atol=1e-12)


def critic(p, x):
    return jnp.tanh(x @ p["w"]) @ p["v"]


@pytest.mark.parametrize("name", gan.PENALTIES)
def test_the_shared_pass_is_the_two_separate_ones(name):
    keys = jax.random.split(jax.random.key(7), 4)
    params = {"w": jax.random.normal(keys[0], (2, 5)), "v": jax.random.normal(keys[1], (5,))}
    real, fake = jax.random.normal(keys[2], (2, 6, 2))

    def shared(p):
        r, f, paid = judge(gan.PENALTIES[name], critic, p, real, fake, keys[3])
        return gan.LOSSES["rsgan"].critic(r, f) + paid

    def separate(p):
        return gan.LOSSES["rsgan"].critic(critic(p, real), critic(p, fake)) + gan.penalise(
            name, critic, p, real, fake, key=keys[3]
        )

    ours, theirs = (jax.jit(jax.value_and_grad(fn))(params) for fn in (shared, separate))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_units_are_the_models_own(tmp_path):
    """The same data in other units: the same game, whatever the units of each coordinate."""
    move = jnp.array([[300.0, -1.0], [10.0, 1e-3]])
    config = dataclasses.replace(SMALL, steps=20)
    plain = gan.train(config, blob, key=jax.random.key(0)).checked().model
    moved = lambda key, n: move[:1] + move[1:] * blob(key, n)
    model = gan.train(config, moved, key=jax.random.key(0)).checked().model
    back = gan.load(gan.save(tmp_path / "units.safetensors", model))
    x = plain.sample(jax.random.key(1), 50)
    np.testing.assert_allclose(back.sample(jax.random.key(1), 50), move[:1] + move[1:] * x, rtol=1e-6)
    np.testing.assert_allclose(back.score(move[:1] + move[1:] * x), plain.score(x), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", ["gan-qp", "wgan-gp"])
def test_other_losses_train(name):
    config = dataclasses.replace(SMALL, loss=name, gamma=None, steps=4, critic_steps=2)
    done = gan.train(config, blob, key=jax.random.key(0)).checked()
    assert np.all(np.isfinite(done.history["generator"]))


def test_arrays_of_points():
    data = blob(jax.random.key(1), 200).astype(jnp.float32)
    done = gan.train(dataclasses.replace(SMALL, steps=2), data, key=jax.random.key(0)).checked()
    assert done.model.generator["mlp"]["layer0"]["kernel"].shape == (2, 32)
    assert done.model.sample(jax.random.key(0), 3).dtype == jnp.float32


def test_interpolation_goes_from_noise_to_noise():
    way = trained().model.interpolate(jax.random.key(4), rows=3, points=5)
    assert way.shape == (3, 5, 2)
    assert np.all(np.isfinite(way))
    normal = dataclasses.replace(trained().model, config=dataclasses.replace(SMALL, prior="normal"))
    assert np.all(np.isfinite(normal.interpolate(jax.random.key(4), rows=2, points=3)))


def test_a_saved_model_comes_back_and_a_damaged_one_does_not(tmp_path):
    model = trained().model
    path = gan.save(tmp_path / "model.safetensors", model)
    back = gan.load(path)
    assert back.config == model.config
    np.testing.assert_array_equal(*(m.sample(jax.random.key(0), 5) for m in (model, back)))
    whole = bytearray(path.read_bytes())
    whole[-9] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="damaged"):
        gan.load(path)
    checkpoint.write(path, {"a": jnp.ones(1)})
    with pytest.raises(ValueError, match="not something that `save` wrote"):
        gan.load(path)


def steep(half):
    return 3.0 * half


def curve(d):
    return jnp.logaddexp(0.0, -2.0 * d)


def test_own_losses_and_penalties_train_and_are_saved(tmp_path):
    own = {"loss": gan.pairs("steep", curve), "penalty": gan.Penalty("steep", "real", steep, 0.1)}
    config = dataclasses.replace(SMALL, steps=2, gamma=None, **own)
    assert config.weights == (0.1, 0.1)
    model = gan.train(config, blob, key=jax.random.key(0)).checked().model
    back = gan.load(gan.save(tmp_path / "own.safetensors", model))
    assert back.config == config
    assert back.config.the_loss.critic(jnp.zeros(1), jnp.ones(1)) == curve(-1.0)
    np.testing.assert_array_equal(back.sample(jax.random.key(0), 5), model.sample(jax.random.key(0), 5))
    nameless = dataclasses.replace(model, config=dataclasses.replace(config, loss=gan.pairs("new", lambda d: -d)))
    with pytest.raises(ValueError, match="code that can be imported by name"):
        gan.save(tmp_path / "nameless.safetensors", nameless)


def test_sentences():
    with pytest.raises(ValueError, match="Argument `loss` must be one of 'sgan'"):
        gan.Config(loss="gan")
    with pytest.raises(ValueError, match="Argument `loss` must be a loss of pairs"):
        gan.Config(loss="hinge", all_pairs=True)
    with pytest.raises(ValueError, match="Argument `steps` must be positive, but is 0"):
        gan.Config(steps=0)
    with pytest.raises(ValueError, match="Argument `data` must have shape"):
        gan.train(SMALL, jnp.zeros((5, 2, 2)), key=jax.random.key(0))
    with pytest.raises(ValueError, match="Argument `data` must be finite"):
        gan.train(SMALL, jnp.full((500, 2), jnp.nan), key=jax.random.key(0))
