"""Sweeps: one ensemble cut into shards for job arrays; one file per shard, written once, merged at the end.

A shard's file carries the hash of the whole sweep, so that a second run of the same shard does nothing, and files of
different sweeps cannot be merged. Nothing is communicated: shards may run anywhere and in any order.
"""

import argparse
import hashlib
import importlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkit.core import checks
from jaxkit.core.files import replacing
from jaxkit.dynamics.ode.ensemble import ensemble

_NEEDED = ("field", "x0", "ts", "args", "lanes")
_KEYS = frozenset((*_NEEDED, "seed", "method", "rtol", "atol", "max_steps"))
_ARRAY_JOBS = ("SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX")


def read_config(path: str | Path) -> dict[str, Any]:
    """A sweep's configuration from a JSON file.

    Keys: `field` ("module:function"), `x0` and `args` (numbers, or `{"low": a, "high": b}` for uniform draws; nested
    lists and objects become the state's and the parameters' pytrees), `ts` (start and end), `lanes`, and optionally
    `seed`, `method`, `rtol`, `atol`, `max_steps`.

    Raises:
        ValueError: A key is missing or unknown.
        FileNotFoundError: There is no such file.
    """
    try:
        config = json.loads(Path(path).read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"Argument `config` must be JSON, but {path} is not: {error}.") from None
    checks.require(isinstance(config, dict), "config", "be a JSON object", f"is {type(config).__name__}")
    missing = sorted(set(_NEEDED) - set(config))
    checks.require(not missing, "config", f"have the keys {', '.join(_NEEDED)}", f"lacks {', '.join(missing)}")
    unknown = sorted(set(config) - _KEYS)
    checks.require(not unknown, "config", f"have keys of {', '.join(sorted(_KEYS))}", f"has {', '.join(unknown)}")
    return config


def shard_of(text: str | None) -> tuple[int, int]:
    """The shard `(i, n)` of `"i/n"`, or of a job array: for `"/n"` or None, i is the array's index variable."""
    first, _, second = (text or "").partition("/")
    index = first or next((os.environ[name] for name in _ARRAY_JOBS if name in os.environ), "0")
    total = second or os.environ.get("SLURM_ARRAY_TASK_COUNT", "1")
    checks.require(index.isdigit() and total.isdigit(), "shard", "be i/n with numbers", f"is {index}/{total}")
    i, n = int(index), int(total)
    checks.require(0 <= i < n, "shard", f"have 0 <= i < {n}", f"has i = {i}")
    return i, n


def config_hash(config: Mapping[str, Any]) -> str:
    """A short name for a configuration, the same for the same content."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


def run_shard(config: Mapping[str, Any], shard: tuple[int, int], folder: str | Path) -> tuple[Path, bool]:
    """Solve one shard and write its file, unless it is there already.

    Returns:
        The file, and whether it was written in this call.
    """
    i, n = shard
    path = Path(folder) / f"{config_hash(config)}.{i:05d}-of-{n:05d}.npz"
    if path.exists():
        return path, False
    lanes = int(config["lanes"])
    low, high = lanes * i // n, lanes * (i + 1) // n
    generator = np.random.default_rng(int(config.get("seed", 0)))
    x0s, args = (_draw(config[key], lanes, generator) for key in ("x0", "args"))
    part = lambda tree: jax.tree.map(lambda v: jnp.asarray(v[low:high]), tree)
    settings = {key: config[key] for key in ("method", "rtol", "atol", "max_steps") if key in config}
    ts = jnp.asarray(config["ts"], float)
    found = ensemble(_field(config["field"]), part(x0s), ts, part(args), **settings)
    arrays = {f"final{k}": np.asarray(v) for k, v in enumerate(jax.tree.leaves(found.final))}
    counts = {name: np.asarray(getattr(found, name)) for name in ("status", "steps", "end")}
    with replacing(path, synced=True) as temporary:
        _savez(temporary, {**arrays, **counts})
    return path, True


def merge(config: Mapping[str, Any], folder: str | Path) -> Path:
    """Merge all shards of a sweep into one file, with the lanes in order.

    Raises:
        ValueError: A shard is missing, or the folder holds shards of different divisions.
    """
    name = config_hash(config)
    files = sorted(Path(folder).glob(f"{name}.*-of-*.npz"))
    totals = {file.stem.rsplit("-", 1)[1] for file in files}
    checks.require(
        len(totals) == 1, "folder", "hold the shards of one cut", f"holds those of {sorted(totals) or 'none'}"
    )
    total = int(totals.pop())
    have = {int(file.stem.split(".")[1].split("-")[0]) for file in files}
    missing = sorted(set(range(total)) - have)
    checks.require(not missing, "folder", f"hold all {total} shards", f"lacks {missing}")
    parts = [np.load(file, allow_pickle=False) for file in files]
    path = Path(folder) / f"{name}.npz"
    with replacing(path) as temporary:
        _savez(temporary, {key: np.concatenate([part[key] for part in parts]) for key in parts[0].files})
    return path


def _savez(file: Path, arrays: Mapping[str, Any]) -> None:
    """`numpy.savez` of a mapping, whose keys cannot be mistaken for its options."""
    np.savez(file, allow_pickle=False, **arrays)


def _field(text: str) -> Any:
    """The function named `"module:function"`."""
    module, _, name = str(text).partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"Argument `field` must name a function as module:function, but {text!r} fails: {error}."
        ) from None


def _draw(spec: Any, lanes: int, generator: np.random.Generator) -> Any:
    """A batch from a specification: a lane is the same whichever shard draws it."""
    if isinstance(spec, Mapping) and set(spec) == {"low", "high"}:
        return generator.uniform(spec["low"], spec["high"], lanes)
    if isinstance(spec, Mapping):
        return {key: _draw(value, lanes, generator) for key, value in sorted(spec.items())}
    if isinstance(spec, list):
        return np.stack([_draw(value, lanes, generator) for value in spec], -1)
    return np.full(lanes, float(spec))


def sweep_command(options: argparse.Namespace) -> int:
    """Solve one shard of a sweep, or merge all: `options` are `config`, `shard`, `merge`, `out`."""
    sys.path.insert(0, str(Path.cwd()))  # where the module of the field lies
    config = read_config(options.config)
    if options.merge:
        print(f"merged into {merge(config, options.out)}")
        return 0
    i, n = shard_of(options.shard)
    path, written = run_shard(config, (i, n), options.out)
    print(f"shard {i} of {n}: {'written to' if written else 'already in'} {path}")
    return 0
