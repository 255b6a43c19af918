"""`python -m jaxkit launch`: start and watch the local processes of one training run; if one dies, all start again.

A run that checkpoints and resumes (`fit(..., run=jk.Run(checkpoint=folder, resume=True))`, after
`jk.learn.initialize()`) then loses at most one chunk, whatever dies.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from jaxkit.core import checks
from jaxkit.learn import scale

POLL = 0.1  # seconds


def launch(
    command: Sequence[str],
    processes: int,
    *,
    coordinator: str | None = None,
    process: int | None = None,
    restarts: int = 3,
    grace: float = 5.0,
    stuck: float | None = None,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> int:
    """Run a command as several processes that find each other, until all have ended successfully.

    Args:
        command: Program and arguments, the same for every process; it must call `scale.initialize()`.
        processes: Number of processes.
        coordinator: `host:port` of process 0; by default a free port on this machine.
        process: Index of the only process to start here (the others are started elsewhere, with the same
            `coordinator`); all if None.
        restarts: How often to start all processes again after one has failed.
        grace: Seconds that processes have to end when told to, before they are killed.
        stuck: Seconds without a finished chunk after which a process counts as failed (including compilation); no limit
            by default. A peer that is alive but waits is not noticed otherwise.
        say: Called with one line per event.

    Returns:
        0, or the status of the process that failed in the last attempt, or 128 + the number of the signal that ended
        the launcher.
    """
    ranks, status = range(processes) if process is None else (process,), 0
    with _signals() as received, tempfile.TemporaryDirectory(prefix="jaxkit-") as folder:
        for attempt in range(restarts + 1):
            group = _group(command, ranks, processes, coordinator, Path(folder))
            try:
                failed = _watch(group, received, Path(folder), stuck)
            finally:
                # When told to end, a run finishes its chunk and saves it, which may take longer than the usual grace.
                _stop(group.values(), 6 * grace if received else grace)
            if received:
                say(f"launch: ended by {signal.Signals(received[0]).name}")
                return 128 + received[0]
            if failed is None:
                return 0
            (rank, how), status = failed, group[failed[0]].returncode
            after = f"starting all again ({attempt + 1} of {restarts})" if attempt < restarts else "giving up"
            say(f"launch: process {rank} of {processes} {how}; {after}")
    return status if status > 0 else 128 - status


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _group(
    command: Sequence[str], ranks: Sequence[int], processes: int, coordinator: str | None, folder: Path
) -> dict[int, subprocess.Popen]:
    """Start the processes; each touches a file in the folder after every chunk."""
    where, group = coordinator or f"127.0.0.1:{free_port()}", {}
    common = {scale.COORDINATOR: where, scale.PROCESSES: str(processes), scale.PARENT: str(os.getpid())}
    for rank in ranks:
        (folder / str(rank)).touch()
        own = {scale.PROCESS: str(rank), scale.PULSE: str(folder / str(rank))}
        group[rank] = subprocess.Popen(command, env={**os.environ, **common, **own})  # noqa: S603
    return group


def _watch(
    group: dict[int, subprocess.Popen], received: list[int], folder: Path, stuck: float | None
) -> tuple[int, str] | None:
    """Wait until all have ended successfully (None), one has failed (its rank and how), or a signal comes (None)."""
    while not received:
        states = {rank: child.poll() for rank, child in group.items()}
        for rank, status in states.items():
            if status:
                return (
                    rank,
                    f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}",
                )
            if stuck and status is None and time.time() - (folder / str(rank)).stat().st_mtime > stuck:
                return rank, f"finished no chunk for {stuck:g} s"
        if all(status == 0 for status in states.values()):
            return None
        time.sleep(POLL)
    return None


def _stop(children: Iterable[subprocess.Popen], grace: float) -> None:
    """Tell the running processes to end; after `grace` seconds, kill them."""
    children = [child for child in children if child.poll() is None]
    for child in children:
        child.terminate()
    end = time.monotonic() + grace
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, end - time.monotonic()))
        if child.poll() is None:
            child.kill()
            child.wait()


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect the numbers of received signals that ask the launcher to end."""
    received: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def launch_command(options: argparse.Namespace) -> int:
    """Run `options.program` as several processes, as `launch` does."""
    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    checks.require(bool(program), "CMD", "be a program to run", "is missing")
    both = (options.process is None) == (options.coordinator is None)
    checks.require(both, "process", "come with `coordinator`", "one of them is missing")
    return launch(
        program,
        options.processes,
        coordinator=options.coordinator,
        process=options.process,
        restarts=options.restarts,
        stuck=options.stuck,
    )
