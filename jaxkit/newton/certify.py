"""Proofs by interval arithmetic: this box holds exactly one root, that one none."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from jaxkit.core.expression import Expression
from jaxkit.core.expression.interval import Interval, add, div, interval, mul, neg, sub

Enclose = Callable[[Interval], tuple[Interval, Interval]]
GAP = 8  # undecided places nearer to each other than this many of their widths are one


@dataclasses.dataclass(frozen=True)
class Search:
    """What an interval search has proven.

    Attributes:
        proven: Enclosures, shape `(k, 2)`, each with exactly one root, a simple one.
        undecided: Intervals, shape `(m, 2)`, of which nothing could be proven (near multiple roots, domain ends).
        boxes: Number of boxes examined.
    """

    proven: np.ndarray
    undecided: np.ndarray
    boxes: int

    @property
    def complete(self) -> bool:
        """Whether it is proven that there are no roots but the proven ones."""
        return not len(self.undecided)


def points(values: Mapping[str, float]) -> dict[str, Interval]:
    """Parameters as intervals."""
    return {name: interval(float(value)) for name, value in values.items()}


def search(
    residual: Expression,
    name: str,
    ends: tuple[float, float],
    parameters: Mapping[str, float] | None = None,
    *,
    least: float = 1e-11,
    most: int = 200_000,
) -> Search:
    """Interval Newton with bisection over `[a, b]` (Moore, Kearfott, Cloud: Introduction to Interval Analysis, 8).

    Args:
        residual: The expression whose zeros are sought.
        name: Its unknown.
        ends: The interval.
        parameters: Values of the other names.
        least: Boxes narrower than `least * (1 + |x|)` are left undecided.
        most: Number of boxes after which the rest is left undecided.
    """
    known = points(parameters or {})
    enclose: Enclose = lambda x: residual.enclose_slope({name: x, **known}, name)
    edges = np.linspace(*ends, 65)
    boxes = interval(edges[:-1], edges[1:])
    proven, undecided, count = [], [], 0
    with np.errstate(all="ignore"):
        while boxes.lo.size:
            count += boxes.lo.size
            boxes, sure, unsure = _sift(enclose, boxes, least)
            proven.append(sure)
            undecided.append(unsure)
            if count > most:
                undecided.append(np.stack([boxes.lo, boxes.hi], 1))
                break
        merged, doubtful = _distinct(enclose, _polish(enclose, np.concatenate(proven)))
        sign = lambda at: residual.sign({name: at, **{key: float(value) for key, value in (parameters or {}).items()}})
        merged, outside = _within_ends(sign, merged, ends)
    return Search(merged, _joined(np.concatenate([*undecided, doubtful, outside]), merged), count)


def full(x: Interval, like: np.ndarray) -> Interval:
    """The interval, in the shape of `like`."""
    return Interval(*(np.broadcast_to(v, like.shape) for v in (x.lo, x.hi, x.defined, x.empty)))


def monotone(value: Interval, slope: Interval) -> np.ndarray:
    """Whether a function is certainly continuous and strictly monotone, by its bounds."""
    return value.defined & slope.defined & ((slope.lo > 0) | (slope.hi < 0))


def newton_operator(enclose: Enclose, x: Interval) -> tuple[Interval, Interval, Interval]:
    """`N(X) = m - f(m) / f'(X)`, with the value and the slope over `X`."""
    value, slope = (full(v, x.lo) for v in enclose(x))
    middle = interval(x.middle)
    at_middle = full(enclose(middle)[0], x.lo)
    return sub(middle, div(at_middle, slope)), value, slope


def _sift(enclose: Enclose, x: Interval, least: float) -> tuple[Interval, np.ndarray, np.ndarray]:
    """One round over all boxes: the boxes to continue with, the enclosures proven, and the boxes given up."""
    image, value, slope = newton_operator(enclose, x)
    alive = ~value.empty & value.contains(0.0)
    usable = monotone(value, slope) & np.isfinite(image.lo) & np.isfinite(image.hi)
    lo, hi = np.where(usable, np.maximum(x.lo, image.lo), x.lo), np.where(usable, np.minimum(x.hi, image.hi), x.hi)
    alive &= lo <= hi
    inside = usable & (image.lo > x.lo) & (image.hi < x.hi) & alive
    # A root on an edge is never inside: look again in a box slightly larger than what Newton left.
    margin = np.maximum(hi - lo, 1e-14 * (1 + np.abs(lo)))
    edge = alive & usable & ~inside & (hi - lo < 0.3 * x.width + 1e-13 * (1 + np.abs(lo)))
    if np.any(edge):
        wider = interval((lo - margin)[edge], (hi + margin)[edge])
        again, value2, slope2 = newton_operator(enclose, wider)
        sure = monotone(value2, slope2)
        sure &= (again.lo > wider.lo) & (again.hi < wider.hi)
        where = np.flatnonzero(edge)[sure]
        inside[where] = True
        lo[where], hi[where] = again.lo[sure], again.hi[sure]
    proven = np.stack([lo[inside], hi[inside]], 1)
    rest = alive & ~inside
    small = rest & (hi - lo <= least * (1 + np.abs(lo)))
    rest &= ~small
    return _halved(lo[rest], hi[rest], x.width[rest]), proven, np.stack([lo[small], hi[small]], 1)


def _halved(lo: np.ndarray, hi: np.ndarray, before: np.ndarray) -> Interval:
    """Bisect the boxes that Newton did not halve."""
    slow = (hi - lo) > 0.5 * before
    middle = 0.5 * lo[slow] + 0.5 * hi[slow]
    return interval(np.concatenate([lo[~slow], lo[slow], middle]), np.concatenate([hi[~slow], middle, hi[slow]]))


def _polish(enclose: Enclose, boxes: np.ndarray) -> np.ndarray:
    """Narrow proven enclosures to a few units in the last place."""
    for _ in range(6):
        if not len(boxes):
            break
        x = interval(boxes[:, 0], boxes[:, 1])
        image = newton_operator(enclose, x)[0]
        lo, hi = np.fmax(x.lo, image.lo), np.fmin(x.hi, image.hi)
        boxes = np.where((lo <= hi)[:, None], np.stack([lo, hi], 1), boxes)
    return boxes


def _distinct(enclose: Enclose, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted enclosures, and what is doubtful: overlapping ones hold the same root if `fn` is monotone over both."""
    kept: list[np.ndarray] = []
    doubtful: list[np.ndarray] = []
    for box in boxes[np.argsort(boxes[:, 0])] if len(boxes) else []:
        if not kept or box[0] > kept[-1][1]:
            kept.append(box)
            continue
        hull = interval(kept[-1][0], max(box[1], kept[-1][1]))
        value, slope = enclose(hull)
        if monotone(value, slope):
            kept[-1] = np.array([max(box[0], kept[-1][0]), min(box[1], kept[-1][1])])
        else:
            kept.pop()
            doubtful.append(np.array([hull.lo, hull.hi]))
    return np.array(kept).reshape(-1, 2), np.array(doubtful).reshape(-1, 2)


def _within_ends(
    sign: Callable[[float], int | None], boxes: np.ndarray, ends: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Proven enclosures cut to the interval, and those whose root may lie on either side of an end.

    Over an enclosure the function is monotone, so its signs at the cuts decide.
    """
    kept, doubtful = [], []
    for lo, hi in boxes:
        box = np.array([max(lo, ends[0]), min(hi, ends[1])])
        if lo >= ends[0] and hi <= ends[1]:
            kept.append(box)
        elif box[0] <= box[1]:
            signs = [sign(float(x)) for x in box]
            if 0 in signs:
                kept.append(np.repeat(box[signs.index(0)], 2))
            elif None in signs:
                doubtful.append(box)
            elif signs[0] != signs[1]:
                kept.append(box)
    return np.array(kept).reshape(-1, 2), np.array(doubtful).reshape(-1, 2)


def _joined(boxes: np.ndarray, proven: np.ndarray) -> np.ndarray:
    """Sorted intervals; neighbours are one where the gap between them is a few times their own width.

    Where a function is all but flat, the bounds clear a crumb between any two boxes; a list of crumbs helps nobody. A
    gap that holds a proven root stays.
    """
    boxes = boxes[np.argsort(boxes[:, 0])] if len(boxes) else boxes.reshape(-1, 2)
    reach = np.maximum.accumulate(boxes[:, 1])
    width = boxes[:, 1] - boxes[:, 0]
    near = GAP * np.maximum(width[:-1], width[1:]) + 1e-9 * (1 + np.abs(boxes[1:, 0]))
    roots = np.searchsorted(np.sort(proven[:, 0]), np.stack([reach[:-1], boxes[1:, 0]]))
    apart = np.concatenate([[True], (boxes[1:, 0] > reach[:-1] + near) | (roots[0] != roots[1])])[: len(boxes)]
    starts = np.flatnonzero(apart)
    joined = np.stack([boxes[starts, 0], np.append(reach[starts[1:] - 1], reach[-1:])], 1)
    return joined if len(joined) == len(boxes) else _joined(joined, proven)


def certify(
    residuals: tuple[Expression, ...], root: Mapping[str, float], parameters: Mapping[str, float] | None = None
) -> dict[str, tuple[float, float]] | None:
    """A box around an approximate root of a real system that is proven to hold exactly one root, or None.

    Krawczyk's test `m - Y f(m) + (1 - Y J(X)) (X - m)` inside `X`, over boxes of growing width (Rump, Acta
    Numerica 19, 2010).

    Args:
        residuals: One expression per unknown.
        root: The approximate root.
        parameters: Values of the other names.

    Returns:
        Name -> (lower, upper) bound, or None if nothing could be proven.

    Example:
        >>> from jaxkit import newton
        >>> box = newton.certify((newton.parse("x^2 - 2"),), {"x": 1.4142135623})
        >>> box["x"][0] < 2**0.5 < box["x"][1]
        True
    """
    names, known = tuple(root), points(parameters or {})
    middle = np.array([float(root[name]) for name in names])
    if not np.all(np.isfinite(middle)):
        return None
    with np.errstate(all="ignore"):
        for k in range(-13, -2):
            radius = 10.0**k * (1 + np.abs(middle))
            box = _krawczyk(residuals, names, middle, radius, known)
            if box is not None:
                return {name: (float(lo), float(hi)) for name, lo, hi in zip(names, *box, strict=True)}
    return None


def _krawczyk(
    residuals: tuple[Expression, ...], names: tuple[str, ...], middle: np.ndarray, radius: np.ndarray, known: dict
) -> tuple[np.ndarray, np.ndarray] | None:
    n = len(names)
    box = {name: interval(m - r, m + r) for name, m, r in zip(names, middle, radius, strict=True)}
    centre = {name: interval(m) for name, m in zip(names, middle, strict=True)}
    offset = [sub(box[name], centre[name]) for name in names]
    value = [residual.enclose({**centre, **known}) for residual in residuals]
    pairs = [[residual.enclose_slope({**box, **known}, name) for name in names] for residual in residuals]
    if not all(v.defined and s.defined for row in pairs for v, s in row):
        return None
    jacobian = np.array([[float(s.middle) for _, s in row] for row in pairs])
    if not np.all(np.isfinite(jacobian)) or np.linalg.matrix_rank(jacobian) < n:
        return None
    inverse = np.linalg.inv(jacobian)
    lo, hi = np.empty(n), np.empty(n)
    for i in range(n):
        total = centre[names[i]]
        for j in range(n):
            total = sub(total, mul(interval(inverse[i, j]), value[j]))
            rest = interval(float(i == j))
            for k in range(n):
                rest = add(rest, neg(mul(interval(inverse[i, k]), pairs[k][j][1])))
            total = add(total, mul(rest, offset[j]))
        lo[i], hi[i] = total.lo, total.hi
    inside = np.all(lo > middle - radius) and np.all(hi < middle + radius)
    return (lo, hi) if inside else None
