"""Dense output: the solution as a function of time, its derivatives, its limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk

slow = pytest.mark.slow
FIELD = lambda t, x, w: {"p": x["q"], "q": -(w**2) * x["p"]}  # p = x0 cos(w (t - t0))
METHODS = [
    "tsit5",
    "taylor",
    *(pytest.param(m, marks=slow) for m in ("dopri8", "bosh3", "heun", "kvaerno3", "kvaerno5", "auto")),
]
ASKED = jnp.linspace(0.0, 3.0, 31)


def solution(x0, w, ts=(0.0, 1.0, 3.0), **options):
    options = {"rtol": 1e-6, "atol": 1e-8} | options
    return jk.solve(FIELD, {"p": x0, "q": jnp.zeros_like(x0)}, jk.Dense(jnp.asarray(ts, float)), w, **options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ts", [(0.0, 1.0, 3.0), pytest.param((3.0, 0.0), marks=slow)])
def test_it_is_as_accurate_as_the_steps(method, ts):
    most = 40_000 if method == "heun" else 4096  # a method of the second order
    sol = solution(jnp.asarray(1.2), 2.0, ts, method=method, max_steps=most).checked()
    found = sol(ASKED)
    error = np.abs(found["p"] - 1.2 * np.cos(2 * (ASKED - ts[0]))).max()
    reached = np.isfinite(sol.path.ts)
    ends = np.asarray(sol.path.ts)[reached]
    at_the_ends = np.abs(np.asarray(sol.path.xs["p"])[reached] - 1.2 * np.cos(2 * (ends - ts[0]))).max()
    assert error < 2 * at_the_ends + 1e-7
    np.testing.assert_allclose(sol(jnp.asarray(ts))["p"], sol.xs["p"], atol=3 * float(error) + 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tsit5", "taylor", "kvaerno5"])
def test_its_derivatives_in_both_modes_and_the_second(method):
    at = lambda t, x0, w: solution(x0, w, rtol=1e-9, atol=1e-11, method=method)(t)["p"]
    here = (1.7, 1.2, 2.0)
    phase = 2.0 * 1.7
    truth = [-2.4 * np.sin(phase), np.cos(phase), -1.2 * 1.7 * np.sin(phase)]
    for derive in (jax.jacfwd, jax.grad):
        np.testing.assert_allclose(jax.jit(derive(at, (0, 1, 2)))(*here), truth, rtol=1e-5)
    by_t = jax.jit(jax.vmap(jax.grad(at), (0, None, None)))(jnp.array([0.0, 1.0, 3.0]), 1.2, 2.0)
    np.testing.assert_allclose(by_t, -2.4 * np.sin(2 * np.array([0.0, 1.0, 3.0])), atol=1e-5)


@slow
def test_its_second_derivatives():
    at = lambda t, w: solution(jnp.asarray(1.2), w, rtol=1e-9, atol=1e-11)(t)["p"]
    phase, t, w = 3.4, 1.7, 2.0
    mixed = -1.2 * (np.sin(phase) + phase * np.cos(phase))
    truth = [[-1.2 * w * w * np.cos(phase), mixed], [mixed, -1.2 * t * t * np.cos(phase)]]
    np.testing.assert_allclose(jax.hessian(lambda v: at(*v))(jnp.array([t, w])), truth, rtol=1e-4)


def test_outside_the_span_and_without_a_solution_it_is_nan():
    sol = solution(jnp.asarray(1.2), 2.0)
    outside = sol(jnp.array([[-1e-9, 0.0], [3.0, 3.1], [jnp.nan, jnp.inf]]))["p"]
    assert np.isnan(outside).tolist() == [[True, False], [False, True], [True, True]]
    assert sol(0.5)["q"].shape == ()
    lanes = jax.vmap(lambda w: solution(jnp.asarray(1.2), w, max_steps=60))(jnp.array([2.0, 2000.0]))
    assert lanes.ok.tolist() == [True, False]
    assert np.isnan(lanes(ASKED)["p"]).any(1).tolist() == [False, True]
    assert lanes(0.5)["p"].shape == (2,)
    with pytest.raises(ValueError, match=r"Argument `ts` must be `Dense\(ts\)`"):
        jk.solve(FIELD, {"p": 1.0, "q": 0.0}, (0.0, 1.0), 2.0)(0.5)


@pytest.mark.parametrize("method", ["tsit5", pytest.param("taylor", marks=slow)])
def test_it_ends_at_an_event(method):
    sol = solution(jnp.asarray(1.2), 2.0, method=method, event=lambda t, x, w: x["p"]).checked()
    assert float(sol.end) == pytest.approx(np.pi / 4, abs=1e-5)
    found = sol(jnp.array([0.4, np.pi / 4 - 1e-3, np.pi / 4 + 1e-3]))["p"]
    np.testing.assert_allclose(found[:2], 1.2 * np.cos([0.8, np.pi / 2 - 2e-3]), atol=1e-5)
    assert np.isnan(found[2])


@pytest.mark.parametrize("method", ["tsit5", pytest.param("taylor", marks=slow)])
def test_at_a_switch(method):
    ramp = lambda t, x, a: jnp.where(t < a, 0.0, 1.0) + 0 * x
    sol = jk.solve(ramp, 0.0, jk.Dense((0.0, 2.0)), 1.0, method=method).checked()
    asked = np.array([0.0, 0.5, 1.0, 1.25, 2.0])
    np.testing.assert_allclose(sol(asked), np.maximum(asked - 1, 0), atol=1e-12)
    np.testing.assert_allclose(jax.vmap(jax.grad(sol))(jnp.array([0.5, 1.25, 2.0])), [0, 1, 1], atol=1e-9)


@pytest.mark.slow
def test_it_is_a_pytree_that_travels():
    def area(w):
        sol = jk.solve(lambda t, x, _: -w * x, 1.0, jk.Dense((0.0, 1.0)))  # closes over what is differentiated
        return jk.solve(lambda t, y, sol: sol(t), 0.0, (0.0, 1.0), sol).final

    value, slope = jax.jit(jax.value_and_grad(area))(1.0)
    np.testing.assert_allclose((value, slope), (1 - np.exp(-1), 2 * np.exp(-1) - 1), rtol=1e-5)


def test_single_precision_and_fixed_steps():
    sol = jk.solve(lambda t, x, _: -x, jnp.float32(1.0), jk.Dense(jnp.array([0.0, 1.0], jnp.float32)), rtol=1e-4)
    assert sol(0.5).dtype == jnp.float32
    assert float(sol(0.5)) == pytest.approx(np.exp(-0.5), rel=1e-4)
    sol = jk.solve(lambda t, x, _: -x, 1.0, jk.Dense((0.0, 1.0)), method=jk.RungeKutta("euler", dt=0.1))
    assert float(sol(0.25)) == pytest.approx(0.9**2 * 0.95)


def test_what_has_no_dense_output_is_one_sentence():
    noisy = jk.SDE(lambda t, x, _: -x, lambda t, x, _: x, jax.random.key(0))
    with pytest.raises(ValueError, match="`ts` must be an array of times for an SDE, but is `Dense`"):
        jk.solve(noisy, 1.0, jk.Dense((0.0, 1.0)), method=jk.RungeKutta("euler", dt=0.1))
    with pytest.raises(ValueError, match="`ts` must be an array of times"):
        jk.ensemble(lambda t, x, _: -x, jnp.ones(2), jk.Dense((0.0, 1.0)))
