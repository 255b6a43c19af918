"""Jobs that grow, each at one size in a process of its own: `python -m benchmarks._growth_sizes JOB SIZE`.

It prints one line of JSON: CPU time of the first call (with compiling) and of a later one, and the growth of the peak
memory over that of the imports.
"""

import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import jaxkit as jk
from benchmarks import _harness
from jaxkit import newton
from jaxkit.dynamics.mcmc.diagnostics import effective_sample_size

Job = Callable[[float], Any]


def lorenz96(t: Any, x: Any, force: Any) -> Any:
    """A ring of numbers."""
    return (jnp.roll(x, -1) - jnp.roll(x, 2)) * jnp.roll(x, 1) - x + force


def _starts(n: int, lanes: int) -> Any:
    return 8.0 + 0.1 * np.random.default_rng(0).standard_normal((lanes, n))


def ensemble(method: str) -> Callable[[int], Job]:
    """Ten lanes of a ring."""
    return lambda n: lambda c: jk.ensemble(lorenz96, _starts(n, 10), (0.0, 1.0), 8.0 * c, method=method).final


def sensitivity(n: int) -> Job:
    """All derivatives of one lane of a ring."""
    return lambda c: jk.sensitivity(lorenz96, _starts(n, 1), (0.0, 0.1), jnp.array([8.0 * c]), method="tsit5").x0s


def vmapped_diffrax(n: int) -> Job:
    """The same ten lanes as users of diffrax write them."""

    def one(x: Any, force: Any) -> Any:
        control = diffrax.PIDController(rtol=1e-6, atol=1e-8)
        term, solver = diffrax.ODETerm(lorenz96), diffrax.Tsit5()
        return diffrax.diffeqsolve(term, solver, 0.0, 1.0, None, x, force, stepsize_controller=control).ys

    program = jax.jit(jax.vmap(one, (0, None)))
    return lambda c: program(_starts(n, 10), 8.0 * c)


def network(width: int) -> Job:
    """A thousand motions by a net of two hidden layers, by the default method."""
    r = np.random.default_rng(0)
    shapes = ((4, width), (width, width), (width, 4))
    a, b, d = (r.standard_normal(shape) / shape[0] ** 0.5 for shape in shapes)
    field = lambda t, x, c: jnp.tanh(jnp.tanh(x @ a) @ b) @ d - c * x
    return lambda c: jk.ensemble(field, r.standard_normal((1000, 4)), (0.0, 1.0), c).final


def gradient(max_steps: int) -> Job:
    """The gradient of a solve of 100,000 numbers in some 30 steps."""
    start, span = jnp.ones(10**5), jnp.array([0.0, 1.0])
    loss = lambda c: jnp.sum(jk.solve(lambda t, x, r: -r * x, start, span, c, max_steps=max_steps).final)
    return jax.grad(loss)


def taylor_gradient(n: int) -> Job:
    """The gradient by `n` parameters of a Taylor solve with 1,000 saved times."""
    ts = jnp.linspace(0.0, 1.0, 1000)
    field = lambda t, x, p: -x * jnp.mean(p)
    loss = lambda p: jnp.sum(jk.solve(field, 1.0, ts, p, method="taylor").xs)
    return lambda c: jax.grad(loss)(jnp.full(n, c))


def fit_by_data(n: int) -> Job:
    """The derivative of a fit of `n` parameters to `10 n` numbers by these."""
    r = np.random.default_rng(0)
    matrix, data = jnp.asarray(r.standard_normal((10 * n, n)) / n**0.5), jnp.asarray(r.standard_normal(10 * n))
    residuals = lambda p, y: matrix @ p + 0.01 * (matrix @ p) ** 2 - y
    return lambda c: jax.grad(lambda y: jnp.sum(jk.least_squares(residuals, jnp.zeros(n), y).params))(c * data)


def diagonal(n: int) -> Job:
    """Newton's method over 500 steps of a gated unit, with diagonals of the Jacobians."""
    r = np.random.default_rng(0)
    a, b = (jnp.asarray(0.9 * r.standard_normal((n, n)) / n**0.5) for _ in range(2))
    inputs = jnp.asarray(r.standard_normal((500, n)))

    def step(h: Any, x: Any, c: Any) -> Any:
        gate = jax.nn.sigmoid(b @ h + c * x)
        return (1 - gate) * h + gate * jnp.tanh(a @ h + x), h[:1]

    method = jk.ParallelNewton(jacobian="diagonal")
    return lambda c: jk.unroll(step, jnp.zeros(n), inputs, c, method=method).final


def equilibria(k: int) -> Job:
    """Rest points from `k` starts."""
    return lambda c: jk.equilibria(lambda t, x, a: jnp.sin(a * x), jnp.linspace(-30.0, 30.0, k)[:, None], 4 * c).found


def polynomial(n: int) -> Job:
    """All roots of a polynomial."""
    coefficients = np.random.default_rng(0).standard_normal(n + 1)
    return lambda c: newton.polynomial_roots(c * coefficients).value


def numpy_roots(n: int) -> Job:
    """The same by eigenvalues."""
    coefficients = np.random.default_rng(0).standard_normal(n + 1)
    return lambda c: np.roots(c * coefficients)


def continuation(n: int) -> Job:
    """Five steps along a branch of `n` unknowns."""
    matrix = jnp.asarray(0.3 * np.random.default_rng(0).standard_normal((n, n)) / n**0.5 - np.eye(n))
    return lambda c: (
        jk.continuation(lambda t, x, p: matrix @ x + p - 0.1 * x**3, jnp.zeros(n), 0.0, step=0.1 * c, steps=5).x
    )


def diagnostics(draws: int) -> Job:
    """Effective sample sizes of 20 numbers of 100 chains."""
    xs = jax.random.normal(jax.random.key(0), (draws, 100, 20))
    return lambda c: effective_sample_size(xs * c)


JOBS: dict[str, tuple[Callable[[int], Job], tuple[int, ...]]] = {
    "ensemble, taylor": (ensemble("taylor"), (10, 100, 1000, 10000)),
    "ensemble, tsit5": (ensemble("tsit5"), (10, 100, 1000, 10000)),
    "ensemble, vmapped diffrax": (vmapped_diffrax, (10, 100, 1000, 10000)),
    "sensitivity": (sensitivity, (10, 100, 1000)),
    "neural net, width": (network, (10, 100)),
    "gradient, max_steps": (gradient, (1000, 10**4, 10**6)),
    "taylor's gradient, 1,000 times": (taylor_gradient, (10, 100, 1000)),
    "least_squares by data": (fit_by_data, (10, 100, 300)),
    "unroll, diagonals": (diagonal, (10, 100, 300)),
    "equilibria": (equilibria, (1000, 10**4, 10**5)),
    "polynomial_roots": (polynomial, (10, 100, 1000)),
    "polynomial_roots, numpy": (numpy_roots, (10, 100, 1000)),
    "continuation": (continuation, (10, 100)),
    "effective sample size": (diagnostics, (1000, 10**4)),
}


def measured(name: str, size: int) -> dict[str, float]:
    """One job in this process."""
    jk.set_precision("double")
    job = JOBS[name][0](size)
    jax.block_until_ready(jnp.ones(3) + 1)
    before, clock = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    _harness.wait(job(1.0))
    first, clock = time.process_time() - clock, time.process_time()
    _harness.wait(job(1.0 + 1e-3))
    later = time.process_time() - clock
    return {"first s": first, "run s": later, "MB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3}


def table(*, quick: bool) -> list[dict[str, Any]]:
    """Every job at every size, each in a fresh process, with the exponents of time and memory from the last two."""
    rows: list[dict[str, Any]] = []
    for name, (_, sizes) in JOBS.items():
        known: list[dict[str, Any]] = []
        for size in sizes[: 1 if quick else None]:
            command = [sys.executable, "-m", "benchmarks._growth_sizes", name, str(size)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
            row: dict[str, Any] = {"job": name, "size": size}
            row |= json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"lost": done.returncode}
            if known and "run s" in row and "run s" in known[-1]:
                for key in ("run s", "MB"):
                    ratio = max(row[key], 1e-6) / max(known[-1][key], 1e-6)
                    row[f"{key}, exponent"] = math.log(ratio) / math.log(size / known[-1]["size"])
            known.append(row)
            print(_harness.table([row]), flush=True)
        rows += known
    return rows


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], int(sys.argv[2]))))
