"""Unknowns, many starts, profiles, predictions and posteriors against linear problems with closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk

X = jnp.linspace(0.0, 1.0, 12)
Y = 1.0 + 2.0 * X + 0.1 * jnp.sin(40 * X)
DESIGN = np.stack([np.ones(12), np.asarray(X)], axis=1)


def line(p, y):
    return p["shift"] + p["slope"] * X - y


@pytest.fixture(scope="module")
def best():
    return jk.least_squares(line, {"shift": 0.0, "slope": 0.0}, Y).checked()


def test_standard_errors_keep_the_structure_under_vmap():
    x = jnp.linspace(0.0, 1.0, 6)
    model = lambda p, _: p["slope"] * x + p["shift"][0] + p["shift"][1] * x**2 - jnp.sin(x)
    starts = {"shift": jnp.ones((3, 2)), "slope": jnp.arange(3.0)}
    best, every = jk.inverse.multistart(model, starts)
    assert best.standard_errors["shift"].shape == (2,)
    assert every.standard_errors["shift"].shape == (3, 2)
    np.testing.assert_allclose(every.standard_errors["slope"][0], best.standard_errors["slope"], rtol=1e-6)


def test_the_best_of_many_starts_is_the_least_finite_one():
    wave = lambda w, _: jnp.where(w < 3, jnp.nan, 1.0) * (jnp.sin(w * 5 * X) - jnp.sin(25 * X))
    best, every = jk.inverse.multistart(wave, jnp.linspace(1.0, 9.0, 16))
    assert float(best.params) == pytest.approx(5, rel=1e-9)
    assert bool(best.ok)
    assert int(np.sum(np.asarray(every.status) == jk.Status.not_finite)) == 4  # the starts below 3


DATA = 2 * jnp.exp(-1.5 * X) + 0.1 * jnp.sin(40 * X)


@jax.jit
def best_curve(y):
    # Two lanes fail, where the residuals have no derivative.
    curve = lambda p, y: jnp.where(p[1] < 0, jnp.nan, p[0] * jnp.exp(-p[1] * X)) - y
    starts = jnp.array([[1.0, -1.0], [1.0, 1.0], [jnp.nan, 1.0], [3.0, 2.0]])
    return jk.inverse.multistart(curve, starts, y)[0]


def how_the_curve_moves(best):
    # The implicit function theorem by hand.
    (a, k), r, x = np.asarray(best.params), np.asarray(best.residuals), np.asarray(X)
    e = np.exp(-k * x)
    jac = np.stack([e, -a * x * e], axis=1)
    hessian = jac.T @ jac + np.array([[0, -r @ (x * e)], [-r @ (x * e), r @ (a * x**2 * e)]])
    return np.linalg.solve(hessian, jac.T)


def test_starts_that_fail_do_not_reach_into_the_derivative_of_the_best():
    slope = jax.jacrev(lambda y: best_curve(y).params)(DATA)
    np.testing.assert_allclose(slope, how_the_curve_moves(best_curve(DATA)), rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("of", [jax.jacrev, jax.jacfwd])
def test_the_derivative_of_the_best_in_lanes_and_both_modes(of):
    several = jnp.stack([DATA, 1.1 * DATA])
    slopes = jax.jit(jax.vmap(of(lambda y: best_curve(y).params)))(several)
    for y, slope in zip(several, slopes, strict=True):
        np.testing.assert_allclose(slope, how_the_curve_moves(best_curve(y)), rtol=1e-7)
    # The sum of squares is stationary in the parameters: its derivative by the data is -2 residuals.
    sums = jax.jit(of(lambda y: best_curve(y).sse))(DATA)
    np.testing.assert_allclose(sums, -2 * best_curve(DATA).residuals, atol=1e-9)


@pytest.mark.parametrize(
    ("starts", "sentence"),
    [
        ({}, "must hold arrays with one leading axis"),
        (1.0, "must hold arrays with one leading axis"),
        ((jnp.ones(3), jnp.ones(2)), "must hold arrays with one leading axis"),
        (jnp.ones((0, 2)), "must hold at least one start"),
        (jnp.ones((3, 0)), "must hold at least one number"),
    ],
)
def test_unusable_starts(starts, sentence):
    with pytest.raises(ValueError, match=sentence):
        jk.inverse.multistart(lambda p, _: jnp.ones(4), starts)


@pytest.mark.parametrize("positive", [True, False])
def test_unknowns_go_there_and_back(positive, key):
    first = {"a": jnp.array([2.0, -3.0]), "b": 0.5}
    unknowns = jk.inverse.Unknowns(first, positive=positive)
    jax.tree.map(
        lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-15), unknowns.tree(unknowns.guess), first
    )
    z = unknowns.guess + jnp.array([0.1, 0.2, -0.3])
    slopes = jax.jacobian(unknowns.natural)(z)
    covariance = jnp.diag(jnp.array([0.1, 0.2, 0.3])) + 0.05
    np.testing.assert_allclose(unknowns.covariance(z, covariance), slopes @ covariance @ slopes.T, rtol=1e-12)
    starts = unknowns.scatter(2000, key, spread=0.5)
    np.testing.assert_array_equal(starts[0], unknowns.guess)
    if positive:
        assert 0.49 < float(jnp.max(jnp.abs(starts))) < 0.5
        assert bool(jnp.all(jnp.sign(jax.vmap(unknowns.natural)(starts)) == jnp.array([[1.0, -1.0, 1.0]])))
    else:
        np.testing.assert_allclose(jnp.std(starts, axis=0), 0.5 * jnp.array([2.0, 3.0, 0.5]), rtol=0.05)


def test_unknowns_that_keep_their_sign_are_not_zero():
    with pytest.raises(ValueError, match="Argument `params0` must not contain 0 where signs are kept"):
        jk.inverse.Unknowns({"a": 0.0})


def test_the_profile_of_a_line_is_its_parabola(best):
    found = jax.jit(lambda y: jk.inverse.profile(line, best.params, best.covariance, 1, y, points=7))(Y).checked()
    steps = (found.values - best.params["slope"]) / best.standard_errors["slope"]
    np.testing.assert_allclose(steps, np.linspace(-3, 3, 7), atol=1e-12)
    # s^2 at the estimate, times the square of the distance in standard errors
    np.testing.assert_allclose(found.sse, best.sse * (1 + steps**2 / best.degrees_of_freedom), rtol=1e-7)


def test_a_profile_spans_as_many_errors_as_asked(best):
    found = jk.inverse.profile(line, best.params, best.covariance, 1, Y, span=1.5, points=3)
    ends = best.params["slope"] + 1.5 * best.standard_errors["slope"] * np.array([-1.0, 0.0, 1.0])
    np.testing.assert_allclose(found.values, ends, rtol=1e-12)


def test_a_profile_tells_where_its_fits_failed():
    bad = lambda p, _: jnp.log(p[0]) * jnp.ones(4) + p[1] * X[:4] - 1.0
    found = jk.inverse.profile(bad, jnp.array([1.0, 1.0]), jnp.eye(2), 0, span=2.0, points=3)
    assert [int(s) for s in found.status] == [jk.Status.not_finite, jk.Status.ok, jk.Status.ok]
    with pytest.raises(jk.SolverError, match="profile: not_finite"):
        found.checked()


@pytest.mark.parametrize(
    ("index", "params", "sentence"),
    [
        (2, jnp.ones(2), "`index` must lie between 0 and 1, but is 2"),
        (0, jnp.ones(1), "must hold at least two numbers"),
    ],
)
def test_unusable_profiles(index, params, sentence):
    with pytest.raises(ValueError, match=sentence):
        jk.inverse.profile(lambda p, _: p, params, jnp.eye(params.size), index)


def test_the_errors_of_a_prediction_are_those_of_linear_regression(best):
    ahead = jnp.array([0.5, 3.0])
    value, error = jk.inverse.predict(lambda p: {"y": p["shift"] + p["slope"] * ahead}, best.params, best.covariance)
    np.testing.assert_allclose(value["y"], best.params["shift"] + best.params["slope"] * ahead, rtol=1e-12)
    rows = np.stack([np.ones(2), ahead], axis=1)
    variance = float(best.sse) / 10 * np.einsum("ij,jk,ik->i", rows, np.linalg.inv(DESIGN.T @ DESIGN), rows)
    np.testing.assert_allclose(error["y"], np.sqrt(variance), rtol=1e-8)


def test_the_posterior_of_a_line_is_its_gaussian(best, key):
    scaled = lambda p, y: line(p, y) / 0.2
    fit = jk.least_squares(scaled, best.params, Y)
    drawn = jax.jit(lambda y: jk.inverse.sample_posterior(scaled, fit, y, key=key, chains=50, steps=800))(Y).checked()
    assert drawn.xs["slope"].shape == (800, 50)
    draws = np.stack([np.asarray(drawn.xs[k]).ravel() for k in ("shift", "slope")])
    np.testing.assert_allclose(draws.mean(1), [best.params["shift"], best.params["slope"]], atol=0.01)
    np.testing.assert_allclose(np.cov(draws), 0.04 * np.linalg.inv(DESIGN.T @ DESIGN), rtol=0.05)
    assert float(drawn.rhat["slope"]) < 1.02
