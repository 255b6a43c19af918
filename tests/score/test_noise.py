"""Noise processes and exact mixtures: two derivations of everything must agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit import models, score

MIXTURE = models.mixture([[-2.0, 0.5], [1.0, -1.0], [2.0, 2.0]], [0.3, 0.6, 0.9], [0.5, 0.3, 0.2])


@pytest.mark.parametrize("name", score.NOISES)
def test_process_has_the_moments_its_equation_gives(name):
    noise = score.NOISES[name]()
    for t in jnp.linspace(noise.t_min, noise.t_max, 5)[1:-1]:
        assert jnp.allclose(noise.time(noise.sigma(t)), t, rtol=1e-9)
        variance = lambda t: (noise.scale(t) * noise.sigma(t)) ** 2
        fading = noise.drift(t, jnp.ones(()))
        # d scale/dt = f scale, d var/dt = 2 f var + g^2
        assert jnp.allclose(jax.grad(noise.scale)(t), fading * noise.scale(t), rtol=1e-9)
        assert jnp.allclose(jax.grad(variance)(t), 2 * fading * variance(t) + noise.diffusion(t) ** 2, rtol=1e-9)


def test_closed_forms_of_song_et_al():
    t = jnp.asarray(0.4)
    integral = 0.1 * t + 0.5 * t**2 * 19.9
    beta = 0.1 + t * 19.9
    vp, sub, ve = score.VP(), score.SubVP(), score.VE(0.01, 50.0)
    assert jnp.allclose(vp.drift(t, jnp.ones(())), -0.5 * beta)
    assert jnp.allclose(vp.diffusion(t) ** 2, beta)
    assert jnp.allclose(sub.diffusion(t) ** 2, beta * -jnp.expm1(-2 * integral))
    assert jnp.allclose(sub.scale(t) * sub.sigma(t), -jnp.expm1(-integral))
    assert jnp.allclose(ve.diffusion(t), ve.sigma(t) * jnp.sqrt(2 * jnp.log(5000.0)))


@pytest.mark.parametrize("sigma", [0.05, 0.7, 5.0])
def test_tweedie(sigma, key):
    y = MIXTURE.sample(key, 100) + sigma * jax.random.normal(key, (100, 2))
    by_autodiff = jax.grad(lambda y: jnp.sum(MIXTURE.log_prob(y, sigma)))(y)
    denoised = score.exact(MIXTURE).denoise(y, sigma)  # the posterior mean, no derivative in it
    assert jnp.max(jnp.abs(denoised - (y + sigma**2 * by_autodiff))) < 1e-10
    assert jnp.max(jnp.abs(MIXTURE.score(y, sigma) - by_autodiff)) < 1e-10
    assert jnp.allclose(score.exact(MIXTURE).score(y, sigma), by_autodiff, atol=1e-9)


def test_mixture_moments_and_density(key):
    model, x = score.exact(MIXTURE), MIXTURE.sample(key, 100_000)
    assert jnp.allclose(x.mean(0), model.mean, atol=0.02)
    assert jnp.allclose(x.var(0), model.variance, rtol=0.02)
    ticks = jnp.linspace(-8.0, 9.0, 300)
    grid = jnp.stack(jnp.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    total = jnp.sum(jnp.exp(MIXTURE.log_prob(grid, 0.4))) * (ticks[1] - ticks[0]) ** 2
    assert abs(total - 1) < 1e-6


def test_levels():
    for levels in (score.karras(10, 0.01, 50.0), score.geometric(10, 0.01, 50.0)):
        assert jnp.allclose(levels[jnp.array([0, -1])], jnp.array([50.0, 0.01]))
        assert bool(jnp.all(jnp.diff(levels) < 0))
    with pytest.raises(ValueError, match="Argument `sigma_min` must be positive and below `sigma_max`"):
        score.karras(5, 2.0, 1.0)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"Argument `y` must have shape \(n, 2\), but has shape \(3,\)"):
        score.exact(MIXTURE).denoise(jnp.zeros(3), 1.0)
    with pytest.raises(ValueError, match="Argument `weights` must be positive"):
        models.mixture([[0.0], [1.0]], [1.0, 1.0], [1.0, -1.0])


def test_least_levels_are_those_of_the_papers():
    """Song et al. (2021): t from 1e-5 (VP) and 1e-3 (sub-VP), beta from 0.1 to 20; Karras et al. (2022): 0.002."""
    integral = lambda t: 0.1 * t + 0.5 * 19.9 * t**2
    wanted = {
        "ve": 0.002,
        "edm": 0.002,
        "vp": np.sqrt(np.expm1(integral(1e-5))),
        "sub_vp": 2 * np.sinh(0.5 * integral(1e-3)),
    }
    for name, least in wanted.items():
        noise = score.NOISES[name]()
        assert float(noise.sigma(noise.t_min)) == pytest.approx(least, rel=1e-9), name
