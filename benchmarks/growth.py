"""CLAIM: a verb called again, as people call it in a notebook, compiles nothing and keeps no memory.

Each verb is called outside of `jit` with a fresh lambda and other numbers, many times: CPU time of a call after the
first, growth of the process a call, and the same job by the peer, whose call is inside a `jit` of the user's own.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import optax
import optimistix

import jaxkit as jk
from benchmarks import _growth_sizes, _harness
from jaxkit import newton

jk.set_precision("double")
TIMES = jnp.linspace(0.0, 3.0, 20)
DATA = 5 * jnp.exp(-0.5 * TIMES)
SPAN = jnp.array([0.0, 1.0])

OURS: dict[str, Callable[[float], Any]] = {
    "root": lambda c: jk.root(lambda x, a: x**3 - a, 1.0, 2.0 * c).value,
    "root, bracket": lambda c: jk.root(lambda x, a: x**3 - a, bracket=(0.0, 2.0), args=2.0 * c).value,
    "root, gradient": lambda c: jax.grad(lambda a: jk.root(lambda x, a: x**3 - a, 1.0, a).value)(2.0 * c),
    "fixed_point": lambda c: jk.fixed_point(lambda x, a: jnp.cos(a * x), 1.0, c).value,
    "least_squares": lambda c: jk.least_squares(
        lambda p, y: p["a"] * jnp.exp(-p["k"] * TIMES) - y, {"a": 1.0, "k": 1.0}, DATA * c
    ).params,
    "solve": lambda c: jk.solve(lambda t, x, r: -r * x, 1.0, SPAN, c).final,
    "solve, gradient": lambda c: jax.grad(lambda r: jk.solve(lambda t, x, r: -r * x, 1.0, SPAN, r).final)(c),
    "ensemble": lambda c: jk.ensemble(lambda t, x, r: -r * x, jnp.ones(3), (0.0, 1.0), c).final,
    "sensitivity": lambda c: jk.sensitivity(lambda t, x, r: -r * x, jnp.ones(3), (0.0, 1.0), c).args,
    "unroll": lambda c: jk.unroll(lambda x, n, r: (x + r * x * (1 - x), x), 0.1, args=0.5 * c, length=20).ys,
    "sample": lambda c: jk.sample(
        lambda x, s: 0.5 * jnp.sum((x / s) ** 2), jnp.zeros((16, 2)), c, key=jax.random.key(0), steps=50,
        method=jk.MALA(0.5),
    ).xs,
    "equilibria": lambda c: jk.equilibria(lambda t, x, a: x * (a - x**2), jnp.array([-2.0, 0.1, 3.0]), 4.0 * c).x,
    "linearize": lambda c: jk.linearize(lambda t, x, a: x * (a - x**2), jnp.array([0.5]), c).eigenvalues,
    "continuation": lambda c: jk.continuation(lambda t, x, p: p - x**2, jnp.array([1.0]), c, step=0.05, steps=30).x,
    "fit": lambda c: jk.fit(lambda p, _: jnp.sum((p - 3.0) ** 2), c * jnp.zeros(2), steps=20).params,
    "newton.solve": lambda c: newton.solve("x^3 = a", 1.0, {"a": 2.0 * c}).value,
    "newton.all_roots": lambda c: newton.all_roots("sin(a*x) = x/5", (-10.0, 10.0), {"a": 2.0 * c}).values,
}  # fmt: skip


def peers() -> dict[str, Callable[[float], Any]]:
    """The same jobs as users of optimistix, diffrax and optax write them, inside a `jit`."""
    newton_method = optimistix.Newton(rtol=1e-9, atol=1e-9)
    marquardt = optimistix.LevenbergMarquardt(rtol=1e-10, atol=1e-10)
    anderson = optimistix.FixedPointIteration(rtol=1e-9, atol=1e-9)
    cubic = lambda a: optimistix.root_find(lambda x, a: x**3 - a, newton_method, jnp.asarray(1.0), a).value
    residuals = lambda p, y: p["a"] * jnp.exp(-p["k"] * TIMES) - y
    first = {"a": jnp.asarray(1.0), "k": jnp.asarray(1.0)}
    squares = lambda c: optimistix.least_squares(residuals, marquardt, first, DATA * c).value
    still = lambda c: optimistix.fixed_point(lambda x, a: jnp.cos(a * x), anderson, jnp.asarray(1.0), c).value

    def decayed(rate: Any) -> Any:
        term = diffrax.ODETerm(lambda t, x, r: -r * x)
        control = diffrax.PIDController(rtol=1e-7, atol=1e-9)
        return diffrax.diffeqsolve(
            term, diffrax.Tsit5(), 0.0, 1.0, None, jnp.asarray(1.0), rate, stepsize_controller=control
        ).ys[-1]  # pyright: ignore[reportOptionalSubscript]

    def descended(c: Any) -> Any:
        adam = optax.adam(1e-3)

        def step(carry: Any, _: None) -> Any:
            p, state = carry
            updates, state = adam.update(jax.grad(lambda p: jnp.sum((p - 3.0) ** 2))(p), state)
            return (optax.apply_updates(p, updates), state), None

        start = c * jnp.zeros(2)
        return jax.lax.scan(step, (start, adam.init(start)), None, 20)[0][0]

    return {
        "root": jax.jit(lambda c: cubic(2.0 * c)),
        "root, gradient": jax.jit(lambda c: jax.grad(cubic)(2.0 * c)),
        "fixed_point": jax.jit(still),
        "least_squares": jax.jit(squares),
        "solve": jax.jit(decayed),
        "solve, gradient": jax.jit(jax.grad(decayed)),
        "fit": jax.jit(descended),
    }


def resident() -> float:
    """Megabytes of this process; 0 where the system does not say."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6 if path.exists() else 0.0


def called(verb: Callable[[float], Any], calls: int) -> dict[str, float]:
    """First call, CPU time of the cheapest of ten parts of the later ones, growth of memory a call."""
    start = time.perf_counter()
    _harness.wait(verb(1.0))
    first, parts, number = time.perf_counter() - start, [], 1
    _harness.wait(verb(1.0))
    before = resident()
    for _ in range(10):
        clock = time.process_time()
        for _ in range(max(1, calls // 10)):
            number += 1
            _harness.wait(verb(1.0 + 1e-4 * number))
        parts.append((time.process_time() - clock) / max(1, calls // 10))
    return {"first s": first, "call ms": 1e3 * min(parts), "growth MB": (resident() - before) / number}


def main() -> None:
    """Measure, print, save."""
    parser = _harness.parser(__doc__)
    parser.add_argument("--sizes", action="store_true", help="jobs that grow, instead of calls")
    options = parser.parse_args()
    if options.sizes:
        rows = _growth_sizes.table(quick=options.quick)
        if not options.quick:
            _harness.save("growth_sizes", claim="memory and time follow the work", rows=rows)
        return
    calls, others = (10 if options.quick else 1000), peers()
    names = ("root", "solve", "fit") if options.quick else tuple(OURS)
    rows, goals = [], []
    for name in names:
        row: dict[str, Any] = {"verb": name, **called(OURS[name], calls)}
        if name in others:
            row["peer's call ms"] = called(others[name], calls)["call ms"]
            ratio = row["call ms"] / row["peer's call ms"]
            goals.append(_harness.goal(f"{name}: time of a call over the peer's inside jit", ratio, 2, at_least=False))
        rows.append(row)
        print(_harness.table([row]), flush=True)
    worst = max(row["growth MB"] for row in rows)
    goals.append(_harness.goal("most growth of memory a call, MB", worst, 0.01, at_least=False))
    print(_harness.table(rows), _harness.table(goals), sep="\n\n")
    if not options.quick:
        _harness.save("growth", claim=(__doc__ or "").splitlines()[0], rows=rows, goals=goals)


if __name__ == "__main__":
    main()
