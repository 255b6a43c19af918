"""Losses and penalties: one set of invariants over the whole registry."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit import gan

SIZE = 7
# The formulas of the articles, written out once more: critic, generator.
sp = lambda t: np.logaddexp(0, t)
relu = lambda t: np.maximum(t, 0)
mean = np.mean
FORMULAS = {
    "sgan": (lambda r, f: mean(sp(-r)) + mean(sp(f)), lambda r, f: mean(sp(-f))),
    "sgan-saturating": (lambda r, f: mean(sp(-r)) + mean(sp(f)), lambda r, f: -mean(sp(f))),
    "rsgan": (lambda r, f: mean(sp(f - r)), lambda r, f: mean(sp(r - f))),
    "rasgan": (
        lambda r, f: (mean(sp(-(r - mean(f)))) + mean(sp(f - mean(r)))) / 2,
        lambda r, f: (mean(sp(-(f - mean(r)))) + mean(sp(r - mean(f)))) / 2,
    ),
    "lsgan": (lambda r, f: (mean((r - 1) ** 2) + mean(f**2)) / 2, lambda r, f: mean((f - 1) ** 2) / 2),
    "ralsgan": (
        lambda r, f: (mean((r - mean(f) - 1) ** 2) + mean((f - mean(r) + 1) ** 2)) / 2,
        lambda r, f: (mean((r - mean(f) + 1) ** 2) + mean((f - mean(r) - 1) ** 2)) / 2,
    ),
    "rpls": (lambda r, f: mean((r - f - 1) ** 2), lambda r, f: mean((f - r - 1) ** 2)),
    "hinge": (lambda r, f: mean(relu(1 - r)) + mean(relu(1 + f)), lambda r, f: -mean(f)),
    "rahinge": (
        lambda r, f: (mean(relu(1 - (r - mean(f)))) + mean(relu(1 + (f - mean(r))))) / 2,
        lambda r, f: (mean(relu(1 + (r - mean(f)))) + mean(relu(1 - (f - mean(r))))) / 2,
    ),
    "rphinge": (lambda r, f: mean(relu(1 - (r - f))), lambda r, f: mean(relu(1 - (f - r)))),
    "wgan": (lambda r, f: mean(f) - mean(r), lambda r, f: mean(r) - mean(f)),
    "gan-qp": (lambda r, f: mean(-(r - f) + (r - f) ** 2 / (2 * 10 * 0.3)), lambda r, f: mean(r - f)),
}
FORMULAS |= {name: FORMULAS["wgan"] for name in ("wgan-gp", "wgan-lp", "wgan-div")}


def outputs(dtype=float):
    keys = jax.random.split(jax.random.key(3), 2)
    return tuple(jax.random.normal(k, (SIZE,), dtype) * 1.5 for k in keys)


def players(loss):
    extra = {"distance": 0.3} if loss.distance else {}
    return {"critic": functools.partial(loss.critic, **extra), "generator": loss.generator}


def every(test):
    cases = [(name, player) for name in gan.LOSSES for player in ("critic", "generator")]
    return pytest.mark.parametrize(("name", "player"), cases)(test)


def test_registry_is_the_table():
    assert set(gan.LOSSES) == set(FORMULAS)
    assert {loss.penalty for loss in gan.LOSSES.values()} <= {None, *gan.PENALTIES}


@functools.cache
def facts(name, player):
    """Everything the tests ask of one function, in one compiled program."""
    loss = gan.LOSSES[name]
    fn = players(loss)[player]
    c = 2 * loss.centre
    slopes = jax.value_and_grad(fn, argnums=(0, 1))

    @jax.jit
    def program(r, f, big, other):
        equal = jnp.full_like(r, loss.centre)
        found = {
            "value": fn(r, f),
            "shifted": fn(r + 2.5, f + 2.5),
            "reflected": fn(c - f, c - r),
            "swapped": fn(f, r),
            "at equal": slopes(equal, equal)[1],
            "extreme": [slopes(a, b) for a, b in ((big, other), (other, big), (big, big))],
        }
        if not loss.distance:
            method = getattr(gan.all_pairs(loss) if loss.slope else loss, player)
            found["unweighted"] = method(r, f)
            found["weighted"] = getattr(loss, player)(r, f, weights=(jnp.full_like(r, 1 / SIZE),) * 2)
        return found

    big = jnp.array([1e4, -1e4, 1e4, -1e4, 0.0], jnp.float32)
    return program(*outputs(), big, jnp.array([-1e4, 1e4, 1e4, -1e4, 1e4], jnp.float32))


@every
def test_formula(name, player):
    r, f = (np.asarray(v) for v in outputs())
    np.testing.assert_allclose(facts(name, player)["value"], FORMULAS[name][player == "generator"](r, f), rtol=1e-13)


@every
def test_finite_at_extreme_outputs_in_single_precision(name, player):
    for value in jax.tree.leaves(facts(name, player)["extreme"]):
        assert value.dtype == jnp.float32
        assert np.all(np.isfinite(value))


@every
def test_relativistic_means_invariant_to_a_constant(name, player):
    found = facts(name, player)
    assert np.allclose(found["shifted"], found["value"], rtol=1e-12) == gan.LOSSES[name].relativistic


@pytest.mark.parametrize("name", gan.LOSSES)
def test_swap_symmetry(name):
    # The critic 2c - T on exchanged samples does as well as T; in a relativistic game the generator wants what the
    # critic would with real and fake exchanged (GAN-QP's generator has no quadratic part).
    critic, generator = (facts(name, player) for player in ("critic", "generator"))
    np.testing.assert_allclose(critic["reflected"], critic["value"], rtol=1e-13)
    if gan.LOSSES[name].relativistic and not gan.LOSSES[name].distance:
        np.testing.assert_allclose(generator["value"], critic["swapped"], rtol=1e-13)


@every
def test_each_player_wants_the_opposite(name, player):
    # At equal outputs the critic raises r - f, the generator f.
    slope_r, slope_f = facts(name, player)["at equal"]
    assert np.all(slope_f > 0 if player == "critic" else slope_f < 0)
    if player == "critic":
        assert np.all(slope_r < 0)


@every
def test_equal_weights_change_nothing(name, player):
    found = facts(name, player)
    if gan.LOSSES[name].distance:
        with pytest.raises(ValueError, match="Argument `weights` must be None"):
            players(gan.LOSSES[name])[player](*outputs(), weights=outputs())
    else:
        np.testing.assert_allclose(found["weighted"], found["unweighted"], rtol=1e-13)


def test_all_pairs_is_the_mean_over_shifts():
    r, f = outputs()
    loss = gan.LOSSES["rsgan"]
    shifted = [loss.critic(r, jnp.roll(f, k)) for k in range(SIZE)]
    np.testing.assert_allclose(gan.all_pairs(loss).critic(r, f), np.mean(shifted), rtol=1e-13)
    with pytest.raises(ValueError, match="Argument `loss` must be a loss of pairs, but is 'sgan'"):
        gan.all_pairs(gan.LOSSES["sgan"])


# Penalties of T(x) = (|x|^2 / 2) p over samples of shape (2, 3): the gradient is p x.


def critic(p, x):
    return 0.5 * p * jnp.sum(x**2, axis=(1, 2))


PRICES = {
    "none": lambda n, m: 0.0,
    "r1": lambda n, m: mean(n**2) / 2,
    "r2": lambda n, m: mean(m**2) / 2,
    "r1+r2": lambda n, m: (mean(n**2) + mean(m**2)) / 2,
    "div": lambda n, m: mean(n**6) + mean(m**6),
}


def samples():
    keys = jax.random.split(jax.random.key(5), 2)
    return tuple(jax.random.normal(k, (SIZE, 2, 3)) for k in keys)


@pytest.mark.parametrize("name", PRICES)
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_penalties_take_norms_over_all_axes_of_a_sample(name, mode):
    real, fake = samples()
    norms = [3.0 * np.sqrt(np.sum(np.asarray(x) ** 2, axis=(1, 2))) for x in (real, fake)]
    ours = jax.jit(jax.value_and_grad(lambda p: gan.penalise(name, critic, p, real, fake, mode=mode)))
    value, slope = ours(3.0)
    np.testing.assert_allclose(value, PRICES[name](*norms), rtol=1e-12)
    degree = {"none": 0, "div": 6}.get(name, 2)
    np.testing.assert_allclose(slope, degree * PRICES[name](*norms) / 3.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "price"),
    {"zero": lambda n: n**2, "gp": lambda n: (n - 1) ** 2, "lp": lambda n: relu(n - 1) ** 2}.items(),
)
def test_penalties_between_take_one_point_a_sample(name, price):
    # A critic whose gradient tells where it was taken: between a and b = a + d, on the straight line.
    real, fake = samples()
    real = jnp.ones_like(real)
    fake = 3 * real
    at_all = jax.jit(jax.value_and_grad(lambda p: gan.penalise(name, critic, p, real, fake, key=jax.random.key(0))))
    share = jax.random.uniform(jax.random.key(0), (SIZE, 1, 1))
    lengths = np.sqrt(6.0) * np.ravel(share * 1.0 + (1 - share) * 3.0)
    np.testing.assert_allclose(at_all(0.4)[0], mean(price(0.4 * lengths)), rtol=1e-9)
    step = 1e-6
    slope = (mean(price((0.4 + step) * lengths)) - mean(price((0.4 - step) * lengths))) / (2 * step)
    np.testing.assert_allclose(at_all(0.4)[1], slope, rtol=1e-6)
    with pytest.raises(ValueError, match="Argument `key` must be given"):
        gan.penalise(name, critic, 1.0, real, fake)


@pytest.mark.parametrize("name", gan.PENALTIES)
def test_gradient_is_finite_where_the_critic_is_flat(name):
    real, fake = (x.astype(jnp.float32) for x in samples())
    slope = jax.jit(jax.grad(lambda p: gan.penalise(name, critic, p, 0 * real, 0 * fake, key=jax.random.key(0))))
    assert jnp.isfinite(slope(jnp.float32(1.0)))
    assert jnp.isfinite(slope(jnp.float32(0.0)))


def test_unknown_names():
    with pytest.raises(ValueError, match="Argument `penalty` must be one of 'none', 'r1'"):
        gan.penalise("r3", critic, 1.0, *samples())


def test_only_the_two_sided_penalty_raises_slopes_below_one():
    line = lambda p, x: p * x[:, 0]
    real, fake = jnp.zeros((4, 2)), jnp.ones((4, 2))
    price = lambda name, p: float(gan.penalise(name, line, p, real, fake, key=jax.random.key(0)))
    assert (price("lp", 0.5), price("gp", 0.5)) == (0, pytest.approx(0.25, rel=1e-9))
    assert (price("lp", 3.0), price("gp", 3.0)) == (pytest.approx(4, rel=1e-9), pytest.approx(4, rel=1e-9))
