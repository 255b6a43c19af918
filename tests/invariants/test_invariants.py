"""What must hold for every verb and every method; the problems are in `registry.py`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from tests.invariants.registry import CASES, Case, Tree, Vector

OK = int(jk.Status.ok)
# (invariant, case) -> why the package fails it today.
KNOWN: dict[tuple[str, str], str] = {
    ("nan", f"{verb}-householder{order}"): "issue 27: from a start that is not a number it says ok"
    for verb in ("root", "fixed_point")
    for order in (3, 4)
}
KNOWN["derivatives", "solve-noise"] = "issue 28: a solve with noise has no derivative by its times"


def over(invariant: str, which=lambda case: True):
    """One test a case: the quick ones, the slow ones, and those that are known to fail."""

    def marks(case: Case) -> list:
        reason = KNOWN.get((invariant, case.name))
        known = [pytest.mark.xfail(strict=True, reason=reason)] if reason else []
        return known + ([] if case.quick else [pytest.mark.slow])

    chosen = [pytest.param(case, id=case.name, marks=marks(case)) for case in CASES if which(case)]
    return pytest.mark.parametrize("case", chosen)


@functools.cache
def program(case: Case, mode: str = "rev"):
    return jax.jit(lambda given: case.one(given, Vector(), mode))


@functools.cache
def batched(case: Case):
    return jax.jit(case.lanes or jax.vmap(lambda given: case.one(given, Vector(), "rev")))


@functools.cache
def lanes(case: Case):
    """Three good lanes, one that fails, and one for every number of the inputs that is not a number."""
    good = [{k: np.asarray(v * scale) for k, v in case.inputs.items()} for scale in (1.0, 1.05, 0.95)]
    poisoned = []
    for name, value in case.inputs.items():
        for i in range(value.size):
            bad = np.array(value)
            bad.reshape(-1)[i] = np.nan
            poisoned.append(dict(case.inputs) | {name: bad})
    every = [*good, dict(case.inputs) | dict(case.failing), *poisoned]
    answer, status = batched(case)({k: jnp.stack([lane[k] for lane in every]) for k in case.inputs})
    return good, jax.tree.map(np.asarray, answer), np.asarray(status)


def on_device(given):
    return {k: jnp.asarray(v) for k, v in given.items()}


def agree(one, other, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, other)


@over("eager")
def test_jit_equals_eager(case):
    given = on_device(case.inputs)
    answer, status = case.one(given, Vector(), "rev")
    compiled, code = program(case)(given)
    assert int(status) == int(code) == OK
    agree(answer, compiled, rtol=1e-9, atol=1e-12)


@over("exact", lambda case: case.exact is not None)
def test_the_answer_is_the_closed_form(case):
    good, answer, status = lanes(case)
    assert status[:3].tolist() == [OK] * 3
    for i, given in enumerate(good):
        exact = case.exact(**on_device(given))
        agree(jax.tree.map(lambda v, i=i: v[i], answer), exact, rtol=case.rtol, atol=case.rtol)


@over("lanes")
def test_a_batch_is_the_loop_and_a_failing_lane_hurts_nobody(case):
    good, answer, status = lanes(case)
    assert status[3] != OK
    for i, given in enumerate(good):
        alone, code = program(case)(on_device(given))
        assert status[i] == int(code) == OK
        agree(jax.tree.map(lambda v, i=i: v[i], answer), alone, rtol=1e-7, atol=1e-9)


@over("nan")
def test_an_input_that_is_not_a_number_is_never_ok(case):
    _, _, status = lanes(case)
    where = [(name, i) for name, value in case.inputs.items() for i in range(value.size)]
    assert len(where) == len(status) - 4
    assert [at for at, code in zip(where, status[4:], strict=True) if code == OK] == []


@over("empty")
def test_no_lanes_are_no_error(case):
    none = {k: jnp.zeros((0, *v.shape)) for k, v in case.inputs.items()}
    answer, status = batched(case)(none)
    assert status.shape == (0,)
    full = jax.eval_shape(program(case), on_device(case.inputs))[0]
    shapes = lambda tree: [v.shape for v in jax.tree.leaves(tree)]
    assert shapes(answer) == [(0, *shape) for shape in shapes(full)]


@over("single")
def test_single_precision_stays_single_also_in_a_pytree(case):
    given = {k: jnp.asarray(v, jnp.float32) for k, v in case.inputs.items()}
    form = Tree() if case.forms else Vector()
    answer, status = jax.jit(lambda given: case.one(given, form, "rev"))(given)
    assert int(status) == OK
    assert {str(v.dtype) for v in jax.tree.leaves(answer)} == {"float32"}
    if case.exact is None or not case.forms or case.name == "solve-noise":  # (its path is another one in float32)
        return
    state = jax.tree.structure(form.pack(given["x0"]))
    assert str(state)[len("PyTreeDef(") : -1] in str(jax.tree.structure(answer)) or case.name.startswith("linearize")
    double = program(case)(on_device(case.inputs))[0]
    flat = lambda tree: np.concatenate([np.ravel(v) for v in jax.tree.leaves(tree)])
    if flat(answer).shape == flat(double).shape:
        np.testing.assert_allclose(np.sort(flat(answer)), np.sort(flat(double)), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("mode", ["fwd", "rev"])
@over("derivatives", lambda case: bool(case.modes))
def test_derivatives_are_central_differences(case, mode):
    if mode not in case.modes:
        pytest.skip("not promised")
    given = on_device(case.inputs)

    def loss(given):
        leaves = jax.tree.leaves(case.one(given, Vector(), mode)[0])
        return sum(jnp.sum(v * jnp.arange(1.0, v.size + 1).reshape(v.shape)) for v in leaves)

    rng = np.random.default_rng(5)
    along = {k: jnp.asarray(rng.uniform(0.5, 1.0, v.shape)) for k, v in given.items()}
    if mode == "rev":
        slopes = jax.jit(jax.grad(loss))(given)
        slope = sum(jnp.sum(slopes[k] * along[k]) for k in given)
    else:
        slope = jax.jit(lambda given, along: jax.jvp(loss, (given,), (along,))[1])(given, along)
    value, h = jax.jit(loss), case.step
    ahead, behind = ({k: given[k] + sign * h * along[k] for k in given} for sign in (1, -1))
    np.testing.assert_allclose(slope, (value(ahead) - value(behind)) / (2 * h), rtol=case.slack, atol=case.slack)
