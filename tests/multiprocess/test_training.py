"""Training runs that are killed, told to end, or lose a peer: on disk, resumed, to the same numbers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxkit.learn import checkpoint
from jaxkit.tools.launch import free_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = str(Path(__file__).with_name("training.py"))
LAUNCH = [sys.executable, "-m", "jaxkit", "launch", "--processes", "2", "--"]


def environment(**more):
    quiet = {k: v for k, v in os.environ.items() if not k.startswith("JAXKIT_P") and k != "XLA_FLAGS"}
    return quiet | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **more}


def start(folder, *options, prefix=(sys.executable,), **more):
    command = [*prefix, SCRIPT, str(folder), *options]
    return subprocess.Popen(
        command, env=environment(**more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def kill(process):
    process.kill()
    process.wait()
    process.stdout.close()


def finish(process, status=0, timeout=200):
    try:
        text = process.communicate(timeout=timeout)[0]
    finally:
        kill(process)
    assert process.returncode == status, text
    return text


def saved(folder):
    """Step of the newest whole checkpoint, 0 without one."""
    files = checkpoint.steps(folder / "checkpoints")
    return checkpoint.meta(files[0])["step"] if files else 0


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def same(a, b, **kwargs):
    with np.load(a / "end.npz") as one, np.load(b / "end.npz") as two:
        assert len(one.files) == len(two.files) == 10
        for name in one.files:
            np.testing.assert_allclose(one[name], two[name], **({"rtol": 0, "atol": 0} | kwargs))


def rows(folder):
    return len((folder / "metrics.jsonl").read_text().splitlines()) if (folder / "metrics.jsonl").exists() else 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """One process that nobody disturbs."""
    folder = tmp_path_factory.mktemp("alone")
    finish(start(folder))
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two processes that nobody disturbs, under the launcher."""
    folder = tmp_path_factory.mktemp("pair")
    assert finish(start(folder, prefix=[*LAUNCH, sys.executable])).count("done 60") == 2
    return folder


def test_killed_at_random_it_loses_at_most_one_interval_and_no_bit(tmp_path, undisturbed):
    rng = np.random.default_rng(0)
    for _ in range(3):
        before = rows(tmp_path)
        process = start(tmp_path, "--pause", "0.05")
        wait_for(lambda before=before, process=process: rows(tmp_path) > before or process.poll() is not None)
        time.sleep(rng.uniform(0, 0.2))
        kill(process)
        # A row is written before its checkpoint: what the log says was reached, less one interval, is on disk.
        assert saved(tmp_path) >= 5 * (rows(tmp_path) - 1)
    finish(start(tmp_path))
    same(tmp_path, undisturbed)
    assert not list((tmp_path / "checkpoints").glob(".tmp-*"))


def test_told_to_end_it_saves_the_chunk_and_ends_with_143(tmp_path, undisturbed):
    process = start(tmp_path, "--pause", "0.5")
    wait_for(lambda: rows(tmp_path) >= 2)
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    finish(process, status=143)
    assert time.monotonic() - told < 0.5 + 2  # a chunk (its pause) and two seconds
    assert saved(tmp_path) == 5 * rows(tmp_path) < 60
    finish(start(tmp_path))
    same(tmp_path, undisturbed)


def test_two_processes_train_to_the_numbers_of_one(pair, undisturbed):
    same(pair, undisturbed, atol=1e-12)


def test_a_dead_peer_restarts_all_from_the_last_checkpoint_to_the_same_bits(tmp_path, pair):
    launcher = start(tmp_path, "--pause", "0.3", prefix=[*LAUNCH, sys.executable])
    wait_for(lambda: saved(tmp_path) >= 10)
    os.kill(int((tmp_path / "pid-1").read_text()), signal.SIGKILL)
    text = finish(launcher)
    assert "process 1 of 2 was ended by SIGKILL; starting all again (1 of 3)" in text or "process 0 of 2" in text
    assert text.count("done 60") == 2
    same(tmp_path, pair)


def test_survivors_of_a_dead_peer_end_within_15_seconds(tmp_path):
    where = {"JAXKIT_COORDINATOR": f"127.0.0.1:{free_port()}", "JAXKIT_PROCESSES": "2"}
    group = [start(tmp_path, "--pause", "0.3", JAXKIT_PROCESS=str(rank), **where) for rank in range(2)]
    try:
        wait_for(lambda: saved(tmp_path) >= 5)
        group[1].kill()
        killed = time.monotonic()
        assert group[0].wait(timeout=60) == 1  # not what JAX does after it: SIGABRT, seconds later
        assert time.monotonic() - killed <= 15
    finally:
        for process in group:
            kill(process)


def test_told_to_end_one_process_ends_all_after_the_same_chunk(tmp_path):
    where = {"JAXKIT_COORDINATOR": f"127.0.0.1:{free_port()}", "JAXKIT_PROCESSES": "2"}
    group = [start(tmp_path, "--pause", "0.3", JAXKIT_PROCESS=str(rank), **where) for rank in range(2)]
    try:
        wait_for(lambda: saved(tmp_path) >= 5)
        group[1].terminate()
        assert [process.wait(timeout=60) for process in group] == [143, 143]
        assert saved(tmp_path) == 5 * rows(tmp_path) < 60
    finally:
        for process in group:
            kill(process)


def test_told_to_end_the_launcher_ends_all_after_the_same_chunk(tmp_path, pair):
    launcher = start(tmp_path, "--pause", "0.3", prefix=[*LAUNCH, sys.executable])
    wait_for(lambda: saved(tmp_path) >= 5)
    launcher.terminate()
    assert "launch: ended by SIGTERM" in finish(launcher, status=143)
    for rank in range(2):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / f"pid-{rank}").read_text()), 0)
    assert 5 <= saved(tmp_path) < 60
    finish(start(tmp_path, prefix=[*LAUNCH, sys.executable]))
    same(tmp_path, pair)


def test_a_process_that_is_stuck_is_noticed(tmp_path, pair):
    prefix = [*LAUNCH[:-1], "--stuck", "15", "--", sys.executable]
    text = finish(start(tmp_path, "--hang", prefix=prefix))
    assert "of 2 finished no chunk for 15 s; starting all again (1 of 3)" in text
    same(tmp_path, pair)


def test_a_launcher_that_is_killed_leaves_no_process_behind(tmp_path):
    launcher = start(tmp_path, "--pause", "0.3", "--steps", "1000", prefix=[*LAUNCH, sys.executable])
    wait_for(lambda: saved(tmp_path) >= 5)
    kill(launcher)

    def gone(rank):
        try:
            os.kill(int((tmp_path / f"pid-{rank}").read_text()), 0)
        except ProcessLookupError:
            return True
        return Path(f"/proc/{(tmp_path / f'pid-{rank}').read_text()}/stat").read_text().split()[2] == "Z"

    wait_for(lambda: gone(0) and gone(1), seconds=15)


@pytest.mark.parametrize(
    ("program", "restarts", "status", "said"),
    [
        (["-c", "raise SystemExit(3)"], "1", 3, "process 0 of 1 ended with status 3; giving up"),
        (["-c", "import os; os.kill(os.getpid(), 9)"], "0", 137, "process 0 of 1 was ended by SIGKILL; giving up"),
        (["-c", "print('fine')"], "0", 0, "fine"),
    ],
)
def test_the_launchers_status(program, restarts, status, said):
    command = [sys.executable, "-m", "jaxkit", "launch", "--processes", "1", "--restarts", restarts, "--"]
    done = subprocess.run(
        [*command, sys.executable, *program], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert said in done.stdout + done.stderr
    assert done.stderr.count("starting all again") == int(restarts)
