"""Texts of any length through a few compiled programs: windows, buckets, batches."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PyTree

from jaxkit.reading import decode, model
from jaxkit.reading.config import Architecture
from jaxkit.reading.encode import Coded, Vocabulary, pad
from jaxkit.reading.pool import QUESTION

BUCKETS = (64, 128, 256)  # tokens per window
BATCHES = (1, 8)  # windows per program: at most len(BUCKETS) * len(BATCHES) programs for any mix
SPANS = 8  # candidates per window


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
        candidates: `(score, first character, one past the last character)`, the best first.
        exists: Probability that the passage answers.
    """

    candidates: tuple[tuple[float, int, int], ...] = ()
    exists: float = 0.0


def cut(length: int, widest: int = BUCKETS[-1]) -> list[tuple[int, int]]:
    """Windows `(begin, size)` that cover a passage of `length` tokens; neighbours overlap by half."""
    if length <= widest:
        return [(0, length)] if length else []
    step = widest // 2
    starts = [*range(0, length - widest, step), length - widest]
    return [(s, widest) for s in starts]


@functools.lru_cache(maxsize=16)
def program(architecture: Architecture, max_answer_tokens: int) -> Callable[..., Any]:
    """The compiled reader of a batch: scores and places of the best spans, and existence.

    Questions and passages are one array each, the five integers of every token, `(5, rows, tokens)`: a single transfer.
    """
    net = model.network(architecture)

    @jax.jit
    def read(params: PyTree, question: Array, passage: Array) -> tuple[Array, Array, Array, Array]:
        logits = net.apply(params, Coded(*question), Coded(*passage))
        start, end, exists = model.probabilities(logits, architecture.head)
        return *decode.spans(start, end, max_answer_tokens=max_answer_tokens, count=SPANS), exists

    return read


def read(
    params: PyTree,
    architecture: Architecture,
    vocabulary: Vocabulary,
    max_answer_tokens: int,
    pairs: Sequence[tuple[str, Sequence[str]]],
) -> list[list[Found]]:
    """Read passages for questions.

    Args:
        params: Weights.
        architecture: The net.
        vocabulary: The vocabulary.
        max_answer_tokens: Most tokens of an answer.
        pairs: Questions with their passages.

    Returns:
        For each pair, one `Found` per passage.
    """
    texts = dict.fromkeys(text for _, passages in pairs for text in passages)
    coded = {text: vocabulary.encode(text) for text in texts}
    numbers = {text: np.stack(jax.tree.leaves(c)) for text, (c, _) in coded.items()}
    questions = [np.stack(jax.tree.leaves(pad(vocabulary.encode(q)[0], QUESTION, keep="end"))) for q, _ in pairs]
    todo: dict[int, list[Window]] = {bucket: [] for bucket in BUCKETS}
    for i, (_, passages) in enumerate(pairs):
        for j, text in enumerate(passages):
            for begin, size in cut(len(coded[text][1])) if np.any(questions[i]) else []:
                bucket = next(b for b in BUCKETS if size <= b)
                todo[bucket].append(Window(i, j, begin, size, bucket))
    text_of = lambda w: pairs[w.pair][1][w.passage]
    run = program(architecture, max_answer_tokens)
    parts = [part for windows in todo.values() for part in _batches(windows)]
    # All batches are started before the first is waited for.
    results = [run(params, *_stack(part, questions, [numbers[text_of(w)] for w in part])) for part in parts]
    found: dict[tuple[int, int], list[tuple[float, int, int]]] = {}
    exists: dict[tuple[int, int], float] = {}
    for part, result in zip(parts, results, strict=True):
        for w, score, first, last, there in zip(part, *map(np.asarray, result), strict=False):
            at, cutting = (w.pair, w.passage), coded[text_of(w)][1]
            exists[at] = max(exists.get(at, 0.0), float(there))
            good = (score > 0) & (last < w.size)
            begins, ends = cutting.start[w.begin + first[good]], cutting.end[w.begin + last[good]]
            found.setdefault(at, []).extend(zip(score[good].tolist(), begins.tolist(), ends.tolist(), strict=True))
    ranked = lambda at: tuple(sorted(found.get(at, []), key=lambda c: (-c[0], c[1], c[2])))
    return [
        [Found(ranked((i, j)), exists.get((i, j), 0.0)) for j in range(len(passages))]
        for i, (_, passages) in enumerate(pairs)
    ]


def _batches(windows: list[Window]) -> list[list[Window]]:
    size = BATCHES[-1]
    return [windows[i : i + size] for i in range(0, len(windows), size)]


def _stack(
    part: Sequence[Window], questions: Sequence[np.ndarray], passages: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Questions and windows of passages as a batch, filled up with empty rows."""
    rows, fields = BATCHES[0] if len(part) == 1 else BATCHES[1], len(questions[0])
    asked = np.zeros((fields, rows, QUESTION), np.int32)
    text = np.zeros((fields, rows, part[0].bucket), np.int32)
    for row, (w, passage) in enumerate(zip(part, passages, strict=True)):
        asked[:, row] = questions[w.pair]
        text[:, row, : w.size] = passage[:, w.begin : w.begin + w.size]
    return asked, text
