"""Reading texts of any length with a few compiled programs: windows, buckets, batches."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxkit.reading import decode, model
from jaxkit.reading.encode import Coded, Vocabulary, pad
from jaxkit.reading.pool import QUESTION
from jaxkit.reading.tokens import Tokens
from jaxkit.reading.train import network

BUCKETS = (64, 128, 256)  # tokens a window
BATCHES = (1, 32)  # windows a program: at most len(BUCKETS) * len(BATCHES) programs for any mix
SPANS = 8  # candidates a window


@dataclasses.dataclass(frozen=True)
class Window:
    """A piece of a passage that is read at once."""

    pair: int
    passage: int
    begin: int
    size: int
    bucket: int


@dataclasses.dataclass(frozen=True)
class Found:
    """What the net found in one passage.

    Attributes:
        candidates: `(score, first character, one past the last)`, the best first.
        exists: Probability that the passage answers.
    """

    candidates: tuple[tuple[float, int, int], ...] = ()
    exists: float = 0.0


def cut(length: int, widest: int = BUCKETS[-1]) -> list[tuple[int, int]]:
    """Windows `(begin, size)` that cover a passage of `length` tokens; neighbours share half."""
    if length <= widest:
        return [(0, length)] if length else []
    step = widest // 2
    starts = [*range(0, length - widest, step), length - widest]
    return [(s, widest) for s in starts]


@functools.cache
def program(config: model.Config, longest: int) -> tuple:
    """The compiled reader of a batch: scores and places of the best spans, and existence."""
    net = network(config)

    @jax.jit
    def read(params: PyTree, question: Coded, passage: Coded) -> tuple[Array, Array, Array, Array]:
        logits = net.apply(params, question, passage)
        start, end, exists = model.probabilities(logits, config.head)
        return *decode.spans(start, end, longest=longest, count=SPANS), exists

    return (read,)


def read(
    params: PyTree,
    config: model.Config,
    vocabulary: Vocabulary,
    pairs: Sequence[tuple[str, Sequence[str]]],
    *,
    longest: int = 40,
    widest: int = BUCKETS[-1],
) -> list[list[Found]]:
    """Read passages for questions.

    Args:
        params: Weights.
        config: The net.
        vocabulary: The vocabulary.
        pairs: Questions with their passages.
        longest: Most tokens of an answer.
        widest: Most tokens of a window.

    Returns:
        For each pair, a `Found` a passage.
    """
    coded: dict[str, tuple[Coded, Tokens]] = {}
    for _, passages in pairs:
        for text in passages:
            if text not in coded:
                coded[text] = vocabulary.encode(text)
    questions = [pad(vocabulary.encode(q)[0], QUESTION, keep="end") for q, _ in pairs]
    todo: dict[int, list[Window]] = {bucket: [] for bucket in BUCKETS}
    for i, (_, passages) in enumerate(pairs):
        for j, text in enumerate(passages):
            for begin, size in cut(len(coded[text][1]), widest) if np.any(questions[i].match) else []:
                bucket = next(b for b in BUCKETS if size <= b)
                todo[bucket].append(Window(i, j, begin, size, bucket))
    found: dict[tuple[int, int], list[tuple[float, int, int]]] = {}
    exists: dict[tuple[int, int], float] = {}
    (run,) = program(config, longest)
    for bucket, windows in todo.items():
        for part in _batches(windows):
            rows = BATCHES[0] if len(part) == 1 else BATCHES[1]
            question = _stack([questions[w.pair] for w in part], rows, QUESTION)
            piece = lambda w: jax.tree.map(
                lambda v: v[w.begin : w.begin + w.size], coded[pairs[w.pair][1][w.passage]][0]
            )
            passage = _stack([pad(piece(w), bucket) for w in part], rows, bucket)
            score, first, last, there = jax.device_get(run(params, question, passage))
            for row, w in enumerate(part):
                at = (w.pair, w.passage)
                cutting = coded[pairs[w.pair][1][w.passage]][1]
                exists[at] = max(exists.get(at, 0.0), float(there[row]))
                good = np.flatnonzero((score[row] > 0) & (last[row] < w.size))
                found.setdefault(at, []).extend(
                    (
                        float(score[row, k]),
                        int(cutting.start[w.begin + first[row, k]]),
                        int(cutting.end[w.begin + last[row, k]]),
                    )
                    for k in good
                )
    ranked = lambda at: tuple(sorted(found.get(at, []), key=lambda c: (-c[0], c[1], c[2])))
    return [
        [Found(ranked((i, j)), exists.get((i, j), 0.0)) for j in range(len(passages))]
        for i, (_, passages) in enumerate(pairs)
    ]


def _batches(windows: list[Window]) -> list[list[Window]]:
    size = BATCHES[-1]
    return [windows[i : i + size] for i in range(0, len(windows), size)]


def _stack(rows: Sequence[Coded], count: int, width: int) -> Coded:
    """Rows as one batch, filled up with empty ones."""
    empty = Coded(*[np.zeros(width, np.int32)] * 5)
    return jax.tree.map(lambda *v: jnp.asarray(np.stack(v)), *rows, *[empty] * (count - len(rows)))
