"""An RNN is an ODE solver, and an ODE solver is an RNN: cells, conversions, and parameters from few observations."""

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "ARTICLE": "data",
    "Adam": "methods",
    "FieldCell": "fields",
    "FreeStart": "problem",
    "GRU": "cells",
    "Inference": "inference",
    "LSTM": "cells",
    "MinGRU": "cells",
    "Multistart": "methods",
    "Observations": "problem",
    "SRU": "cells",
    "Shooting": "methods",
    "Vanilla": "cells",
    "as_field": "fields",
    "from_field": "fields",
    "infer": "inference",
    "paramecium": "data",
    "plot_article": "plots",
    "plot_gause": "plots",
    "plot_newton": "plots",
    "plot_orders": "plots",
    "plot_starts": "plots",
    "two_species": "data",
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


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"jaxkit.recurrent.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'jaxkit.recurrent' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
