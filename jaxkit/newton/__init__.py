"""Newton: type an equation, get its roots, proven if asked.

After Su, "When Matlab meets Newton's method": the user types an equation, and the program differentiates it.
"""

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
