"""Stiff motions and others that are not: what `method="auto"` costs beside the right fixed choice, and peers.

CLAIM: nobody has to know whether a motion is stiff: `method="auto"` of `jk.solve` costs at most twice what the better
of an explicit and an implicit method costs on stiff problems, and at most 1.05 times the explicit one's on others.

Robertson's reaction, HIRES, the Oregonator, Van der Pol's oscillator (mu = 1000), a signalling pathway (Boehm et al.
2014), the repressilator (Elowitz and Leibler 2000) and a Brusselator with diffusion (64 numbers), for three tolerances:
accepted and refused steps, CPU time and error, beside scipy's Radau and LSODA, CVODE (scikit-sundae) and diffrax as
their users call them. Errors are relative to the solution, with 1e-3 of the absolute tolerance's unit as the floor, and
come from scipy's Radau at 1e-12.

    python -m benchmarks.stiff
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import jaxkit as jk
from benchmarks._harness import arguments, goal, measure, one_core, optional, save, table

MOST = 200_000  # steps
SIZE = 32  # cells of the Brusselator


class Problem(NamedTuple):
    """A motion: `field(t, x, lib)` gives a list of rates, with numpy or with jax."""

    field: Callable[[Any, Any, Any], Any]
    x0: list[float]
    end: float
    unit: float  # of the absolute tolerance, times the relative one


def robertson(t, x, lib):
    slow, fast, back = 0.04 * x[0], 3e7 * x[1] ** 2, 1e4 * x[1] * x[2]
    return [back - slow, slow - back - fast, fast]


def hires(t, x, lib):
    bound = 280 * x[5] * x[7]
    return [
        -1.71 * x[0] + 0.43 * x[1] + 8.32 * x[2] + 0.0007,
        1.71 * x[0] - 8.75 * x[1],
        -10.03 * x[2] + 0.43 * x[3] + 0.035 * x[4],
        8.32 * x[1] + 1.71 * x[2] - 1.12 * x[3],
        -1.745 * x[4] + 0.43 * x[5] + 0.43 * x[6],
        -bound + 0.69 * x[3] + 1.71 * x[4] - 0.43 * x[5] + 0.69 * x[6],
        bound - 1.81 * x[6],
        -bound + 1.81 * x[6],
    ]


def oregonator(t, x, lib):
    s, w, q = 77.27, 0.161, 8.375e-6
    return [s * (x[1] + x[0] * (1 - q * x[0] - x[1])), (x[2] - (1 + x[0]) * x[1]) / s, w * (x[0] - x[2])]


def van_der_pol(mu):
    return lambda t, x, lib: [x[1], mu * (1 - x[0] ** 2) * x[1] - x[0]]


def boehm(t, x, lib):
    a, b, aa, ab, bb, in_aa, in_ab, in_bb = x
    signal = 1.25e-7 * 15766.5 * lib.exp(-0.02697 * t)
    ratio, homo, hetero = 1.4 / 0.45, 97749.4, 0.016368
    out_homo, out_hetero = 0.0061702, 1.00068e-5
    come_aa, come_ab, come_bb = (v / ratio for v in (out_homo * in_aa, out_hetero * in_ab, out_homo * in_bb))
    return [
        -signal * (2 * a * a + a * b) + 2 * come_aa + come_ab,
        -signal * (2 * b * b + a * b) + 2 * come_bb + come_ab,
        signal * a * a - homo * aa,
        signal * a * b - hetero * ab,
        signal * b * b - homo * bb,
        ratio * homo * aa - out_homo * in_aa,
        ratio * hetero * ab - out_hetero * in_ab,
        ratio * homo * bb - out_homo * in_bb,
    ]


def repressilator(t, x, lib):
    made = [216 / (1 + x[3 + (i + 2) % 3] ** 2) + 0.216 - x[i] for i in range(3)]
    return made + [5 * (x[i] - x[3 + i]) for i in range(3)]


def brusselator(t, x, lib):
    u, v, rate = x[:SIZE], x[SIZE:], 0.02 * (SIZE + 1) ** 2
    left = lambda w, edge: lib.concatenate([lib.full(1, edge), w[:-1]])
    right = lambda w, edge: lib.concatenate([w[1:], lib.full(1, edge)])
    spread = lambda w, edge: rate * (left(w, edge) - 2 * w + right(w, edge))
    return [*(1 + u * u * v - 4 * u + spread(u, 1.0)), *(3 * u - u * u * v + spread(v, 3.0))]


def kepler(t, x, lib):
    cube = (x[0] ** 2 + x[1] ** 2) ** 1.5
    return [x[2], x[3], -x[0] / cube, -x[1] / cube]


def lorenz(t, x, lib):
    return [10 * (x[1] - x[0]), x[0] * (28 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]]


def predators(t, x, lib):
    return [x[0] * (1 - 0.1 * x[1]), x[1] * (0.075 * x[0] - 1.5)]


CELLS = np.arange(1, SIZE + 1) / (SIZE + 1)
STIFF = {
    "Robertson": Problem(robertson, [1.0, 0.0, 0.0], 1e11, 1e-6),
    "HIRES": Problem(hires, [1.0, 0, 0, 0, 0, 0, 0, 0.0057], 321.8122, 1e-2),
    "Oregonator": Problem(oregonator, [1.0, 2.0, 3.0], 360.0, 1e-2),
    "Van der Pol, 1000": Problem(van_der_pol(1000.0), [2.0, 0.0], 2000.0, 1e-2),
    "Boehm": Problem(boehm, [143.8668, 63.7332, 0, 0, 0, 0, 0, 0], 240.0, 1e-2),
    "repressilator": Problem(repressilator, [0.0, 0.0, 0.0, 5.0, 0.0, 15.0], 100.0, 1e-2),
    "Brusselator": Problem(brusselator, [*(1 + np.sin(2 * np.pi * CELLS)), *(3 + 0 * CELLS)], 10.0, 1e-2),
}
OTHERS = {
    "Kepler": Problem(kepler, [0.5, 0.0, 0.0, 3**0.5], 50.0, 1e-2),
    "Lorenz": Problem(lorenz, [1.0, 1.0, 1.0], 10.0, 1e-2),
    "predators": Problem(predators, [10.0, 5.0], 50.0, 1e-2),
    "Van der Pol, 1": Problem(van_der_pol(1.0), [2.0, 0.0], 40.0, 1e-2),
}


def ours(problem: Problem, tol: float, method: str) -> Callable[[], Any]:
    """A compiled solve."""
    field = lambda t, x, _: jnp.stack(problem.field(t, x, jnp))
    options = {"method": method, "rtol": tol, "atol": tol * problem.unit, "max_steps": MOST}
    ts = jnp.array([0.0, problem.end])
    run = jax.jit(lambda x0: jk.solve(field, x0, ts, **options))
    x0 = jnp.array(problem.x0, float)

    def program():
        found = jax.block_until_ready(run(x0))
        return found.final if bool(found.ok) else np.full(x0.shape, np.nan), found.steps, found.rejected

    return program


def diffraxs(problem: Problem, tol: float) -> Callable[[], Any]:
    """Diffrax as its documentation solves stiff problems."""
    field = lambda t, x, _: jnp.stack(problem.field(t, x, jnp))

    @jax.jit
    def run(x0):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Kvaerno5(),
            0.0,
            problem.end,
            None,
            x0,
            stepsize_controller=diffrax.PIDController(rtol=tol, atol=tol * problem.unit),
            max_steps=MOST,
            throw=False,
        )

    x0 = jnp.array(problem.x0, float)

    def program():
        found = jax.block_until_ready(run(x0))
        fine = found.result == diffrax.RESULTS.successful
        final: Any = found.ys
        stats = found.stats
        return np.where(fine, final[-1], np.nan), stats["num_accepted_steps"], stats["num_rejected_steps"]

    return program


def scipys(problem: Problem, tol: float, method: str) -> Callable[[], Any]:
    """Scipy's solver; it does not say how many steps it refused."""
    from scipy.integrate import solve_ivp

    field = lambda t, x: np.array(problem.field(t, x, np))

    def program():
        found = solve_ivp(field, (0, problem.end), problem.x0, method, rtol=tol, atol=tol * problem.unit)
        return found.y[:, -1], found.t.size - 1, -1

    return program


def cvodes(cvode: Any, problem: Problem, tol: float) -> Callable[[], Any]:
    """SUNDIALS' BDF by scikit-sundae; it does not say how many steps it refused."""

    def field(t, x, rates):
        rates[:] = problem.field(t, x, np)

    solver = cvode.CVODE(field, rtol=tol, atol=tol * problem.unit, max_num_steps=MOST)

    def program():
        found = solver.solve(np.array([0.0, problem.end]), np.array(problem.x0, float))
        return found.y[-1], found.t.size - 1, -1

    return program


def programs(problem: Problem, tol: float, methods: tuple[str, ...], *, peers: bool) -> dict[str, Callable[[], Any]]:
    """Every solver of a problem."""
    found = {f"jaxkit {method}": ours(problem, tol, method) for method in methods}
    if peers:
        found["diffrax Kvaerno5"] = diffraxs(problem, tol)
        if optional("scipy.integrate"):
            found |= {f"scipy {method}": scipys(problem, tol, method) for method in ("Radau", "LSODA")}
        if cvode := optional("sksundae.cvode"):
            found["CVODE"] = cvodes(cvode, problem, tol)
    return found


def truth(problem: Problem) -> np.ndarray:
    """The end of a motion by a tight solve."""
    return np.asarray(scipys(problem, 1e-12, "Radau")()[0])


def rows_of(name: str, problem: Problem, tol: float, runs: dict[str, Any], repeats: int) -> list[dict[str, Any]]:
    """What each solver takes, and how wrong it is."""
    answer, times = truth(problem), measure(runs, repeats=repeats)
    rows = []
    for solver, run in runs.items():
        final, steps, refused = run()
        error = np.max(np.abs(np.asarray(final) - answer) / (np.abs(answer) + problem.unit * 1e-3))
        rows.append(
            {
                "problem": name,
                "rtol": tol,
                "solver": solver,
                "steps": int(steps),
                "refused": int(refused) if refused >= 0 else "",
                "cpu_ms": 1e3 * times[solver].cpu,
                "error": float(error),
            }
        )
    return rows


def main():
    """Measure, print, save."""
    options = arguments(__doc__)
    one_core()
    jk.set_precision("double")
    tolerances = (1e-6,) if options.quick else (1e-4, 1e-6, 1e-8)
    stiff = dict(list(STIFF.items())[:1]) if options.quick else STIFF
    others = dict(list(OTHERS.items())[:1]) if options.quick else OTHERS
    repeats, rows, goals = (1 if options.quick else 5), [], []
    for name, problem in stiff.items():
        for tol in tolerances:
            mild = name in ("Boehm", "repressilator", "Brusselator", "HIRES", "Oregonator")
            methods = ("auto", "rodas5p", "kvaerno5", *(("tsit5",) if mild else ()))
            rows += rows_of(name, problem, tol, programs(problem, tol, methods, peers=True), repeats)
            taken = {r["solver"]: r for r in rows if r["problem"] == name and r["rtol"] == tol}
            best = min(
                r["cpu_ms"]
                for s, r in taken.items()
                if s in ("jaxkit kvaerno5", "jaxkit tsit5", "jaxkit rodas5p") and np.isfinite(r["error"])
            )
            goals.append(
                goal(
                    f"{name}, {tol:g}: auto / better fixed choice",
                    taken["jaxkit auto"]["cpu_ms"] / best,
                    2,
                    at_least=False,
                )
            )
            refused = taken["jaxkit kvaerno5"]["refused"] / max(taken["jaxkit kvaerno5"]["steps"], 1)
            goals.append(
                goal(f"{name}, {tol:g}: kvaerno5, refused steps / accepted ones", refused, 0.3, at_least=False)
            )
            goals.append(
                goal(
                    f"{name}, {tol:g}: error of auto / rtol",
                    taken["jaxkit auto"]["error"] / tol,
                    1000,
                    at_least=False,
                )
            )
    for name, problem in others.items():
        for tol in tolerances:
            rows += rows_of(name, problem, tol, programs(problem, tol, ("auto", "tsit5"), peers=False), 3 * repeats)
            ratio = rows[-2]["cpu_ms"] / rows[-1]["cpu_ms"]
            goals.append(goal(f"{name}, {tol:g}: auto / tsit5", ratio, 1.05, at_least=False))
    print(table(rows))
    print(table(goals))
    if not options.quick:
        print(save("stiff", claim=(__doc__ or "").split("CLAIM: ")[1].split("\n\n")[0], rows=rows, goals=goals))


if __name__ == "__main__":
    main()
