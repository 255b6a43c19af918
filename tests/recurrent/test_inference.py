"""Parameters from few observations: the article's seven points, and Gause's Paramecium."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit import competition, recurrent

ARTICLE = recurrent.ARTICLE
SEEN = (ARTICLE.times, ARTICLE.values)


def off(params):
    """Largest relative error of the article's parameters."""
    return max(float(np.max(np.abs(np.asarray(params[k]) / ARTICLE.truth[k] - 1))) for k in params)


@pytest.fixture(scope="module")
def many():
    return recurrent.infer(recurrent.two_species, ARTICLE.guess, SEEN, dt=1.0).checked()


def test_article_by_many_starts(many):
    assert float(many.sse) <= 0.53
    assert off(many.params) <= 0.05
    assert many.all_sse.shape == (64,)
    assert float(jnp.nanmin(many.all_sse)) == float(many.sse)
    lost = np.asarray(many.all_sse) > 1.001 * float(many.sse)
    assert 0.1 < np.mean(lost) < 0.9  # a single start is a lottery: that is why there are many
    np.testing.assert_allclose(jax.tree.leaves(many.starts)[0][0], jax.tree.leaves(ARTICLE.guess)[0])
    np.testing.assert_allclose(many.xs[0], ARTICLE.values[0])
    np.testing.assert_allclose(many.times, np.arange(43.0))


def test_article_by_shooting(many):
    found = recurrent.infer(recurrent.two_species, ARTICLE.guess, SEEN, dt=1.0, method="shooting").checked()
    for name in found.params:
        np.testing.assert_allclose(found.params[name], many.params[name], rtol=1e-5)


def test_standard_errors_by_finite_differences(many):
    """Twelve residuals, six parameters: the covariance from differences of plain NumPy runs."""

    def residuals(flat):
        p = dict(zip(("r", "c", "a"), flat.reshape(3, 2), strict=True))
        rhs = lambda x: p["r"] * x * (1 - p["c"] * x) - p["a"] * x[0] * x[1]
        x, rows = np.array([100.0, 150.0]), [np.array([100.0, 150.0])]
        for _ in range(42):
            k1 = rhs(x)
            k2 = rhs(x + k1 / 2)
            k3 = rhs(x + k2 / 2)
            k4 = rhs(x + k3)
            x = x + (k1 + 2 * k2 + 2 * k3 + k4) / 6
            rows.append(x)
        return (np.array(rows)[ARTICLE.times.astype(int)] - ARTICLE.values)[1:].ravel()

    best = np.concatenate([many.params[k] for k in ("r", "c", "a")])
    step = 1e-5 * best
    columns = [(residuals(best + d) - residuals(best - d)) / (2 * d.sum()) for d in np.diag(step)]
    jacobian, r = np.stack(columns, axis=1), residuals(best)
    assert r @ r == pytest.approx(float(many.sse), rel=1e-9)
    errors = np.sqrt(np.diag(np.linalg.inv(jacobian.T @ jacobian)) * (r @ r) / 6)
    ours = np.concatenate([many.standard_errors[k] for k in ("r", "c", "a")])
    np.testing.assert_allclose(ours, errors, rtol=1e-4)
    assert many.degrees_of_freedom == 6


def test_article_by_its_recipe():
    found = recurrent.infer(recurrent.two_species, ARTICLE.guess, SEEN, dt=1.0, scheme="euler", method="adam").checked()
    assert found.history.shape == (10_000,)
    assert float(found.history[0]) > 1e5
    assert 75 < float(jnp.min(found.history[-1000:])) < 95  # the article's plateau
    assert off(found.params) > 0.7


def test_gause_agrees_with_publication_and_competition():
    seen = recurrent.paramecium()
    guess = {"r": np.ones(2), "c": np.full(2, 0.005), "a": np.full(2, 0.005)}
    found = recurrent.infer(
        recurrent.two_species, guess, seen, dt=0.25, start=recurrent.FreeStart(), method="levenberg_marquardt"
    ).checked()
    assert float(found.sse) <= 3874.23
    assert found.degrees_of_freedom == 38
    np.testing.assert_allclose(found.params["r"], [1.734873, 0.810376], rtol=1e-3)
    np.testing.assert_allclose(found.params["a"], [0.010787, 0.001688], rtol=1e-3)
    np.testing.assert_allclose(found.start, [0.574824, 4.533909], rtol=1e-3)
    np.testing.assert_allclose(found.standard_errors["r"], [0.4005, 0.2182], rtol=1e-3)
    np.testing.assert_allclose(found.start_errors, [0.683, 3.276], rtol=1e-3)
    data = competition.gause("paramecium")
    assert sorted(np.asarray(seen.values).ravel()) == sorted(np.asarray(data.volume))


@pytest.mark.slow
def test_gause_agrees_with_competition_fit():
    guess = {"r": np.ones(2), "c": np.full(2, 0.005), "a": np.full(2, 0.005)}
    found = recurrent.infer(
        recurrent.two_species, guess, recurrent.paramecium(), dt=0.125, start=recurrent.FreeStart()
    ).checked()
    theirs = competition.fit(competition.gause("paramecium")).checked()
    assert float(found.sse) == pytest.approx(float(theirs.sse), rel=1e-6)
    np.testing.assert_allclose(found.params["r"], theirs.rates.r, rtol=1e-3)


def decay(t, x, p):
    return -p["rate"] * x


TIMES = np.array([0.0, 0.5, 1.5, 3.0])
VALUES = np.stack([3 * np.exp(-0.5 * TIMES), 2 * np.exp(-0.5 * TIMES)], axis=1)


def decay_fit(times=TIMES, values=VALUES, **options):
    return recurrent.infer(decay, {"rate": 0.1}, (times, values), dt=0.25, method="levenberg_marquardt", **options)


def test_missing_values_do_not_count():
    holes = VALUES.copy()
    holes[1, 0] = holes[3, 1] = np.nan
    found = decay_fit(values=holes).checked()
    assert found.residuals.shape == (4,)
    assert float(found.params["rate"]) == pytest.approx(0.5, abs=1e-4)
    shifted = decay_fit(values=np.where(np.isnan(holes), 1e6, holes))
    assert abs(float(shifted.params["rate"]) - 0.5) > 0.1  # the same places filled do count


def test_observing_a_part_and_a_given_start():
    found = decay_fit(values=VALUES.sum(1, keepdims=True), start=jnp.array([3.0, 2.0]), observe=lambda x: x.sum()[None])
    assert float(found.checked().params["rate"]) == pytest.approx(0.5, abs=1e-4)


def test_signs_are_free_on_request():
    grows = np.stack([3 * np.exp(0.5 * TIMES)] * 2, axis=1)
    assert float(decay_fit(values=grows, positive=False).checked().params["rate"]) == pytest.approx(-0.5, abs=1e-3)
    kept = decay_fit(values=grows)
    assert float(kept.params["rate"]) > 0


def test_no_fit_is_reported():
    explosive = lambda t, x, p: jnp.exp(p["rate"] * x**2)
    found = recurrent.infer(explosive, {"rate": 5.0}, (TIMES, VALUES), dt=0.25, method="levenberg_marquardt")
    with pytest.raises(jk.SolverError, match="infer: "):
        found.checked()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"times": TIMES + np.array([0, 0, 0.1, 0])},
            r"Argument `times` must lie a whole number of steps after the first",
        ),
        ({"times": TIMES[::-1]}, "Argument `times` must not decrease"),
        ({"times": TIMES[:3]}, r"Argument `values` must have shape \(3, d\), but has shape \(4, 2\)"),
        ({"values": np.full((4, 2), np.nan)}, r"Argument `values\[0\]` must be finite"),
        ({"observe": lambda x: x}, "Argument `start` must be given with `observe`, but is None"),
        ({"values": np.concatenate([VALUES[:1], np.full((3, 2), np.nan)])}, "must hold at least 1 values to fit"),
    ],
)
def test_bad_observations(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        decay_fit(**options)


def test_bad_guess_and_method():
    with pytest.raises(ValueError, match="Argument `params0` must not contain 0 where signs are kept"):
        recurrent.infer(decay, {"rate": 0.0}, (TIMES, VALUES), dt=0.25)
    with pytest.raises(
        ValueError, match="Argument `method` must be one of 'multistart', 'shooting', 'levenberg_marquardt', 'adam'"
    ):
        recurrent.infer(decay, {"rate": 1.0}, (TIMES, VALUES), dt=0.25, method="sgd")
