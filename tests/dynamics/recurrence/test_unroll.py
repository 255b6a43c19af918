"""`unroll`: all methods give the same states and the same derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxkit as jk
from jaxkit.dynamics.recurrence.associative import affine_scan

LENGTH, WIDTH = 37, 3
rng = np.random.default_rng(0)
PARAMS = {"w": jnp.asarray(0.6 * rng.normal(size=(WIDTH, WIDTH))), "u": jnp.asarray(rng.normal(size=(2, WIDTH)))}
XS = jnp.asarray(rng.normal(size=(LENGTH, 2)))
START = jnp.asarray(rng.normal(size=WIDTH))


def tanh_cell(state, x, params):
    state = jnp.tanh(state @ params["w"] + x @ params["u"])
    return state, {"sum": jnp.sum(state), "before": x * 2}


def run(params, start, xs, **options):
    return jk.unroll(tanh_cell, start, xs, params, **options)


NEWTON = {
    "full": {},
    "diagonal": {"jacobian": "diagonal"},
    "damped": {"damping": 0.3},
    "picard": {"damping": 1.0},
}


@pytest.mark.parametrize("variant", NEWTON)
def test_newton_equals_scan(variant):
    scan = jax.jit(lambda: run(PARAMS, START, XS, method="scan"))().checked()
    newton = jax.jit(lambda: run(PARAMS, START, XS, method=jk.ParallelNewton(**NEWTON[variant])))().checked()
    np.testing.assert_allclose(newton.final, scan.final, atol=1e-10, rtol=0)
    np.testing.assert_allclose(newton.ys["sum"], scan.ys["sum"], atol=1e-10, rtol=0)
    np.testing.assert_array_equal(newton.ys["before"], 2 * XS)
    assert 1 < int(newton.iterations) <= LENGTH + 1
    assert int(scan.iterations) == 0


@pytest.mark.parametrize("variant", ["full", "diagonal"])
def test_newton_derivatives_equal_those_of_scan(variant):
    def loss(given, **options):
        return jnp.sum(jnp.sin(run(*given, **options).ys["sum"]))

    given = (PARAMS, START, XS)
    newton = lambda g: loss(g, method=jk.ParallelNewton(**NEWTON[variant]))
    scan = jax.jit(jax.grad(lambda g: loss(g, method="scan")))(given)
    reverse, forward = jax.jit(jax.grad(newton))(given), jax.jit(jax.jacfwd(newton))(given)
    for theirs, ours, also in zip(*map(jax.tree.leaves, (scan, reverse, forward)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-10)
        np.testing.assert_allclose(also, theirs, atol=1e-10)
        assert float(jnp.max(jnp.abs(theirs))) > 1e-3


@pytest.mark.slow
def test_newton_second_order():
    short = XS[:5]
    fn = jax.jit(lambda w, start: run({**PARAMS, "w": w}, start, short, method="parallel_newton").final)
    check_grads(fn, (PARAMS["w"], START), order=2, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5)


def test_newton_arrives_at_chaos():
    """The logistic map at r = 4 amplifies every error; causality still makes Newton arrive."""
    chaos = lambda x, n, r: (r * x * (1 - x),) * 2
    methods = ("scan", "parallel_newton")
    scan, newton = (jk.unroll(chaos, 0.3, args=4.0, length=60, method=method).checked() for method in methods)
    np.testing.assert_allclose(newton.ys[:25], scan.ys[:25], atol=1e-6)  # beyond, rounding itself is amplified to 1
    residual = newton.ys[1:] - 4 * newton.ys[:-1] * (1 - newton.ys[:-1])
    assert float(jnp.max(jnp.abs(residual))) < 1e-10


def test_newton_reports_and_continues():
    poor = run(PARAMS, START, XS, method=jk.ParallelNewton(max_steps=2))
    assert jk.Status(int(poor.status)) == jk.Status.max_steps
    with pytest.raises(jk.SolverError, match="unroll: max_steps"):
        poor.checked()
    states = jk.unroll(lambda s, x, p: (tanh_cell(s, x, p)[0],) * 2, START, XS, PARAMS).ys
    warm = run(PARAMS, START, XS, method=jk.ParallelNewton(guess=states))
    assert int(warm.iterations) == 1


def test_vmap_equals_loop():
    starts = jnp.stack([START, -START, 0 * START])
    for method in ("scan", "parallel_newton", jk.Scan(checkpoint_every=5)):
        many = jax.vmap(lambda s, m=method: run(PARAMS, s, XS, method=m))(starts)
        assert many.status.shape == (3,)
        np.testing.assert_allclose(many.final[1], run(PARAMS, -START, XS).final, atol=1e-12)


@pytest.mark.parametrize("every", [1, 6, 100])
def test_checkpoints_change_nothing(every):
    loss = lambda p, every: jnp.sum(run(p, START, XS, method=jk.Scan(every)).ys["sum"] ** 2)
    plain, kept = (jax.jit(jax.value_and_grad(lambda p, e=e: loss(p, e)))(PARAMS) for e in (None, every))
    for one, two in zip(jax.tree.leaves(plain), jax.tree.leaves(kept), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12)


def test_checkpoints_save_memory():
    xs = jnp.zeros((10_000, 2))
    reserved = {}
    for every in (None, 100):
        gradient = jax.grad(lambda p, e=every: jnp.sum(run(p, START, xs, method=jk.Scan(e)).final ** 2))
        reserved[every] = jax.jit(gradient).lower(PARAMS).compile().memory_analysis().temp_size_in_bytes
    assert reserved[None] > 20 * reserved[100], reserved


class Leaky:
    """The least linear cell."""

    def __call__(self, state, x, params):
        decay, drive = self.affine(x, params)
        state = decay * state + drive
        return state, self.readout(state, x, params)

    def affine(self, xs, params):
        return jnp.exp(-jnp.abs(xs @ params["u"])), xs @ params["u"]

    def readout(self, state, x, params):
        return state[..., :2] * x


def test_associative_equals_scan():
    loss = lambda p, method: jnp.sum(jk.unroll(Leaky(), START, XS, p, method=method).ys ** 2)
    one, two = (jax.jit(jax.value_and_grad(lambda p, m=m: loss(p, m)))(PARAMS) for m in ("scan", "associative"))
    np.testing.assert_allclose(one[0], two[0], rtol=1e-12)
    np.testing.assert_allclose(one[1]["u"], two[1]["u"], rtol=1e-10)
    newton = jk.unroll(Leaky(), START, XS, PARAMS, method="parallel_newton").checked()
    assert int(newton.iterations) <= 2  # linear: one iteration finds it, one sees that


def test_affine_scan_both_ways():
    a, b = jnp.asarray(rng.normal(size=(9, 2, 2))), jnp.asarray(rng.normal(size=(9, 2)))
    for reverse in (False, True):
        h, expected = START[:2], []
        for t in reversed(range(9)) if reverse else range(9):
            h = a[t] @ h + b[t]
            expected.append(h)
        expected = jnp.stack(expected[::-1] if reverse else expected)
        np.testing.assert_allclose(affine_scan(a, b, START[:2], reverse=reverse), expected, rtol=1e-11)


def test_inputs_are_the_number_of_the_step():
    count = jk.unroll(lambda s, n, _: (s + n, n), 0, length=5)
    assert count.ys.tolist() == [0, 1, 2, 3, 4]
    assert int(count.final) == 10


def test_blow_up_is_a_status():
    run = jk.unroll(lambda s, n, _: (s**2,) * 2, 10.0, length=20)
    assert jk.Status(int(run.status)) == jk.Status.not_finite
    lanes = jax.vmap(lambda s: jk.unroll(lambda s, n, _: (s**2,) * 2, s, length=20))(jnp.array([0.5, 10.0]))
    with pytest.raises(jk.SolverError, match=r"1 of 2 lanes failed, the first at index 1"):
        lanes.checked()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"method": "deer"}, "Argument `method` must be one of .*but is 'deer'"),
        ({"method": 3}, "Argument `method` must be a name or a method, but is 3"),
        ({"length": 3}, "Argument `length` must be the length of `inputs`, 37, but is 3"),
        ({"method": "associative"}, "Argument `step` must be linear for method 'associative'"),
        (
            {"method": jk.ParallelNewton(guess=jnp.zeros((2, 3)))},
            r"Argument `guess` must have the shapes of the states",
        ),
    ],
)
def test_bad_options(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        run(PARAMS, START, XS, **options)


def test_bad_cells_and_inputs():
    with pytest.raises(ValueError, match="Argument `length` must be positive where `inputs` is None, but is None"):
        jk.unroll(tanh_cell, START, None, PARAMS)
    with pytest.raises(ValueError, match="Argument `inputs` must have one common, positive length"):
        jk.unroll(tanh_cell, START, (XS, XS[:3]), PARAMS)
    with pytest.raises(ValueError, match=r"Argument `step` must return a pair \(x, y\), but returns"):
        jk.unroll(lambda s, x, p: s, START, XS, PARAMS)
    with pytest.raises(ValueError, match="Argument `step` must return a state like `x0`"):
        jk.unroll(lambda s, x, p: (s[:2], s), START, XS, PARAMS)
    with pytest.raises(ValueError, match="Argument `x0` must be floating for method 'parallel_newton'"):
        jk.unroll(lambda s, n, _: (s + 1, s), 0, length=4, method="parallel_newton")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: jk.ParallelNewton(damping=2.0), "Argument `damping` must lie between 0 and 1, but is 2.0"),
        (lambda: jk.ParallelNewton(jacobian="none"), "Argument `jacobian` must be one of 'full', 'diagonal'"),
        (lambda: jk.Scan(0), "Argument `checkpoint_every` must be a positive number of steps, but is 0"),
    ],
)
def test_bad_settings_of_methods(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize("method", ["scan", "parallel_newton", "associative"])
def test_an_output_that_is_not_a_number_is_never_ok(method):
    class Poor(Leaky):
        def readout(self, state, x, params):
            return jnp.sqrt(x[..., 0])  # negative somewhere

    assert int(jk.unroll(Poor(), START, XS, PARAMS, method=method).status) == jk.Status.not_finite
    assert bool(jk.unroll(Poor(), START, jnp.abs(XS), PARAMS, method=method).ok)
