"""Fields that are nets: of equinox, of flax (Linen and NNX), or plain functions; their parameters are `args`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxkit as jk

TS = jnp.array([0.0, 0.5])
X0 = jnp.array([0.3, -0.2])


class Field(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2, param_dtype=float)(jnp.tanh(linen.Dense(3, param_dtype=float)(x)))


class Mover(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(2, 3, rngs=rngs, param_dtype=float)
        self.last = nnx.Linear(3, 2, rngs=rngs, param_dtype=float)
        self.act = jnp.tanh

    def __call__(self, x):
        return self.last(self.act(self.first(x)))


def plain(x, p):
    return p["b"] @ jnp.tanh(p["a"] @ x)


def nets():
    key = jax.random.key(0)
    module = Field()
    yield "equinox", eqx.nn.MLP(2, 2, 3, 1, jnp.tanh, key=key, dtype=float), lambda net, x: net(x)
    yield "linen", (module.apply, module.init(key, X0)), lambda net, x: net[0](net[1], x)
    yield "nnx", Mover(nnx.Rngs(0)), lambda net, x: net(x)
    yield "plain", (plain, {"a": jnp.ones((3, 2)), "b": 0.1 * jnp.ones((2, 3))}), lambda net, x: net[0](x, net[1])


NETS = {name: (net, call) for name, net, call in nets()}


def euler(call, net, steps=2000):
    """The same motion by Heun's steps, differentiated by JAX alone."""
    h = 0.5 / steps

    def step(x, _):
        k = call(net, x)
        return x + h / 2 * (k + call(net, x + h * k)), None

    return jax.lax.scan(step, X0, None, length=steps)[0]


QUICK = (("solve", "linen"), ("ensemble", "nnx"))
CASES = [
    pytest.param(verb, name, marks=() if (verb, name) in QUICK else pytest.mark.slow)
    for verb in ("solve", "ensemble")
    for name in NETS
]


@pytest.mark.parametrize(("verb", "name"), CASES)
def test_gradients_by_the_parameters_of_a_net(verb, name):
    net, call = NETS[name]
    numbers, rest = eqx.partition(net, eqx.is_array)

    def loss(numbers, end):
        return jnp.sum(end(eqx.combine(numbers, rest)) ** 2)

    field = lambda t, x, net: call(net, x)
    solve = lambda net: jk.solve(field, X0, TS, net).final
    shared = lambda net: jax.tree.map(lambda v: v[None] if eqx.is_array(v) else v, net)
    lanes = lambda net: jk.ensemble(field, X0[None], TS, shared(net), method="tsit5").final[0]
    ours = jax.grad(loss)(numbers, solve if verb == "solve" else lanes)
    truth = jax.grad(loss)(numbers, lambda net: euler(call, net))
    leaves = jax.tree.leaves(ours)
    assert leaves
    for a, b in zip(leaves, jax.tree.leaves(truth), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", list(NETS))
def test_sensitivity_and_least_squares_take_a_net(name):
    net, call = NETS[name]
    s = jk.sensitivity(
        lambda t, x, net: call(net, x),
        X0[None],
        TS,
        jax.tree.map(lambda v: v[None] if eqx.is_array(v) else v, net),
        method="tsit5",
    )
    ours = jax.tree.leaves(s.args)
    numbers, rest = eqx.partition(net, eqx.is_array)
    truth = jax.jacfwd(lambda numbers: euler(call, eqx.combine(numbers, rest)))(numbers)
    for a, b in zip(ours, jax.tree.leaves(truth), strict=True):
        np.testing.assert_allclose(a.reshape(b.shape), b, rtol=1e-4, atol=1e-5)


def test_a_net_is_fitted_by_least_squares():
    net = eqx.nn.Linear(2, 1, key=jax.random.key(0), dtype=float)
    x = jax.random.normal(jax.random.key(1), (9, 2))
    named = (net, jnp.tanh, "a name")
    found = jk.least_squares(
        lambda p, data: jax.vmap(p[0])(data[0])[:, 0] - data[1], named, (x, x @ jnp.array([1.0, 2.0]), "name")
    )
    np.testing.assert_allclose(found.checked().params[0].weight, [[1.0, 2.0]], atol=1e-6)
    assert found.params[2] == "a name"
    assert found.standard_errors[2] is None
