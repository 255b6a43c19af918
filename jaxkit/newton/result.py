"""The root of an equation with the way to it, and the text that a student reads in the terminal."""

from typing import Any, ClassVar

import numpy as np
from jaxtyping import Array, Float, Int

from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import static, struct
from jaxkit.dynamics.roots.history import History
from jaxkit.newton.equations import Equations


@struct
class EquationRoot(Outcome):
    """A root, the derivatives found on the way, and the iterates. `print` shows it all.

    Attributes:
        value: The root: a number for one unknown, else name -> number; a function's root has the structure of `x0`.
        residual: Largest absolute residual.
        status: `Status` code.
        steps: Iterations taken.
        history: The iterates of the method shown; None inside a jitted program.
        equations: The equations as they were understood; None for a function.
        remark: Further remarks, as text.
        enclosure: Name -> (lower, upper), between which exactly one root is proven to lie; None without a proof.
    """

    verb: ClassVar[str] = "solve"

    value: Any
    residual: Float[Array, ""]
    status: Int[Array, ""]
    steps: Int[Array, ""]
    history: History | None = None
    equations: Equations | None = static(default=None)
    remark: str = static(default="")
    enclosure: Any = static(default=None)

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
            usable = np.isfinite([a, b, c]).all() and 0 < c < b < a and c > 1e-14 * max(steps[np.isfinite(steps)])
            found[k] = float(np.log(c / b) / np.log(b / a)) if usable else float("nan")
    return found


def _iterates(root: EquationRoot, most: int = 12) -> list[str]:
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


def _session(root: EquationRoot) -> str:
    """Equations, derivatives, iterates, result."""
    lines = [*(f"equation    {text}" for text in (root.equations.shown if root.equations else ("f(x) = 0",)))]
    lines += [f"derivative  {text}" for text in root.derivatives]
    lines += _iterates(root)
    if bool(root.ok):
        lines.append(_result(root))
    else:
        status = Status(int(root.status))
        lines.append(f"no root     {status.name}: {status.sentence}")
    if root.remark:
        lines.append(f"remark      {root.remark}")
    for name, (lo, hi) in (root.enclosure or {}).items():
        lines.append(f"proven      exactly one root with {name} in [{lo:.17g}, {hi:.17g}]")
    return "\n".join(lines)


def _within(value: Any, root: EquationRoot, name: str) -> str:
    """The root in 16 digits, or in 17 where 16 would leave its proven box."""
    low, high = (root.enclosure or {}).get(name, (-np.inf, np.inf))
    shown = number(value, 16)
    return shown if root.enclosure is None or low <= float(shown) <= high else number(value, 17)


def _result(root: EquationRoot) -> str:
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
