"""All real roots in an interval: by a grid and safeguarded Newton, or by interval Newton with a proof."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from jaxkit.core.arguments import require
from jaxkit.newton.certify import search
from jaxkit.newton.equations import Equations, residual_function

if TYPE_CHECKING:
    from jaxtyping import Array

MOST = 3  # sentences of a kind


@dataclasses.dataclass(frozen=True)
class AllRoots:
    """The real roots in an interval. A host object: `print` it.

    Attributes:
        values: Roots in increasing order, shape `(k,)`.
        kinds: For each root, `"proven"` (interval Newton), `"simple"` (a sign change), `"double"` (touches zero),
            `"edge"` (zero where the function's domain ends) or `"undecided"` (a proof was asked for and failed).
        enclosures: Bounds on each root, shape `(k, 2)`; proven where the kind says so.
        ends: The interval.
        complete: Whether it is proven that there are no others.
        equations: The equation; None for a function.
        flat: Stretches over which the function is zero in floating point, shape `(m, 2)`: no root is claimed there.
        resolved: Whether a grid twice as fine, shifted irregularly, shows no more changes of sign.
        undefined: Stretches over which the function has no finite value, shape `(m, 2)`.
        falls: Edges of the function's domain at which it falls to zero, without a number at which it is zero.
        unsettled: Changes of sign of which it is not known whether they are roots, shape `(m, 2)`.
    """

    values: np.ndarray
    kinds: tuple[str, ...]
    enclosures: np.ndarray
    ends: tuple[float, float]
    complete: bool
    equations: Equations | None
    flat: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 2)))
    resolved: bool = True
    undefined: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 2)))
    falls: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    unsettled: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 2)))

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
                "(a multiple root, a pole, the edge of the domain, or a stretch where it is all but zero)."
            )
        return self._scanned

    @property
    def _scanned(self) -> str:
        """The sentences on roots that were found by a grid."""
        simple, double, edge = (self.kinds.count(kind) for kind in ("simple", "double", "edge"))
        more = f", {edge} where its domain ends" if edge else ""
        found = f"{simple} roots by sign changes and {double} by touching zero{more}; "
        found += "not proven (certify=True, --certify)."
        for lo, hi in self.flat:
            found += f" Between {lo:.6g} and {hi:.6g} it is zero to rounding: no root is claimed there."
        for lo, hi in self.undefined[:MOST]:
            found += f" Between {lo:.6g} and {hi:.6g} it has no finite value."
        if len(self.undefined) > MOST:
            found += f" So it is in {len(self.undefined) - MOST} more stretches."
        for at in self.falls[:MOST]:
            found += f" At {at:.6g}, where its domain ends, it falls to zero: that may be a root."
        if len(self.unsettled):
            lo, hi = self.unsettled[0]
            found += f" Between {lo:.6g} and {hi:.6g} its sign changes, at a root or not"
            found += f", and so it is in {len(self.unsettled) - 1} more places." if len(self.unsettled) > 1 else "."
        if not self.resolved:
            found += " The grid is too coarse for it: there are more; raise `points`, or look at a shorter interval."
        return found


def all_roots(
    equation: "str | Equations | Callable[[Array], Array]",
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
        equations, fn = None, lambda x, _: equation(x)
    else:
        equations = Equations.of(equation, args)
        require(equations.single, "equation", "have one unknown", f"has {', '.join(equations.unknowns)}")
        require(not equations.is_complex, "equation", "be real", "contains i")
        if certify:
            return _proven(equations, args, ends)
        fn = residual_function(equations)
    from jaxkit.newton.scan import scan  # a proof does without JAX

    return scan(fn, args, ends, points, equations)


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
