"""Both ways: a field as a cell, a cell as a field."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit import recurrent


def field(t, x, rate):
    return -rate * x + jnp.sin(t)


def test_cell_solves_the_equation():
    cell = recurrent.from_field(field, scheme=diffrax.Tsit5(), dt=0.125, t0=1.0)
    run = jk.unroll(cell, jnp.array([1.0, -2.0]), args=0.7, length=16).checked()
    ts = jnp.concatenate([jnp.array([1.0]), cell.times(16)])
    theirs = jk.solve(field, jnp.array([1.0, -2.0]), ts, 0.7, method=jk.RungeKutta("tsit5", dt=0.125)).checked()
    np.testing.assert_allclose(run.ys, theirs.xs[1:], rtol=1e-13)


def test_derivatives_are_those_of_the_solution():
    cell = recurrent.from_field(lambda t, x, rate: -rate * x, scheme="gauss4", dt=0.25)
    end = lambda rate: jk.unroll(cell, 2.0, args=rate, length=8).final
    assert float(end(0.5)) == pytest.approx(2 * np.exp(-1.0), abs=1e-5)
    assert float(jax.grad(end)(0.5)) == pytest.approx(-4 * np.exp(-1.0), abs=1e-4)
    assert float(jax.jacfwd(end)(0.5)) == pytest.approx(float(jax.grad(end)(0.5)), rel=1e-12)


def test_there_and_back():
    cell = recurrent.from_field(field, scheme="euler", dt=0.25, t0=0.5)
    back = recurrent.as_field(cell, dt=0.25, t0=0.5)
    x = jnp.array([1.0, -2.0])
    for t in (0.5, 0.8, 2.0):
        np.testing.assert_allclose(back(jnp.asarray(t), x, 0.7), field(t, x, 0.7), rtol=1e-12)
    again = recurrent.from_field(back, scheme="euler", dt=0.25, t0=0.5)
    one, two = (jk.unroll(c, x, args=0.7, length=9).ys for c in (cell, again))
    np.testing.assert_allclose(one, two, rtol=1e-12)


def test_a_trained_cell_is_a_field():
    cell = recurrent.Vanilla(2)
    params = cell.init(jax.random.key(0), jnp.ones(1))
    velocity = recurrent.as_field(cell, inputs=lambda t: jnp.sin(t)[None])
    x = jnp.array([0.3, -0.2])
    moved, _ = cell(x, jnp.sin(jnp.array([2.0])), params)
    np.testing.assert_allclose(velocity(2.0, x, params), moved - x, rtol=1e-14)
    assert jk.solve(velocity, x, jnp.array([0.0, 5.0]), params).checked().final.shape == (2,)


def test_driven_cell():
    driven = lambda t, x, args: args[0] * (args[1] - x)
    cell = recurrent.from_field(driven, scheme="euler", dt=0.5, driven=True)
    pushes = jnp.array([1.0, 2.0, 4.0])
    run = jk.unroll(cell, 0.0, (jnp.arange(3), pushes), 1.0)
    assert run.ys.tolist() == [0.5, 1.25, 2.625]


def test_failed_stage_is_a_status():
    cell = recurrent.from_field(lambda t, x, _: x**2, scheme="backward_euler", dt=1.0)
    assert jk.Status(int(jk.unroll(cell, 1.0, length=3).status)) == jk.Status.not_finite


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dt": -1.0}, "Argument `dt` must be positive, but contains -1"),
        ({"dt": 1.0, "scheme": "leapfrog"}, "Argument `scheme` must be one of"),
        ({"dt": 1.0, "t0": np.nan}, "Argument `t0` must be finite"),
    ],
)
def test_bad_options(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        recurrent.from_field(field, **options)
