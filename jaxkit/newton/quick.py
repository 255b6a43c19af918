"""Newton's method in NumPy: a root that is proven at once needs no compiler.

The steps, the tolerance and the text are those of `solve`. Only what is beyond doubt is answered here: the root lies in
a box of interval arithmetic that is narrower than the tolerance and holds no other. For all else `solve` must be asked.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxkit.newton.certify import certify as prove
from jaxkit.newton.equations import Equations
from jaxkit.newton.session import Session
from jaxkit.newton.start import RTOL, first_guess

MOST = 50  # steps
EPS = float(np.finfo(float).eps)


@dataclasses.dataclass(frozen=True)
class Iterates:
    """The way to a root: see `History`."""

    x: Any
    residual: np.ndarray
    step: np.ndarray
    steps: int


@dataclasses.dataclass(frozen=True)
class QuickRoot(Session):
    """A proven root: see `EquationRoot`."""

    value: Any
    residual: float
    steps: int
    history: Iterates
    equations: Equations
    remark: str = ""
    enclosure: Mapping[str, tuple[float, float]] | None = None
    ok: bool = True


@np.errstate(all="ignore")
def quick_root(
    system: Equations, x0: Any = None, args: Mapping[str, Any] | None = None, *, certify: bool = False
) -> QuickRoot | None:
    """The root that `solve` finds, given the same arguments, or None where there is any doubt."""
    known = dict(args or {})
    if system.is_complex or np.iscomplexobj([*known.values()]) or not np.all(np.isfinite([*known.values()])):
        return None
    guess = first_guess(system, x0, known)
    start = np.array([*guess.values()] if isinstance(guess, Mapping) else [guess])
    if np.iscomplexobj(start):
        return None
    way = _newton(system, start, known)
    beside = _newton(system, start + 1e-14 * np.where(start == 0, 1, start), known)
    if way is None or beside is None or not _alike(way, beside):
        return None
    box = _proven(system, way.x[-1], way.x[-1] - way.x[-2], known)
    if box is None:
        return None
    named = (lambda v: v[..., 0]) if system.single else lambda v: dict(zip(system.unknowns, v.T, strict=True))
    value = named(np.clip(way.x[-1], *np.transpose([*box.values()])) if certify else way.x[-1])
    way = dataclasses.replace(way, x=named(way.x))
    return QuickRoot(value, way.residual[-1], way.steps, way, system, enclosure=box if certify else None)


def _newton(system: Equations, x: np.ndarray, known: Mapping[str, Any]) -> Iterates | None:
    """Newton's iterates up to the tolerance; None where they do not come to a point whose residual is mere rounding."""
    slopes = [[residual.derivative(name) for name in system.unknowns] for residual in system.residuals]
    at = lambda x: {**dict(zip(system.unknowns, x, strict=True)), **known}
    points, residuals, steps = [x], [], [np.full(len(x), np.inf)]
    while True:
        value = np.array([residual.on_host(**at(x)) for residual in system.residuals])
        slope = np.array([[part.on_host(**at(x)) for part in row] for row in slopes])
        residuals.append(np.max(np.abs(value)))
        if np.all(steps[-1] <= _tolerance(x)):
            rounding = np.all(np.abs(value) <= 8 * EPS * np.abs(slope) @ np.abs(x))
            moved = np.array([np.max(step) for step in steps])
            return Iterates(np.array(points), np.array(residuals), moved, len(moved) - 1) if rounding else None
        dx = _solved(slope, -value)
        if len(steps) > MOST or not np.all(np.isfinite(dx)):
            return None
        x = x + dx
        points.append(x)
        steps.append(np.abs(dx))


def _alike(way: Iterates, beside: Iterates) -> bool:
    """Whether a start that differs in the last digits leads the same way, so that rounding does not decide where to."""
    if way.steps != beside.steps:
        return False
    size = np.max(np.abs(way.x), axis=1)
    return bool(np.all(np.max(np.abs(way.x - beside.x), axis=1) <= 1e-10 * size))


def _solved(slope: np.ndarray, value: np.ndarray) -> np.ndarray:
    if len(value) == 1:
        return value / slope[0]
    try:
        return np.linalg.solve(slope, value)
    except np.linalg.LinAlgError:
        return np.full_like(value, np.nan)


def _tolerance(x: np.ndarray) -> np.ndarray:
    """How far from a root `x` may be, entry by entry: see `Problem.tolerance`."""
    size = np.abs(x)
    return RTOL * (size if len(x) == 1 else np.maximum(size, EPS**0.5 * np.max(size)))


def _proven(
    system: Equations, x: np.ndarray, step: np.ndarray, known: Mapping[str, Any]
) -> dict[str, tuple[float, float]] | None:
    """The box around the only root near `x`, if it shows that `x` is exact, or within the tolerance; else None."""
    at = dict(zip(system.unknowns, x, strict=True))
    box = prove(system.residuals, at, known)
    if box is None or all(residual.sign({**at, **known}) == 0 for residual in system.residuals):
        return box
    reach = np.max(np.abs(np.array([*box.values()]) - x[:, None]), axis=1)
    return box if np.all(np.maximum(2 * reach, np.abs(step) + reach) <= _tolerance(x)) else None
