"""Gradients of every observable in every coupling: closed forms, independent quadrature, scaling, differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit import gravity

# (names, dimensions as powers of length, the observables as a function of (metric, params, length)): what shares a
# search is computed together
ORBITS = [
    (("horizon",), (1,), lambda m, p, r: [gravity.horizon(m, p).value]),
    (("temperature",), (-1,), lambda m, p, r: [gravity.hawking_temperature(m, p).value]),
    (("photon sphere",), (1,), lambda m, p, r: [gravity.photon_sphere(m, p).value]),
    (("isco", "isco energy", "isco momentum"), (1, 0, 1), lambda m, p, r: gravity.isco_orbit(m, p)[:3]),
]
RAYS = [
    (("shadow",), (1,), lambda m, p, r: [gravity.shadow_radius(m, p).value]),
    (("shadow seen",), (0,), lambda m, p, r: [gravity.shadow_radius(m, p, observer=3 * r).value]),
    (("lyapunov", "bending", "frequency"), (-1, 0, -1), lambda m, p, r: gravity.strong_field(m, p)[:3]),
    (("deflection r0",), (0,), lambda m, p, r: [gravity.deflection(m, p, r0=r).value]),
    (("deflection b",), (0,), lambda m, p, r: [gravity.deflection(m, p, b=r).value]),
    (("precession",), (0,), lambda m, p, r: [gravity.precession(m, p, p=2 * r, e=0.3).value]),
    (("shapiro",), (1,), lambda m, p, r: [gravity.shapiro(m, p, r0=r, r1=100 * r).value]),
]
STATIC = [*ORBITS, *RAYS]
KERR = [
    *ORBITS,
    (("isco retrograde",), (1,), lambda m, p, r: [gravity.isco(m, p, retrograde=True).value]),
    (("photon retrograde",), (1,), lambda m, p, r: [gravity.photon_sphere(m, p, retrograde=True).value]),
]
R0 = 10.0
# metric, observables, its couplings with their dimensions
CASES = {
    "Kehagias-Sfetsos": (gravity.kehagias_sfetsos, STATIC, {"omega": (1.3, -2), "M": (1.1, 1)}),
    "Kerr": (gravity.kerr, KERR, {"a": (0.7, 1), "M": (1.1, 1)}),
    "Reissner-Nordstrom": (gravity.reissner_nordstrom, STATIC, {"Q": (0.6, 1), "M": (1.1, 1)}),
    "text": (
        lambda: gravity.from_text("1 - 2M/r + M l^2 exp(-r/l)/r^3", params={"M": 1.0, "l": 0.5}),
        STATIC,
        {"l": (0.5, 1), "M": (1.1, 1)},
    ),
}
QUICK = ("Kehagias-Sfetsos",)


def program(name):
    metric, observables, couplings = CASES[name]
    metric = metric()
    values = lambda p, r: jnp.stack([value for _, _, fn in observables for value in fn(metric, p, r)])
    at = {key: jnp.asarray(value) for key, (value, _) in couplings.items()}
    powers = {name: power for names, powers, _ in observables for name, power in zip(names, powers, strict=True)}
    return jax.jit(values), at, powers, couplings


@pytest.fixture(scope="module")
def ran():
    """One compiled pair of programs a metric, shared by the tests."""
    kept = {}

    def get(name):
        if name not in kept:
            values, at, powers, couplings = program(name)
            slopes = jax.jit(jax.jacfwd(values, argnums=(0, 1)))
            kept[name] = (values, slopes(at, jnp.asarray(R0)), at, powers, couplings)
        return kept[name]

    return get


NAMES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CASES]


@pytest.mark.parametrize("name", NAMES)
def test_gradients_agree_with_differences_and_scaling(ran, name):
    values, (in_params, in_r), at, powers, couplings = ran(name)
    here = values(at, jnp.asarray(R0))
    assert np.all(np.isfinite(here)), dict(zip(powers, np.isfinite(here), strict=True))
    total = R0 * in_r
    for key, (value, dimension) in couplings.items():
        step = 1e-5
        up, down = ({**at, key: jnp.asarray(value + s)} for s in (step, -step))
        difference = (values(up, jnp.asarray(R0)) - values(down, jnp.asarray(R0))) / (2 * step)
        scale = np.abs(difference) + np.abs(here) * 1e-3
        assert np.max(np.abs(in_params[key] - difference) / scale) < 1e-6, key
        total = total + dimension * value * in_params[key]
    # Every observable is a power of length: Euler's identity ties the gradients in all couplings together.
    power = np.array(list(powers.values()), float)
    np.testing.assert_allclose(np.asarray(total), power * np.asarray(here), rtol=1e-10, atol=1e-10)


def test_gradients_of_kehagias_sfetsos_against_closed_forms(ran):
    _, (in_params, _), at, powers, _ = ran("Kehagias-Sfetsos")

    def closed(p):
        w, mass = p["omega"], p["M"]
        w0 = w * mass**2
        r = mass * (1 + jnp.sqrt(1 - 1 / (2 * w0)))
        hot = (2 * w * r**2 - 1) / (8 * jnp.pi * r * (w * r**2 + 1))
        light = 2 * 3**0.5 * jnp.cos(jnp.arccos(-2 / (3 * 3**0.5 * w0)) / 3)
        return {
            "horizon": r,
            "temperature": hot,
            "photon sphere": mass * light,
            "shadow": mass * light * jnp.sqrt((light + 3) / (light - 1)),
        }

    names = list(powers)
    for key, slopes in jax.jacfwd(closed)(at).items():
        for coupling, slope in slopes.items():
            assert float(in_params[coupling][names.index(key)]) == pytest.approx(float(slope), rel=1e-10), key


@pytest.mark.slow
def test_gradients_of_kerr_against_closed_forms(ran):
    _, (in_params, _), at, powers, _ = ran("Kerr")

    def closed(p):
        mass, spin = p["M"], p["a"] / p["M"]
        r = 1 + jnp.sqrt(1 - spin**2)
        z1 = 1 + jnp.cbrt(1 - spin**2) * (jnp.cbrt(1 + spin) + jnp.cbrt(1 - spin))
        z2 = jnp.sqrt(3 * spin**2 + z1**2)
        isco = lambda s: 3 + z2 - s * jnp.sqrt((3 - z1) * (3 + z1 + 2 * z2))
        light = lambda s: 2 * (1 + jnp.cos(2 / 3 * jnp.arccos(-s * spin)))
        return {
            "horizon": mass * r,
            "temperature": (r - 1) / (4 * jnp.pi * mass * r),
            "isco": mass * isco(1.0),
            "isco energy": jnp.sqrt(1 - 2 / (3 * isco(1.0))),
            "isco retrograde": mass * isco(-1.0),
            "photon sphere": mass * light(1.0),
            "photon retrograde": mass * light(-1.0),
        }

    names = list(powers)
    for key, slopes in jax.jacfwd(closed)(at).items():
        for coupling, slope in slopes.items():
            assert float(in_params[coupling][names.index(key)]) == pytest.approx(float(slope), rel=1e-10), key


@pytest.mark.parametrize(
    ("observable", "slope"),
    [
        (lambda m, p: gravity.deflection(m, p, r0=4.0), 0.11209069268024483),
        (lambda m, p: gravity.deflection(m, p, r0=10.0), 0.00093732506660245891),
        (lambda m, p: gravity.precession(m, p, p=20.0, e=0.3), 0.008134491037092493),
        (lambda m, p: gravity.precession(m, p, p=12.0, e=0.5), 0.06821179269754472),
        (lambda m, p: gravity.shapiro(m, p, r0=10.0, r1=1000.0), 0.00668151742535975),
    ],
)
def test_integrals_of_kehagias_sfetsos_against_thirty_digits(observable, slope):
    """d/domega at omega = M = 1: mpmath's quadrature of the textbook integrals with 30 digits and more."""
    hole = gravity.kehagias_sfetsos()
    found = jax.jit(jax.grad(lambda w: observable(hole, {"omega": w}).value))(1.0)
    assert float(found) == pytest.approx(slope, rel=1e-10)


def agm(a, b):
    for _ in range(7):
        a, b = 0.5 * (a + b), jnp.sqrt(a * b)
    return a


def test_precession_of_schwarzschild_against_the_elliptic_integral():
    """`4 sqrt(p / (p - 6 + 2 e)) K(4 e / (p - 6 + 2 e)) - 2 pi`, K by the arithmetic-geometric mean."""

    def closed(mass):
        p, e = 20.0 / mass, 0.3
        low = p - 6 + 2 * e
        return 2 * jnp.pi * jnp.sqrt(p / low) / agm(jnp.ones(()), jnp.sqrt(1 - 4 * e / low)) - 2 * jnp.pi

    hole = gravity.schwarzschild()
    ours = lambda mass: gravity.precession(hole, {"M": mass}, p=20.0, e=0.3).value
    found, wanted = jax.jit(jax.value_and_grad(ours))(1.2), jax.value_and_grad(closed)(1.2)
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=1e-12)


def test_reverse_mode_and_first_law():
    """dM = T dS at fixed omega, S = pi r+² + (pi/omega) log r+²; `jax.grad` through the implicit root, both modes."""
    hole, omega = gravity.kehagias_sfetsos(), 1.3

    def entropy(mass):
        r = gravity.horizon(hole, {"M": mass, "omega": omega}).value
        return jnp.pi * r**2 + jnp.pi / omega * jnp.log(r**2)

    temperature = gravity.hawking_temperature(hole, {"M": 1.1, "omega": omega}).value
    reverse, forward = jax.jit(lambda m: (jax.grad(entropy)(m), jax.jvp(entropy, (m,), (1.0,))[1]))(1.1)
    assert float(temperature * reverse) == pytest.approx(1, rel=1e-10)
    assert float(forward) == pytest.approx(float(reverse), rel=1e-13)


@pytest.mark.slow
def test_rays_through_a_horizon_have_derivatives():
    """In Kerr-Schild coordinates: outside, just outside, inside, and where a ray is stopped."""
    hole = gravity.kerr(a=0.9, coordinates="kerr-schild")
    x0 = jnp.tile(jnp.asarray([[0.0, 8.0, 0.0, 1.0]]), (3, 1))
    p0 = gravity.momentum(hole, x0, jnp.tile(jnp.asarray([[-1.0, 0.05, 0.0]]), (3, 1)))

    def ends(a, inner):
        stop, spans = gravity.Stop(inner=inner), jnp.asarray([[0, 6.0], [0, 6.6], [0, 7.6]])
        rays = gravity.trace(hole, x0, p0, spans, {"a": a}, rtol=1e-11, atol=1e-13, stop=stop)
        return rays.x, rays.end

    for inner in (0.0, 1.6):
        near, far = (ends(jnp.asarray(0.9 + h), inner) for h in (1e-5, -1e-5))
        for slope, u, v in zip(jax.jacfwd(ends)(jnp.asarray(0.9), inner), near, far, strict=True):
            np.testing.assert_allclose(slope, (u - v) / 2e-5, rtol=0, atol=1e-7)
