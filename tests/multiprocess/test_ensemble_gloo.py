"""An ensemble over a mesh of two real processes (Gloo between them) gives the numbers of one process."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

WORKER = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
rank, size, port, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
if size > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(f"127.0.0.1:{port}", size, rank, initialization_timeout=60)
        jax.devices()
    except Exception as error:
        print("no Gloo:", error)
        sys.exit(77)
import jax.numpy as jnp
import numpy as np
import jaxkit as jk

n = 1001  # odd: the last lane is repeated to fill the mesh
w = np.random.default_rng(0).uniform(0.3, 3.0, n)
field = lambda t, x, w: (x[1], -(w**2) * x[0] + 0.1 * jnp.sin(t))
devices = jax.devices()
assert len({d.process_index for d in devices}) == size, devices
run = jk.Run(devices=devices)
found = jk.ensemble(field, (np.ones(n), np.zeros(n)), (0.0, 7.0), w, rtol=1e-10, atol=1e-10, run=run)
if size > 1:
    own = {s.device.process_index for s in found.final[0].addressable_shards}
    assert own == {rank}, own
    from jax.experimental.multihost_utils import process_allgather
    rows = [process_allgather(v, tiled=True) for v in (*found.final, found.status, found.steps)]
else:
    rows = [*found.final, found.status, found.steps]
if rank == 0:
    np.savez(out, *map(np.asarray, rows))
"""


def start(rank, size, port, out):
    flags = "--xla_force_host_platform_device_count=2"  # two devices a process: a mesh of 4 over 2 processes
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", WORKER, str(rank), str(size), str(port), str(out)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(*processes):
    try:
        texts = [p.communicate(timeout=240)[0] for p in processes]
    finally:
        for p in processes:
            p.kill()
    if any(p.returncode == 77 for p in processes):
        pytest.skip("Gloo cannot initialise here: " + texts[0][-300:])
    assert all(p.returncode == 0 for p in processes), "\n".join(texts)


def test_two_processes_give_the_numbers_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    finish(*(start(rank, 2, port, tmp_path / "two.npz") for rank in range(2)))
    finish(start(0, 1, port, tmp_path / "one.npz"))
    with np.load(tmp_path / "two.npz") as two, np.load(tmp_path / "one.npz") as one:
        assert len(two.files) == 4
        for name in one.files:
            np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-12)
        assert not one["arr_2"].any()
