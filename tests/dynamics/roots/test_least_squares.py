"""least_squares: NIST certified values, implicit derivatives, statuses; fit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize

import jaxkit as jk

# NIST StRD nonlinear regression, certified to 11 digits: x, y, model, starts, parameters, standard errors, sum.
MISRA_X = [77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1, 689.1, 760.0]
MISRA_Y = [10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.40, 75.47, 81.78]
RAT_X = [9.0, 14.0, 21.0, 28.0, 42.0, 57.0, 63.0, 70.0, 79.0]
RAT_Y = [8.93, 10.80, 18.59, 22.33, 39.35, 56.11, 61.73, 64.62, 67.08]
NIST = {
    "misra1a": (
        MISRA_X, MISRA_Y, lambda b, x: b[0] * (1 - jnp.exp(-b[1] * x)), [[500.0, 1e-4], [250.0, 5e-4]],
        [2.3894212918e2, 5.5015643181e-4], [2.7070075241, 7.2668688436e-6], 1.2455138894e-1,
    ),
    "rat42": (
        RAT_X, RAT_Y, lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)), [[100.0, 1.0, 0.1], [75.0, 2.5, 0.07]],
        [7.2462237576e1, 2.6180768402, 6.7359200066e-2], [1.7340283401, 8.8295217536e-2, 3.4465663377e-3], 8.0565229338,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NIST)
@pytest.mark.parametrize("start", [0, 1])
def test_nist_certified(name, start):
    x, y, model, starts, params, errors, total = NIST[name]
    x, y = jnp.array(x), jnp.array(y)
    found = jk.least_squares(lambda b, _: model(b, x) - y, jnp.array(starts[start])).checked()
    np.testing.assert_allclose(found.params, params, rtol=1e-6)
    np.testing.assert_allclose(found.standard_errors, errors, rtol=1e-5)
    np.testing.assert_allclose(found.sse, total, rtol=1e-9)
    assert found.degrees_of_freedom == len(y) - len(params)


X = jnp.linspace(0.1, 3.0, 16)
Y = jnp.sin(3 * X)
rosenbrock = lambda p, a: jnp.stack([10 * (p[1] - p[0] ** 2), a - p[0]])
at = jax.jit(lambda a: jk.least_squares(rosenbrock, jnp.array([-1.2, 1.0]), a).params)


def test_implicit_derivative_in_both_modes():
    # The optimum is (a, a^2).
    np.testing.assert_allclose(jax.jacfwd(at)(1.5), [1.0, 3.0], rtol=1e-6)
    np.testing.assert_allclose(jax.jacrev(at)(1.5), [1.0, 3.0], rtol=1e-6)


def test_derivative_of_the_sum_where_it_is_not_zero():
    # A line through data: d sse / d y = -2 residuals at the optimum (envelope theorem).
    x = jnp.linspace(0.0, 1.0, 6)
    y = jnp.array([0.1, 0.3, 0.2, 0.6, 0.9, 0.8])
    total = lambda y: jk.least_squares(lambda p, y: p[0] + p[1] * x - y, jnp.zeros(2), y).sse
    found = jk.least_squares(lambda p, y: p[0] + p[1] * x - y, jnp.zeros(2), y)
    np.testing.assert_allclose(jax.grad(total)(y), -2 * found.residuals, atol=1e-9)
    design = np.stack([np.ones(6), x], 1)
    np.testing.assert_allclose(found.params, np.linalg.lstsq(design, y, rcond=None)[0], rtol=1e-9)
    np.testing.assert_allclose(found.covariance, np.linalg.inv(design.T @ design) * found.sse / 4, rtol=1e-8)


def test_reverse_mode_jacobian_is_the_same():
    forward, reverse = (
        jk.least_squares(
            rosenbrock, jnp.array([-1.2, 1.0]), 1.0, method=jk.LevenbergMarquardt(jacobian=jacobian)
        ).params
        for jacobian in ("forward", "reverse")
    )
    np.testing.assert_allclose(forward, reverse, rtol=1e-9)


def test_decaying_exponentials_from_anywhere_are_the_optimum_or_refused():
    # Most of the starts see nothing of the model: its value, or its change, underflows.
    t = jnp.linspace(0.1, 3.0, 20)
    y = 3 * jnp.exp(-1.3 * t) + 0.05 * jnp.sin(40 * t)
    residuals = lambda p, _: 10 ** p[0] * jnp.exp(-(10 ** p[1]) * t) - y
    starts = jax.random.uniform(jax.random.key(1), (60, 2), minval=-5, maxval=5).at[0].set(jnp.array([4.0, 2.0]))
    found = jax.jit(jax.vmap(lambda p: jk.least_squares(residuals, p)))(starts)
    best = jk.least_squares(residuals, jnp.array([0.4, 0.1])).checked()
    assert 30 <= int(found.ok.sum()) < 60
    np.testing.assert_allclose(found.sse[found.ok], best.sse, rtol=1e-8)
    np.testing.assert_allclose(
        found.params[found.ok], jnp.broadcast_to(best.params, found.params[found.ok].shape), rtol=1e-4
    )


@pytest.mark.parametrize("scale", [1e-100, 1e-19, 1e8])
def test_what_is_small_is_a_matter_of_scale(scale):
    x = jnp.linspace(0.0, 1.0, 9)
    y = scale * (1 + 2 * x + jnp.sin(9 * x))
    found = jk.least_squares(lambda p, y: p[0] + p[1] * x - y, jnp.zeros(2), y).checked()
    np.testing.assert_allclose(found.params / scale, np.polyfit(x, y / scale, 1)[::-1], rtol=1e-6)


def test_a_parameter_that_the_residuals_do_not_see_is_no_optimum():
    x = jnp.arange(400.0, 700.0, 5.0)
    peak = lambda p: p[0] * jnp.exp(-(((x - p[1]) / p[2]) ** 2))
    residuals = lambda p, _: peak(p) - peak(jnp.array([2.0, 550.0, 20.0]))
    fit = jax.jit(lambda p: jk.least_squares(residuals, p))
    assert int(fit(jnp.ones(3)).status) == jk.Status.singular
    np.testing.assert_allclose(fit(jnp.array([1.0, 540.0, 30.0])).checked().params, [2.0, 550.0, 20.0], rtol=1e-8)
    # With as many residuals as parameters nothing tells the noise.
    pair = jk.least_squares(lambda p, _: p[0] + p[1] * x[:2] - x[:2] - 1, jnp.zeros(2)).checked()
    np.testing.assert_allclose(pair.params, [1.0, 1.0], rtol=1e-8)
    assert bool(jnp.all(jnp.isnan(pair.covariance)))


@pytest.mark.parametrize(
    "size", [1e-20, 1e-30, 1e20, 1e30]
)  # squares of such residuals are no numbers of single precision
def test_residuals_of_any_size(size):
    t = np.linspace(0, 10, 50)
    y = jnp.asarray(size * (3 * np.exp(-0.5 * t) + 0.01 * np.sin(37 * t)), jnp.float32)
    t = jnp.asarray(t, jnp.float32)
    decay = lambda p, a: a[0] * p[0] * jnp.exp(-p[1] * t) - a[1]
    fit = jax.jit(lambda p, a: jk.least_squares(decay, p, a))  # one program for all sizes
    found = fit(jnp.ones(2, jnp.float32), (jnp.float32(size), y)).checked()
    usual = fit(jnp.ones(2, jnp.float32), (jnp.float32(1), y / size)).checked()
    np.testing.assert_allclose(found.params, usual.params, rtol=1e-5)
    np.testing.assert_allclose(found.standard_errors, usual.standard_errors, rtol=1e-3)
    small = fit(jnp.array([size, 1], jnp.float32), (jnp.float32(1), y))  # (at 1e20 rounding leaves `no_progress`)
    np.testing.assert_allclose(np.asarray(small.params) / [size, 1], usual.params, rtol=1e-4)


def test_a_combination_that_the_residuals_do_not_show_is_no_optimum():
    # From here the curve is seen at the last point alone, where two of its parameters do the same.
    x, y = jnp.array([1.84, 2.23, 3.0]), jnp.array([1.889, 1.919, 1.603])
    curve = lambda p, _: p[0] / (1 + jnp.exp(p[1] - p[2] * x)) - y
    assert int(jk.least_squares(curve, jnp.array([1.9, -132.0, -44.0])).status) == jk.Status.singular
    line = lambda p, _: (p[0] + p[1]) * X - Y
    assert int(jk.least_squares(line, jnp.ones(2)).status) == jk.Status.singular


@pytest.mark.parametrize("pair", [lambda p: p[0] + p[1], lambda p: p[0] * p[1]])
def test_exact_data_do_not_show_what_they_cannot_tell_apart(pair):
    t = jnp.linspace(0, 1, 11)
    found = jk.least_squares(lambda p, _: (pair(p) - 2) * t, jnp.array([0.3, 0.4]))
    assert int(found.status) == jk.Status.singular


def test_a_saddle_is_no_optimum():
    # A peak that has come to lie beside the data, where its height is all but 0: every column is at right angles to
    # the residuals, and the sum of squares falls where the peak is moved (of 40 starts 7 ended there, ok).
    x = jnp.linspace(0.1, 3.0, 16)
    peak = lambda p: p[0] * jnp.exp(-(((x - p[1]) / p[2]) ** 2))
    y = peak(jnp.array([1.75, 1.48, 0.25]))
    starts = jax.random.uniform(jax.random.key(1), (40, 3), maxval=jnp.array([[2.0, 3.0, 0.6]]))
    found = jax.jit(jax.vmap(lambda p: jk.least_squares(lambda p, _: peak(p) - y, p)))(starts)
    assert int(found.ok.sum()) >= 25
    np.testing.assert_array_less(found.sse[found.ok], 1e-16)


def test_beside_a_pole_is_no_optimum():
    # Towards b = -x[0] the logarithm outgrows any step; both points can be met (12 of these 200 ended at the pole, ok).
    x, y = jnp.array([0.1, 0.68]), jnp.array([-0.697, 0.395])
    starts = jax.random.uniform(jax.random.key(0), (200, 2), maxval=2.0)
    found = jax.jit(jax.vmap(lambda p: jk.least_squares(lambda p, _: p[0] * jnp.log(p[1] + x) - y, p)))(starts)
    assert int(found.ok.sum()) >= 180
    np.testing.assert_array_less(found.sse[found.ok], 1e-16)


def test_between_two_equal_peaks_is_no_optimum():
    x = jnp.linspace(-1.5, 1.5, 31)
    y = jnp.exp(-(((x - 0.5) / 0.3) ** 2)) + jnp.exp(-(((x + 0.5) / 0.3) ** 2))
    one = lambda p, _: p[0] * jnp.exp(-(((x - p[1]) / 0.3) ** 2)) - y
    found = jk.least_squares(one, jnp.array([1.0, 0.0])).checked()
    by_scipy = optimize.least_squares(lambda p: np.asarray(one(p, None)), [1.0, 0.4], xtol=1e-12, gtol=1e-12)
    np.testing.assert_allclose(jnp.abs(found.params), by_scipy.x, rtol=1e-6)
    # A parameter that is 0 at the optimum is held there by the others' columns: a line through symmetric data.
    line = jk.least_squares(lambda p, _: p[0] * x + p[1] - y, jnp.ones(2)).checked()
    np.testing.assert_allclose(line.params, [0.0, float(y.mean())], atol=1e-5)


def test_a_large_parameter_does_not_hide_the_others():
    # A step that is short beside a frequency of 1e5 (an alias of the true one, 5) is long beside an amplitude of 2.
    wave = lambda p: p[0] * jnp.exp(-p[1] * X) * jnp.cos(p[2] * X + p[3])
    truth = jnp.array([1.9684, 0.28131, 5.0, 0.62])
    found = jk.least_squares(lambda p, _: wave(p) - wave(truth), jnp.array([5.038, 2.3975, 162402.363, 0.0966]))
    assert bool(found.ok)
    assert float(found.sse) < 1e-18
    np.testing.assert_allclose(found.params[:2], truth[:2], rtol=1e-8)


def test_statuses():
    line = lambda p, _: jnp.stack([p[0] - 1.0, p[0] + 1.0, jnp.log(p[1])])
    assert int(jk.least_squares(line, jnp.array([0.3, -1.0])).status) == jk.Status.not_finite
    assert int(jk.least_squares(rosenbrock, jnp.array([-1.2, 1.0]), 1.0, max_steps=3).status) == jk.Status.max_steps


@pytest.mark.parametrize(
    ("residuals", "params", "sentence"),
    [
        (lambda p, _: p[:1], jnp.zeros(2), "must return at least 2 values, one a parameter, but returns 1"),
        (lambda p, _: {}, jnp.zeros(2), "must return at least 2 values, one a parameter, but returns 0"),
        (lambda p, _: jnp.ones(3), {}, "Argument `params0` must hold at least one number, but is empty"),
        (lambda p, _: jnp.ones(0), jnp.zeros(0), "Argument `params0` must hold at least one number, but is empty"),
        (lambda p, _: p.astype(complex), jnp.zeros(2), "Argument `residuals` must be real, but is complex"),
    ],
)
def test_what_cannot_be_fitted_is_one_sentence(residuals, params, sentence):
    with pytest.raises(ValueError, match=sentence):
        jk.least_squares(residuals, params)


def test_residuals_of_another_dtype_than_the_parameters():
    x = jnp.arange(5.0)
    fit = jk.least_squares(lambda p, _: p[0].astype(x.dtype) * x - 2 * x, jnp.zeros(1, jnp.float32)).checked()
    assert fit.params.dtype == jnp.float64
    assert float(fit.params[0]) == pytest.approx(2, rel=1e-12)


class TestFit:
    def test_reaches_the_minimum(self):
        found = jk.fit(lambda p, a: (p["x"] - a) ** 2, {"x": 0.0}, 3.0, optimizer=optax.adam(0.1), steps=400).checked()
        assert abs(float(found.params["x"]) - 3) < 1e-3
        assert found.history.shape == (400,)
        assert int(found.steps) == 400

    def test_a_loss_that_is_not_finite_is_a_status_and_keeps_the_last_good(self):
        loss = lambda p, _: jnp.where(p > 0.5, jnp.nan, -p)
        found = jk.fit(loss, 0.0, optimizer=optax.sgd(0.2), steps=10)
        assert int(found.status) == jk.Status.not_finite
        assert 0.5 < float(found.params) < 0.7
        with pytest.raises(jk.SolverError, match="fit: not_finite"):
            found.checked()

    def test_goes_on_where_it_stopped(self):
        loss, method = lambda p, _: jnp.sum((p - 1.0) ** 4), optax.adam(0.05)
        whole = jk.fit(loss, jnp.zeros(2), optimizer=method, steps=20)
        half = jk.fit(loss, jnp.zeros(2), optimizer=method, steps=10)
        rest = jk.fit(loss, half, optimizer=method, steps=10)
        np.testing.assert_array_equal(whole.params, rest.params)
