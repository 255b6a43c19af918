"""Every sampler must draw the law of its denoiser: one invariant test over the registry."""

import functools

import jax
import jax.numpy as jnp
import pytest

import jaxkit as jk
from jaxkit import models, score

UNEQUAL = models.mixture([[-2.0, 0.0], [2.0, 0.0]], [0.5, 0.5], [0.8, 0.2])
OPTIONS = {
    "heun": {"steps": 18},
    "ddim": {"steps": 60},
    "ancestral": {"steps": 250},
    "dpmpp_2m": {"steps": 20},
    "langevin": {"steps": 120, "high": 8.0, "low": 0.05, "schedule": "geometric"},
    "predictor_corrector": {"steps": 100},
    "reverse_sde": {"steps": 300},
    "pf_ode": {},
}


SLOW = ("reverse_sde",)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in score.SAMPLERS])
def test_law_is_recovered(name, key):
    options = {"low": 0.01, "high": 30.0} | OPTIONS[name]
    drawn = jax.jit(lambda key: score.sample(score.exact(UNEQUAL), key, 4000, sampler=name, **options))(key).checked()
    left = drawn.x[:, 0] < 0
    assert abs(float(jnp.mean(left)) - 0.8) < 0.03
    entropy = -jnp.mean(UNEQUAL.log_prob(UNEQUAL.sample(key, 4000)))
    assert abs(float(-jnp.mean(UNEQUAL.log_prob(drawn.x)) - entropy)) < 0.13
    assert abs(float(jnp.std(drawn.x[:, 1])) - 0.5) < 0.04
    assert int(drawn.evaluations) > 10


def test_langevin_without_annealing_keeps_the_weights_it_starts_with(key):
    """The control: at the data's own noise nothing crosses between the modes."""
    start = UNEQUAL.means[jnp.arange(1000) % 2] + 0.5 * jax.random.normal(key, (1000, 2))
    options = {"steps": 60, "low": 0.0499, "high": 0.05, "start": start}
    drawn = score.sample(score.exact(UNEQUAL), key, 1000, sampler="langevin", **options)
    assert abs(float(jnp.mean(drawn.x[:, 0] < 0)) - 0.5) < 0.03


@functools.cache
def reference():
    start = 30.0 * jax.random.normal(jax.random.key(1), (100, 2))
    settings = {"sampler": "pf_ode", "low": 0.05, "high": 30.0, "start": start, "rtol": 1e-11, "atol": 1e-11}
    return start, score.sample(score.exact(UNEQUAL), jax.random.key(0), 100, **settings).checked().x


@pytest.mark.parametrize(("name", "order"), [("heun", 2), ("ddim", 1), ("dpmpp_2m", 2)])
def test_order(name, order):
    start, exact = reference()
    errors = []
    for steps in (65, 129):
        settings = {"low": 0.05, "high": 30.0, "start": start, "steps": steps, "schedule": "geometric"}
        x = score.sample(score.exact(UNEQUAL), jax.random.key(0), 100, sampler=name, **settings).x
        errors.append(jnp.sqrt(jnp.mean((x - exact) ** 2)))
    assert abs(float(jnp.log2(errors[0] / errors[1])) - order) < 0.25


def test_evaluations_are_counted(key):
    for name, expected in {"heun": 35, "ddim": 18, "dpmpp_2m": 18, "predictor_corrector": 35}.items():
        assert int(score.sample(score.exact(UNEQUAL), key, 2, sampler=name, steps=18).evaluations) == expected


@pytest.mark.slow
def test_churn_keeps_the_law(key):
    drawn = score.sample(score.exact(UNEQUAL), key, 4000, steps=40, low=0.01, high=30.0, churn=10.0).checked()
    assert abs(float(jnp.mean(drawn.x[:, 0] < 0)) - 0.8) < 0.03
    assert abs(float(jnp.std(drawn.x[:, 1])) - 0.5) < 0.04


def test_a_denoiser_that_breaks_is_a_status(key):
    broken = score.Model(None, jnp.zeros(2), jnp.ones(2), lambda _, y, s: jnp.full_like(y, jnp.nan), (2,))
    with pytest.raises(jk.SolverError, match=r"score.sample: not_finite \(3 of 3 lanes"):
        score.sample(broken, key, 3).checked()
    with pytest.raises(ValueError, match="Argument `sampler` must be one of 'heun'"):
        score.sample(score.exact(UNEQUAL), key, 3, sampler="magic")
