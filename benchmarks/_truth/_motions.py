"""Motions in one number whose solutions are known, many of them nasty: what `solve` and `ensemble` are judged by.

Time is in units of 10^-6 to 10^6, the state in units of up to 10^60. Pulses that are smooth or of a form that is
documented as not seen (`t**2 < 2`, tables) are left out.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import quad, solve_ivp

from benchmarks._truth import Tally

RTOL, ATOL, LOOKS = 1e-6, 1e-8, 20_000
WITHIN = 1e3  # tolerances of one step that the whole may be wrong by


class Problem(NamedTuple):
    """A motion from `x0` at 0 to `end`, the answer there (None: there is none), and the largest it has been."""

    kind: int
    x0: float
    end: float
    args: tuple[float, ...]
    answer: float | None
    size: float


def _pieces(k: float, x0: float, end: float, parts: list[tuple[float, float, float]]) -> float:
    """`x' = f(t) - k x`, where `f` is `height` between two times."""
    after = lambda t: np.exp(-k * (end - min(t, end)))
    return x0 * np.exp(-k * end) + sum(h / k * (after(b) - after(a)) for a, b, h in parts if a < end)


def _pulse(rng: np.random.Generator, tau: float, unit: float) -> Any:
    a, w, k = rng.uniform(0, 5) * tau, 10 ** rng.uniform(-4, 0) * tau, rng.uniform(0.1, 2) / tau
    h, x0 = rng.uniform(0.5, 2) * unit / w, rng.normal() * unit
    return x0, 6 * tau, (k, a, w, h), _pieces(k, x0, 6 * tau, [(a, a + w, h)]), abs(x0) + h * w


def _day(rng: np.random.Generator, tau: float, unit: float) -> Any:
    period, k, h = rng.uniform(0.3, 2) * tau, rng.uniform(0.1, 2) / tau, rng.uniform(0.5, 2) * unit / tau
    w, x0 = period * 10 ** rng.uniform(-3, -0.1), rng.normal() * unit
    parts = [(i * period, i * period + w, h) for i in range(int(6 * tau / period) + 1)]
    return x0, 6 * tau, (k, period, w, h), _pieces(k, x0, 6 * tau, parts), abs(x0) + h / k


def _square(rng: np.random.Generator, tau: float, unit: float) -> Any:
    w, f, k = rng.uniform(0.5, 8) / tau, rng.uniform(0.1, 3), rng.uniform(0.1, 2) / tau
    h, x0, half = unit / tau, rng.normal() * unit, np.pi / w
    parts = [
        (max(0, i * half - f / w), (i + 1) * half - f / w, h * (-1.0) ** i) for i in range(int(6 * tau / half) + 3)
    ]
    return x0, 6 * tau, (k, w, f, h), _pieces(k, x0, 6 * tau, parts), abs(x0) + h / k


def _harvest(rng: np.random.Generator, tau: float, unit: float) -> Any:
    r, q, c = rng.uniform(0.5, 2) * unit / tau, 10 ** rng.uniform(0, 4) / tau, rng.uniform(0.5, 2) * unit
    x0, end = 0.1 * unit, 4 * tau
    late = end - (c - x0) / r
    answer = x0 + r * end if late < 0 else c - r / q * np.expm1(-q * late)
    return x0, end, (r, q, c, 0.0), answer, abs(answer)


def _friction(rng: np.random.Generator, tau: float, unit: float) -> Any:
    c, d, x0 = unit / tau, rng.uniform(-2, 2) * unit / tau, rng.normal() * unit
    end = rng.uniform(0.5, 4) * tau
    speed = d - c * np.sign(x0)
    there = -x0 / speed if speed * x0 < 0 else np.inf  # when it comes to zero
    beyond = 0.0 if abs(d) < c else d - c * np.sign(d)
    answer = x0 + speed * end if end < there else beyond * (end - there)
    return x0, end, (c, d, 0.0, 0.0), answer, abs(x0) + abs(answer)


def _power(rng: np.random.Generator, tau: float, unit: float) -> Any:
    p, s, x0 = float(rng.choice([0.5, 0.75, 1.5, 2.0, 3.0])), float(rng.choice([-1, 1])), rng.uniform(0.5, 2)
    end = rng.uniform(0.2, 3)
    left = x0 ** (1 - p) + s * (1 - p) * end
    if abs(left) < 0.05:  # too near to the end to be known to the tolerance
        end, left = 1.2 * end, x0 ** (1 - p) + s * (1 - p) * 1.2 * end
    answer = left ** (1 / (1 - p)) if left > 0 else 0.0 if p < 1 else None
    del tau, unit
    return x0, end, (s, p, 0.0, 0.0), answer, x0 + abs(answer or 0)


def _stiff(rng: np.random.Generator, tau: float, unit: float) -> Any:
    k, x0, end = 10 ** rng.uniform(0, 8), rng.normal(), rng.uniform(1, 10)
    slow = lambda t: (k * k * np.cos(t) + k * np.sin(t)) / (1 + k * k)
    del unit
    return x0, end * tau, (k, tau, 0.0, 0.0), slow(end) + (x0 - slow(0)) * np.exp(-k * end), 1 + abs(x0)


def _edge(rng: np.random.Generator, tau: float, unit: float) -> Any:
    b, c, x0, end = rng.normal(), rng.uniform(1, 3), rng.normal(), rng.uniform(0.5, 4)
    del tau, unit
    if end > c:
        return x0, end, (b, c, 0.0, 0.0), None, 1.0
    force = quad(lambda s: np.exp(s - end) * np.log(c - s), 0, end, epsabs=1e-12, epsrel=1e-12)[0]
    return x0, end, (b, c, 0.0, 0.0), x0 * np.exp(-end) + b * force, 1 + abs(x0) + abs(b)


def _logistic(rng: np.random.Generator, tau: float, unit: float) -> Any:
    r, x0, end = rng.uniform(0.5, 2) / tau, 10 ** rng.uniform(-3, 1) * unit, rng.uniform(1, 30) * tau
    return x0, end, (r, unit, 0.0, 0.0), unit / (1 + (unit / x0 - 1) * np.exp(-r * end)), unit


def _rise(rng: np.random.Generator, tau: float, unit: float) -> Any:
    k, c, end = 10 ** rng.uniform(0, 1.7) / tau, rng.uniform(0, 10) * tau, 10 * tau
    soft = lambda v: float(np.logaddexp(0, v))
    answer = unit / (tau * k) * (soft(k * (end - c)) - soft(-k * c))
    return 0.0, end, (k, c, unit / tau, 0.0), answer, abs(answer)


# Draws, and the field: of `(t, x, args)` with four parameters.
KINDS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "pulse": (_pulse, lambda t, x, a: jnp.where((t >= a[1]) & (t < a[1] + a[2]), a[3], 0.0) - a[0] * x),
    "day": (_day, lambda t, x, a: jnp.where(t % a[1] < a[2], a[3], 0.0) - a[0] * x),
    "square wave": (_square, lambda t, x, a: a[3] * jnp.sign(jnp.sin(a[1] * t + a[2])) - a[0] * x),
    "harvest": (_harvest, lambda t, x, a: a[0] - a[1] * jnp.maximum(x - a[2], 0.0)),
    "friction": (_friction, lambda t, x, a: a[1] - a[0] * jnp.sign(x)),
    "power": (_power, lambda t, x, a: a[0] * x ** a[1]),
    "stiff": (_stiff, lambda t, x, a: -a[0] / a[1] * (x - jnp.cos(t / a[1]))),
    "edge": (_edge, lambda t, x, a: a[0] * jnp.log(a[1] - t) - x),
    "logistic": (_logistic, lambda t, x, a: a[0] * x * (1 - x / a[1])),
    "rise": (_rise, lambda t, x, a: a[2] * jax.nn.sigmoid(a[0] * (t - a[1])) + 0 * x),
}


def draw(count: int, seed: int) -> list[Problem]:
    """Random problems, the kinds in turn."""
    rng, problems = np.random.default_rng(seed), []
    for i in range(count):
        kind = i % len(KINDS)
        tau, unit = 10 ** rng.uniform(-6, 6), 10 ** rng.uniform(-2, 60)
        x0, end, args, answer, size = list(KINDS.values())[kind][0](rng, tau, unit)
        known = None if answer is None else float(answer)
        problems.append(Problem(kind, float(x0), float(end), tuple(map(float, args)), known, float(size)))
    return problems


def count(tally: Tally, problem: Problem, *, ok: bool, found: float) -> None:
    """Count what a solver said."""
    allowed = WITHIN * (RTOL * problem.size + ATOL)
    right = problem.answer is not None and bool(abs(found - problem.answer) <= allowed)
    text = f"{list(KINDS)[problem.kind]}: {problem}\nfound {found!r}"
    tally.add(ok=ok, right=right, problem=text, solvable=problem.answer is not None)


def any_kind(t: Any, x: Any, a: Any) -> Any:
    """The field of all kinds, the last parameter its number: one program for all problems."""
    found = jnp.zeros_like(x)
    for number, (_, field) in enumerate(KINDS.values()):
        own = a[4] == number
        found = jnp.where(own, field(t, x, [jnp.where(own, v, 0.0) for v in a[:4]]), found)  # no other's switches
    return found


def by_scipy(problems: list[Problem]) -> Tally:
    """The same problems by scipy's LSODA."""
    tally = Tally("", "scipy LSODA")
    fields = [jax.jit(field) for _, field in KINDS.values()]
    for problem in problems:
        looks = 0

        def rate(t: float, x: np.ndarray, problem: Problem = problem) -> np.ndarray:
            nonlocal looks
            looks += 1
            if looks > LOOKS:
                raise TimeoutError
            return np.array([float(fields[problem.kind](t, x[0], problem.args))])

        try:
            with np.errstate(all="ignore"):
                found = solve_ivp(rate, (0, problem.end), [problem.x0], "LSODA", rtol=RTOL, atol=ATOL)
            count(tally, problem, ok=bool(found.success), found=float(found.y[0, -1]))
        except (TimeoutError, ValueError):
            count(tally, problem, ok=False, found=np.nan)
    return tally
