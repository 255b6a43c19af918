"""A proof as a file: pieces that cover the interval, and the reason why each holds one root or none."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxkit.core.arguments import require
from jaxkit.core.expression import Expression
from jaxkit.core.expression.interval import Interval, constant, interval
from jaxkit.core.expression.tree import ONE, Apply, Name, Node, Number, integer
from jaxkit.core.files import replacing
from jaxkit.newton.all_roots import AllRoots
from jaxkit.newton.certify import full, monotone, points

_HALVINGS = 60


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of the interval and what is proven about it.

    Attributes:
        ends: Where it begins and ends.
        claim: `"one root"`, `"no root"` or `"undecided"`.
        value, slope: Bounds on the formula and on its derivative there.
        within: Narrower bounds on the root.
    """

    ends: tuple[float, float]
    claim: str
    value: tuple[float, float]
    slope: tuple[float, float]
    within: tuple[float, float] | None = None


def save_proof(path: str | Path, found: AllRoots, args: Mapping[str, float] | None = None) -> tuple[Piece, ...]:
    """Write what `all_roots(..., certify=True)` has proven, for others to verify.

    The pieces cover the interval. In a piece that holds a root, the formula is monotone and changes sign between the
    bounds on the root; in one that holds none, its bounds exclude zero, or it is monotone with equal signs at both
    ends. All numbers are hexadecimal floats. `python jaxkit/tools/check_proof.py FILE` verifies it with python-flint.

    Args:
        path: A JSON file.
        found: The roots of an equation, not of a function.
        args: The values that were given to `all_roots`.

    Returns:
        The pieces.

    Raises:
        ValueError: The roots were found without `certify`, or are those of a function.

    Example:
        >>> import pathlib, tempfile
        >>> from jaxkit import newton
        >>> found = newton.all_roots("x^2 = 2", (0.0, 2.0), certify=True)
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "proof.json"
        >>> [piece.claim for piece in newton.save_proof(path, found)].count("one root")
        1
    """
    require(found.equations is not None, "found", "come from an equation", "comes from a function")
    kinds = set(found.kinds) <= {"proven", "undecided"} and (found.complete or bool(found.kinds))
    require(kinds, "found", "come from `all_roots(..., certify=True)`", "does not")
    equations: Any = found.equations
    residual, name = equations.residuals[0], equations.unknowns[0]
    pieces = cover(residual, name, found, args)
    content = {
        "format": "jaxkit proof 1",
        "equation": equations.shown[0],
        "formula": _plain(residual.tree),
        "unknown": name,
        "parameters": {key: float(value).hex() for key, value in (args or {}).items()},
        "interval": _hex(found.ends),
        "pieces": [
            {key: value if key == "claim" else _hex(value) for key, value in vars(piece).items() if value is not None}
            for piece in pieces
        ],
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return pieces


def _hex(values: Any) -> list[str]:
    return [float(value).hex() for value in values]


def _plain(node: Node) -> list[Any]:
    """A tree as nested lists: the operation first, numbers by their bounds."""
    if isinstance(node, Number):
        bounds = constant(node)
        return ["number", float(bounds.lo).hex(), float(bounds.hi).hex()]
    if isinstance(node, Name):
        return ["name", node.name]
    assert isinstance(node, Apply)  # noqa: S101
    if node.op == "^" and (power := integer(node.args[1])) is not None and power < 0:
        return ["/", _plain(ONE), ["^", _plain(node.args[0]), _plain(Number(float(-power)))]]
    return [node.op, *map(_plain, node.args)]


def cover(
    residual: Expression, name: str, found: AllRoots, args: Mapping[str, float] | None = None
) -> tuple[Piece, ...]:
    """Pieces that cover the interval: around each root, over each undecided part, and in the gaps between them."""
    known = points(args or {})
    look = lambda lo, hi: residual.enclose_slope({name: interval(lo, hi), **known}, name)

    def sign(x: np.ndarray) -> np.ndarray:
        value = residual.enclose({name: interval(x), **known})
        return (value.lo > 0).astype(int) - (value.hi < 0)

    inner = np.array(found.enclosures).reshape(-1, 2)
    proven = np.array([kind == "proven" for kind in found.kinds], bool)
    with np.errstate(all="ignore"):
        wide = _widened(look, inner, proven, found.ends)
        # A root at the end of the interval may be all there is of its enclosure: the next piece begins with it.
        starts = np.concatenate([[found.ends[0]], wide[:, 1]])
        stops = np.concatenate([wide[:, 0], [found.ends[1]]])
        gap = starts < stops
        pieces = _without_roots(look, sign, starts[gap], stops[gap])
        claims = ["one root" if one else "undecided" for one in proven]
        within = [tuple(box) if one else None for box, one in zip(inner.tolist(), proven, strict=True)]
        pieces += _pieces((wide[:, 0], wide[:, 1]), _bounds(look, *wide.T), claims, within)
    return tuple(sorted(pieces, key=lambda piece: piece.ends))


def _bounds(look: Any, lo: np.ndarray, hi: np.ndarray) -> tuple[Interval, Interval]:
    value, slope = look(lo, hi)
    return full(value, lo), full(slope, lo)


def _pieces(ends: tuple[Any, Any], bounds: Any, claims: list[str], within: Any = None) -> list[Piece]:
    """One piece per entry, with the bounds that are known of it."""
    each = [zip(low.tolist(), high.tolist(), strict=True) for low, high in (ends, *((x.lo, x.hi) for x in bounds))]
    inner = within or [None] * len(claims)
    return [Piece(e, claim, v, s, i) for e, v, s, claim, i in zip(*each, claims, inner, strict=True)]


def _widened(look: Any, inner: np.ndarray, proven: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Widen each proven root to where the formula stays monotone, at most 0.4 of the way to its neighbours."""
    if not len(inner):
        return inner
    between = inner[1:, 0] - inner[:-1, 1]
    low = np.concatenate([[ends[0]], inner[1:, 0] - 0.4 * between])
    high = np.concatenate([inner[:-1, 1] + 0.4 * between, [ends[1]]])
    wide, growing = inner.copy(), proven.copy()
    step = np.maximum(inner[:, 1] - inner[:, 0], 4 * np.spacing(np.abs(inner).max(1)))
    while np.any(growing):
        lo, hi = np.maximum(inner[:, 0] - step, low), np.minimum(inner[:, 1] + step, high)
        growing &= monotone(*_bounds(look, lo, hi))
        wide[growing] = np.stack([lo, hi], 1)[growing]
        growing &= (lo > low) | (hi < high)
        step = 2 * step
    return wide


def _without_roots(look: Any, sign: Any, lo: np.ndarray, hi: np.ndarray) -> list[Piece]:
    """Halve the gaps until each part is shown to hold no root."""
    pieces: list[Piece] = []
    for _ in range(_HALVINGS):
        bounds = value, slope = _bounds(look, lo, hi)
        free = value.empty | (value.lo > 0) | (value.hi < 0) | (monotone(value, slope) & (sign(lo) * sign(hi) > 0))
        shown = [x.take(free) for x in bounds]
        pieces += _pieces((lo[free], hi[free]), shown, ["no root"] * int(free.sum()))
        lo, hi = lo[~free], hi[~free]
        if not len(lo):
            return pieces
        half = 0.5 * lo + 0.5 * hi
        lo, hi = np.concatenate([lo, half]), np.concatenate([half, hi])
    return pieces + _pieces((lo, hi), _bounds(look, lo, hi), ["undecided"] * len(lo))
