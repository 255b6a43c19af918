"""One solve of the competition model and its gradient: ours against scipy and torchdiffeq.

CLAIM: a single compiled solve is many times faster than scipy's and torchdiffeq's, and its gradient with respect to all
six parameters costs a few solves, where finite differences cost seven.

    python -m benchmarks.solve
"""

import jax
import jax.numpy as jnp
import numpy as np

import jaxkit as jk
from benchmarks._harness import arguments, goal, measure, optional, save, table
from jaxkit import competition as comp

R, N, A = (1.0, 1.2), (100.0, 80.0), (0.008, 0.01)
X0, END, TOL = (10.0, 10.0), 50.0, 1e-8


def ours():
    """Programs of jaxkit: the solve, and its value with the gradient in all six parameters (forward mode)."""
    ts, x0 = jnp.array([0.0, END]), jnp.array(X0)
    p = comp.Params(jnp.array(R), jnp.array(N), jnp.array(A)).arrays()
    end = lambda p, adjoint: comp.simulate(p, x0, ts, rtol=TOL, atol=TOL, method=jk.RungeKutta(adjoint=adjoint)).final

    def twice(p):
        value = jnp.sum(end(p, "forward"))
        return value, value

    run, both = jax.jit(lambda p: end(p, "checkpointed")), jax.jit(jax.jacfwd(twice, has_aux=True))
    return lambda: run(p), lambda: both(p)


def scipys(integrate):
    """Programs of scipy: DOP853, odeint, and forward differences."""

    def velocity(x, q):
        return np.array(
            [
                q[0] * x[0] * (1 - x[0] / q[2]) - q[4] * x[0] * x[1],
                q[1] * x[1] * (1 - x[1] / q[3]) - q[5] * x[0] * x[1],
            ]
        )

    q0 = np.array([*R, *N, *A])
    dop = lambda q=q0: integrate.solve_ivp(
        lambda t, x: velocity(x, q), (0, END), X0, method="DOP853", rtol=TOL, atol=TOL
    ).y[:, -1]
    lsoda = lambda q=q0: integrate.odeint(lambda x, t: velocity(x, q), X0, [0, END], rtol=TOL, atol=TOL)[-1]

    def gradient():
        base, steps = lsoda().sum(), 1e-6 * q0
        return np.array([(lsoda(q0 + np.eye(6)[i] * steps[i]).sum() - base) / steps[i] for i in range(6)])

    return dop, lsoda, gradient


def torchs(torchdiffeq):
    """Programs of torchdiffeq: dopri8, and backpropagation through it."""
    import torch

    q = torch.tensor([*R, *N, *A], dtype=torch.float64, requires_grad=True)
    x0, ts = torch.tensor(X0, dtype=torch.float64), torch.tensor([0.0, END], dtype=torch.float64)

    def velocity(t, x):
        return x * (q[:2] * (1 - x / q[2:4]) - q[4:] * x.flip(0))

    def run():
        with torch.no_grad():
            return torchdiffeq.odeint(velocity, x0, ts, method="dopri8", rtol=TOL, atol=TOL)[-1]

    def gradient():
        q.grad = None
        torchdiffeq.odeint(velocity, x0, ts, method="dopri8", rtol=TOL, atol=TOL)[-1].sum().backward()
        return q.grad.numpy().copy()

    return run, gradient


def main():
    """Measure, print, save."""
    options = arguments(__doc__)
    jk.set_precision("double")
    solve, gradient = ours()
    programs = {"jaxkit tsit5: solve": solve, "jaxkit tsit5: value and gradient": gradient}
    if integrate := optional("scipy.integrate"):
        dop, lsoda, difference = scipys(integrate)
        programs |= {"scipy DOP853: solve": dop, "scipy odeint: solve": lsoda, "scipy odeint: differences": difference}
    if torchdiffeq := optional("torchdiffeq"):
        run, back = torchs(torchdiffeq)
        programs |= {"torchdiffeq dopri8: solve": run, "torchdiffeq dopri8: gradient": back}
    truth = np.asarray(gradient()[0].r)
    if torchdiffeq:
        np.testing.assert_allclose(back()[:2], truth, rtol=1e-4)
    times = measure(programs, repeats=2 if options.quick else 9)
    rows = [
        {
            "program": name,
            "cpu_us": 1e6 * t.cpu,
            "wall_us": 1e6 * t.wall,
            "first_call_s": t.first,
            "ratio": t.cpu
            / times["jaxkit tsit5: " + ("solve" if name.endswith("solve") else "value and gradient")].cpu,
        }
        for name, t in times.items()
    ]
    print(table(rows))
    goals = [
        goal(
            f"one solve against {peer} (times faster)",
            times[f"{peer}: solve"].cpu / times["jaxkit tsit5: solve"].cpu,
            10,
        )
        for peer in ("scipy DOP853", "scipy odeint", "torchdiffeq dopri8")
        if f"{peer}: solve" in times
    ]
    print(table(goals))
    if not options.quick:
        print(save("solve", claim=__doc__.split("CLAIM: ")[1].split("\n\n")[0], rows=rows, goals=goals))


if __name__ == "__main__":
    main()
