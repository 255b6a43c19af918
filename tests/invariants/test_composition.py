"""Any verb inside any other, under any transformation, with the defaults.

Each verb is a function of one number whose value is known in closed form; each transformation is applied to both. A new
verb enters by one line.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxkit as jk

TS = jnp.array([0.0, 1.0])


def decay(t, x, a):
    return -a * x


def fitted(a):
    loss = lambda p, target: (p - target) ** 2
    return jk.fit(loss, jnp.zeros(()), jnp.sin(a), optimizer=optax.sgd(0.1), steps=20).params


def drawn(a):
    bowl = lambda x, a: 0.5 * jnp.sum((x - a) ** 2)
    method = jk.ULA(0.1)
    move = lambda a: jk.sample(bowl, jnp.zeros((1, 1)), a, key=jax.random.key(0), steps=5, method=method).final[0, 0]
    return move(a) - jax.lax.stop_gradient(move(jnp.zeros_like(a)))


# Name -> (the verb, what it is).
VERBS = {
    "root": (lambda a: jk.root(lambda x, a: x**3 - a, 1.0, a).value, lambda a: a ** (1 / 3)),
    "root, bracket": (lambda a: jk.root(lambda x, a: x**3 - a, bracket=(0, 3), args=a).value, lambda a: a ** (1 / 3)),
    "fixed_point": (lambda a: jk.fixed_point(lambda x, a: 0.5 * (x + a / x), 1.0, a).value, jnp.sqrt),
    "least_squares": (
        lambda a: jk.least_squares(lambda p, a: jnp.stack([p - jnp.sin(a), p**3 - jnp.sin(a) ** 3]), 0.5, a).params,
        jnp.sin,
    ),
    "multistart": (
        lambda a: jk.inverse.multistart(lambda p, a: jnp.stack([p - jnp.sin(a)]), jnp.array([0.1, 2.0]), a)[0].params,
        jnp.sin,
    ),
    "solve": (lambda a: jk.solve(decay, 1.0, TS, a).final, lambda a: jnp.exp(-a)),
    "solve, taylor": (lambda a: jk.solve(decay, 1.0, TS, a, method="taylor").final, lambda a: jnp.exp(-a)),
    "solve, kvaerno5": (lambda a: jk.solve(decay, 1.0, TS, a, method="kvaerno5").final, lambda a: jnp.exp(-a)),
    "solve, event": (
        lambda a: jk.solve(decay, 1.0, TS * 9, a, event=lambda t, x, a: x - 0.5).end, lambda a: jnp.log(2.0) / a
    ),
    "ensemble": (lambda a: jk.ensemble(decay, jnp.ones(1), (0.0, 1.0), a).final[0], lambda a: jnp.exp(-a)),
    "sensitivity": (lambda a: jk.sensitivity(decay, jnp.ones(1), (0.0, 1.0), a).args[0, 0], lambda a: -jnp.exp(-a)),
    "unroll": (lambda a: jk.unroll(lambda x, n, a: (a * x, x), 1.0, args=a, length=3).final, lambda a: a**3),
    "equilibria": (
        lambda a: jk.equilibria(lambda t, x, a: x * (a - x**2), jnp.array([1.2, -2.0]), a).x[0], jnp.sqrt
    ),
    "linearize": (lambda a: jk.linearize(lambda t, x, a: -a * x**2, jnp.ones(1), a).jacobian[0, 0], lambda a: -2 * a),
    "fit": (fitted, lambda a: (1 - 0.8**20) * jnp.sin(a)),
    "sample": (drawn, lambda a: (1 - 0.95**5) * a),
}  # fmt: skip


def in_least_squares(f):
    return lambda a: jk.least_squares(lambda p, y: jnp.stack([f(p) - y, 0.5 * (f(p) - y)]), 1.1, f(a)).params


def in_sample(f):
    key = jax.random.key(1)
    energy = lambda x, a: jnp.sum((f(1.5 + 0.1 * x[0]) - a) ** 2)
    return lambda a: jk.sample(energy, jnp.zeros((2, 1)), a, key=key, steps=3, method=jk.MALA(0.3)).final[0, 0]


def in_fit(f):
    loss = lambda p, target: (f(p) - target) ** 2
    return lambda a: jk.fit(loss, 1.2, f(a), optimizer=optax.sgd(0.01), steps=3).params


def in_ensemble(f):
    field = lambda t, x, a: -f(a + 0.1 * x)
    return lambda a: jk.ensemble(field, jnp.ones(1), (0.0, 0.5), a, method="tsit5").final[0]


TRANSFORMS = {
    "jit": jax.jit,
    "vmap": lambda f: lambda a: jax.vmap(f)(a * jnp.array([1.0, 1.2])),
    "grad": jax.grad,
    "jvp": lambda f: lambda a: jax.jvp(f, (a,), (jnp.ones_like(a),))[1],
    "jit of grad": lambda f: jax.jit(jax.grad(f)),
    "vmap of grad": lambda f: lambda a: jax.vmap(jax.grad(f))(a * jnp.array([1.0, 1.2])),
    "forward over reverse": lambda f: jax.jit(jax.jacfwd(jax.grad(f))),
    "reverse over reverse": lambda f: jax.jit(jax.grad(jax.grad(f))),
    "least_squares": in_least_squares,
    "root": lambda f: lambda a: jk.root(lambda x, y: f(x) - y, 1.1, f(a)).value,
    "fit": in_fit,
    "sample": in_sample,
    "field of ensemble": in_ensemble,
    "field of solve": lambda f: lambda a: jk.solve(lambda t, x, a: -f(a + 0.1 * x), 1.0, TS, a).final,
}
QUICK = {("root", "grad"), ("solve", "vmap"), ("ensemble", "jvp"), ("fixed_point", "least_squares"), ("unroll", "fit")}


CASES = [
    pytest.param(verb, transform, marks=() if (verb, transform) in QUICK else pytest.mark.slow)
    for verb in VERBS
    for transform in TRANSFORMS
]


@pytest.mark.filterwarnings("ignore:method='taylor' has no recurrence")
@pytest.mark.parametrize(("verb", "transform"), CASES)
def test_a_verb_composes(verb, transform):
    if (verb, transform) == ("sample", "field of ensemble"):
        with pytest.raises(NotImplementedError, match="works on random keys, which a field cannot"):
            in_ensemble(drawn)(jnp.asarray(1.3))
        return
    ours, known = (TRANSFORMS[transform](f)(jnp.asarray(1.3)) for f in VERBS[verb])
    np.testing.assert_allclose(ours, known, rtol=2e-5, atol=2e-6)
