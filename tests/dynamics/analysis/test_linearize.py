"""linearize -> classify, equilibria, divergence, continuation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxkit as jk
from jaxkit.dynamics.analysis.eigenvalues import eigenvalues

number = st.floats(-5, 5, allow_nan=False)
small_eigenvalues = jax.jit(eigenvalues)


@pytest.mark.parametrize(
    ("matrix", "kind"),
    [
        ([[-1.0, 0.0], [0.0, -2.0]], jk.Kind.stable_node),
        ([[1.0, 0.0], [0.0, 2.0]], jk.Kind.unstable_node),
        ([[1.0, 0.0], [0.0, -2.0]], jk.Kind.saddle),
        ([[-0.1, 1.0], [-1.0, -0.1]], jk.Kind.stable_focus),
        ([[0.1, 1.0], [-1.0, 0.1]], jk.Kind.unstable_focus),
        ([[0.0, 1.0], [-1.0, 0.0]], jk.Kind.center),
        ([[0.0, 1.0], [0.0, -1.0]], jk.Kind.degenerate),
        ([[-1.0, 0.0, 0.0], [0.0, -2.0, 3.0], [0.0, -3.0, -2.0]], jk.Kind.stable_focus),
        ([[1.0, 0.0, 0.0], [0.0, -2.0, 3.0], [0.0, -3.0, -2.0]], jk.Kind.saddle),
    ],
)
def test_kinds(matrix, kind):
    matrix = jnp.array(matrix)
    linear = jk.linearize(lambda t, x, a: a @ x, jnp.zeros(len(matrix)), matrix)
    assert jk.Kind(int(linear.kind)) is kind
    assert bool(linear.stable) == (kind in (jk.Kind.stable_node, jk.Kind.stable_focus))
    np.testing.assert_array_equal(linear.jacobian, matrix)


def test_only_rounding_counts_as_zero():
    """The default tolerance is about 1e-14 of the largest eigenvalue: slow directions are directions still."""
    slow = np.array([[-1.0, -1e-11], [-1.0, 1e-11], [-1.0, 1e-15], [-1e6, -1e-5]], complex)
    kinds = [jk.Kind(int(code)) for code in jk.classify(slow)]
    assert kinds == [jk.Kind.stable_node, jk.Kind.saddle, jk.Kind.degenerate, jk.Kind.stable_node]
    turning = np.array([[-1.0 + 1e-11j, -1.0 - 1e-11j], [1e-11 + 1j, 1e-11 - 1j], [1e-15 + 1j, 1e-15 - 1j]])
    kinds = [jk.Kind(int(code)) for code in jk.classify(turning)]
    assert kinds == [jk.Kind.stable_focus, jk.Kind.unstable_focus, jk.Kind.center]


@given(number, number, number, number)
def test_closed_form_eigenvalues_agree_with_lapack(a, b, c, d):
    matrix = np.array([[a, b], [c, d]])
    ours = np.sort_complex(np.asarray(small_eigenvalues(jnp.asarray(matrix))))
    theirs = np.sort_complex(np.linalg.eigvals(matrix))
    # A double eigenvalue moves by the square root of the rounding.
    np.testing.assert_allclose(ours, theirs, atol=3e-7)
    np.testing.assert_allclose(ours.sum(), a + d, atol=1e-12)
    np.testing.assert_allclose(ours.prod(), a * d - b * c, atol=1e-11)


def test_a_game_circles_and_a_penalty_lets_it_settle():
    # The Dirac-GAN: critic slope c, generator position g; eigenvalues -gamma/2 +- sqrt(gamma^2/4 - 1/4).
    game = lambda t, x, gamma: jnp.stack([0.5 * x[1] - gamma * x[0], -0.5 * x[0]])
    assert jk.Kind(int(jk.linearize(game, jnp.zeros(2), 0.0).kind)) is jk.Kind.center
    damped = jk.linearize(game, jnp.zeros(2), 0.4)
    assert jk.Kind(int(damped.kind)) is jk.Kind.stable_focus
    np.testing.assert_allclose(damped.eigenvalues[0], -0.2 + 1j * np.sqrt(0.25 - 0.04), rtol=1e-12)


def test_equilibria_keep_each_point_once_and_differentiate():
    field = lambda t, x, a: x * (a - x**2)
    starts = jnp.array([-3.0, -0.1, 0.1, 0.2, 2.5])
    at = jax.jit(lambda a: jk.equilibria(field, starts, a))
    eq = at(4.0)
    np.testing.assert_allclose(np.sort(eq.x[eq.found]), [-2, 0, 2], atol=1e-9)
    slope = jax.jit(jax.jacfwd(lambda a: at(a).x))(4.0)
    np.testing.assert_allclose(slope[-1], 0.25, rtol=1e-8)  # d sqrt(a) / da
    assert jk.Kind(int(eq.linearization.kind[-1])) is jk.Kind.stable_node
    assert int((eq.linearization.kind == jk.Kind.none).sum()) == 2


def test_divergence_of_a_weighted_field():
    field = lambda t, x, a: jnp.stack([x[0] ** 2, a * x[1]])
    ours = jk.divergence(field, lambda x: 1 / x[0])(jnp.array([2.0, 3.0]), 5.0)
    np.testing.assert_allclose(ours, 1 + 5 / 2, rtol=1e-14)


def test_nullclines_cross_where_the_motion_rests():
    field = lambda t, x, a: jnp.stack([x[0] * (a - x[1]), x[1] * (x[0] - 2.0)])
    first, second = jk.nullclines(field, (0.5, 4.0, 0.5, 3.0), 1.5)
    np.testing.assert_allclose(first[0][:, 1], 1.5, atol=1e-12)
    np.testing.assert_allclose(second[0][:, 0], 2.0, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-170, 1e160])
def test_eigenvalues_neither_over_nor_underflow(scale):
    turning = jnp.array([[1.0, -2.0], [2.0, 1.0]])
    np.testing.assert_allclose(eigenvalues(scale * turning), scale * np.array([1 + 2j, 1 - 2j]), rtol=1e-14)
    np.testing.assert_allclose(eigenvalues(scale * jnp.array([[1.0, 2.0], [2.0, 1.0]])), scale * np.array([3, -1]))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_what_is_not_a_number_has_no_kind(size):
    values = eigenvalues(jnp.zeros((size, size)).at[0, size - 1].set(jnp.nan))
    assert np.isnan(values).all()
    assert jk.classify(values) == jk.Kind.none


def test_two_equilibria_near_each_other_are_two():
    find = jax.jit(lambda starts: jk.equilibria(lambda t, x, a: x * (1e-3 - x), starts))
    eq = find(jnp.array([-1e-3, 3e-3, -2e-3]))
    np.testing.assert_allclose(np.sort(eq.x[eq.found]), [0, 1e-3], atol=1e-9)


def test_eigenvalues_fall():
    matrix = jnp.array([[1.0, 5.0, 0.0], [0.0, -2.0, 3.0], [0.0, 0.0, 4.0]])
    np.testing.assert_allclose(eigenvalues(matrix), [4, 1, -2], atol=1e-12)
