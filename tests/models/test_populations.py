"""Lotka-Volterra and Gause's counts: what competition and recurrent share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit import competition, models, recurrent
from jaxkit.models.gause import EXPERIMENTS, PUBLISHED

THREE = models.Rates(jnp.array([1.0, 0.7, -0.2]), jnp.array([[1.0, 0.3, 0.2], [0.1, 0.9, 0.4], [-0.3, 0.2, 0.0]]))


def test_arrays_and_tuples_move_alike():
    x = jnp.array([0.4, 1.3, 0.9])
    whole = models.lotka_volterra(0.0, x, THREE)
    np.testing.assert_allclose(models.lotka_volterra(0.0, tuple(x), THREE), whole, rtol=1e-15)
    by_hand = [x[i] * (THREE.r[i] - sum(THREE.A[i, j] * x[j] for j in range(3))) for i in range(3)]
    np.testing.assert_allclose(whole, by_hand, rtol=1e-14)


def test_prey_and_predator_keep_volterras_first_integral():
    rates = models.Rates(jnp.array([1.1, -0.9]), jnp.array([[0.0, 1.0], [-1.0, 0.0]]))
    kept = lambda x: jnp.sum(x) - 0.9 * jnp.log(x[0]) - 1.1 * jnp.log(x[1])
    x = jnp.array([1.7, 0.4])
    assert abs(float(jax.grad(kept)(x) @ models.lotka_volterra(0.0, x, rates))) < 1e-15


def test_two_species_of_both_subjects_are_one_model():
    p = competition.Params(r=(0.1, 0.3), N=(500.0, 1000 / 3), a=(1e-4, 2e-4))
    x = jnp.array([120.0, 80.0])
    expected = [0.1 * 120 * (1 - 120 / 500) - 1e-4 * 120 * 80, 0.3 * 80 * (1 - 80 * 0.003) - 2e-4 * 120 * 80]
    np.testing.assert_allclose(models.lotka_volterra(0.0, x, p.rates), expected, rtol=1e-14)
    np.testing.assert_allclose(recurrent.two_species(0.0, x, recurrent.ARTICLE.truth), expected, rtol=1e-14)


def test_rates_and_params_are_one_another():
    p = competition.Params(r=(0.1, 0.3), N=(500.0, 400.0), a=(1e-4, 2e-4)).arrays()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14), p.rates.params, p)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_table_of_an_experiment_holds_what_was_counted(experiment):
    counts = models.gause(experiment)
    times, values = counts.table()
    assert np.all(np.diff(times) > 0)
    assert values.shape == (times.size, len(counts.names))
    for time, species, volume in zip(counts.time, counts.species, counts.volume, strict=True):
        seen = counts.volume[(counts.time == time) & (counts.species == species)]  # replicates: the last one stands
        assert volume in seen
        assert values[np.searchsorted(times, time), species] == seen[-1]


def test_gause_is_one_function_with_one_published_fit():
    assert competition.gause is models.gause
    assert jax.tree.leaves(models.gause())[0].size == 46
    estimates = {name: np.asarray(estimate) for name, (estimate, _) in PUBLISHED.items()}
    rest = np.linalg.solve(estimates["A"], estimates["r"])
    np.testing.assert_allclose(rest, (25.45, 142.72), rtol=1e-3)  # the published point of coexistence
