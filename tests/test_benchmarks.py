"""Every benchmark starts and runs with `--quick`, whichever of its peers are installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py") if path.stem != "table")


def run(*arguments, timeout):
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "NPROC")} | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(960)
@pytest.mark.parametrize("name", NAMES)
def test_runs_quickly(name):
    results = {path: path.read_bytes() for path in (ROOT / "benchmarks" / "results").glob("*.json")}
    done = run(f"benchmarks.{name}", "--quick", timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip()
    assert results == {path: path.read_bytes() for path in (ROOT / "benchmarks" / "results").glob("*.json")}


def test_a_peer_that_is_not_there_is_left_out_aloud(capsys):
    from benchmarks import _harness

    assert _harness.optional("no_such_peer") is None
    assert "no_such_peer cannot be imported" in capsys.readouterr().out
    assert _harness.optional("json").__name__ == "json"
