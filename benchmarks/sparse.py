"""CLAIM: with many unknowns whose Jacobian is sparse, jaxkit is at most as slow as scipy with the Jacobian in hand.

Heat equation and Brusselator in one dimension, Gray and Scott's equations in two, beside scipy's BDF, which is given
the sparse Jacobian; Bratu's equation in two dimensions, beside scipy's `newton_krylov`; a blurred signal restored by
least squares, beside scipy's `least_squares` with LSMR and the sparse Jacobian. jaxkit is given the equations alone.
The error of each is measured, and both have tolerances at which it is alike. Gradients by ten parameters (in least
squares, by the data) are compared with the solve.
"""

import functools
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.integrate
import scipy.optimize
import scipy.sparse as sp

import jaxkit as jk
from benchmarks import _harness

jk.set_precision("double")
Problem = dict[str, Any]


def timed(fn: Callable[[], Any], *, repeats: int = 3) -> tuple[float, float, Any]:
    """CPU seconds of the first call and of the cheapest of the others, and the result."""
    times = []
    for _ in range(1 + repeats):
        clock = time.process_time()
        found = _harness.wait(fn())
        times.append(time.process_time() - clock)
        if times[-1] > 10 and len(times) > 1:
            break
    return times[0], min(times[1:]), found


def ends(u: Any, value: Any) -> Any:
    """`u` between two values."""
    edge = jnp.full(1, value)
    return jnp.concatenate([edge, u, edge])


def heat(size: int) -> Problem:
    """`u_t = D u_xx` with zero ends; an exact solution of the equation on the grid."""
    grid, scale = np.linspace(0, 1, size + 2)[1:-1], float(size + 1) ** 2
    rate = lambda k: 4 * scale * np.sin(k * np.pi / 2 / (size + 1)) ** 2
    modes = ((1.0, 1), (0.5, 3))
    exact = sum(c * np.exp(-0.1 * rate(k)) * np.sin(k * np.pi * grid) for c, k in modes)
    jac = sp.diags([np.ones(size - 1), -2 * np.ones(size), np.ones(size - 1)], [-1, 0, 1], format="csc") * scale
    return {
        "field": lambda t, x, p: p[0] * scale * jnp.diff(ends(x, 0.0), n=2) + 0 * jnp.sum(p),
        "x0": sum(c * np.sin(k * np.pi * grid) for c, k in modes), "t": 0.1, "p": np.ones(10), "exact": exact,
        "f": lambda t, x: jac @ x, "jac": lambda t, x: jac,
    }  # fmt: skip


def brusselator(size: int) -> Problem:
    """Two species on a line."""
    n = size // 2
    grid, scale = np.linspace(0, 1, n + 2)[1:-1], float(n + 1) ** 2 / 50

    def field(t: Any, x: Any, p: Any) -> Any:
        u, v = x.reshape(n, 2).T
        far = lambda w, edge: scale * jnp.diff(ends(w, edge), n=2)
        du = p[0] + p[1] * u * u * v - 4 * p[2] * u + p[3] * far(u, 1.0)
        dv = 3 * p[4] * u - p[5] * u * u * v + p[6] * far(v, 3.0)
        return jnp.stack([du * p[7], dv * p[8]], 1).ravel() * p[9]

    def f(t: float, x: np.ndarray) -> np.ndarray:
        u, v = x.reshape(n, 2).T
        far = lambda w, edge: scale * np.diff(np.concatenate([[edge], w, [edge]]), n=2)
        return np.stack([1 + u * u * v - 4 * u + far(u, 1.0), 3 * u - u * u * v + far(v, 3.0)], 1).ravel()

    def jac(t: float, x: np.ndarray) -> Any:
        u, v = x.reshape(n, 2).T
        own, up, low = np.empty(size), np.zeros(size - 1), np.zeros(size - 1)
        own[0::2], own[1::2] = 2 * u * v - 4 - 2 * scale, -u * u - 2 * scale
        up[0::2], low[0::2] = u * u, 3 - 2 * u * v
        far = scale * np.ones(size - 2)
        return sp.diags([own, up, low, far, far], [0, 1, -1, 2, -2], format="csc")

    x0 = np.stack([1 + np.sin(2 * np.pi * grid), 3 + 0 * grid], 1).ravel()
    return {"field": field, "x0": x0, "t": 10.0, "p": np.ones(10), "f": f, "jac": jac}


def gray_scott(size: int) -> Problem:
    """Two species on a periodic square."""
    n = round((size / 2) ** 0.5)
    centre = np.mgrid[:n, :n] / n - 0.5
    bump = np.exp(-100 * (centre**2).sum(0))
    around = lambda w, roll: roll(w, 1, 0) + roll(w, -1, 0) + roll(w, 1, 1) + roll(w, -1, 1) - 4 * w

    def rates(w: Any, p: Any, xp: Any) -> Any:
        u, v, far = w[..., 0], w[..., 1], around(w, xp.roll)
        react = p[0] * u * v * v
        du = p[1] * 0.16 * far[..., 0] - react + 0.035 * p[2] * (p[3] - u)
        dv = p[4] * 0.08 * far[..., 1] + react * p[5] - (0.035 * p[6] + 0.065 * p[7]) * v * p[8]
        return xp.stack([du, dv], -1) * p[9]

    one = np.ones(10)
    ring = sp.diags([np.ones(n), np.ones(n), -2 * np.ones(n)], [1, -1, 0], shape=(n, n), format="lil")
    ring[0, -1] = ring[-1, 0] = 1
    plane = sp.kronsum(ring, ring, format="csc")
    spread = sp.kron(plane, sp.diags([0.16, 0.08]), format="csc")

    def jac(t: float, x: np.ndarray) -> Any:
        u, v = x.reshape(-1, 2).T
        own, up, low = np.empty(x.size), np.zeros(x.size - 1), np.zeros(x.size - 1)
        own[0::2], own[1::2] = -v * v - 0.035, 2 * u * v - 0.1
        up[0::2], low[0::2] = -2 * u * v, v * v
        return (spread + sp.diags([own, up, low], [0, 1, -1])).tocsc()

    return {
        "field": lambda t, x, p: rates(x.reshape(n, n, 2), p, jnp).ravel(), "p": one, "t": 500.0, "jac": jac,
        "x0": np.stack([1 - 0.5 * bump, 0.25 * bump], -1).ravel(),
        "f": lambda t, x: rates(x.reshape(n, n, 2), one, np).ravel(),
    }  # fmt: skip


def motion(name: str, size: int, problem: Problem, rtols: tuple[float, float], *, gradient: bool) -> dict[str, Any]:
    """One motion: jaxkit and scipy."""
    ts, x0, p = jnp.array([0.0, problem["t"]]), jnp.asarray(problem["x0"]), jnp.asarray(problem["p"])

    def ours(p: Any, rtol: float = rtols[0]) -> Any:
        return jk.solve(problem["field"], x0, ts, p, method="rodas5p", rtol=rtol, atol=rtol / 100)

    first, seconds, found = timed(lambda: ours(p))
    exact = problem["exact"] if "exact" in problem else np.asarray(ours(p, 1e-9).checked().final)
    error = lambda x: float(np.max(np.abs(np.asarray(x) - exact)))
    row = {
        "job": name, "unknowns": size, "ok": bool(found.ok), "first s": first, "s": seconds,
        "error": error(found.final), "steps": int(found.steps + found.rejected),
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }  # fmt: skip
    theirs = functools.partial(
        scipy.integrate.solve_ivp, problem["f"], (0, problem["t"]), problem["x0"], method="BDF", jac=problem["jac"],
        rtol=rtols[1], atol=rtols[1] / 100,
    )  # fmt: skip
    _, row["scipy s"], there = timed(theirs, repeats=1 if size > 10_000 else 3)
    row |= {"scipy's error": error(there.y[:, -1]), "factors": there.nlu, "ratio": row["s"] / row["scipy s"]}
    if gradient:
        slope = jax.jit(jax.grad(lambda p: jnp.sum(ours(p).final ** 2)))
        row["gradient / solve"] = timed(lambda: slope(p), repeats=2)[1] / seconds
    return row


def bratu(side: int) -> dict[str, Any]:
    """Bratu's equation on a square: jaxkit's default and `newton_krylov`."""

    def residual(u: Any, p: Any, xp: Any) -> Any:
        w, scale = xp.pad(u, 1), float(side + 1) ** 2
        far = w[2:, 1:-1] + w[:-2, 1:-1] + w[1:-1, 2:] + w[1:-1, :-2] - 4 * u
        return p[0] * scale * far + 5 * p[1] * xp.exp(u * p[2]) + 0 * p.sum()

    p, start = np.ones(10), np.zeros((side, side))
    ours = lambda p: jk.root(lambda u, p: residual(u, p, jnp), jnp.asarray(start), jnp.asarray(p))
    first, seconds, found = timed(lambda: ours(p))
    theirs = lambda: scipy.optimize.newton_krylov(lambda u: residual(u, p, np), start, f_tol=1e-8, maxiter=200)
    _, peer, there = timed(theirs, repeats=1)
    slope = jax.jit(jax.grad(lambda p: jnp.sum(ours(p).value ** 2)))
    return {
        "job": "Bratu, two dimensions", "unknowns": side**2, "ok": bool(found.ok), "first s": first, "s": seconds,
        "error": float(np.max(np.abs(np.asarray(found.value) - there))), "steps": int(found.steps), "scipy s": peer,
        "ratio": seconds / peer, "gradient / solve": timed(lambda: slope(jnp.asarray(p)), repeats=2)[1] / seconds,
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }  # fmt: skip


def restored(size: int) -> dict[str, Any]:
    """A positive signal that was blurred, restored by a smooth least-squares fit: jaxkit's default and scipy's."""
    n, rng = size - 2, np.random.default_rng(0)
    blur = lambda v: 0.25 * v[:-2] + 0.5 * v[1:-1] + 0.25 * v[2:]
    data = blur(np.exp(np.sin(np.linspace(0, 20, size)))) + 0.05 * rng.normal(size=n)
    residuals = lambda u, d, xp: xp.concatenate([blur(xp.exp(u)) - d, 5 * xp.diff(u, n=2)])
    band = lambda *c: sp.diags([v * np.ones(n) for v in c], [0, 1, 2], shape=(n, size))
    jac = lambda u: sp.vstack([band(0.25, 0.5, 0.25) @ sp.diags(np.exp(u)), 5 * band(1.0, -2.0, 1.0)]).tocsr()
    ours = lambda d: jk.least_squares(lambda u, d: residuals(u, d, jnp), jnp.zeros(size), d)
    first, seconds, found = timed(lambda: ours(jnp.asarray(data)))
    theirs = lambda: scipy.optimize.least_squares(
        lambda u: residuals(u, data, np), np.zeros(size), jac=jac, tr_solver="lsmr", xtol=1e-10, ftol=1e-10, gtol=1e-10
    )
    _, peer, there = timed(theirs, repeats=1)
    slope = jax.jit(jax.grad(lambda d: jnp.sum(ours(d).params ** 2)))
    u = np.asarray(found.params)
    gradient = lambda u: float(np.max(np.abs(jac(u).T @ residuals(u, data, np))))
    return {
        "job": "a signal restored", "unknowns": size, "ok": bool(found.ok), "first s": first, "s": seconds,
        "error": gradient(u), "scipy's error": gradient(there.x), "steps": int(found.steps), "scipy s": peer,
        "ratio": seconds / peer, "gradient / solve": timed(lambda: slope(jnp.asarray(data)), repeats=2)[1] / seconds,
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }  # fmt: skip


def main() -> None:
    """Measure, print, save."""
    options = _harness.arguments(__doc__)
    jobs: list[Callable[[], dict[str, Any]]] = []
    for name, make, rtols, sizes, limit in (
        ("heat, one dimension", heat, (1e-6, 1e-9), (1_000, 10_000, 100_000), 1.0),
        ("Brusselator, one dimension", brusselator, (1e-6, 1e-7), (2_000, 20_000, 200_000), 1.0),
        ("Gray and Scott, two dimensions", gray_scott, (1e-5, 1e-6), (8_192, 32_768), 1.5),
    ):
        for size in sizes[:1] if options.quick else sizes:
            size = 128 if options.quick else size
            gradient = size <= 20_000 and not options.quick
            run = lambda n=name, s=size, m=make, r=rtols, g=gradient: motion(n, s, m(s), r, gradient=g)
            jobs.append(lambda run=run, limit=limit: run() | {"limit": limit})
    for side in (10,) if options.quick else (100, 300):
        jobs.append(lambda side=side: bratu(side) | {"limit": 1.5})
    for size in (300,) if options.quick else (1_000, 10_000, 100_000):
        jobs.append(lambda size=size: restored(size) | {"limit": 1.0})
    rows, goals = [], []
    for job in jobs:
        row = job()
        limit = row.pop("limit")
        text = f"{row['job']}, {row['unknowns']}"
        goals.append(_harness.goal(f"{text}: CPU time over scipy's", row["ratio"], limit, at_least=False))
        if "gradient / solve" in row:
            ratio = row["gradient / solve"]
            goals.append(_harness.goal(f"{text}: gradient by ten parameters, in solves", ratio, 4, at_least=False))
        rows.append(row)
        print(_harness.table([row]), flush=True)
    print(_harness.table(rows), _harness.table(goals), sep="\n\n")
    if not options.quick:
        _harness.save("sparse", claim=(__doc__ or "").splitlines()[0], rows=rows, goals=goals)


if __name__ == "__main__":
    main()
