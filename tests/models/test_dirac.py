"""The smallest game against its formula, by eigenvalues and by simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit import gan, models

GAME = models.DiracGame()

SLOPES = {"sgan": 0.5, "rsgan": 0.5, "rasgan": 0.5, "wgan": 1.0, "hinge": 1.0, "rphinge": 1.0, "rpls": 2.0}


@pytest.mark.parametrize("name", SLOPES)
def test_eigenvalues_of_the_smallest_game(name):
    gammas = jnp.array([0.0, 0.3, 1.5, 5.0])
    at = lambda gamma: jk.linearize(gan.dirac_game(name).field, jnp.zeros(2), gamma)
    found = jax.jit(jax.vmap(at))(gammas)
    np.testing.assert_allclose(found.eigenvalues, models.dirac_eigenvalues(gammas, SLOPES[name]).T, atol=1e-14)
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
        m = momentum * m + GAME.field(0.0, x, gamma)
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
    settles = bool(jnp.max(models.growth(models.dirac_eigenvalues(gamma), 0.1, momentum)) < 1)
    assert settles == (high < 1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_momentum_blows_up(gamma):
    assert not float(descend(gamma, 0.9)) < 1e3
    assert float(jnp.max(models.growth(models.dirac_eigenvalues(gamma), 0.1, 0.9))) > 1


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
def test_the_dirac_flow_has_the_eigenvalues_of_the_theory(gamma):
    values = jk.linearize(GAME.field, jnp.zeros(2), gamma).eigenvalues
    root = np.emath.sqrt(gamma**2 / 4 - 1 / 4)
    np.testing.assert_allclose(values, [-gamma / 2 + root, -gamma / 2 - root], atol=1e-12)


def test_without_a_penalty_the_dirac_flow_only_circles():
    kind = jk.Kind(int(jk.linearize(GAME.field, jnp.zeros(2), 0.0).kind))
    assert kind is jk.Kind.center


@pytest.mark.parametrize(("gamma", "momentum", "converges"), [(0.3, 0.0, True), (1.0, 0.9, True), (0.3, 0.9, False)])
def test_dirac_under_momentum_by_eigenvalues_and_by_simulation(gamma, momentum, converges):
    run = GAME.descend(gamma, momentum)
    assert bool(run.growth < 1) is converges
    assert bool(run.distance < 1e-6) is converges
