"""Equations in one unknown whose roots are known in closed form, or that have none, with value and unknown scaled.

Cusps, kinks just above zero, edges of the domain, jumps, poles, tails that underflow, multiple roots and roots at zero,
each with values scaled by up to 1e+-100 and the unknown by up to 1e+-20. An answer is right within ten times the
relative tolerance of a root; about a root at zero, within rounding of the place where it was looked for.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxkit as jk
from benchmarks import _harness as harness
from benchmarks._truth import Tally

METHODS = ("newton", "safeguarded", "halley", "bisect", "robust")


class _Family(NamedTuple):
    """`fn(xp, u, c)` in JAX or NumPy, its roots for `c`, and an interval about them."""

    shown: str
    fn: Callable[[Any, Any, Any], Any]
    roots: Callable[[float], list[float]]
    low: Callable[[float], float] = lambda c: -3 * c - 0.1
    high: Callable[[float], float] = lambda c: 4 * c + 1.3


_small = lambda c: 1e-3 * c
_none = lambda c: []
FAMILIES = (
    _Family("u^2 - c", lambda xp, u, c: u * u - c, lambda c: [-(c**0.5), c**0.5], lambda c: 0.0),
    _Family("log(u) + 9c", lambda xp, u, c: xp.log(u) + 9 * c, lambda c: [np.exp(-9 * c)], lambda c: 1e-14),
    _Family("1/u - c", lambda xp, u, c: 1 / u - c, lambda c: [1 / c], _small, lambda c: 1e6),
    _Family("(u - c)^3", lambda xp, u, c: (u - c) * (u - c) * (u - c), lambda c: [c]),
    _Family("u^2 + c", lambda xp, u, c: u * u + c, _none),
    _Family("|u|^.3 + c", lambda xp, u, c: xp.abs(u) ** 0.3 + c, _none),
    _Family("|u - c|^.3 + 1", lambda xp, u, c: xp.abs(u - c) ** 0.3 + 1, _none),
    _Family("sqrt(u) + c", lambda xp, u, c: xp.sqrt(u) + c, _none, _small),
    _Family("sign(u - c)(1 + |u - c|^.3)", lambda xp, u, c: xp.sign(u - c) * (1 + xp.abs(u - c) ** 0.3), _none),
    _Family(
        "|u - c|^.3 + 1/2 above c, else -3/2",
        lambda xp, u, c: xp.where(u > c, xp.abs(u - c) ** 0.3 + 0.5, -1.5),
        _none,
    ),
    _Family("1/(u - c)", lambda xp, u, c: 1 / (u - c), _none),
    _Family("exp(u) - c", lambda xp, u, c: xp.exp(u) - c, lambda c: [np.log(c)], lambda c: -5.0),
    _Family("exp(u)", lambda xp, u, c: xp.exp(u), _none),
    _Family("arctan(u - c)", lambda xp, u, c: xp.arctan(u - c), lambda c: [c]),
    _Family("u exp(-u^2)", lambda xp, u, c: u * xp.exp(-u * u), lambda c: [0.0]),
    _Family("u^5", lambda xp, u, c: u * u * u * u * u, lambda c: [0.0]),
    _Family("sin(cu)", lambda xp, u, c: xp.sin(c * u), lambda c: [np.pi / c * k for k in range(-20_000, 20_001)]),
    _Family("u - c/2, NaN above c", lambda xp, u, c: xp.where(u > c, xp.nan, u - c / 2), lambda c: [c / 2]),
    _Family("cbrt(u - c)", lambda xp, u, c: xp.cbrt(u - c), lambda c: [c]),
    _Family("|u| + 1e-8", lambda xp, u, c: xp.abs(u) + 1e-8, _none),
    _Family("|u - c| + 1e-6", lambda xp, u, c: xp.abs(u - c) + 1e-6, _none),
    _Family("max(u - c, 2c - 2u) + 1e-7", lambda xp, u, c: xp.maximum(u - c, 2 * (c - u)) + 1e-7, _none),
)


class _Problem(NamedTuple):
    kind: int
    c: float
    scale: float
    unit: float
    start: float
    low: float
    high: float


def _problem(rng: np.random.Generator) -> _Problem:
    kind, c = int(rng.integers(len(FAMILIES))), float(rng.uniform(0.2, 3))
    family, scaled = FAMILIES[kind], rng.random() < 0.5
    scale, unit = (10.0 ** rng.uniform(-100, 100), 10.0 ** rng.uniform(-20, 20)) if scaled else (1.0, 1.0)
    low, high = family.low(c), family.high(c)
    start = float(rng.uniform(low, high)) if rng.random() < 0.9 else float(rng.normal() * 100)
    return _Problem(kind, c, scale, unit, start * unit, low * unit, high * unit)


def _jax_fn(x: jax.Array, args: Any) -> jax.Array:
    kind, c, scale, unit = args
    branches = [lambda u, c, fn=family.fn: fn(jnp, u, c) for family in FAMILIES]
    return scale * jax.lax.switch(kind, branches, x / unit, c)


def _solve(method: str, lanes: list[jax.Array]) -> jk.Root:
    bracketing = method in ("safeguarded", "bisect")

    def one(kind: Any, c: Any, scale: Any, unit: Any, start: Any, low: Any, high: Any) -> jk.Root:
        x0, ends = (None, (low, high)) if bracketing else (start, None)
        return jk.root(_jax_fn, x0, (kind, c, scale, unit), method=method, bracket=ends)

    return jax.jit(jax.vmap(one))(*lanes)


def _right(problem: _Problem, x: float) -> bool:
    """Whether it is within tolerance of a root of the equation in exact arithmetic."""
    u, roots = x / problem.unit, np.array(FAMILIES[problem.kind].roots(problem.c))
    near = 1e-8 * np.abs(roots) + 1e-15 * (roots == 0) * max(abs(problem.start / problem.unit), 1)
    far = FAMILIES[problem.kind].shown == "sin(cu)" and abs(u) > roots[-1]  # every float is next to a root
    return bool(far or np.any(np.abs(u - roots) <= near))


def _peers(problems: list[_Problem]) -> list[Tally]:
    """SciPy's open and bracketing solvers."""
    optimize = harness.optional("scipy.optimize")
    if optimize is None:
        return []
    open_one, bracketed = Tally("root", "scipy newton"), Tally("root", "scipy brentq")
    for problem in problems:
        fn = lambda x, p=problem: float(p.scale * FAMILIES[p.kind].fn(np, np.float64(x / p.unit), p.c))
        for tally, solve in (
            (open_one, lambda p=problem, fn=fn: optimize.newton(fn, p.start)),
            (bracketed, lambda p=problem, fn=fn: optimize.brentq(fn, p.low, p.high)),
        ):
            x, ok = np.nan, True
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    x = float(solve())
                except (RuntimeError, ValueError, OverflowError):
                    ok = False
            tally.add(ok=ok, right=ok and _right(problem, x), problem=f"{problem}: {x!r}")
    return [open_one, bracketed]


def judge(count: int, seed: int) -> list[Tally]:
    """Judge `jk.root`, each method on the same problems."""
    rng = np.random.default_rng(seed)
    problems = [_problem(rng) for _ in range(count)]
    lanes = [jnp.asarray(np.array(column)) for column in zip(*problems, strict=True)]
    tallies = []
    for method in METHODS if count > 100 else METHODS[:2]:  # a few are asked by the quick tests
        found, tally = _solve(method, lanes), Tally("root", f"jaxkit {method}")
        values, status = np.asarray(found.value), np.asarray(found.status)
        for problem, x, code in zip(problems, values, status, strict=True):
            shown = FAMILIES[problem.kind].shown
            text = f"{shown} = 0, {problem}: {float(x)!r} by {method}, u = {float(x) / problem.unit!r}"
            roots = bool(FAMILIES[problem.kind].roots(problem.c))
            tally.add(ok=code == 0, right=_right(problem, float(x)), problem=text, solvable=roots)
        tallies.append(tally)
    return tallies + _peers(problems)
