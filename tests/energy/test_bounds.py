"""Every bound of the mutual information against a channel whose information is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit.energy import BOUNDS, bounds, channel

MATRIX = jnp.asarray(np.array([[1.0, 0.3], [-0.2, 0.8]]))
NOISE = 0.6
EXACT = float(channel.information(MATRIX, NOISE))


def scores(name, critic, key, n):
    pairs, partner = jax.random.split(key)
    x, z = channel.transmit(pairs, MATRIX, NOISE, n)
    return BOUNDS[name].scores(critic, x, z, partner)


def mean_estimate(name, critic, n, batches=20):
    keys = jax.random.split(jax.random.key(1), batches)
    values = jax.jit(lambda keys: jax.lax.map(lambda k: BOUNDS[name].estimate(*scores(name, critic, k, n)), keys))(keys)
    return float(jnp.mean(values)), float(jnp.std(values)) / batches**0.5


def test_the_information_of_the_channel():
    """Against the entropies of the Gaussians: H(x) + H(z) - H(x, z)."""
    joint = np.block([[MATRIX @ MATRIX.T + NOISE**2 * np.eye(2), MATRIX], [MATRIX.T, np.eye(2)]])
    entropy = lambda c: 0.5 * np.linalg.slogdet(2 * np.pi * np.e * np.asarray(c))[1]
    by_entropies = entropy(joint[:2, :2]) + entropy(np.eye(2)) - entropy(joint)
    assert pytest.approx(by_entropies, rel=1e-12) == EXACT
    x, z = channel.transmit(jax.random.key(0), MATRIX, NOISE, 200_000)
    np.testing.assert_allclose(np.cov(np.concatenate([x, z], 1).T), joint, atol=0.02)
    assert float(jnp.mean(channel.log_ratio(MATRIX, NOISE)(x, z))) == pytest.approx(EXACT, abs=0.01)


@pytest.mark.parametrize("name", BOUNDS)
def test_the_best_critic_reaches_the_information(name):
    rule, best = BOUNDS[name], channel.log_ratio(MATRIX, NOISE)
    value, error = mean_estimate(name, lambda x, z: rule.optimum(best(x, z)), 256)
    assert abs(value - EXACT) < 4 * error + 0.03, (value, error, EXACT)


@pytest.mark.parametrize("name", BOUNDS)
def test_no_other_critic_exceeds_it(name):
    """A critic bent out of shape; for Barber-Agakov a decoder of the wrong spread, which stays a density."""
    rule, best = BOUNDS[name], channel.log_ratio(MATRIX, NOISE)
    scale = 0.5
    wrong = lambda x, z: scale * rule.optimum(best(x, z)) + 0.1
    if name == "barber-agakov":
        wrong = bounds.gaussian_decoder(lambda x: (scale * x, jnp.full_like(x, np.log(scale))))
    value, error = mean_estimate(name, wrong, 256)
    assert value < EXACT - 0.01 + 3 * error, (value, error)


@pytest.mark.parametrize("name", BOUNDS)
def test_an_objective_raises_pairs_drawn_together_and_lowers_others(name):
    joint, marginal = scores(name, channel.log_ratio(MATRIX, NOISE), jax.random.key(2), 16)
    up, down = jax.grad(BOUNDS[name].objective, argnums=(0, 1))(joint, marginal)
    assert np.all(up > 0)
    assert np.all(down <= 0)
    assert name == "barber-agakov" or np.any(down < 0)


def test_info_nce_is_capped_by_its_batch():
    sharp = lambda x, z: 1e4 * channel.log_ratio(MATRIX, 1e-4)(x, z)
    x, z = channel.transmit(jax.random.key(0), MATRIX, 1e-4, 32)
    value = BOUNDS["infonce"].estimate(*bounds.every_pair(sharp, x, z, jax.random.key(0)))
    assert float(value) == pytest.approx(np.log(32), abs=1e-6)
    assert float(channel.information(MATRIX, 1e-4)) > 2 * np.log(32)


def test_the_decoder_that_is_the_posterior_makes_its_bound_tight():
    gain = MATRIX.T @ jnp.linalg.inv(MATRIX @ MATRIX.T + NOISE**2 * jnp.eye(2))
    spread = jnp.linalg.inv(jnp.eye(2) + MATRIX.T @ MATRIX / NOISE**2)
    diagonal = bounds.gaussian_decoder(
        lambda x: (x @ gain.T, jnp.broadcast_to(0.5 * jnp.log(jnp.diag(spread)), x.shape))
    )
    value, error = mean_estimate("barber-agakov", diagonal, 512)
    lost = 0.5 * float(jnp.sum(jnp.log(jnp.diag(spread))) - jnp.linalg.slogdet(spread)[1])
    assert value == pytest.approx(EXACT - lost, abs=4 * error)  # what a decoder without correlations cannot say


def test_the_corrected_gradient_of_mine():
    """With the batch's own mean it is the gradient of the bound; `moving_mean` is a moving average."""
    joint, marginal = scores("dv", channel.log_ratio(MATRIX, NOISE), jax.random.key(3), 32)
    mean = jnp.mean(jnp.exp(marginal))
    plain = jax.grad(bounds.donsker_varadhan, argnums=1)(joint, marginal)
    mine = jax.grad(bounds.corrected, argnums=1)(joint, marginal, mean)
    np.testing.assert_allclose(mine, plain, rtol=1e-12)
    half = jax.grad(bounds.corrected, argnums=1)(joint, marginal, 2 * mean)
    np.testing.assert_allclose(half, plain / 2, rtol=1e-12)
    old = jnp.asarray(3.0)
    stepped = bounds.moving_mean(old, marginal, decay=0.9)
    assert float(stepped) == pytest.approx(0.9 * 3 + 0.1 * float(mean), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUNDS)
def test_a_trained_critic_comes_near_from_below(name):
    found = channel.measure(name, MATRIX, NOISE, key=jax.random.key(0), steps=800)
    assert found["estimate"] < EXACT + 4 * found["error"]
    assert found["estimate"] > 0.85 * EXACT


def test_unknown_bounds_get_one_sentence():
    with pytest.raises(ValueError, match="`bound` must be one of 'jsd'"):
        channel.measure("club", MATRIX, NOISE, key=jax.random.key(0))
    with pytest.raises(ValueError, match="`corrected_gradient` must go with 'dv'"):
        channel.measure("nwj", MATRIX, NOISE, key=jax.random.key(0), corrected_gradient=True)


def test_no_pair_drawn_together_is_taken_for_one_drawn_apart():
    x = jnp.arange(3.0)
    for seed in range(8):
        together, apart = bounds.shuffled(lambda x, z: x - z, x, x, jax.random.key(seed))
        assert not np.any(together)
        assert np.all(apart)
