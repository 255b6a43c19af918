"""Horizons, orbits, classical tests: golden numbers, closed forms, gradients, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from jaxkit import SolverError, Status, gravity

HOLE = gravity.kehagias_sfetsos()
# gravity-facts A4: horizon, temperature, photon sphere, shadow, ISCO, its energy and momentum, Bozza's coefficient
GOLDEN = {
    0.5: (1.0, 0.0, 2.37228132326901, 4.69379358145623, 5.23654737251524,
        0.936999238823391, 3.34771850498529, 1.51107559433691),
    1.0: (1.70710678118655, 0.0287515072252236, 2.74656824699572,
        4.98197907520584, 5.66394824233676, 0.940336722016347, 3.41179534957052, 1.14914228317624),
    2.0: (1.86602540378444, 0.0346133765027467, 2.88202054485707,
        5.09504660537697, 5.84023842407093, 0.941651514676958, 3.43907257287694, 1.06338435455598),
    10.0: (1.9746794344809, 0.0387874794461536, 2.97752586503931,
        5.17672611653017, 5.9691820924813, 0.942588311000373, 3.45925350857443, 1.01138654590902),
    1e16: (2.0, 0.0397887357729738, 3.0, 5.19615242270663, 6.0, (8 / 9) ** 0.5, 12**0.5, 1.0),
}  # fmt: skip


def everything(omega):
    p = {"omega": omega}
    orbit = gravity.isco_orbit(HOLE, p)
    return jnp.stack([
        gravity.horizon(HOLE, p).value, gravity.hawking_temperature(HOLE, p).value,
        gravity.photon_sphere(HOLE, p).value,
        gravity.shadow_radius(HOLE, p).value, orbit.r, orbit.energy, orbit.angular_momentum,
        gravity.strong_field(HOLE, p).bending,
    ])  # fmt: skip


EVERYTHING = jax.jit(everything)
SLOPES = jax.jit(jax.jacfwd(everything))


@pytest.mark.parametrize("omega", GOLDEN)
def test_table_of_kehagias_sfetsos(omega):
    np.testing.assert_allclose(EVERYTHING(omega), GOLDEN[omega], rtol=1e-12, atol=1e-13)


def test_naked_singularity_has_a_shadow_and_no_horizon():
    found = EVERYTHING(0.4)
    assert np.isnan(found[0])
    assert np.isnan(found[1])
    np.testing.assert_allclose(found[2:4], (2, 2 * 5**0.5), rtol=1e-13)
    np.testing.assert_allclose(found[4:7], (4.95895551700813, 0.934742693012081, 3.30832197407839), rtol=1e-12)
    with pytest.raises(SolverError, match="observable: not_applicable"):
        gravity.horizon(HOLE, {"omega": 0.4}).checked()


@pytest.mark.parametrize(
    ("omega", "photon", "shadow", "isco"),
    [(1.0, 0.293450663774, 0.240966190439, 0.3722681958), (2.0, 0.0628214603064, 0.0532327542042, 0.08365976413)],
)
def test_gradients_against_closed_forms_and_differences(omega, photon, shadow, isco):
    slopes = SLOPES(omega)
    np.testing.assert_allclose(slopes[2:5], (photon, shadow, isco), rtol=1e-9)
    r = EVERYTHING(omega)[2]  # dr/domega = r (9 - r²) / (omega (3 r² - 9)), from r³ - 9r + 4/omega = 0
    assert float(slopes[2]) == pytest.approx(float(r * (9 - r**2) / (omega * (3 * r**2 - 9))), rel=1e-10)
    plus = EVERYTHING(omega)[0]
    assert float(slopes[0]) == pytest.approx(float(1 / (4 * omega**2 * (plus - 1))), rel=1e-10)
    step = 1e-5
    difference = (EVERYTHING(omega + step) - EVERYTHING(omega - step)) / (2 * step)
    np.testing.assert_allclose(slopes, difference, rtol=1e-6, atol=1e-9)


BENDING = jax.jit(lambda omega, r0: gravity.deflection(HOLE, {"omega": omega}, r0=r0).value)
TURNING = jax.jit(lambda omega, p, e: gravity.precession(HOLE, {"omega": omega}, p=p, e=e).value)
DELAY = jax.jit(lambda omega, r0, r1: gravity.shapiro(HOLE, {"omega": omega}, r0=r0, r1=r1).value)


@pytest.mark.parametrize(
    ("r0", "omega", "angle"),
    [
        (10.0, 1e30, 0.500235656607792), (10.0, 1.0, 0.49929555775273), (10.0, 0.5, 0.498360987913538),
        (4.0, 1e30, 2.184100187728), (4.0, 1.0, 2.062207278866),
        (100.0, 1e30, 0.0407956128928033), (100.0, 0.5, 0.0407954901904301),
    ],
)  # fmt: skip
def test_deflection(r0, omega, angle):
    assert float(BENDING(omega, r0)) == pytest.approx(angle, rel=3e-12)


@pytest.mark.parametrize(
    ("p", "e", "omega", "angle"),
    [
        (20.0, 0.3, 1e30, 1.229246428755657), (20.0, 0.3, 1.0, 1.221094099873298), (20.0, 0.3, 0.5, 1.212977358429771),
        (12.0, 0.5, 1e30, 2.649577355092581), (12.0, 0.5, 0.5, 2.513108228762921),
        (100.0, 0.6, 1e30, 0.1976235572906452), (100.0, 0.6, 0.5, 0.1975328558310195),
    ],
)  # fmt: skip
def test_precession(p, e, omega, angle):
    assert float(TURNING(omega, p, e)) == pytest.approx(angle, rel=1e-13)


def test_mercury_keeps_its_digits():
    p, e = gravity.data.mercury_semilatus_rectum(), gravity.data.MERCURY["e"]
    century = lambda omega: gravity.data.per_century(float(TURNING(omega, p, e)))
    assert century(1e30) == pytest.approx(42.98060039, rel=1e-9)
    assert century(1e-12) == pytest.approx(42.91902013, rel=1e-9)
    assert century(1e-14) == pytest.approx(36.82257426, rel=1e-9)


@pytest.mark.parametrize(
    ("omega", "time"), [(1e30, 1012.74432511251928), (1.0, 1012.73762557081591), (0.5, 1012.73096196051665)]
)
def test_travel_time(omega, time):
    assert float(DELAY(omega, 10.0, 1000.0)) + (1000.0**2 - 100) ** 0.5 == pytest.approx(time, rel=1e-14)


def test_weak_field_series():
    """Deflection: -15 pi/(8 omega b⁴); precession: -3 pi (4 + e²)/(omega p³)."""
    weaker = float(TURNING(1.0, 4000.0, 0.4) - TURNING(1e30, 4000.0, 0.4)) * 4000.0**3 / (-3 * np.pi * 4.16)
    assert weaker == pytest.approx(1, rel=5e-3)
    bent = float(BENDING(0.5, 300.0) - BENDING(1e30, 300.0)) * 300.0**4 / (-15 * np.pi / 4)
    assert bent == pytest.approx(1, rel=3e-2)


@pytest.mark.parametrize(
    ("a", "isco", "retrograde"),
    [(0.5, 4.23300252953083, 7.55458471451236), (0.9, 2.32088304176189, 8.71735227960649),
        (0.998, 1.23697065517518, 8.99437445480357)],
)  # fmt: skip
def test_kerr_isco(a, isco, retrograde):
    assert float(KERR(a)[0]) == pytest.approx(isco, rel=1e-11)
    assert float(KERR(a)[1]) == pytest.approx(retrograde, rel=1e-11)
    if a == 0.9:
        np.testing.assert_allclose(KERR(a)[2:4], (1.55785462742338, 3.91026793910304), rtol=1e-12)
    if a == 0.998:
        assert float(KERR(a)[4]) == pytest.approx(0.320994165616, abs=1e-11)


@jax.jit
def KERR(a):
    hole, p = gravity.kerr(), {"a": a}
    pro, retro = gravity.isco_orbit(hole, p), gravity.isco_orbit(hole, p, retrograde=True)
    light = [gravity.photon_sphere(hole, p, retrograde=way).value for way in (False, True)]
    return jnp.stack([pro.r, retro.r, *light, 1 - pro.energy])


def test_closed_forms_of_kehagias_sfetsos():
    """gravity-facts A4: the cubic of the photon sphere, the shadow in closed form, mass from the horizon, series."""
    for omega in (0.5, 0.8, 3.0):
        found = EVERYTHING(omega)
        r, b, outer = (float(found[i]) for i in (2, 3, 0))
        assert r**3 - 9 * r + 4 / omega == pytest.approx(0, abs=1e-12)
        assert b == pytest.approx(r * ((r + 3) / (r - 1)) ** 0.5, rel=1e-13)
        assert (1 + 2 * omega * outer**2) / (4 * omega * outer) == pytest.approx(1, rel=1e-13)
    least = float(EVERYTHING(2 / 27**0.5 * (1 + 1e-3))[3])  # the least shadow of all, where the photon sphere ends
    assert 4.40366947504 < least < 4.40366947504 + 0.01
    r = 3**0.5
    assert r * ((r + 3) / (r - 1)) ** 0.5 == pytest.approx(4.40366947504, rel=1e-11)
    large = 1e4
    series = (2 - 1 / (4 * large), (1 - 1 / (4 * large)) / (8 * np.pi), 3 - 2 / (9 * large),
        27**0.5 * (1 - 1 / (27 * large)), 6 - 11 / (36 * large))  # fmt: skip
    np.testing.assert_allclose(EVERYTHING(large)[:5], series, rtol=1e-8)


def test_solar_system_and_star():
    """gravity-facts A5. Deflection at r0 = R (first order: 1.751190), delay two ways over 1 and 8.43 AU, star S2."""
    data = gravity.data
    sun = data.SUN_RADIUS / data.SUN
    limb = float(BENDING(1e30, sun))
    assert 4 / sun / data.ARCSECOND == pytest.approx(1.751190, abs=5e-7)
    assert (limb - 4 / sun) * sun**2 == pytest.approx(15 * np.pi / 4 - 4, rel=1e-4)
    legs = [float(DELAY(1e30, 1.6 * sun, r * data.AU / data.SUN)) for r in (1.0, 8.43)]
    assert 2 * sum(legs) * data.SUN / data.LIGHT * 1e6 == pytest.approx(282.04366, abs=5e-5)
    p, e = data.s2_semilatus_rectum(), data.S2["e"]
    assert p == pytest.approx(5330.82, rel=2e-5)  # the facts' number; its own elements give 5330.74
    minutes = 180 * 60 / np.pi
    assert 6 * np.pi / 5330.82 * minutes == pytest.approx(12.1557, abs=5e-5)
    assert float(TURNING(1e30, 5330.82, e)) * minutes == pytest.approx(12.1664, abs=5e-5)
    assert gravity.balance_left(7.2e-10 / data.SUN**2) == pytest.approx(2.2e-37, rel=0.02)


def test_all_horizons_and_none():
    found = gravity.horizons(HOLE, {"omega": 1.0})
    np.testing.assert_allclose(found.value[:2], (1 + 0.5**0.5, 1 - 0.5**0.5), rtol=1e-13)
    assert list(np.asarray(found.status)) == [0, 0, 9]
    with pytest.raises(SolverError, match="observable: not_applicable: the question has no answer"):
        gravity.horizon(gravity.minkowski()).checked()


# metric of the length M, what it is at M = 1: horizon, photon sphere, ISCO
PLACES = jax.jit(
    lambda p: jnp.stack(
        [place(gravity.de_sitter(), p).value for place in (gravity.horizon, gravity.photon_sphere, gravity.isco)]
    )
)

PLACES_SLOPES = jax.jit(jax.jacfwd(PLACES))


@pytest.mark.parametrize("M", [1.0, 1e-3, 1e6])
def test_places_of_schwarzschild_de_sitter_in_any_unit(M):
    """The cosmological horizon is none of the hole's; to first order in `L` the ISCO is at `6 + 648 L`."""
    small = PLACES({"L": 1e-6 / M**2, "M": M}) / M
    np.testing.assert_allclose(small, (2 + 8e-6 / 3, 3, 6 + 648e-6), rtol=1e-7)
    r = float(PLACES({"L": 1e-4 / M**2, "M": M})[0]) / M
    assert 1 - 2 / r - 1e-4 * r**2 / 3 == pytest.approx(0, abs=1e-14)
    np.testing.assert_allclose(
        PLACES_SLOPES({"L": 1e-6 / M**2, "M": M})["L"] / M**3, (8 / 3, 0, 648), rtol=1e-2, atol=1e-9
    )


def test_extremal_and_nearly_extremal_places():
    found = jax.jit(jax.vmap(lambda q: gravity.horizon(gravity.reissner_nordstrom(), {"Q": q})))
    charge = jnp.array([1.0, 1 - 1e-13, 1 - 1e-9, 1 + 1e-9, jnp.nan])
    places = found(charge)
    assert list(np.asarray(places.status)) == [0, 0, 0, 9, 2]
    near = np.asarray(charge[:3])
    np.testing.assert_allclose(places.value[:3], 1 + np.sqrt((1 - near) * (1 + near)), rtol=1e-14)
    assert abs(float(places.value[0]) - 1) < 1e-15
    light = jax.jit(jax.vmap(lambda w: gravity.photon_sphere(HOLE, {"omega": w})))
    edge = 2 / 27**0.5
    rings = light(edge * jnp.array([1.0, 1 + 1e-9, 1 - 1e-9]))
    assert list(np.asarray(rings.status)) == [0, 0, 9]
    np.testing.assert_allclose(
        rings.value[:2], (3**0.5, 2 * 3**0.5 * np.cos(np.arccos(-1 / (1 + 1e-9)) / 3)), rtol=1e-9
    )
    # Where gravity only repels, or N² / r² has a least value alone, rounding is no light ring.
    assert int(gravity.photon_sphere(gravity.lu_mei_pope(alpha=3.0)).status) == 9


NEARLY = {  # a hole, the parameter in which it is nearly extremal, and half the distance of its horizons
    "kerr": (gravity.kerr(), "a", lambda mp, a: mp.sqrt(1 - a**2)),
    "reissner-nordstrom": (gravity.reissner_nordstrom(), "Q", lambda mp, q: mp.sqrt(1 - q**2)),
    "kerr-newman": (gravity.kerr_newman(Q=0.0), "a", lambda mp, a: mp.sqrt(1 - a**2)),
    "kehagias-sfetsos": (gravity.kehagias_sfetsos(), "omega", lambda mp, w: mp.sqrt(1 - 1 / (2 * w))),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NEARLY)
def test_horizons_that_nearly_meet_keep_their_digits(name):
    mpmath = pytest.importorskip("mpmath")
    hole, key, half = NEARLY[name]
    sign, edge = (1, 0.5) if name == "kehagias-sfetsos" else (-1, 1.0)
    ulp = np.spacing(edge)
    values = [edge + sign * gap for gap in (1e-2, 6e-4, 1e-8, 1e-12, 1e-15, ulp, 0.0, -ulp, -1e-9)]

    @jax.jit
    @jax.vmap
    def look(value):
        radius, slope = jax.value_and_grad(lambda v: gravity.horizon(hole, {key: v}).value)(value)
        push = jax.jvp(lambda v: gravity.horizon(hole, {key: v}).value, (value,), (1.0,))[1]
        return radius, slope, push, gravity.horizon(hole, {key: value}).status, gravity.horizons(hole, {key: value})

    radius, slope, push, status, both = look(jnp.asarray(values))
    assert status.tolist() == [0] * 7 + [9] * 2
    assert both.status.tolist() == [[0, 0, 9]] * 6 + [[0, 9, 9]] + [[9] * 3] * 2
    assert np.isnan(slope[6:]).all()
    assert np.isnan(push[6:]).all()
    with mpmath.workdps(50):
        for i, value in enumerate(values[:7]):
            apart = half(mpmath, mpmath.mpf(value))
            assert float(radius[i]) == pytest.approx(float(1 + apart), rel=1e-13)
            assert float(both.value[i, 0]) == float(radius[i])
            assert i == 6 or float(both.value[i, 1]) == pytest.approx(float(1 - apart), rel=1e-13)
            if i < 6:
                exact = float(mpmath.diff(lambda v: half(mpmath, v), mpmath.mpf(value), h=mpmath.mpf(10) ** -25))
                assert float(slope[i]) == pytest.approx(exact, rel=1e-7)
                assert float(push[i]) == pytest.approx(float(slope[i]), rel=1e-12)


def test_a_search_around_one_of_two_near_horizons_finds_that_one():
    hole, a = gravity.kerr(), 1 - 1e-6
    inner = 1 - (1 - a**2) ** 0.5
    assert float(gravity.horizons(hole, {"a": a}).value[1]) == pytest.approx(inner, rel=1e-12)
    assert int(gravity.horizon(hole, {"a": a}, search=(0.5, 1.0)).status) == int(Status.not_applicable)


def test_text_goes_through_the_whole_chain():
    hole = gravity.from_text("1 - 2M/r + q^2/r^2", params={"M": 1.0, "q": 0.6})
    known = gravity.reissner_nordstrom(Q=0.6)
    places = (gravity.horizon, gravity.photon_sphere, gravity.shadow_radius, gravity.isco)
    both = jax.jit(lambda: [[place(metric) for place in places] for metric in (hole, known)])()
    for mine, theirs in zip(*both, strict=True):
        assert float(mine.checked().value) == pytest.approx(float(theirs.value), rel=1e-12)
    with pytest.raises(ValueError, match="Unexpected character"):
        gravity.from_text("1 - 2*__import__('os').getpid()/r")


def test_bending_near_the_photon_sphere():
    """Darwin's elliptic integrals of Schwarzschild, 40 digits; at the photon sphere itself a ray never comes back."""
    hole = gravity.schwarzschild()
    by_r0 = jax.jit(jax.vmap(lambda r: gravity.deflection(hole, r0=r)))
    nearest = jnp.array([3.01, 3 + 1e-6, 3 + 1e-9, 3.0, 2.9, -1.0])
    found = by_r0(nearest)
    assert list(np.asarray(found.status)) == [0, 0, 0, 9, 9, 9]
    np.testing.assert_allclose(found.value[:2], (10.610788280962636, 29.022551434011827), rtol=1e-10)
    assert float(found.value[2]) == pytest.approx(42.83806093877, rel=1e-7)
    by_b = jax.jit(jax.vmap(lambda b: gravity.deflection(hole, b=b)))(27**0.5 * jnp.array([1 + 1e-6, 1.0, 0.9]))
    assert list(np.asarray(by_b.status)) == [0, 9, 9]
    assert float(by_b.value[0]) == pytest.approx(13.4152855579, rel=1e-10)
    turns = jax.jit(jax.vmap(lambda p, e: gravity.precession(hole, p=p, e=e)))(
        jnp.array([7 + 1e-6, 7.0, 20.0, 20.0, 20.0, -20.0]), jnp.array([0.5, 0.5, 1.2, 1.0, -0.3, 0.3])
    )
    assert list(np.asarray(turns.status)) == [0, 9, 9, 9, 9, 9]
    assert float(turns.value[0]) == pytest.approx(58.37731561633631, rel=1e-8)
    late = jax.jit(jax.vmap(lambda r0: gravity.shapiro(hole, r0=r0, r1=1000.0)))(jnp.array([10.0, 3.0, 2.5]))
    assert list(np.asarray(late.status)) == [0, 9, 9]


def test_delay_of_a_ray_just_outside_the_photon_sphere():
    """Beside scipy's quadrature; `r = r0 + s^2` takes the root at the turning point away."""
    r0, r1 = 3.3, 40.0
    lapse = lambda r: 1 - 2 / r

    def pace(s):
        r = r0 + s * s
        gone = (r0**2 / lapse(r0)) * lapse(r) / r**2
        return 2 * s / (lapse(r) * np.sqrt(1 - gone))

    time = quad(pace, 1e-9, np.sqrt(r1 - r0), epsabs=1e-11, epsrel=1e-11, limit=200)[0]
    late = gravity.shapiro(gravity.schwarzschild(), r0=r0, r1=r1).checked().value
    assert float(late) + (r1**2 - r0**2) ** 0.5 == pytest.approx(time, rel=1e-8)


def test_refusals():
    with pytest.raises(ValueError, match="must be static and spherical"):
        gravity.deflection(gravity.kerr(), r0=10.0)
    with pytest.raises(ValueError, match="Argument `r0` must be given, or `b`, not both"):
        gravity.deflection(HOLE)
    assert int(gravity.photon_sphere(gravity.minkowski()).status) == 9


@pytest.mark.slow
def test_a_matrix_of_your_own_is_as_good_as_its_profile():
    def matrix(x, p):
        f = 1 - 2 * p["M"] / x[1]
        return jnp.diag(jnp.stack([-f, 1 / f, x[1] ** 2, (x[1] * jnp.sin(x[2])) ** 2]))

    own = gravity.from_function(matrix, {"M": 2.0})
    radius, slope = jax.value_and_grad(lambda M: gravity.shadow_radius(own, {"M": M}).value)(2.0)
    assert float(radius) == pytest.approx(6 * np.sqrt(27) / 3, rel=1e-12)
    assert float(slope) == pytest.approx(np.sqrt(27), rel=1e-10)
    # 4M/b + 15 pi M²/(4 b²) + 128 M³/(3 b³) + ..., Keeton and Petters (2005)
    x = 2.0 / 2e4
    series = 4 * x + 15 * np.pi / 4 * x**2 + 128 / 3 * x**3
    assert float(gravity.deflection(own, b=2e4).checked().value) == pytest.approx(series, rel=1e-8)


@pytest.mark.slow
def test_a_matrix_that_is_no_static_sphere_is_told():
    kerr = gravity.kerr()
    own = gravity.from_function(kerr, {"M": 1.0, "a": 0.5}, name="mine")
    with pytest.raises(ValueError, match=r"`metric` must be static and spherical.*but is not \(mine\)"):
        gravity.shadow_radius(own)
    with pytest.raises(ValueError, match=r"but is not \(wormhole\)"):  # r is no radius of an area
        gravity.deflection(gravity.wormhole(), r0=3.0)
    edge = jax.jit(jax.vmap(lambda a: gravity.shadow_radius(own, {"a": a})))(jnp.asarray([0.0, 0.5]))
    assert edge.status.tolist() == [int(Status.ok), int(Status.not_applicable)]
    np.testing.assert_allclose(edge.value, [np.sqrt(27), np.nan], rtol=1e-10)


@pytest.mark.slow
def test_an_extremal_horizon_has_no_derivative():
    radius = lambda Q: gravity.horizon(gravity.reissner_nordstrom(), {"Q": Q}).value
    assert float(radius(1.0)) == pytest.approx(1, rel=1e-9)
    assert np.isnan(jax.grad(radius)(1.0))
    assert np.isnan(jax.jvp(radius, (1.0,), (1.0,))[1])


@pytest.mark.slow
def test_kerr_up_to_the_extremal_hole():
    """Against polynomials in `s = sqrt(r)`, whose roots coincide at a = M."""
    mpmath = pytest.importorskip("mpmath")
    hole, spins = gravity.kerr(), [0.9, 1 - 1e-6, 1 - 1e-10, 1 - 1e-12, 1.0]
    orbit = jax.vmap(lambda a: gravity.isco_orbit(hole, {"a": a, "M": 2.0}))(2 * jnp.asarray(spins))
    light = jax.vmap(lambda a: gravity.photon_sphere(hole, {"a": a}))(jnp.asarray(spins))
    edge = jax.vmap(lambda a: gravity.horizon(hole, {"a": a}))(jnp.asarray(spins))
    assert set(np.concatenate([orbit.status, light.status, edge.status]).tolist()) == {int(Status.ok)}
    slopes = jax.vmap(jax.grad(lambda a: gravity.isco(hole, {"a": a}).value))(jnp.asarray(spins))
    assert not np.isfinite(slopes[-1])

    def outermost(*polynomial):
        return max(map(mpmath.re, mpmath.polyroots(polynomial, maxsteps=2000, extraprec=1000)))

    with mpmath.workdps(60):
        for i, a in enumerate(map(mpmath.mpf, spins)):
            s = outermost(1, 0, -6, 8 * a, -3 * a**2)
            assert float(light.value[i]) == pytest.approx(float(outermost(1, 0, -3, 2 * a)) ** 2, rel=1e-12)
            assert float(orbit.r[i]) == pytest.approx(2 * float(s) ** 2, rel=1e-12)
            assert float(edge.value[i]) == pytest.approx(float(1 + mpmath.sqrt(1 - a**2)), rel=1e-9)
            if a < 1:
                norm = mpmath.sqrt(s**4 - 3 * s**2 + 2 * a * s)
                assert float(orbit.energy[i]) == pytest.approx(float((s**3 - 2 * s + a) / (s * norm)), rel=1e-9)
                wound = (s**4 - 2 * a * s + a**2) / (s * norm)
                assert float(orbit.angular_momentum[i]) == pytest.approx(2 * float(wound), rel=1e-9)
                slope = -2 * s * (8 * s - 6 * a) / (4 * s**3 - 12 * s + 8 * a)
                assert float(slopes[i]) == pytest.approx(float(slope), rel=1e-6)
    assert float(orbit.energy[-1]) == pytest.approx(3**-0.5, rel=1e-12)
    assert float(orbit.angular_momentum[-1]) == pytest.approx(4 / 3**0.5, rel=1e-12)
