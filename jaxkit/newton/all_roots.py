"""All real roots in an interval: by a grid and safeguarded Newton, or by interval Newton with a proof."""

import dataclasses
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
from jaxkit.newton.certify import search
from jaxkit.newton.equations import Equations, residual_function


@dataclasses.dataclass(frozen=True)
class AllRoots:
    """The real roots in an interval. A host object: `print` it.

    Attributes:
        values: Roots in increasing order, shape `(k,)`.
        kinds: For each root, `"proven"` (interval Newton), `"simple"` (a sign change), `"double"` (touches zero) or
            `"undecided"` (a proof was asked for and failed).
        enclosures: Bounds on each root, shape `(k, 2)`; proven where the kind says so.
        ends: The interval.
        complete: Whether it is proven that there are no others.
        equations: The equation; None for a function.
        flat: Stretches over which the function is zero in floating point, shape `(m, 2)`: no root is claimed there.
        resolved: Whether a grid twice as fine, shifted irregularly, shows no more changes of sign.
    """

    values: np.ndarray
    kinds: tuple[str, ...]
    enclosures: np.ndarray
    ends: tuple[float, float]
    complete: bool
    equations: Equations | None
    flat: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 2)))
    resolved: bool = True

    def __str__(self) -> str:
        """One line for each root, and a sentence."""
        shown = self.equations.shown[0] if self.equations else "f(x) = 0"
        lines = [f"{shown} on [{self.ends[0]:g}, {self.ends[1]:g}]"]
        for value, kind, (lo, hi) in zip(self.values, self.kinds, self.enclosures, strict=True):
            lines.append(f"  {value:< 24.17g} {kind:9}  within [{lo:.17g}, {hi:.17g}]")
        return "\n".join([*lines, self.sentence])

    @property
    def sentence(self) -> str:
        """What is known of the roots, in one sentence."""
        count = {kind: self.kinds.count(kind) for kind in ("proven", "simple", "double", "undecided")}
        if self.complete and not count["proven"]:
            return "No roots: that is proven."
        if self.complete:
            return f"{count['proven']} root{'s' * (count['proven'] != 1)}: each proven, and there is no other."
        if count["undecided"]:
            plural = lambda kind, noun: f"{count[kind]} {noun}{'s' * (count[kind] != 1)}"
            return (
                f"{plural('proven', 'root')} proven; in {plural('undecided', 'place')} nothing could be proven "
                "(a multiple root, a pole, or the edge of the domain)."
            )
        simple, double = count["simple"], count["double"]
        found = f"{simple} roots by sign changes and {double} by touching zero; not proven (certify=True, --certify)."
        for lo, hi in self.flat:
            found += f" Between {lo:.6g} and {hi:.6g} it is zero to rounding: no root is claimed there."
        if not self.resolved:
            found += " The grid is too coarse for it: there are more; raise `points`, or look at a shorter interval."
        return found


def all_roots(
    equation: str | Equations | Callable[[Array], Array],
    interval: tuple[float, float],
    args: Mapping[str, float] | None = None,
    *,
    certify: bool = False,
    points: int = 4096,
) -> AllRoots:
    """All real roots of one equation in an interval.

    Without `certify`, a grid of `points` finds sign changes and touches, and safeguarded Newton refines them. The grid
    is refined until a finer one shows no more of them, at most by a factor of 64 (then `resolved` is false); two roots
    much closer than its spacing may be missed. With `certify`, interval Newton proves each root and that there is no
    other, or says where it could not (multiple roots can never be proven this way).

    Args:
        equation: Text such as `"sin(x) = x/2"`, or `Equations`, or a function of `x` (then without proof).
        interval: The ends of the interval.
        args: Values of the names that are not unknowns.
        certify: Whether to prove the roots.
        points: Grid points to begin with.

    Returns:
        An `AllRoots`; print it.

    Raises:
        ParseError: The text is not an equation.
        ValueError: The interval is not one, or a proof is asked for a function or a complex equation.

    Example:
        >>> from jaxkit import newton
        >>> found = newton.all_roots("x^3 = 2x + 5", (-10, 10), certify=True)
        >>> print(found.sentence, round(float(found.values[0]), 6))
        1 root: each proven, and there is no other. 2.094551
    """
    ends = _ends(interval)
    if callable(equation):
        require(not certify, "equation", "be text for a proof", "is a function")
        return _scanned(lambda x, _: equation(x), args, ends, points, None)
    equations = Equations.of(equation, args)
    require(equations.single, "equation", "have one unknown", f"has {', '.join(equations.unknowns)}")
    require(not equations.is_complex, "equation", "be real", "contains i")
    if not certify:
        return _scanned(residual_function(equations), args, ends, points, equations)
    return _proven(equations, args, ends)


def _ends(interval: tuple[float, float]) -> tuple[float, float]:
    require(isinstance(interval, tuple | list) and len(interval) == 2, "interval", "be (a, b)", f"is {interval!r}")
    a, b = (float(end) for end in interval)
    require(bool(np.isfinite(a) and np.isfinite(b) and a < b), "interval", "be finite with a < b", f"is ({a:g}, {b:g})")
    return a, b


def _proven(equations: Equations, args: Mapping[str, float] | None, ends: tuple[float, float]) -> AllRoots:
    found = search(equations.residuals[0], equations.unknowns[0], ends, args)
    boxes = np.concatenate([found.proven, found.undecided])
    kinds = np.array(["proven"] * len(found.proven) + ["undecided"] * len(found.undecided))
    order = np.argsort(boxes.mean(1)) if len(boxes) else np.zeros(0, int)
    values = 0.5 * boxes[:, 0] + 0.5 * boxes[:, 1]
    shown = tuple(str(kind) for kind in kinds[order])
    return AllRoots(values[order], shown, boxes[order], ends, found.complete, equations)


def _scanned(
    fn: Callable[[Array, Any], Array],
    args: Mapping[str, float] | None,
    ends: tuple[float, float],
    points: int,
    equations: Equations | None,
) -> AllRoots:
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
