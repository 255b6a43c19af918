"""Real roots in an interval by a grid and safeguarded Newton: what `all_roots` does without a proof."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core.checks import require
from jaxkit.core.expression.tree import Apply, Number, integer, walk
from jaxkit.core.status import Status
from jaxkit.dynamics.roots.methods.bracket import bisected
from jaxkit.dynamics.roots.root import root
from jaxkit.newton.all_roots import AllRoots
from jaxkit.newton.equations import Equations

STEPS = 1200  # halvings from any bracket about 0 down to the least number
CLOSED = {"+", "-", "*", "neg", "sqrt", "cbrt", "asin", "acos", "acosh", "sin", "cos", "exp", "abs", "pi", "e"}


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
    _check_sizes(known, equations)
    for finer in range(4):
        x, f = (np.asarray(v) for v in run_kept(_sampled, (fn, points << 2 * finer), (ends, known)))
        sign = np.sign(f)
        resolved = _changes(sign) == _changes(sign[::2])
        if resolved:
            break
    infinite = np.isinf(f)
    beside = np.append(infinite[1:], False) | np.insert(infinite[:-1], 0, False)
    undefined = _stretches(np.isnan(f) | (infinite & beside), x)
    x, f, fallen = _edges(fn, x, f, known)
    sign = np.sign(f)
    single, flat = _zeros(sign, x)
    at = np.flatnonzero(sign[:-1] * sign[1:] < 0)
    crossed, status, _ = _refined(fn, x[:-1], x[1:], at, known)
    unsettled = ~np.isin(status, (Status.ok, Status.not_continuous))
    candidates = [(float(value), "simple") for value in (*crossed[status == Status.ok], *single)]
    candidates += _dips(fn, x, f, sign, known)
    reached = fallen & ((f == 0) | _closed(equations))
    candidates += [(float(value), "edge") for value in x[reached]]
    kept: list[tuple[float, str]] = []
    space = 1e-9 * (x[1] - x[0])
    for value, kind in sorted(candidates):
        if not kept or value - kept[-1][0] > 1e-9 * abs(value) + space:
            kept.append((value, kind))
    roots = np.array([value for value, _ in kept])
    slack = 4e-9 * np.abs(roots) + space
    bounds = np.clip(np.stack([roots - slack, roots + slack], 1), *ends)
    kinds, apart = tuple(kind for _, kind in kept), np.stack([x[at], x[at + 1]], 1)[unsettled]
    falls = x[fallen & ~reached]
    falls = np.where(np.abs(falls) < 1e-12 * space, 0, falls)
    return AllRoots(roots, kinds, bounds, ends, False, equations, flat, resolved, undefined, falls, apart)  # noqa: FBT003


def _changes(sign: np.ndarray) -> int:
    """How often the sign changes, with zeros and NaN left out."""
    sign = sign[np.abs(sign) == 1]
    return int(np.count_nonzero(sign[1:] != sign[:-1]))


def _closed(equations: Equations | None) -> bool:
    """Whether a formula is continuous up to the edges of its domain, which belong to it."""
    if equations is None:
        return False
    parts = [part for residual in equations.residuals for part in walk(residual.tree) if isinstance(part, Apply)]
    whole = lambda part: part.op == "^" and (integer(part.args[1]) or 0) > 0
    return all(part.op in CLOSED or whole(part) for part in parts)


def _check_sizes(known: Mapping[str, float], equations: Equations | None) -> None:
    """Refuse numbers that are infinite in the precision of the computation."""
    largest = float(jnp.finfo(jnp.result_type(float)).max)
    typed = (
        [part.value for r in equations.residuals for part in walk(r.tree) if isinstance(part, Number)]
        if equations
        else []
    )
    big = next((value for value in (*known.values(), *typed) if largest < abs(value) < np.inf), None)
    must = f"hold numbers below {largest:.2g} in single precision (jaxkit.set_precision('double'))"
    require(big is None, "equation", must, f"holds {big}")


def _stretches(where: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The stretches of grid points for which something holds, as pairs of ends, shape `(m, 2)`."""
    at = np.flatnonzero(where)
    runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1) if len(at) else []
    return np.array([(x[run[0]], x[run[-1]]) for run in runs]).reshape(-1, 2)


def _edges(fn: Callable, x: np.ndarray, f: np.ndarray, known: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The grid with the last point of the domain at each of its edges, and whether the function falls to 0 there."""
    none = np.isnan(f)
    at = np.flatnonzero(none[:-1] != none[1:])
    if not len(at):
        return x, f, np.zeros(len(x), bool)
    inside, outside = np.where(none[at], at + 1, at), np.where(none[at], at, at + 1)
    place, height, falls = _padded(_edge, (fn,), at, (x[inside], x[outside]), known)
    new = (place != x[inside]) & ~np.isnan(height)
    fallen = np.zeros(len(x), bool)
    fallen[inside[~new]] = falls[~new]
    insert = lambda v, more: np.insert(v, at[new] + 1, more[new])
    return insert(x, place), insert(f, height), insert(fallen, falls)


def _edge(fn: Callable, inside: Array, outside: Array, parameters: Any) -> tuple[Array, Array, Array]:
    """The last numbers of a domain, the values there, and whether the function falls to 0 towards them."""
    height = lambda x: jax.vmap(lambda x: fn(x, parameters))(x)
    halved = bisected(lambda x: ~jnp.isnan(height(x)), inside, outside, halvings=120)[0]
    zero = jnp.zeros_like(inside)
    place = jnp.where((inside * outside <= 0) & ~jnp.isnan(height(zero)), zero, halved)
    value, limits = height(place), jnp.finfo(inside.dtype)
    step = jnp.sign(inside - outside) * jnp.maximum(jnp.abs(place), jnp.abs(inside - outside) * limits.eps) * limits.eps
    size = [jnp.abs(value), *(jnp.abs(height(place + 64**k * step)) for k in (1, 2, 3))]
    return place, value, (value == 0) | ((2 * size[0] < size[1]) & (2 * size[1] < size[2]) & (2 * size[2] < size[3]))


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
    lowest, status, height = _refined(_slope(fn), x[:-2], x[2:], at, known, height=fn)
    found = status == Status.ok
    through = found & (np.sign(height) * sign[at] < 0)
    touches = found & ~through & (np.abs(height) <= 1e-10 * (size[at] + size[at + 2]))
    candidates = [(float(value), "double") for value in lowest[touches]]
    before, between, behind = x[at[through]], lowest[through], x[at[through] + 2]
    low, high = np.concatenate([before, between]), np.concatenate([between, behind])
    value, status, _ = _refined(fn, low, high, np.arange(len(low)), known)
    return candidates + [(float(v), "simple") for v in value[status == Status.ok]]


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
) -> tuple[np.ndarray, ...]:
    """Roots of `fn` between `low[at]` and `high[at]`, their statuses, and `height` there."""
    return _padded(_refine, (fn, height or fn), at, (low[at], high[at]), parameters)


def _padded(
    program: Callable,
    functions: tuple[Callable, ...],
    at: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray],
    parameters: Any,
) -> tuple[np.ndarray, ...]:
    """What a program of pairs of ends gives, with few sizes, so that there are few programs."""
    if not len(at):
        return np.zeros(0), np.zeros(0), np.zeros(0)
    missing = max(32, 1 << (len(at) - 1).bit_length()) - len(at)
    first, second = (np.concatenate([v, np.full(missing, v[0])]) for v in ends)
    found = run_kept(program, functions, (first, second, parameters))
    return tuple(np.asarray(v)[: len(at)] for v in found)


def _refine(fn: Callable, height: Callable, low: Array, high: Array, parameters: Any) -> tuple[Array, Array, Array]:
    one = lambda lo, hi: root(fn, None, parameters, bracket=(lo, hi), rtol=1e-10, max_steps=STEPS)
    found = jax.vmap(one)(low, high)
    return found.value, found.status, jax.vmap(lambda x: height(x, parameters))(found.value)
