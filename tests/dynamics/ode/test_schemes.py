"""Every tableau: its order proved and measured, its steps equal to diffrax's or to the closed form."""

import dataclasses

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest
from jax.test_util import check_grads

import jaxkit as jk
from jaxkit.dynamics.ode import schemes

PEERS = {
    "euler": diffrax.Euler(),
    "midpoint": diffrax.Midpoint(),
    "heun": diffrax.Heun(),
    "ralston": diffrax.Ralston(),
    "bosh3": diffrax.Bosh3(),
    "tsit5": diffrax.Tsit5(),
    "dopri5": diffrax.Dopri5(),
    "dopri8": diffrax.Dopri8(),
}
# R(z) of x' = z x with a step of 1.
STABILITY = {
    "euler": lambda z: 1 + z,
    "rk4": lambda z: 1 + z + z**2 / 2 + z**3 / 6 + z**4 / 24,
    "backward_euler": lambda z: 1 / (1 - z),
    "trapezoid": lambda z: (1 + z / 2) / (1 - z / 2),
    "implicit_midpoint": lambda z: (1 + z / 2) / (1 - z / 2),
    "radau3": lambda z: (1 + z / 3) / (1 - 2 * z / 3 + z**2 / 6),
    "gauss4": lambda z: (1 + z / 2 + z**2 / 12) / (1 - z / 2 + z**2 / 12),
    "gauss6": lambda z: (1 + z / 2 + z**2 / 10 + z**3 / 120) / (1 - z / 2 + z**2 / 10 - z**3 / 120),
}


def forced(t, x, args):
    """Nonlinear, with time and parameters: every node and stage counts."""
    return jnp.stack([x[0] * (args[0] - x[1]), x[1] * (x[0] - args[1])]) + 0.3 * jnp.cos(t)


def trajectory(scheme, length, dt, args):
    def body(x, number):
        x = schemes.step(scheme, forced, number * dt, x, dt, args)
        return x, x

    numbers = jnp.arange(length).astype(float)
    return jax.lax.scan(body, jnp.array([1.0, 0.5]), numbers)[1]


ARGS = jnp.array([1.1, 0.9])


@pytest.mark.parametrize("name", schemes.TABLEAUS)
def test_order_conditions(name):
    scheme = schemes.TABLEAUS[name]
    assert schemes.order_of(scheme) == scheme.order
    spoilt = dataclasses.replace(scheme, b=scheme.b * 1.001)
    assert schemes.order_of(spoilt) == 0


SLOW = {name: pytest.mark.slow for name in ("midpoint", "ralston", "bosh3", "dopri5")}


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in PEERS])
def test_explicit_equals_diffrax(name):
    ours = jax.jit(lambda a: trajectory(schemes.get(name), 40, 0.125, a))(ARGS)
    ts = jnp.arange(41.0) / 8
    theirs = (
        jk.solve(forced, jnp.array([1.0, 0.5]), ts, ARGS, method=jk.RungeKutta(PEERS[name], dt=0.125)).checked().xs[1:]
    )
    assert float(jnp.max(jnp.abs(ours - theirs)) / jnp.max(jnp.abs(theirs))) <= (0 if name == "euler" else 1e-14)


@pytest.mark.parametrize(
    ("name", "solver"),
    [("backward_euler", diffrax.ImplicitEuler), pytest.param("kvaerno3", diffrax.Kvaerno3, marks=pytest.mark.slow)],
)
def test_implicit_equals_diffrax(name, solver):
    ours = jax.jit(lambda a: trajectory(schemes.get(name), 16, 0.125, a))(ARGS)
    exact = solver(root_finder=optimistix.Newton(1e-13, 1e-14))
    theirs = jk.solve(
        forced, jnp.array([1.0, 0.5]), jnp.arange(17.0) / 8, ARGS, method=jk.RungeKutta(exact, dt=0.125)
    ).checked()
    np.testing.assert_allclose(ours, theirs.xs[1:], rtol=1e-12)


@pytest.mark.parametrize("name", STABILITY)
def test_linear_step_is_the_stability_function(name):
    z = jnp.array([-3.0, -0.5, 0.4])
    x = schemes.step(schemes.get(name), lambda t, x, z: z * x, 0.0, jnp.ones(3), 1.0, z)
    np.testing.assert_allclose(x, STABILITY[name](z), rtol=1e-12)


@pytest.mark.parametrize("name", ["euler", "rk4", "trapezoid", "gauss4", "kvaerno5"])
def test_measured_order(name):
    """The error of a smooth motion when the step is halved; end time 2, against 13 digits.

    Tsit5, Dopri5 and Dopri8 have leading errors so small that the next order shows until rounding ends the fall; their
    orders are proved by the order conditions above.
    """
    exact = jk.solve(
        forced, jnp.array([1.0, 0.5]), jnp.array([0.0, 2.0]), ARGS, method="dopri8", rtol=1e-13, atol=1e-13
    )
    scheme, longest = schemes.get(name), 256 if name == "euler" else 32

    def final(dt):
        def body(x, number):
            moved = schemes.step(scheme, forced, number * dt, x, dt, ARGS)
            return jnp.where(number * dt >= 2 - 1e-9, x, moved), None

        return jax.lax.scan(body, jnp.array([1.0, 0.5]), jnp.arange(longest).astype(float))[0]

    states = jax.jit(jax.vmap(final))(jnp.array([4.0, 2.0, 1.0]) * 2 / longest)
    errors = np.linalg.norm(np.asarray(states) - np.asarray(exact.checked().final), axis=1)
    assert np.log2(errors[1] / errors[2]) == pytest.approx(scheme.order, abs=0.1), errors


@pytest.mark.parametrize(
    ("name", "order"),
    [("trapezoid", 1), *(pytest.param(name, 2, marks=pytest.mark.slow) for name in ("rk4", "trapezoid", "gauss4"))],
)
def test_gradients(name, order):
    step = jax.jit(lambda x, dt, a: schemes.step(schemes.get(name), forced, 0.2, x, dt, a))
    given = (jnp.array([1.0, 0.5]), jnp.asarray(0.3), ARGS)
    check_grads(step, given, order=order, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5)


def test_failed_newton_shows_as_nan():
    x = schemes.step(
        schemes.get("backward_euler"), lambda t, x, _: x**2, 0.0, 1.0, 1.0
    )  # k = (1 + k)^2 has no real root
    assert np.isnan(float(x))


def test_pytrees_and_user_tableaus():
    thirds = schemes.tableau("thirds", 2, [[], [2 / 3]], [1 / 4, 3 / 4])
    field = lambda t, x, _: {"q": x["p"], "p": -x["q"]}
    start = {"q": jnp.ones(2), "p": jnp.zeros(2)}
    moved = schemes.step(thirds, field, 0.0, start, 0.1)
    same = schemes.step(schemes.get(diffrax.Ralston()), field, 0.0, start, 0.1)
    np.testing.assert_allclose(moved["q"], same["q"], rtol=1e-15)
    assert schemes.order_of(thirds) == 2


def test_bad_schemes():
    with pytest.raises(ValueError, match=r"Argument `scheme` must be one of 'euler'.*but is 'rk5'"):
        schemes.get("rk5")
    with pytest.raises(
        ValueError, match="Argument `solver` must have a Butcher tableau, but SemiImplicitEuler has none"
    ):
        schemes.from_diffrax(diffrax.SemiImplicitEuler())
