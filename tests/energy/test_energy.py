"""Pits, jumps, momentum, replay buffers and latent sampling against what theory says."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxkit as jk
from jaxkit import energy as en
from jaxkit import models
from jaxkit.energy import latent

FREE = replace(en.LANDSCAPE, penalty=0.0)
WRONG = {0.0: (0.0, 0.0), 0.5: (0.0, 0.0), 0.8: (0.01, 0.02), 0.9: (0.16, 0.20)}


@pytest.mark.parametrize("momentum", WRONG)
def test_momentum_carries_points_over_the_ridge(momentum):
    starts, ends = en.crossings(optax.sgd(0.05, momentum=momentum), starts=400, steps=1000)
    np.testing.assert_allclose(jnp.abs(ends), 1, atol=1e-6)
    low, high = WRONG[momentum]
    assert low <= float(jnp.mean(ends < 0)) <= high
    assert float(starts[0]) == pytest.approx(0.05)


def test_adam_crosses_only_with_extreme_momentum():
    wrong = lambda b1: float(jnp.mean(en.crossings(optax.adam(0.05, b1=b1), starts=200, steps=2500)[1] < 0))
    assert wrong(0.9) == 0
    assert wrong(0.99) > 0.05


def test_the_losses_of_digging():
    real, fake = jnp.array([-3.0, 0.5]), jnp.array([0.2, 4.0])
    assert float(en.DIGGINGS["linear"].dig(real, fake)) == pytest.approx(-1.25 - 2.1)
    assert float(en.DIGGINGS["hinge"].dig(real, fake)) == pytest.approx((0 + 1.5) / 2 + (0.8 + 0) / 2)
    assert float(en.DIGGINGS["nonnegative"].dig(real, fake)) == pytest.approx(-1.25 + 0.4)


@pytest.mark.parametrize("name", en.DIGGINGS)
def test_digging_lowers_real_points_and_raises_fakes(name):
    how = en.DIGGINGS[name]
    real, fake = jnp.array([-0.3, 0.5]), jnp.array([0.2, 0.4])
    down, up = jax.grad(how.dig, argnums=(0, 1))(real, fake)
    assert np.all(down > 0)  # descent lowers them
    assert np.all(up < 0)
    assert np.all(jax.grad(how.jump)(fake) > 0)
    assert np.all(how.floor(jnp.array([-9.0, 9.0])) >= (0 if name == "nonnegative" else -9))


def test_the_penalty_is_the_squared_gradient_at_real_points_alone():
    bowl = lambda w, x: 0.5 * w * jnp.sum(x**2, axis=(1, 2))
    loss = lambda lam: en.game(bowl, lambda g, z: g + 0 * z[:, :, None], replace(en.LANDSCAPE, penalty=lam))["energy"]
    real = jnp.asarray(np.random.default_rng(0).normal(size=(8, 2, 1)))
    players = {"energy": jnp.asarray(3.0), "generator": jnp.asarray(50.0)}
    with_it, without = (loss(lam)(players, real, jax.random.key(0))[0] for lam in (0.7, 0.0))
    norms = np.sum((3 * np.asarray(real)) ** 2, axis=(1, 2))  # over every axis of a sample
    assert float(with_it - without) == pytest.approx(0.7 * norms.mean(), rel=1e-9)


def test_the_digger_does_not_move_through_the_generator(key):
    losses = en.game(lambda w, x: x @ w, lambda g, z: g[None] + z, FREE)
    players = {"energy": jnp.ones(2), "generator": jnp.zeros(2)}
    through = jax.grad(lambda g: losses["energy"](players | {"generator": g}, jnp.ones((4, 2)), key)[0])(jnp.zeros(2))
    np.testing.assert_array_equal(through, 0)


def test_information_keeps_a_generator_from_falling_into_one_point(key):
    """In a bowl, E alone pulls every fake to the bottom; with the bound they spread as exp(-U) does."""
    bowl = lambda w, x: 0.5 * jnp.sum(x**2, axis=1) + 0 * w
    stretch = lambda g, z: jnp.exp(g) * z
    decoder = lambda c, x, z: en.bounds.gaussian_decoder(lambda x: (c[0] * x, jnp.full_like(x, c[1])))(x, z)
    noisy = lambda g, z: stretch(g, z[:, :1]) + 0.5 * z[:, 1:]  # x = s z + noise: information 1/2 log(1 + 4 s^2)
    adam = {"energy": optax.sgd(0.0), "generator": optax.adam(0.02)}
    start = {"energy": jnp.zeros(()), "generator": {"net": jnp.asarray(0.0), "critic": jnp.array([0.5, 0.0])}}
    first = lambda c, x, z: decoder(c, x, z[:, :1])
    losses = en.game(bowl, noisy, replace(FREE, bound="barber-agakov"), first)
    held = jk.play(losses, start, jnp.ones((2000, 1)), optimizers=adam, steps=300, key=key).checked()
    # d/ds [s^2/2 - 1/2 log(1 + 4 s^2)] = 0 at s^2 = 3/4
    assert float(jnp.exp(2 * held.players["generator"]["net"])) == pytest.approx(0.75, abs=0.1)
    falls = en.game(bowl, noisy, FREE)
    start = {"energy": jnp.zeros(()), "generator": jnp.asarray(0.0)}
    fell = jk.play(falls, start, jnp.ones((2000, 1)), optimizers=adam, steps=300, key=key).checked()
    assert float(jnp.exp(2 * fell.players["generator"])) < 0.05


@pytest.mark.slow
def test_contrastive_training_finds_the_precision_of_a_gaussian(key):
    """U = w/2 x^2 with chains that have time: w -> 1/var of the data, less what the regulariser costs."""
    bowl = lambda w, x: 0.5 * w * jnp.sum(x**2, axis=1)
    loss = en.contrastive(
        bowl, en.ReplayConfig(batch_size=200, step_size=0.02, moves=20, box=(-3.0, 3.0), regulariser=0.0)
    )
    chains = en.replay_buffer(key, 1000, (1,), box=(-3.0, 3.0))
    data = 0.5 * jax.random.normal(jax.random.key(1), (4000, 1))
    adam = optax.adam(optax.cosine_decay_schedule(0.1, 400))
    end = jk.fit(loss, 1.0, data, optimizer=adam, steps=400, key=key, carry=chains, ema=0.95).checked()
    assert float(end.ema) == pytest.approx(4.0, rel=0.15)
    assert end.carry.shape == (1000, 1)
    assert float(jnp.max(jnp.abs(end.carry))) <= 3


def test_the_regulariser_has_a_plus_sign(key):
    """With a minus the loss would fall without end as the fakes' energy grows."""
    own = en.contrastive(lambda w, x: w + 0 * x[:, 0], en.ReplayConfig(batch_size=2, step_size=0.1, regulariser=0.5))
    loss = lambda w: float(own(jnp.asarray(w), jnp.zeros((2, 1)), key, jnp.zeros((4, 1)))[0])
    assert loss(2.0) == pytest.approx(0.5 * (4 + 4))


def test_the_buffer_replaces_what_it_moved_and_keeps_the_rest(key):
    flat = lambda w, x: 0 * w * x[:, 0]
    seen = []
    spied = lambda w, x: (jax.debug.callback(lambda v: seen.append(np.asarray(v)), x), flat(w, x))[1]
    loss = en.contrastive(spied, en.ReplayConfig(batch_size=3, step_size=1e-12, moves=1, fresh=0.0, regulariser=0.1))
    chains = en.replay_buffer(key, 10, (1,))
    end = jk.fit(loss, 1.0, jnp.zeros((2, 1)), optimizer=optax.sgd(0.0), steps=1, key=key, carry=chains).carry
    np.testing.assert_allclose(end, chains, atol=1e-4)
    assert np.sum(np.asarray(end != chains)) == 3
    jax.effects_barrier()
    pushed = [x for x in seen if x.shape == (3, 1)]
    assert pushed, "the fakes were judged"
    assert np.all(np.isclose(pushed[-1], end.T, atol=1e-12).any(axis=1))


def moments(kind, generator, key):
    target = lambda x, _: jnp.sum((x - 2.0) ** 2)  # N(2, 1/2)
    run = jk.sample(
        kind(target, generator), jnp.ones((1000, 1)), key=key, steps=600, method=jk.MALA(0.3), warmup=100, thin=3
    )
    x = generator(run.checked().xs, None)
    return float(x.mean()), float(x.var())


def test_negatives_are_fresh_moved_and_kept_in_their_shares(key):
    """Points in a steep bowl at 3, clipped to the box: the moved ones fall to its near edge, the kept ones stay."""
    bowl = lambda w, x: w * jnp.sum((x - 3) ** 2, axis=1)
    fake = jnp.zeros((100, 2))
    make = en.Negatives(fresh=0.2, moved=0.5, moves=20, step_size=0.05, box=(-1.0, 1.0))
    out = np.asarray(en.negatives(make, bowl, jnp.asarray(20.0), fake, key))
    np.testing.assert_array_equal(out[50:], 0)
    np.testing.assert_array_equal(out[:50], 1)
    still = np.asarray(en.negatives(replace(make, moved=0.0), bowl, jnp.asarray(20.0), fake, key))
    np.testing.assert_array_equal(still[20:], 0)
    assert -1 <= still[:20].min() < -0.8
    assert 0.8 < still[:20].max() <= 1


def test_the_game_with_negatives_also_counts_their_gradients(key):
    """A plane of slope w has the gradient w everywhere: the penalty counts it once a side."""
    plane = lambda w, x: w * x[:, 0]
    apart = lambda w, z: w + 0 * z[:, :1]
    players, real = {"energy": jnp.asarray(2.0), "generator": jnp.asarray(0.5)}, jnp.ones((8, 1))
    kept = en.Negatives(fresh=0.0, moved=0.0)
    loss = lambda negatives: float(
        en.game(plane, apart, replace(en.LANDSCAPE, latent=1, penalty=0.25, negatives=negatives))["energy"](
            players, real, key
        )[0]
    )
    assert loss(None) == pytest.approx(2 * (1 - 0.5) + 0.25 * 4)
    assert loss(kept) == pytest.approx(2 * (1 - 0.5) + 0.25 * 8)


@pytest.mark.slow
def test_momentum_spoils_the_game_of_digging():
    law = models.PlaneLaw.of(models.ring(5, 1.0, 0.1), name="five pits", box=2.0)
    modes, good = en.by_momentum(en.LANDSCAPE, law, (0.0, 0.9), key=jax.random.key(1), steps=1400, seeds=4)
    assert modes.shape == good.shape == (2, 4)
    assert modes[0].min() == 5
    assert good[0].mean() > 0.8 > 0.5 > good[1].max()  # single runs scatter by 0.04 around 0.85


@pytest.mark.slow
def test_latent_sampling_both_ways(key):
    """An affine generator: both reproduce N(2, 1/2). A bent one: only the exact energy does."""
    affine = lambda z, _: 1.5 * z - 1
    bent = lambda z, _: jnp.sinh(z)
    for kind, generator in ((latent.article, affine), (latent.exact, affine), (latent.exact, bent)):
        assert moments(kind, generator, key) == (pytest.approx(2, abs=0.02), pytest.approx(0.5, rel=0.04))
    mean, _ = moments(latent.article, bent, key)
    assert abs(mean - 2) > 0.1


def test_the_exact_latent_energy_of_a_map_into_more_dimensions():
    curve = lambda z, _: jnp.stack([z[0], z[0] ** 2])
    found = latent.exact(lambda x, _: jnp.sum(x), curve)(jnp.array([1.5]), None)
    assert float(found) == pytest.approx(1.5 + 2.25 - 0.5 * np.log(1 + 9), rel=1e-12)


@pytest.mark.slow
def test_latents_driven_by_a_density_ratio_reach_the_data(key):
    """Generator N(0, 4), data N(1, 1): T = log p/q exactly; the latents' density makes x the data."""
    ratio = lambda x, _: jnp.sum(-0.5 * (x - 1) ** 2 + x**2 / 8)
    double = lambda z, _: 2 * z
    run = jk.sample(
        latent.driven(ratio, double), jnp.zeros((500, 1)), key=key, steps=1000, method=jk.MALA(0.3), warmup=200, thin=5
    )
    x = 2 * run.checked().xs
    assert float(x.mean()) == pytest.approx(1, abs=0.03)
    assert float(x.var()) == pytest.approx(1, rel=0.04)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"digging": "deep"}, "`digging` must be one of"),
        ({"bound": "mine"}, "`bound` must be one of"),
        ({"bound": "jsd"}, "`critic` must be given"),
        ({"latent": 0}, "`latent` must be positive"),
        ({"penalty": -1.0}, "`penalty` must not be negative"),
    ],
)
def test_unusable_arguments_of_a_game(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        en.game(lambda p, x: x, lambda p, z: z, replace(en.LANDSCAPE, **change))


def test_a_trained_energy_draws_is_saved_and_passes_jit(tmp_path):
    law = models.ring(8)
    own = en.Digging(shallow, jnp.mean)
    for config in (
        en.Config(own, steps=3, batch_size=16, width=8, depth=1),
        en.ReplayConfig(steps=3, batch_size=16, buffer_size=32, moves=2, width=8, box=(-3.0, 3.0)),
    ):
        done = en.train(config, law.sample, key=jax.random.key(0)).checked()
        assert done.history["energy"].shape == (3,)
        draw = jax.jit(lambda model, key: model.sample(key, 7))
        x = draw(done.model, jax.random.key(1))
        assert x.shape == (7, 2)
        back = en.load(en.save(tmp_path / "energy.safetensors", done.model))
        assert back.config == config
        judge = jax.jit(lambda model, x: model.energy(x))
        np.testing.assert_array_equal(judge(back, x), judge(done.model, x))
        found = jax.jit(lambda a: a)(en.assess(done.model, models.PlaneLaw.of(law), key=jax.random.key(2), points=50))
        assert 0 <= float(found.modes.good) <= 1
        assert -1 <= float(found.correlations["square"]) <= 1


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(en.Config(steps=3, batch_size=16, width=8, depth=1), marks=pytest.mark.slow),
        en.ReplayConfig(steps=3, batch_size=16, buffer_size=32, moves=2, width=8),
    ],
)
def test_units_are_the_models_own(config, tmp_path):
    """The same points in other units: the same game and the same chains."""
    move = jnp.array([[300.0, -1.0], [10.0, 1e-3]])
    draw = models.ring(8).sample
    moved = lambda key, n: move[:1] + move[1:] * draw(key, n)
    plain, model = (en.train(config, law, key=jax.random.key(0)).checked().model for law in (draw, moved))
    back = en.load(en.save(tmp_path / "units.safetensors", model))
    x = plain.sample(jax.random.key(1), 5).astype(float)
    off = (back.sample(jax.random.key(1), 5).astype(float) - (move[:1] + move[1:] * x)) / move[1:]
    np.testing.assert_allclose(off, 0, atol=1e-4)
    np.testing.assert_allclose(back.energy(move[:1] + move[1:] * x), plain.energy(x), rtol=1e-3, atol=1e-4)


def shallow(real, fake):
    return 0.5 * (jnp.mean(real) - jnp.mean(fake))
