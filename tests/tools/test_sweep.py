"""Sweeps: shards from two real processes give the numbers of one; shards are written once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxkit.tools import sweep

CONFIG = {
    "field": "decay:field",
    "x0": [1, {"low": 1, "high": 2}],
    "args": {"low": 0.5, "high": 3},
    "ts": [0, 2],
    "lanes": 101,
}


def test_shard_of_reads_the_job_array(monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert sweep.shard_of("/8") == (3, 8)
    assert sweep.shard_of("2/5") == (2, 5)
    with pytest.raises(ValueError, match="0 <= i < 2"):
        sweep.shard_of("5/2")


def decay(t, x, rate):
    return -rate * x


def test_shards_cover_lanes_that_do_not_divide_evenly(tmp_path):
    config = {"field": f"{__name__}:decay", "x0": {"low": 1, "high": 2}, "args": 0.7, "ts": [0, 2], "lanes": 7}
    for count in (1, 3):
        for i in range(count):
            assert sweep.run_shard(config, (i, count), tmp_path / str(count))[1]
    with np.load(sweep.merge(config, tmp_path / "1")) as one, np.load(sweep.merge(config, tmp_path / "3")) as three:
        assert one["final0"].shape == (7,)
        np.testing.assert_array_equal(three["final0"], one["final0"])
        starts = np.random.default_rng(0).uniform(1, 2, 7)
        np.testing.assert_allclose(one["final0"], starts * np.exp(-1.4), rtol=1e-5)


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path):
    (tmp_path / "decay.py").write_text("def field(t, x, rate):\n    return -rate * x\n")
    (tmp_path / "sweep.json").write_text(json.dumps(CONFIG))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = lambda *more: subprocess.Popen(
        [sys.executable, "-m", "jaxkit", "sweep", "sweep.json", *more], cwd=tmp_path, env=environment
    )
    both = [command("--shard", f"{i}/2", "--out", "two") for i in range(2)]
    assert [p.wait() for p in both] == [0, 0]
    assert command("--shard", "0/1", "--out", "one").wait() == 0
    two, one = sweep.merge(CONFIG, tmp_path / "two"), sweep.merge(CONFIG, tmp_path / "one")
    with np.load(two) as a, np.load(one) as b:
        assert all(np.array_equal(a[key], b[key]) for key in b.files)
    written = next((tmp_path / "two").glob("*-of-*"))
    before = written.stat().st_mtime_ns
    assert command("--shard", "0/2", "--out", "two").wait() == 0
    assert written.stat().st_mtime_ns == before
