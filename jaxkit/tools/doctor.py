"""Is this machine fit? A canary for compilers that compute wrong numbers, facts about JAX's internals, a diagnosis.

`python -m jaxkit doctor` shows all of it, and fails if a kernel or a fact is wrong.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkit.compile.scalars import ScalarField
from jaxkit.core import jax_internals as internals
from jaxkit.core.environment import data_root, versions
from jaxkit.dynamics.linear.klu import held
from jaxkit.dynamics.linear.libraries import missing
from jaxkit.dynamics.linear.pattern import from_entries

CANARY_TOLERANCE = 1e-10  # in double precision


def _conv(x: jax.Array, w: jax.Array, stride: int = 1) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, w, (stride, stride), "SAME", dimension_numbers=layout)


def _attend(q: jax.Array) -> jax.Array:
    return jnp.sum(jax.nn.softmax(q @ q.T / 3.0, axis=-1) @ jnp.tanh(q))


def _cell(x: jax.Array, row: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.tanh(x + row), jnp.sum(x * row)


def _heron(a: jax.Array) -> jax.Array:
    step = lambda c: (0.5 * (c[0] + a / c[0]), c[1] + 1)
    return jax.lax.while_loop(lambda c: (c[1] < 60) & (jnp.abs(c[0] ** 2 - a) > 0), step, (a, 0))[0]


def _kernels() -> dict[str, tuple[Callable[..., jax.Array], tuple[jax.Array, ...]]]:
    """Small programs of the kinds that compilers have got wrong, with their inputs."""
    rng = np.random.default_rng(0)
    few, square, rows, image, filters = (
        jnp.asarray(rng.normal(size=shape)) for shape in ((5, 3), (7, 7), (20_000, 3), (2, 8, 8, 3), (3, 3, 3, 4))
    )
    elementwise = {
        "exp": jnp.exp,
        "sin": jnp.sin,
        "tanh": jnp.tanh,
        "erf": jax.scipy.special.erf,
        "log1p": lambda x: jnp.log1p(x**2),
        "softplus": jax.nn.softplus,
        "sigmoid": jax.nn.sigmoid,
        "where": lambda x: jnp.where(x > 0, jnp.sqrt(jnp.abs(x)), x**3),
        "cumsum": lambda x: jnp.cumsum(x, 0) / len(x),
        "sort": lambda x: jnp.sort(x, 0),
        "mean": lambda x: jnp.mean(x, 0),
        "var": lambda x: jnp.var(x, 0),
        "logsumexp": lambda x: jax.nn.logsumexp(x, 0),
        "softmax": lambda x: jax.nn.softmax(x, -1),
        "max": lambda x: jnp.max(x, 1),
        "argmax": lambda x: jnp.argmax(x, 1),
        "norm": lambda x: jnp.linalg.norm(x, axis=1),
        "gram": lambda x: x.T @ x / len(x),
        "gather": lambda x: x[jnp.arange(0, 20_000, 7)][:, ::-1],
        "scatter add": lambda x: jnp.zeros((7, 3), x.dtype).at[jnp.arange(20_000) % 7].add(x / 20_000),
        "segment sum": lambda x: jax.ops.segment_sum(x / 20_000, jnp.arange(20_000) % 11, 11),
        "transpose reshape": lambda x: x.reshape(200, 100, 3).transpose(2, 0, 1).sum(1),
        "associative scan": lambda x: jax.lax.associative_scan(jnp.add, x[:300] / 300),
        "while": lambda x: jax.vmap(_heron)(jnp.abs(x[:200, 0]) + 0.1),
        "scan": lambda x: jax.lax.scan(_cell, x[0], x[:20])[1],
        "scan grad": lambda x: jax.grad(lambda v: jnp.sum(jax.lax.scan(_cell, v, x[:20])[1]))(x[0]),
        "fft": lambda x: jnp.abs(jnp.fft.rfft(x[:256], axis=0)),
    }
    square_only = {
        "solve": lambda m: jnp.linalg.solve(m, m.T),
        "inverse": jnp.linalg.inv,
        "cholesky": lambda m: jnp.linalg.cholesky(m @ m.T + jnp.eye(7, dtype=m.dtype)),
        "eigh": lambda m: jnp.linalg.eigvalsh(m + m.T),
        "svd": lambda m: jnp.linalg.svd(m, compute_uv=False),
        "attention": _attend,
        "attention grad (jax 39264)": jax.grad(_attend),
        "attention hessian": jax.hessian(_attend),
        "jacfwd": lambda m: jax.jacfwd(lambda x: jnp.sin(m @ x))(m[0]),
        "jacrev": lambda m: jax.jacrev(lambda x: jnp.sin(m @ x))(m[0]),
    }
    quadratic = lambda m, r: jnp.sum((m @ r) ** 2)
    return {
        **{name: (kernel, (rows,)) for name, kernel in elementwise.items()},
        **{name: (kernel, (square,)) for name, kernel in square_only.items()},
        "vmap matvec sum (jax 39103)": (lambda m, x: jax.vmap(lambda r: quadratic(m, r))(x), (few, rows)),
        "vmap grad matvec (jax 39257)": (lambda m, x: jax.vmap(jax.grad(lambda r: quadratic(m, r)))(x), (few, rows)),
        "vmap outer": (lambda m, x: jax.vmap(lambda r: jnp.outer(r, r) @ m.T)(x), (few, rows)),
        "matmul": (lambda m, x: x @ m.T, (few, rows)),
        "einsum": (lambda m: jnp.einsum("ij,kj,lj->ikl", m, m, m), (few,)),
        "conv": (_conv, (image, filters)),
        "conv stride 2": (lambda x, w: _conv(x, w, 2), (image, filters)),
        "conv grad input": (jax.grad(lambda x, w: jnp.sum(jnp.sin(_conv(x, w)))), (image, filters)),
        "conv grad filter": (jax.grad(lambda x, w: jnp.sum(jnp.sin(_conv(x, w, 2))), argnums=1), (image, filters)),
    }


def canary() -> dict[str, float]:
    """Largest relative difference between compiled and eager results, for dozens of kernels.

    A healthy compiler stays below about 1e-4 in single and 1e-11 in double precision.

    Returns:
        Kernel name -> difference (infinite where a value is not finite).
    """
    differences = {}
    for name, (kernel, inputs) in _kernels().items():
        with jax.disable_jit():
            eager = np.asarray(kernel(*inputs), float)
        jitted = np.asarray(jax.jit(kernel)(*inputs), float)
        gap = np.max(np.abs(jitted - eager)) / max(1.0, np.max(np.abs(eager)))
        differences[name] = float(gap) if np.isfinite(gap) else float("inf")
    return differences


def _seen_inside(transform: Callable[[Callable[..., Any]], Any]) -> bool:
    """The value of `inside_a_trace` in a function that `transform` traces."""
    seen = []

    def function(x: jax.Array) -> jax.Array:
        seen.append(internals.inside_a_trace())
        return 2.0 * x

    transform(function)
    return all(seen) and bool(seen)


_TRACES: dict[str, Callable[[Callable[..., Any]], Any]] = {
    "jit": lambda f: jax.jit(f)(1.0),
    "a jit of constants": lambda f: jax.jit(lambda x: (f(jnp.ones(())), x)[1])(1.0),
    "vmap": lambda f: jax.vmap(f)(jnp.ones(2)),
    "grad": lambda f: jax.grad(f)(1.0),
    "jvp": lambda f: jax.jvp(f, (1.0,), (1.0,)),
    "eval_shape": lambda f: jax.eval_shape(f, 1.0),
    "scan": lambda f: jax.lax.scan(lambda c, x: (f(c), x), jnp.ones(()), jnp.ones(2)),
    "while": lambda f: jax.lax.while_loop(lambda x: x < 3.0, f, jnp.ones(())),
}


def _no_trace_is_seen() -> bool:
    inside, one = [internals.inside_a_trace()], jnp.ones(())
    callback = lambda x: (inside.append(internals.inside_a_trace()), x)[1]
    jax.block_until_ready(jax.jit(lambda x: jax.pure_callback(callback, one, x))(one))
    return inside == [False, False]


def _tracers_are_known() -> bool:
    seen = []
    jax.jit(lambda x: seen.append(internals.is_tracer(x)))(1.0)
    return seen == [True] and not any(map(internals.is_tracer, (1.0, np.ones(2), jnp.ones(2))))


def _constants_of_jaxprs() -> bool:
    """What a function closes over, even a tracer, is a constant of its jaxpr, and can be replaced by other values."""

    def outer(y: jax.Array) -> jax.Array:
        jaxpr = jax.make_jaxpr(lambda x: jnp.sin(x) * y)(1.0)
        seen.append([internals.is_tracer(c) for c in jaxpr.consts])
        return internals.evaluate(jaxpr, [3.0 * y], [jnp.ones(())])[0]

    seen: list[Any] = []
    result = jax.jit(outer)(2.0)
    return seen == [[True]] and bool(abs(result - 6.0 * np.sin(1.0)) < 1e-5)


def _inner_constants_are_found() -> bool:
    table = jnp.arange(3.0)
    inner = jax.jit(lambda x: jax.lax.cond(x[0] > 0, lambda x: x + table, lambda x: x, x))
    program = jax.make_jaxpr(lambda x: jax.lax.scan(lambda c, _: (inner(c), None), x, None, 2)[0])(jnp.ones(3))
    return any(np.array_equal(v, table) for v in internals.constants(program))


def _literals_are_known() -> bool:
    (equation,) = jax.make_jaxpr(lambda x: x * 2.0)(1.0).eqns
    return [v.val for v in equation.invars if internals.is_literal(v)] == [2.0]


def _calls_are_entered() -> bool:
    jvp, vjp = jax.custom_jvp(jnp.sin), jax.custom_vjp(jnp.sin)
    jvp.defjvp(lambda x, dots: (jnp.sin(x[0]), dots[0]))
    vjp.defvjp(lambda x: (jnp.sin(x), None), lambda _, ct: (ct,))

    def leads_to_sine(function: Callable[..., Any]) -> bool:
        (equation,) = jax.make_jaxpr(function)(1.0).eqns
        inner = internals.inner_jaxpr(equation)
        return inner is not None and [e.primitive.name for e in inner[0].eqns] == ["sin"]

    return all(map(leads_to_sine, (jax.jit(jnp.sin), jax.checkpoint(jnp.sin), jvp, vjp)))


def _everything_elementwise(x: jax.Array) -> list[jax.Array]:
    special = jax.scipy.special
    return [
        jnp.exp(x), jnp.exp2(x), jnp.log(x), jnp.log1p(x), jnp.expm1(x), jnp.sqrt(x), jax.lax.rsqrt(x), jnp.cbrt(x),
        jnp.sin(x), jnp.cos(x), jnp.tan(x), jnp.sinh(x), jnp.cosh(x), jnp.tanh(x), jnp.arcsin(x), jnp.arccos(x),
        jnp.arctan(x), jnp.arctanh(x), jnp.arctan2(x, x), x**3, x**x, x / x, x - x, -x, jnp.abs(x), jnp.sign(x),
        jnp.floor(x), jnp.maximum(x, 1.0), jnp.where(x > 0.1, x, 1.0), jax.nn.sigmoid(x), special.erf(x),
        special.gammaln(x), jnp.clip(x, 0.0, 1.0),
    ]  # fmt: skip


def _fields_become_scalars() -> bool:
    """Element-wise functions, movements of data and short loops are known by name and parameters."""

    def field(t: jax.Array, x: jax.Array, args: jax.Array) -> jax.Array:
        x, _ = jax.lax.scan(lambda c, row: (c + args[0] * row, row), x, jnp.ones((3, 2)))
        moved = jnp.concatenate([x[::-1], jnp.stack([x[0], x[1]])]).reshape(2, 2).T @ args
        return jnp.cumsum(moved) + sum(map(jnp.sum, _everything_elementwise(x))) + jnp.roll(x, 1) * t

    t, x, args = jnp.ones(()), jnp.full(2, 0.1), jnp.full(2, 0.1)
    scalars = ScalarField(field, t, x, args, [False])

    def both(t: jax.Array, x: jax.Array, args: jax.Array) -> tuple[jax.Array, jax.Array]:
        constants = scalars.constants(0, [args], {}, scalars.outputs)
        return jnp.stack(scalars(t, list(x), constants)), field(t, x, args)

    ours, wanted = jax.jit(both)(t, x, args)
    return not scalars.opaque and bool(jnp.max(jnp.abs(ours - wanted)) < 1e-4)


def _primitives_of_our_own() -> bool:
    """A bilinear primitive runs eagerly, compiled and under `vmap`, and has both derivatives."""
    product = internals.primitive(
        "jaxkit_test", lambda a, b, *, n: n * a * b, lambda a, b, *, n: a.update(), static="n"
    )
    scaled = lambda ct, other, n: product.bind(ct, other, n=n)
    internals.bilinear(product, lambda ct, a, b, *, n: scaled(ct, b, n), lambda ct, a, b, *, n: scaled(a, ct, n))
    internals.batched(product, lambda args, dims, *, n: (product.bind(*args, n=n), 0))
    f = lambda a, b: product.bind(a, b, n=3)
    two, five = jnp.asarray(2.0), jnp.asarray(5.0)
    values = [
        f(two, five), jax.jit(f)(two, five), jax.vmap(f)(two[None], five[None])[0], 2 * jax.grad(f)(two, five),
        jax.jvp(f, (two, five), (two, 0 * two))[1], 10 * jax.grad(jax.grad(f), 1)(two, five),
    ]  # fmt: skip
    return all(float(value) == 30.0 for value in values)


def _foreign_programs_are_kept() -> bool:
    """A program of another library is called as often as it is written, where its library is there."""
    if missing() is not None:
        return True
    pattern = from_entries(np.arange(3), np.arange(3), 3)
    twice = lambda e: [held(pattern, e, lambda f: f.solve(jnp.ones(3))) for _ in range(2)]
    with jax.enable_x64(True):  # noqa: FBT003
        text = jax.jit(twice).lower(jnp.ones(3)).compile().as_text() or ""
        values = jax.jit(twice)(2 * jnp.ones(3))
    calls = [text.count(f'custom_call_target="{name}"') for name in ("factor_f64", "jaxkit_release_factors")]
    return calls == [2, 2] and all(bool(jnp.allclose(v, 0.5)) for v in values)


def _varying_is_read_off() -> bool:
    seen = []

    def local(x: jax.Array, w: jax.Array) -> jax.Array:
        seen.append((internals.varying(x), internals.varying(w)))
        return x * w

    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:1])
    jax.shard_map(local, mesh=mesh, in_specs=(jax.P("rows"), jax.P()), out_specs=jax.P("rows"))(
        jnp.ones(2), jnp.ones(())
    )
    return seen[-1] == (frozenset({"rows"}), frozenset())


# What `core.jax_internals` and `compile.scalars` rely on: a sentence, and how to check it.
FACTS: dict[str, Callable[[], bool]] = {
    **{f"inside_a_trace sees {name}": partial(_seen_inside, transform) for name, transform in _TRACES.items()},
    "inside_a_trace sees nothing outside, nor in a callback": _no_trace_is_seen,
    "tracers are told from values": _tracers_are_known,
    "what a function closes over is a constant of its jaxpr, and can be replaced": _constants_of_jaxprs,
    "constants of inner programs are found": _inner_constants_are_found,
    "literals of a jaxpr carry their value": _literals_are_known,
    "calls (jit, checkpoint, custom_jvp, custom_vjp) are entered by their names": _calls_are_entered,
    "element-wise functions, movements of data and short loops are known by name": _fields_become_scalars,
    "a bilinear primitive of our own is compiled, batched and differentiated": _primitives_of_our_own,
    "a program of another library is called as often as it is written, neither merged nor dropped": (
        _foreign_programs_are_kept
    ),
    "the axes of shard_map along which a value varies are read off its type": _varying_is_read_off,
}


def false_facts() -> dict[str, str]:
    """The facts about JAX's internals that do not hold here, each with what was found instead."""
    found = {}
    for sentence, check in FACTS.items():
        try:
            if not check():
                found[sentence] = "is not so"
        except Exception as error:  # a missing internal may fail in any way
            found[sentence] = f"{type(error).__name__}: {error}"
    return found


def diagnose() -> list[str]:
    """What a newcomer should know about this machine: backend, devices, precision, data, a GPU that is not used."""
    devices = jax.devices()
    kinds = sorted({device.device_kind for device in devices})
    lines = [
        f"backend {jax.default_backend()}: {len(devices)} device(s), {', '.join(kinds)}; {os.cpu_count()} cores",
        f"precision {'double' if jax.config.read('jax_enable_x64') else 'single'}",
    ]
    root = data_root()
    there = "" if root.is_dir() else ": not there (set JAXKIT_DATA to the folder of your data sets)"
    lines.append(f"data folder {root}{there}")
    if jax.default_backend() == "cpu" and Path("/proc/driver/nvidia/version").exists():
        lines.append("an NVIDIA driver is present but jax runs on the CPU: pip install 'jaxkit[cuda12]'")
    return lines


def doctor_command(options: argparse.Namespace) -> int:
    """Print what a newcomer should know about this machine; return 1 if its JAX cannot be trusted."""
    del options
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title="versions", show_header=False)
    for name, version in versions().items():
        table.add_row(name, version)
    console.print(table)
    for line in diagnose():
        console.print(line, highlight=False)
    with console.status("running the compiler canary: every kernel eagerly and jitted ..."):
        differences = canary()
    bad = {name: gap for name, gap in differences.items() if gap > CANARY_TOLERANCE}
    for name, gap in bad.items():
        console.print(f"[red]WRONG[/] {name}: jitted and eager results differ by {gap:.1e}")
    agree, worst = len(differences) - len(bad), max(differences.values())
    console.print(f"compiler canary: {agree} of {len(differences)} kernels agree, largest difference {worst:.1e}.")
    wrong = false_facts()
    for sentence, found in wrong.items():
        console.print(f"[red]WRONG[/] {sentence}: {found}", highlight=False)
    console.print(f"JAX's internals: {len(FACTS) - len(wrong)} of {len(FACTS)} facts hold.")
    if bad or wrong:
        console.print("Do not trust this JAX: install another (pyproject.toml lists the releases that are allowed).")
    return 1 if bad or wrong else 0
