"""Actions and their solutions: closed forms in their equations, and equations solved from the action."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from jaxkit import gravity
from jaxkit.gravity import adm

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


@pytest.mark.parametrize(
    ("general", "special"),
    [
        (gravity.black_hole(1.3), gravity.kehagias_sfetsos(1.3)),
        (gravity.black_hole(1.0, -0.1), gravity.park(1.0, -0.1, 4.0)),
        # omega = 0: r³ P = alpha² sqrt(-Lw) gives f = 1 + x² - alpha sqrt(x)
        (gravity.black_hole(0.0, -1.0, 0.0, 1.0), gravity.lu_mei_pope(1.0, 1.0)),
        (gravity.black_hole(1e14), gravity.schwarzschild()),
    ],
)
def test_one_formula_holds_every_black_hole_of_lambda_one(general, special):
    for r in (1.5, 3.0, 40.0):
        at = jnp.asarray(r)
        assert float(general.space(at, general.params)) == pytest.approx(
            float(special.space(at, special.params)), rel=1e-13
        )


def test_relaxed_balance_tends_to_schwarzschild_anti_de_sitter():
    """epsilon -> 1: f = 1 + x²/2 - alpha²/(2 x)."""
    hole, r = gravity.black_hole(0.0, -1.0, 1 - 1e-9, 3.0), jnp.asarray(2.0)
    assert float(hole.space(r, hole.params)) == pytest.approx(-(2.0**2) / 2 + 3.0 / 4, rel=1e-7)


def test_lapse_of_lu_mei_pope_holds_at_every_lambda_wherever_it_was_built():
    """Built at lambda = 1, where N² = f, it is asked for another lambda, and for its derivative there."""
    x = jnp.array([0.0, 2.0, 1.1, 0.0])
    g_tt = jax.jit(lambda lam: gravity.lu_mei_pope()(x, {"lam": lam})[0, 0])
    for lam in (0.6, 1.0, 1.5):
        sigma, power = (
            (4 * lam - 2) / (2 * lam + (6 * lam - 2) ** 0.5),
            -9 * (lam - 1) / (1 + 3 * lam + 2 * (6 * lam - 2) ** 0.5),
        )
        assert float(g_tt(lam)) == pytest.approx(-(2 ** (2 * power)) * (1 + 4 - 2**sigma), rel=1e-14)
    slope = (g_tt(1 + 1e-5) - g_tt(1 - 1e-5)) / 2e-5
    assert float(jax.grad(g_tt)(1.0)) == pytest.approx(float(slope), rel=1e-8)


def test_lu_mei_pope_has_no_kepler_regime():
    """r² W² = x² - alpha sqrt(x)/4 on circular orbits: alpha repels, and r² remains where alpha = 0."""
    hole = gravity.lu_mei_pope(1.0, alpha=0.7)
    r = jnp.asarray(5.0)
    speed2 = r / 2 * jax.grad(lambda r: -hole.time(r, hole.params))(r)
    assert float(speed2) == pytest.approx(25 - 0.7 * 5**0.5 / 4, rel=1e-13)


@pytest.mark.slow
def test_full_action_is_stationary_at_lu_mei_pope():
    """Horava's covariant density with the Cotton tensor (three derivatives of g), lambda = 1.5, varied in f and N.

    The variation is taken in twelve directions that vanish at both ends with three derivatives: the weak form of the
    Euler-Lagrange equations, without their three further derivatives.
    """
    hole = gravity.lu_mei_pope(1.5)
    couplings = {**adm.HORAVA, "lam": 1.5, "Lw": -1.0, "omega": 0.0}
    node, weight = np.polynomial.legendre.leggauss(48)
    r, w = jnp.asarray(3.5 + 1.5 * node), jnp.asarray(1.5 * weight)
    z = lambda r: (r - 3.5) / 1.5
    bumps = lambda r: (1 - z(r) ** 2) ** 4 * jnp.stack([z(r) ** k for k in range(6)])

    def action(in_f, in_n, twist):
        f = lambda r: 1 - hole.space(r, hole.params) + bumps(r) @ in_f
        lapse = lambda t, x: jnp.sqrt(1 - hole.time(x[0], hole.params)) + bumps(x[0]) @ in_n
        shape = lambda t, x: jnp.diag(jnp.stack([1 / f(x[0]), x[0] ** 2, (x[0] * jnp.sin(x[1] + twist)) ** 2]))
        density = adm.density(lapse, lambda t, x: jnp.zeros(3), shape, couplings)
        at = lambda r: density(jnp.zeros(()), jnp.stack([r, jnp.asarray(1.1), jnp.asarray(0.2)]))
        return jnp.sum(w * jax.vmap(at)(r))

    slopes = jax.jit(jax.jacfwd(action, argnums=(0, 1)))
    here = slopes(jnp.zeros(6), jnp.zeros(6), 0.0)
    away = slopes(jnp.zeros(6).at[0].set(1e-3), jnp.zeros(6), 0.0)
    for still, moved in zip(here, away, strict=True):
        assert np.max(np.abs(still)) < 1e-14
        assert np.max(np.abs(moved)) > 1e-7


@pytest.mark.slow
def test_einsteins_action_gives_einsteins_tensor():
    """`δ ∫ sqrt(-g) R = -∫ sqrt(-g) G^ab δg_ab` on Kerr-Newman, which is no vacuum: nested derivatives, four deep."""
    hole, x = gravity.kerr_newman(), jnp.array([0.0, 4.0, 1.1, 0.3])
    e = jax.jit(gravity.field_equations(lambda k, p: k.scalar, hole, moving=(1, 2)))(x)
    at = gravity.curvature(hole)(x)
    raised = at.inverse @ at.einstein @ at.inverse
    assert np.max(np.abs(raised)) > 1e-4
    np.testing.assert_allclose(e, -raised, atol=1e-14)


def test_action_and_metric_from_text():
    action = gravity.action_from_text("n*((1 - e^2)*(k - 1)*df^2/2 + 1 - f - r*df - L*r^2)", {"L": 0, "e": 0, "k": 1})
    found = gravity.solve_static(action, (3.0, 9.0), {"L": -0.1, "e": 0.0, "k": 1.0}, inner=1 / 3 + 0.3).checked()
    np.testing.assert_allclose(found.f, 1 - 2 / found.r + 0.1 / 3 * found.r**2, rtol=1e-12)
    with pytest.raises(ValueError, match="Unknown name 'q'"):
        gravity.action_from_text("n*(1 - q)")
    with pytest.raises(ValueError, match="must have keys of two coordinates among t, r, theta, phi, as 't t', but has"):
        gravity.from_text({"t": "-1"})


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


@pytest.mark.slow
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
