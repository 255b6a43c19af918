"""Every cell: one protocol, right derivatives, the same numbers as Flax's own cells."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxkit as jk
from jaxkit import recurrent

CELLS = {name: getattr(recurrent, name)(4) for name in ("Vanilla", "GRU", "LSTM", "SRU", "MinGRU")}
XS = jnp.asarray(np.random.default_rng(0).normal(size=(9, 2, 3)))


def shaken(params):
    """Parameters none of which is zero, so that every one counts."""
    leaves, structure = jax.tree.flatten(params)
    noise = np.random.default_rng(1)
    return jax.tree.unflatten(structure, [v + 0.3 * noise.normal(size=v.shape) for v in leaves])


def setup(name):
    cell = CELLS[name]
    return cell, shaken(cell.init(jax.random.key(0), XS[0])), cell.zeros((2,))


@pytest.mark.parametrize("name", CELLS)
def test_protocol(name):
    cell, params, state = setup(name)
    moved, y = cell(state, XS[0], params)
    assert jax.tree.structure(moved) == jax.tree.structure(state)
    assert y.shape == (2, 4)
    run = jk.unroll(cell, state, XS, params).checked()
    one = jk.unroll(cell, cell.zeros(), XS[:, 1], params).checked()  # without a batch
    np.testing.assert_allclose(run.ys[:, 1], one.ys, rtol=1e-12)
    single = cell.init(jax.random.key(0), XS[0].astype(jnp.float32))
    assert {leaf.dtype for leaf in jax.tree.leaves(single)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", CELLS)
def test_derivatives(name):
    cell, params, state = setup(name)
    state = jax.tree.map(lambda v: v + 0.3, state)
    check_grads(jax.jit(cell), (state, XS[0], params), order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["GRU", "LSTM"])
def test_second_derivatives(name):
    cell, params, state = setup(name)
    state = jax.tree.map(lambda v: v + 0.3, state)
    check_grads(jax.jit(cell), (state, XS[0], params), order=2, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5)


def dense(kernel, bias=None):
    return {"kernel": kernel} | ({} if bias is None else {"bias": bias})


def test_lstm_equals_flax():
    cell, params, state = setup("LSTM")
    state = jax.tree.map(lambda v: v + 0.3, state)
    w, u, b = (jnp.split(params[k], 4, axis=-1) for k in ("input_kernel", "state_kernel", "bias"))
    theirs = {f"i{g}": dense(w[i]) for i, g in enumerate("ifgo")}
    theirs |= {f"h{g}": dense(u[i], b[i]) for i, g in enumerate("ifgo")}
    _, y = nn.LSTMCell(4, param_dtype=float).apply({"params": theirs}, state, XS[0])
    np.testing.assert_allclose(cell(state, XS[0], params)[1], y, rtol=1e-12)


def test_gru_equals_flax():
    cell, params, state = setup("GRU")
    state = state + 0.3
    w, u, b = (jnp.split(params[k], 3, axis=-1) for k in ("input_kernel", "state_kernel", "bias"))
    theirs = {f"i{g}": dense(w[i], b[i]) for i, g in enumerate("rzn")}
    theirs |= {"hr": dense(u[0]), "hz": dense(u[1]), "hn": dense(u[2], params["state_bias"])}
    _, y = nn.GRUCell(4, param_dtype=float).apply({"params": theirs}, state, XS[0])
    np.testing.assert_allclose(cell(state, XS[0], params)[1], y, rtol=1e-12)


@pytest.mark.parametrize("name", ["SRU", "MinGRU"])
def test_linear_cells_in_parallel(name):
    cell, params, state = setup(name)
    scan, jump = (jk.unroll(cell, state + 0.5, XS, params, method=m).checked() for m in ("scan", "associative"))
    np.testing.assert_allclose(jump.ys, scan.ys, rtol=1e-12)
    np.testing.assert_allclose(jump.final, scan.final, rtol=1e-12)


def test_sru_highway_of_equal_width():
    cell = recurrent.SRU(3)
    params = shaken(cell.init(jax.random.key(0), XS[0]))
    assert params["input_kernel"].shape == (3, 9)
    shut = params | {"bias": jnp.full(6, -50.0)}  # both gates closed: the output is the input
    np.testing.assert_allclose(jk.unroll(cell, cell.zeros((2,)), XS, shut).ys, XS, rtol=1e-12)


def test_inside_a_linen_model():
    class Reader(nn.Module):
        @nn.compact
        def __call__(self, x):
            cell = recurrent.GRU(4)
            state, _ = cell.advance(cell.zeros(x.shape[:-1], x.dtype), x)
            return nn.Dense(1, param_dtype=float)(state)

    out, variables = Reader().init_with_output(jax.random.key(0), XS[0])
    assert out.shape == (2, 1)
    assert set(variables["params"]) == {"GRU_0", "Dense_0"}


def test_wide_state_newton():
    cell, params, _ = setup("GRU")
    methods = ("scan", "parallel_newton")
    scan, newton = (jk.unroll(cell, cell.zeros(), XS[:, 0], params, method=method).checked() for method in methods)
    np.testing.assert_allclose(newton.ys, scan.ys, atol=1e-10)


def test_bad_input():
    with pytest.raises(ValueError, match=r"Argument `x` must have shape \(..., features\), but is a scalar"):
        recurrent.GRU(3).init(jax.random.key(0), jnp.asarray(1.0))


def test_the_forget_gate_opens_as_far_as_asked(key):
    bias = recurrent.LSTM(3, forget_bias=2.5).init(key, jnp.zeros(2))["bias"]
    assert bias.tolist() == [0.0] * 3 + [2.5] * 3 + [0.0] * 6
