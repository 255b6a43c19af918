"""core.jax_internals: one test for each fact that is read off JAX, and that nothing else reads any."""

import ast
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit
from jaxkit.core import jax_internals as internals
from jaxkit.dynamics.linear.libraries import missing
from jaxkit.tools.doctor import FACTS

HERE = Path("core") / "jax_internals.py"
INTERNAL = ("jax.extend", "jax.interpreters", "jax._src", "jax.core")
TRANSFORMS = {
    "jit": lambda f: jax.jit(f)(1.0),
    "jit, nothing traced at hand": lambda f: jax.jit(lambda x: (f(2.0), x)[1])(1.0),
    "vmap": lambda f: jax.vmap(f)(jnp.ones(3)),
    "grad": lambda f: jax.grad(f)(1.0),
    "second derivative": lambda f: jax.grad(jax.grad(f))(1.0),
    "jvp": lambda f: jax.jvp(f, (1.0,), (1.0,)),
    "linearize": lambda f: jax.linearize(f, 1.0),
    "vmap of grad": lambda f: jax.vmap(jax.grad(f))(jnp.ones(3)),
    "eval_shape": lambda f: jax.eval_shape(f, 1.0),
    "make_jaxpr": lambda f: jax.make_jaxpr(f)(1.0),
    "scan": lambda f: jax.lax.scan(lambda c, x: (f(c), x), 1.0, jnp.ones(3)),
    "while_loop": lambda f: jax.lax.while_loop(lambda x: x < 3.0, f, 1.0),
    "cond": lambda f: jax.lax.cond(jnp.asarray(True), f, lambda x: x, 1.0),
    "map": lambda f: jax.lax.map(f, jnp.ones(3)),
    "checkpoint": lambda f: jax.grad(jax.checkpoint(f))(1.0),
    "shard_map": lambda f: jax.shard_map(f, mesh=mesh(1), in_specs=jax.P(), out_specs=jax.P())(jnp.ones(2)),
}


def mesh(count):
    devices = jax.devices()[:count]
    return jax.make_mesh((count,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,), devices=devices)


def recorder():
    """A function that is to be traced, and what `inside_a_trace` said in it."""
    seen = []

    def function(x):
        seen.append(internals.inside_a_trace())
        return 2.0 * x

    return function, seen


class TestInsideATrace:
    @pytest.mark.parametrize("name", TRANSFORMS)
    def test_a_transformation_is_a_trace(self, name):
        function, seen = recorder()
        TRANSFORMS[name](function)
        assert seen
        assert all(seen)
        assert not internals.inside_a_trace()

    def test_eager_code_is_in_none(self):
        function, seen = recorder()
        function(1.0)
        with jax.disable_jit():
            jax.jit(function)(1.0)
        with jax.set_mesh(mesh(2)):
            function(1.0)
        assert seen == [False] * 3

    def test_a_callback_is_in_none(self):
        function, seen = recorder()
        call = lambda x: jax.pure_callback(lambda v: np.asarray(function(np.asarray(v))), jnp.ones(()), x)
        np.testing.assert_array_equal(jax.jit(call)(1.0), 2.0)
        assert seen == [False]

    def test_after_a_failed_trace_there_is_none(self):
        with pytest.raises(ZeroDivisionError):
            jax.jit(lambda x: x / (1 // 0))(1.0)
        assert not internals.inside_a_trace()

    def test_another_thread_is_in_none_while_this_one_traces(self):
        seen = []

        def function(x):
            thread = threading.Thread(target=lambda: seen.append(internals.inside_a_trace()))
            thread.start()
            thread.join()
            seen.append(internals.inside_a_trace())
            return x

        jax.jit(function)(1.0)
        assert seen == [False, True]

    def test_first_asked_inside_a_trace(self):
        internals._untraced.cache_clear()
        function, seen = recorder()
        jax.jit(function)(1.0)
        assert seen == [True]
        assert not internals.inside_a_trace()


def test_tracers_are_told_from_values():
    seen = []
    for transform in (jax.jit, jax.vmap, jax.grad):
        transform(lambda x: (seen.append(internals.is_tracer(x)), x)[1])(jnp.ones(2) if transform is jax.vmap else 1.0)
    assert seen == [True] * 3
    assert not any(map(internals.is_tracer, (1.0, np.ones(2), jnp.ones(2), jax.ShapeDtypeStruct((), float))))


@pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.vmap])
def test_what_is_closed_over_is_a_constant_that_can_be_replaced(transform):
    table = jnp.arange(100.0)

    def outer(y):
        jaxpr = jax.make_jaxpr(lambda x: jnp.sin(x) * y + table[3])(1.0)
        traced = [internals.is_tracer(c) for c in jaxpr.consts]
        assert sum(traced) == 1
        consts = [3.0 * c if own else c for c, own in zip(jaxpr.consts, traced, strict=True)]
        return internals.evaluate(jaxpr, consts, [jnp.asarray(0.5)])[0]

    given = jnp.full(2, 2.0) if transform is jax.vmap else 2.0
    wanted = 3.0 * np.sin(0.5) if transform is jax.grad else 6.0 * np.sin(0.5) + 3.0
    np.testing.assert_allclose(transform(outer)(given), wanted, rtol=1e-14)


def test_literals_carry_their_value():
    (equation,) = jax.make_jaxpr(lambda x: x * 2.5)(1.0).eqns
    assert [internals.is_literal(v) for v in equation.invars] == [False, True]
    assert equation.invars[1].val == 2.5


def custom_jvp():
    function = jax.custom_jvp(jnp.sin)
    function.defjvp(lambda x, dots: (jnp.sin(x[0]), dots[0]))
    return function


def custom_vjp():
    function = jax.custom_vjp(jnp.sin)
    function.defvjp(lambda x: (jnp.sin(x), None), lambda _, ct: (ct,))
    return function


@pytest.mark.parametrize("make", [lambda: jax.jit(jnp.sin), lambda: jax.checkpoint(jnp.sin), custom_jvp, custom_vjp])
def test_a_call_is_entered(make):
    (equation,) = jax.make_jaxpr(make())(1.0).eqns
    jaxpr, consts = internals.inner_jaxpr(equation)
    assert [e.primitive.name for e in jaxpr.eqns] == ["sin"]
    assert len(consts) == 0


def test_what_is_no_call_is_not_entered():
    (equation,) = jax.make_jaxpr(jax.lax.sin)(1.0).eqns
    assert internals.inner_jaxpr(equation) is None


def test_operands_of_a_scan():
    """One constant, a carry of three, rows of two: told apart by position."""

    def loop(w, carry, rows):
        return jax.lax.scan(lambda c, row: ((c[1], c[2] * w, c[0] + row[0]), row[1]), carry, rows)

    jaxpr = jax.make_jaxpr(loop)(jnp.ones(5)[0], (jnp.ones(2),) * 3, (jnp.ones((4, 2)), jnp.ones(4)))
    (equation,) = (e for e in jaxpr.eqns if e.primitive.name == "scan")
    parts = internals.scan_parts(equation, [v.aval.shape for v in equation.invars])
    assert [list(part) for part in parts] == [[()], [(2,)] * 3, [(4, 2), (4,)]]


@pytest.fixture(scope="module")
def product():
    """`n a b`, a primitive of our own."""
    made = internals.primitive(
        "product", lambda a, b, *, n: n * a * b, lambda a, b, *, n: a.update(shape=b.shape, weak_type=False), static="n"
    )
    internals.bilinear(made, lambda ct, a, b, *, n: made.bind(ct, b, n=n), lambda ct, a, b, *, n: made.bind(a, ct, n=n))

    def rule(args, dims, *, n):
        seen.append(dims)
        assert all(d in (0, None) for d in dims)
        return n * args[0] * args[1], 0

    seen = []
    internals.batched(made, rule)
    return (lambda a, b: made.bind(a, b, n=3)), seen


def test_a_program_of_another_library_is_called_as_often_as_it_is_written():
    if missing() is not None:
        pytest.skip(str(missing()))
    assert FACTS["a program of another library is called as often as it is written, neither merged nor dropped"]()


class TestPrimitives:
    def test_runs_and_is_compiled(self, product):
        f, _ = product
        a, b = jnp.asarray(2.0), jnp.asarray(5.0)
        assert float(f(a, b)) == float(jax.jit(f)(a, b)) == 30.0

    def test_has_both_derivatives_to_any_order(self, product):
        f, _ = product
        a, b = jnp.asarray(2.0), jnp.asarray(5.0)
        assert [float(v) for v in jax.grad(f, (0, 1))(a, b)] == [15.0, 6.0]
        assert float(jax.jvp(f, (a, b), (jnp.ones(()), jnp.ones(())))[1]) == 21.0
        assert float(jax.grad(jax.grad(f), 1)(a, b)) == 3.0

    def test_an_axis_that_is_not_mapped_is_none(self, product):
        f, seen = product
        rows = jnp.arange(3.0)
        np.testing.assert_array_equal(jax.vmap(f, (0, None))(rows, jnp.asarray(5.0)), 15.0 * rows)
        assert seen[-1] == (0, None)


def test_axes_along_which_a_value_varies():
    seen = []

    def local(x, w):
        seen.append((internals.varying(x), internals.varying(w)))
        return x * w

    jax.shard_map(local, mesh=mesh(2), in_specs=(jax.P("rows"), jax.P()), out_specs=jax.P("rows"))(
        jnp.ones(2), jnp.ones(1)
    )
    assert seen[-1] == (frozenset({"rows"}), frozenset())
    assert internals.varying(jnp.ones(2)) == frozenset()


def modules(tree):
    """What a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):  # jax.core.Tracer
            yield ast.unparse(node)


def test_nothing_else_reads_internals():
    root = Path(jaxkit.__file__).parent
    found = {
        (str(path.relative_to(root)), name)
        for path in root.rglob("*.py")
        if path.relative_to(root) != HERE
        for name in modules(ast.parse(path.read_text()))
        if any(name == internal or name.startswith(internal + ".") for internal in INTERNAL)
    }
    assert not found


@pytest.mark.parametrize("kind", ["jit", "scan", "cond", "while", "custom_jvp"])
def test_constants_of_inner_programs_are_found(kind):
    table = jnp.arange(3.0)
    add, bent = lambda x: x + table, jax.custom_jvp(lambda x: x + table)
    bent.defjvp(lambda x, dots: (add(x[0]), dots[0]))
    programs = {
        "jit": jax.jit(add),
        "scan": lambda x: jax.lax.scan(lambda c, _: (jax.jit(add)(c), None), x, None, 2)[0],
        "cond": lambda x: jax.lax.cond(x[0] > 0, add, lambda x: x, x),
        "while": lambda x: jax.lax.while_loop(lambda x: x[0] < 9, add, x),
        "custom_jvp": bent,
    }
    found = internals.constants(jax.make_jaxpr(programs[kind])(jnp.ones(3)))
    assert any(np.array_equal(v, table) for v in found)


@pytest.mark.parametrize(
    "wrap", [lambda f: f, jax.jit, jax.checkpoint, lambda f: lambda x: jax.lax.cond(x[0] > 0, f, f, x)]
)
def test_calls_of_the_host_are_seen(wrap):
    asks = lambda x: jax.pure_callback(lambda v: v, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
    assert internals.calls_back(jax.make_jaxpr(wrap(asks))(jnp.ones(2)))
    assert not internals.calls_back(jax.make_jaxpr(wrap(jnp.sin))(jnp.ones(2)))
