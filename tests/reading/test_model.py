"""The net and its losses: no leak, finite everywhere, golden focal loss; batches that are what they say."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit import reading
from jaxkit.reading import model, pool, training


@pytest.fixture(scope="module")
def small():
    data = reading.synthetic(40, seed=5, unanswerable=0.2)
    vocabulary = reading.Vocabulary.of([p.text for e in data for p in e.passages], min_count=1)
    return data, vocabulary, pool.build(data, vocabulary, window=64)


draw = jax.jit(lambda source, i: source(i))


def sampler(small, **recipe):
    return pool.Sampler(small[2], jax.random.key(3), reading.Recipe(**({"batch_size": 16, "window": 64} | recipe)))


def test_windows_hold_the_answers_they_mark(small):
    data, vocabulary, _ = small
    batch = jax.device_get(draw(sampler(small, negatives=0.0, random_windows=0.0, token_dropout=0.0), 0))
    answers = {tuple(vocabulary.encode(a)[0].match.tolist()) for e in data for a in e.answers}
    marked = 0
    for b in range(16):
        first, last = np.flatnonzero(batch.start[b]), np.flatnonzero(batch.end[b])
        assert len(first) == len(last) <= 1
        if len(first):
            marked += 1
            assert tuple(batch.passage.match[b, first[0] : last[0] + 1].tolist()) in answers
    assert marked >= 8  # a fifth of the questions has no answer


def test_negatives_share_words_and_hold_no_answer(small):
    data, _, built = small
    texts = list(dict.fromkeys(p.text for e in data for p in e.passages))
    for q, example in enumerate(data):
        for p in np.asarray(built.others[q]):
            assert not any(a in texts[p] for a in example.answers)
    batch = jax.device_get(draw(sampler(small, negatives=1.0), 0))
    assert not batch.start.any()
    share = np.mean([draw(sampler(small), i).start.max(1).mean() for i in range(12)])
    assert 0.3 < share < 0.6  # 0.6 of own passages, a fifth of those anywhere, a fifth of questions without answer


def test_windows_without_their_answer_speak_of_the_subject_and_hold_no_answer(small):
    batch = jax.device_get(draw(sampler(small, negatives=0.0, random_windows=0.0, unanswerable=1.0, batch_size=32), 0))
    answers = [small[1].encode(a)[0].match for e in small[0] for a in e.answers]
    whole = jax.device_get(draw(sampler(small, negatives=0.0, random_windows=0.0, batch_size=32), 0))
    joined = lambda codes: " ".join(map(str, codes))
    emptied = 0
    for b in range(32):
        if not np.any(whole.start[b]):
            continue  # a question without an answer, or one whose answer is all there is
        first, last = np.argmax(whole.start[b]), np.argmax(whole.end[b])
        answer = whole.passage.match[b, first : last + 1]
        assert any(np.array_equal(answer, a) for a in answers)
        if not np.any(batch.start[b]):
            emptied += 1
            left = batch.passage.match[b]
            assert np.sum(left > 0) >= pool.LEFT
            assert joined(answer) not in joined(left)
            assert joined(left[left > 0]) in joined(whole.passage.match[b])
    assert emptied >= 16


def test_names_are_hidden_but_still_match(small):
    plain, hidden = (jax.device_get(draw(sampler(small, token_dropout=h), 2)) for h in (0.0, 0.5))
    np.testing.assert_array_equal(plain.passage.match, hidden.passage.match)
    real = plain.passage.match > 0
    assert 0.35 < np.mean(hidden.passage.ids[real] == 0) < 0.65


def test_a_batch_is_a_function_of_its_number(small):
    one, two = draw(sampler(small), 5), draw(sampler(small), 5)
    many = jax.jit(lambda source: jax.lax.map(source, jnp.arange(7)))(sampler(small))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[5]), one, many)
    assert not np.array_equal(many.passage.ids[5], many.passage.ids[4])


@pytest.mark.parametrize("head", [pytest.param("softmax", marks=pytest.mark.slow), "pointer"])
def test_net_and_loss_are_finite_and_do_not_leak(small, head):
    config = reading.Architecture(8, passage_dilations=(1, 2), head=head, vocabulary_size=len(small[1]))
    net = model.network(config)
    params = net.init(jax.random.key(0))
    batch = draw(sampler(small, batch_size=4), 0)
    empty = lambda coded: jax.tree.map(lambda v: jnp.asarray(v).at[0].set(0), coded)
    batch = dataclasses.replace(batch, question=empty(batch.question), passage=empty(batch.passage))

    def value(params, batch):
        logits = net.apply(params, batch.question, batch.passage)
        return model.span_loss(logits, batch.start, batch.end, head)[0], logits

    (loss, logits), slope = jax.jit(jax.value_and_grad(value, has_aux=True))(params, batch)
    assert np.isfinite(loss)
    assert all(np.all(np.isfinite(v)) for v in jax.tree.leaves(slope))
    start, end, exists = model.probabilities(logits, head)
    assert not np.any(np.asarray(start)[~np.asarray(logits.mask)])
    assert all(np.all(np.isfinite(v)) for v in (start, end, exists))
    # What stands behind the passage's end in memory does not matter; row 1 is read for itself.
    wide = lambda coded: jax.tree.map(lambda v: jnp.pad(v, ((0, 0), (0, 64))), coded)
    longer = jax.jit(net.apply)(params, batch.question, wide(batch.passage))
    np.testing.assert_allclose(longer.start[1:, :64], logits.start[1:], atol=1e-4)
    np.testing.assert_allclose(longer.exists[1:], logits.exists[1:], atol=1e-4)


def test_focal_loss_is_the_articles():
    p, y = jnp.float32(0.3), jnp.float32(1)
    assert float(model.focal(p, y)) == pytest.approx(-0.25 * np.log(0.3) * 0.7**2, rel=1e-6)
    assert float(model.focal(p, 1 - y)) == pytest.approx(-0.75 * np.log(0.7) * 0.3**2, rel=1e-6)
    logits = model.Logits(*(jnp.zeros((1, 4), jnp.float32),) * 2, jnp.zeros(1, jnp.float32), jnp.ones((1, 4), bool))
    start = jnp.array([[1, 0, 0, 0]], jnp.float32)
    found = model.span_loss(logits, start, start, "pointer")[0]  # all probabilities are 1/2 * 1/2
    one = -0.25 * np.log(0.25) * 0.75**2 - 3 * 0.75 * np.log(0.75) * 0.25**2
    assert float(found) == pytest.approx(100 * 2 * one / 4, rel=1e-5)


def test_softmax_loss_counts_all_right_places_together():
    logits = model.Logits(*(jnp.zeros((2, 4), jnp.float32),) * 2, jnp.zeros(2, jnp.float32), jnp.ones((2, 4), bool))
    start = jnp.array([[1, 1, 0, 0], [0, 0, 0, 0]], jnp.float32)
    value, parts = model.span_loss(logits, start, start, "softmax")
    assert float(parts["pointer"]) == pytest.approx(2 * np.log(2), rel=1e-5)  # of the one with an answer
    assert float(parts["existence"]) == pytest.approx(np.log(2), rel=1e-5)
    assert float(value) == pytest.approx(np.log(2) + np.log(2), rel=1e-5)


def test_a_blind_net_is_seen():
    assert not training.blind(2.0, "softmax", 128)
    assert training.blind(2 * np.log(128), "softmax", 128)
    assert training.blind(np.nan, "softmax", 128)
    assert training.blind(2.0, "pointer", 128)
    assert not training.blind(0.3, "pointer", 128)


def test_the_learning_rate_rises_and_falls_as_the_recipe_says():
    recipe, steps, warm = reading.Recipe(learning_rate=0.5), 300, 30
    n = np.arange(steps + 20, dtype=float)
    along = np.clip((n - warm) / (steps - warm), 0, 1)
    fall = 0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * along))
    found = training.schedule(recipe, steps)(jnp.asarray(n))
    np.testing.assert_allclose(found, 0.5 * np.minimum((n + 1) / warm, fall), rtol=1e-6)
    assert float(training.schedule(recipe, 10**4)(jnp.asarray(198.0))) < 0.5 == training.schedule(recipe, 10**4)(199.0)


def test_position_vectors_are_the_articles():
    table = model.positions(5, 4)
    np.testing.assert_allclose(table[3], [np.sin(3), np.cos(3), np.sin(3 / 100), np.cos(3 / 100)], rtol=1e-5)
