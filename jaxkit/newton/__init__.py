"""Newton: type an equation, get its roots, proven if asked.

After Su, "When Matlab meets Newton's method": the user types an equation, and the program differentiates it.
"""

import sys
import types
from typing import TYPE_CHECKING, Any

from jaxkit.core.lazy import lazily

# Public name -> the module that defines it.
_HOME = {
    "AllRoots": "jaxkit.newton.all_roots",
    "Basins": "jaxkit.newton.basins",
    "EquationRoot": "jaxkit.newton.result",
    "Equations": "jaxkit.newton.equations",
    "ParseError": "jaxkit.core.expression",
    "Piece": "jaxkit.newton.proof",
    "all_roots": "jaxkit.newton.all_roots",
    "basins": "jaxkit.newton.basins",
    "certify": "jaxkit.newton.certify",
    "distinct_roots": "jaxkit.newton.solve",
    "iterate_basins": "jaxkit.newton.basins",
    "parse": "jaxkit.core.expression",
    "plot_all_roots": "jaxkit.newton.plots",
    "plot_basins": "jaxkit.newton.plots",
    "plot_solution": "jaxkit.newton.plots",
    "polynomial_roots": "jaxkit.newton.polynomial",
    "save_proof": "jaxkit.newton.proof",
    "solve": "jaxkit.newton.solve",
    "solve_many": "jaxkit.newton.many",
}

__all__ = [*sorted(_HOME)]  # noqa: PLE0604, RUF100

if TYPE_CHECKING:
    from jaxkit.core.expression import ParseError as ParseError
    from jaxkit.core.expression import parse as parse
    from jaxkit.newton.all_roots import AllRoots as AllRoots
    from jaxkit.newton.all_roots import all_roots as all_roots
    from jaxkit.newton.basins import Basins as Basins
    from jaxkit.newton.basins import basins as basins
    from jaxkit.newton.basins import iterate_basins as iterate_basins
    from jaxkit.newton.certify import certify as certify
    from jaxkit.newton.equations import Equations as Equations
    from jaxkit.newton.many import solve_many as solve_many
    from jaxkit.newton.plots import plot_all_roots as plot_all_roots
    from jaxkit.newton.plots import plot_basins as plot_basins
    from jaxkit.newton.plots import plot_solution as plot_solution
    from jaxkit.newton.polynomial import polynomial_roots as polynomial_roots
    from jaxkit.newton.proof import Piece as Piece
    from jaxkit.newton.proof import save_proof as save_proof
    from jaxkit.newton.result import EquationRoot as EquationRoot
    from jaxkit.newton.solve import distinct_roots as distinct_roots
    from jaxkit.newton.solve import solve as solve


class _Package(types.ModuleType):
    """A package in which `solve` is the function: importing the module `solve` would set that name to the module."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _HOME or not isinstance(value, types.ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


__getattr__, __dir__ = lazily(__name__, _HOME)
