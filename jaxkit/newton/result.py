"""The root of an equation with the way to it."""

from typing import Any, ClassVar

from jaxtyping import Array, Float, Int

from jaxkit.core.status import Outcome, Status
from jaxkit.core.struct import static, struct
from jaxkit.dynamics.roots.history import History
from jaxkit.newton.equations import Equations
from jaxkit.newton.session import Session


@struct
class EquationRoot(Session, Outcome):
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
    def failure(self) -> str:
        """Why there is no root; an empty string if there is one."""
        status = Status(int(self.status))
        return "" if status == Status.ok else f"{status.name}: {status.sentence}"
