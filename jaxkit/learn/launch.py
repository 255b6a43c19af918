"""`python -m jaxkit launch`: local processes of one training run, watched; if one dies, all start again.

A run that checkpoints and resumes (`fit(..., checkpoint=folder, resume=True)` after `scale.start()`) then loses at most
one chunk, whatever dies.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

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
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),  # noqa: T201
) -> int:
    """Run a command as several processes that find each other, until all have ended well.

    Args:
        command: Program and arguments; every process gets the same, and calls `scale.start()`.
        processes: How many there are.
        coordinator: `host:port` of process 0; a free port here by default.
        process: Start this one alone (the others are started elsewhere, with the same `coordinator`).
        restarts: Times to start all again after one has failed.
        grace: Seconds that processes have to end when told to, before they are killed.
        say: Where a line a happening goes.

    Returns:
        0, the status of the process that failed in the last attempt, or 128 + the number of the signal that ended us.
    """
    ranks, status = range(processes) if process is None else (process,), 0
    with _signals() as received:
        for attempt in range(restarts + 1):
            group = _start(command, ranks, processes, coordinator)
            try:
                failed = _watch(group, received)
            finally:
                # Told to end, a run finishes its chunk and saves it: that may take longer than the grace for the rest.
                _stop(group.values(), 6 * grace if received else grace)
            if received:
                say(f"launch: ended by {signal.Signals(received[0]).name}")
                return 128 + received[0]
            if failed is None:
                return 0
            status = group[failed].returncode
            how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            after = f"starting all again ({attempt + 1} of {restarts})" if attempt < restarts else "giving up"
            say(f"launch: process {failed} of {processes} {how}; {after}")
    return status if status > 0 else 128 - status


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _start(
    command: Sequence[str], ranks: Sequence[int], processes: int, coordinator: str | None
) -> dict[int, subprocess.Popen]:
    where = coordinator or f"127.0.0.1:{free_port()}"
    common = {scale.COORDINATOR: where, scale.PROCESSES: str(processes), scale.PARENT: str(os.getpid())}
    return {r: subprocess.Popen(command, env={**os.environ, **common, scale.PROCESS: str(r)}) for r in ranks}  # noqa: S603


def _watch(group: dict[int, subprocess.Popen], received: list[int]) -> int | None:
    """Wait until all have ended well (None), one has not (its rank), or we are told to end (None)."""
    while not received:
        states = {rank: child.poll() for rank, child in group.items()}
        failed = [rank for rank, status in states.items() if status not in (None, 0)]
        if failed or all(status == 0 for status in states.values()):
            return failed[0] if failed else None
        time.sleep(POLL)
    return None


def _stop(children: Iterable[subprocess.Popen], grace: float) -> None:
    """Tell those that still run to end; after `grace` seconds, kill them."""
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
    """Numbers of the signals received that ask us to end."""
    received: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
