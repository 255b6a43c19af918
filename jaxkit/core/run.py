"""`Run`: what the host does during a run, the same for every verb and subject that takes `run=`."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxkit.core import checks

Callback = Callable[[int, Any], Any]


@dataclasses.dataclass(frozen=True)
class Run:
    """What the host does between the compiled chunks of a run.

    A verb uses the fields that make sense for it, says which, and refuses those it cannot honour.

    Attributes:
        chunk: Steps in one dispatch of the compiled program.
        progress: Whether to show a progress bar, where the output is a terminal.
        log: Folder for `run.json` and `metrics.jsonl`, or an object with `start`, `row` and `close`
            (`jk.learn.RunLog`).
        checkpoint: Folder for checkpoints, one after each chunk; a new run needs a folder without checkpoints.
        keep: Number of checkpoints that are kept.
        resume: Whether to go on from the newest whole checkpoint of that folder, if there is one. It must be of the
            same loss, configuration and data; a larger number of steps is allowed.
        devices: Devices over which every batch is divided; None leaves everything where JAX puts it.
        callback: `callback(step, state)`, or several, called after each chunk with the number of steps done and the
            state. The run ends when one returns something true. See `jk.learn.KeepBest` and `jk.learn.TimeBudget`.

    Raises:
        ValueError: A value is of the wrong kind or not positive, or `resume` is set without `checkpoint`.

    Example:
        >>> import jaxkit as jk
        >>> run = jk.Run(chunk=100, callback=lambda step, state: step >= 300)
        >>> run.chunk, run.keep
        (100, 2)
    """

    chunk: int = 200
    progress: bool = False
    log: Any = None
    checkpoint: str | Path | None = None
    keep: int = 2
    resume: bool = False
    devices: Sequence[Any] | None = None
    callback: Callback | Sequence[Callback] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("chunk", "keep"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            checks.require(whole and value > 0, name, "be a positive integer", f"is {value!r}")
        saved = not self.resume or self.checkpoint is not None
        checks.require(saved, "checkpoint", "be a folder to resume from", "is None")
        checks.require(self.devices is None or len(self.devices) > 0, "devices", "not be empty", "is")
        for each in self.callbacks:
            checks.require(callable(each), "callback", "be callable, or a sequence of callables", f"is {each!r}")

    @property
    def callbacks(self) -> tuple[Callback, ...]:
        """The callbacks, whether none, one or several were given."""
        if self.callback is None:
            return ()
        return tuple(self.callback) if isinstance(self.callback, Sequence) else (self.callback,)

    def asked(self) -> list[str]:
        """Names of what is asked of the host, except `chunk` and `keep`; none of it is possible inside a trace."""
        names = ("progress", "log", "checkpoint", "resume", "devices", "callback")
        return [name for name in names if getattr(self, name) not in (None, False)]
