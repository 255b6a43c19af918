"""Actions and their solutions: closed forms in their equations, and equations solved from the action."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from jaxkit import gravity

TABLE = gravity.solutions()
RARE = ("Kehagias-Sfetsos, omega=1", "Lu-Mei-Pope, lambda=1.5", "Park", "Lu-Mei-Pope, epsilon=0.7")
QUICK = [pytest.param(name, marks=() if name in RARE else pytest.mark.slow) for name in TABLE]


@pytest.mark.parametrize("name", QUICK)
def test_solution_satisfies_its_field_equations(name):
    metric, lagrangian, couplings, radii = TABLE[name]
    residual = gravity.field_residual(metric, lagrangian, couplings, jnp.linspace(*radii, 30))
    assert np.max(np.abs(residual)) < 1e-12


def test_residual_sees_a_wrong_sign():
    _, lagrangian, couplings, radii = TABLE["Kehagias-Sfetsos, omega=1"]
    wrong = gravity.static(lambda r, p: 1 + 4 / r / (1 + jnp.sqrt(1 + 4 / r**3)))
    assert np.max(np.abs(gravity.field_residual(wrong, lagrangian, couplings, jnp.linspace(*radii, 5)))) > 1e-3


@pytest.mark.parametrize(
    ("name", "nodes", "tolerance"),
    [
        ("Kehagias-Sfetsos, omega=1", 32, 1e-12),
        pytest.param("Kehagias-Sfetsos, omega=1", 20, 1e-9, marks=pytest.mark.slow),
        pytest.param("Lu-Mei-Pope, lambda=1.5", 32, 1e-12, marks=pytest.mark.slow),
        pytest.param("Lu-Mei-Pope, epsilon=0.7", 32, 1e-12, marks=pytest.mark.slow),
        pytest.param("Park", 32, 1e-12, marks=pytest.mark.slow),
    ],
)
def test_action_alone_gives_the_solution(name, nodes, tolerance):
    metric, lagrangian, couplings, _ = TABLE[name]
    f = jax.vmap(lambda r: 1 - metric.space(r, metric.params))
    inner = f(jnp.array([3.0]))[0]
    found = gravity.solve_static(
        lagrangian, (3.0, 9.0), couplings, inner=inner, nodes=nodes, guess=lambda r: f(r[None])[0] * (1 + (r - 3) / 100)
    ).checked()
    exact = f(found.r)
    assert np.max(np.abs(found.f - exact)) < tolerance * np.max(np.abs(exact))
    lapse = jnp.sqrt((1 - jax.vmap(lambda r: metric.time(r, metric.params))(found.r)) / exact)
    assert np.max(np.abs(found.n - lapse / lapse[-1])) < 10 * tolerance


def test_action_without_closed_solution_agrees_with_scipy():
    """lambda = 1.1, finite omega: the constraint is a quadratic for f', integrated by an independent code."""
    couplings = {**gravity.COUPLINGS, "lam": 1.1, "omega": 1.0}
    hole = gravity.kehagias_sfetsos(1.0)
    start = 1 - float(hole.space(jnp.asarray(3.0), hole.params))

    def slope(r, f):
        h, lam = f[0] - 1, 1.1
        a, b = (lam - 1) / 2, -2 * lam * h / r + 2 * r
        c = (2 * lam - 1) * h**2 / r**2 + 2 * h
        return [2 * -c / (b + np.sqrt(b**2 - 4 * a * c))]

    found = gravity.solve_static(gravity.reduced_lagrangian, (3.0, 9.0), couplings, inner=start).checked()
    exact = scipy.integrate.solve_ivp(slope, (3.0, 9.0), [start], "DOP853", np.asarray(found.r), rtol=1e-13, atol=1e-14)
    assert np.max(np.abs(found.f - exact.y[0])) < 1e-11


def test_solution_is_differentiable_and_becomes_a_metric():
    def photon(omega):
        couplings = {**gravity.COUPLINGS, "omega": omega}
        found = gravity.solve_static(
            gravity.reduced_lagrangian, (2.0, 6.0), couplings, outer=1 - 4 / 6 / (1 + jnp.sqrt(1 + 4 / omega / 216))
        )
        return gravity.photon_sphere(found.metric(), search=(2.05, 5.9)).value

    value, slope = jax.value_and_grad(photon)(1.0)
    assert abs(value - 2.74656824699572) < 1e-10
    assert abs(slope - 0.293450663774) < 1e-8


def test_lagrangian_of_the_wrong_shape_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match="Argument `lagrangian` must return a scalar, but returns shape"):
        gravity.solve_static(lambda r, f, df, n, p: jnp.stack([f, n]), (2.0, 3.0), inner=0.5)
    with pytest.raises(ValueError, match="Argument `ends` must be two radii"):
        gravity.solve_static(lambda r, f, df, n, p: f, (3.0, 2.0), inner=0.5)


def test_single_precision_is_refused_with_the_cure():
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(ValueError, match=r"call `jaxkit\.set_precision"):
            gravity.schwarzschild()
    finally:
        jax.config.update("jax_enable_x64", True)


@pytest.mark.parametrize(("lam", "sigma", "p"), [(1.0, 0.5, 0.0), (3.0, 1.0, -1.0)])
def test_exponents_of_lu_mei_pope(lam, sigma, p):
    np.testing.assert_allclose(gravity.exponents(lam), (sigma, p), atol=1e-15)


def test_infrared_limit():
    found = gravity.infrared(kappa=2.0, mu=1.0, lam=1.0, Lw=-2.0)
    assert float(found["c"]) == pytest.approx(1.0)
    assert float(found["G"]) == pytest.approx(4 / (32 * np.pi))
    assert float(found["L"]) == -3.0
