"""Kerr light rays by the second and their error, beside gyoto and plain diffrax; curvature by the point.

Claim: geodesics of any metric, with derivatives, at the speed of compiled codes that know Kerr alone.

gyoto runs in a Python of its own: JAXKIT_GYOTO names the interpreter (Debian's
python3 with python3-gyoto). Rays: a = 0.9, from r = 50 at 80 degrees, impact parameters 7 to 12, affine length 100,
relative tolerance 1e-8.
"""

import json
import os
import subprocess
import sys

import numpy as np

from benchmarks._harness import arguments, goal, measure, save, table

GYOTO = """
import sys, time, json, numpy as np
sys.path.insert(0, "/usr/lib/python3/dist-packages")
import gyoto.core, gyoto.std
metric = gyoto.std.KerrBL(); metric.spin(0.9)
rays = np.array(json.load(sys.stdin))
photon = gyoto.core.Photon()
photon.metric(metric)
photon.relTol(1e-8); photon.absTol(1e-8); photon.adaptive(True); photon.integrator("runge_kutta_fehlberg78")
best = 1e9
for _ in range(3):
    start = time.process_time()
    for row in rays:
        photon.setInitCoord(tuple(float(v) for v in row), 0)
        photon.reset()
        photon.xFill(110.0)
    best = min(best, time.process_time() - start)
print(json.dumps({"seconds": best, "rays": len(rays)}))
"""


def rays(n: int, a: float = 0.9, r: float = 50.0) -> tuple[np.ndarray, np.ndarray]:
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


def gyoto_rate(x: np.ndarray, velocity: np.ndarray) -> float | None:
    """Rays a CPU-second in gyoto, or None where it does not run."""
    interpreter = os.environ.get("JAXKIT_GYOTO", "/usr/bin/python3")
    given = json.dumps(np.concatenate([x, velocity], 1).tolist())
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k != "VIRTUAL_ENV"}
    try:
        done = subprocess.run(
            [interpreter, "-c", GYOTO], input=given, capture_output=True, text=True, env=clean, timeout=300
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"gyoto left out: {error}")
        return None
    if done.returncode:
        print(f"gyoto left out: {done.stderr.strip().splitlines()[-1] if done.stderr else 'it failed'}")
        return None
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return found["rays"] / found["seconds"]


def main() -> None:
    options = arguments(__doc__)
    import diffrax
    import jax
    import jax.numpy as jnp

    import jaxkit as jk

    jk.set_precision("double")
    from jaxkit import gravity

    n = 512 if options.quick else 10_000
    hole = gravity.kerr(a=0.9)
    x, p = (jnp.asarray(v) for v in rays(n))
    h = gravity.hamiltonian(hole)

    def field(t, y, args):
        in_x, in_p = jax.grad(lambda x, p: h(x, p, hole.params), argnums=(0, 1))(y[:4], y[4:])
        return jnp.concatenate([in_p, -in_x])

    def one(y):
        control = diffrax.PIDController(1e-8, 1e-8)
        found = diffrax.diffeqsolve(
            diffrax.ODETerm(field), diffrax.Dopri8(), 0.0, 100.0, None, y, stepsize_controller=control, throw=False
        )
        return found.ys[-1]

    plain = jax.jit(jax.vmap(one))
    y = jnp.concatenate([x, p], -1)
    ours = lambda: gravity.trace(hole, x, p, 100.0, rtol=1e-8, atol=1e-8, inner=0)
    points = jnp.stack([jnp.zeros(n), 3 + jnp.arange(n) / n, 1 + jnp.arange(n) / (2 * n), jnp.zeros(n)], -1)
    curve = jax.jit(jax.vmap(lambda x: (lambda k: (k.einstein, k.kretschmann))(gravity.curvature(hole)(x))))
    times = measure({"jaxkit": ours, "diffrax vmap": lambda: plain(y), "curvature": lambda: curve(points)}, repeats=5)
    end, there = ours(), plain(y)
    start = gravity.carter_constant(x, p, 0.9)
    drift = lambda x, p: float(jnp.max(jnp.abs(gravity.carter_constant(x, p, 0.9) / start - 1)))
    drifts = {"jaxkit": drift(end.x, end.p), "diffrax vmap": drift(there[:, :4], there[:, 4:])}
    rate = {name: n / times[name].cpu for name in drifts}
    rows = [
        {
            "code": name,
            "rays": n,
            "rays_per_cpu_s": rate[name],
            "carter_drift": drifts[name],
            "first_call_s": times[name].first,
        }
        for name in drifts
    ]
    few = 300
    up = jax.vmap(lambda x, p: jnp.linalg.inv(hole(x)) @ p)(x[:few], p[:few])
    peer = gyoto_rate(np.asarray(x[:few]), np.asarray(up))
    if peer:
        rows.append({"code": "gyoto rkf78", "rays": few, "rays_per_cpu_s": peer})
    print(table(rows))
    per_point = times["curvature"].cpu / n * 1e6
    print(f"curvature (Einstein and Kretschmann) per point: {per_point:.2f} microseconds")
    goals = [
        goal("rays per CPU-second, times plain vmapped diffrax", rate["jaxkit"] / rate["diffrax vmap"], 2.0),
        goal("Carter drift at 1e-8", drifts["jaxkit"], 1e-6, at_least=False),
        goal("curvature per point, microseconds (5 x sympy-cse 2.9)", per_point, 14.5, at_least=False),
    ]
    if peer:
        goals.append(goal("rays per CPU-second, times gyoto", rate["jaxkit"] / peer, 2.0))
    print(table(goals))
    if not options.quick:
        print(save("gravity", claim=str(__doc__).splitlines()[0], rows=rows, goals=goals))


if __name__ == "__main__":
    sys.exit(main())
