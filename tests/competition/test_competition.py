"""competition: the article's example, regimes, certificates, separatrix, sensitivity, Gause, bad input."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

import jaxkit as jk
from jaxkit import competition as comp
from jaxkit.models import lotka_volterra

ARTICLE = comp.Params(r=(0.1, 0.3), N=(500.0, 1000 / 3), a=(1e-4, 2e-4))
BISTABLE = comp.Params(r=(1.0, 0.8), N=(100.0, 80.0), a=(0.02, 0.014))
positive = st.floats(0.1, 10.0)


class TestTheory:
    @pytest.mark.parametrize("on_axis", [0, 1])
    def test_where_an_invasion_rate_is_zero_there_is_no_coexistence(self, on_axis):
        """The crossing of the nullclines then lies on an axis."""
        turn = (lambda v: v) if on_axis == 0 else (lambda v: v[::-1])
        p = comp.Params(r=turn((1.0, 1.0)), N=turn((2.0, 3.0)), a=turn((0.1, 0.5)))
        assert float(comp.invasion(p)[1 - on_axis]) == 0
        points = comp.equilibria(p)
        assert points.exists.tolist() == [True, True, True, False]
        assert comp.outcome(p) == comp.Regime.degenerate

    def test_the_articles_equilibria(self):
        eq = comp.equilibria(ARTICLE)
        np.testing.assert_allclose(eq.x, [[0, 0], [0, 1000 / 3], [500, 0], [375, 250]], rtol=1e-12)
        expected = [[0.3, 0.1], [0.0666667, -0.3], [0.2, -0.1], [-0.06339746, -0.23660254]]
        np.testing.assert_allclose(eq.eigenvalues.real, expected, atol=5e-8)
        np.testing.assert_array_equal(eq.eigenvalues.imag, 0)
        assert [jk.Kind(int(k)).label for k in eq.kind] == ["unstable node", "saddle", "saddle", "stable node"]
        assert eq.stable.tolist() == [False, False, False, True]

    @given(*[positive] * 6)
    def test_interior_point_rests_and_regime_agrees_with_stability(self, r1, r2, n1, n2, a1, a2):
        p = comp.Params((r1, r2), (n1, n2), (a1, a2))
        eq, which = comp.equilibria(p), comp.outcome(p)
        if which is comp.Regime.degenerate:
            return
        size = (r1 + r2) * (n1 + n2)
        for x, there in zip(eq.x, eq.exists, strict=True):
            velocity = lotka_volterra(0.0, x, p.rates)
            assert not there or float(jnp.max(jnp.abs(velocity))) <= 1e-9 * max(1.0, size, float(jnp.max(x)) ** 2)
        winners = {
            comp.Regime.coexistence: [False, False, False, True],
            comp.Regime.bistable: [False, True, True, False],
            comp.Regime.species_1_wins: [False, False, True, False],
            comp.Regime.species_2_wins: [False, True, False, False],
        }
        margin = np.abs(comp.invasion(p)) / np.array([r1, r2])
        if margin.min() > 1e-6:
            assert eq.stable.tolist() == winners[which]

    def test_degenerate_says_which(self):
        p = comp.Params((1.0, 1.0), (1.0, 1.0), (1.0, 0.5))
        assert comp.outcome(p) is comp.Regime.degenerate
        assert "species 1 neither grows nor shrinks" in comp.explain(p)
        assert "both survive" in comp.explain(ARTICLE)
        single = (jnp.asarray(v, jnp.float32) for v in ((0.7, 1.0), (1.0, 7.0), (0.1, 0.5)))
        assert "species 1 neither grows nor shrinks" in comp.explain(comp.Params(*single))  # 0.7 - 0.1 * 7 is an ulp

    def test_dulac_is_its_closed_form_and_negative(self):
        x = jax.random.uniform(jax.random.key(0), (200, 2), minval=1.0, maxval=500.0)
        ours = jax.jit(jax.vmap(comp.dulac(ARTICLE)))(x)
        closed = -0.1 / (500 * x[:, 1]) - 0.3 / (1000 / 3 * x[:, 0])
        np.testing.assert_allclose(ours, closed, rtol=1e-12)
        assert float(ours.max()) < 0

    def test_lyapunov_falls_along_the_motion_and_certifies(self):
        value, certified = comp.lyapunov(ARTICLE)
        assert bool(certified)
        x = jax.random.uniform(jax.random.key(1), (200, 2), minval=1.0, maxval=600.0)
        rate = jax.jit(jax.vmap(lambda x: jax.grad(value)(x) @ lotka_volterra(0.0, x, ARTICLE.rates)))(x)
        assert float(rate.max()) < 0
        y = x - jnp.array([[375.0, 250.0]])
        matrix = jnp.array([[2e-4 * 0.1 / 500, 2e-8], [2e-8, 1e-4 * 0.3 * 3 / 1000]])
        np.testing.assert_allclose(rate, -jnp.einsum("ki,ij,kj->k", y, matrix, y), rtol=1e-9)
        assert not bool(comp.lyapunov(BISTABLE)[1])

    def test_equilibrium_derivative_agrees_with_the_implicit_one(self):
        closed = jax.jacfwd(lambda p: comp.equilibria(p).x[3])(ARTICLE)
        implicit = jax.jacfwd(
            lambda p: jk.root(lambda x, p: lotka_volterra(0.0, x, p.rates), jnp.array([370.0, 260.0]), p).value
        )(ARTICLE)
        for ours, theirs in zip(jax.tree.leaves(closed), jax.tree.leaves(implicit), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-8)

    def test_equilibria_vmap(self):
        many = comp.Params(*(jnp.stack([jnp.asarray(a), jnp.asarray(b)]) for a, b in zip(
            (ARTICLE.r, ARTICLE.N, ARTICLE.a), (BISTABLE.r, BISTABLE.N, BISTABLE.a), strict=True)))  # fmt: skip
        eq = jax.vmap(comp.equilibria)(many)
        np.testing.assert_array_equal(eq.x[1], comp.equilibria(BISTABLE).x)
        assert jax.vmap(comp.regime)(many).tolist() == [0, 1]


@functools.partial(jax.jit, static_argnums=3)
def run(p, x0, ts, adjoint="checkpointed"):
    return comp.simulate(p, x0, ts, method=jk.RungeKutta(adjoint=adjoint), rtol=1e-9, atol=1e-8, max_steps=256)


class TestMotion:
    def test_settles_at_coexistence(self):
        sol = run(ARTICLE, jnp.array([100.0, 150.0]), jnp.array([0.0, 10.0, 1000.0])).checked()
        np.testing.assert_allclose(sol.final, [375, 250], rtol=1e-6)

    def test_one_species_alone_is_the_logistic(self):
        ts = jnp.linspace(0.0, 30.0, 5)
        x = comp.simulate(comp.Rates(jnp.array([0.5]), jnp.array([[0.01]])), jnp.array([2.0]), ts).xs[:, 0]
        np.testing.assert_allclose(x, 50 / (1 + 24 * np.exp(-0.5 * ts)), rtol=1e-6)

    @pytest.mark.slow
    def test_gradients_of_order_two_in_both_modes(self):
        def end(scale, x0, last):
            p = comp.Params(*(scale * jnp.asarray(v) for v in (ARTICLE.r, ARTICLE.N, ARTICLE.a)))
            return run(p, x0 * jnp.array([1.0, 1.5]), jnp.stack([jnp.zeros_like(last), last]), "direct").final[0] / 300

        check_grads(end, (1.1, 100.0, 10.0), order=2, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5, eps=1e-4)

    def test_vmap_is_the_loop(self):
        starts = jnp.array([[100.0, 150.0], [5.0, 300.0], [400.0, 1.0]])
        ts = jnp.array([0.0, 10.0, 50.0])
        batched = jax.vmap(lambda x0: run(ARTICLE, x0, ts).xs)(starts)
        np.testing.assert_allclose(batched, jnp.stack([run(ARTICLE, x0, ts).xs for x0 in starts]), rtol=1e-12)

    def test_demographic_noise_has_the_mean_of_the_ode(self):
        ts, x0 = jnp.array([0.0, 20.0]), jnp.array([100.0, 150.0])
        many = jax.jit(
            jax.vmap(lambda k: comp.simulate_noisy(ARTICLE, x0, ts, key=k, individuals=100.0, dt=0.05).final)
        )
        ends = many(jax.random.split(jax.random.key(0), 200))
        truth = comp.simulate(ARTICLE, x0, ts).final
        np.testing.assert_allclose(ends.mean(0), truth, rtol=3e-3)
        assert float((ends.std(0) / truth).max()) < 0.05
        assert float(ends.std(0).min()) > 0.1

    def test_an_empty_population_stays_empty(self):
        sol = comp.simulate_noisy(
            ARTICLE, jnp.array([0.0, 100.0]), jnp.array([0.0, 5.0]), key=jax.random.key(2), dt=0.05
        )
        assert float(sol.final[0]) == 0.0


class TestBasins:
    def test_separatrix_passes_through_the_saddle_and_follows_the_field(self):
        curve = comp.separatrix(BISTABLE).checked()
        saddle = comp.equilibria(BISTABLE).x[3]
        np.testing.assert_allclose(curve(saddle[0]), saddle[1], rtol=1e-9)
        x1 = jnp.array([0.5, 5.0, 20.0, 60.0, 200.0])
        slope = jax.vmap(jax.grad(curve))(x1)
        velocity = jax.vmap(lambda a, b: lotka_volterra(0.0, jnp.stack([a, b]), BISTABLE.rates))(x1, curve(x1))
        np.testing.assert_allclose(slope, velocity[:, 1] / velocity[:, 0], rtol=2e-4)
        assert bool((jnp.diff(curve(jnp.linspace(0.0, 300.0, 500))) > 0).all())
        assert float(curve(0.0)) == 0.0

    def test_starts_beside_it_part_ways(self):
        curve = comp.separatrix(BISTABLE)
        x1 = jnp.array([1.0, 10.0, 50.0, 110.0])
        above, below = (comp.basin(BISTABLE, jnp.stack([x1, curve(x1) * f], -1)) for f in (1 + 1e-5, 1 - 1e-5))
        assert above.tolist() == [1] * 4
        assert below.tolist() == [2] * 4

    @pytest.mark.slow
    def test_basin_agrees_with_the_side_on_200_by_200(self):
        grid = jnp.stack(jnp.meshgrid(jnp.linspace(0.5, 120.0, 200), jnp.linspace(0.5, 100.0, 200)), -1)
        side = jnp.where(grid[..., 1] > comp.separatrix(BISTABLE)(grid[..., 0]), 1, 2)
        assert float((comp.basin(BISTABLE, grid) == side).mean()) >= 0.999

    def test_no_separatrix_elsewhere(self):
        with pytest.raises(jk.SolverError, match="separatrix: not_applicable"):
            comp.separatrix(ARTICLE).checked()

    def test_outcome_map_is_the_regime_of_each(self):
        a1, a2 = jnp.linspace(1e-4, 1e-3, 4), jnp.linspace(1e-4, 1e-3, 3)
        ours = comp.outcome_map(ARTICLE, a1, a2)
        for i in range(4):
            for j in range(3):
                p = comp.Params(ARTICLE.r, ARTICLE.N, jnp.stack([a1[i], a2[j]]))
                assert int(ours[i, j]) == comp.outcome(p)

    def test_branches_exchange_stability_where_species_1_can_no_longer_invade(self):
        branches = comp.branches(ARTICLE, steps=60)
        for name in ("coexistence", "species 2 alone"):
            at = np.flatnonzero(branches[name].special)
            assert at.size == 1, name
            assert int(branches[name].special[at[0]]) == jk.Special.branch_point
            np.testing.assert_allclose(branches[name].special_parameter[at], 0.1 * 3 / 1000, rtol=0, atol=1e-8)


@pytest.fixture(scope="module")
def mixture():
    return comp.fit(comp.gause("paramecium")).checked()


class TestGause:
    def test_reproduces_the_published_fit_to_three_digits(self, mixture):
        # gauseR vignette (nls); estimates and standard errors.
        estimates = {
            "x0": [0.574824, 4.533909],
            "r": [1.734873, 0.810376],
            "A": [[0.007675, 0.010787], [0.001688, 0.005377]],
        }
        errors = {"x0": [0.683, 3.276], "r": [0.4005, 0.2182], "A": [[0.002237, 0.002324], [0.001048, 0.001317]]}
        for name in estimates:
            np.testing.assert_allclose(mixture.unknowns[name], estimates[name], rtol=1e-3)
            np.testing.assert_allclose(mixture.standard_errors[name], errors[name], rtol=1e-3)
        assert float(mixture.sse) <= 3874.23
        assert float(mixture.sse) == pytest.approx(3874.2214, abs=1e-3)
        assert mixture.degrees_of_freedom == 38
        assert float(mixture.residual_standard_error) == pytest.approx(10.1, abs=0.01)
        assert float(mixture.r_squared) == pytest.approx(0.9455, abs=1e-4)

    def test_in_the_models_own_form(self, mixture):
        np.testing.assert_allclose(mixture.params.N, [226.0, 150.7], rtol=1e-3)
        np.testing.assert_allclose(mixture.params.a, [0.010787, 0.001688], rtol=1e-3)
        eq = comp.equilibria(mixture.params)
        # The published point follows from rounded parameters: (25.45, 142.72).
        np.testing.assert_allclose(eq.x[3], [25.45, 142.72], rtol=2e-3)
        np.testing.assert_allclose(eq.eigenvalues[3].real, [-0.0967, -0.866], rtol=1e-3)
        assert comp.outcome(mixture.params) is comp.Regime.coexistence
        # The delta method for N = r / A against its textbook formula.
        k, error = mixture.capacities
        np.testing.assert_allclose(k, mixture.params.N, rtol=1e-12)
        np.testing.assert_allclose(error, mixture.params_errors.N, rtol=1e-10)

    def test_every_start_finds_the_same(self, mixture):
        assert float(mixture.start_sse.max() - mixture.start_sse.min()) < 1e-3

    def test_fit_is_a_minimum_of_the_solver_itself(self, mixture):
        # Not through the fit's own residuals: a fresh simulation at shifted parameters must never do better.
        data = mixture.data
        ts = jnp.asarray(np.unique(data.time))
        row = jnp.asarray(np.searchsorted(np.unique(data.time), data.time))

        @jax.jit
        def total(u):
            xs = comp.simulate(comp.Rates(u["r"], u["A"]), u["x0"], ts, rtol=1e-9, atol=1e-9).xs
            return jnp.sum((xs[row, data.species] - data.volume) ** 2)

        best = total(mixture.unknowns)
        np.testing.assert_allclose(best, mixture.sse, rtol=1e-6)
        for i in range(8):
            flat, unravel = jax.flatten_util.ravel_pytree(mixture.unknowns)
            for sign in (-1, 1):
                assert total(unravel(flat.at[i].multiply(1 + sign * 1e-3))) > best

    def test_band_covers_the_data(self, mixture):
        mean, error = comp.band(mixture, jnp.linspace(2.0, 24.0, 23))
        np.testing.assert_allclose(mean[0], mixture.x0, rtol=1e-6)
        np.testing.assert_allclose(error[0], mixture.standard_errors["x0"], rtol=1e-6)

    def test_band_starts_where_the_fit_starts(self, mixture):
        later = jnp.array([25.0, 30.0])
        path = comp.simulate(mixture.rates, mixture.x0, jnp.append(2.0, later)).xs
        np.testing.assert_allclose(comp.band(mixture, later)[0], path[1:], rtol=1e-6)
        with pytest.raises(ValueError, match="`ts` must begin no earlier than the fit's start, 2, but begins at 1"):
            comp.band(mixture, jnp.array([1.0, 3.0]))

    def test_what_would_be_negative_is_held_at_the_edge(self):
        """Counts of two species of which one helps the other: the best competitor does no harm, and says so."""
        data = comp.gause("paramecium")
        helped = comp.Rates(jnp.array([0.8, 0.9]), jnp.array([[0.006, -0.002], [0.001, 0.008]]))
        at = jnp.unique(data.time)
        xs = comp.simulate(helped, (2.0, 5.0), jnp.append(2.0, at)[int(at[0] <= 2.0) :]).xs
        counts = dataclasses.replace(data, volume=xs[jnp.searchsorted(at, data.time), data.species])
        found = comp.fit(counts)
        assert int(found.status) == jk.Status.at_boundary
        p = found.params
        assert all(bool(jnp.all(v > 0)) for v in (p.r, p.N, p.a, found.rates.A))
        assert float(p.a[0]) < 1e-6
        assert float(found.standard_errors["A"][0, 1]) == 0 < float(found.standard_errors["A"][1, 0])
        assert comp.outcome(p) is comp.Regime.coexistence
        assert comp.outcome(found.rates) is comp.Regime.coexistence

    @pytest.mark.parametrize(
        ("experiment", "r", "k", "n0", "sse"),
        [
            ("paramecium caudatum", 0.9593, 202.30, 0.2182, 2494.94),
            ("paramecium aurelia", 0.7123, 222.67, 1.2780, 2241.05),
            ("saccharomyces", 0.25864, 12.742, 0.28313, 4.94599),
            ("schizosaccharomyces", 0.057443, 5.8802, 0.49709, 1.38499),
        ],
    )
    def test_each_species_alone(self, experiment, r, k, n0, sse):
        found = comp.fit(comp.gause(experiment)).checked()
        np.testing.assert_allclose([found.rates.r[0], found.capacities[0][0], found.x0[0]], [r, k, n0], rtol=3e-4)
        np.testing.assert_allclose(found.sse, sse, rtol=1e-5)

    @pytest.mark.slow
    def test_profile_has_its_minimum_at_the_estimate(self, mixture):
        found = comp.profile(mixture, "A", (0, 1), points=5, span=1.0).checked()
        values, sums = found.values, found.sse
        np.testing.assert_allclose(sums[2], mixture.sse, rtol=1e-6)
        # One standard error away the sum rises by s^2 to first order.
        rise = (sums[jnp.array([1, 3])] - mixture.sse) / mixture.residual_standard_error**2
        assert 0.15 < float(rise.min()) < float(rise.max()) < 0.45  # half an error: a quarter
        assert float(values[2]) == pytest.approx(float(mixture.rates.A[0, 1]))

    def test_own_observations_skip_what_is_missing(self):
        ts = jnp.linspace(0.0, 12.0, 13)
        xs = comp.simulate(comp.Rates(jnp.array([0.9]), jnp.array([[0.009]])), jnp.array([3.0]), ts).xs
        data = comp.observations(ts, xs.at[4, 0].set(jnp.nan))
        assert data.volume.size == 12
        found = comp.fit(data).checked()
        np.testing.assert_allclose([found.rates.r[0], found.capacities[0][0]], [0.9, 100.0], rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: comp.equilibria(comp.Params((1.0, -1.0), (1.0, 1.0), (1.0, 1.0))), "`r` must be positive"),
        (lambda: comp.outcome(comp.Params((1.0, 1.0), (1.0, jnp.inf), (1.0, 1.0))), "`N` must be finite"),
        (lambda: comp.equilibria(comp.Params((1.0, 1.0, 1.0), (1.0, 1.0), (1.0, 1.0))), r"`r` must have shape \(2,\)"),
        (lambda: comp.simulate(ARTICLE, jnp.ones(3), (0.0, 1.0)), r"`x0` must have shape \(2,\), but has shape \(3,\)"),
        (lambda: comp.simulate(ARTICLE, (1.0, -1.0), (0.0, 1.0)), "`x0` must not be negative"),
        (lambda: comp.simulate(ARTICLE, (1.0, 1.0), (0.0, 1.0, 1.0)), "`ts` must increase strictly"),
        (lambda: comp.outcome(comp.Rates(jnp.ones(3), jnp.eye(3))), "`p` must be of two species, but is of 3"),
        (lambda: comp.gause("drosophila"), "`experiment` must be one of 'paramecium'"),
        (lambda: comp.observations([0.0, 1.0], [[1.0, 2.0]]), r"`xs` must have shape \(2, n\)"),
        (lambda: comp.fit(comp.observations([0.0, 1.0], [[1.0], [2.0]])), "more than 3 observations, but has 2"),
        (lambda: comp.fit(comp.observations(np.arange(9.0), np.stack([np.arange(9.0), np.full(9, np.nan)], 1))),
         "more than 8 observations|observe every species"),
        (lambda: comp.basin(ARTICLE, jnp.zeros((3, 3))), r"`grid` must have shape \(..., 2\)"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        call()
    assert "\n" not in str(error.value)


def test_a_run_that_is_too_long_is_a_status():
    sol = comp.simulate(ARTICLE, (100.0, 150.0), (0.0, 1000.0), max_steps=5)
    assert int(sol.status) == jk.Status.max_steps
