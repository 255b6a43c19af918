"""The reader: trains, answers, refuses, stops and goes on, is saved and damaged."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest

import jaxkit as jk
from jaxkit import reading
from jaxkit.learn import checkpoint
from jaxkit.reading import model, run, training, windows
from jaxkit.tools import cli

TINY = reading.Architecture(16, question_dilations=(1,), passage_dilations=(1, 2))
RECIPE = reading.Recipe(learning_rate=3e-3, window=64, batch_size=8, ema=0.9)
CONFIG = reading.Config(TINY, RECIPE, steps=8, words=False)
RUN = jk.Run(chunk=4)


@pytest.fixture(scope="module")
def data():
    return reading.synthetic(60, seed=2)


def train(data, config=CONFIG, run=RUN, **more):
    return reading.train(config, data, key=jax.random.key(0), run=run, **more).checked()


@pytest.fixture(scope="module")
def trained(data):
    return train(data)


@pytest.fixture(scope="module")
def reader(trained):
    return trained.model


@pytest.mark.slow
def test_training_stops_and_goes_on_to_the_same_reader(data, reader, tmp_path):
    seen = []

    def stop(step, state):
        seen.append(step)
        if seen == [4, 8]:
            raise KeyboardInterrupt

    host = dataclasses.replace(RUN, checkpoint=tmp_path, resume=True, callback=stop)
    with pytest.raises(KeyboardInterrupt):
        train(data, run=host)
    again = train(data, run=host)
    assert seen == [4, 8, 8]  # only the second half was run again
    jax.tree.map(np.testing.assert_array_equal, again.model.params, reader.params)
    assert again.model.report["cpu"] > 0


@pytest.mark.slow
def test_the_best_weights_are_kept(data, monkeypatch):
    values, seen = iter([1.0, 3.0, 2.0]), []

    def evaluate(self, examples, metric):
        seen.append(self.params)
        return reading.Scores(next(values), 0.0, len(examples), metric)

    monkeypatch.setattr(reading.Reader, "evaluate", evaluate)
    config = dataclasses.replace(CONFIG, steps=12, evaluations=3, dev_size=5)
    found = train(data, config, dev=data).model
    assert found.report["looks"] == [[4, 1.0], [8, 3.0], [12, 2.0]]
    assert len(seen) == 3
    jax.tree.map(np.testing.assert_array_equal, found.params, seen[1])
    assert "auc" in found.report
    assert found.threshold > 0


@pytest.mark.slow
def test_a_run_that_ends_early_is_scored_at_its_end(data, monkeypatch):
    monkeypatch.setattr(reading.Reader, "evaluate", lambda self, e, metric: reading.Scores(1.0, 0.0, len(e), metric))
    config = dataclasses.replace(CONFIG, steps=12, evaluations=1)
    found = train(data, config, dataclasses.replace(RUN, callback=lambda step, state: step == 4), dev=data)
    assert found.model.report["looks"] == [[4, 1.0]]
    assert np.all(np.isfinite(found.history[:4]))
    assert np.all(np.isnan(found.history[4:]))


def test_answers_are_slices_of_their_passages(data, reader):
    pairs = [(e.question, [p.text for p in e.passages] + ["", "别的话。Other words."]) for e in data]
    for (_, passages), ranked in zip(pairs, reader.ask_batch(pairs, top_k=3, threshold=0.0), strict=True):
        assert 1 <= len(ranked) <= 3
        assert [a.score for a in ranked] == sorted((a.score for a in ranked), reverse=True)
        for found in ranked:
            assert found.text == passages[found.passage][found.start : found.end] != ""
            assert dict(found) == {"answer": found.text, "score": found.score, "start": found.start, "end": found.end}
            assert found.passage in found.support
            assert 0 <= found.probability <= 1


@pytest.mark.parametrize(
    ("question", "passages"),
    [
        ("", []),
        ("谁？", []),
        ("谁？", ""),
        ("谁？", ["", " \n\t"]),
        ("", ["李白"]),
        (" ", "李白"),
        ("谁？", ["\ud800", "\0"]),
    ],
)
def test_nothing_to_read_is_no_answer(reader, question, passages):
    found = reader.ask(question, passages, threshold=0.0)
    assert isinstance(found, reading.Answer)
    if not found:
        assert (found.text, found.start, found.end, found.passage) == ("", 0, 0, None)


@pytest.mark.slow
def test_very_long_passages(reader):
    passage = "在一个很远的地方，" * 11_000 + "李白住在白石县。"
    assert len(passage) > 99_000
    found = reader.ask("李白住在哪里？", passage, threshold=0.0)
    assert found.text == passage[found.start : found.end]
    long_question = "李白住在哪里？" * 100
    assert reader.ask(long_question, "李白住在白石县。", threshold=0.0).text


@pytest.mark.slow
def test_at_most_six_programs_for_any_mix(reader):
    program = windows.program(reader.architecture, reader.max_answer_tokens)
    for size in (3, 60, 70, 130, 250, 257, 1000):
        for count in (1, 2, 33):
            reader.ask("谁？", ["李白" * (size // 2)] * count)
    assert program._cache_size() <= 6


def test_batches_do_not_change_answers(data, reader):
    pairs = [(e.question, [p.text for p in e.passages]) for e in list(data)[:6]]
    one_by_one = [reader.ask(q, p, threshold=0.0) for q, p in pairs]
    for alone, (together, *_) in zip(one_by_one, reader.ask_batch(pairs, threshold=0.0), strict=True):
        assert (alone.text, alone.start) == (together.text, together.start)
        assert alone.score == pytest.approx(together.score, rel=1e-4)


def test_windows_cover_and_overlap():
    for length in (0, 1, 256, 257, 400, 1000):
        pieces = windows.cut(length)
        seen = np.zeros(length, int)
        for begin, size in pieces:
            assert begin + size <= length
            seen[begin : begin + size] += 1
        assert np.all(seen >= 1)
        assert all(a[0] + a[1] - b[0] >= 128 for a, b in itertools.pairwise(pieces))


def test_threshold_refuses(data, reader):
    example = data.examples[0]
    sure = reader.ask(example.question, example.passages[0].text, threshold=0.0)
    none = reader.ask(example.question, example.passages[0].text, threshold=1.1)
    assert sure
    assert not none
    assert none.probability == sure.probability > 0
    parted = reader.calibrated(data)
    score, right = parted.existence(data)
    assert 0 <= parted.threshold <= 1
    by_head, _ = parted.existence(data, by="head")
    assert np.all(by_head >= score)  # a span's score is the head's times the two pointers'
    assert len(score) == len(right) == len(data)
    by_vote, _ = parted.existence(data, by="vote")
    assert np.all((by_vote > 0.999) | (score == 0))  # a question's only passage holds all that was found in it
    assert 0 <= parted.report["auc"] <= 1


def test_auc_counts_pairs():
    score, right = np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False])
    assert reading.auc(score, right) == pytest.approx(3.5 / 4)
    assert reading.auc(-score, right) == pytest.approx(0.5 / 4)


def test_saliency_is_the_derivative_it_says(data, reader):
    example = data.examples[1]
    weight = reader.saliency(example.question, example.passages[0].text)
    assert weight.shape == (len(example.passages[0].text),)
    assert np.any(weight != 0)
    assert not np.any(weight[[c.isspace() for c in example.passages[0].text]])
    assert not np.any(reader.saliency("", "李白"))
    assert reader.saliency("谁？", "").shape == (0,)


def test_a_saved_reader_answers_the_same_and_a_changed_byte_is_seen(data, reader, tmp_path):
    path = reading.save(tmp_path / "model" / "reader.safetensors", reader)
    other = reading.load(path)
    assert other.architecture == reader.architecture
    assert other.report == reader.report
    assert other.evaluate(data, "squad") == reader.evaluate(data, "squad")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(checkpoint.CheckpointError) as error:
        reading.load(path)
    assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="must be the file of a saved reader"):
        reading.load(tmp_path)


def test_command_line(data, reader, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "_prepare", lambda *a, **k: None)
    reading.save(tmp_path / "model", reader)
    example = data.examples[1]
    (tmp_path / "a.txt").write_text(example.passages[0].text, encoding="utf-8")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xff")
    base = ["answer", str(tmp_path / "model"), example.question]
    assert cli.main([*base, str(tmp_path / "a.txt"), "--always", "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    text, score, place, _ = lines[0].split("\t")
    begin, end = map(int, place.removeprefix("a.txt:").split("-"))
    assert example.passages[0].text[begin:end] == text
    assert float(score) > 0
    reading.save(tmp_path / "model", dataclasses.replace(reader, threshold=2.0))
    assert cli.main([*base, str(tmp_path / "a.txt")]) == 1
    assert "no answer: the best span scores" in capsys.readouterr().out
    assert cli.main([*base, str(tmp_path / "bad.txt")]) == 2
    assert "must be UTF-8 text, but" in capsys.readouterr().err


@pytest.mark.slow
def test_collapse_starts_again_once(data, monkeypatch):
    seen = []
    monkeypatch.setattr(training, "blind", lambda *a: True)
    host = dataclasses.replace(RUN, callback=lambda step, state: seen.append(step))
    with pytest.raises(ValueError, match="training collapsed twice"):
        train(data, dataclasses.replace(CONFIG, steps=16), host)
    assert seen == [4, 8, 4, 8]


@pytest.mark.slow
def test_fixed_vectors_stay_and_positions_are_learned(data, tmp_path):
    vectors = reading.Vectors(("born", "far", "was"), np.eye(3, dtype=np.float32))
    config = dataclasses.replace(
        CONFIG, steps=4, min_count=1000, architecture=dataclasses.replace(TINY, positions=True)
    )
    reader = train(data, config, vectors=vectors).model
    assert reader.architecture.vector_width == 3
    assert len(reader.vocabulary) == reader.architecture.vocabulary_size == len(reader.params["vectors"])
    np.testing.assert_array_equal(reader.params["vectors"][-3:], vectors.table)
    reading.save(tmp_path / "reader", reader)
    assert reading.load(tmp_path / "reader").evaluate(data, "squad") == reader.evaluate(data, "squad")
    more = train(data, config, start=reader).model
    assert (more.architecture, more.vocabulary) == (reader.architecture, reader.vocabulary)
    assert not np.array_equal(more.params["embedding"], reader.params["embedding"])
    np.testing.assert_array_equal(more.params["vectors"], reader.params["vectors"])


@pytest.mark.slow
def test_batches_over_two_devices(data, trained):
    spread = train(data, run=dataclasses.replace(RUN, devices=jax.devices()[:2]))
    # Sums in another order; Adam turns a rounding error near zero into a step, so that only the loss can be compared.
    np.testing.assert_allclose(spread.history, trained.history, rtol=2e-3)


def test_pmapped_readers_are_the_same(data, reader):
    from jaxkit.reading.encode import Coded

    net = model.network(reader.architecture)
    q, p = (Coded(*[jax.numpy.ones((2, n), jax.numpy.int32)] * 5) for n in (40, 64))
    halves = jax.tree.map(lambda v: v.reshape(2, 1, -1), (q, p))
    together = jax.jit(net.apply)(reader.params, q, p)
    apart = jax.pmap(net.apply, in_axes=(None, 0, 0), devices=jax.devices()[:2])(reader.params, *halves)
    np.testing.assert_allclose(apart.start.reshape(2, -1), together.start, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_synthetic_set_is_learned(seed):
    trained, test = run.train_synthetic(seed)
    reader = trained.checked().model
    scores = reader.evaluate(test, "squad")
    assert scores.exact >= run.SYNTHETIC_GOAL, scores
    assert json.dumps(reader.report)  # plain values
