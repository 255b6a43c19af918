"""log Z by annealed importance sampling against Gaussians and quadrature."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk


def precision_of(d):
    """A fixed full matrix of condition 4."""
    basis, _ = np.linalg.qr(np.random.default_rng(d).normal(size=(d, d)))
    return jnp.asarray(basis * np.geomspace(1.0, 4.0, d) @ basis.T)


@functools.partial(jax.jit, static_argnames=("backwards", "chains", "levels"))
def estimate(key, precision, *, backwards=False, chains=1000, levels=300):
    d = len(precision)
    energy = lambda x, p: 0.5 * (x - 0.2) @ p @ (x - 0.2)
    samples = None
    if backwards:
        white = jax.random.normal(key, (chains, d))
        samples = 0.2 + jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(precision).T, white.T).T
    return jk.log_partition(
        energy, jnp.zeros(d), precision, key=key, scale=0.8, chains=chains, levels=levels, samples=samples
    )


@pytest.mark.parametrize("d", [2, 6, *(pytest.param(d, marks=pytest.mark.slow) for d in (21, 43))])
def test_log_z_of_gaussians(key, d):
    precision = precision_of(d)
    exact = 0.5 * d * math.log(2 * math.pi) - 0.5 * float(jnp.linalg.slogdet(precision)[1])
    found = estimate(key, precision, chains=2000 if d > 21 else 1000).checked()
    assert abs(float(found.value) - exact) < 0.02, (float(found.value) - exact, float(found.std_error))
    assert float(found.std_error) < 0.01


def test_the_truth_lies_between_cooling_and_heating(key):
    """Jensen: the mean log weight of cooling errs downwards, that of heating upwards (bidirectional Monte Carlo)."""
    precision = precision_of(6)
    exact = 3 * math.log(2 * math.pi) - 0.5 * float(jnp.linalg.slogdet(precision)[1])
    base = 3 * math.log(2 * math.pi) + 6 * math.log(0.8)  # the Gaussian of `scale` that weights are relative to
    down = estimate(key, precision, chains=200, levels=10).checked()
    up = estimate(key, precision, chains=200, levels=10, backwards=True).checked()
    low, high = base + float(down.log_weights.mean()), base - float(up.log_weights.mean())
    assert low + 0.01 < exact < high - 0.01
    assert high - low < 1.5
    assert low < float(down.value) < high
    assert low < float(up.value) < high


def test_log_z_of_a_pair_of_pits_against_quadrature(key):
    energy = lambda x, _: 2 * (x[0] ** 2 - 1) ** 2 + x[0] / 2
    x = np.linspace(-4, 4, 4001)
    exact = math.log(np.sum(np.exp(-(2 * (x**2 - 1) ** 2 + x / 2))) * (x[1] - x[0]))
    found = jk.log_partition(energy, jnp.zeros(1), key=key, scale=1.5, chains=2000, levels=60).checked()
    assert abs(float(found.value) - exact) < max(0.02, 3 * float(found.std_error))


@pytest.mark.slow
def test_states_may_be_pytrees_and_failures_are_told(key):
    energy = lambda x, _: 0.5 * (x["a"] ** 2 + jnp.sum(x["b"] ** 2))
    center = {"a": jnp.asarray(0.0), "b": jnp.zeros((2, 2))}
    found = jk.log_partition(energy, center, key=key, chains=50, levels=20).checked()
    assert float(found.value) == pytest.approx(2.5 * math.log(2 * math.pi), abs=1e-9)  # the base itself: exact
    assert float(found.ess) == pytest.approx(50)
    bad = jk.log_partition(lambda x, _: jnp.sum(x) / 0.0, jnp.zeros(2), key=key, chains=5, levels=5)
    with pytest.raises(jk.SolverError, match="log_partition: not_finite"):
        bad.checked()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"chains": 0}, "`chains` must be positive"),
        ({"scale": -1.0}, "`scale` must be"),
        ({"method": jk.HMC(target_accept=2.0)}, "`target_accept`"),
    ],
)
def test_unusable_arguments(key, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        jk.log_partition(lambda x, _: jnp.sum(x**2), jnp.zeros(2), key=key, **change)
