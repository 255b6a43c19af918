"""A solution as text: what a student reads in the terminal."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxkit.core.status import Status

if TYPE_CHECKING:
    from jaxkit.newton.solve import Solution


def number(value: Any, digits: int = 12) -> str:
    """A real or complex number."""
    value = complex(value)
    if value.imag == 0:
        return f"{value.real:.{digits}g}"
    return f"{value.real:.{digits}g} {'+' if value.imag > 0 else '-'} {abs(value.imag):.{digits}g}i"


def orders(steps: np.ndarray) -> list[float]:
    """Observed orders `log(s_k+1 / s_k) / log(s_k / s_k-1)` of step lengths; NaN where rounding rules."""
    found = [float("nan")] * len(steps)
    with np.errstate(all="ignore"):
        for k in range(2, len(steps)):
            a, b, c = steps[k - 2 : k + 1]
            usable = np.isfinite([a, b, c]).all() and 0 < c < b < a and c > 1e-14 * max(steps[np.isfinite(steps)])
            found[k] = float(np.log(c / b) / np.log(b / a)) if usable else float("nan")
    return found


def iterates(solution: "Solution", most: int = 12) -> list[str]:
    """The table of iterates with the observed order."""
    way = solution.history
    if way is None:
        return []
    count = int(way.steps) + 1
    names = solution.unknowns or ("x",)
    x: Any = way.x
    if isinstance(x, dict) and solution.unknowns:
        leaves = [np.asarray(x[name]) for name in names]
    elif getattr(x, "ndim", 0) == 1:
        leaves = [np.asarray(x)]
    else:
        return []
    step, residual = np.asarray(way.step), np.asarray(way.residual)
    order = orders(step[:count])
    width = 42 if any(np.iscomplexobj(leaf) for leaf in leaves) else 20
    lines = ["   k  " + "".join(f"{name:<{width}}" for name in names) + "|f|        |step|     order"]
    for k in range(count):
        if count > most and most // 2 <= k < count - most // 2:
            if k == most // 2:
                lines.append(f"  ...  ({count - most} more)")
            continue
        shown = "".join(f"{number(np.asarray(leaf)[k]):<{width}}" for leaf in leaves)
        moved = f"{step[k]:<10.2e}" if np.isfinite(step[k]) else " " * 10
        lines.append(f"  {k:>2}  {shown}{residual[k]:<10.2e} {moved} {order[k]:.2f}".replace(" nan", ""))
    return lines


def session(solution: "Solution") -> str:
    """Equations, derivatives, iterates, result."""
    lines = [*(f"equation    {text}" for text in solution.equations)]
    lines += [f"derivative  {text}" for text in solution.derivatives]
    lines += iterates(solution)
    if bool(solution.ok):
        lines.append(_result(solution))
    else:
        status = Status(int(solution.status))
        lines.append(f"no root     {status.name}: {status.sentence}")
    if solution.remark:
        lines.append(f"remark      {solution.remark}")
    for name, (lo, hi) in (solution.enclosure or {}).items():
        lines.append(f"proven      exactly one root with {name} in [{lo:.17g}, {hi:.17g}]")
    return "\n".join(lines)


def _result(solution: "Solution") -> str:
    names = solution.unknowns
    value: Any = solution.value
    if isinstance(value, dict) and names:
        shown = ", ".join(f"{name} = {number(value[name], 16)}" for name in names)
    elif getattr(value, "ndim", 1) == 0:
        shown = f"{names[0] if names else 'x'} = {number(value, 16)}"
    else:
        shown = f"x = {value}"
    return f"root        {shown}   (residual {float(solution.residual):.1e}, {int(solution.steps)} steps)"
