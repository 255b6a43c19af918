"""Every sampler must draw the law of its denoiser: one invariant test over the registry."""

import functools

import jax
import jax.numpy as jnp
import pytest

import jaxkit as jk
from jaxkit import models, score

UNEQUAL = models.mixture([[-2.0, 0.0], [2.0, 0.0]], 0.5, [0.8, 0.2])
MODEL = score.exact(UNEQUAL)
WIDE = {"sigma_min": 0.01, "sigma_max": 30.0}


SLOW = ("reverse_sde",)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in score.SAMPLERS])
def test_law_is_recovered_by_the_defaults(name, key):
    drawn = jax.jit(lambda key: MODEL.sample(key, 4000, sampler=name))(key).checked()
    left = drawn.x[:, 0] < 0
    assert abs(float(jnp.mean(left)) - 0.8) < 0.03
    entropy = -jnp.mean(UNEQUAL.log_prob(UNEQUAL.sample(key, 4000)))
    assert abs(float(-jnp.mean(UNEQUAL.log_prob(drawn.x)) - entropy)) < 0.13
    assert abs(float(jnp.std(drawn.x[:, 1])) - 0.5) < 0.04
    assert int(drawn.evaluations) > 10


def test_langevin_without_annealing_keeps_the_weights_it_starts_with(key):
    """The control: at the data's own noise nothing crosses between the modes."""
    start = UNEQUAL.means[jnp.arange(1000) % 2] + 0.5 * jax.random.normal(key, (1000, 2))
    drawn = MODEL.sample(key, 1000, sampler=score.AnnealedLangevin(60, 0.0499, 0.05), start=start)
    assert abs(float(jnp.mean(drawn.x[:, 0] < 0)) - 0.5) < 0.03


@functools.cache
def reference():
    start = 30.0 * jax.random.normal(jax.random.key(1), (100, 2))
    flow = score.FlowODE(sigma_min=0.05, sigma_max=30.0, rtol=1e-11, atol=1e-11)
    return start, MODEL.sample(jax.random.key(0), 100, sampler=flow, start=start).checked().x


@pytest.mark.parametrize(("kind", "order"), [(score.Heun, 2), (score.DDIM, 1), (score.DPMSolver, 2)])
def test_order(kind, order):
    start, exact = reference()
    errors = []
    for steps in (65, 129):
        x = MODEL.sample(jax.random.key(0), 100, sampler=kind(steps, 0.05, 30.0, "geometric"), start=start).x
        errors.append(jnp.sqrt(jnp.mean((x - exact) ** 2)))
    assert abs(float(jnp.log2(errors[0] / errors[1])) - order) < 0.25


def test_evaluations_are_counted(key):
    for name, expected in {"heun": 63, "ddim": 100, "dpmpp_2m": 32, "predictor_corrector": 199}.items():
        assert int(MODEL.sample(key, 2, sampler=name).evaluations) == expected


def test_no_data_are_drawn_and_judged(key):
    none = MODEL.sample(key, 0, sampler=score.DDIM(4)).checked()
    assert none.x.shape == (0, 2)
    assert MODEL.log_prob(none.x, flow=score.ProbabilityFlow(error_bars=False)).checked().value.shape == (0,)
    with pytest.raises(ValueError, match="Argument `data` must hold at least one sample"):
        score.train(score.Config(), none.x, key=key)


CHURN = 10.0


def test_churn_adds_the_noise_that_the_step_removes(key):
    """Of a normal law everything is linear: one step from the raised level and the last denoising, by hand."""
    normal, sigma, after = score.exact(models.mixture([[0.0]], 1.0)), 3.0, 1.0
    start = jnp.sqrt(1 + sigma**2) * jax.random.normal(jax.random.key(1), (20_000, 1))
    for churn, raised in ((0.0, 1.0), (0.5, 1.25), (CHURN, 2**0.5)):
        up = raised * sigma
        slope = up / (1 + up**2)
        guess = 1 + (after - up) * slope
        factor = (1 + 0.5 * (after - up) * (slope + guess * after / (1 + after**2))) / (1 + after**2)
        x, evaluations = score.Heun(churn=churn).move(normal, start, jnp.array([sigma, after]), key)
        assert int(evaluations) == 3
        assert float(jnp.mean(x * start) / jnp.mean(start**2)) == pytest.approx(factor, rel=0.03)
        assert float(jnp.std(x)) == pytest.approx(factor * (1 + up**2) ** 0.5, rel=0.02)  # that of the raised level


@pytest.mark.slow
def test_churn_keeps_the_law(key):
    drawn = MODEL.sample(key, 4000, sampler=score.Heun(40, **WIDE, churn=CHURN)).checked()
    assert abs(float(jnp.mean(drawn.x[:, 0] < 0)) - 0.8) < 0.03
    assert abs(float(jnp.std(drawn.x[:, 1])) - 0.5) < 0.04


def test_a_denoiser_that_breaks_is_a_status(key):
    broken = score.Denoiser(None, jnp.zeros(2), jnp.ones(2), lambda _, y, s: jnp.full_like(y, jnp.nan), (2,))
    with pytest.raises(jk.SolverError, match=r"score.sample: not_finite \(3 of 3 lanes"):
        broken.sample(key, 3).checked()
    with pytest.raises(ValueError, match="Argument `sampler` must be one of 'heun'"):
        MODEL.sample(key, 3, sampler="magic")
    with pytest.raises(ValueError, match="Argument `schedule` must be one of 'karras'"):
        score.Heun(schedule="linear")


def test_the_corrector_moves_by_its_ratio_of_signal_to_noise(key):
    """Of a standard normal law one step is linear: its variance by hand, with step `2 r^2 E n^2 / E score^2`."""
    normal, sigma, after, ratio = score.exact(models.mixture([[0.0]], 1.0)), 3.0, 1.0, 0.4
    start = jnp.sqrt(1 + sigma**2) * jax.random.normal(jax.random.key(1), (20_000, 1))
    x, _ = score.PredictorCorrector(snr=ratio).move(normal, start, jnp.array([sigma, after]), key)
    kept = (after / sigma) ** 2
    variance = (1 + sigma**2) * (kept + (1 - kept) / (1 + sigma**2)) ** 2 + after**2 * (1 - kept)
    step = 2 * ratio**2 * (1 + after**2) ** 2 / variance
    variance = variance * (1 - step / (1 + after**2)) ** 2 + 2 * step
    assert float(jnp.std(x)) == pytest.approx(variance**0.5 / (1 + after**2), rel=0.02)
