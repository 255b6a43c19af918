"""Complex states: a two-level system and a damped wave against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk

slow = pytest.mark.slow
TS = jnp.array([0.0, 0.7, 2.0])
METHODS = ["tsit5", *(pytest.param(m, marks=slow) for m in ("taylor", "dopri8", "kvaerno5"))]


def schroedinger(t, psi, p):
    """i psi' = H psi with H = [[d, g], [g, -d]] / 2: Rabi's formula."""
    detuning, coupling = p
    h = jnp.array([[1.0, 0.0], [0.0, -1.0]]) * detuning / 2 + jnp.array([[0.0, 1.0], [1.0, 0.0]]) * coupling / 2
    return -1j * (h.astype(complex) @ psi)


def rabi(p, t):
    """The probability of the upper level, which is empty at t = 0."""
    w2 = p[0] ** 2 + p[1] ** 2
    return p[1] ** 2 / w2 * jnp.sin(jnp.sqrt(w2) * t / 2) ** 2


@pytest.mark.parametrize("method", METHODS)
def test_two_levels(method):
    start = jnp.array([1.0, 0.0], complex)
    p = jnp.array([0.8, 1.7])

    def probability(p):
        found = jk.solve(schroedinger, start, TS, p, method=method, rtol=1e-9, atol=1e-11)
        return jnp.abs(found.xs[:, 1]) ** 2, found

    value, found = probability(p)
    found.checked()
    assert jnp.iscomplexobj(found.final)
    assert found.xs.shape == (3, 2)
    np.testing.assert_allclose(value, [rabi(p, t) for t in TS], atol=1e-7)
    np.testing.assert_allclose(jnp.sum(jnp.abs(found.xs) ** 2, 1), 1.0, atol=1e-7)
    truth = jnp.stack([jax.grad(rabi)(p, t) for t in TS])
    for derive in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(jax.jit(derive(lambda p: probability(p)[0]))(p), truth, atol=1e-6)


@slow
def test_second_derivatives():
    start = jnp.array([1.0, 0.0], complex)
    p = jnp.array([0.8, 1.7])
    last = lambda p: jnp.abs(jk.solve(schroedinger, start, TS, p, rtol=1e-9, atol=1e-11).final[1]) ** 2
    np.testing.assert_allclose(jax.hessian(last)(p), jax.hessian(rabi)(p, 2.0), atol=1e-5)


@pytest.mark.parametrize("method", ["taylor", pytest.param("tsit5", marks=slow)])
def test_ensembles(method):
    rates = jnp.array([1.0, 2.0, 3.0])
    field = lambda t, x, w: {"z": jax.lax.complex(-0.1 * jnp.ones_like(w), w) * x["z"], "r": -w * x["r"]}
    end = lambda w: jk.ensemble(field, {"z": jnp.ones(3, complex), "r": jnp.ones(3)}, TS, w, method=method)
    found = end(rates).checked()
    rate = 1j * np.asarray(rates)[:, None] - 0.1
    np.testing.assert_allclose(found.xs["z"], np.exp(rate * np.asarray(TS)[None]), atol=1e-5)
    np.testing.assert_allclose(found.final["r"], np.exp(-2 * rates), atol=1e-5)
    slope = jax.grad(lambda w: jnp.sum(end(w).final["z"].real))(rates)
    np.testing.assert_allclose(slope, -2 * np.exp(-0.2) * np.sin(2 * rates), atol=1e-5)


def test_events_tolerances_and_dense_output():
    field = lambda t, z, w: 1j * w.astype(complex) * z
    sol = jk.solve(
        field, 1.0 + 0j, jk.Dense((0.0, 9.0)), 2.0, atol=1e-10, event=lambda t, z, w: z.real, rtol=1e-8
    ).checked()
    assert float(sol.end) == pytest.approx(np.pi / 4, abs=1e-6)
    np.testing.assert_allclose(sol(0.3), np.exp(0.6j), atol=1e-6)
    found = jk.solve(field, jnp.ones(2, complex), TS, 2.0, atol=jnp.array([1e-9, 1e-8])).checked()
    np.testing.assert_allclose(found.final, np.exp([4j, 4j]), atol=1e-5)


def test_what_is_not_possible_is_one_sentence():
    field = lambda t, z, w: 1j * z.astype(complex)
    with pytest.raises(ValueError, match="`x0` must be complex, as the field's velocity is, but is real"):
        jk.solve(field, 1.0, TS)
    with pytest.raises(ValueError, match="`x0s` must be real, but is complex"):
        jk.sensitivity(field, jnp.ones(2, complex), TS)
    noisy = jk.SDE(field, field, jax.random.key(0))
    with pytest.raises(ValueError, match="`x0` must be real for an SDE"):
        jk.solve(noisy, 1j, TS, method=jk.RungeKutta("euler", dt=0.1))
