"""jaxkit: differentiable scientific computing in JAX. Everything moves, and every motion has a derivative.

The verbs live at the top (`jk.solve`, `jk.root`, ...), the subjects in modules of their own
(`jaxkit.competition`, ...). Names are loaded when first used: `import jaxkit` costs little more than `import jax`.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module that defines it. One line makes a name public.
_HOME = {
    "Branch": "jaxkit.dynamics.continuation",
    "Ensemble": "jaxkit.dynamics.ensemble",
    "Equilibria": "jaxkit.dynamics.stability",
    "Fit": "jaxkit.learn.fit",
    "Kind": "jaxkit.dynamics.stability",
    "LeastSquares": "jaxkit.learn.least_squares",
    "Linearization": "jaxkit.dynamics.stability",
    "Play": "jaxkit.learn.play",
    "Root": "jaxkit.dynamics.root",
    "Samples": "jaxkit.dynamics.sample.chain",
    "Sensitivity": "jaxkit.dynamics.sensitivity",
    "Solution": "jaxkit.dynamics.solve",
    "SolverError": "jaxkit.core.status",
    "Special": "jaxkit.dynamics.continuation",
    "Status": "jaxkit.core.status",
    "Unrolled": "jaxkit.dynamics.unroll",
    "cite": "jaxkit.core.citation",
    "classify": "jaxkit.dynamics.stability",
    "continuation": "jaxkit.dynamics.continuation",
    "divergence": "jaxkit.dynamics.stability",
    "ensemble": "jaxkit.dynamics.ensemble",
    "equilibria": "jaxkit.dynamics.stability",
    "fit": "jaxkit.learn.fit",
    "fixed_point": "jaxkit.dynamics.fixed_point",
    "least_squares": "jaxkit.learn.least_squares",
    "linearize": "jaxkit.dynamics.stability",
    "multistart": "jaxkit.learn.least_squares",
    "nullclines": "jaxkit.dynamics.stability",
    "play": "jaxkit.learn.play",
    "root": "jaxkit.dynamics.root",
    "sample": "jaxkit.dynamics.sample.chain",
    "sensitivity": "jaxkit.dynamics.sensitivity",
    "set_precision": "jaxkit.core.environment",
    "solve": "jaxkit.dynamics.solve",
    "unroll": "jaxkit.dynamics.unroll",
}
_SUBJECTS = ("competition", "energy", "gan", "gravity", "newton", "reading", "recurrent", "score")

__all__ = [*sorted(_HOME), *sorted(_SUBJECTS)]  # noqa: PLE0604, RUF100

if TYPE_CHECKING:
    from jaxkit import competition as competition
    from jaxkit import energy as energy
    from jaxkit import gan as gan
    from jaxkit import gravity as gravity
    from jaxkit import newton as newton
    from jaxkit import reading as reading
    from jaxkit import recurrent as recurrent
    from jaxkit import score as score
    from jaxkit.core.citation import cite as cite
    from jaxkit.core.environment import set_precision as set_precision
    from jaxkit.core.status import SolverError as SolverError
    from jaxkit.core.status import Status as Status
    from jaxkit.dynamics.continuation import Branch as Branch
    from jaxkit.dynamics.continuation import Special as Special
    from jaxkit.dynamics.continuation import continuation as continuation
    from jaxkit.dynamics.ensemble import Ensemble as Ensemble
    from jaxkit.dynamics.ensemble import ensemble as ensemble
    from jaxkit.dynamics.fixed_point import fixed_point as fixed_point
    from jaxkit.dynamics.root import Root as Root
    from jaxkit.dynamics.root import root as root
    from jaxkit.dynamics.sample.chain import Samples as Samples
    from jaxkit.dynamics.sample.chain import sample as sample
    from jaxkit.dynamics.sensitivity import Sensitivity as Sensitivity
    from jaxkit.dynamics.sensitivity import sensitivity as sensitivity
    from jaxkit.dynamics.solve import Solution as Solution
    from jaxkit.dynamics.solve import solve as solve
    from jaxkit.dynamics.stability import Equilibria as Equilibria
    from jaxkit.dynamics.stability import Kind as Kind
    from jaxkit.dynamics.stability import Linearization as Linearization
    from jaxkit.dynamics.stability import classify as classify
    from jaxkit.dynamics.stability import divergence as divergence
    from jaxkit.dynamics.stability import equilibria as equilibria
    from jaxkit.dynamics.stability import linearize as linearize
    from jaxkit.dynamics.stability import nullclines as nullclines
    from jaxkit.dynamics.unroll import Unrolled as Unrolled
    from jaxkit.dynamics.unroll import unroll as unroll
    from jaxkit.learn.fit import Fit as Fit
    from jaxkit.learn.fit import fit as fit
    from jaxkit.learn.least_squares import LeastSquares as LeastSquares
    from jaxkit.learn.least_squares import least_squares as least_squares
    from jaxkit.learn.least_squares import multistart as multistart
    from jaxkit.learn.play import Play as Play
    from jaxkit.learn.play import play as play


def __getattr__(name: str) -> Any:
    if name in _SUBJECTS:
        return importlib.import_module(f"jaxkit.{name}")
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value  # next time without this function; also keeps a verb from being shadowed by its module
        return value
    raise AttributeError(f"module 'jaxkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
