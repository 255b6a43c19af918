"""Two competing species: from data to theorem.

After Su Jianlin, "Two-species competition: LaTeX + Python" (kexue.fm/archives/3120).
"""

from jaxkit.competition.basins import Separatrix as Separatrix
from jaxkit.competition.basins import basin as basin
from jaxkit.competition.basins import outcome_map as outcome_map
from jaxkit.competition.basins import separatrix as separatrix
from jaxkit.competition.data import observations as observations
from jaxkit.competition.fit import CompetitionFit as CompetitionFit
from jaxkit.competition.fit import band as band
from jaxkit.competition.fit import fit as fit
from jaxkit.competition.fit import profile as profile
from jaxkit.competition.model import simulate as simulate
from jaxkit.competition.model import simulate_noisy as simulate_noisy
from jaxkit.competition.plots import animate_flow as animate_flow
from jaxkit.competition.plots import plot_branches as plot_branches
from jaxkit.competition.plots import plot_fit as plot_fit
from jaxkit.competition.plots import plot_outcome_map as plot_outcome_map
from jaxkit.competition.plots import plot_portrait as plot_portrait
from jaxkit.competition.plots import plot_time_series as plot_time_series
from jaxkit.competition.report import branches as branches
from jaxkit.competition.report import report as report
from jaxkit.competition.theory import Regime as Regime
from jaxkit.competition.theory import RestPoints as RestPoints
from jaxkit.competition.theory import dulac as dulac
from jaxkit.competition.theory import equilibria as equilibria
from jaxkit.competition.theory import explain as explain
from jaxkit.competition.theory import invasion as invasion
from jaxkit.competition.theory import lyapunov as lyapunov
from jaxkit.competition.theory import nullclines as nullclines
from jaxkit.competition.theory import outcome as outcome
from jaxkit.competition.theory import regime as regime
from jaxkit.models.gause import gause as gause
from jaxkit.models.lotka_volterra import Params as Params
from jaxkit.models.lotka_volterra import Rates as Rates
