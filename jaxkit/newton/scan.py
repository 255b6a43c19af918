"""Real roots in an interval by a grid and safeguarded Newton: what `all_roots` does without a proof."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.checks import require
from jaxkit.core.status import Status
from jaxkit.dynamics.roots.root import root
from jaxkit.newton.all_roots import AllRoots
from jaxkit.newton.equations import Equations


def scan(
    fn: Callable[[Array, Any], Array],
    args: Mapping[str, float] | None,
    ends: tuple[float, float],
    points: int,
    equations: Equations | None,
) -> AllRoots:
    """The roots between the ends, from a grid of so many points or up to 64 times as many."""
    require(points >= 3, "points", "be at least 3", f"is {points}")
    known = {name: float(value) for name, value in (args or {}).items()}
    for finer in range(4):
        x, f = (np.asarray(v) for v in run_kept(_sampled, (fn, points << 2 * finer), (ends, known)))
        sign = np.sign(f)
        resolved = _changes(sign) == _changes(sign[::2])
        if resolved:
            break
    single, flat = _zeros(sign, x)
    crossed, good, _ = _refined(fn, x[:-1], x[1:], np.flatnonzero(sign[:-1] * sign[1:] < 0), known)
    candidates = [(float(value), "simple") for value in (*crossed[good], *single)]
    candidates += _dips(fn, x, f, sign, known)
    kept: list[tuple[float, str]] = []
    space = 1e-9 * (x[1] - x[0])
    for value, kind in sorted(candidates):
        if not kept or value - kept[-1][0] > 1e-9 * abs(value) + space:
            kept.append((value, kind))
    roots = np.array([value for value, _ in kept])
    slack = 4e-9 * np.abs(roots) + space
    bounds = np.clip(np.stack([roots - slack, roots + slack], 1), *ends)
    return AllRoots(roots, tuple(kind for _, kind in kept), bounds, ends, False, equations, flat, resolved)  # noqa: FBT003


def _changes(sign: np.ndarray) -> int:
    """How often the sign changes, with zeros and NaN left out."""
    sign = sign[np.abs(sign) == 1]
    return int(np.count_nonzero(sign[1:] != sign[:-1]))


def _zeros(sign: np.ndarray, x: np.ndarray) -> tuple[list[float], np.ndarray]:
    """Grid points that are roots: alone between opposite signs, or at an end; and stretches of more than one zero."""
    at = np.flatnonzero(sign == 0)
    runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1) if len(at) else []
    single, flat = [], []
    for stretch in runs:
        first, last = int(stretch[0]), int(stretch[-1])
        if last > first:
            flat.append((x[first], x[last]))
        elif first in (0, len(x) - 1) or sign[first - 1] * sign[first + 1] < 0:
            single.append(float(x[first]))
    return single, np.array(flat).reshape(-1, 2)


def _dips(fn: Callable, x: np.ndarray, f: np.ndarray, sign: np.ndarray, known: Any) -> list[tuple[float, str]]:
    """The roots where `|f|` has a minimum between two equal signs: a double root, two simple ones, or none."""
    size = np.abs(f)
    with np.errstate(invalid="ignore"):
        same = (sign[:-2] * sign[2:] > 0) & (sign[1:-1] * sign[2:] >= 0)
        at = np.flatnonzero((size[1:-1] < size[:-2]) & (size[1:-1] <= size[2:]) & same)
    lowest, found, height = _refined(_slope(fn), x[:-2], x[2:], at, known, height=fn)
    through = found & (np.sign(height) * sign[at] < 0)
    touches = found & ~through & (np.abs(height) <= 1e-10 * (size[at] + size[at + 2]))
    candidates = [(float(value), "double") for value in lowest[touches]]
    before, between, behind = x[at[through]], lowest[through], x[at[through] + 2]
    low, high = np.concatenate([before, between]), np.concatenate([between, behind])
    value, good, _ = _refined(fn, low, high, np.arange(len(low)), known)
    return candidates + [(float(v), "simple") for v in value[good]]


def _sampled(fn: Callable[[Array, Any], Array], points: int, ends: tuple, parameters: Any) -> tuple[Array, Array]:
    """The function on a grid, and at one irregularly placed point between each two of its points."""
    a, b = (jnp.asarray(end, jnp.result_type(float)) for end in ends)
    k = jnp.arange(points - 1, dtype=a.dtype)
    between = k + 0.2 + 0.6 * jnp.mod(0.6180339887 * k, 1)
    places = jnp.stack([k, between], 1).reshape(-1)
    x = jnp.append(a + (b - a) / (points - 1) * places, b)
    return x, jax.vmap(lambda x: fn(x, parameters))(x)


def _slope(fn: Callable[[Array, Any], Array]) -> Callable[[Array, Any], Array]:
    return lambda x, p: jax.jvp(lambda x: fn(x, p), (x,), (jnp.ones_like(x),))[1]


def _refined(
    fn: Callable, low: np.ndarray, high: np.ndarray, at: np.ndarray, parameters: Any, *, height: Callable | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Roots of `fn` between `low[at]` and `high[at]`, whether each is one, and `height` there."""
    if not len(at):
        return np.zeros(0), np.zeros(0, bool), np.zeros(0)
    capacity = max(32, 1 << (len(at) - 1).bit_length())  # few sizes, so few programs
    padded = np.concatenate([at, np.full(capacity - len(at), at[0])])
    found = run_kept(_refine, (fn, height or fn), (low[padded], high[padded], parameters))
    return tuple(np.asarray(v)[: len(at)] for v in found)  # pyright: ignore[reportReturnType]


def _refine(fn: Callable, height: Callable, low: Array, high: Array, parameters: Any) -> tuple[Array, Array, Array]:
    one = lambda lo, hi: root(fn, None, parameters, bracket=(lo, hi), rtol=1e-10)
    found = jax.vmap(one)(low, high)
    return found.value, found.status == int(Status.ok), jax.vmap(lambda x: height(x, parameters))(found.value)
