"""Progress of a training run: a bar on the host, moved between chunks."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np


@contextlib.contextmanager
def bar(verb: str, steps: int, start: int = 0, console: Any = None) -> Iterator[Callable[[int, Any, float], None]]:
    """A rich bar with losses, steps per second and time left; silent if the output is not a terminal.

    Args:
        verb: What is running.
        steps: Total number of steps.
        start: Steps that a resumed run has behind it.
        console: A rich console; standard error by default.

    Yields:
        A function of (steps done, last logs, steps per second) that moves the bar.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True) if console is None else console
    if not console.is_terminal:
        yield lambda done, logs, rate: None
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
        TextColumn("{task.fields[losses]}"), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=False) as progress:
        task = progress.add_task(verb, total=steps, completed=start, losses="", rate="compiling")

        def show(done: int, logs: Any, rate: float) -> None:
            progress.update(task, completed=done, losses=losses(logs), rate=f"{rate:.3g} steps/s")

        yield show


def losses(logs: Any) -> str:
    """The scalar logs of one step as `loss 0.123  critic 1.2`: the first three."""
    named = [(path, v) for path, v in jax.tree_util.tree_leaves_with_path(logs) if np.ndim(v) == 0]
    return "  ".join(f"{jax.tree_util.keystr(path[-1:], simple=True)} {float(v):.4g}" for path, v in named[:3])
