"""All questions and passages of a training set as flat arrays, and batches drawn from them inside the program.

A batch is a function of the key and of its index alone: which questions, which window of which passage, which tokens
are hidden. Some windows answer nothing: those from other passages that share words with the question, and those from
which the answer was cut. From these the net learns to say no to a passage on the subject without the answer.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxkit.core import checks
from jaxkit.core.struct import static, struct
from jaxkit.learn.batches import Minibatches
from jaxkit.reading.config import Recipe
from jaxkit.reading.data import Dataset
from jaxkit.reading.encode import Coded, Vocabulary, pad

QUESTION = 40  # tokens kept of a question, the last ones: in Chinese the interrogative comes late
SPANS = 8  # places of the answer kept per passage
NEGATIVES = 12  # other passages kept per question
LEFT = 4  # tokens that must be left of a passage when its answer is cut from it
COMMON = 0.1  # words in more than this share of the passages are ignored


@struct
class Pool:
    """A training set on the device.

    Attributes:
        questions: Tokens of the questions, shape `(questions, QUESTION)`.
        passages: Tokens of all passages, one after the other.
        offset: Index of the first token of each passage, shape `(passages,)`.
        length: Number of its tokens, shape `(passages,)`.
        item: Question and passage of each training pair, shape `(items, 2)`.
        spans: First and last token of each place of the answer, shape `(items, SPANS, 2)`; -1 for none.
        others: Passages that share words with each question without answering it, shape `(questions, NEGATIVES)`.
    """

    questions: Coded
    passages: Coded
    offset: Int[Array, " p"]
    length: Int[Array, " p"]
    item: Int[Array, "i 2"]
    spans: Int[Array, "i s 2"]
    others: Int[Array, "q n"]


@struct
class Batch:
    """A training batch: questions `(b, q)`, windows of passages `(b, n)`, and where the answers start and end."""

    question: Coded
    passage: Coded
    start: Float[Array, "b n"]
    end: Float[Array, "b n"]


@struct
class Sampler:
    """The i-th batch, for any i.

    Attributes:
        pool: The training set.
        key: Key of all draws.
        recipe: Size of the batches, and which windows they hold.
    """

    pool: Pool
    key: PRNGKeyArray
    recipe: Recipe = static(default=Recipe())

    def __call__(self, i: Int[Array, ""] | int) -> Batch:
        """The i-th batch."""
        number = jnp.asarray(i, jnp.int32)
        rows = Minibatches(jnp.arange(self.pool.item.shape[0], dtype=jnp.int32), self.key, self.recipe.batch_size)(
            number.astype(jnp.result_type(int))
        )
        keys = jax.random.split(jax.random.fold_in(self.key, number), self.recipe.batch_size)
        return jax.vmap(self._one)(rows, keys)

    def _one(self, row: Array, key: PRNGKeyArray) -> Batch:
        pool, recipe, width = self.pool, self.recipe, self.recipe.window
        draw, other, place, where, hide_q, hide_p = jax.random.split(key, 6)
        question, own = pool.item[row]
        u = jax.random.uniform(draw, (), jnp.float32)
        foreign = u < recipe.negatives
        which = pool.others[question, jax.random.randint(other, (), 0, NEGATIVES, jnp.int32)]
        passage = jnp.where(foreign, which, own)
        spans, count = pool.spans[row], jnp.sum(pool.spans[row, :, 0] >= 0, dtype=jnp.int32)
        answer = spans[jax.random.randint(place, (), 0, jnp.maximum(count, 1), jnp.int32)]
        along = (u - recipe.negatives) / max(1 - recipe.negatives, 1e-6)  # share among the windows of the own passage
        low, high, emptied = self._part(spans, pool.length[passage], jax.random.fold_in(where, 1))
        anywhere = along < recipe.random_windows
        emptied = emptied & ~anywhere & (along < recipe.random_windows + recipe.unanswerable) & ~foreign
        low, high = jnp.where(emptied, low, 0), jnp.where(emptied, high, pool.length[passage])
        aimed = ~anywhere & (count > 0) & ~foreign & ~emptied
        last = jnp.maximum(high - width, low)
        least = jnp.where(aimed, jnp.clip(answer[1] - width + 1, 0, last), low)
        most = jnp.where(aimed, jnp.clip(answer[0], least, jnp.maximum(last, least)), last)
        begin = jax.random.randint(where, (), least, most + 1, jnp.int32)
        inside = jnp.arange(width, dtype=jnp.int32) < high - begin
        cut = lambda v: jnp.where(inside, jax.lax.dynamic_slice(v, (pool.offset[passage] + begin,), (width,)), 0)
        text = jax.tree.map(cut, pool.passages)
        asked = jax.tree.map(lambda v: v[question], pool.questions)
        relative = spans - begin
        whole = (spans[:, 0] >= 0) & (relative[:, 0] >= 0) & (relative[:, 1] < width) & ~foreign & ~emptied
        mark = lambda at: jnp.max(jnp.where(whole[:, None], jax.nn.one_hot(at, width, dtype=jnp.float32), 0), axis=0)
        return Batch(
            self._hidden(asked, hide_q), self._hidden(text, hide_p), mark(relative[:, 0]), mark(relative[:, 1])
        )

    @staticmethod
    def _part(spans: Array, length: Array, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        """The tokens before or after all places of the answer, either at random, and whether they are enough."""
        real = spans[:, 0] >= 0
        before = jnp.min(jnp.where(real, spans[:, 0], length))
        after = jnp.max(jnp.where(real, spans[:, 1] + 1, 0))
        first = (jax.random.bernoulli(key) & (before >= LEFT)) | (length - after < LEFT)
        low, high = jnp.where(first, 0, after), jnp.where(first, before, length)
        return low, high, (high - low >= LEFT) & jnp.any(real)

    def _hidden(self, coded: Coded, key: PRNGKeyArray) -> Coded:
        ids = jnp.asarray(coded.ids)
        kept = jax.random.uniform(key, ids.shape, jnp.float32) >= self.recipe.token_dropout
        return Coded(jnp.where(kept, ids, 0), coded.match, coded.kind, coded.word, coded.tag)


def build(data: Dataset, vocabulary: Vocabulary, *, window: int = 128, seed: int = 0) -> Pool:
    """Tokenise a data set, and find other passages for each question that share words with it.

    Args:
        data: Questions; passages without spans are negatives of their question.
        vocabulary: The vocabulary.
        window: Tokens of the windows that will be drawn.
        seed: Seed of the random passages for questions that share words with too few.

    Returns:
        A `Pool`.

    Raises:
        ValueError: No passage in the data answers its question.
    """
    texts = list(dict.fromkeys(p.text for e in data for p in e.passages))
    row = {text: i for i, text in enumerate(texts)}
    encoded = [vocabulary.encode(text) for text in texts]
    questions = [vocabulary.encode(e.question)[0] for e in data]
    items, spans = [], []
    for q, example in enumerate(data):
        for passage in example.passages:
            _, cut = encoded[row[passage.text]]
            found = [token_span(span, cut.start, cut.end) for span in passage.spans]
            found = [f for f in dict.fromkeys(found) if f is not None][:SPANS]
            if found or not passage.spans:
                items.append((q, row[passage.text]))
                spans.append(found + [(-1, -1)] * (SPANS - len(found)))
    table = np.array(spans, np.int32).reshape(-1, SPANS, 2)
    checks.require(bool((table >= 0).any()), "train", "hold answers in its passages", "holds none")
    lengths = np.array([len(cut) for _, cut in encoded], np.int32)
    tail = window + 1
    flat = jax.tree.map(
        lambda *v: jnp.asarray(np.concatenate([*v, np.zeros(tail, np.int32)])), *[c for c, _ in encoded]
    )
    padded = [pad(q, QUESTION, keep="end") for q in questions]
    others = neighbours(data, texts, questions, [c for c, _ in encoded], seed=seed)
    return Pool(
        jax.tree.map(lambda *v: jnp.asarray(np.stack(v)), *padded),
        flat,
        jnp.asarray(np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int32)),
        jnp.asarray(lengths),
        jnp.asarray(np.array(items, np.int32)),
        jnp.asarray(table),
        jnp.asarray(others),
    )


def token_span(span: tuple[int, int], start: np.ndarray, end: np.ndarray) -> tuple[int, int] | None:
    """First and last token that a range of characters touches; None if it touches none."""
    first, last = int(np.searchsorted(end, span[0], side="right")), int(np.searchsorted(start, span[1])) - 1
    return (first, last) if first <= last else None


def neighbours(
    data: Dataset,
    texts: Sequence[str],
    questions: Sequence[Coded],
    passages: Sequence[Coded],
    *,
    count: int = NEGATIVES,
    seed: int = 0,
) -> np.ndarray:
    """Passages that share rare words with each question but do not contain its answers, shape `(questions, count)`.

    If a question has fewer, random passages fill up the rest.
    """
    sets = [np.unique(np.asarray(p.word)) for p in passages]
    words, owner = np.concatenate(sets), np.repeat(np.arange(len(sets)), [len(s) for s in sets])
    order = np.argsort(words, kind="stable")
    words, owner = words[order], owner[order]
    rng, total = np.random.default_rng(seed), len(passages)
    table = np.zeros((len(questions), count), np.int32)
    for q, example in enumerate(data):
        asked = np.unique(np.asarray(questions[q].word))
        low, high = np.searchsorted(words, asked), np.searchsorted(words, asked, side="right")
        informative = (high > low) & (high - low <= max(COMMON * total, 4))
        postings = [owner[a:b] for a, b in zip(low[informative], high[informative], strict=True)]
        fits = _unanswering(example.answers, {p.text for p in example.passages if p.spans}, texts)
        chosen: list[int] = []
        if postings:
            weights = np.repeat(np.log(total / (high - low)[informative]), (high - low)[informative])
            scores = np.bincount(np.concatenate(postings), weights, minlength=total)
            best = np.argsort(-scores)[: 3 * count]
            chosen = [p for p in best if scores[p] > 0 and fits(p)][:count]
        anywhere = rng.integers(0, total, 4 * count)
        chosen += [p for p in anywhere if fits(p)][: count - len(chosen)]
        table[q] = np.resize(np.array(chosen or anywhere[:1], np.int32), count)
    return table


def _unanswering(answers: Sequence[str], own: set[str], texts: Sequence[str]) -> Callable[[int], bool]:
    return lambda p: texts[p] not in own and not any(a and a in texts[p] for a in answers)
