"""The `sample` verb against laws: variances, acceptance, reversibility, detailed balance, weights of a mixture."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit.dynamics.mcmc import langevin
from jaxkit.dynamics.mcmc.diagnostics import autocovariance, effective_sample_size, split_rhat
from jaxkit.dynamics.mcmc.hmc import leapfrog
from jaxkit.dynamics.mcmc.kernel import start
from jaxkit.dynamics.mcmc.sample import METHODS

CORRELATED = np.array([[1.0, 0.6], [0.6, 2.0]])


def normal(x, precision):
    return 0.5 * x @ precision @ x


@functools.partial(jax.jit, static_argnames=("method", "steps", "warmup", "chains", "leapfrogs", "thin"))
def gaussian(key, precision, step, *, method, steps, warmup=200, chains=500, leapfrogs=5, thin=1):
    x0 = jax.random.normal(jax.random.fold_in(key, 7), (chains, precision.shape[0]))
    kernel = {
        "ula": jk.ULA(step),
        "mala": jk.MALA(step),
        "hmc": jk.HMC(step, num_leapfrog_steps=leapfrogs),
        "underdamped": jk.Underdamped(step, friction=1.5),
    }[method]
    return jk.sample(normal, x0, precision, key=key, steps=steps, method=kernel, warmup=warmup, thin=thin)


@pytest.mark.parametrize("step", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("covariance", [np.eye(1), CORRELATED], ids=["N(0, 1)", "correlated"])
def test_mala_has_the_right_variance_at_any_step(key, step, covariance):
    run = gaussian(key, jnp.linalg.inv(jnp.asarray(covariance)), step, method="mala", steps=5000, thin=10).checked()
    found = np.cov(np.asarray(run.xs).reshape(-1, len(covariance)).T).reshape(covariance.shape)
    assert np.abs(found / covariance - 1).max() < 0.02
    assert float(jnp.max(run.rhat)) < 1.02


@pytest.mark.parametrize("step", [0.1, 0.5, 1.0])
def test_ula_has_the_variance_its_theory_says(key, step):
    run = gaussian(key, jnp.eye(1), step, method="ula", steps=5000, thin=10).checked()
    assert float(jnp.var(run.xs)) == pytest.approx(1 / (1 - step / 4), rel=0.01)
    assert np.all(np.asarray(run.acceptance) == 1)


@pytest.mark.parametrize("step", [0.5, 1.0])
def test_underdamped_motion_has_the_variance_its_theory_says(key, step):
    run = gaussian(key, jnp.eye(1), step, method="underdamped", steps=1000, thin=10).checked()
    assert float(jnp.var(run.xs)) == pytest.approx(1 / (1 - step**2 / 4), rel=0.02)


def test_hmc_has_the_right_covariance(key):
    run = gaussian(key, jnp.linalg.inv(jnp.asarray(CORRELATED)), 0.4, method="hmc", steps=1000, thin=10).checked()
    found = np.cov(np.asarray(run.xs).reshape(-1, 2).T)
    assert np.abs(found / CORRELATED - 1).max() < 0.02


def test_mala_without_its_proposal_ratio_is_wrong(key):
    """Detailed balance needs the drift in the test: the energies alone give another variance."""

    class Careless(jk.MALA):
        def move(self, evaluate, key, state, step_size):
            draw, test = jax.random.split(key)
            x, _ = langevin.propose(draw, state, step_size)
            energy, gradient = evaluate(x)
            moved = state._replace(x=x, energy=energy, gradient=gradient)
            return langevin.metropolis(test, state.energy - energy, moved, state)

    x0 = jnp.zeros((1000, 1))
    run = lambda method: jk.sample(normal, x0, jnp.eye(1), key=key, steps=500, method=method(1.0), warmup=100)
    right, wrong = (float(jnp.var(run(method).xs)) for method in (jk.MALA, Careless))
    assert abs(right - 1) < 0.02
    assert abs(wrong - 1) > 0.05


def test_a_method_of_your_own_has_its_own_state(key):
    """Random-walk Metropolis, which needs no gradients: any class with the members of `Method` will do."""

    class Place(NamedTuple):
        x: jax.Array
        energy: jax.Array

    class RandomWalk:
        step_size, target_accept, corrected = 1.0, 0.4, True

        def check(self):
            pass

        def init(self, evaluate, x, key):
            return Place(x, evaluate(x)[0])

        def move(self, evaluate, key, state, step_size):
            draw, test = jax.random.split(key)
            x = state.x + step_size * jax.random.normal(draw, state.x.shape, state.x.dtype)
            proposed = Place(x, evaluate(x)[0])
            return langevin.metropolis(test, state.energy - proposed.energy, proposed, state)

    x0 = jnp.zeros((500, 1))
    run = jax.jit(lambda key: jk.sample(normal, x0, jnp.eye(1), key=key, steps=600, method=RandomWalk(), warmup=200))
    found = run(key).checked()
    assert float(jnp.var(found.xs)) == pytest.approx(1, rel=0.03)
    assert float(jnp.mean(found.acceptance)) == pytest.approx(0.4, abs=0.03)


def test_the_log_density_of_a_proposal_is_the_gaussian_it_is_drawn_from(key):
    """Up to a constant, log q(to|at) = log N(to; at - step/2 grad, step)."""
    at, to, gradient = jax.random.normal(key, (3, 6, 4))
    constant = jnp.sum(jax.scipy.stats.norm.logpdf(to, at - 0.15 * gradient, jnp.sqrt(0.3)), axis=-1)
    difference = constant - langevin.log_proposal(to, at, gradient, jnp.asarray(0.3))
    np.testing.assert_allclose(difference, difference[0], rtol=1e-12)


def test_the_leapfrog_is_reversible_and_keeps_volume(key):
    evaluate = jax.vmap(jax.value_and_grad(lambda x: jnp.sum(x**4) / 4 + x[0] * x[1] ** 2))
    x, v = jax.random.normal(key, (2, 5, 2))
    go = lambda s: leapfrog(evaluate, s, jnp.asarray(0.07), 9)
    there = go(start(evaluate, x, v))
    back = go(there._replace(velocity=-there.velocity))
    assert float(jnp.max(jnp.abs(there.x - x))) > 0.1
    np.testing.assert_allclose(back.x, x, atol=1e-13)
    np.testing.assert_allclose(-back.velocity, v, atol=1e-13)

    def flat(z):
        end = go(start(evaluate, z[None, :2], z[None, 2:]))
        return jnp.concatenate([end.x[0], end.velocity[0]])

    jacobian = jax.jacobian(flat)(jnp.concatenate([x[0], v[0]]))
    assert float(jnp.linalg.det(jacobian)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        (jk.MALA(0.01, target_accept=0.574), 0.574),
        (jk.HMC(0.01, num_leapfrog_steps=4, target_accept=0.8), 0.8),
        ("mala", 0.57),
    ],
)
def test_the_warm_up_finds_the_step_of_the_wanted_acceptance(key, method, target):
    run = jax.jit(
        lambda key: jk.sample(normal, jnp.zeros((200, 8)), jnp.eye(8), key=key, steps=300, method=method, warmup=300)
    )(key).checked()
    assert float(jnp.mean(run.acceptance)) == pytest.approx(target, abs=0.03)
    assert float(run.step_size) > 0.05


MEANS, WEIGHTS, SPREAD = np.array([[-4.0, 0.0], [4.0, 0.0], [0.0, 5.0]]), np.array([0.6, 0.3, 0.1]), 0.5


def blurred_mixture(x, args, sigma):
    """Energy of the mixture after noise of size sigma was added."""
    variance = SPREAD**2 + sigma**2
    squares = jnp.sum(jnp.square(x[None, :] - jnp.asarray(MEANS)), axis=-1)
    return -jax.nn.logsumexp(jnp.log(jnp.asarray(WEIGHTS)) - 0.5 * squares / variance) + jnp.log(variance)


def shares(x):
    nearest = np.argmin(np.linalg.norm(np.asarray(x)[:, None] - MEANS[None], axis=-1), axis=1)
    return np.bincount(nearest, minlength=3) / len(nearest)


def test_annealing_recovers_unequal_weights_and_plain_langevin_does_not(key):
    x0 = 8.0 * jax.random.normal(key, (4000, 2))
    sigmas = jnp.asarray(8.0 * 0.7 ** np.arange(14))
    annealed = jax.jit(
        lambda x0: jk.sample(
            blurred_mixture, x0, key=key, steps=60, method=jk.Annealed(sigmas, 0.1 * sigmas**2 + 0.02), thin=60
        )
    )(x0).checked()
    assert np.abs(shares(annealed.final) - WEIGHTS).max() < 0.03
    sharp = lambda x, args: blurred_mixture(x, args, 0.0)
    plain = jax.jit(lambda x0: jk.sample(sharp, x0, key=key, steps=840, method=jk.ULA(0.03), thin=840))(x0)
    assert np.abs(shares(plain.final) - WEIGHTS).max() > 0.1


def test_a_score_does_instead_of_an_energy(key):
    precision = jnp.linalg.inv(jnp.asarray(CORRELATED))
    options = {"method": jk.ULA(0.1), "steps": 50, "key": key}
    x0 = jax.random.normal(key, (10, 2))
    by_energy = jk.sample(normal, x0, precision, **options)
    by_score = jk.sample(jk.Score(lambda x, p: -p @ x), x0, precision, **options)
    np.testing.assert_allclose(by_score.xs, by_energy.xs, rtol=1e-12)
    levels = jnp.array([2.0, 1.0, 0.5])
    run = jk.sample(
        jk.Score(lambda x, _, s: -x / s**2), x0, key=key, steps=20, method=jk.Annealed(levels, step_size=0.05)
    )
    assert run.checked().step_size == 0.05  # the last level's; above, step * (sigma / last)^2
    assert run.xs.shape == (20, 10, 2)


def test_a_state_may_be_a_pytree_and_chains_can_go_on(key):
    energy = lambda x, _: 0.5 * jnp.sum(x["a"] ** 2) + 0.5 * jnp.sum((x["b"] - 1) ** 2)
    x0 = {"a": jnp.zeros((20, 2, 3)), "b": jnp.zeros(20)}
    first = jk.sample(energy, x0, key=key, steps=200, method=jk.MALA(0.5), thin=10).checked()
    assert first.xs["a"].shape == (20, 20, 2, 3)
    assert first.xs["b"].shape == (20, 20)
    assert jax.tree.map(jnp.shape, first.final) == jax.tree.map(jnp.shape, x0)
    np.testing.assert_array_equal(first.final["a"], first.xs["a"][-1])
    more = jk.sample(energy, first.final, key=jax.random.key(1), steps=400, method=jk.MALA(0.5), thin=10).checked()
    assert float(jnp.mean(more.xs["b"])) == pytest.approx(1, abs=0.15)
    assert set(more.ess) == {"a", "b"}


def test_thinning_keeps_every_nth_state(key):
    options = {"method": jk.HMC(0.3), "steps": 12, "key": key}
    every = jk.sample(normal, jnp.ones((3, 2)), jnp.eye(2), **options)
    third = jk.sample(normal, jnp.ones((3, 2)), jnp.eye(2), thin=3, **options)
    np.testing.assert_allclose(third.xs, every.xs[2::3], rtol=1e-12)
    np.testing.assert_allclose(third.acceptance, every.acceptance, rtol=1e-12)


def test_failures_are_told_chain_by_chain(key):
    hole = lambda x, _: jnp.where(x[0] > 5, jnp.nan, 0.5 * jnp.sum(x**2))
    x0 = jnp.array([[0.0], [9.0]])
    run = jk.sample(hole, x0, key=key, steps=20, method=jk.MALA(0.1))
    assert list(run.status) == [int(jk.Status.ok), int(jk.Status.not_finite)]
    with pytest.raises(jk.SolverError, match="sample: not_finite"):
        run.checked()
    wall = lambda x, _: jnp.where(jnp.abs(x[0]) > 1e-3, jnp.inf, 0.0)
    stuck = jk.sample(wall, jnp.zeros((2, 1)), key=key, steps=20, method=jk.MALA(100.0))
    assert list(stuck.status) == [int(jk.Status.stuck)] * 2
    assert np.all(np.isfinite(np.asarray(stuck.xs)))


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.6, 0.95])
def test_diagnostics_on_an_autoregression(key, rho):
    """AR(1): draws are worth (1 - rho)/(1 + rho) each; the autocovariance falls as rho^lag."""
    noise = jax.random.normal(key, (8000, 8))
    first = noise[0] / jnp.sqrt(1 - rho**2)
    _, xs = jax.lax.scan(lambda x, e: (rho * x + e, rho * x + e), first, noise)
    expected = xs.size * (1 - rho) / (1 + rho)
    assert float(effective_sample_size(xs)) == pytest.approx(min(expected, xs.size * np.log10(xs.size)), rel=0.1)
    assert float(split_rhat(xs)) == pytest.approx(1, abs=0.01)
    covariance = jnp.mean(autocovariance(xs), axis=1)
    np.testing.assert_allclose(covariance[:4] * (1 - rho**2), rho ** np.arange(4), atol=0.05)


def test_diagnostics_see_chains_that_disagree(key):
    xs = jax.random.normal(key, (500, 4)) + jnp.array([[0.0, 0.0, 0.0, 3.0]])
    assert float(split_rhat(xs)) == pytest.approx(1.478, abs=0.03)  # of the ranks; of the numbers it is above 1.5
    assert float(effective_sample_size(xs)) < 20
    drifting = jax.random.normal(key, (500, 1)) + jnp.linspace(0.0, 4.0, 500)[:, None]
    assert float(split_rhat(drifting)) > 1.5  # one chain suffices: it is split


@pytest.mark.parametrize("method", [*METHODS, "annealed"])
def test_no_method_leaves_a_callback_in_its_program(key, method):
    annealed = method == "annealed"
    method = jk.Annealed(jnp.array([1.0, 0.5]), 0.1) if annealed else METHODS[method]
    energy = lambda x, a, *s: jnp.sum(x**2) / (s[0] if s else 1)
    # The methods are pytrees: their step may be traced.
    run = lambda x0, method: jk.sample(energy, x0, key=key, steps=3, method=method, warmup=0 if annealed else 3)
    text = str(jax.make_jaxpr(run)(jnp.ones((4, 3)), method))
    assert "callback" not in text


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("method", METHODS)
def test_precision_is_that_of_the_states(key, method, dtype):
    energy = lambda x, _: jnp.sum(x**2)
    run = jk.sample(energy, jnp.ones((4, 3), dtype), key=key, steps=3, method=method, warmup=3)
    assert {run.xs.dtype, run.energy.dtype, run.acceptance.dtype} == {jnp.dtype(dtype)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"method": "nuts"}, "`method` must be one of"),
        ({"steps": 0}, "`steps` must be positive"),
        ({"thin": 3}, "`thin` must divide `steps`"),
        ({"method": jk.MALA}, "`method` must be a name or a method"),
        ({"method": "mala"}, "`warmup` must be positive with a `target_accept`, but is 0"),
        ({"method": jk.HMC(target_accept=1.5)}, "`target_accept` must lie between 0 and 1"),
        ({"method": jk.HMC(num_leapfrog_steps=0)}, "`num_leapfrog_steps` must be positive"),
        ({"method": jk.HMC(jitter=1.0)}, "`jitter` must be a share below 1"),
        ({"method": jk.Underdamped(friction=-1.0)}, "`friction` must not be negative"),
        ({"method": jk.Annealed(np.ones(3), 0.1), "warmup": 5}, "`warmup` must be 0 for `Annealed`"),
        ({"method": jk.Annealed(np.ones(3), np.ones(2))}, r"`step_size` must have shape \(3,\)"),
        ({"method": jk.Annealed(np.ones((3, 2)), 0.1)}, "`step_size` must be one number a level"),
        ({"energy": jk.Score(lambda x, a: x), "method": jk.MALA()}, "`energy` must be no `Score`"),
        ({"method": jk.ULA(np.ones(2))}, "`step_size` must be one number"),
        ({"energy": None}, "`energy` must be a function"),
        ({"energy": lambda x, a: x}, "`energy` must return a scalar"),
    ],
)
def test_unusable_arguments_get_one_sentence(key, change, sentence):
    given = {"energy": lambda x, a: jnp.sum(x**2), "steps": 10, "method": jk.ULA()} | change
    energy = given.pop("energy")
    with pytest.raises(ValueError, match=sentence):
        jk.sample(energy, jnp.ones((2, 2)), key=key, **given)


@pytest.fixture(scope="module")
def between_two_wells():
    """Chains under `(x^2 - 1)^2 / width`, from all over the line: one program."""
    energy = lambda x, width: jnp.sum((x**2 - 1) ** 2) / width
    x0, method = jnp.linspace(-1.3, 1.3, 16)[:, None], jk.MALA(0.004, target_accept=0.57)
    return jax.jit(lambda key, width: jk.sample(energy, x0, width, key=key, steps=400, method=method, warmup=200))


def test_chains_in_two_places_have_not_mixed(key, between_two_wells):
    apart = between_two_wells(key, 0.02)
    assert not bool(apart.ok.any())
    assert np.mean(np.asarray(apart.status) == jk.Status.not_mixed) > 0.5  # the others are stuck on a steep slope
    assert float(apart.rhat[0]) > 1.5
    with pytest.raises(jk.SolverError, match="sample: "):
        apart.checked()
    together = between_two_wells(key, 4.0).checked()
    assert float(together.rhat[0]) < 1.1
    assert 30 < float(together.ess_tail[0]) < 6400


def test_a_chain_that_does_not_move_after_its_warm_up_is_stuck(key):
    frozen = jk.sample(
        lambda x, _: jnp.sum(x**6), jnp.full((64, 1), 1.5), key=key, steps=300, method=jk.MALA(0.2), warmup=100
    )
    assert np.mean(np.asarray(frozen.status) == jk.Status.ok) < 0.5
    never = np.all(np.asarray(frozen.xs) == np.asarray(frozen.xs[:1]), axis=(0, 2))
    assert np.all(np.asarray(frozen.status)[never] == jk.Status.stuck)


def test_chains_still_on_their_way_have_not_mixed(key):
    run = jk.sample(normal, jnp.full((4, 2), 5.0), jnp.eye(2), key=key, steps=60, method=jk.MALA(0.02))
    assert set(np.asarray(run.status).tolist()) == {int(jk.Status.not_mixed)}


def test_hmc_does_not_resonate(key):
    """Leapfrogs of one whole period come back to where they were, unless their length is changed at random."""
    run = lambda method: jk.sample(
        normal, jnp.linspace(-2, 2, 8)[:, None], jnp.eye(1), key=key, steps=200, method=method
    )
    period = 2 * np.pi / 10
    assert set(np.asarray(run(jk.HMC(period, jitter=0.0)).status).tolist()) == {int(jk.Status.not_mixed)}
    found = run(jk.HMC(period)).checked()
    assert float(found.rhat[0]) < 1.02
    assert float(found.ess[0]) > 400


def test_a_neck_that_is_not_entered_is_divergent(key):
    """A funnel: where u is low, v is narrow, and the steps found elsewhere are too long (a false ok of before)."""

    def funnel(x, width):
        return 0.5 * (x[0] / 1.5) ** 2 + 0.5 * (x[1] / width) ** 2 * jnp.exp(-x[0]) + 0.5 * x[0]

    @jax.jit
    def run(width):
        x0 = jax.random.normal(jax.random.fold_in(key, 1), (16, 2)) * jnp.stack([jnp.ones(()), width])[None]
        return jk.sample(funnel, x0, width, key=key, steps=1000, method="hmc", warmup=500)

    narrow = run(jnp.asarray(0.1))
    assert set(np.asarray(narrow.status).tolist()) <= {int(jk.Status.divergent), int(jk.Status.not_mixed)}
    assert int(narrow.divergences.sum()) > 160
    with pytest.raises(jk.SolverError, match=r"sample: (divergent|not_mixed)"):
        narrow.checked()


def test_what_leaves_the_domain_does_not_diverge(key):
    """Gamma(2): below 0 there is no energy."""
    gamma = lambda x, rate: jnp.sum(rate * x - jnp.log(x))
    run = jk.sample(gamma, jnp.ones((16, 1)), 1.0, key=key, steps=200, method=jk.HMC(0.5), warmup=50).checked()
    assert float(run.acceptance.mean()) < 0.99
    assert int(run.divergences.sum()) < 0.01 * 16 * 200
    assert abs(float(run.xs.mean()) - 2) < 0.3


def test_no_chains_are_an_empty_result(key):
    none = jk.sample(lambda x, _: jnp.sum(x**2), jnp.zeros((0, 2)), key=key, steps=60, method=jk.MALA(0.1)).checked()
    assert none.xs.shape == (60, 0, 2)
    assert none.status.shape == (0,)
    with pytest.raises(ValueError, match="Argument `starts` must hold at least one start"):
        jk.inverse.multistart(lambda p, _: p - 1, jnp.zeros((0, 2)))


@pytest.mark.parametrize("method", ["mala", "underdamped"])
def test_moments_are_those_of_all_states_kept_or_not(key, method):
    energy = lambda x, _: 0.5 * jnp.sum(x["a"] ** 2) + 2 * (x["b"] - 1e3) ** 2
    x0 = {"a": jnp.zeros((3, 2)), "b": jnp.full(3, 1e3)}
    run = lambda thin: jk.sample(
        energy, x0, key=key, steps=60, method=method, warmup=20 * (method == "mala"), thin=thin
    )
    every, few = run(1), run(20)
    assert few.xs["a"].shape == (3, 3, 2)
    np.testing.assert_array_equal(few.xs["a"], every.xs["a"][19::20])
    for name in ("a", "b"):
        np.testing.assert_allclose(few.mean[name], np.mean(every.xs[name], 0), rtol=1e-12)
        np.testing.assert_allclose(few.variance[name], np.var(every.xs[name], 0, ddof=1), rtol=1e-9)
        np.testing.assert_allclose(every.variance[name], few.variance[name], rtol=1e-9)
