"""An RNN is an ODE solver, and an ODE solver is an RNN: cells, conversions, and parameters from few observations."""

from typing import TYPE_CHECKING

from jaxkit.core.lazy import lazily

# Public name -> the module that defines it.
_HOME = {
    "ARTICLE": "jaxkit.recurrent.data",
    "Adam": "jaxkit.recurrent.methods",
    "FieldCell": "jaxkit.recurrent.fields",
    "FreeStart": "jaxkit.recurrent.problem",
    "GRU": "jaxkit.recurrent.cells",
    "Inference": "jaxkit.recurrent.inference",
    "LSTM": "jaxkit.recurrent.cells",
    "MinGRU": "jaxkit.recurrent.cells",
    "Multistart": "jaxkit.recurrent.methods",
    "Observations": "jaxkit.recurrent.problem",
    "SRU": "jaxkit.recurrent.cells",
    "Shooting": "jaxkit.recurrent.methods",
    "Vanilla": "jaxkit.recurrent.cells",
    "as_field": "jaxkit.recurrent.fields",
    "from_field": "jaxkit.recurrent.fields",
    "infer": "jaxkit.recurrent.inference",
    "paramecium": "jaxkit.recurrent.data",
    "plot_article": "jaxkit.recurrent.plots",
    "plot_gause": "jaxkit.recurrent.plots",
    "plot_newton": "jaxkit.recurrent.plots",
    "plot_orders": "jaxkit.recurrent.plots",
    "plot_starts": "jaxkit.recurrent.plots",
    "two_species": "jaxkit.recurrent.data",
}

__all__ = [*sorted(_HOME)]  # noqa: PLE0604, RUF100

if TYPE_CHECKING:
    from jaxkit.recurrent.cells import GRU as GRU
    from jaxkit.recurrent.cells import LSTM as LSTM
    from jaxkit.recurrent.cells import SRU as SRU
    from jaxkit.recurrent.cells import MinGRU as MinGRU
    from jaxkit.recurrent.cells import Vanilla as Vanilla
    from jaxkit.recurrent.data import ARTICLE as ARTICLE
    from jaxkit.recurrent.data import paramecium as paramecium
    from jaxkit.recurrent.data import two_species as two_species
    from jaxkit.recurrent.fields import FieldCell as FieldCell
    from jaxkit.recurrent.fields import as_field as as_field
    from jaxkit.recurrent.fields import from_field as from_field
    from jaxkit.recurrent.inference import Inference as Inference
    from jaxkit.recurrent.inference import infer as infer
    from jaxkit.recurrent.methods import Adam as Adam
    from jaxkit.recurrent.methods import Multistart as Multistart
    from jaxkit.recurrent.methods import Shooting as Shooting
    from jaxkit.recurrent.plots import plot_article as plot_article
    from jaxkit.recurrent.plots import plot_gause as plot_gause
    from jaxkit.recurrent.plots import plot_newton as plot_newton
    from jaxkit.recurrent.plots import plot_orders as plot_orders
    from jaxkit.recurrent.plots import plot_starts as plot_starts
    from jaxkit.recurrent.problem import FreeStart as FreeStart
    from jaxkit.recurrent.problem import Observations as Observations


__getattr__, __dir__ = lazily(__name__, _HOME)
