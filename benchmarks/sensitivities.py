"""CLAIM: one solve, gradients of many, and work against precision, beside the peers (goals that are missed say so).

Gradients of the sum of the last states by six parameters, 10,000 competition problems of `benchmarks.ensembles`: each
peer at our tolerance, and at the loosest of 1e-8, 1e-10, 1e-12 at which its gradients are in our class (error at most
ten times ours: a solver whose steps do not look at the derivatives needs a stricter one); one solve alone; and the CPU
time of 10,000 solves against the error reached, for four tolerances. Writes `results/sensitivities.json` and the figure
`results/ensembles.png`.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

import jaxkit as jk
from benchmarks._harness import RESULTS, arguments, goal, measure, one_core, optional, save, table
from benchmarks.ensembles import END, TOL, by_diffrax, by_heyoka, field, ours, problems
from jaxkit.report import figures


def our_gradient(x0, p, tol=TOL):
    total = lambda q: jnp.sum(jk.ensemble(field, x0, (0.0, END), q, rtol=tol, atol=tol).final)
    # Not inside `jit`: called from outside, the engine compiles with vectors as wide as the processor's.
    run, p = jax.grad(total), tuple(map(jnp.asarray, p))
    return lambda: jnp.concatenate(run(p), -1)


def diffrax_gradient(x0, p, tol=TOL):
    diffrax = optional("diffrax")

    def total(q):
        r1, r2, n1, n2, a1, a2 = q
        pair = lambda t, x, _: (
            r1 * x[0] * (1 - x[0] / n1) - a1 * x[0] * x[1],
            r2 * x[1] * (1 - x[1] / n2) - a2 * x[0] * x[1],
        )
        control = diffrax.PIDController(rtol=tol, atol=tol)
        found = diffrax.diffeqsolve(
            diffrax.ODETerm(pair),
            diffrax.Dopri8(),
            0.0,
            END,
            None,
            (10.0, 10.0),
            stepsize_controller=control,
            max_steps=None,
            adjoint=diffrax.ForwardMode(),
        )
        return found.ys[0][-1] + found.ys[1][-1]

    run, q = jax.jit(jax.vmap(jax.jacfwd(total))), tuple(jnp.asarray(v) for pair in p for v in pair.T)
    return lambda: jnp.stack(run(q), -1)


def torch_gradient(x0, p, tol=TOL):
    torch, solver = optional("torch"), optional("torchdiffeq")
    if torch is None or solver is None:
        return None
    torch.set_num_threads(1)
    x, ts = torch.tensor(x0), torch.tensor([0.0, END], dtype=torch.float64)

    def run():
        q = [torch.tensor(v, requires_grad=True) for v in p]
        rate = lambda t, x: x * (q[0] * (1 - x / q[1])) - q[2] * x * x.flip(-1)
        solver.odeint(rate, x, ts, method="dopri8", rtol=tol, atol=tol)[-1].sum().backward()
        return torch.cat([v.grad for v in q], 1).numpy()

    return run


def heyoka_gradient(x0, p, tol=TOL, batch=8):
    hy = optional("heyoka")
    if hy is None:
        return None
    x, y = hy.make_vars("x", "y")
    r1, r2, n1, n2, a1, a2 = (hy.par[i] for i in range(6))
    system = [(x, r1 * x * (1 - x / n1) - a1 * x * y), (y, r2 * y * (1 - y / n2) - a2 * x * y)]
    varied = hy.var_ode_sys(system, hy.var_args.params, order=1)
    solver = hy.taylor_adaptive_batch(varied, state=np.full((2, batch), 10.0), pars=np.ones((6, batch)), tol=tol)
    first, columns = solver.state.copy(), np.concatenate(p, 1).T.copy()

    def run():
        found = np.empty((len(x0), 6))
        for i in range(0, len(x0), batch):
            solver.set_time(0.0)
            solver.state[:], solver.pars[:] = first, columns[:, i : i + batch]
            solver.propagate_until(END)
            found[i : i + batch] = (solver.state[2:8] + solver.state[8:14]).T
        return found

    return run


def error_of(found, exact):
    """The largest error, relative where the number is large."""
    return float(np.max(np.abs(np.asarray(found) - exact) / np.maximum(1, np.abs(exact))))


def rows_of(programs, exact, repeats):
    programs = {name: program for name, program in programs.items() if program is not None}
    times, rows = measure(programs, repeats=repeats), []
    for name, program in programs.items():
        gap = error_of(program(), exact)
        rows.append({"solver": name, "CPU-ms": times[name].cpu * 1e3, "error": gap, "first call s": times[name].first})
    return [{**row, "ratio": row["CPU-ms"] / rows[0]["CPU-ms"]} for row in rows]


PEERS = {
    "diffrax Dopri8, tuple, jacfwd": diffrax_gradient,
    "torchdiffeq dopri8, backward": torch_gradient,
    "heyoka variational, batch 8": heyoka_gradient,
}
STRICTER = (1e-10, 1e-12)


def gradients(x0, p, repeats):
    """Each peer at our tolerance; and where its gradients are as exact as ours, at the strictest if they never are."""
    exact, own = np.asarray(our_gradient(x0, p, tol=1e-12)()), our_gradient(x0, p)
    bound, programs = 10 * error_of(own(), exact), {"jaxkit, gradient": own}
    for name, make in PEERS.items():
        programs[name] = peer = make(x0, p)
        exacting = [] if peer is None or error_of(peer(), exact) <= bound else STRICTER
        for tol in exacting:
            found = make(x0, p, tol)
            if error_of(found(), exact) <= bound or tol == STRICTER[-1]:
                programs[f"{name}, tolerance {tol:g}"] = found
                break
    return rows_of(programs, exact, repeats)


def precision(n, tolerances, repeats):
    """CPU time against the error reached."""
    x0, p = problems(n, False)
    exact, curves = np.asarray(ours(x0, p, rtol=1e-13, atol=1e-13)()), []
    for tol in tolerances:
        programs = {
            "jaxkit, Taylor": ours(x0, p, rtol=tol, atol=tol),
            "diffrax, Dopri8, tuple": by_diffrax(x0, p, scalars=True, tol=tol),
            "heyoka, batch 16": by_heyoka(x0, p, 16, tol=tol),
        }
        curves += [{"tolerance": tol, **row} for row in rows_of(programs, exact, repeats)]
    return curves


def plot(curves, path, n):
    import matplotlib.pyplot as plt

    with figures.style():
        figure, axes = plt.subplots(figsize=(6, 4))
        for name in dict.fromkeys(row["solver"] for row in curves):
            rows = [row for row in curves if row["solver"] == name]
            axes.loglog([r["error"] for r in rows], [r["CPU-ms"] for r in rows], "o-", label=name)
        axes.set_xlabel("largest relative error")
        axes.set_ylabel(f"CPU time of {n} solves / ms")
        axes.invert_xaxis()
        axes.legend()
        return figures.save(
            figure, path, caption="Competition problems, tolerances 1e-4 to 1e-10; right is more exact."
        )


def main():
    options = arguments(__doc__)
    one_core()
    jk.set_precision("double")
    n, repeats = (160, 1) if options.quick else (10_000, 3)
    x0, p = problems(n, False)
    gradient = gradients(x0, p, repeats)
    one, q = x0[:1], tuple(v[:1] for v in p)
    singles = {"jaxkit, one solve": ours(one, q), "diffrax Dopri8, tuple, one solve": by_diffrax(one, q, scalars=True)}
    single = rows_of(singles, np.asarray(ours(one, q, rtol=1e-13, atol=1e-13)()), repeats)
    curves = precision(n, (1e-4, 1e-6, 1e-8, 1e-10), repeats)
    print(table(gradient), table(single), table(curves), sep="\n\n")
    # The last row of a peer is the one that is as exact as ours.
    of = lambda rows, name: next((r["ratio"] for r in reversed(rows) if r["solver"].startswith(name)), float("nan"))
    goals = [
        goal("gradient as exact: diffrax / jaxkit", of(gradient, "diffrax"), 6),
        goal("gradient as exact: torchdiffeq / jaxkit", of(gradient, "torchdiffeq"), 30),
        goal("one solve: diffrax / jaxkit", of(single, "diffrax"), 2),
    ]
    print(table(goals))
    if not options.quick:
        save("sensitivities", claim=(__doc__ or "").splitlines()[0], rows=[*gradient, *single, *curves], goals=goals)
        print("wrote", plot(curves, RESULTS / "ensembles.png", n))


if __name__ == "__main__":
    main()
