"""The reader: trains, answers, refuses, stops and goes on, is saved and damaged."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest

from jaxkit import reading
from jaxkit.learn import checkpoint
from jaxkit.reading import run, train, windows
from jaxkit.tools import cli

TINY = {"width": 16, "question_dilations": (1,), "passage_dilations": (1, 2)}
RECIPE = reading.Recipe(rate=3e-3, window=64, batch=8, chunk=4, average=0.9)


@pytest.fixture(scope="module")
def data():
    return reading.synthetic(60, seed=2)


def fit(data, steps, **more):
    return reading.Reader.fit(data, steps=steps, key=jax.random.key(0), recipe=RECIPE, words=False, **TINY, **more)


@pytest.fixture(scope="module")
def reader(data):
    return fit(data, 8)


@pytest.mark.slow
def test_training_stops_and_goes_on_to_the_same_reader(data, reader, tmp_path, monkeypatch):
    real, lines = train.segment, []

    def once(*args):
        run = real(*args)

        def call(params, moments, sampler, *rest):
            if int(sampler.first) == 4 and not lines:
                lines.append("stopped")
                raise KeyboardInterrupt
            return run(params, moments, sampler, *rest)

        return call

    monkeypatch.setattr(train, "segment", once)
    with pytest.raises(KeyboardInterrupt):
        fit(data, 8, checkpoint=tmp_path)
    again = fit(data, 8, checkpoint=tmp_path, resume=True)
    assert lines == ["stopped"]
    assert len(again.report["loss"]) == 4  # only the second half was run again
    jax.tree.map(np.testing.assert_array_equal, again.params, reader.params)


def test_answers_are_slices_of_their_passages(data, reader):
    pairs = [(e.question, [p.text for p in e.passages] + ["", "别的话。Other words."]) for e in data]
    for (_, passages), ranked in zip(pairs, reader.answer_batch(pairs, top_k=3, threshold=0.0), strict=True):
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
    found = reader.answer(question, passages, threshold=0.0)
    assert isinstance(found, reading.Answer)
    if not found:
        assert (found.text, found.start, found.end, found.passage) == ("", 0, 0, None)


@pytest.mark.slow
def test_very_long_passages(reader):
    passage = "在一个很远的地方，" * 11_000 + "李白住在白石县。"
    assert len(passage) > 99_000
    found = reader.answer("李白住在哪里？", passage, threshold=0.0)
    assert found.text == passage[found.start : found.end]
    long_question = "李白住在哪里？" * 100
    assert reader.answer(long_question, "李白住在白石县。", threshold=0.0).text


@pytest.mark.slow
def test_at_most_six_programs_for_any_mix(reader):
    (program,) = windows.program(reader.config, reader.longest)
    for size in (3, 60, 70, 130, 250, 257, 1000):
        for count in (1, 2, 33):
            reader.answer("谁？", ["李白" * (size // 2)] * count)
    assert program._cache_size() <= 6


def test_batches_do_not_change_answers(data, reader):
    pairs = [(e.question, [p.text for p in e.passages]) for e in list(data)[:6]]
    one_by_one = [reader.answer(q, p, threshold=0.0) for q, p in pairs]
    for alone, (together, *_) in zip(one_by_one, reader.answer_batch(pairs, threshold=0.0), strict=True):
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
    sure = reader.answer(example.question, example.passages[0].text, threshold=0.0)
    none = reader.answer(example.question, example.passages[0].text, threshold=1.1)
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
    from jaxkit.reading.reader import auc

    score, right = np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False])
    assert auc(score, right) == pytest.approx(3.5 / 4)
    assert auc(-score, right) == pytest.approx(0.5 / 4)


def test_saliency_is_the_derivative_it_says(data, reader):
    example = data.examples[1]
    weight = reader.saliency(example.question, example.passages[0].text)
    assert weight.shape == (len(example.passages[0].text),)
    assert np.any(weight != 0)
    assert not np.any(weight[[c.isspace() for c in example.passages[0].text]])
    assert not np.any(reader.saliency("", "李白"))
    assert reader.saliency("谁？", "").shape == (0,)


def test_a_saved_reader_answers_the_same_and_a_changed_byte_is_seen(data, reader, tmp_path):
    reader.save(tmp_path / "model")
    other = reading.Reader.load(tmp_path / "model")
    assert other.config == reader.config
    assert other.evaluate(data, "squad") == reader.evaluate(data, "squad")
    path = tmp_path / "model" / "reader.safetensors"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(checkpoint.CheckpointError) as error:
        reading.Reader.load(tmp_path / "model")
    assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="must hold a saved reader"):
        reading.Reader.load(tmp_path)


def test_command_line(data, reader, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "_prepare", lambda *a, **k: None)
    reader.save(tmp_path / "model")
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
    dataclasses.replace(reader, threshold=2.0).save(tmp_path / "model")
    assert cli.main([*base, str(tmp_path / "a.txt")]) == 1
    assert "no answer: the best span scores" in capsys.readouterr().out
    assert cli.main([*base, str(tmp_path / "bad.txt")]) == 2
    assert "must be UTF-8 text, but" in capsys.readouterr().err


@pytest.mark.slow
def test_collapse_starts_again_once(data, monkeypatch):
    monkeypatch.setattr(train, "blind", lambda *a: True)
    with pytest.raises(ValueError, match="training collapsed twice"):
        fit(data, 16)


@pytest.mark.slow
def test_fixed_vectors_stay_and_positions_are_learned(data, tmp_path):
    vectors = reading.Vectors(("born", "far", "是"), np.eye(3, dtype=np.float32))
    reader = fit(data, 4, vectors=vectors, positions=True, min_count=1000)
    assert reader.config.vectors == 3
    assert len(reader.vocabulary) == reader.config.vocabulary == len(reader.params["vectors"])
    np.testing.assert_array_equal(reader.params["vectors"][-3:], vectors.table)
    reader.save(tmp_path)
    assert reading.Reader.load(tmp_path).evaluate(data, "squad") == reader.evaluate(data, "squad")
    more = fit(data, 4, start=reader)
    assert (more.config, more.vocabulary) == (reader.config, reader.vocabulary)
    assert not np.array_equal(more.params["embedding"], reader.params["embedding"])
    np.testing.assert_array_equal(more.params["vectors"], reader.params["vectors"])


@pytest.mark.slow
def test_batches_over_two_devices(data, reader):
    spread = fit(data, 8, devices=jax.devices()[:2])
    # Sums in another order; Adam turns a rounding error near zero into a step, so that only the loss can be compared.
    np.testing.assert_allclose(spread.report["loss"], reader.report["loss"], rtol=2e-3)


def test_pmapped_readers_are_the_same(data, reader):
    from jaxkit.reading.encode import Coded

    net = train.network(reader.config)
    q, p = (Coded(*[jax.numpy.ones((2, n), jax.numpy.int32)] * 5) for n in (40, 64))
    halves = jax.tree.map(lambda v: v.reshape(2, 1, -1), (q, p))
    together = jax.jit(net.apply)(reader.params, q, p)
    apart = jax.pmap(net.apply, in_axes=(None, 0, 0), devices=jax.devices()[:2])(reader.params, *halves)
    np.testing.assert_allclose(apart.start.reshape(2, -1), together.start, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_synthetic_set_is_learned(seed):
    reader, test = run.fit_synthetic(seed)
    scores = reader.evaluate(test, "squad")
    assert scores.exact >= run.SYNTHETIC_GOAL, scores
    assert json.dumps(reader.report)  # plain values
