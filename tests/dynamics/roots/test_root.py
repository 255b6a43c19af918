"""`root` and `fixed_point`: problem tables, statuses, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxkit as jk
from jaxkit import Status
from jaxkit.dynamics.roots.history import history
from jaxkit.dynamics.roots.methods import METHODS
from jaxkit.dynamics.roots.methods.deflation import deflated
from jaxkit.dynamics.roots.methods.newton import householder
from tests.dynamics.problems import SYSTEMS, table

BRACKETING = [name for name, method in METHODS.items() if method.bracketing]
OPEN = [name for name in METHODS if name not in BRACKETING]


def solve_table(collection, method, **settings):
    """Every problem of a table as a lane of one program."""
    problems = table(collection)
    if METHODS[method].bracketing:
        one = lambda x0, a, b, p: jk.root(problems.fn, x0, p, method=method, bracket=(a, b), max_steps=2000, **settings)
        return problems, jax.jit(jax.vmap(one))(problems.x0, *problems.bracket, problems.args)
    one = lambda x0, p: jk.root(problems.fn, x0, p, method=method, max_steps=200, **settings)
    return problems, jax.jit(jax.vmap(one))(problems.x0, problems.args)


def false_answers(problems, found):
    """Problems reported as solved that are not: neither near the root, nor near another (the residual is rounding)."""
    ok = np.asarray(found.ok)
    near = np.abs(found.value - problems.root) <= 1e-6 * (1 + np.abs(problems.root))
    zero = np.asarray(found.residual) <= 1e-12
    return [name for name, wrong in zip(problems.ids, ok & ~near & ~zero, strict=True) if wrong]


def refused(problems, found):
    """The problems that are not reported as solved."""
    return {name for name, ok in zip(problems.ids, np.asarray(found.ok), strict=True) if not ok}


# Evaluations allowed on "aps": toms748's count for the default, own counts (with some slack) for the others.
COST = {"safeguarded": 2627, "chandrupatla": 2750, "itp": 3600, "bisect": 5900}


@pytest.mark.parametrize("method", BRACKETING)
def test_bracketing_methods_solve_alefeld_potra_shi(method):
    problems, found = solve_table("aps", method, atol=1e-9)  # as the costs were counted
    assert not false_answers(problems, found)
    near = np.abs(found.value - problems.root) <= 1e-8 * (1 + np.abs(problems.root))
    assert refused(problems, found) == {"aps.13.00"}  # x exp(-1/x^2) is zero in floats far around its root
    assert int(np.sum(near)) >= 153
    evaluations = int(np.sum(found.steps)) + 3 * len(problems.ids)  # both ends, and the last Newton step
    assert evaluations <= COST[method]


@pytest.mark.parametrize("method", BRACKETING)
def test_bracketing_methods_solve_chandrupatla(method):
    problems, found = solve_table("chandrupatla", method)
    assert not false_answers(problems, found)
    assert refused(problems, found) == {f"fun7.{k}" for k in range(1, 6)}  # x exp(-1/x^2), as above


@pytest.mark.parametrize("method", BRACKETING)
def test_jumps_and_poles_are_no_roots(method):
    problems, found = solve_table("original", method)
    assert not false_answers(problems, found)
    assert list(np.asarray(found.status)) == [0, 0, 0, *[Status.not_continuous] * 3]


@pytest.mark.parametrize("method", ["newton", pytest.param("halley", marks=pytest.mark.slow), "chord"])
@pytest.mark.parametrize("collection", ["aps", "original", "chandrupatla", "complex"])
def test_open_methods_claim_nothing_false(method, collection):
    problems, found = solve_table(collection, method)
    assert not false_answers(problems, found)
    least = {"newton": {"aps": 120, "complex": 6}, "halley": {"aps": 105, "complex": 6}}
    assert int(np.sum(found.ok)) >= least.get(method, {}).get(collection, 0)


def test_chandrupatla_takes_the_steps_of_the_paper():
    """The table's evaluation counts were made with another tolerance: agree within two evaluations on smooth cases."""
    from scipy.optimize._tstutils import get_tests

    problems, found = solve_table("chandrupatla", "chandrupatla", rtol=1e-10, atol=1e-10)
    paper = np.array([row["nfeval"] for row in get_tests("chandrupatla")])
    ours = np.asarray(found.steps) + 2
    smooth = [k for k, name in enumerate(problems.ids) if name.startswith(("fun1", "fun8", "fun9"))]
    assert np.max(np.abs(ours - paper)[smooth]) <= 3


QUICK = ("hammarling 2x2", "sample 19", "freudenstein roth")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SYSTEMS]
)
def test_robust_solves_all_23_systems(name):
    fn, start = SYSTEMS[name]
    start = jnp.asarray(start, float)
    found = jax.jit(lambda x0: jk.root(lambda x, _: fn(x), x0, method="robust", max_steps=500))(start).checked()
    assert float(found.residual) < 1e-13


@pytest.mark.slow
@pytest.mark.parametrize("method", ["newton", "damped", "levenberg_marquardt", "dogleg"])
def test_methods_on_the_23_systems(method):
    solved = 0
    for fn, start in SYSTEMS.values():
        start = jnp.asarray(start, float)
        run = jax.jit(lambda x0, fn=fn: jk.root(lambda x, _: fn(x), x0, method=method, max_steps=500))
        found = run(start)
        assert not bool(found.ok) or float(found.residual) < 1e-12
        solved += int(found.ok)
    # Measured counts. Levenberg-Marquardt stops at a residual of 1e-154 in "sample 18", whose square underflows.
    assert solved >= {"newton": 22, "damped": 22, "levenberg_marquardt": 17, "dogleg": 19}[method]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_a_cube_root_and_its_derivative(method):
    settings = {"bracket": (0.0, 3.0)} if METHODS[method].bracketing else {}
    cube_root = jax.jit(lambda a: jk.root(lambda x, a: x**3 - a, 1.1, a, method=method, rtol=1e-13, **settings).value)
    np.testing.assert_allclose(cube_root(2.0), 2 ** (1 / 3), rtol=1e-9)
    np.testing.assert_allclose(jax.grad(cube_root)(2.0), 2 ** (-2 / 3) / 3, rtol=1e-8)


@pytest.mark.slow
def test_derivatives_to_second_order_in_both_modes():
    def intersection(a):
        circle = lambda x, p: {"u": x["u"] ** 2 + x["v"] ** 2 - p, "v": x["u"] * x["v"] - a["b"]}
        r = jk.root(circle, {"u": 2.0, "v": 0.5}, a["p"], rtol=1e-14, atol=1e-14)  # `a["b"]` is closed over
        return jnp.stack([r.value["u"], r.value["v"]])

    check_grads(intersection, ({"p": 4.0, "b": 1.0},), order=2, modes=("fwd", "rev"), rtol=1e-6)


def test_derivative_of_an_unrolled_iteration_agrees():
    """Two derivations: the implicit function theorem, and differentiating twelve Newton steps."""

    def unrolled(a):
        x = 1.0
        for _ in range(12):
            x = x - (x * jnp.exp(x) - a) / ((1 + x) * jnp.exp(x))
        return x

    implicit = lambda a: jk.root(lambda x, a: x * jnp.exp(x) - a, 1.0, a, rtol=1e-14).value
    np.testing.assert_allclose(jax.grad(implicit)(2.0), jax.grad(unrolled)(2.0), rtol=1e-12)


def test_under_vmap_lanes_keep_their_own_status_and_gradient():
    lane = lambda a: jk.root(lambda x, a: x**2 - a, 1.0, a)
    found = jax.vmap(lane)(jnp.array([4.0, -1.3, 9.0]))
    assert list(found.status) == [0, Status.max_steps, 0]
    slopes = jax.vmap(jax.grad(lambda a: lane(a).value))(jnp.array([4.0, 9.0]))
    np.testing.assert_allclose(slopes, [0.25, 1 / 6], rtol=1e-12)
    with pytest.raises(jk.SolverError, match=r"max_steps .1 of 3 lanes failed, the first at index 1"):
        found.checked()


STATUSES = {
    "max_steps": (lambda x: x**2 + 1, {"x0": 0.7}),
    "cycle": (lambda x: x**3 - 2 * x + 2, {"x0": 0.0}),
    "singular": (lambda x: x**2 + 1, {"x0": 0.0}),
    "not_finite": (lambda x: jnp.log(x), {"x0": 5.0}),
    "no_sign_change": (lambda x: x**2 + 1, {"bracket": (-1.0, 1.0)}),
    "not_continuous": (lambda x: jnp.tan(x), {"bracket": (1.0, 2.0)}),
    "no_progress": (lambda x: x**2 + 1, {"x0": 0.7, "method": "dogleg"}),
}


@pytest.mark.parametrize("name", STATUSES)
def test_every_failure_has_its_status(name):
    fn, settings = STATUSES[name]
    found = jk.root(lambda x, _: fn(x), settings.pop("x0", None), **settings)
    assert Status(int(found.status)).name == name
    with pytest.raises(jk.SolverError, match=name):
        found.checked()


def test_random_polynomials_are_never_falsely_solved():
    """2,000 quintics from random starts: each `ok` has a true root nearby, by numpy's eigenvalues."""
    rng = np.random.default_rng(0)
    c, x0 = rng.normal(size=(2000, 6)), rng.normal(size=2000) * 3
    found = jax.jit(jax.vmap(lambda x0, c: jk.root(lambda x, c: jnp.polyval(c, x), x0, c)))(x0, c)
    ok = np.asarray(found.ok)
    assert 0.7 < ok.mean() < 1
    for k in np.flatnonzero(ok):
        roots = np.roots(c[k])
        assert np.min(np.abs(roots - float(found.value[k]))) < 1e-5


def test_complex_roots_and_mixed_trees():
    found = jk.root(lambda z, _: z**2 + 1, 1.0 + 1.0j).checked()
    np.testing.assert_allclose(found.value, 1j, atol=1e-12)
    fn = lambda x, _: [x["a"] ** 2 + x["b"], x["b"] - 4.0]
    found = jk.root(fn, {"a": 1.0 + 1.0j, "b": 3.0}).checked()
    np.testing.assert_allclose(found.value["a"], 2j, atol=1e-9)


def test_the_bracket_is_kept():
    """Newton alone leaves for another root; the safeguarded method stays."""
    fn = lambda x, _: jnp.sin(x)
    assert abs(float(jk.root(fn, 1.6).value)) > 10
    found = jk.root(fn, 1.6, bracket=(1.0, 5.0)).checked()
    np.testing.assert_allclose(found.value, np.pi, rtol=1e-12)


def test_householder_of_functions_without_series():
    for fn, right in ((lambda x, _: jnp.arccos(x) - 1, np.cos(1.0)), (lambda x, _: jax.lax.lgamma(x) - np.log(6), 4.0)):
        found = jk.root(fn, right - 0.1, method="householder3")
        assert found.status == Status.ok
        np.testing.assert_allclose(found.value, right, rtol=1e-14)


def test_orders_of_convergence():
    """One step from 0.1 and from 0.05 away, on either side: halving the error divides the next one by 2^order."""
    omega, away = 0.8526055020137255, jnp.array([-0.1, -0.05, 0.05, 0.1])
    for method, order in (("newton", 2), ("halley", 3), (householder(3), 4), (householder(4), 5)):
        step = lambda d, m=method: history(lambda x, _: x * jnp.exp(x) - 2, omega + d, method=m, max_steps=1).x[1]
        error = np.abs(np.asarray(jax.vmap(step)(away)) - omega)
        assert np.min(error) > 1e-10  # far above rounding
        observed = 0.5 * np.log2(error[0] / error[1] * error[3] / error[2])  # the sides' first corrections cancel
        assert abs(observed - order) < 0.1, method


def test_halley_takes_no_underflow_for_a_root():
    found = jk.root(lambda x, _: 1.6e-75 * jnp.exp(x / 8.55e-7), 8.556e-6, method="halley")
    assert found.status == jk.Status.max_steps


def test_halley_does_not_take_a_flat_point_for_a_root():
    """Its step vanishes where the derivative does: `x^2 + 1` at 0."""
    found = jk.root(lambda x, _: x**2 + 1, 0.0, method="halley")
    assert Status(int(found.status)) == Status.singular


CUSPS = (
    lambda x: jnp.sqrt(x) + 1,
    lambda x: jnp.abs(x) ** 0.3 + 1,
    lambda x: jnp.abs(x - 1) ** 0.3 + 1,
    lambda x: jnp.log(x) + 30,
    lambda x: x**2 - 2e-20,
    lambda x: 1e-170 * (x**2 - 2),
    lambda x: x**2,
    lambda x: (x - 1) ** 3,
    lambda x: jnp.cos(x + jnp.pi / 2),
)
CUSP_ROOTS = np.array([np.nan, np.nan, np.nan, np.exp(-30), 2**0.5 * 1e-10, 2**0.5, 0, 1, 0])


def test_a_short_step_alone_is_no_root_and_small_roots_keep_their_digits():
    """The first three have no root; the others have theirs relative to its size, or where only rounding is left."""
    one = lambda k, x0: jk.root(lambda x, k: jax.lax.switch(k, CUSPS, x), x0, k)
    found = jax.jit(jax.vmap(one))(jnp.arange(9), jnp.array([1.5, 1.5, 1.5, 1e-13, 1.5, 1.5, 1.5, 1.5, 0.5]))
    np.testing.assert_array_equal(found.ok, [False] * 3 + [True] * 6)
    np.testing.assert_allclose(found.value[3:8], CUSP_ROOTS[3:8], rtol=1e-8)
    assert abs(float(found.value[8])) < 1e-15
    assert Status(int(found.status[0])) == Status.not_finite


KINKS = {
    "beside 0": lambda x, c: jnp.abs(x) + c,
    "elsewhere": lambda x, c: jnp.abs(x - 0.7) + c,
    "below": lambda x, c: jnp.minimum(2 * x, -x) - c,
}


@pytest.mark.parametrize("method", ["newton", "robust"])
@pytest.mark.parametrize("kink", KINKS)
@pytest.mark.parametrize(("dtype", "least"), [(jnp.float64, 1e-8), (jnp.float32, 1e-4)])
def test_a_kink_just_above_zero_is_no_root(method, kink, dtype, least):
    starts, heights = np.meshgrid([-3.0, -0.3, 0.05, 1.0, 1000.0], least * 10.0 ** np.arange(4))
    reached = lambda x, c: jk.root(KINKS[kink], x, c, method=method).status
    status = jax.jit(jax.vmap(jax.vmap(reached)))(jnp.asarray(starts, dtype), jnp.asarray(heights, dtype))
    assert np.all(status != Status.ok)


def test_a_kink_in_one_entry_of_a_system_is_no_root():
    fn = lambda v, c: jnp.stack([v[0] - 1, jnp.maximum(v[1] - v[0], 2 * (v[0] - v[1])) + c])
    for method in ("newton", "dogleg", "levenberg_marquardt"):
        assert jk.root(fn, jnp.array([3.0, 4.0]), 1e-7, method=method).status != Status.ok


def test_an_infinite_point_is_no_root():
    found = jk.root(lambda x, _: jnp.maximum(x, -2 * x) + 0.1, jnp.float32(0), method="chord")
    assert found.status != Status.ok


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("power", [0.15, 0.3])
def test_a_cusp_that_leads_up_to_a_jump_is_no_root(power, dtype):
    """Newton's step is short there: 37 % of such brackets in single precision were said to hold a root."""
    rng = np.random.default_rng(0)
    c = rng.uniform(0.2, 3, 2000)
    ends = [jnp.asarray(c + side * 10 ** rng.uniform(-3, 1, 2000), dtype) for side in (-1, 1)]
    jump = lambda u, c: jnp.where(u > c, jnp.abs(u - c) ** power + 0.5, -1.5)
    solved = lambda a, b, c: jk.root(jump, None, c, bracket=(a, b)).status
    status = jax.jit(jax.vmap(solved))(*ends, jnp.asarray(c, dtype))
    assert np.all(status == Status.not_continuous)


@pytest.mark.parametrize("k", [0, 2])
def test_a_falling_residual_does_not_stop_at_a_cusp(k):
    assert not bool(jax.jit(lambda x0: jk.root(lambda x, _: CUSPS[k](x), x0, method="robust"))(1.5).ok)


@pytest.mark.parametrize("method", BRACKETING)
def test_brackets_close_relative_to_the_root(method):
    cases = (
        lambda x: x**2 - 2e-20,
        lambda x: jnp.sin(x - 0.5),
        lambda x: jnp.sign(x - 0.8) * (1 + jnp.abs(x - 0.8) ** 0.3),
    )
    lane = lambda k: jk.root(lambda x, k: jax.lax.switch(k, cases, x), None, k, bracket=(0.0, 2.0), method=method)
    zero = lambda k: jk.root(lambda x, _: jnp.sin(x), None, k, bracket=(-1.0, 2.0), method=method)
    found = jax.jit(lambda ks: (jax.vmap(lane)(ks), zero(ks[0])))(jnp.arange(3))
    np.testing.assert_array_equal(found[0].status, [0, 0, Status.not_continuous])
    np.testing.assert_allclose(found[0].value[:2], [2**0.5 * 1e-10, 0.5], rtol=1e-8)
    assert float(found[1].checked().value) == 0


@pytest.mark.parametrize("method", BRACKETING)
def test_an_end_at_which_the_residual_is_infinite_has_a_sign(method):
    fn = lambda x, _: jnp.log(x) + 2
    found = jk.root(fn, method=method, bracket=(0.0, 3.0))
    assert found.ok
    np.testing.assert_allclose(found.value, np.exp(-2), rtol=1e-9)
    assert jk.root(fn, method=method, bracket=(-1.0, 3.0)).status == Status.not_finite
    for jump in (lambda x, _: jnp.where(x > 1, jnp.inf, -1.0), lambda x, _: 1 / (x - 1)):
        assert jk.root(jump, method=method, bracket=(0.0, 2.0)).status == Status.not_continuous


@pytest.mark.parametrize("method", ["safeguarded", "bisect"])
def test_brackets_beside_zero_where_their_widths_underflow(method):
    solve = lambda fn: jk.root(fn, method=method, bracket=(-3.0, 4.0), max_steps=1200)
    line = solve(lambda x, _: 1e300 * x - 2)
    assert line.ok
    np.testing.assert_allclose(line.value, 2e-300, rtol=1e-9)
    for pole in (lambda x, _: 1 / x, lambda x, _: 1 / (1e302 * x - 1)):
        assert not solve(pole).ok


def test_single_precision_converges_at_its_own_tolerance():
    found = jk.root(lambda x, _: jnp.cos(x) - x, jnp.float32(1.0)).checked()
    assert found.value.dtype == jnp.float32
    assert abs(float(found.value) - 0.7390851) < 1e-6


@pytest.mark.parametrize("method", ["anderson", "picard", "newton"])
def test_fixed_points_and_their_derivative(method):
    solve = jax.jit(
        lambda a: jk.fixed_point(lambda x, a: jnp.cos(a * x), 0.5, a, method=method, rtol=1e-12, atol=1e-12)
    )
    np.testing.assert_allclose(solve(1.0).checked().value, 0.7390851332151607, rtol=1e-10)
    x, h = 0.7390851332151607, 1e-5
    slope = (solve(1 + h).value - solve(1 - h).value) / (2 * h)
    np.testing.assert_allclose(jax.grad(lambda a: solve(a).value)(1.0), slope, rtol=1e-6)
    np.testing.assert_allclose(slope, -x * np.sin(x) / (1 + np.sin(x)), rtol=1e-6)


def test_anderson_is_faster_than_picard():
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 40)))[0]
    matrix = jnp.asarray(vectors @ np.diag(np.linspace(-0.95, 0.95, 40)) @ vectors.T)
    fn = lambda x, _: jnp.tanh(matrix @ x) + 0.1
    fast = jk.fixed_point(fn, jnp.zeros(40)).checked()
    slow = jk.fixed_point(fn, jnp.zeros(40), method="picard", max_steps=1000).checked()
    np.testing.assert_allclose(fast.value, slow.value, atol=1e-7)
    assert int(fast.steps) < 0.5 * int(slow.steps)


def test_many_unknowns_differentiate_by_factoring_and_by_products():
    """Bratu's problem, whose products with the Jacobian hardly converge: its derivative is right, or NaN."""

    def middle(a, jacobian="auto"):
        edges = lambda u: jnp.concatenate([jnp.zeros(1), u, jnp.zeros(1)])
        bratu = lambda u, a: 301**2 * jnp.diff(edges(u), n=2) + a * jnp.exp(u)
        return jk.root(bratu, jnp.zeros(300), a, max_steps=6, jacobian=jacobian).value[150]

    np.testing.assert_allclose(jax.jit(jax.grad(middle))(1.0), 0.159203, rtol=1e-4)
    found = jax.jit(jax.grad(lambda a: middle(a, "krylov")))(1.0)
    assert np.isnan(found) or abs(found - 0.159203) < 1e-5
    matrix = 0.02 * np.random.default_rng(1).normal(size=(300, 300))
    image = lambda x, a: jnp.asarray(matrix) @ x + a
    easy = jax.jit(jax.grad(lambda a: jk.fixed_point(image, jnp.zeros(300), a, jacobian="krylov").value[0]))
    np.testing.assert_allclose(easy(0.3), np.linalg.solve(np.eye(300) - matrix, np.ones(300))[0], rtol=1e-8)


def test_a_root_without_a_slope_has_no_derivative():
    touching = lambda a: jk.root(lambda x, a: (x - 1) ** 2 * a, 1.0, a, method="chord").value
    assert np.isnan(jax.grad(touching)(1.0))


def test_deflation_finds_the_other_root():
    fn = lambda x, _: x**2 - 2
    first = jk.root(fn, 1.0).value
    second = jk.root(deflated(fn, [first]), 1.0, method="damped").checked().value
    np.testing.assert_allclose(second, -first, rtol=1e-8)


BAD = {
    "must return 2 values, as many as `x0` has, but returns 1": (lambda x, _: x[0], np.zeros(2), {}),
    "`method` must be one of": (lambda x, _: x, 1.0, {"method": "newtn"}),
    "`x0` must be given for method 'newton'": (lambda x, _: x, None, {}),
    "`bracket` must be None for method 'newton'": (lambda x, _: x, 1.0, {"method": "newton", "bracket": (0, 1)}),
    "`bracket` must be two numbers": (lambda x, _: x, 1.0, {"method": "bisect"}),
    "`bracket` must be finite": (lambda x, _: x, 1.0, {"bracket": (0, np.inf)}),
    "`x0` must be a scalar": (lambda x, _: x, np.zeros(2), {"bracket": (0.0, 1.0)}),
    "`x0` must hold numbers": (lambda x, _: x, "one", {}),
    "`x0` must hold at least one": (lambda x, _: x, {}, {}),
    "must have a scalar unknown": (lambda x, _: x, np.ones(2), {"method": "householder3"}),
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_input_is_refused_in_one_sentence(sentence):
    fn, x0, settings = BAD[sentence]
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")):
        jk.root(fn, x0, **settings)
