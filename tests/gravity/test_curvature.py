"""Curvature: closed forms, identities, three-dimensional tensors, Horava's potential."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit import gravity
from jaxkit.gravity import adm

POINT = jnp.array([0.0, 4.0, 1.1, 0.3])
VACUUM = ("minkowski", "schwarzschild", "kerr", "kerr-schild", "painleve-gullstrand")


def test_kerr_kretschmann_and_vacuum():
    at = jax.jit(gravity.curvature(gravity.kerr(a=0.9)))(POINT)
    assert float(at.kretschmann) == pytest.approx(0.009309675136752738, rel=1e-13)
    assert np.max(np.abs(at.einstein)) < 1e-14
    np.testing.assert_allclose(at.weyl, at.riemann, atol=1e-14)


@pytest.mark.slow
def test_many_points_are_the_same_and_differentiable():
    hole = gravity.kerr_newman()
    points = POINT[None] + jnp.arange(5.0)[:, None] * jnp.array([[0.0, 0.3, 0.1, 0.0]])
    many = gravity.curvatures(hole, lambda k: {"s": k.einstein[0, 3], "k": k.kretschmann}, width=2)
    found = many(points)
    one = gravity.curvature(hole)
    for i in (0, 4):
        at = one(points[i])
        assert float(found["s"][i]) == pytest.approx(float(at.einstein[0, 3]), rel=1e-11)
        assert float(found["k"][i]) == pytest.approx(float(at.kretschmann), rel=1e-12)
    value = lambda charge: many(points, {"Q": charge})["k"][1]
    step = 1e-5
    difference = (value(0.3 + step) - value(0.3 - step)) / (2 * step)
    assert float(jax.jit(jax.grad(value))(0.3)) == pytest.approx(float(difference), rel=1e-6)


def test_kehagias_sfetsos_curvature():
    at = gravity.curvature(gravity.kehagias_sfetsos(1.0))(jnp.array([0.0, 2.0, 1.1, 0.0]))
    assert float(at.kretschmann) == pytest.approx(0.328700015728027, rel=1e-13)
    assert float(at.scalar) == pytest.approx(-0.0587375039320068, rel=1e-12)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "kerr-newman" else pytest.mark.slow) for n in gravity.CATALOGUE]
)
def test_symmetries_of_every_metric(name):
    metric = gravity.CATALOGUE[name]()
    point = jnp.array([0.1, 2.9, 1.1, 0.3])
    at = gravity.curvature(metric)(point)
    riemann = np.asarray(at.riemann)
    np.testing.assert_allclose(riemann, riemann.transpose(2, 3, 0, 1), atol=1e-12)
    bianchi = riemann + riemann.transpose(0, 2, 3, 1) + riemann.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(bianchi, 0, atol=1e-12)
    np.testing.assert_allclose(np.einsum("abcd,ac->bd", np.asarray(at.weyl), np.asarray(at.inverse)), 0, atol=1e-12)
    if name in VACUUM:
        np.testing.assert_allclose(at.einstein, 0, atol=1e-12)
    if metric.formulas.inverse is not None:
        up = np.zeros((4, 4))
        for (i, j), value in metric.formulas.inverse(point, metric.params).items():
            up[i, j] = up[j, i] = float(value)
        np.testing.assert_allclose(up @ np.asarray(metric(point)), np.eye(4), atol=1e-13)


def test_friedmann_and_de_sitter():
    at = gravity.curvature(gravity.friedmann(lambda t: jnp.exp(0.2 * t), k=0.0))(jnp.array([0.3, 0.5, 1.0, 0.0]))
    assert float(at.einstein[0, 0]) == pytest.approx(3 * 0.04, rel=1e-12)
    assert float(at.scalar) == pytest.approx(12 * 0.04, rel=1e-12)


def berger(s):
    """The squashed sphere: (s1² + s2² + s² s3²)/4 in Euler angles."""

    def g(x):
        cos, sin = jnp.cos(x[0]), jnp.sin(x[0])
        last = s**2 * jnp.outer(jnp.stack([0.0 * cos, cos, 1.0 + 0 * cos]), jnp.stack([0.0 * cos, cos, 1.0 + 0 * cos]))
        return 0.25 * (jnp.diag(jnp.stack([1.0 + 0 * cos, sin**2, 0.0 * cos])) + last)

    return g


@pytest.mark.slow
def test_cotton_of_berger_sphere_and_its_conformal_weight():
    s, x = 0.7, jnp.array([1.1, 0.4, 0.2])
    g = berger(s)
    c = gravity.cotton(g)(x)
    low = g(x) @ c @ g(x)
    assert float(jnp.sum(low * c)) == pytest.approx(96 * s**2 * (1 - s**2) ** 2, rel=1e-11)
    assert float(gravity.from_field(g)(x).scalar) == pytest.approx(8 - 2 * s**2, rel=1e-12)
    sigma = lambda y: 0.3 * jnp.sin(y[0]) * y[1]
    scaled = gravity.cotton(lambda y: jnp.exp(2 * sigma(y)) * g(y))(x)
    np.testing.assert_allclose(scaled, jnp.exp(-5 * sigma(x)) * c, atol=1e-11)


def wavy(x):
    m = jnp.eye(3) + 0.1 * jnp.stack(
        [jnp.stack([jnp.sin(x[0] + 2 * x[1] + i - 0.5 * j * x[2]) for i in range(3)]) for j in range(3)]
    )
    return m @ m.T


def test_detailed_balance_identity_on_a_metric_without_symmetry():
    x = jnp.array([0.3, -0.2, 0.5])
    at, c = gravity.from_field(wavy)(x), gravity.cotton(wavy)(x)
    assert np.max(np.abs(c)) > 1e-3
    couplings = dict(adm.HORAVA)
    expected = float(adm.detailed_balance_potential(at, c, couplings))
    assert float(adm.potential(at, c, couplings)) == pytest.approx(expected, rel=1e-13)


def test_centre_of_kehagias_sfetsos_and_bianchi():
    """r³ K -> 81 omega / 4, softer than Schwarzschild's 48/r⁶; and the divergence of Einstein's tensor is nothing."""
    hole = gravity.kehagias_sfetsos(2.0)
    at = jax.jit(gravity.curvature(hole))
    r = 1e-5
    assert float(at(jnp.array([0.0, r, 1.1, 0.0])).kretschmann) * r**3 == pytest.approx(81 / 4 * 2.0, rel=0.02)
    x = jnp.array([0.0, 2.5, 1.1, 0.0])
    here = at(x)
    slope = gravity.covariant_derivative(lambda y: gravity.curvature(hole)(y).einstein, here.christoffel, x)
    assert np.max(np.abs(slope)) > 1e-3
    np.testing.assert_allclose(jnp.einsum("abc,ac->b", slope, here.inverse), 0, atol=1e-13)


def test_wrong_signature_is_refused():
    with pytest.raises(ValueError, match=r"must have the signature \(-, \+, \+, \+\), but has \(-, -, -, \+\) at"):
        gravity.curvature(lambda x, p: jnp.diag(jnp.array([1.0, -1.0, -1.0, -1.0])) * x[1])(POINT)


def test_user_metric_with_wrong_shape_or_signature():
    with pytest.raises(ValueError, match=r"Argument `metric` must return shape \(4, 4\), but returns \(3,\)"):
        gravity.curvature(lambda x, p: x[:3])
    with pytest.raises(ValueError, match="Argument `metric` must be callable as `metric"):
        gravity.curvature(lambda x: x)
    with pytest.raises(ValueError, match="Argument `params` must have names among"):
        gravity.kerr().resolve({"spin": 0.5})
