"""jaxkit: differentiable scientific computing in JAX. Everything moves, and every motion has a derivative.

The verbs live at the top (`jk.solve`, `jk.root`, ...), the subjects in modules of their own
(`jaxkit.competition`, ...). Names are loaded when first used, so `import jaxkit` costs little more than `import jax`.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module that defines it. A line here makes a name public.
_HOME = {
    "Annealed": "jaxkit.dynamics.mcmc.annealed",
    "Associative": "jaxkit.dynamics.recurrence.associative",
    "Anderson": "jaxkit.dynamics.roots.methods.anderson",
    "LevenbergMarquardt": "jaxkit.dynamics.roots.methods.descent",
    "Branch": "jaxkit.dynamics.analysis.continuation",
    "Chains": "jaxkit.dynamics.mcmc.sample",
    "Crossings": "jaxkit.dynamics.ode.actions",
    "Dense": "jaxkit.dynamics.ode.dense",
    "Ensemble": "jaxkit.dynamics.ode.engine.batch",
    "Equilibria": "jaxkit.dynamics.analysis.equilibria",
    "Event": "jaxkit.dynamics.ode.actions",
    "Fit": "jaxkit.learn.fit",
    "HMC": "jaxkit.dynamics.mcmc.hmc",
    "Jumps": "jaxkit.dynamics.ode.actions",
    "Kind": "jaxkit.dynamics.analysis.linearize",
    "LeastSquares": "jaxkit.dynamics.roots.least_squares",
    "Linearization": "jaxkit.dynamics.analysis.linearize",
    "LogPartition": "jaxkit.dynamics.mcmc.log_partition",
    "MALA": "jaxkit.dynamics.mcmc.langevin",
    "ParallelNewton": "jaxkit.dynamics.recurrence.newton",
    "Play": "jaxkit.learn.play",
    "Root": "jaxkit.dynamics.roots.root",
    "Run": "jaxkit.core.run",
    "RungeKutta": "jaxkit.dynamics.ode.methods",
    "SDE": "jaxkit.dynamics.ode.methods",
    "Scan": "jaxkit.dynamics.recurrence.scan",
    "Score": "jaxkit.dynamics.mcmc.sample",
    "Sensitivity": "jaxkit.dynamics.ode.sensitivity",
    "Solution": "jaxkit.dynamics.ode.solution",
    "SolverError": "jaxkit.core.status",
    "Special": "jaxkit.dynamics.analysis.branch",
    "Status": "jaxkit.core.status",
    "Taylor": "jaxkit.dynamics.ode.methods",
    "ULA": "jaxkit.dynamics.mcmc.langevin",
    "Underdamped": "jaxkit.dynamics.mcmc.underdamped",
    "Unrolled": "jaxkit.dynamics.recurrence.method",
    "cite": "jaxkit.core.citation",
    "classify": "jaxkit.dynamics.analysis.linearize",
    "continuation": "jaxkit.dynamics.analysis.continuation",
    "divergence": "jaxkit.dynamics.analysis.divergence",
    "effective_sample_size": "jaxkit.dynamics.mcmc.diagnostics",
    "ensemble": "jaxkit.dynamics.ode.ensemble",
    "equilibria": "jaxkit.dynamics.analysis.equilibria",
    "fit": "jaxkit.learn.fit",
    "fixed_point": "jaxkit.dynamics.roots.fixed_point",
    "least_squares": "jaxkit.dynamics.roots.least_squares",
    "linearize": "jaxkit.dynamics.analysis.linearize",
    "log_partition": "jaxkit.dynamics.mcmc.log_partition",
    "nullclines": "jaxkit.dynamics.analysis.nullclines",
    "play": "jaxkit.learn.play",
    "root": "jaxkit.dynamics.roots.root",
    "sample": "jaxkit.dynamics.mcmc.sample",
    "sensitivity": "jaxkit.dynamics.ode.sensitivity",
    "set_precision": "jaxkit.core.environment",
    "solve": "jaxkit.dynamics.ode.solve",
    "split_rhat": "jaxkit.dynamics.mcmc.diagnostics",
    "unroll": "jaxkit.dynamics.recurrence.unroll",
}
# Subpackages reachable after `import jaxkit as jk`: `jk.nets`, `jk.data`, ...
_ROOMS = {
    "data": "jaxkit.learn.data",
    "inverse": "jaxkit.inverse",
    "learn": "jaxkit.learn",
    "metrics": "jaxkit.learn.metrics",
    "models": "jaxkit.models",
    "nets": "jaxkit.learn.nets",
}
# The subjects, in the order in which `python -m jaxkit run all` runs them: each is a package with a module `run`.
SUBJECTS = ("competition", "newton", "recurrent", "gravity", "reading", "gan", "energy", "score")

__all__ = [*sorted(_HOME), *sorted(_ROOMS), *sorted(SUBJECTS)]  # noqa: PLE0604, RUF100

if TYPE_CHECKING:
    from jaxkit import competition as competition
    from jaxkit import energy as energy
    from jaxkit import gan as gan
    from jaxkit import gravity as gravity
    from jaxkit import inverse as inverse
    from jaxkit import learn as learn
    from jaxkit import models as models
    from jaxkit import newton as newton
    from jaxkit import reading as reading
    from jaxkit import recurrent as recurrent
    from jaxkit import score as score
    from jaxkit.core.citation import cite as cite
    from jaxkit.core.environment import set_precision as set_precision
    from jaxkit.core.run import Run as Run
    from jaxkit.core.status import SolverError as SolverError
    from jaxkit.core.status import Status as Status
    from jaxkit.dynamics.analysis.branch import Special as Special
    from jaxkit.dynamics.analysis.continuation import Branch as Branch
    from jaxkit.dynamics.analysis.continuation import continuation as continuation
    from jaxkit.dynamics.analysis.divergence import divergence as divergence
    from jaxkit.dynamics.analysis.equilibria import Equilibria as Equilibria
    from jaxkit.dynamics.analysis.equilibria import equilibria as equilibria
    from jaxkit.dynamics.analysis.linearize import Kind as Kind
    from jaxkit.dynamics.analysis.linearize import Linearization as Linearization
    from jaxkit.dynamics.analysis.linearize import classify as classify
    from jaxkit.dynamics.analysis.linearize import linearize as linearize
    from jaxkit.dynamics.analysis.nullclines import nullclines as nullclines
    from jaxkit.dynamics.mcmc.annealed import Annealed as Annealed
    from jaxkit.dynamics.mcmc.diagnostics import effective_sample_size as effective_sample_size
    from jaxkit.dynamics.mcmc.diagnostics import split_rhat as split_rhat
    from jaxkit.dynamics.mcmc.hmc import HMC as HMC
    from jaxkit.dynamics.mcmc.langevin import MALA as MALA
    from jaxkit.dynamics.mcmc.langevin import ULA as ULA
    from jaxkit.dynamics.mcmc.log_partition import LogPartition as LogPartition
    from jaxkit.dynamics.mcmc.log_partition import log_partition as log_partition
    from jaxkit.dynamics.mcmc.sample import Chains as Chains
    from jaxkit.dynamics.mcmc.sample import Score as Score
    from jaxkit.dynamics.mcmc.sample import sample as sample
    from jaxkit.dynamics.mcmc.underdamped import Underdamped as Underdamped
    from jaxkit.dynamics.ode.actions import Crossings as Crossings
    from jaxkit.dynamics.ode.actions import Event as Event
    from jaxkit.dynamics.ode.actions import Jumps as Jumps
    from jaxkit.dynamics.ode.dense import Dense as Dense
    from jaxkit.dynamics.ode.engine.batch import Ensemble as Ensemble
    from jaxkit.dynamics.ode.ensemble import ensemble as ensemble
    from jaxkit.dynamics.ode.methods import SDE as SDE
    from jaxkit.dynamics.ode.methods import RungeKutta as RungeKutta
    from jaxkit.dynamics.ode.methods import Taylor as Taylor
    from jaxkit.dynamics.ode.sensitivity import Sensitivity as Sensitivity
    from jaxkit.dynamics.ode.sensitivity import sensitivity as sensitivity
    from jaxkit.dynamics.ode.solution import Solution as Solution
    from jaxkit.dynamics.ode.solve import solve as solve
    from jaxkit.dynamics.recurrence.associative import Associative as Associative
    from jaxkit.dynamics.recurrence.method import Unrolled as Unrolled
    from jaxkit.dynamics.recurrence.newton import ParallelNewton as ParallelNewton
    from jaxkit.dynamics.recurrence.scan import Scan as Scan
    from jaxkit.dynamics.recurrence.unroll import unroll as unroll
    from jaxkit.dynamics.roots.fixed_point import fixed_point as fixed_point
    from jaxkit.dynamics.roots.least_squares import LeastSquares as LeastSquares
    from jaxkit.dynamics.roots.least_squares import least_squares as least_squares
    from jaxkit.dynamics.roots.methods.anderson import Anderson as Anderson
    from jaxkit.dynamics.roots.methods.descent import LevenbergMarquardt as LevenbergMarquardt
    from jaxkit.dynamics.roots.root import Root as Root
    from jaxkit.dynamics.roots.root import root as root
    from jaxkit.learn import data as data
    from jaxkit.learn import metrics as metrics
    from jaxkit.learn import nets as nets
    from jaxkit.learn.fit import Fit as Fit
    from jaxkit.learn.fit import fit as fit
    from jaxkit.learn.play import Play as Play
    from jaxkit.learn.play import play as play


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(_ROOMS[name])
    if name in SUBJECTS:
        return importlib.import_module(f"jaxkit.{name}")
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value  # next time without this function; also keeps a verb from being shadowed by its module
        return value
    raise AttributeError(f"module 'jaxkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
