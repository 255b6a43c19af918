"""What a student reads in the terminal: equations, derivatives, iterates, result. Plain numbers in, text out."""

from typing import Any

import numpy as np

from jaxkit.newton.equations import Equations


class Session:
    """A root that prints itself with the way to it. The attributes are those of `EquationRoot`."""

    value: Any
    residual: Any
    steps: Any
    history: Any
    equations: Equations | None
    remark: str
    enclosure: Any

    @property
    def failure(self) -> str:
        """Why there is no root; an empty string if there is one."""
        return ""

    @property
    def derivatives(self) -> tuple[str, ...]:
        """The derivatives as text."""
        return self.equations.derivatives if self.equations else ()

    @property
    def unknowns(self) -> tuple[str, ...]:
        """The names that were solved for."""
        return self.equations.unknowns if self.equations else ()

    def __str__(self) -> str:
        """The session as text: equations, derivatives, iterates, result."""
        return _session(self)


def number(value: Any, digits: int = 12) -> str:
    """A real or complex number as text."""
    value = complex(value)
    if value.imag == 0:
        return f"{value.real:.{digits}g}"
    return f"{value.real:.{digits}g} {'+' if value.imag > 0 else '-'} {abs(value.imag):.{digits}g}i"


def orders(steps: np.ndarray) -> list[float]:
    """Observed orders `log(s_k+1 / s_k) / log(s_k / s_k-1)` of step lengths; NaN where rounding dominates."""
    found = [float("nan")] * len(steps)
    with np.errstate(all="ignore"):
        for k in range(2, len(steps)):
            a, b, c = steps[k - 2 : k + 1]
            shrinks = 0 < c < b < (1 - 1e-6) * a and c > 1e-14 * max(steps[np.isfinite(steps)])
            usable = shrinks and np.isfinite([a, b, c]).all()
            found[k] = float(np.log(c / b) / np.log(b / a)) if usable else float("nan")
    return found


def _iterates(root: Session, most: int = 12) -> list[str]:
    """The table of iterates, with the observed order."""
    way = root.history
    if way is None:
        return []
    count = int(way.steps) + 1
    names = root.unknowns or ("x",)
    x: Any = way.x
    if isinstance(x, dict) and root.unknowns:
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


def _session(root: Session) -> str:
    """Equations, derivatives, iterates, result."""
    lines = [*(f"equation    {text}" for text in (root.equations.shown if root.equations else ("f(x) = 0",)))]
    lines += [f"derivative  {text}" for text in root.derivatives]
    lines += _iterates(root)
    lines.append(f"no root     {root.failure}" if root.failure else _result(root))
    if root.remark:
        lines.append(f"remark      {root.remark}")
    for name, (lo, hi) in (root.enclosure or {}).items():
        lines.append(f"proven      exactly one root with {name} in [{lo:.17g}, {hi:.17g}]")
    return "\n".join(lines)


def _within(value: Any, root: Session, name: str) -> str:
    """The root in 16 digits, or in 17 where 16 would leave its proven box."""
    low, high = (root.enclosure or {}).get(name, (-np.inf, np.inf))
    shown = number(value, 16)
    return shown if root.enclosure is None or low <= float(shown) <= high else number(value, 17)


def _result(root: Session) -> str:
    names = root.unknowns
    value: Any = root.value
    if isinstance(value, dict) and names:
        shown = ", ".join(f"{name} = {_within(value[name], root, name)}" for name in names)
    elif getattr(value, "ndim", 1) == 0:
        name = names[0] if names else "x"
        shown = f"{name} = {_within(value, root, name)}"
    else:
        shown = f"x = {value}"
    return f"root        {shown}   (residual {float(root.residual):.1e}, {int(root.steps)} steps)"
