"""What `all_roots` says, without a proof, of edges of the domain, of what has no value, of what it could not settle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit import newton

# Text, interval, roots, kinds.
EDGES = [
    ("sqrt(x) = 0", (-1, 1.7), [0.0], ["edge"]),
    ("sqrt(x-1)*(x-2) = 0", (0, 3), [1.0, 2.0], ["edge", "simple"]),
    ("sqrt(3x - 1) = 0", (0, 3.3), [1 / 3], ["edge"]),
    ("sqrt(1 - x^2) = 0", (-2, 3), [-1.0, 1.0], ["edge", "edge"]),
    ("acos(x) = 0", (-1, 2), [1.0], ["edge"]),
    ("sqrt(x) = 1e-3", (-1, 1), [1e-6], ["simple"]),  # between the edge and the next point of the grid
    ("log(x) = -700", (-1, 1), [np.exp(-700)], ["simple"]),
    ("sqrt(x) + 1 = 0", (-1, 1), [], []),
    ("1/x = 0", (-10, 10), [], []),
]


@pytest.mark.parametrize(("text", "ends", "roots", "kinds"), EDGES, ids=[text for text, *_ in EDGES])
def test_roots_at_and_beside_an_edge_of_the_domain(text, ends, roots, kinds):
    found = newton.all_roots(text, ends)
    np.testing.assert_allclose(found.values, roots, rtol=1e-9)
    assert found.kinds == tuple(kinds)
    assert ("where its domain ends" in found.sentence) == ("edge" in kinds)


def test_an_edge_at_which_nothing_is_known_is_said():
    found = newton.all_roots("x*log(x) = 0", (-1, 10))
    np.testing.assert_allclose(found.values, [1.0])
    np.testing.assert_array_equal(found.falls, [0.0])
    assert "may be a root" in found.sentence
    fallen = newton.all_roots(lambda x: jnp.sqrt(3 * x - 1), (0, 3.3))
    np.testing.assert_allclose([*fallen.values, *fallen.falls], [1 / 3])  # whether it is 0 there, rounding says


def test_stretches_without_a_value_are_said():
    found = newton.all_roots("sqrt(x) = 0", (-1, 1))
    np.testing.assert_allclose(found.undefined, [[-1, 0]], atol=1e-3)
    assert "no finite value" in found.sentence
    beyond = newton.all_roots("1e200*1e200*x^2 = 1", (-3, 3))  # no number typed overflows, but the function does
    assert "Between -3 and 3 it has no finite value" in beyond.sentence


def test_a_change_of_sign_that_is_neither_a_root_nor_none_is_said():
    found = newton.all_roots(lambda x: jnp.where(jnp.abs(x - 0.3) < 1e-6, jnp.nan, x - 0.3), (-1, 1))
    assert len(found.values) == 0
    assert len(found.unsettled) == 1
    assert "its sign changes, at a root or not" in found.sentence


def test_numbers_that_single_precision_does_not_hold_are_refused():
    for given in (("1e60*x = 2e60", (-3, 3)), ("a*x = 2", (-3, 3), {"a": 1e300})):
        with jax.enable_x64(False), pytest.raises(ValueError, match="single precision"):
            newton.all_roots(*given)
