"""Sparse and Krylov solves beside dense ones: patterns, factors, and what the verbs make of them."""

import os
import resource
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit.dynamics.linear import blocks, klu, krylov, ways
from jaxkit.dynamics.linear.libraries import missing
from jaxkit.dynamics.linear.pattern import pattern_of

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
SIZE = 120


def shifted(x, by):
    return jnp.concatenate([x[by:], jnp.zeros(by)]) if by > 0 else jnp.concatenate([jnp.zeros(-by), x[:by]])


def coupled(x, a):
    """Neighbours, one far column and one far row."""
    return a * x**3 + 3 * x - shifted(x, 1) - 0.5 * shifted(x, -1) + 0.1 * x[7] - 1 + jnp.zeros(x.size).at[3].set(x[-1])


def bratu(x, a):
    return (shifted(x, 1) - 2 * x + shifted(x, -1)) * (x.size + 1) ** 2 + a * jnp.exp(x)


def heat(t, x, a):
    del t
    return a * (shifted(x, 1) - 2 * x + shifted(x, -1)) * (x.size + 1) ** 2


@pytest.fixture(scope="module")
def matrix():
    x = jnp.asarray(np.random.default_rng(0).normal(size=SIZE))
    push = jax.linearize(lambda x: coupled(x, 1.3), x)[1]
    pattern = pattern_of(lambda x: coupled(x, 1.3), x)
    return pattern, pattern.entries(push, x), jax.jacfwd(coupled)(x, 1.3), jnp.cos(jnp.arange(0.0, SIZE))


def test_all_entries_are_read_in_few_products(matrix):
    pattern, entries, dense, _ = matrix
    found = jnp.zeros((SIZE, SIZE)).at[pattern.rows, pattern.columns].set(entries)
    np.testing.assert_array_equal(found, dense)
    assert pattern.count <= 6
    assert len(pattern.rows) <= 5 * SIZE


def test_the_pattern_holds_for_what_a_function_closes_over():
    seen = []

    @jax.jit
    def traced(a):
        seen.append(pattern_of(lambda x: coupled(x, a), jnp.zeros(SIZE)))
        return a

    traced(2.0)
    assert seen[0].count <= 6
    assert seen[0] is pattern_of(
        lambda x: coupled(x, 5.0), jnp.zeros(SIZE)
    )  # one object, with one order of elimination


def test_the_width_of_a_grid():
    x = jnp.zeros((20, 30))
    plane = lambda v: (lambda x: jnp.roll(x, 1, 0) + x + jnp.roll(x, 1, 1))(v.reshape(x.shape)).ravel()
    line = lambda v: shifted(v, 1) + v
    assert 20 <= pattern_of(plane, x.ravel()).width <= 60
    assert pattern_of(line, x.ravel()).width == 1


def test_factors_solve_both_ways_and_in_batches(matrix):
    pattern, entries, dense, right = matrix
    wanted, back = jnp.linalg.solve(dense, right), jnp.linalg.solve(dense.T, right)
    np.testing.assert_allclose(klu.solve(pattern, entries, right), wanted, rtol=1e-11)
    np.testing.assert_allclose(klu.solve(pattern, entries, right, transposed=True), back, rtol=1e-11)
    use = lambda e, r: klu.held(pattern, e, lambda f: {"u": f.solve(r), "v": f.solve(f.solve(r, transposed=True))})
    found = jax.jit(lambda e, r: (use(e, r), use(e, 2 * r)))(entries, right)  # one matrix, factored twice
    np.testing.assert_allclose(found[0]["u"], wanted, rtol=1e-11)
    np.testing.assert_allclose(found[1]["v"], 2 * jnp.linalg.solve(dense, back), rtol=1e-11)
    scales = jnp.array([1.0, 2.0, 4.0])
    many = jax.vmap(use)(jnp.outer(scales, entries), jnp.stack([right] * 3))["u"]
    np.testing.assert_allclose(scales[:, None] * many, jnp.stack([wanted] * 3), rtol=1e-11)
    np.testing.assert_allclose(
        jax.vmap(use, (None, 0))(entries, jnp.outer(scales, right))["u"][2], 4 * wanted, rtol=1e-11
    )
    np.testing.assert_allclose(jax.vmap(use, (0, None))(entries[None], right)["u"][0], wanted, rtol=1e-11)


def test_factors_never_raise(matrix):
    pattern, entries, _, right = matrix
    assert jnp.all(jnp.isnan(klu.solve(pattern, entries.at[5].set(jnp.nan), right)))
    for bad in (0 * entries, entries.at[pattern.rows == 9].set(0), entries.at[pattern.columns == 9].set(0)):
        found = klu.solve(pattern, bad, right)  # singular: large, as rounding makes it
        assert not jnp.all(jnp.isfinite(found)) or jnp.max(jnp.abs(found)) > 1e10


def test_factors_are_let_go():
    size = 4000
    pattern = pattern_of(lambda x: bratu(x, 1.0), jnp.zeros(size))
    entries = pattern.entries(lambda v: 3 * v - shifted(v, 1) - shifted(v, -1), jnp.zeros(size))
    use = lambda r: klu.held(pattern, entries, lambda f: f.solve(r))

    @jax.jit
    def many(r, count):
        return jax.lax.fori_loop(0, count, lambda _, r: use(r), r)

    many(jnp.ones(size), 20).block_until_ready()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    many(jnp.ones(size), 400).block_until_ready()  # about half a megabyte each
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000


def test_gmres_converges_or_says_no(matrix):
    _, _, dense, right = matrix
    wanted = jnp.linalg.solve(dense, right)
    sizes = jnp.array([1.0, 1e-200, 1e200, 0.0])
    solve = lambda size: krylov.solve(lambda v: dense @ v, size * right, jnp.diagonal(dense))
    found = jax.jit(jax.vmap(solve))(sizes)
    np.testing.assert_allclose(found[:3] / sizes[:3, None], jnp.stack([wanted] * 3), rtol=1e-7)
    assert jnp.all(found[3] == 0)
    turn = lambda v: jnp.roll(v, 1)  # no progress before the last vector
    assert jnp.all(jnp.isnan(krylov.solve(turn, jnp.zeros(SIZE).at[0].set(1.0))))


def plane(x, side, weight=1.0):
    w = jnp.pad(x.reshape(side, -1), 1)
    return (4 * w[1:-1, 1:-1] - weight * (w[2:, 1:-1] + w[:-2, 1:-1]) - w[1:-1, 2:] - w[1:-1, :-2]).ravel()


@pytest.mark.slow
def test_blocks_of_neighbours_make_gmres_converge():
    side, size = 40, 1600
    product = lambda x: plane(x, side)
    pattern = pattern_of(product, jnp.zeros(size))
    assert sorted(pattern.blocks.members[pattern.blocks.members < size]) == list(range(size))
    about = blocks.preconditioner(
        pattern.blocks, pattern.rows, pattern.columns, pattern.entries(product, jnp.zeros(size))
    )
    right = jnp.cos(jnp.arange(0.0, size))
    near = lambda v: about(product, v)
    for _ in range(30):  # what it leaves shrinks by itself
        right = right - product(near(right))
    assert float(jnp.linalg.norm(right)) < 1e-3 * (size / 2) ** 0.5
    found = krylov.solve(product, right, 4 * jnp.ones(size), about)
    np.testing.assert_allclose(product(found), right, atol=1e-9 * float(jnp.linalg.norm(right)))
    useless = lambda product, v: jnp.zeros_like(v).at[0].set(jnp.sum(v))  # then the diagonal is used after all
    small = krylov.solve(lambda x: plane(x, 5), right[:25], 4 * jnp.ones(25), useless)
    np.testing.assert_allclose(plane(small, 5), right[:25], atol=1e-9 * float(jnp.linalg.norm(right[:25])))


@pytest.mark.slow
def test_poisson_in_two_dimensions_by_products_alone():
    side = 100  # with the diagonal alone it does not converge
    fn = lambda x, a: plane(x, side) + a * x**3 - 1e-3
    middle = lambda a, how: jk.root(fn, jnp.zeros(side**2), a, jacobian=how).checked().value[5050]
    for a in (0.0, 0.1):
        np.testing.assert_allclose(middle(a, "krylov"), middle(a, "sparse"), rtol=1e-8)
    found = jax.grad(lambda a: jk.root(fn, jnp.zeros(side**2), a, jacobian="krylov").value[5050])(0.1)
    np.testing.assert_allclose(found, (middle(0.101, "sparse") - middle(0.099, "sparse")) / 0.002, rtol=1e-4)


def test_what_auto_chooses():
    here = lambda size: jnp.zeros(size)
    name = lambda fn, x, how="auto", **more: ways.chosen(fn, x, how, **more).name
    thin, full = (lambda x: bratu(x, 1.0)), (lambda x: x * jnp.sum(x))
    assert name(thin, here(20)) == "dense"
    assert name(thin, here(200)) == "sparse"
    assert name(full, here(200)) == "dense"
    assert name(full, here(5000)) == "krylov"
    assert name(thin, here(200), krylov_above=10.0) == "krylov"
    assert name(thin, jnp.zeros(200, complex)) == "dense"
    assert name(lambda x: jax.pure_callback(lambda v: v, x, x), here(200)) == "dense"  # not looked through
    with pytest.raises(ValueError, match="for complex unknowns"):
        ways.chosen(thin, jnp.zeros(200, complex), "sparse")
    with pytest.raises(ValueError, match="must be one of 'auto', 'dense', 'sparse', 'krylov'"):
        ways.chosen(thin, here(200), "thin")


@pytest.mark.parametrize("inside", [False, True], ids=["", "with double precision for a while"])
def test_the_libraries_leave_the_precision_alone(inside):
    text = f"""
        import contextlib, jax, jax.numpy as jnp, jaxkit as jk
        fn = lambda x, a: x**3 + 3 * x - a * jnp.concatenate([x[1:], x[:1]])
        with jax.enable_x64(True) if {inside} else contextlib.nullcontext():
            found = jk.root(fn, jnp.ones(200), 1.0)
            print(found.value.dtype, bool(found.ok))
        print(jnp.ones(1).dtype, jax.config.jax_enable_x64)"""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout.split() == ["float64" if inside else "float32", "True", "float32", "False"], done.stderr


def test_without_the_libraries_one_sentence(monkeypatch):
    monkeypatch.setattr(ways, "missing", lambda: "`pip install 'jaxkit[sparse]'` looks for its zeros")
    ways.hint.cache_clear()
    with pytest.warns(
        UserWarning, match=r"Jacobian of 600 unknowns is taken as dense; `pip install 'jaxkit\[sparse\]'`"
    ):
        assert ways.chosen(lambda x: bratu(x, 1.0), jnp.zeros(600), "auto").name == "dense"
    assert ways.chosen(lambda x: bratu(x, 1.0), jnp.zeros(600), "auto").name == "dense"  # said once
    with pytest.raises(ValueError, match=r"without jaxkit\[sparse\]"):
        ways.chosen(lambda x: bratu(x, 1.0), jnp.zeros(600), "sparse")


@pytest.mark.parametrize("method", ["newton", pytest.param("chord", marks=pytest.mark.slow)])
def test_roots_and_their_derivatives_are_those_of_dense_factors(method):
    def middle(a, jacobian):
        found = jk.root(bratu, jnp.zeros(SIZE), a, method=method, jacobian=jacobian)
        return found.value[SIZE // 2], found.status

    of = lambda jacobian: jax.jit(jax.value_and_grad(lambda a: middle(a, jacobian), has_aux=True))(1.0)
    (wanted, _), slope = of("dense")
    for jacobian in ("sparse", "krylov") if method == "newton" else ("sparse",):
        (value, status), found = of(jacobian)
        assert int(status) == 0
        np.testing.assert_allclose(value, wanted, rtol=1e-10)
        np.testing.assert_allclose(found, slope, rtol=1e-8)


def test_the_derivative_of_bratu_in_one_dimension():
    middle = lambda a: jk.root(bratu, jnp.zeros(1999), a).checked().value[999]
    np.testing.assert_allclose(jax.grad(middle)(1.0), 0.159203, rtol=1e-5)  # exact .159203, above 256 unknowns


def test_methods_that_need_every_entry_say_so():
    with pytest.raises(ValueError, match="Argument `jacobian` must be 'auto' or 'dense' with the method 'robust'"):
        jk.root(bratu, jnp.zeros(SIZE), 1.0, method="robust", jacobian="sparse")
    with pytest.raises(ValueError, match="'rodas5p' takes others"):
        jk.solve(heat, jnp.ones(SIZE), jnp.array([0.0, 0.1]), 1.0, method=jk.RungeKutta("kvaerno5", jacobian="sparse"))


def test_heat_by_sparse_factors():
    size = 1000
    places = jnp.linspace(0, 1, size + 2)[1:-1]
    start = jnp.sin(jnp.pi * places)
    found = jk.solve(heat, start, jnp.array([0.0, 0.1]), 1.0, method="rodas5p").checked()
    rate = (2 * (size + 1) * np.sin(np.pi / 2 / (size + 1))) ** 2
    np.testing.assert_allclose(found.final, np.exp(-0.1 * rate) * start, rtol=1e-7)
    assert int(found.steps) < 40


def loss(a, jacobian, method="rodas5p"):
    field = lambda t, x, a: heat(t, x, a[0]) + a[1] * x**2 + jnp.sin(t)
    start = jnp.sin(jnp.linspace(0, jnp.pi, SIZE + 2)[1:-1])
    method = jk.RungeKutta(method, jacobian=jacobian)
    found = jk.solve(field, start, jnp.array([0.0, 0.05, 0.2]), a, method=method)
    return jnp.sum(found.xs**2 @ jnp.cos(jnp.arange(0.0, SIZE)))


@pytest.mark.slow
@pytest.mark.parametrize("jacobian", ["sparse", "krylov"])
def test_derivatives_of_a_solve_are_those_of_dense_factors(jacobian):
    a = jnp.array([0.1, 0.5])
    of = {
        "grad": jax.grad,
        "jacfwd": jax.jacfwd,
        "vmap of grad": lambda f: jax.vmap(jax.grad(f), (0, None)),
    }
    for name, transform in of.items():
        at = jnp.stack([a, 1.2 * a]) if name == "vmap of grad" else a
        wanted, found = transform(loss)(at, "dense"), transform(loss)(at, jacobian)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.slow
def test_auto_follows_large_stiff_motions():
    a = jnp.array([1.0, 0.5])
    np.testing.assert_allclose(loss(a, "auto", "auto"), loss(a, "dense"), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(loss)(a, "auto", "auto"), jax.grad(loss)(a, "dense"), rtol=1e-3)
