"""Likelihood by the probability flow, against densities known in closed form."""

import functools

import jax
import jax.numpy as jnp
import pytest

import jaxkit as jk
from jaxkit import models, score

RING = models.ring(8)
MODEL = score.exact(RING)
PLAIN = {"error_bars": False}


@functools.cache
def points():
    return RING.sample(jax.random.key(3), 200)


@functools.cache
def density(**settings):
    flow = score.ProbabilityFlow(**settings)
    key = None if flow.trace == "exact" else jax.random.key(5)
    return jax.jit(lambda x: MODEL.log_prob(x, flow=flow, key=key))


def test_known_mixture():
    found = density()(points()).checked()
    assert found.value.shape == (200,)
    assert jnp.max(jnp.abs(found.value - RING.log_prob(points()))) < 1e-3
    # The bar of the tolerance covers the error of the solver (against the density at the least noise) nearly always.
    error = jnp.abs(found.value - RING.log_prob(points(), 1e-3))
    assert jnp.mean(error <= found.tolerance_error) > 0.85
    assert jnp.all(found.probe_error == 0)


@pytest.mark.slow
def test_error_falls_with_the_tolerance():
    exact = RING.log_prob(points(), 1e-3)
    worst = [
        float(jnp.max(jnp.abs(density(rtol=r, **s)(points()).value - exact))) for r, s in ((1e-3, PLAIN), (1e-5, {}))
    ]
    assert worst[1] < 0.01 * worst[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in score.NOISES if n != "ve"])
def test_every_process_gives_the_same_density(name):
    found = density(noise=score.NOISES[name](), error_bars=False)(points()[:50]).checked()
    assert jnp.max(jnp.abs(found.value - RING.log_prob(points()[:50]))) < 1e-3
    assert bool(jnp.all(jnp.isnan(found.tolerance_error)))


def test_single_precision():
    mixture = jax.tree.map(lambda v: v.astype(jnp.float32), RING)
    x = points().astype(jnp.float32)
    value = score.exact(mixture).log_prob(x, flow=score.ProbabilityFlow(**PLAIN)).checked().value
    assert value.dtype == jnp.float32
    assert jnp.max(jnp.abs(value.astype(float) - RING.log_prob(points()))) < 5e-3


def test_probes_are_averaged():
    found = density(trace=16, error_bars=False)(points()).checked()
    error = found.value - RING.log_prob(points())
    assert abs(float(jnp.mean(error))) < 4 * float(jnp.sqrt(jnp.mean(error**2) / error.size))
    # The bars have the size of the errors they stand for: their ratio has unit variance, nearly.
    assert 0.7 < float(jnp.sqrt(jnp.mean((error / found.probe_error)[found.probe_error > 1e-3] ** 2))) < 1.4


@pytest.mark.slow
def test_prior_must_hold_the_variance_of_the_data():
    noise = score.VE(1e-3, 30.0)
    wrong = lambda y, sigma: jnp.sum(jax.scipy.stats.norm.logpdf(y, scale=sigma[:, None]), axis=1)
    off = jnp.max(
        jnp.abs(density(noise=noise, prior=wrong, error_bars=False)(points()).value - RING.log_prob(points()))
    )
    exact = jnp.max(
        jnp.abs(density(noise=noise, prior=RING.log_prob, error_bars=False)(points()).value - RING.log_prob(points()))
    )
    assert off > 5e-3
    assert exact < 1e-3


@pytest.mark.slow
def test_gradient_through_the_solver_is_the_score():
    x = points()[:8]

    def total(x, shift):
        moved = models.Mixture(RING.log_weights, RING.means + shift, RING.sd)
        flow = score.ProbabilityFlow(rtol=1e-4, max_steps=64, error_bars=False)
        return jnp.sum(score.exact(moved).log_prob(x, flow=flow).value)

    by_x, by_shift = jax.jit(jax.grad(total, argnums=(0, 1)))(x, 0.0)
    assert jnp.allclose(by_x, RING.score(x), atol=0.1, rtol=1e-2)
    assert jnp.allclose(by_shift, -jnp.sum(RING.score(x)), atol=0.3)


def test_round_trip():
    flow = score.ProbabilityFlow(rtol=1e-7)
    codes = MODEL.encode(points(), flow=flow).checked()
    assert jnp.allclose(codes.values.var(0), 1.0, atol=0.25)
    back = MODEL.decode(codes.values, flow=flow).checked()
    assert jnp.max(jnp.abs(back.values - points())) < 1e-4
    assert jnp.allclose(density()(points()).latent, codes.values, atol=2e-3)


def test_failures_are_a_status():
    found = MODEL.log_prob(points()[:3], flow=score.ProbabilityFlow(max_steps=4, error_bars=False))
    assert found.status.tolist() == [int(jk.Status.max_steps)] * 3
    with pytest.raises(jk.SolverError, match=r"score.log_prob: max_steps \(3 of 3 lanes failed"):
        found.checked()


def test_unusable_arguments():
    for trace in (0, "hutchinson"):
        with pytest.raises(ValueError, match="Argument `trace` must be 'exact' or a positive number"):
            score.ProbabilityFlow(trace=trace)
    with pytest.raises(ValueError, match="Argument `key` must be given with random probes"):
        MODEL.log_prob(points(), flow=score.ProbabilityFlow(trace=2))
    with pytest.raises(ValueError, match=r"Argument `x` must have shape \(n, 2\)"):
        MODEL.log_prob(jnp.zeros(2))


def test_bits():
    # Bytes spread over [-1, 1]: a uniform density of 1/2 a coordinate costs 8 bits.
    value = jnp.full(3, -4 * jnp.log(2.0))
    assert jnp.allclose(score.bits_per_dimension(value, 4, bin_width=2 / 256), 8.0)


def test_the_error_of_two_probes_of_a_normal_law(key):
    """In the plane each probe is off by `+c` or `-c`, the same `c` everywhere: two agree, and are off, or do not."""
    own = jnp.array([[1.0, 0.6], [0.6, 1.0]])
    linear = lambda y, s: own @ jnp.linalg.solve(own + s**2 * jnp.eye(2), y)
    apply = lambda _, y, s: jax.vmap(linear)(y, jnp.broadcast_to(s, y.shape[:1]))
    model = score.Denoiser(None, jnp.zeros(2), jnp.ones(2), apply, (2,))
    x = jnp.tile(jnp.array([[0.3, -0.8]]), (32, 1))
    found, exact = (
        model.log_prob(x, flow=score.ProbabilityFlow(trace=trace, rtol=1e-7, error_bars=False), key=key).checked()
        for trace in (2, "exact")
    )
    off = jnp.abs(found.value - exact.value)
    assert 0 < int(jnp.sum(off > 0.01)) < 32
    both = off + found.probe_error
    assert jnp.allclose(both, both[0], rtol=1e-4)
