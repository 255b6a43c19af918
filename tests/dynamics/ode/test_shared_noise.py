"""Noise: its two senses, shared noises, laws with known moments."""

import warnings

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit.dynamics.ode import noise

A, B = 0.3, 0.8
TS = jnp.array([0.0, 1.0])
SCHEMES = ["euler", "heun", "midpoint", "ralston", diffrax.ItoMilstein(), diffrax.StratonovichMilstein()]


def ends(drift, diffusion, x0, *, sense, scheme="heun", dt=0.02, n=4000, args=None):
    run = lambda key: (
        jk.solve(
            jk.SDE(drift, diffusion, key, sense=sense), x0, TS, args, method=jk.RungeKutta(scheme, dt=dt), max_steps=200
        ).final
    )
    return jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(1), n))


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s if isinstance(s, str) else type(s).__name__)
@pytest.mark.parametrize("sense", ["ito", "stratonovich"])
def test_the_mean_of_geometric_brownian_motion(sense, scheme):
    # dx = a x dt + b x dW: E x = exp(a t) in Ito's sense, exp((a + b^2 / 2) t) in Stratonovich's.
    found = ends(lambda t, x, _: A * x, lambda t, x, _: B * x, 1.0, sense=sense, scheme=scheme)
    mean = np.exp(A + (B * B / 2 if sense == "stratonovich" else 0))
    deviation = mean * np.sqrt(np.expm1(B * B) / len(found))
    assert abs(float(found.mean()) - mean) < 4 * deviation
    assert abs(float(jnp.log(found).var()) - B * B) < 0.08


@pytest.mark.parametrize("sense", ["ito", "stratonovich"])
def test_the_covariance_of_shared_noises(sense):
    mix = jnp.array([[0.5, 0.2, 0.0], [0.1, -0.4, 0.3]])
    drift = lambda t, x, _: {"p": -x["p"], "q": -x["q"]}
    diffusion = lambda t, x, _: {"p": mix[0], "q": mix[1][None]}
    found = ends(drift, diffusion, {"p": jnp.asarray(1.0), "q": jnp.zeros(1)}, sense=sense)
    both = jnp.stack([found["p"], found["q"][:, 0]])
    np.testing.assert_allclose(both.mean(1), [np.exp(-1), 0], atol=0.03)
    np.testing.assert_allclose(jnp.cov(both), mix @ mix.T * (1 - np.exp(-2)) / 2, atol=0.01)


def test_the_drift_of_noises_along_themselves():
    # On the circle: dx = J x dW in Stratonovich's sense keeps |x|; its drift in Ito's is -x / 2.
    turn = jnp.array([[0.0, -1.0], [1.0, 0.0]])
    circle = jk.SDE(lambda t, x, _: 0 * x, lambda t, x, _: (turn @ x)[:, None], jax.random.key(0), "stratonovich")
    x = jnp.array([0.6, 0.8])
    np.testing.assert_allclose(noise.own_drift(circle, TS[0], x, None), -x)
    end = jk.solve(circle, x, TS, method=jk.RungeKutta("heun", dt=0.002)).checked().final
    assert float(jnp.linalg.norm(end)) == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_derivatives_in_both_modes():
    # x = x0 exp((a - b^2 / 2) t + b W): dx/da = t x, and W follows from x.
    def end(p):
        equation = jk.SDE(lambda t, x, p: p[0] * x, lambda t, x, p: p[1] * x, jax.random.key(3))
        return jk.solve(equation, 1.0, TS, p, method=jk.RungeKutta(diffrax.ItoMilstein(), dt=1e-3)).final

    p = jnp.array([A, B])
    x = float(end(p))
    path = (np.log(x) - A + B * B / 2) / B
    for derive in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(jax.jit(derive(end))(p), [x, x * (path - B)], rtol=0.02)


def test_noises_that_do_not_commute_are_said():
    one = lambda t, x, _: jnp.stack([jnp.stack([x[0], 0 * x[0]]), jnp.stack([0 * x[0], x[0]])])
    same = lambda t, x, _: jnp.stack([x, 2 * x], -1)
    still = lambda t, x, _: 0 * x
    x0, method = jnp.array([1.0, 2.0]), jk.RungeKutta("heun", dt=0.1)
    with pytest.warns(UserWarning, match="do not commute: the strong order of Heun is 1/2"):
        jk.solve(jk.SDE(still, one, jax.random.key(0)), x0, TS, method=method)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jk.solve(jk.SDE(still, same, jax.random.key(0)), x0, TS, method=method)
        jk.solve(jk.SDE(still, one, jax.random.key(0)), x0, TS, method=jk.RungeKutta("euler", dt=0.1))


def test_bad_input_is_one_sentence():
    x0, key = jnp.ones(2), jax.random.key(0)
    still = lambda t, x, _: 0 * x
    method = jk.RungeKutta("heun", dt=0.1)
    with pytest.raises(ValueError, match="`sense` must be one of 'ito', 'stratonovich'"):
        jk.SDE(still, still, key, "skorokhod")
    with pytest.raises(ValueError, match=r"`diffusion` must return the shapes of the state, \[\(2,\)\], or these with"):
        jk.solve(jk.SDE(still, lambda t, x, _: jnp.ones(3), key), x0, TS, method=method)
    milstein = jk.RungeKutta(diffrax.ItoMilstein(), dt=0.1)
    with pytest.raises(ValueError, match="`method` must be another for shared noises, but is ItoMilstein"):
        jk.solve(jk.SDE(still, lambda t, x, _: x[:, None], key), x0, TS, method=milstein)
    with pytest.raises(ValueError, match=r"`method` must be for equations with noise.*but is Dopri5"):
        jk.solve(jk.SDE(still, still, key), x0, TS, method=jk.RungeKutta("dopri5", dt=0.1))
