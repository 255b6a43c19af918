"""Kerr light rays by the second and their error, beside gyoto, PyGRO, EinsteinPy and diffrax; curvature by the point.

Claim: geodesics of any metric, with derivatives, faster than the compiled code that knows Kerr (gyoto).

Rays: a = 0.9, from r = 50 at 80 degrees, impact parameters 7 to 12, affine length 100, relative tolerance 1e-8 for all.
gyoto runs in the Python that JAXKIT_GYOTO names (Debian's python3 with gyoto), PyGRO and EinsteinPy in the one that
JAXKIT_PEERS names (pip install pygro einsteinpy cython); what does not run is left out with one line. Each peer's end
states are compared with a DOP853 of 1e-12 before its row counts: a ratio is one of equal rays at equal accuracy, or its
`end_error` says that it is not.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks._harness import arguments, goal, measure, optional, save, table

LENGTH, SPIN = 100.0, 0.9
PEERS = {  # interpreter, rays
    "gyoto": (os.environ.get("JAXKIT_GYOTO", "/usr/bin/python3"), 300),
    "pygro": (os.environ.get("JAXKIT_PEERS", sys.executable), 6),
    "einsteinpy": (os.environ.get("JAXKIT_PEERS", sys.executable), 1),
}


def rays(n: int, a: float = SPIN, r: float = 50.0) -> tuple[np.ndarray, np.ndarray]:
    """Points and covariant momenta of `n` light rays sent inwards."""
    rng = np.random.default_rng(0)
    size, angle, theta = rng.uniform(7, 12, n), rng.uniform(0, 2 * np.pi, n), np.deg2rad(80.0)
    alpha, beta = size * np.cos(angle), size * np.sin(angle)
    momentum = -alpha * np.sin(theta)
    carter = beta**2 + np.cos(theta) ** 2 * (alpha**2 - a**2)
    delta = r**2 - 2 * r + a**2
    radial = (r**2 + a**2 - a * momentum) ** 2 - delta * (carter + (momentum - a) ** 2)
    x = np.stack([np.zeros(n), np.full(n, r), np.full(n, theta), np.zeros(n)], -1)
    return x, np.stack([-np.ones(n), -np.sqrt(radial) / delta, beta, momentum], -1)


def peer_row(name: str, x: np.ndarray, p: np.ndarray) -> dict | None:
    """What a peer needs for some of the rays, and how well it does; None where it does not run."""
    interpreter, few = PEERS[name]
    x, p = x[:few], p[:few]
    up = np.stack([np.linalg.solve(g, row) for g, row in zip(map(_metric, x), p, strict=True)])
    given = json.dumps({"x": x.tolist(), "up": up.tolist(), "length": LENGTH})
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k != "VIRTUAL_ENV"}
    script = str(Path(__file__).with_name("_gravity_peers.py"))
    try:
        done = subprocess.run(
            [interpreter, script, name], input=given, capture_output=True, text=True, env=clean, timeout=900
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{name} left out: {error}")
        return None
    if done.returncode:
        print(f"{name} left out: {done.stderr.strip().splitlines()[-1] if done.stderr else 'it failed'}")
        return None
    found = json.loads(done.stdout.strip().splitlines()[-1])
    ends = np.array(found["ends"])
    lowered = np.stack([_metric(row) @ row[4:] for row in ends])
    return {
        "code": name,
        "rays": len(x),
        "rays_per_cpu_s": len(x) / found["seconds"],
        "steps": found["steps"],
        "carter_drift": drift(x, p, ends[:, :4], lowered),
        "end_error": end_error(x, p, ends[:, :4], found["affine"]),
        "first_call_s": found.get("setup", 0.0),
    }


def _metric(x: np.ndarray) -> np.ndarray:
    from benchmarks._gravity_peers import metric

    return metric(x)


def carter(x: np.ndarray, p: np.ndarray) -> np.ndarray:
    cos2 = np.cos(x[:, 2]) ** 2
    return p[:, 2] ** 2 + cos2 * (p[:, 3] ** 2 / (1 - cos2) - SPIN**2 * p[:, 0] ** 2)


def drift(x0: np.ndarray, p0: np.ndarray, x: np.ndarray, p: np.ndarray) -> float:
    """Largest relative change of Carter's constant."""
    return float(np.max(np.abs(carter(x, p) / carter(x0, p0) - 1)))


def end_error(x0: np.ndarray, p0: np.ndarray, ends: np.ndarray, affine: float | None, few: int = 24) -> float:
    """Largest error of r (relative), theta and phi against a DOP853 of 1e-12, at equal affine length or equal time."""
    from scipy.integrate import solve_ivp
    from scipy.optimize import brentq

    worst = 0.0
    for x, p, end in zip(x0[:few], p0[:few], ends, strict=False):
        far = 1.4 * LENGTH if affine is None else affine
        exact = solve_ivp(field, (0, far), [*x, *p], "DOP853", dense_output=True, rtol=1e-12, atol=1e-12)
        at = brentq(lambda s, e=exact, t=end[0]: e.sol(s)[0] - t, 0, far, xtol=1e-13) if affine is None else affine
        _, r, theta, phi = exact.sol(at)[:4]
        turned = abs((end[3] - phi + np.pi) % (2 * np.pi) - np.pi)
        worst = max(worst, abs(end[1] / r - 1), abs(end[2] - theta), turned)
    return worst


def field(_: float, state: np.ndarray) -> list[float]:
    """Hamilton's equations of Kerr, written out by hand: independent of the package."""
    _, r, theta, _, p_t, p_r, p_theta, p_phi = state
    a, sin, cos = SPIN, np.sin(theta), np.cos(theta)
    wide = r * r + a * a
    delta, sigma = wide - 2 * r, r * r + (a * cos) ** 2
    radial, polar = -wide * p_t - a * p_phi, p_phi / sin + a * p_t * sin
    twice = (delta * p_r**2 + p_theta**2 - radial**2 / delta + polar**2) / sigma
    slope = r * twice - (r - 1) * (p_r**2 + (radial / delta) ** 2) - 2 * r * p_t * radial / delta
    tilt = -(a**2) * sin * cos * twice + polar * (p_phi / sin**2 - a * p_t) * cos
    return [
        (wide * radial / delta + a * sin * polar) / sigma,
        delta * p_r / sigma,
        p_theta / sigma,
        (a * radial / delta + polar / sin) / sigma,
        0.0,
        slope / sigma,
        tilt / sigma,
        0.0,
    ]


def sympy_curvature():
    """Einstein's tensor and the Kretschmann scalar of Kerr as numpy code written by sympy, common terms shared."""
    sympy = optional("sympy")
    if sympy is None:
        return None
    r, th, a = sympy.symbols("r theta a")
    x = [sympy.Symbol("t"), r, th, sympy.Symbol("phi")]
    s2, sigma, delta = sympy.sin(th) ** 2, r**2 + a**2 * sympy.cos(th) ** 2, r**2 - 2 * r + a**2
    g = sympy.diag(2 * r / sigma - 1, sigma / delta, sigma, (r**2 + a**2 + 2 * r * a**2 * s2 / sigma) * s2)
    g[0, 3] = g[3, 0] = -2 * r * a * s2 / sigma
    up = sympy.diag(
        (a**2 * s2 - (r**2 + a**2) ** 2 / delta) / sigma, delta / sigma, 1 / sigma, (1 / s2 - a**2 / delta) / sigma
    )
    up[0, 3] = up[3, 0] = -2 * a * r / (delta * sigma)
    four = range(4)
    d = [[[sympy.diff(g[i, j], x[k]) for k in four] for j in four] for i in four]
    low = [[[(d[e][b][c] + d[e][c][b] - d[b][c][e]) / 2 for c in four] for b in four] for e in four]
    gamma = [[[sum(up[i, e] * low[e][b][c] for e in four) for c in four] for b in four] for i in four]

    def riemann(i, b, c, e):
        second = sympy.diff(d[i][e][b], x[c]) + sympy.diff(d[b][c][i], x[e])
        second = second - sympy.diff(d[i][c][b], x[e]) - sympy.diff(d[b][e][i], x[c])
        product = sum(low[f][b][c] * gamma[f][i][e] - low[f][b][e] * gamma[f][i][c] for f in four)
        return second / 2 + product

    pairs = [(i, b) for i in four for b in range(i + 1, 4)]
    known = {(*p, *q): riemann(*p, *q) for n, p in enumerate(pairs) for q in pairs[n:]}
    names = {key: sympy.Symbol("R" + "".join(map(str, key))) for key in known}
    # Kretschmann and Einstein are built on names of the components, which the generated code computes once.
    look = {}
    for key, value in names.items():
        i, b, c, e = key
        for p, q in (((i, b), (c, e)), ((c, e), (i, b))):
            for u, v, sign in ((p, q, 1), (p[::-1], q, -1), (p, q[::-1], -1), (p[::-1], q[::-1], 1)):
                look[(*u, *v)] = sign * value
    get = lambda *key: look.get(key, sympy.Integer(0))
    upper = {(i, b): sympy.Symbol(f"u{i}{b}") for i in four for b in four if up[i, b] != 0}
    lift = lambda i, b: upper.get((i, b), sympy.Integer(0))
    ricci = [[sum(lift(i, c) * get(i, b, c, e) for i in four for c in four) for e in four] for b in four]
    scalar = sum(lift(b, e) * ricci[b][e] for b in four for e in four)
    lower = {(i, b): sympy.Symbol(f"g{i}{b}") for i in four for b in four if g[i, b] != 0}
    einstein = [ricci[b][e] - scalar * lower.get((b, e), sympy.Integer(0)) / 2 for b in four for e in range(b, 4)]
    mixed = lambda i, b, c, e: sum(
        lift(i, m) * lift(b, n) * get(m, n, c, e) for m in four for n in four if lift(i, m) != 0 and lift(b, n) != 0
    )
    raised = {(*p, *q): mixed(*p, *q) for p in pairs for q in pairs}
    kretschmann = 4 * sum(raised[(*p, *q)] * raised[(*q, *p)] for p in pairs for q in pairs)
    first = sympy.lambdify((r, th, a), [*known.values(), *[up[k] for k in upper], *[g[k] for k in lower]], cse=True)
    second = sympy.lambdify([*names.values(), *upper.values(), *lower.values()], [*einstein, kretschmann], cse=True)
    return lambda r, th, spin: second(*first(r, th, spin))


def main() -> None:
    options = arguments(__doc__)
    import diffrax
    import jax
    import jax.numpy as jnp

    import jaxkit as jk

    jk.set_precision("double")
    from jaxkit import gravity

    n = 512 if options.quick else 10_000
    hole = gravity.kerr(a=SPIN)
    plainly = gravity.from_function(hole, hole.params, name="Kerr as a user's function")
    x, p = rays(n)
    at, momentum = jnp.asarray(x), jnp.asarray(p)
    h = gravity.hamiltonian(hole)

    def velocity(t, y, args):
        in_x, in_p = jax.grad(lambda x, p: h(x, p, hole.params), argnums=(0, 1))(y[:4], y[4:])
        return jnp.concatenate([in_p, -in_x])

    def one(y):
        control = diffrax.PIDController(1e-8, 1e-8)
        found = diffrax.diffeqsolve(
            diffrax.ODETerm(velocity), diffrax.Dopri8(), 0.0, LENGTH, None, y, stepsize_controller=control, throw=False
        )
        return found.ys[-1], found.stats["num_accepted_steps"]

    plain = jax.jit(jax.vmap(one))
    y = jnp.concatenate([at, momentum], -1)
    trace = lambda metric: gravity.trace(metric, at, momentum, LENGTH, rtol=1e-8, atol=1e-8, stop=gravity.Stop(inner=0))
    programs = {"jaxkit": lambda: trace(hole), "jaxkit, user's function": lambda: trace(plainly)}
    programs["diffrax vmap"] = lambda: plain(y)
    points = np.stack([np.zeros(n), 3 + np.arange(n) / n, 1 + np.arange(n) / (2 * n), np.zeros(n)], -1)
    keep = lambda k: (k.einstein, k.kretschmann)
    curve, simple = gravity.curvatures(hole, keep), jax.jit(jax.vmap(lambda x: keep(gravity.curvature(hole)(x))))
    programs["curvature"] = lambda: curve(jnp.asarray(points))
    programs["curvature, vmap"] = lambda: simple(jnp.asarray(points))
    symbolic = sympy_curvature()
    if symbolic is not None:
        programs["sympy"] = lambda: symbolic(points[:, 1], points[:, 2], SPIN)
        check = np.max(np.abs(np.asarray(symbolic(points[:, 1], points[:, 2], SPIN)[-1]) / curve(points)[1] - 1))
        print(f"Kretschmann scalar, sympy's code against ours: {check:.1e}")
    times = measure(programs, repeats=5)

    ends = {name: (np.asarray(r.x), np.asarray(r.p), r.steps) for name in ("jaxkit", "jaxkit, user's function")
        for r in [programs[name]()]}  # fmt: skip
    there, count = plain(y)
    ends["diffrax vmap"] = (np.asarray(there[:, :4]), np.asarray(there[:, 4:]), count)
    rows = [
        {
            "code": name,
            "rays": n,
            "rays_per_cpu_s": n / times[name].cpu,
            "steps": float(jnp.mean(steps)),
            "carter_drift": drift(x, p, end, last),
            "end_error": end_error(x, p, end, LENGTH),
            "first_call_s": times[name].first,
        }
        for name, (end, last, steps) in ends.items()
    ]
    peers = ["gyoto"] if options.quick else list(PEERS)
    rows += [row for name in peers if (row := peer_row(name, x, p))]
    print(table(rows))
    rate = {row["code"]: row["rays_per_cpu_s"] for row in rows}
    ours = rate["jaxkit"]
    per_point = times["curvature"].cpu / n * 1e6
    goals = [
        goal("rays per CPU-second, times plain vmapped diffrax", ours / rate["diffrax vmap"], 2.0),
        *(goal(f"rays per CPU-second, times {name}", ours / rate[name], wanted)
            for name, wanted in (("gyoto", 2.0), ("pygro", 100.0)) if name in rate),
        goal("Carter drift at 1e-8", rows[0]["carter_drift"], 1e-6, at_least=False),
    ]  # fmt: skip
    if symbolic is not None:
        slow, peer = (times[name].cpu / n * 1e6 for name in ("curvature, vmap", "sympy"))
        print(f"curvature per point: {per_point:.2f} us ({slow:.2f} us by vmap), sympy's code {peer:.2f} us")
        ratio = times["curvature"].cpu / times["sympy"].cpu
        goals.append(goal("curvature per point, times sympy's shared code", ratio, 5.0, at_least=False))
    print(table(goals))
    if not options.quick:
        print(save("gravity", claim=str(__doc__).splitlines()[0], rows=rows, goals=goals))


if __name__ == "__main__":
    sys.exit(main())
