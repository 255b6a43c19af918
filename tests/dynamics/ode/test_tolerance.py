"""An absolute tolerance for each number of the state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk

slow = pytest.mark.slow
# Two oscillators that know nothing of each other: the quick one is small.
FIELD = lambda t, x, w: {"small": jnp.stack([x["small"][1], -(w**2) * x["small"][0]]), "large": -x["large"]}
START = {"small": jnp.array([1e-6, 0.0]), "large": jnp.asarray(1e3)}
TS = jnp.array([0.0, 5.0])
METHODS = ["tsit5", "taylor", *(pytest.param(m, marks=slow) for m in ("dopri8", "bosh3", "kvaerno5"))]


@pytest.mark.parametrize("method", METHODS)
def test_each_number_has_its_own(method):
    run = lambda atol: jk.solve(FIELD, START, TS, 20.0, method=method, rtol=1e-6, atol=atol).checked()
    rough, fine = run(1e-3), run({"small": jnp.array([1e-12, 2e-11]), "large": 1e-3})
    error = lambda found: abs(float(found.final["small"][0]) / 1e-6 - np.cos(100.0))
    assert fine.steps > 3 * rough.steps
    assert error(fine) < 2e-3 < error(rough)
    alike = run({"small": 1e-3, "large": 1e-3})
    assert abs(int(alike.steps) - int(rough.steps)) <= (0 if method == "taylor" else 1)


@pytest.mark.parametrize("method", ["taylor", pytest.param("tsit5", marks=slow)])
def test_ensembles_and_sensitivities_take_it(method):
    lanes = jax.tree.map(lambda v: v[None], START)
    atol = {"small": np.array([1e-12, 2e-11]), "large": 1e-3}
    s = jk.sensitivity(FIELD, lanes, TS, 20.0, method=method, rtol=1e-6, atol=atol)
    assert float(s.ensemble.final["small"][0, 0]) == pytest.approx(1e-6 * np.cos(100.0), rel=2e-3)
    assert float(s.args[0, 1]) == pytest.approx(-5e-6 * np.sin(100.0), rel=2e-3)
    found = jk.ensemble(FIELD, lanes, TS, 20.0, method=method, rtol=1e-6, atol=atol)
    assert float(found.final["small"][0, 0]) == pytest.approx(1e-6 * np.cos(100.0), rel=2e-3)


def test_derivatives_do_not_mind():
    end = lambda w: jk.solve(FIELD, START, TS, w, atol={"small": 1e-13, "large": 1e-3}).final["small"][0]
    for derive in (jax.grad, jax.jacfwd):
        assert float(jax.jit(derive(end))(2.0)) == pytest.approx(-5e-6 * np.sin(10.0), rel=1e-4)


@pytest.mark.parametrize(
    ("atol", "sentence"),
    [
        ({"small": 1e-3}, "`atol` must be a number or have the structure of the state"),
        ({"small": jnp.ones(3), "large": 1.0}, r"`atol` must have the state's shape \(2,\), but has shape \(3,\)"),
        ({"small": jnp.zeros(2), "large": 1.0}, "`atol` must be positive"),
    ],
)
@pytest.mark.parametrize("method", ["tsit5", "taylor"])
def test_bad_input_is_one_sentence(atol, sentence, method):
    with pytest.raises(ValueError, match=sentence):
        jk.solve(FIELD, START, TS, 2.0, atol=atol, method=method)


def test_one_number_array_and_single_precision():
    field, x0 = (lambda t, x, _: -x), jnp.ones(2, jnp.float32)
    ts = jnp.array([0.0, 1.0], jnp.float32)
    found = jk.solve(field, x0, ts, rtol=1e-5, atol=jnp.array([1e-6, 1e-5])).checked()
    np.testing.assert_allclose(found.final, np.exp([-1.0, -1.0]), rtol=1e-4)
    assert found.final.dtype == jnp.float32


TANGENTS = [
    jk.RungeKutta("tsit5", control="tangents"),
    *(pytest.param(m, marks=slow) for m in ("taylor", jk.RungeKutta("dopri8", control="tangents"))),
]


@pytest.mark.parametrize("method", TANGENTS, ids=str)
def test_tangents_set_the_steps_where_they_are_asked_for(method):
    # At rest the state asks for no steps at all; its derivative by the start turns by 2 * 10.
    turn = lambda t, x, w: jnp.stack([w * x[1], -w * x[0]])
    end = lambda x0, method: jk.solve(turn, x0, jnp.array([0.0, 5.0, 10.0]), 2.0, method=method).final
    right = np.array([[np.cos(20.0), np.sin(20.0)], [-np.sin(20.0), np.cos(20.0)]])
    for derive in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(jax.jit(derive(lambda x0: end(x0, method)))(jnp.zeros(2)), right, atol=1e-5)
    alone = jax.jit(jax.jacfwd(lambda x0: end(x0, "tsit5")))(jnp.zeros(2))
    assert np.abs(alone - right).max() > 0.01


def test_many_directions_set_the_steps_too():
    weights = jnp.zeros((1, 25))  # more directions than are followed otherwise
    turn = lambda t, x, a: jnp.stack([2.0 * x[1] + jnp.sum(a), -2.0 * x[0]])
    by = lambda method: jk.sensitivity(turn, jnp.zeros((1, 2)), (0.0, 10.0), weights, method=method).args[0, :, 0]
    right = np.array([np.sin(20.0), np.cos(20.0) - 1]) / 2
    np.testing.assert_allclose(by(jk.RungeKutta("tsit5", control="tangents")), right, atol=1e-4)
    np.testing.assert_allclose(by(jk.Taylor(control="tangents")), right, atol=1e-4)


def test_what_cannot_follow_tangents_is_one_sentence():
    with pytest.raises(ValueError, match="`scheme` must be one of"):
        jk.solve(FIELD, START, TS, 2.0, method=jk.RungeKutta("kvaerno5", control="tangents"))
    with pytest.raises(ValueError, match="`dt` must be left out"):
        jk.solve(FIELD, START, TS, 2.0, method=jk.RungeKutta("tsit5", dt=0.1, control="tangents"))
    with pytest.raises(ValueError, match="`control` must be one of 'auto', 'tangents'"):
        jk.Taylor(control="state")


def test_tangents_may_begin_with_a_high_power_of_time():
    """x = t, y = t^2 / 2, z' = 1 - p y^2 exp(-z): dz/dp begins as t^5, which a fifth-order pair does not know."""
    field = lambda t, x, p: jnp.stack([jnp.ones_like(t), x[0], 1 - p[0] * x[1] ** 2 * jnp.exp(-x[2])])
    found = jk.sensitivity(field, jnp.zeros((1, 3)), (0.0, 1.0), jnp.zeros((1, 1)), method="tsit5", rtol=1e-7)
    assert int(found.ensemble.status[0]) == 0
    truth = -(24 - 65 / np.e) / 4  # the integral of t^4 exp(-t) / 4, as z = t for p = 0
    np.testing.assert_allclose(found.args[0, :, 0], [0, 0, truth], rtol=1e-5)
