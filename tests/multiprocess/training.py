"""One training run as the tests start it: alone or as one of several processes; ended at will, resumed, compared.

python training.py FOLDER [--steps N] [--chunk N] [--pause SECONDS] [--data fixed]
"""

import argparse
import os
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

import jaxkit as jk  # noqa: E402
from jaxkit.learn import runlog, scale  # noqa: E402
from jaxkit.learn.batches import minibatches  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--steps", type=int, default=60)
parser.add_argument("--chunk", type=int, default=5)
parser.add_argument("--pause", type=float, default=0.0, help="after every chunk, so that there is time to be killed")
parser.add_argument("--hang", action="store_true", help="stop moving after the second chunk, once")
options = parser.parse_args()

several = scale.initialize()
options.folder.mkdir(exist_ok=True)
(options.folder / f"pid-{jax.process_index()}").write_text(str(os.getpid()))


class Log(runlog.FolderLog):
    """The usual log, and a pause."""

    def row(self, step, values):
        """One row, written before the checkpoint of the same step."""
        super().row(step, values)
        time.sleep(options.pause)
        if options.hang and not (self.folder / "hung").exists() and step > options.chunk:
            (self.folder / "hung").touch()
            time.sleep(3600)


def loss(params, batch, key):
    noise = scale.shard_batch(jax.random.normal(key, batch.shape, batch.dtype))
    hidden = jnp.tanh((batch + 0.1 * noise) @ params["in"])
    return jnp.mean((hidden @ params["out"] - batch) ** 2)


key = jax.random.key(0)
found = jk.fit(
    loss,
    {"in": jax.random.normal(key, (6, 12)) / 3, "out": jnp.zeros((12, 6))},
    minibatches(np.random.default_rng(0).normal(size=(64, 6)), 8, key),
    optimizer=optax.adam(1e-2),
    steps=options.steps,
    key=key,
    ema=0.99,
    run=jk.Run(
        chunk=options.chunk,
        devices=jax.devices() if several else None,
        log=Log(options.folder),
        checkpoint=options.folder / "checkpoints",
        resume=True,
    ),
).checked()
if jax.process_index() == 0:
    leaves = jax.tree.leaves((found.params, found.ema, found.opt_state, found.history))
    np.savez(options.folder / "end.npz", *[np.asarray(leaf) for leaf in leaves])
print("done", int(found.steps))  # noqa: T201
