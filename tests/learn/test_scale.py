"""Devices and processes: a batch cut over devices gives the numbers of the whole; who the others are."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit.learn import scale
from jaxkit.learn.batches import minibatches

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (16, 3))
W = jnp.ones((3, 3)) / 3


def step(w, x):
    value, slope = jax.value_and_grad(lambda w: jnp.mean((jnp.tanh(x @ w) - x) ** 2))(w)
    return w - 0.1 * scale.device_mean(slope), scale.device_mean(value)


@pytest.mark.parametrize("count", [2, 4])
def test_both_ways_give_the_step_of_one_device(count):
    devices = jax.devices()[:count]
    alone = step(W, X)
    for parallel in (scale.data_parallel(step, scale.mesh(devices)), scale.pmapped(step, devices)):
        w, value = parallel(*((W, X)))
        np.testing.assert_allclose(w, alone[0], rtol=1e-12)
        np.testing.assert_allclose(value, alone[1], rtol=1e-12)
        again, _ = parallel(w, X)  # the result is what the next step takes
        np.testing.assert_allclose(again, step(alone[0], X)[0], rtol=1e-12)


def test_each_device_computes_its_part_alone():
    text = scale.data_parallel(step, scale.mesh(jax.devices()[:2])).lower(W, X).compile().as_text()
    assert "f64[8,3]" in text
    assert "f64[16,3]" not in text
    assert "all-reduce" in text


def test_fit_cuts_batches_and_what_the_loss_spreads():
    seen = {}

    def loss(params, batch, key):
        noise = scale.shard_batch(jax.random.normal(key, batch.shape))
        # What the compiler was told about the values, read off at trace time on the devices' side.
        jax.debug.inspect_array_sharding(noise, callback=lambda s: seen.__setitem__("noise", s))
        jax.debug.inspect_array_sharding(batch, callback=lambda s: seen.__setitem__("batch", s))
        return jnp.mean((jnp.tanh((batch + noise) @ params) - batch) ** 2)

    one, two = (
        jk.fit(loss, W, X, steps=5, key=KEY, run=jk.Run(devices=devices)) for devices in (None, jax.devices()[:2])
    )
    np.testing.assert_allclose(two.params, one.params, rtol=1e-12)
    for name in ("noise", "batch"):
        assert seen[name].shard_shape((16, 3)) == (8, 3), name


def test_drawn_and_fixed_batches_are_cut_alike():
    seen = {}

    def loss(params, batch):
        jax.debug.inspect_array_sharding(batch, callback=lambda s: seen.__setitem__("batch", s))
        return jnp.mean((jnp.tanh(batch @ params) - batch) ** 2)

    for batches, rows in ((minibatches(X, 8, KEY), 4), (X, 8)):
        found = jk.fit(loss, W, batches, steps=3, run=jk.Run(devices=jax.devices()[:2]))
        assert seen["batch"].shard_shape((2 * rows, 3)) == (rows, 3)
        np.testing.assert_allclose(found.params, jk.fit(loss, W, batches, steps=3).params, rtol=1e-12)


def test_seeds_side_by_side_over_devices():
    run = lambda key: jk.fit(lambda p, _, key: (p - jax.random.normal(key)) ** 2, 0.0, steps=5, key=key)
    keys = jax.random.split(KEY, 4)
    spread, alone = scale.seeds(run, keys, jax.devices()[:2]), scale.seeds(run, keys)
    np.testing.assert_array_equal(spread.history, alone.history)
    assert len(spread.history.sharding.device_set) == 2
    np.testing.assert_allclose(alone.params[2], run(keys[2]).params, rtol=1e-12)
    with pytest.raises(ValueError, match="Argument `keys` must be divisible by 3 in number, but are 4"):
        scale.seeds(run, keys, jax.devices()[:3])


def test_a_batch_that_cannot_be_cut_is_refused_by_pmapped():
    with pytest.raises(ValueError, match="Argument `batch` must have first axes divisible by 3, but has one of 16"):
        scale.pmapped(step, jax.devices()[:3])(W, X)


class TestStart:
    @pytest.fixture(autouse=True)
    def _environment(self, monkeypatch):
        self.calls = []
        monkeypatch.setattr(jax.distributed, "initialize", lambda *a, **k: self.calls.append(a))
        for name in list(os.environ):
            if name.startswith(("SLURM_", "OMPI_", "JAXKIT_C", "JAXKIT_P", "KUBERNETES_", "JOB_COMPLETION")):
                monkeypatch.delenv(name)
        monkeypatch.setattr("sys.excepthook", lambda *a: None)
        before = jax.config.jax_cpu_collectives_implementation
        yield
        jax.config.update("jax_cpu_collectives_implementation", before)

    def test_alone_nothing_happens(self, monkeypatch):
        assert scale.initialize() is False
        monkeypatch.setenv("SLURM_STEP_NODELIST", "n1")
        monkeypatch.setenv("SLURM_NTASKS", "1")
        assert scale.initialize() is False
        assert self.calls == []

    @pytest.mark.parametrize(
        "variables",
        [
            {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "2"},
            {"OMPI_MCA_orte_hnp_uri": "x", "OMPI_COMM_WORLD_SIZE": "4"},
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "1"},
        ],
    )
    def test_clusters_are_left_to_jax(self, monkeypatch, variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        scale.initialize()
        assert self.calls == [(None, None, None)]

    def test_launched_or_told(self, monkeypatch):
        scale.initialize("host:1", 4, 3)
        for name, value in {"COORDINATOR": "other:2", "PROCESSES": "2", "PROCESS": "1"}.items():
            monkeypatch.setenv(f"JAXKIT_{name}", value)
        scale.initialize()
        assert self.calls == [("host:1", 4, 3), ("other:2", 2, 1)]
        with pytest.raises(ValueError, match="Argument `coordinator` must come with `processes` and `process`"):
            scale.initialize("host:1")
