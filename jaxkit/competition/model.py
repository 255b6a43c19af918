"""Competing species over time, with and without the noise of individual births and deaths."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core import checks
from jaxkit.core.numerics import safe_sqrt
from jaxkit.dynamics.ode.methods import SDE, Method, RungeKutta
from jaxkit.dynamics.ode.solution import Solution
from jaxkit.dynamics.ode.solve import solve
from jaxkit.models.lotka_volterra import Params, Rates, as_rates, lotka_volterra


def simulate(
    p: Params | Rates,
    x0: ArrayLike,
    ts: ArrayLike,
    *,
    method: str | Method = "tsit5",
    rtol: float = 1e-7,
    atol: float = 1e-9,
    max_steps: int = 4096,
    event: Callable[..., Array] | None = None,
) -> Solution:
    """Populations over time, from `x0` at `ts[0]`.

    It is differentiable in `p`, `x0` and `ts`, and works under `vmap`.

    Args:
        p: Parameters of two species (`Params`) or of n (`Rates`).
        x0: Populations at `ts[0]`, shape `(n,)`, not negative.
        ts: Increasing times, shape `(m,)`.
        method: As for `jaxkit.solve`.
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step, in units of `x`.
        max_steps: Most steps; beyond, the status is `max_steps`.
        event: `event(t, x, rates)`, which stops the motion where it crosses zero; `x` is a tuple of numbers.

    Returns:
        A `Solution` with `xs` of shape `(m, n)`.

    Raises:
        ValueError: A parameter is not positive, a shape is wrong, or `ts` does not increase.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit import competition as comp
        >>> p = comp.Params(r=(0.1, 0.3), N=(500.0, 1000 / 3), a=(1e-4, 2e-4))
        >>> sol = comp.simulate(p, (100.0, 150.0), jnp.array([0.0, 10.0, 1000.0])).checked()
        >>> [[round(float(v), 2) for v in x] for x in sol.xs]
        [[100.0, 150.0], [165.06, 282.47], [375.0, 250.0]]

    References:
        Su Jianlin, Two-species competition: LaTeX + Python (kexue.fm/archives/3120).
    """
    rates, x0 = as_rates(p), checks.floating("x0", x0)
    checks.shape("x0", x0, (rates.r.size,))
    checks.positive("x0", x0, strict=False)
    checks.increasing("ts", ts)
    options = {"method": method, "rtol": rtol, "max_steps": max_steps, "event": event}
    return run_kept(_simulate, (options,), (rates, x0, ts, atol))


def _simulate(options: dict[str, Any], rates: Rates, x0: Array, ts: ArrayLike, atol: ArrayLike) -> Solution:
    sol = solve(lotka_volterra, tuple(x0[i] for i in range(x0.size)), ts, rates, atol=atol, **options)
    stacked = lambda xs: jnp.stack(xs, axis=-1)
    return Solution(sol.ts, stacked(sol.xs), sol.status, sol.steps, sol.rejected, sol.end, stacked(sol.final))


def simulate_noisy(
    p: Params | Rates, x0: ArrayLike, ts: ArrayLike, *, key: Array, individuals: float = 1.0, dt: float = 0.01
) -> Solution:
    """Populations with demographic noise: births and deaths of individuals, as a diffusion.

    `dx_i = x_i (r_i - sum_j A_ij x_j) dt + sqrt(x_i (r_i + sum_j A_ij x_j) / individuals) dW_i` (Itô). An empty
    population stays empty; for many individuals the mean follows `simulate`.

    Args:
        p: Parameters.
        x0: Populations at `ts[0]`, shape `(n,)`.
        ts: Increasing times.
        key: Random key of the noise.
        individuals: Number of individuals in one unit of `x`.
        dt: Step of the Euler-Maruyama scheme, in units of `ts`.

    Returns:
        A `Solution` with `xs` of shape `(m, n)`.

    References:
        Gillespie (2000), The chemical Langevin equation, J. Chem. Phys. 113, 297.
    """
    rates, x0 = as_rates(p), checks.floating("x0", x0)
    checks.shape("x0", x0, (rates.r.size,))
    checks.positive("x0", x0, strict=False)
    checks.positive("individuals", individuals)
    drift = lambda t, x, q: lotka_volterra(t, jnp.maximum(x, 0), q[0])
    noise = lambda t, x, q: safe_sqrt(jnp.maximum(x, 0) * (q[0].r + q[0].A @ jnp.maximum(x, 0)) / q[1])
    # The step is fixed, so the number of steps is known whenever the times are (in NumPy, so that nothing is traced).
    # It is rounded up to a power of two: spans of nearly the same length share a program.
    steps = 4096 if checks.is_traced(ts) else int(np.ceil(np.ptp(np.asarray(ts)) / dt)) + np.size(ts) + 16
    euler, most = RungeKutta("euler", dt=dt), 1 << (steps - 1).bit_length()
    sol = solve(SDE(drift, noise, key), x0, ts, (rates, individuals), method=euler, max_steps=most)
    floor = lambda v: jnp.maximum(v, 0)
    return Solution(sol.ts, floor(sol.xs), sol.status, sol.steps, sol.rejected, sol.end, floor(sol.final))
