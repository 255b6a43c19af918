"""CLAIM: a million equations cost what a compiled loop costs, and all roots of a function less than a Chebyshev solver.

A million Kepler equations `E - e sin E = M` (e < 0.9, double precision, CPU time), all real roots of an oscillating
function, and the basins of z^3 = 1, each against its peers in the same run.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jaxkit as jk
from benchmarks import _harness
from jaxkit import newton

jk.set_precision("double")
HARD = "sin(x^2) + sin(x)^2 = exp(-(x-5)^2/10)"
TOL = 1e-9


def kepler(E, p):
    return E - p["e"] * jnp.sin(E) - p["M"]


def orbits(count):
    rng = np.random.default_rng(0)
    return {"e": 0.9 * rng.random(count), "M": np.pi * rng.random(count)}


def ours(orbit, guess):
    """`solve_many` with three methods."""
    lanes = {name: jnp.asarray(value) for name, value in orbit.items()}
    x0 = jnp.asarray(guess)
    programs = {}
    for method in ("newton", "halley"):
        run = jax.jit(functools.partial(newton.solve_many, kepler, method=method, rtol=TOL, atol=TOL))
        programs[f"jaxkit {method}"] = lambda run=run: run(x0, lanes).value
    ends = (lanes["M"] - 0.01, lanes["M"] + lanes["e"] + 0.01)
    run = jax.jit(
        lambda a, b, p: newton.solve_many(kepler, 0.5 * (a + b), p, bracket=(a, b), rtol=TOL, atol=TOL, max_steps=100)
    )
    programs["jaxkit safeguarded"] = lambda: run(*ends, lanes).value
    return programs


def scipy_peers(orbit, guess, share):
    optimize, elementwise = _harness.optional("scipy.optimize"), _harness.optional("scipy.optimize.elementwise")
    if optimize is None or elementwise is None:
        return {}
    brentq, scipy_newton, find_root = optimize.brentq, optimize.newton, elementwise.find_root
    e, M = orbit["e"], orbit["M"]
    f, slope = (lambda E, e, M: E - e * np.sin(E) - M), (lambda E, e, M: 1 - e * np.cos(E))
    few = slice(0, share)

    def loop():
        return [brentq(f, m - 0.01, m + k + 0.01, args=(k, m)) for k, m in zip(e[few], M[few], strict=True)]

    return {
        "scipy newton": lambda: scipy_newton(f, guess, fprime=slope, args=(e, M), tol=TOL),
        "scipy find_root": lambda: (
            find_root(f, (M - 0.01, M + e + 0.01), args=(e, M), tolerances={"xatol": TOL, "xrtol": TOL}).x
        ),
        f"scipy brentq loop, {share}": loop,
    }


def optimistix_peers(orbit, guess):
    optx = _harness.optional("optimistix")
    if optx is None:
        return {}
    lanes, x0 = {name: jnp.asarray(value) for name, value in orbit.items()}, jnp.asarray(guess)

    def many(solver, options):
        def one(x0, p):
            chosen = {key: fn(p) for key, fn in options.items()}
            return optx.root_find(kepler, solver, x0, p, options=chosen, throw=False, max_steps=100).value

        run = jax.jit(jax.vmap(one))
        return lambda: run(x0, lanes)

    ends = {"lower": lambda p: p["M"] - 0.01, "upper": lambda p: p["M"] + p["e"] + 0.01}
    return {
        "optimistix Newton": many(optx.Newton(rtol=TOL, atol=TOL), {}),
        "optimistix Bisection": many(optx.Bisection(rtol=TOL, atol=TOL), ends),
        "optimistix Dogleg": many(optx.Dogleg(rtol=TOL, atol=TOL), {}),
    }


def jaxopt_peers(orbit):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jaxopt = _harness.optional("jaxopt")
        if jaxopt is None:
            return {}
        lanes = {name: jnp.asarray(value) for name, value in orbit.items()}

        def one(p):
            solver = jaxopt.Bisection(
                kepler, p["M"] - 0.01, p["M"] + p["e"] + 0.01, tol=TOL, maxiter=60, check_bracket=False
            )
            return solver.run(None, p).params

        run = jax.jit(jax.vmap(one))
        return {"jaxopt Bisection": lambda: run(lanes)}


def numba_peers(orbit, guess):
    numba = _harness.optional("numba")
    if numba is None:
        return {}

    @numba.njit(fastmath=False)
    def solve(e, M, x0):
        out = np.empty_like(M)
        for k in range(M.size):
            x = x0[k]
            for _ in range(50):
                dx = (x - e[k] * np.sin(x) - M[k]) / (1 - e[k] * np.cos(x))
                x -= dx
                if abs(dx) <= 1e-9 * (1 + abs(x)):
                    break
            out[k] = x
        return out

    return {"numba": lambda: solve(orbit["e"], orbit["M"], guess)}


def all_roots_programs():
    equations = newton.parse("sin(x^2) + sin(x)^2 - exp(-(x-5)^2/10)")
    programs = {
        "jaxkit all_roots": lambda: newton.all_roots(HARD, (0, 10)).values,
        "jaxkit all_roots, proven": lambda: newton.all_roots(HARD, (0, 10), certify=True).values,
    }
    return {**programs, **_chebyshev(lambda x: equations.on_host(x=x))}


def _chebyshev(f):
    """Chebyshev interpolants on halved intervals, roots by colleague matrices: what chebfun does, in numpy."""
    from numpy.polynomial import chebyshev

    try:
        from chebpy import chebfun

        return {"chebpy": lambda: chebfun(f, [0, 10]).roots()}
    except (ImportError, SyntaxError):  # the package of that name on PyPI is another one, for Python 2
        print("chebpy (Python 3) is not installed: numpy.polynomial.chebyshev on 16 pieces stands in for it.")

    def roots():
        found = []
        for k in range(16):
            low, high = 10 * k / 16, 10 * (k + 1) / 16
            piece = chebyshev.Chebyshev.interpolate(f, 40, domain=[low, high])
            z = piece.trim(1e-14).roots()
            real = z[np.abs(z.imag) < 1e-9].real
            found.append(real[(real >= low) & (real <= high)])
        return np.concatenate(found)

    return {"numpy Chebyshev": roots}


def basin_programs(size):
    window, residual = (-2.0, 2.0, -2.0, 2.0), newton.parse("z^3 - 1")
    axis = np.linspace(-2, 2, size)
    whole = axis[None, :] + 1j * axis[:, None]

    def numpy_basins():
        w = whole.copy()
        steps = np.ones(w.shape, np.int32)
        with np.errstate(all="ignore"):
            for _ in range(30):
                dw = (w**3 - 1) / (3 * w**2)
                w -= dw
                steps += np.abs(dw) > 1e-6
        return w, steps

    programs = {
        "jaxkit basins": lambda: newton.iterate_basins(residual, window, size=size, max_steps=30, atol=1e-6),
        "numpy basins": numpy_basins,
    }
    numba = _harness.optional("numba")
    if numba is not None:

        @numba.njit
        def by_numba(w):
            out, steps = np.empty_like(w), np.empty(w.shape, np.int32)
            for i in range(w.shape[0]):
                for j in range(w.shape[1]):
                    v, k = w[i, j], 1
                    for _ in range(30):
                        dv = (v * v * v - 1) / (3 * v * v)
                        v = v - dv
                        if abs(dv) > 1e-6:
                            k += 1
                    out[i, j], steps[i, j] = v, k
            return out, steps

        programs["numba basins"] = lambda: by_numba(whole)
    return programs


def check(values, orbit):
    """Every peer must have solved the equations it is timed on."""
    E = np.asarray(values)
    n = E.size
    return float(np.max(np.abs(E - orbit["e"][:n] * np.sin(E) - orbit["M"][:n])))


def main():
    options = _harness.arguments(__doc__)
    count, size, repeats = (20_000, 100, 2) if options.quick else (1_000_000, 1000, 3)
    orbit = orbits(count)
    guess = orbit["M"] + 0.85 * orbit["e"]
    programs = ours(orbit, guess) | numba_peers(orbit, guess) | scipy_peers(orbit, guess, count // 200)
    programs |= optimistix_peers(orbit, guess) | jaxopt_peers(orbit)
    times = _harness.measure(programs, repeats=repeats)
    errors = {name: check(program(), orbit) for name, program in programs.items()}
    times_roots = _harness.measure(all_roots_programs(), repeats=repeats)
    counts = {name: len(program()) for name, program in all_roots_programs().items()}
    times_basins = _harness.measure(basin_programs(size), repeats=repeats)
    row = lambda name, t, extra: {
        "program": name,
        "cpu ms": 1e3 * t.cpu,
        "wall ms": 1e3 * t.wall,
        "first s": t.first,
        **extra,
    }
    rows = [row(name, t, {"largest residual": errors[name]}) for name, t in times.items()]
    rows += [row(name, t, {"roots": counts[name]}) for name, t in times_roots.items()]
    rows += [row(name, t, {}) for name, t in times_basins.items()]
    print(_harness.table(rows))
    goals = _goals(times, times_roots, times_basins)
    print(_harness.table(goals))
    if not options.quick:
        print(_harness.save("roots", claim=__doc__.split("\n")[0], rows=rows, goals=goals))


def _goals(times, times_roots, times_basins):
    best = min(times["jaxkit newton"].cpu, times["jaxkit halley"].cpu)
    wanted = [("scipy newton", best, 3), ("optimistix Newton", best, 5), ("scipy find_root", best, 10)]
    wanted += [("optimistix Bisection", best, 20), ("jaxopt Bisection", best, 20), ("numba", best, 1)]
    goals = [
        _harness.goal(f"Kepler: times faster than {peer}", times[peer].cpu / mine, least)
        for peer, mine, least in wanted
        if peer in times
    ]
    peer = next(name for name in times_roots if not name.startswith("jaxkit"))
    goals.append(
        _harness.goal(
            f"all roots: times faster than {peer}", times_roots[peer].cpu / times_roots["jaxkit all_roots"].cpu, 10
        )
    )
    fast = times_basins["jaxkit basins"].cpu
    goals.append(_harness.goal("basins: times faster than numpy", times_basins["numpy basins"].cpu / fast, 7))
    return goals


if __name__ == "__main__":
    main()
