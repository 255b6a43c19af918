"""What `newton.solve` finds where no iteration from the guess comes to a root."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit import newton
from jaxkit.newton.nearby import nearby, touching

FAR = [
    ("x^3 - 2x + 2 = 0", 0.0, -1.7692923542386314),  # Newton's method runs in a cycle
    pytest.param("exp(x) = 1e300", 1.0, np.log(10) * 300, marks=pytest.mark.slow),
    pytest.param("log(x) = -700", 1.0, np.exp(-700), marks=pytest.mark.slow),
    ("x^2 = 1e-300", 1.0, 1e-150),
]


@pytest.mark.parametrize(("text", "start", "root"), FAR)
def test_a_root_far_from_the_guess_is_found_by_its_change_of_sign(text, start, root):
    found = newton.solve(text, start).checked()
    np.testing.assert_allclose(found.value, root, rtol=1e-12)
    assert "search for a change of sign" in found.remark


@pytest.mark.slow
def test_a_function_is_searched_for_a_change_of_sign():
    found = newton.solve(lambda x, a: x**3 - 2 * x + a, 0.0, 2.0).checked()
    np.testing.assert_allclose(found.value, -1.7692923542386314, rtol=1e-9)


@pytest.mark.parametrize("text", ["1/x = 0", pytest.param("exp(x) = 0", marks=pytest.mark.slow), "x^2 = -1"])
def test_no_root_is_found_where_there_is_none(text):
    assert not newton.solve(text, 1.0).ok


def test_a_curve_that_touches_zero_as_far_as_rounding_tells_is_said_to():
    parse = newton.Equations.parse
    np.testing.assert_allclose(touching(parse("x*exp(x) = -1/e"), -1.0000001, {}), -1, rtol=1e-15)
    assert touching(parse("x*exp(x) = -0.37"), -1.0000001, {}) is None
    found = newton.solve("x*exp(x) = -1/e", 0.5)  # rounding decides whether Newton's method stops at -1
    assert found.ok or "At x = -1 the curve touches zero" in found.remark


def test_several_unknowns_and_vectors_are_not_searched():
    fn = lambda x, _: x
    for start in ({"x": 1.0, "y": 2.0}, jnp.ones(2), 1j, np.nan):
        assert nearby(fn, start, None, {}) is None
