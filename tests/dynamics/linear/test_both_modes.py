"""One function from three programs: each derivative comes from the program that has it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit.dynamics.linear.both_modes import both_modes


def smooth(x, a):
    return jax.lax.scan(lambda c, _: (jnp.sin(a * c), None), x, length=5)[0]


def program(kind):
    """A loop with forward mode alone, a rule with reverse mode alone, or a scan."""

    @jax.custom_vjp
    def backwards(x, a):
        return smooth(x, a)

    backwards.defvjp(lambda x, a: (smooth(x, a), (x, a)), lambda held, ct: jax.vjp(smooth, *held)[1](ct))

    def forwards(x, a):
        return jax.lax.while_loop(lambda c: c[1] < 5, lambda c: (jnp.sin(a * c[0]), c[1] + 1), (x, 0))[0]

    def run(x, a, n):
        y = {"forward": forwards, "reverse": backwards, "smooth": smooth}[kind](x, a)
        return {"y": y, "n": y * n.astype(y.dtype)}, {"steps": 5 * n}

    return run


def composed(x, a):
    found, still = both_modes(*map(program, ("forward", "reverse", "smooth")), x, a, jnp.asarray(2))
    return found["n"] + 0 * still["steps"].astype(a.dtype)


TRANSFORMS = {
    "grad": lambda f: jax.grad(f, (0, 1)),
    "grad by one": lambda f: jax.grad(f, 1),
    "jvp": lambda f: lambda x, a: jax.jvp(f, (x, a), (jnp.ones_like(x), 0.5 * a)),
    "jacfwd": lambda f: jax.jacfwd(f, (0, 1)),
    "forward over forward": lambda f: jax.jacfwd(jax.jacfwd(f, (0, 1)), (0, 1)),
    "forward over reverse": lambda f: jax.jacfwd(jax.jacrev(f, (0, 1)), (0, 1)),
    "reverse over forward": lambda f: jax.jacrev(jax.jacfwd(f, (0, 1)), (0, 1)),
    "reverse over reverse": lambda f: jax.jacrev(jax.jacrev(f, (0, 1)), (0, 1)),
    "third": lambda f: jax.grad(jax.grad(jax.grad(f))),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_derivative_is_that_of_the_smooth_program(name):
    ours, plain = (TRANSFORMS[name](f) for f in (composed, lambda x, a: 2 * smooth(x, a)))
    x, a = jnp.asarray(0.7), jnp.asarray(1.3)
    for wrap in (lambda f: f, jax.jit):
        jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-12), wrap(ours)(x, a), jax.jit(plain)(x, a))
    many = lambda f: jax.jit(jax.vmap(f, (0, None)))(jnp.linspace(0.1, 1.0, 4), a)
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-12), many(ours), many(plain))


def decayed(a, **options):
    return jk.solve(lambda t, x, rate: -rate * x, 1.0, jnp.array([0.0, 1.0, 2.0]), a, **options).final


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tsit5", "kvaerno5"])
def test_solve_has_all_derivatives_with_the_defaults(method):
    end = lambda a: decayed(a, method=method)
    wanted = jnp.exp(-1.0)  # of exp(-2 a) at 1/2
    rtol = 1e-6 if method == "tsit5" else 1e-5
    for slope in (jax.grad(end), jax.jacfwd(end)):
        np.testing.assert_allclose(jax.jit(slope)(0.5), -2 * wanted, rtol=rtol)
    for bend in (jax.jacfwd(jax.grad(end)), jax.grad(jax.grad(end))):
        np.testing.assert_allclose(jax.jit(bend)(0.5), 4 * wanted, rtol=rtol)


def fitted(true):
    ts = jnp.array([0.0, 1.0, 2.0])
    curve = lambda rate, y: jk.solve(lambda t, x, k: -k * x, 1.0, ts, rate).xs - y
    return jk.least_squares(curve, 1.0, jnp.exp(-true * ts))


def test_least_squares_over_solve_with_the_defaults():
    np.testing.assert_allclose(fitted(0.5).checked().params, 0.5, rtol=1e-6)


@pytest.mark.slow
def test_a_fit_over_solve_is_differentiated_with_the_defaults():
    np.testing.assert_allclose(jax.grad(lambda true: fitted(true).params)(0.5), 1.0, rtol=1e-5)


def test_what_the_field_closes_over_moves_in_both_modes():
    ts = jnp.array([0.0, 2.0])
    end = lambda a: jk.solve(lambda t, x, _: -a * x, 1.0, ts).final
    for slope in (jax.grad(end), jax.jacfwd(end)):
        np.testing.assert_allclose(slope(jnp.asarray(0.5)), -2 * jnp.exp(-1.0), rtol=1e-6)


@pytest.mark.slow
def test_noise_moves_in_both_modes():
    ts, euler = jnp.array([0.0, 2.0]), jk.RungeKutta("euler", dt=1e-3)
    drift, noise = (lambda t, x, a: -a * x), (lambda t, x, a: 0.1 * a * jnp.ones_like(x))
    end = lambda a: jk.solve(jk.SDE(drift, noise, jax.random.key(0)), 1.0, ts, a, method=euler).final
    width = 1e-4
    difference = (end(0.5 + width) - end(0.5 - width)) / (2 * width)
    for slope in (jax.grad(end), jax.jacfwd(end)):
        np.testing.assert_allclose(slope(0.5), difference, rtol=1e-6)
