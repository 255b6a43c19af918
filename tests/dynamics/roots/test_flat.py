"""Residuals that are 0 in floats far from any root, and the missing derivative of what is no root."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import erf

import jaxkit as jk
from jaxkit import newton
from jaxkit.core.status import Status
from jaxkit.dynamics.roots.methods.registry import METHODS

BRACKETING = [name for name, method in METHODS.items() if method.bracketing]
OPEN = [name for name in METHODS if name not in BRACKETING]

# Nowhere zero, or zero elsewhere; the start, and two ends.
FLAT = {
    "underflow": (lambda x, _: 1e-320 * (x - 2), 1.0, (0.0, 3.0)),
    "underflow at an end": (lambda x, _: 1e-308 * (x - 2), 1.0, (0.0, 5.0)),
    "exp": (lambda x, _: jnp.exp(x), -700.0, (-1000.0, 1.0)),
    "tail of erf": (lambda x, _: 1e20 * (erf(x) - 1), 3.0, (0.0, 50.0)),
    "tail of tanh": (lambda x, _: jnp.tanh(x) - 1, 3.0, (0.0, 50.0)),
    "tail beside a root": (lambda x, _: x * jnp.exp(-x * x), 3.0, (-1.0, 40.0)),
    "plateau": (lambda x, _: jnp.maximum(x - 1, 0.0) ** 2, 0.5, (0.0, 0.9)),
}


@pytest.mark.parametrize("name", FLAT)
@pytest.mark.parametrize("method", ["newton", "householder3", "robust", "safeguarded", "bisect"])
def test_a_residual_that_is_zero_all_around_is_no_root(method, name):
    fn, start, ends = FLAT[name]
    given = {"bracket": ends} if method in BRACKETING else {"x0": start}
    assert not jk.root(fn, **given, method=method).ok


@pytest.mark.parametrize("method", METHODS)
def test_a_residual_that_single_precision_takes_for_zero_is_no_root(method):
    given = {"bracket": (jnp.float32(0), jnp.float32(3))} if method in BRACKETING else {"x0": jnp.float32(1)}
    assert not jk.root(lambda x, _: 1e-100 * (x * x - 2), **given, method=method).ok


def test_entries_of_a_system_that_are_zero_all_around_are_no_root():
    fn = lambda x, _: jnp.stack([erf(x[0]) - 1, x[1] ** 2 - 2])
    found = jax.vmap(lambda start: jk.root(fn, start))(jnp.array([[3.0, 1.0], [6.0, 1.0]]))
    assert not np.any(found.ok)


# Roots at which the residual is exactly 0 and does not show it by its slope, at once or after steps.
ROOTS = {
    "multiple": (lambda x, _: (x - 1) ** 4, 1.0),
    "multiple at 0": (lambda x, _: x**4, 0.0),
    "corner": (lambda x, _: jnp.maximum(x - 1, 0.0), 1.0),
    "line": (lambda x, _: 1e-200 * (x - 3), 3.0),
    "next to 0": (lambda x, _: jnp.log(x) - jnp.log(1e-304), 1e-304),
}


@pytest.mark.parametrize("name", ROOTS)
@pytest.mark.parametrize("method", ["newton", "householder3", "safeguarded"])
def test_a_residual_that_is_zero_at_one_point_is_a_root(method, name):
    fn, at = ROOTS[name]
    given = {"bracket": (at, 2 * at + 1)} if method in BRACKETING else {"x0": at}
    found = jk.root(fn, **given, method=method)
    assert found.ok
    assert float(found.value) == at


def test_a_root_at_an_edge_of_the_domain():
    found = jk.root(lambda x, _: jnp.sqrt(x - 1), None, bracket=(1.0, 2.0))
    assert found.ok
    assert float(found.value) == 1


def test_a_root_at_which_only_differences_of_unknowns_show():
    fn = lambda x, _: jnp.stack([(x[0] - x[1]) ** 2, x[0] + x[1] - 2])
    assert jk.root(fn, jnp.array([1.0, 1.0])).status == Status.ok


def test_a_fixed_point_is_one_even_among_others():
    clip = lambda x, _: jnp.clip(x, 0.0, 1.0)
    assert jk.fixed_point(clip, jnp.array([0.5, 2.0])).ok


@pytest.mark.parametrize("method", ["newton", pytest.param("robust", marks=pytest.mark.slow), "chord"])
def test_the_derivative_of_a_failed_root_is_missing_in_its_lane_alone(method):
    solve = lambda a: jk.root(lambda x, a: x * x + a, 3.0, a, method=method)
    at, right = jnp.array([1.0, -4.0]), np.array([np.nan, -0.25])
    np.testing.assert_allclose(jax.vmap(jax.grad(lambda a: solve(a).value))(at), right, rtol=1e-8)
    np.testing.assert_allclose(jax.vmap(jax.jacfwd(lambda a: solve(a).value))(at), right, rtol=1e-8)
    second = jax.vmap(jax.grad(jax.grad(lambda a: solve(a).value)))(at)
    np.testing.assert_allclose(second, [np.nan, -1 / 32], rtol=1e-8)


def test_a_loss_that_leaves_out_failed_lanes_has_a_derivative():
    def loss(a):
        # The first lane ends where the derivative of the residual is not finite.
        fn = lambda x, b: jnp.where(b > 0, jnp.sqrt(x) + b, x * x + b)
        found = jax.vmap(lambda b: jk.root(fn, 3.0, a * b))(jnp.array([1.0, -4.0]))
        return jnp.sum(jnp.where(found.ok, found.value, 0.0))

    for derivative in (jax.grad, jax.jacfwd):
        np.testing.assert_allclose(derivative(loss)(1.0), 1.0, rtol=1e-8)


def _bracketed(a):
    return jk.root(lambda x, a: x * x + a, None, a, bracket=(0.0, 3.0)).value


def _fixed(a):
    return jk.fixed_point(lambda x, a: a * x + 1, 1.0, a + 6, method="picard", max_steps=50).value


def _fitted(a):
    return jk.least_squares(lambda p, a: jnp.stack([jnp.exp(p) + a, p - 3]), 0.0, a, max_steps=2).params


def _polynomial(a):
    return newton.polynomial_roots(jnp.stack([1.0, a]), max_steps=0).value.real[0]


def _unrolled(a):
    step = lambda x, u, a: (jnp.sin(a * x + u), x)
    return jk.unroll(step, 0.3, jnp.ones(20), 9 + a, method=jk.ParallelNewton(max_steps=1)).final


@pytest.mark.parametrize(
    "failing", [_bracketed, _fixed, _fitted, pytest.param(_polynomial, marks=pytest.mark.slow), _unrolled]
)
def test_the_derivative_of_what_failed_is_missing(failing):
    for derivative in (jax.grad, jax.jacfwd):
        assert np.isnan(derivative(failing)(1.0))
