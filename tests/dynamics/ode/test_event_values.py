"""What an event function may return: one real number; and where it never is a number, nothing is ok."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk

VERBS = {
    "solve": lambda event: jk.solve(lambda t, x, _: -x, 1.0, jnp.array([0.0, 1.0]), event=event),
    "ensemble": lambda event: jk.ensemble(lambda t, x, _: -x, jnp.ones(1), (0.0, 1.0), event=event),
}


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_no_real_number_is_one_sentence(verb):
    with pytest.raises(ValueError, match="`event` must return a real number that changes its sign, but returns one of"):
        VERBS[verb](lambda t, x, _: x < 0.7)
    with pytest.raises(ValueError, match="`event` must return one number, zero where it happens, but returns 2"):
        VERBS[verb](lambda t, x, _: jnp.stack([x, x]) - 0.7)


@pytest.mark.parametrize("verb", VERBS)
def test_an_event_function_that_is_never_a_number_is_not_ok(verb):
    found = VERBS[verb](lambda t, x, _: x * jnp.nan)
    assert int(np.squeeze(found.status)) == int(jk.Status.not_finite)


def test_whole_numbers_that_change_their_sign():
    found = VERBS["ensemble"](lambda t, x, _: jnp.sign(x - 0.7).astype(int)).checked()
    np.testing.assert_allclose(found.end, np.log(1 / 0.7), rtol=1e-6)
