"""What the host does between chunks: resuming to the same bits, run logs, the bar."""

import io
import json
import signal
import sys
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

import jaxkit as jk
from jaxkit.learn import checkpoint, progress, runlog
from jaxkit.learn.batches import minibatches
from jaxkit.learn.callbacks import KeepBest, TimeBudget

KEY = jax.random.key(0)
DATA = jax.random.normal(KEY, (32, 4))
START = {"w": jnp.ones((4, 4)) / 4}


def loss(params, batch, key):
    noise = jax.random.normal(key, batch.shape, batch.dtype)
    return jnp.mean((jnp.tanh((batch + 0.1 * noise) @ params["w"]) - batch) ** 2), {"size": jnp.sum(params["w"] ** 2)}


def train(steps, ema=0.9, **run):
    method = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))
    return jk.fit(
        loss,
        START,
        minibatches(DATA, 8, KEY),
        optimizer=method,
        steps=steps,
        key=KEY,
        ema=ema,
        run=jk.Run(**({"chunk": 7} | run)),
    )


def step_of(folder):
    """What the newest checkpoint says beside the digests of its run."""
    said = checkpoint.meta(checkpoint.steps(folder)[0])
    assert set(said.pop("run")) == {"program", "data", "jax"}
    return said


def same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y, strict=True), a, b)


class TestResume:
    def test_to_the_same_bits_whatever_the_chunks(self, tmp_path):
        whole = train(40)
        train(14, checkpoint=tmp_path)
        assert len(checkpoint.steps(tmp_path)) == 2
        same(train(40, checkpoint=tmp_path, resume=True), whole)
        assert step_of(tmp_path) == {"step": 40}
        # Done already: nothing runs, everything is there.
        same(train(40, checkpoint=tmp_path, resume=True, chunk=11), whole)

    def test_from_the_one_before_when_the_last_is_damaged(self, tmp_path, capsys):
        whole = train(40)
        train(21, checkpoint=tmp_path)
        last = checkpoint.steps(tmp_path)[0]
        last.write_bytes(last.read_bytes()[:-3])
        same(train(40, checkpoint=tmp_path, resume=True), whole)
        assert "is damaged: its SHA-256 is not the one it was written with. The one before" in capsys.readouterr().err

    def test_a_player_too(self, tmp_path):
        losses = {"a": lambda p, _, key: jnp.sum(p["a"] * p["b"]) + jax.random.normal(key) * jnp.sum(p["a"])}
        losses["b"] = lambda p, *_: -jnp.sum(p["a"] * p["b"])
        run = lambda steps, **options: jk.play(
            losses, {"a": jnp.ones(3), "b": jnp.zeros(3)}, steps=steps, key=KEY, ema={"a": 0.5},
            optimizers={"a": optax.adam(0.1), "b": optax.sgd(0.1)}, turns={"b": 2}, run=jk.Run(chunk=4, **options),
        )  # fmt: skip
        run(8, checkpoint=tmp_path)
        same(run(18, checkpoint=tmp_path, resume=True), run(18))

    def test_the_carry_too(self, tmp_path):
        def draw(p, _, key, carry):
            return p * carry["sum"], {}, {"sum": carry["sum"] + jax.random.normal(carry["key"]), "key": key}

        start = {"sum": jnp.ones(()), "key": KEY}
        run = lambda steps, **options: jk.fit(
            draw, 1.0, steps=steps, key=jax.random.key(1), carry=start, run=jk.Run(chunk=3, **options)
        )
        bits = lambda done: (done.params, done.carry["sum"], jax.random.key_data(done.carry["key"]))
        run(6, checkpoint=tmp_path)
        same(bits(run(11, checkpoint=tmp_path, resume=True)), bits(run(11)))

    def test_a_run_goes_on_from_its_own_checkpoints_alone(self, tmp_path):
        target = jnp.arange(3.0)

        def run(steps=8, *, target=target, rate=0.1, data=DATA[:, :3], scale=1.0, **options):
            pull = jax.jit(
                lambda p, x: scale * jnp.mean(((p - target)[None] - x) ** 2)
            )  # constants inside an inner program
            options = {"optimizer": optax.adam(optax.constant_schedule(rate)), "key": KEY} | options
            host = jk.Run(chunk=4, checkpoint=tmp_path, resume=True)
            return jk.fit(lambda p, x, _: pull(p, x), jnp.zeros(3), data, steps=steps, run=host, **options)

        first = run()
        same(run(), first)
        assert int(run(12).steps) == 12
        for other in (
            {"target": target + 1e-6},
            {"rate": 0.2},
            {"scale": 2.0},
            {"key": jax.random.key(9)},
            {"optimizer": optax.adam(optax.cosine_decay_schedule(0.1, 20))},
        ):
            with pytest.raises(checkpoint.CheckpointError, match=r"of step 12 has another loss, optimizer or config"):
                run(12, **other)
        with pytest.raises(checkpoint.CheckpointError, match="are another run's: that of step 12 has other data; name"):
            run(12, data=DATA[:, :3] + 1e-9)
        assert int(run(12).steps) == 12

    def test_a_new_run_takes_no_used_folder(self, tmp_path):
        train(14, checkpoint=tmp_path)
        with pytest.raises(
            ValueError, match=r"must be a folder without checkpoints for a new run, but .*step-000000014"
        ):
            train(7, checkpoint=tmp_path)
        assert step_of(tmp_path) == {"step": 14}

    def test_sentences(self, tmp_path):
        train(14, checkpoint=tmp_path)
        with pytest.raises(ValueError, match="Argument `steps` must be at least the checkpoint's 14, but is 7"):
            train(7, checkpoint=tmp_path, resume=True)
        with pytest.raises(checkpoint.CheckpointError, match="does not fit: it has an extra array `state/ema/w`"):
            train(20, checkpoint=tmp_path, resume=True, ema=None)
        with pytest.raises(ValueError, match="Argument `checkpoint` must be a folder to resume from, but is None"):
            train(7, resume=True)

    def test_a_state_that_is_not_finite_is_not_saved(self, tmp_path):
        falling = lambda p, _: jnp.where(p < -5.5, jnp.nan, p)
        found = jk.fit(falling, 0.0, optimizer=optax.sgd(1.0), steps=20, run=jk.Run(chunk=4, checkpoint=tmp_path))
        assert int(found.status) == jk.Status.not_finite
        assert step_of(tmp_path) == {"step": 4}

    def test_sigterm_ends_after_the_chunk_and_the_handler_is_restored(self, tmp_path):
        class Log(runlog.FolderLog):
            def row(self, step, values):
                super().row(step, values)
                if step == 14:
                    signal.raise_signal(signal.SIGTERM)

        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as stop:
            train(40, checkpoint=tmp_path / "c", log=Log(tmp_path))
        assert stop.value.code == 143
        assert signal.getsignal(signal.SIGTERM) is before
        assert step_of(tmp_path / "c") == {"step": 14}
        same(train(40, checkpoint=tmp_path / "c", resume=True), train(40))


class TestCallback:
    def test_sees_every_chunk_and_may_end_the_run(self, tmp_path):
        seen = []

        def callback(step, state):
            seen.append((step, float(jnp.sum(state.params["w"])), float(jnp.sum(state.ema["w"]))))
            return step >= 14

        found, whole = train(40, callback=callback, checkpoint=tmp_path).checked(), train(14)
        assert [step for step, *_ in seen] == [7, 14]
        assert seen[1][1:] == (float(jnp.sum(whole.params["w"])), float(jnp.sum(whole.ema["w"])))
        assert int(found.steps) == 14
        assert np.isnan(found.history[14:]).all()
        np.testing.assert_array_equal(found.history[:14], whole.history)
        assert step_of(tmp_path) == {"step": 14}


def falling(steps, **run):
    """One unit a step, from 0."""
    return jk.fit(lambda p, _: p, 0.0, optimizer=optax.sgd(1.0), steps=steps, run=jk.Run(chunk=1, **run))


class TestKeepBest:
    score = staticmethod(lambda p: -((float(p) + 4.0) ** 2))

    def test_keeps_the_first_of_the_best_and_ends_without_patience(self):
        best = KeepBest(self.score, patience=3)
        assert int(falling(20, callback=best).steps) == 7
        assert (float(best.params), best.value, best.step) == (-4.0, 0.0, 4)
        assert best.looks[:2] == [(1, -9.0), (2, -4.0)]
        flat = KeepBest(lambda p: 0.0)
        falling(3, callback=flat)
        assert flat.step == 1

    def test_numbers_that_are_none_are_never_best(self):
        best = KeepBest(lambda p: float("nan") if p > -3 else float(p))
        falling(5, callback=best)
        assert best.step == 3

    def test_looks_every_so_often_at_the_average_where_there_is_one(self):
        seen = []
        best = KeepBest(lambda p: seen.append(jax.tree.map(float, p)) or 0.0, every=2)
        jk.fit(lambda p, _: p, 0.0, optimizer=optax.sgd(1.0), steps=4, ema=0.5, run=jk.Run(chunk=1, callback=best))
        assert seen == [-1.25, -3.0625]
        seen.clear()
        both, sgd = {"a": 0.0, "b": 0.0}, optax.sgd(1.0)
        losses = {name: lambda p, *_, name=name: p[name] for name in both}
        run = jk.Run(chunk=2, callback=KeepBest(best.score))
        jk.play(losses, both, optimizers=dict.fromkeys(both, sgd), steps=2, key=KEY, ema={"b": 0.5}, run=run)
        assert seen == [{"a": -2.0, "b": -1.25}]

    def test_is_part_of_the_checkpoint(self, tmp_path):
        falling(6, callback=KeepBest(self.score, patience=4), checkpoint=tmp_path)
        again = KeepBest(self.score, patience=4)
        assert int(falling(20, callback=again, checkpoint=tmp_path, resume=True).steps) == 8
        assert (float(again.params), again.value, again.step) == (-4.0, 0.0, 4)
        assert again.looks == [(7, -9.0), (8, -16.0)]
        early = KeepBest(lambda p: float("nan"))
        falling(2, callback=early, checkpoint=tmp_path / "early")
        fresh = KeepBest(self.score)
        falling(3, callback=fresh, checkpoint=tmp_path / "early", resume=True)
        assert fresh.step == 3


class TestTimeBudget:
    def test_ends_the_run_and_measures_a_step(self, monkeypatch):
        clock = iter(range(100))
        monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
        budget = TimeBudget(minutes=0.1)
        state = types.SimpleNamespace()
        ended = [budget(step, state) for step in (10, 20, 30, 40, 50)]
        assert ended == [False, False, False, False, False]
        assert budget.seconds_per_step == pytest.approx(0.1)
        assert budget(60, state)  # six of six seconds are spent, and another chunk needs one

    def test_goes_on_with_what_is_left(self, tmp_path):
        slow = lambda *_: time.sleep(0.05)
        first = TimeBudget(minutes=1)
        falling(2, callback=[slow, first], checkpoint=tmp_path)
        second = TimeBudget(minutes=first.spent / 60 + 0.001)
        assert int(falling(100, callback=[slow, second], checkpoint=tmp_path, resume=True).steps) < 10


class TestLog:
    def test_folder(self, tmp_path):
        found = train(10, log=runlog.FolderLog(tmp_path, {"note": "trial"}))
        about = json.loads((tmp_path / "run.json").read_text())
        assert (
            about["config"] | {"verb": "fit", "steps": 10, "chunk": 7, "note": "trial", "parameters": 16}
            == about["config"]
        )
        assert about["config"]["key"] == [0, 0]
        assert about["versions"]["jax"] == jax.__version__
        assert set(about["git"] or {"commit": "", "modified": False}) == {"commit", "modified"}
        rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows] == [7, 10]
        np.testing.assert_allclose(rows[1]["loss"], np.mean(found.history[7:]), rtol=1e-12)
        np.testing.assert_allclose(rows[0]["size"], np.mean(found.metrics["size"][:7]), rtol=1e-12)
        assert rows[0]["steps_per_second"] > 0
        assert rows[0]["cpu_seconds"] > 0

    def test_a_resumed_log_has_every_row_once(self, tmp_path):
        train(14, checkpoint=tmp_path / "c", log=tmp_path)
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 21, "loss": 0.5}\n{"step": 28, "lo')  # after the last checkpoint; torn
        train(28, checkpoint=tmp_path / "c", log=tmp_path, resume=True)
        rows = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        assert rows == [7, 14, 21, 28]
        assert json.loads((tmp_path / "run.json").read_text())["resumed_at"] == 14

    def test_numbers_json_does_not_know(self, tmp_path):
        jk.fit(
            lambda p, _: jnp.where(p < -1.5, jnp.nan, p),
            0.0,
            optimizer=optax.sgd(1.0),
            steps=4,
            run=jk.Run(log=tmp_path),
        )
        assert json.loads((tmp_path / "metrics.jsonl").read_text()) | {"step": 3, "loss": None} == json.loads(
            (tmp_path / "metrics.jsonl").read_text()
        )

    def test_adapters(self, monkeypatch):
        said = []
        note = lambda name: lambda *a, **k: said.append((name, a, k))
        writer = lambda folder: types.SimpleNamespace(
            add_text=note("text"), add_scalar=note("scalar"), close=note("close")
        )
        monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=writer))
        run = types.SimpleNamespace(log=note("log"), finish=note("finish"))
        monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **k: note("init")(**k) or run))
        train(14, log=runlog.TensorBoard("x"))
        assert [name for name, *_ in said] == ["text", *["scalar"] * 8, "close"]
        assert said[1][1][::2] == ("loss", 7)
        said.clear()
        train(14, log=runlog.WandB("p", mode="offline"))
        assert [name for name, *_ in said] == ["init", "log", "log", "finish"]
        assert said[0][2]["mode"] == "offline"
        assert said[2][2] == {"step": 14}


class TestBar:
    def test_moves_with_losses_and_rate(self):
        console = Console(file=io.StringIO(), force_terminal=True, width=120)
        with progress.bar("fit", 100, 20, console) as move:
            move(60, {"critic": {"loss": np.float32(0.25)}, "grid": np.ones(3)}, 123.4)
        text = console.file.getvalue()
        assert "60%" in text
        assert "loss 0.25" in text
        assert "123 steps/s" in text

    def test_is_quiet_where_there_is_no_terminal(self, capfd):
        train(14, progress=True)
        assert capfd.readouterr() == ("", "")
