"""The peers of benchmarks/gravity.py, each in a Python of its own: `python _gravity_peers.py NAME < rays.json`.

Input: `{"x": points, "up": contravariant momenta, "length": affine length}`. Output: one line of JSON with the seconds
of the best of three runs, the end states `(x, u)`, the affine parameters there (null where only the time t is known)
and the mean number of steps. Nothing but the peer and numpy is imported.
"""

import json
import logging
import sys
import time

import numpy as np

SPIN = 0.9


def best(run, repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def gyoto(x: np.ndarray, up: np.ndarray, length: float) -> dict:
    """To a coordinate time: gyoto stops at the first step beyond it, on average as far as the others go."""
    sys.path.insert(0, "/usr/lib/python3/dist-packages")
    import gyoto.core
    import gyoto.std

    metric = gyoto.std.KerrBL()
    metric.spin(SPIN)
    photon = gyoto.core.Photon()
    photon.metric(metric)
    photon.relTol(1e-8)
    photon.absTol(1e-8)
    photon.adaptive(True)
    photon.integrator("runge_kutta_fehlberg78")
    rows = [tuple(map(float, row)) for row in np.concatenate([x, up], 1)]

    def one(row):
        photon.setInitCoord(row, 0)
        photon.reset()
        photon.xFill(1.07 * length)

    ends, steps = [], 0
    for row in rows:
        one(row)
        n = photon.get_nelements()
        columns = [np.zeros(n) for _ in range(8)]
        photon.get_t(columns[0])
        photon.getCoord(*columns)
        ends.append([float(column[-1]) for column in columns])
        steps += n - 1
    seconds = best(lambda: [one(row) for row in rows])
    return {"seconds": seconds, "ends": ends, "affine": None, "steps": steps / len(rows)}


def pygro(x: np.ndarray, up: np.ndarray, length: float) -> dict:
    """PyGRO with its compiled (cython) equations; symbolic set-up and compilation are not counted."""
    logging.disable(logging.CRITICAL)
    import pygro as peer

    sigma, delta = "(r**2 + a**2*cos(theta)**2)", "(r**2 - 2*r + a**2)"
    line = (
        f"-(1 - 2*r/{sigma})*dt**2 - 4*r*a*sin(theta)**2/{sigma}*dt*dphi + {sigma}/{delta}*dr**2 + {sigma}*dtheta**2"
        f" + (r**2 + a**2 + 2*r*a**2/{sigma}*sin(theta)**2)*sin(theta)**2*dphi**2"
    )
    start = time.process_time()
    metric = peer.Metric("Kerr", ["t", "r", "theta", "phi"], line, a=SPIN)
    engine = peer.GeodesicEngine(metric, backend="autowrap", integrator="dp45")
    setup = time.process_time() - start
    ends, steps = [], 0

    def one(point, momentum):
        ray = peer.Geodesic("null", engine, verbose=False)
        ray.set_starting_point(*point)
        ray.initial_u = np.array(momentum)
        engine.integrate(ray, length, 1.0, accuracy_goal=8, precision_goal=8)
        return ray

    for point, momentum in zip(x, up, strict=True):
        ray = one(point, momentum)
        ends.append([*map(float, ray.x[-1]), *map(float, ray.u[-1])])
        steps += len(ray.tau) - 1
        affine = float(ray.tau[-1])
    seconds = best(lambda: [one(*pair) for pair in zip(x, up, strict=True)], 2)
    return {"seconds": seconds, "ends": ends, "affine": affine, "steps": steps / len(x), "setup": setup}


def einsteinpy(x: np.ndarray, up: np.ndarray, length: float) -> dict:
    """EinsteinPy's symplectic integrator of order 4, fixed steps: its most accurate setting that ends today."""
    import warnings

    warnings.simplefilter("ignore")
    from einsteinpy.geodesic import Nulllike

    g = [metric(row) for row in x]
    down = [m @ u for m, u in zip(g, up, strict=True)]
    steps = 100

    def one(point, p):
        ray = Nulllike("Kerr", (SPIN,), list(point[1:]), list(p[1:] / -p[0]), steps=steps, delta=length / steps,
            return_cartesian=False, order=4, omega=0.01, suppress_warnings=True)  # fmt: skip
        return ray.trajectory[1][-1]

    start = time.process_time()
    last = [one(point, p) for point, p in zip(x, down, strict=True)]
    seconds = time.process_time() - start
    ends = []
    for row in last:  # (x, p): raise the index
        ends.append([*map(float, row[:4]), *map(float, np.linalg.solve(metric(row[:4]), row[4:8]))])
    return {"seconds": seconds, "ends": ends, "affine": length, "steps": steps}


def metric(x) -> np.ndarray:
    r, sin2 = x[1], np.sin(x[2]) ** 2
    sigma, delta = r**2 + SPIN**2 * np.cos(x[2]) ** 2, r**2 - 2 * r + SPIN**2
    g = np.diag([2 * r / sigma - 1, sigma / delta, sigma, (r**2 + SPIN**2 + 2 * r * SPIN**2 * sin2 / sigma) * sin2])
    g[0, 3] = g[3, 0] = -2 * r * SPIN * sin2 / sigma
    return g


if __name__ == "__main__":
    given = json.load(sys.stdin)
    peer = {"gyoto": gyoto, "pygro": pygro, "einsteinpy": einsteinpy}[sys.argv[1]]
    print(json.dumps(peer(np.array(given["x"]), np.array(given["up"]), given["length"])))
