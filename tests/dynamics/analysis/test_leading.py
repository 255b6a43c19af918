"""The leading eigenvalues of large Jacobians, beside closed forms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit.dynamics.linear.libraries import missing

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def rod(t, u, d):
    return d * jnp.diff(jnp.pad(u, 1), n=2) * float(u.size + 1) ** 2


def rates(size, count):
    return -4 * (size + 1) ** 2 * np.sin(np.arange(1, count + 1) * np.pi / 2 / (size + 1)) ** 2


def ring(t, x, p):
    """A Brusselator on a ring."""
    u, v = x.reshape(2, -1)
    far = lambda w: jnp.roll(w, 1) + jnp.roll(w, -1) - 2 * w
    react = u * u * v
    return jnp.concatenate([p[0] - (p[1] + 1) * u + react + p[2] * far(u), p[1] * u - react + p[3] * far(v)])


def at_rest(p, cells):
    return jnp.concatenate([jnp.full(cells, p[0]), jnp.full(cells, p[1] / p[0])])


def growth(p, cells):
    """The eigenvalues of every wave, by its own 2 x 2 matrix."""
    a, b, du, dv = p
    squares = 2 - 2 * np.cos(2 * np.pi * np.arange(cells // 2 + 1) / cells)
    found = [np.linalg.eigvals([[b - 1 - du * q, a * a], [-b, -a * a - dv * q]]) for q in squares]
    found = np.concatenate(found)
    return found[np.argsort(-found.real)]


def test_the_slowest_rates_of_a_rod():
    fn = lambda d: jk.linearize(rod, jnp.zeros(400), d, leading=3)
    found = fn(2.0)
    assert found.jacobian is None
    assert bool(found.stable)
    np.testing.assert_allclose(found.eigenvalues, 2 * rates(400, 3), rtol=1e-8)
    slope = jax.jit(jax.jacrev(lambda d: fn(d).eigenvalues.real))(2.0)
    np.testing.assert_allclose(slope, rates(400, 3), rtol=1e-8)


@pytest.mark.parametrize("p", [(3.0, 9.0, 1.0, 8.0), (2.0, 5.2, 1.0, 1.0)], ids=["pattern", "oscillation"])
def test_what_grows_first(p):
    p, cells = jnp.array(p), 128
    fn = lambda p: jk.linearize(ring, at_rest(p, cells), p, leading=2)
    found, right = fn(p), growth(p, cells)
    np.testing.assert_allclose(found.eigenvalues[0].real, right[0].real, rtol=1e-9)
    np.testing.assert_allclose(abs(found.eigenvalues[0].imag), abs(right[0].imag), rtol=1e-9)
    assert not bool(found.stable)
    slope = jax.jacfwd(lambda p: fn(p).eigenvalues[0].real)(p)
    ahead = lambda i, h: growth(np.asarray(p) + h * np.eye(4)[i], cells)[0].real
    np.testing.assert_allclose(slope, [(ahead(i, 1e-6) - ahead(i, -1e-6)) / 2e-6 for i in range(4)], atol=1e-8)


def test_second_derivatives_are_not_claimed():
    fn = lambda d: jk.linearize(rod, jnp.zeros(200), d * d, leading=1).eigenvalues[0].real
    assert jnp.isnan(jax.grad(jax.grad(fn))(2.0))


@pytest.mark.parametrize("size", [6, 5000], ids=["written out", "by products"])
def test_full_jacobians(size):
    weights = jnp.arange(1.0, size + 1) / size
    full = lambda t, x, c: -x + c * weights * jnp.sum(weights * x)
    fn = lambda c: jk.linearize(full, jnp.zeros(size), c, leading=2).eigenvalues.real
    square = float(jnp.sum(weights**2))
    np.testing.assert_allclose(fn(3.0), [3 * square - 1, -1], rtol=1e-9)
    np.testing.assert_allclose(jax.jacfwd(fn)(3.0)[0], square, rtol=1e-9)


def test_what_has_not_converged_is_not_a_number(monkeypatch):
    monkeypatch.setattr("jaxkit.dynamics.linear.ways.missing", lambda: "there is no library")
    with pytest.warns(UserWarning, match="is taken as krylov"):
        found = jk.linearize(rod, jnp.zeros(5000), 1.0, leading=1)
    assert jnp.isnan(found.eigenvalues[0].real)
    assert jk.Kind(int(found.kind)) == jk.Kind.none


def test_leading_is_a_count():
    wrong: list[Any] = [0, 7, 1.5]
    for leading in wrong:
        with pytest.raises(ValueError, match="Argument `leading` must be between 1 and 6"):
            jk.linearize(rod, jnp.zeros(6), 1.0, leading=leading)
