"""Learning: what `jk.fit` and `jk.play` need around them. Names are loaded when first used."""

import importlib
from typing import TYPE_CHECKING, Any

# Public name -> the module of this folder that defines it.
_HOME = {
    "CheckpointError": "checkpoint",
    "FolderLog": "runlog",
    "HostBatches": "feed",
    "HostMinibatches": "batches",
    "KeepBest": "callbacks",
    "Minibatches": "batches",
    "RunLog": "runlog",
    "TensorBoard": "runlog",
    "TimeBudget": "callbacks",
    "TrainState": "descent",
    "WandB": "runlog",
    "data_parallel": "scale",
    "half_square_gradient": "gradients",
    "host_minibatches": "batches",
    "load": "saving",
    "device_mean": "scale",
    "mesh": "scale",
    "minibatches": "batches",
    "latent_noise": "batches",
    "pmapped": "scale",
    "save": "saving",
    "seeds": "scale",
    "shard_batch": "scale",
    "initialize": "scale",
    "value_and_half_square_gradient": "gradients",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from jaxkit.learn.batches import HostMinibatches as HostMinibatches
    from jaxkit.learn.batches import Minibatches as Minibatches
    from jaxkit.learn.batches import host_minibatches as host_minibatches
    from jaxkit.learn.batches import latent_noise as latent_noise
    from jaxkit.learn.batches import minibatches as minibatches
    from jaxkit.learn.callbacks import KeepBest as KeepBest
    from jaxkit.learn.callbacks import TimeBudget as TimeBudget
    from jaxkit.learn.checkpoint import CheckpointError as CheckpointError
    from jaxkit.learn.descent import TrainState as TrainState
    from jaxkit.learn.feed import HostBatches as HostBatches
    from jaxkit.learn.gradients import half_square_gradient as half_square_gradient
    from jaxkit.learn.gradients import value_and_half_square_gradient as value_and_half_square_gradient
    from jaxkit.learn.runlog import FolderLog as FolderLog
    from jaxkit.learn.runlog import RunLog as RunLog
    from jaxkit.learn.runlog import TensorBoard as TensorBoard
    from jaxkit.learn.runlog import WandB as WandB
    from jaxkit.learn.saving import load as load
    from jaxkit.learn.saving import save as save
    from jaxkit.learn.scale import data_parallel as data_parallel
    from jaxkit.learn.scale import device_mean as device_mean
    from jaxkit.learn.scale import initialize as initialize
    from jaxkit.learn.scale import mesh as mesh
    from jaxkit.learn.scale import pmapped as pmapped
    from jaxkit.learn.scale import seeds as seeds
    from jaxkit.learn.scale import shard_batch as shard_batch


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
