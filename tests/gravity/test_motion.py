"""Geodesics, shadow, cosmology, fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit import SolverError, gravity
from jaxkit.dynamics.ode.symplectic import hamiltonian
from jaxkit.gravity import cosmology

KERR = gravity.kerr(a=0.9)


def bardeen_ray(alpha, beta, a=0.9, r=50.0, theta=80 * np.pi / 180):
    """Light with the impact parameters of Bardeen at a distance `r`, inwards."""
    momentum = -alpha * np.sin(theta)
    carter = beta**2 + np.cos(theta) ** 2 * (alpha**2 - a**2)
    delta = r**2 - 2 * r + a**2
    radial = (r**2 + a**2 - a * momentum) ** 2 - delta * (carter + (momentum - a) ** 2)
    n = np.size(alpha)
    x = np.stack([np.zeros(n), np.full(n, r), np.full(n, theta), np.zeros(n)], -1)
    return jnp.asarray(x), jnp.asarray(np.stack([-np.ones(n), -np.sqrt(radial) / delta, beta, momentum], -1))


def test_kerr_ray_against_a_golden_end_point():
    rng = np.random.default_rng(1)
    angle, size = rng.uniform(0, 2 * np.pi, 7), rng.uniform(7, 12, 7)
    alpha, beta = np.append(8.0, size * np.cos(angle)), np.append(3.0, size * np.sin(angle))
    x, p = bardeen_ray(alpha, beta)
    rays = gravity.trace(KERR, x, p, 100.0, rtol=1e-11, atol=1e-11).checked()
    np.testing.assert_allclose(rays.x[0], (114.50569089548, 47.26311863121, 1.45304783866, -3.72018555974), rtol=1e-9)
    before, after = gravity.carter_constant(x, p, 0.9), gravity.carter_constant(rays.x, rays.p, 0.9)
    assert np.max(np.abs(after / before - 1)) < 1e-8
    assert np.max(rays.drift) < 1e-9
    np.testing.assert_array_equal(rays.p[:, [0, 3]], p[:, [0, 3]])
    back = gravity.trace(KERR, rays.x, rays.p, -100.0, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(back.x, x, atol=1e-6)


@pytest.mark.slow
def test_metric_of_a_user_goes_through_trace():
    """A plain function of the point, in Cartesian coordinates, without an inverse, with a shift."""
    spin = lambda x, p: gravity.kerr(coordinates="kerr-schild")(x, p)
    metric = gravity.from_function(spin, {"M": 1.0, "a": 0.9}, coordinates=("t", "x", "y", "z"))
    x = jnp.array([[0.0, 20.0, 1.0, 3.0], [0.0, -20.0, 8.0, 1.0]])
    p = gravity.momentum(metric, x, jnp.array([[-1.0, 0.3, 0.1], [1.0, 0.0, 0.0]]))
    rays = gravity.trace(metric, x, p, 30.0, stop=gravity.Stop(outer=60.0)).checked()
    assert np.max(rays.drift) < 1e-7
    turn = lambda x, p: x[:, 1] * p[:, 2] - x[:, 2] * p[:, 1]
    np.testing.assert_allclose(turn(rays.x, rays.p), turn(x, p), rtol=1e-7)


def test_momentum_solves_the_quadratic_with_a_shift():
    rain = gravity.painleve_gullstrand()
    x = jnp.array([[0.0, 5.0, 1.2, 0.0]])
    p = gravity.momentum(rain, x, jnp.array([[-0.3, 0.4, 1.0]]), mass=1.0)
    assert float(gravity.hamiltonian(rain)(x.T, p.T, rain.params)[0]) == pytest.approx(-0.5, abs=1e-14)


def test_rays_of_a_horizonless_flat_space_are_straight():
    flat = gravity.minkowski()
    x = jnp.array([[0.0, 10.0, np.pi / 2, 0.0]])
    p = gravity.momentum(flat, x, jnp.array([[0.0, 0.0, 10.0]]))
    rays = gravity.trace(flat, x, p, 10.0)
    assert float(rays.x[0, 1]) == pytest.approx(200**0.5, rel=1e-9)
    assert rays.path is None
    spans = gravity.trace(flat, x, p, [[0.0, 10.0]])
    np.testing.assert_array_equal(spans.x, rays.x)
    saved = gravity.trace(flat, x, p, [0.0, 4.0, 10.0])
    np.testing.assert_allclose(saved.path[0, :, 1], (10, 116**0.5, 200**0.5), rtol=1e-8)
    for wrong in ([10.0], [[0.0, 10.0]] * 2, jnp.zeros((1, 1, 2))):
        with pytest.raises(
            ValueError, match=r"Argument `ts` must be a number, or have shape \(m,\), m >= 2, or \(1, 2\)"
        ):
            gravity.trace(flat, x, p, wrong)


def test_shadow_edge_of_kerr():
    for a, inclination, ends, area in (
        (0.9, 90.0, (-2.8444214034762, 6.8323192304467), 79.5871255239),
        (0.9, 17.0, (-4.3031676018849, 5.5036217261214), 76.1857459494),
        (0.998, 90.0, (-2.1108877945528, 6.9966662714), 76.6048553923),
    ):
        curve = EDGE(a, inclination)
        np.testing.assert_allclose(curve.ends, ends, rtol=1e-12)
        assert float(curve.area) == pytest.approx(area, rel=1e-11)


EDGE = jax.jit(gravity.critical_curve_kerr)
EDGE_SLOPE = jax.jit(jax.jacfwd(lambda a, i: jnp.stack([*EDGE(a, i).ends, EDGE(a, i).area])))


@pytest.mark.parametrize("inclination", [0.0, 1.0, 7.0, 60.0, 90.0])
def test_shadow_edge_of_kerr_near_the_axis_and_without_rotation(inclination):
    circle = EDGE(0.0, inclination)
    assert int(circle.status) == 0
    np.testing.assert_allclose(np.hypot(circle.alpha, circle.beta), 27**0.5, rtol=1e-14)
    assert float(circle.area) == pytest.approx(27 * np.pi, rel=1e-13)
    found = EDGE(0.9, inclination)
    expected = {1.0: (4.951861412, 75.925915237), 7.0: (5.164094788, 75.969611249)}
    for value, wanted in zip((found.ends[1], found.area), expected.get(inclination, ()), strict=False):
        assert float(value) == pytest.approx(wanted, rel=1e-9)
    up, down = EDGE(0.9 + 1e-6, inclination), EDGE(0.9 - 1e-6, inclination)
    difference = (np.array([*up.ends, up.area]) - np.array([*down.ends, down.area])) / 2e-6
    np.testing.assert_allclose(EDGE_SLOPE(0.9, inclination), difference, rtol=1e-6, atol=1e-6)
    assert list(map(int, (EDGE(1.0, inclination).status, EDGE(jnp.nan, inclination).status))) == [9, 9]


def test_screen_is_in_impact_parameters():
    """Rays of a near camera carry Bardeen's constants: the axial momentum and Carter's of the place on the screen."""
    near = {"distance": 20.0, "inclination": 60.0, "extent": 6.0, "pixels": 4}
    x, p = gravity.camera(KERR, **near)
    offset = 6.0 * np.array([-0.75, -0.25, 0.25, 0.75])
    beta, alpha = (v.ravel() for v in np.meshgrid(-offset, offset, indexing="ij"))
    sin2, cos2 = 0.75, 0.25
    np.testing.assert_allclose(p[:, 3] / p[:, 0], alpha * sin2**0.5, rtol=1e-13)
    np.testing.assert_allclose(gravity.carter_constant(x, p, 0.9) / p[:, 0] ** 2, beta**2 + cos2 * (alpha**2 - 0.81))
    energy = jax.vmap(lambda x, p: gravity.hamiltonian(KERR)(x, p, KERR.params))(x, p)
    np.testing.assert_allclose(energy, 0, atol=1e-14)
    assert np.all(np.asarray(p[:, 1]) > 0)


@pytest.mark.slow
def test_traced_shadow_has_the_area_of_the_critical_curve():
    picture = gravity.image(KERR, inclination=60.0, extent=8.0, pixels=48, distance=1000.0, disk=None)
    area = float(np.mean(picture.captured)) * 256
    assert area == pytest.approx(float(gravity.critical_curve_kerr(0.9, 60.0).area), rel=0.03)


@pytest.mark.slow
def test_bounce_is_exact():
    universe = dict(cosmology.UNIVERSE)
    t = jnp.linspace(0.0, 13.3, 60)
    found = cosmology.expand(t, universe).checked()
    np.testing.assert_allclose(found.a, cosmology.bounce(t, universe), atol=1e-8)
    assert np.max(np.abs(found.constraint)) < 1e-9
    path = lambda t: jnp.stack([cosmology.bounce(t, universe), jnp.ones_like(t)])
    equations = gravity.euler_lagrange(cosmology.minisuperspace_lagrangian)(path, universe)
    assert np.max(np.abs(jax.vmap(equations)(t[1:9]))) < 1e-13


def test_symplectic_energy_does_not_drift():
    """A bound orbit of Schwarzschild (p = 12, e = 0.3), first against last tenth."""
    hole = gravity.schwarzschild()
    u = np.array([0.7, 1.3]) / 12
    n = 1 - 2 * u
    momentum2 = (n[1] - n[0]) / (n[0] * u[0] ** 2 - n[1] * u[1] ** 2)
    energy = np.sqrt(n[0] * (1 + momentum2 * u[0] ** 2))
    q = jnp.array([0.0, 12 / 1.3, np.pi / 2, 0.0])
    p = jnp.array([-energy, 0.0, 0.0, np.sqrt(momentum2)])
    fn = lambda q, p, params: gravity.hamiltonian(hole)(q, p, params)
    motion = hamiltonian(fn, q, p, hole.params, dt=1.0, steps=20_000, keep=100).checked()
    error = np.abs(np.asarray(motion.energy) + 0.5)
    assert error.max() < 1e-4
    assert error[-20:].max() < 3 * error[:20].max() + 1e-12


def test_bounds_and_the_correction_of_published_ones():
    solar = float(gravity.predictions(1e-12)["mercury"])
    assert solar == pytest.approx(42.91902013 - 42.98060039, rel=1e-6)
    star = gravity.predictions(9.3588384e-07)["s2"]
    assert float(star) == pytest.approx(0.91, abs=1e-6)
    claims = {claim.source: claim for claim in gravity.published_bounds()}
    sun = claims["Liu et al., arXiv 1010.6149, Sun"]
    assert sun.recomputed == pytest.approx(sun.published, rel=2e-3)
    jupiter = claims["Liu et al., arXiv 1010.6149, 'Jupiter'"]
    assert jupiter.recomputed < 1e-5 * jupiter.published
    assert (sun.verdict, jupiter.verdict) == (
        "agrees within 0.1%",
        "agrees within 0.1% with the Sun's M/R, not its own",
    )
    assert "-44.95" in claims["Harko et al., PRSA 467, 1390, perihelion"].verdict


def test_long_run_does_not_drift():
    hole = gravity.kerr(a=0.7)
    x = jnp.array([0.0, 10.0, np.pi / 2, 0.0])
    p = gravity.momentum(hole, x, jnp.array([0.0, 1.0, 3.5]), mass=1.0)
    motion = gravity.long_run(hole, x, p, step=1.0, steps=20_000, keep=100).checked()
    error = np.abs(np.asarray(motion.energy) + 0.5)
    assert error.max() < 1e-4
    assert error[-20:].max() < 3 * error[:20].max() + 1e-12


def test_ray_into_the_singularity_has_a_status():
    """Rain coordinates are regular at the horizon: light goes through it and ends at r = 0."""
    rain = gravity.painleve_gullstrand()
    x = jnp.array([[0.0, 5.0, np.pi / 2, 0.0], [0.0, 5.0, np.pi / 2, 0.0]])
    p = gravity.momentum(rain, x, jnp.array([[-1.0, 0.0, 0.1], [1.0, 0.0, 0.1]]))
    rays = gravity.trace(rain, x, p, 50.0, stop=gravity.Stop(inner=0), max_steps=400)
    assert int(rays.status[0]) != 0
    assert int(rays.status[1]) == 0
    with pytest.raises(SolverError, match=r"geodesic: \w+ \(1 of 2 lanes failed, the first at index 0\)"):
        rays.checked()


def test_posterior_of_omega():
    found = gravity.posterior(points=120)
    mass = np.trapezoid(np.asarray(found.density), 1 / np.asarray(found.omega))
    assert mass == pytest.approx(1, abs=0.02)
    assert found.least95 < found.least68
    assert found.least95 == pytest.approx(2.2e-18, rel=0.05)


@pytest.mark.slow
def test_text_metric_through_the_whole_chain():
    """A metric never seen before: rays, picture, fit and posterior, beside the observables of the other files."""
    hole = gravity.from_text("1 - 2M/r + M l^2 exp(-r/l)/r^3", params={"M": 1.0, "l": 0.5})
    picture = gravity.image(hole, pixels=24, extent=8.0, inclination=60.0, disk=None)
    area = float(np.mean(picture.captured)) * 256
    assert area == pytest.approx(np.pi * float(gravity.shadow_radius(hole).value) ** 2, rel=0.08)
    r0 = jnp.linspace(3.4, 6.0, 20)
    bend = lambda metric, p, r: gravity.deflection(metric, p, r0=r).value
    truth = {"M": 1.02, "l": 0.8}
    noise = 3e-5 * np.random.default_rng(5).normal(size=20)
    values = jax.vmap(lambda r: bend(hole, truth, r))(r0) + noise
    draws = gravity.posterior_metric(
        hole, bend, {"M": 1.0, "l": 0.7}, (r0, values, jnp.full(20, 3e-5)), key=jax.random.key(0), chains=4, steps=150
    ).checked()
    for name, value in truth.items():
        x = np.asarray(draws.xs[name])
        assert abs(x.mean() - value) < 4 * x.std(), name
        assert float(draws.rhat[name]) < 1.1


@pytest.mark.slow
def test_fit_recovers_the_coupling():
    hole = gravity.kehagias_sfetsos()
    r0 = jnp.linspace(4.0, 12.0, 25)
    bend = lambda metric, p, r: gravity.deflection(metric, p, r0=r).value
    noise = 1e-4 * np.random.default_rng(3).normal(size=25)
    values = jax.vmap(lambda r: bend(hole, {"omega": 0.8}, r))(r0) + noise
    found = gravity.fit_metric(hole, bend, {"omega": 1.5}, (r0, values, jnp.full(25, 1e-4))).checked()
    assert abs(float(found.params["omega"]) - 0.8) < 3 * float(found.standard_errors["omega"])
