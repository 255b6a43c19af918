"""Theory: optimal critics, their values by quadrature, the smallest game against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit import gan

X = jnp.linspace(-11.0, 12.0, 801)
DX = X[1] - X[0]
LOG_P, LOG_Q = (-0.5 * (X - m) ** 2 - 0.5 * jnp.log(2 * jnp.pi) for m in (0.0, 1.0))


def test_values_at_the_best_critic():
    relativistic = gan.optimal_value("rsgan", LOG_P, LOG_Q, DX)
    standard = gan.optimal_value("sgan", LOG_P, LOG_Q, DX)
    np.testing.assert_allclose(relativistic, 0.4918017090, atol=1e-10)
    np.testing.assert_allclose(standard, 1.1634513967, atol=1e-10)
    np.testing.assert_allclose(relativistic, np.log(2) - gan.swap_divergence(LOG_P, LOG_Q, DX), rtol=1e-12)
    np.testing.assert_allclose(standard, 2 * np.log(2) - 2 * gan.jensen_shannon(LOG_P, LOG_Q, DX), rtol=1e-12)


@pytest.mark.parametrize("name", ["rsgan", "sgan"])
def test_the_best_critic_is_the_log_ratio(name):
    # Newton on the critic's values at 61 points: convex, with the constant free in the relativistic loss.
    x = jnp.linspace(-3.0, 4.0, 61)
    log_p, log_q = (jax.nn.log_softmax(-0.5 * (x - m) ** 2) for m in (0.0, 1.0))
    loss = lambda T: gan.LOSSES[name].critic(T, T, weights=(jnp.exp(log_p), jnp.exp(log_q)))
    derivatives = jax.jit(lambda T: (jax.grad(loss)(T), jax.hessian(loss)(T)))
    T = jnp.zeros_like(x)
    for _ in range(30):
        slope, curvature = derivatives(T)
        T = T - jnp.clip(jnp.linalg.pinv(curvature, rtol=1e-13, hermitian=True) @ slope, -1, 1)
    free = (T - (log_p - log_q)) if name == "sgan" else (T - (log_p - log_q)) - jnp.mean(T - (log_p - log_q))
    assert float(jnp.max(jnp.abs(free))) < 1e-6
    np.testing.assert_allclose(loss(T), gan.optimal_value(name, log_p, log_q, 1.0), rtol=1e-12)


SLOPES = {"sgan": 0.5, "rsgan": 0.5, "rasgan": 0.5, "wgan": 1.0, "hinge": 1.0, "rphinge": 1.0, "rpls": 2.0}


@pytest.mark.parametrize("name", SLOPES)
def test_eigenvalues_of_the_smallest_game(name):
    gammas = jnp.array([0.0, 0.3, 1.5, 5.0])
    at = lambda gamma: jk.linearize(gan.dirac_field, jnp.zeros(2), {"loss": name, "gamma": gamma})
    found = jax.jit(jax.vmap(at))(gammas)
    np.testing.assert_allclose(found.eigenvalues, gan.dirac_eigenvalues(gammas, SLOPES[name]).T, atol=1e-14)
    wanted = [
        jk.Kind.center if g == 0 else jk.Kind.stable_focus if g < 2 * SLOPES[name] else jk.Kind.stable_node
        for g in gammas
    ]
    assert [jk.Kind(int(kind)) for kind in found.kind] == wanted


@jax.jit
def descend(gamma, momentum):
    """2000 simultaneous heavy-ball steps of 0.1 from (1, 1): the distance from the equilibrium at the end."""

    def step(state, _):
        x, m = state
        m = momentum * m + gan.dirac_field(0.0, x, {"loss": "rsgan", "gamma": gamma})
        return (x + 0.1 * m, m), None

    (x, _), _ = jax.lax.scan(step, (jnp.ones(2), jnp.zeros(2)), None, length=2000)
    return jnp.linalg.norm(x)


# gamma, momentum -> radius after 2000 steps; where 0 or inf is meant, bounds.
@pytest.mark.parametrize(
    ("gamma", "momentum", "low", "high"),
    [
        (0.0, 0.0, 0.44, 0.46),
        (0.0, 0.5, 1.05, 1.15),
        (0.3, 0.0, 7e-13, 9e-13),
        (0.3, 0.5, 0.0, 1e-12),
        (1.0, 0.0, 0.0, 1e-40),
        (1.0, 0.9, 0.0, 1e-40),
    ],
)
def test_settling_as_the_formula_says(gamma, momentum, low, high):
    assert low <= float(descend(gamma, momentum)) <= high
    settles = bool(jnp.max(gan.growth(gan.dirac_eigenvalues(gamma), 0.1, momentum)) < 1)
    assert settles == (high < 1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_momentum_blows_up(gamma):
    assert not float(descend(gamma, 0.9)) < 1e3
    assert float(jnp.max(gan.growth(gan.dirac_eigenvalues(gamma), 0.1, 0.9))) > 1
