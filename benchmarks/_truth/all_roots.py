"""Equations whose roots are known: an outer equation in `u` with its solutions, an inner monotone `u(x)`, scaled."""

import re
from collections.abc import Callable

import numpy as np

from benchmarks._truth import Tally
from jaxkit import newton


def _outer(rng: np.random.Generator) -> tuple[str, dict[str, float], Callable[[float, float], list[float]]]:
    """Text in `u`, parameters, and the solutions between two values of `u`."""
    c, n = float(rng.uniform(0.2, 3.0)), float(rng.choice([2, 3, 4, 5, -1, -2, -3]))
    all_of = lambda *values: lambda lo, hi: [v for v in values if lo <= v <= hi]
    turns = lambda first, period: (
        lambda lo, hi: [
            f + k * period
            for f in first
            for k in range(int(np.ceil((lo - f) / period)), int(np.floor((hi - f) / period)) + 1)
        ]
    )
    kind, even = rng.integers(12), n % 2 == 0
    size = c ** (1 / n)
    cases = [
        ("log(u)^2 = c^2", all_of(np.exp(-c), np.exp(c))),
        ("tan(u)^2 = c^2", turns((np.arctan(c), -np.arctan(c)), np.pi)),
        ("((u+1)/(u-1))^2 = (1+c)^2", all_of((2 + c) / c, c / (2 + c))),
        ("u^n = c", all_of(size, -size) if even else all_of(size)),
        ("u^n + c = 0", all_of() if even else all_of(-size)),
        ("u^(4/2) = c", all_of(-np.sqrt(c), np.sqrt(c))),
        ("|u|^0.3 = c", all_of(-(c ** (1 / 0.3)), c ** (1 / 0.3))),
        ("exp(-u^2) = exp(-c)", all_of(-np.sqrt(c), np.sqrt(c))),
        ("cosh(1/u) = 1 + c", all_of(*(s / np.arccosh(1 + c) for s in (-1, 1)))),
        ("sqrt(u) = c", all_of(c * c)),
        ("sin(u) = c/4", turns((np.arcsin(c / 4), np.pi - np.arcsin(c / 4)), 2 * np.pi)),
        ("|log(u)| = c", all_of(np.exp(-c), np.exp(c))),
    ]
    text, solutions = cases[kind]
    return text, {name: value for name, value in (("c", c), ("n", n)) if re.search(rf"\b{name}\b", text)}, solutions


def _problem(rng: np.random.Generator) -> tuple[str, tuple[float, float], dict[str, float], np.ndarray]:
    """Text in `x`, the interval, parameters, and all roots, in order."""
    text, args, solutions = _outer(rng)
    a, b = float(rng.choice([-1, 1]) * 10 ** rng.uniform(-3, 3)), float(rng.normal())
    kind = rng.choice(["line", "cube", "exp"])
    inner = {"line": "(a*x + b)", "cube": "(a*x^3 + b)", "exp": "(exp(x) + b)"}[kind]
    forward = {"line": lambda x: a * x + b, "cube": lambda x: a * x**3 + b, "exp": lambda x: np.exp(x) + b}[kind]
    back = {
        "line": lambda u: (u - b) / a,
        "cube": lambda u: np.cbrt((u - b) / a),
        "exp": lambda u: np.log(u - b) if u > b else np.nan,
    }[kind]
    reach = {"line": 40 / abs(a), "cube": (40 / abs(a)) ** (1 / 3), "exp": 3.5}[kind] * rng.uniform(0.2, 1)
    ends = (float(-reach * rng.uniform()), float(reach))
    images = sorted((forward(ends[0]), forward(ends[1])))
    roots = np.array(sorted(x for x in map(back, solutions(*images)) if ends[0] <= x <= ends[1]))
    scale = f"1e{int(rng.integers(-100, 101))}"
    left, right = text.split(" = ")
    known = {"a": a, "b": b} if kind != "exp" else {"b": b}
    shown = f"{scale}*({left}) = {scale}*({right})" if rng.uniform() < 0.3 else text
    return shown.replace("u", inner), ends, args | known, roots


def _is(value: float, roots: np.ndarray) -> bool:
    return bool(np.any(np.abs(roots - value) <= 1e-9 * np.abs(roots) + 1e-12))


def judge(count: int, seed: int) -> list[Tally]:
    """Judge `all_roots(certify=True)`: false where it says it is complete and is not, or proves what is no root."""
    rng, own, scan = (
        np.random.default_rng(seed),
        Tally("all_roots", "jaxkit, proven"),
        Tally("all_roots", "scan, NumPy"),
    )
    for _ in range(count):
        text, ends, args, roots = _problem(rng)
        found = newton.all_roots(text, ends, args, certify=True)
        proven = [v for v, kind in zip(found.values, found.kinds, strict=True) if kind == "proven"]
        stray = [v for v in proven if not _is(v, roots)]
        # Whatever is not a root within an undecided place is lost.
        held = lambda r, boxes=found.enclosures: any(
            lo - 1e-9 * abs(lo) <= r <= hi + 1e-9 * abs(hi) for lo, hi in boxes
        )
        lost = [r for r in roots if not held(r)]
        right = not stray and not lost and (not found.complete or len(proven) == len(roots))
        problem = f"{text} on {ends}, {args}\n{found}\ntruth: {roots.tolist()}"
        own.add(ok=found.complete or bool(stray) or bool(lost), right=right, problem=problem, solvable=True)
        x = np.linspace(*ends, 4097)
        equations = newton.Equations.of(text, args)
        with np.errstate(all="ignore"):
            sign = np.sign(equations.on_host(x, args))
        changes = np.flatnonzero(sign[1:] * sign[:-1] < 0)
        scan.add(ok=True, right=len(changes) == len(roots), problem=problem)
    return [own, scan]
