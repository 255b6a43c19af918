"""Run logs: what was run (`run.json`) and how it went (`metrics.jsonl`), with adapters for TensorBoard and W&B."""

import contextlib
import datetime
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from jaxkit.core.environment import versions
from jaxkit.core.files import replacing


@runtime_checkable
class RunLog(Protocol):
    """What `jk.Run(log=...)` needs of a log; a class of your own with these methods will do."""

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """A run begins, or continues after `step` steps."""
        ...

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """A chunk ended: the means of the logged scalars over it."""
        ...

    def close(self) -> None:
        """The run ended."""
        ...


class FolderLog:
    """`run.json` and `metrics.jsonl` in a folder.

    Example:
        >>> import json, pathlib, tempfile, jax.numpy as jnp, jaxkit as jk
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = jk.fit(lambda p, _: jnp.sum(p**2), jnp.ones(2), steps=400, run=jk.Run(log=folder))
        >>> [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        [200, 400]
        >>> json.loads((folder / "run.json").read_text())["config"]["steps"]
        400
    """

    def __init__(self, folder: str | Path, config: Mapping[str, Any] | None = None):
        """Log into `folder`; `config` (JSON values) is kept beside the run's own."""
        self.folder, self.config, self._file = Path(folder), dict(config or {}), None

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Write `run.json`; keep the rows of `metrics.jsonl` up to `step`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {"config": {**config, **self.config}, "resumed_at": step, **provenance()}
        _replace(self.folder / "run.json", json.dumps(about, indent=1, default=str) + "\n")
        path = self.folder / "metrics.jsonl"
        _replace(path, "".join(line + "\n" for line in _rows_until(path, step)))
        self._file = path.open("a")

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line; numbers that JSON cannot hold are null."""
        assert self._file is not None, "start() comes first"  # noqa: S101
        finite = {name: value if np.isfinite(value) else None for name, value in values.items()}
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class TensorBoard:
    """TensorBoard event files, written by tensorboardX (`pip install 'jaxkit[tensorboard]'`)."""

    def __init__(self, folder: str | Path):
        """Write event files into `folder`."""
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]

        self._writer = SummaryWriter(str(folder))

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Keep the configuration as text."""
        self._writer.add_text("config", json.dumps(dict(config), default=str), step)

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """Write one scalar per name."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


class WandB:
    """Weights & Biases (`pip install 'jaxkit[wandb]'`); sends to their server unless `WANDB_MODE=offline`."""

    def __init__(self, project: str, **options: Any):
        """Log into `project`; options go to `wandb.init`."""
        self.project, self.options, self._run = project, options, None

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Open the run."""
        import wandb  # pyright: ignore[reportMissingImports]

        self._run = wandb.init(project=self.project, config={**config, "resumed_at": step}, **self.options)

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """Send one row."""
        assert self._run is not None, "start() comes first"  # noqa: S101
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Finish the run."""
        if self._run is not None:
            self._run.finish()


def opened(log: Any) -> RunLog:
    """Return a log as it is, and a path as a `FolderLog`."""
    return log if isinstance(log, RunLog) else FolderLog(log)


def scalars(rows: Any) -> dict[str, float]:
    """Means over a chunk of what each step logged: nested names are joined by `/`, arrays left out."""
    pairs = jax.tree_util.tree_leaves_with_path(rows)
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    return {name(path): float(np.mean(v, dtype=float)) for path, v in pairs if np.ndim(v) == 1 and len(v)}


def provenance() -> dict[str, Any]:
    """Where and with what this runs: date, command, versions, devices, git commit."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "versions": versions(),
        "devices": [str(device) for device in jax.devices()],
        "precision": "double" if jax.config.read("jax_enable_x64") else "single",
        "git": git(),
    }


def git(folder: str | Path = ".") -> dict[str, Any] | None:
    """Commit of a folder, and whether it has uncommitted changes; None outside git."""
    program = shutil.which("git")
    if program is None:
        return None
    said = []
    for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            done = subprocess.run(  # noqa: S603
                [program, *command], cwd=folder, capture_output=True, text=True, timeout=10, check=True
            )
        except (subprocess.SubprocessError, OSError):
            return None
        said.append(done.stdout.strip())
    return {"commit": said[0], "modified": bool(said[1])}


def _rows_until(path: Path, step: int) -> list[str]:
    """Lines of the steps up to `step`; a torn last line is dropped."""
    kept = []
    if step and path.exists():
        for line in path.read_text().split("\n"):
            with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError):
                if json.loads(line)["step"] <= step:
                    kept.append(line)
    return kept


def _replace(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)
