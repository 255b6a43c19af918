"""Each verb outside of `jit`: a fresh lambda of the same text compiles nothing, and an edited global is seen."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxkit as jk

K = 1.0
KEY = jax.random.key(0)
LOWERED = []
EVENT = "/jax/core/compile/jaxpr_to_mlir_module_duration"
jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: LOWERED.append(event))


def decay(t, x, a):
    return -a * K * x


def losses():
    return {
        "x": lambda p, d, _: jnp.sum((p["x"][None] - d * K) ** 2),
        "y": lambda p, d, _: jnp.sum((p["y"] - p["x"]) ** 2),
    }


def fit(a):
    loss = lambda p, d: jnp.sum((p - d * K) ** 2)
    return jk.fit(loss, jnp.zeros(2), jnp.full(2, a), optimizer=optax.sgd(0.1), steps=5).params


def play(a):
    players, sgd = {"x": jnp.zeros(2), "y": jnp.zeros(2)}, {"x": optax.sgd(0.1), "y": optax.sgd(0.1)}
    return jk.play(losses(), players, jnp.full((4, 2), a), optimizers=sgd, steps=5, key=KEY).players["x"]


def sample(a):
    energy = lambda x, a: 0.5 * jnp.sum((x - a * K) ** 2)
    return jk.sample(energy, jnp.zeros((2, 2)), a, key=KEY, steps=20, warmup=20).final


CALLS = {
    "root": lambda a: jk.root(lambda x, a: x**2 - a * K, 1.0, a).value,
    "unroll": lambda a: jk.unroll(lambda x, u, a: (a * K * x + u, x), 1.0, jnp.arange(3.0), a).final,
    "linearize": lambda a: jk.linearize(lambda t, x, a: -a * K * x + 0 * t, jnp.zeros(2), a).eigenvalues,
    "fit": fit,
    "play": play,
    "fixed_point": lambda a: jk.fixed_point(lambda x, a: jnp.cos(x) * a * K, 1.0, a).value,
    "least_squares": lambda a: jk.least_squares(lambda p, a: p - a * K * jnp.arange(1.0, 4.0), jnp.zeros(3), a).params,
    "sample": sample,
    "equilibria": lambda a: jk.equilibria(lambda t, x, a: a * K - x**2 + 0 * t, jnp.ones((2, 1)), a).x,
    "continuation": lambda a: jk.continuation(lambda t, x, p: p * K - x**2 + 0 * t, jnp.ones(1), a, steps=2).x,
    "solve": lambda a: jk.solve(lambda *given: decay(*given), 1.0, (0.0, 1.0), a).final,
    "ensemble": lambda a: jk.ensemble(lambda *given: decay(*given), jnp.ones(3), (0.0, 1.0), a).final,
    "sensitivity": lambda a: jk.sensitivity(lambda *given: decay(*given), jnp.ones(3), (0.0, 1.0), a).x0s,
}
QUICK = ("root", "unroll", "linearize", "fit", "play")


@pytest.mark.parametrize("verb", [v if v in QUICK else pytest.param(v, marks=pytest.mark.slow) for v in CALLS])
def test_a_fresh_lambda_compiles_nothing_and_an_edited_global_is_seen(verb, monkeypatch):
    call = CALLS[verb]
    first, _ = np.asarray(call(1.5)), call(1.6)
    count = LOWERED.count(EVENT)
    call(1.7)
    assert LOWERED.count(EVENT) == count
    monkeypatch.setitem(globals(), "K", 2.0)
    assert not np.allclose(call(1.5), first)
    monkeypatch.setitem(globals(), "K", 1.0)
    assert np.array_equal(call(1.5), first)
