"""The machine under us: precision, data folder, versions, and a canary for compilers that compute wrong numbers."""

import functools
import importlib.metadata
import os
import platform
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxkit.core.checks import one_of

# Compile time of competition's fit 3.5 -> 1.7 CPU seconds, run time 0.5 -> 1.1. Never add the flag
# `--xla_cpu_use_fusion_emitters=false` to it: faster still, but with both jaxlib 0.10.1 computes wrong numbers (the
# Hessian of an eighth-order solve was off by 0.14; each flag alone is right).
FAST_COMPILE = "--xla_backend_optimization_level=0"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "diffrax", "numpy", "matplotlib", "safetensors", "rich", "jaxtyping")


def set_precision(precision: str) -> None:
    """Choose `"single"` (float32) or `"double"` (float64) for every array made from now on.

    jaxkit never does this on import: it is the script's, the command line's or the test-suite's decision.

    Args:
        precision: `"single"` or `"double"`.

    Raises:
        ValueError: `precision` is neither.

    Example:
        >>> import jaxkit as jk
        >>> jk.set_precision("double")
        >>> jax.numpy.ones(()).dtype.name
        'float64'
    """
    one_of("precision", precision, ("single", "double"))
    jax.config.update("jax_enable_x64", precision == "double")


def compile_fast() -> None:
    """Trade run time for compile time in this process: for scripts of many small programs.

    Call it before the first computation. Does nothing where XLA_FLAGS is already set.
    """
    os.environ.setdefault("XLA_FLAGS", FAST_COMPILE)


@functools.cache
def wide_vectors() -> dict[str, int]:
    """Compiler options that let element-wise loops on the CPU use 512-bit vectors, where there are any.

    Pass them as `jax.jit(..., compiler_options=wide_vectors())` to programs that are only called outside a trace.
    """
    options = {"xla_cpu_prefer_vector_width": 512}
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x, compiler_options=options)(0)
    except jax.errors.JaxRuntimeError:  # a compiler without the option
        return {}
    return options


def use_compile_cache() -> None:
    """Keep compiled programs between processes in `$JAXKIT_CACHE`, where that is set (call before the first jit)."""
    folder = os.environ.get("JAXKIT_CACHE")
    if folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def data_root() -> Path:
    """The folder of data sets: `$JAXKIT_DATA`, or `~/.cache/jaxkit`."""
    return Path(os.environ.get("JAXKIT_DATA") or Path.home() / ".cache" / "jaxkit").expanduser()


def versions() -> dict[str, str]:
    """Versions of Python and of every package jaxkit stands on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


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
    """Small programs of the shapes that compilers have got wrong, with their inputs."""
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


def diagnose() -> list[str]:
    """What a newcomer should know of this machine: backend, devices, precision, data, a GPU that is not used."""
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


def canary() -> dict[str, float]:
    """Largest relative difference of jitted from eager results for dozens of kernels.

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
