"""The one way a number is measured here.

CPU time of the whole process (all threads) and wall time, the minimum and median of repeats after everything is
compiled, the compile time apart, peers interleaved in the same run, the environment beside the numbers.
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True)
class Timing:
    """Times of one program, in seconds.

    Attributes:
        cpu: Least CPU time of a call, all threads added.
        wall: Least wall time of a call.
        cpu_median: Median CPU time.
        first: Wall time of the first call, compilation included.
        calls: Counted calls.
    """

    cpu: float
    wall: float
    cpu_median: float
    first: float
    calls: int


def measure(programs: dict[str, Callable[[], Any]], *, repeats: int = 7, least: float = 0.02) -> dict[str, Timing]:
    """Time programs against each other in one run: each is called once, then all in turn, `repeats` rounds.

    Args:
        programs: Name -> function without arguments; a JAX result is waited for.
        repeats: Rounds; the minimum counts, which a busy machine spoils least.
        least: Calls are grouped until a group lasts this many seconds.

    Returns:
        Name -> `Timing` per call.
    """
    first, group = {}, {}
    for name, program in programs.items():
        start = time.perf_counter()
        wait(program())
        first[name] = time.perf_counter() - start
        start = time.perf_counter()
        wait(program())
        group[name] = max(1, round(least / max(time.perf_counter() - start, 1e-7)))
    cpu: dict[str, list[float]] = {name: [] for name in programs}
    wall: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            start_wall, start_cpu = time.perf_counter(), time.process_time()
            for _ in range(group[name]):
                wait(program())
            cpu[name].append((time.process_time() - start_cpu) / group[name])
            wall[name].append((time.perf_counter() - start_wall) / group[name])
    return {
        name: Timing(min(cpu[name]), min(wall[name]), statistics.median(cpu[name]), first[name], repeats * group[name])
        for name in programs
    }


def wait(result: Any) -> Any:
    """Block until a JAX result is computed; anything else is returned as it is."""
    with contextlib.suppress(ImportError):
        import jax

        return jax.block_until_ready(result)
    return result


def environment() -> dict[str, Any]:
    """What the numbers depend on: versions, processor, threads, load."""
    from jaxkit.core.environment import versions

    model = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": model or platform.processor(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "versions": versions(),
    }


def save(name: str, *, claim: str, rows: list[dict[str, Any]], goals: list[dict[str, Any]] | None = None) -> Path:
    """Write `results/<name>.json`: the claim, the measured rows, the goals with what was reached, the environment."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {"claim": claim, "rows": rows, "goals": goals or [], "environment": environment()}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, default=float) + "\n")
    return path


def goal(text: str, reached: float, wanted: float, *, at_least: bool = True) -> dict[str, Any]:
    """One goal as a row: what was wanted, what was measured, whether it holds."""
    met = reached >= wanted if at_least else reached <= wanted
    return {"goal": text, "wanted": wanted, "reached": reached, "at_least": at_least, "met": bool(met)}


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as an aligned text table, floats with four significant digits."""
    if not rows:
        return ""
    show = lambda value: f"{value:.4g}" if isinstance(value, float) else str(value)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([show(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)


def cache() -> Path:
    """Where what is trained once is kept, for this user."""
    return Path(os.environ.get("JAXKIT_CACHE") or Path.home() / ".cache" / "jaxkit")


def one_core() -> None:
    """Keep this process to one core (on Linux), so that numbers are per core: XLA's other threads would be counted too.

    Call it before the first computation, when JAX makes as many threads as it sees cores.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of the flag every benchmark has: `--quick` for a sanity run whose numbers are not saved."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="small sizes, nothing saved: does it run?")
    return made


def arguments(description: str | None) -> argparse.Namespace:
    """The arguments of a benchmark that has no other flags."""
    return parser(description).parse_args()


def optional(module: str) -> Any:
    """A peer that may not be installed, or not be loaded here: the module, or None with one line that says so."""
    import importlib

    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library that is missing
        extra = {"numbalsoda": "bench-compiled", "opencc": "zh", "jieba": "zh"}.get(module, "bench")
        print(f"{module} cannot be imported ({error}): what needs it is left out (pip install -e '.[{extra}]').")
        return None
