"""From scores of tokens to an answer: the best spans of a passage, and the vote of the passages."""

import collections
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxkit.core import checks
from jaxkit.reading.metrics import normalise

VOTES = ("smoothed", "sum", "squares", "max")
VOTE = "sum"  # a reader's rule: it was ahead of the article's for each of eight readers (`benchmarks/reading.py`)


@functools.partial(jax.jit, static_argnames=("max_answer_tokens", "count"))
def spans(
    start: Float[Array, "b n"], end: Float[Array, "b n"], *, max_answer_tokens: int, count: int = 8
) -> tuple[Float[Array, "b count"], Int[Array, "b count"], Int[Array, "b count"]]:
    """The best spans of each row: `start[i] * end[j]` with `i <= j < i + max_answer_tokens`.

    Args:
        start: Probability that the answer starts at each token; 0 at padding.
        end: Probability that it ends there (inclusive).
        max_answer_tokens: Most tokens of an answer.
        count: Number of spans per row.

    Returns:
        Scores in decreasing order, first tokens, last tokens (inclusive).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit.reading import decode
        >>> start, end = jnp.array([[0.1, 0.9, 0.2]]), jnp.array([[0.9, 0.1, 0.8]])
        >>> score, first, last = decode.spans(start, end, max_answer_tokens=2)
        >>> round(float(score[0, 0]), 2), int(first[0, 0]), int(last[0, 0])
        (0.72, 1, 2)
    """
    rows, size = start.shape
    max_answer_tokens, count = min(max_answer_tokens, size), min(count, size)
    ends = jnp.pad(end, ((0, 0), (0, max_answer_tokens - 1)))
    band = jnp.stack([ends[:, o : o + size] for o in range(max_answer_tokens)], axis=2) * start[:, :, None]
    # The best `count` spans start at the `count` places with the best spans: two short sorts instead of a long one.
    _, place = jax.lax.top_k(jnp.max(band, axis=2), count)
    near = jnp.take_along_axis(band, place[:, :, None], axis=1)
    best, at = jax.lax.top_k(near.reshape(rows, -1), count)
    first = jnp.take_along_axis(place, at // max_answer_tokens, axis=1)
    return best, first, first + at % max_answer_tokens


def vote(candidates: Sequence[Mapping[str, float]], *, rule: str = "smoothed") -> list[tuple[str, float, list[int]]]:
    """One ranking from the candidates of several passages.

    Args:
        candidates: For each passage: answer text -> score in `[0, 1]` (once per passage, its highest).
        rule: `"smoothed"` is the article's, `sum s^2 / (1 + sum s)`; also `"sum"`, `"squares"`, `"max"`.

    Returns:
        `(text, score, passages that voted)` in decreasing order of score. Texts that agree up to case, width and
        punctuation are one answer; the variant with the highest single score is shown.

    Raises:
        ValueError: `rule` is unknown.

    Example:
        >>> from jaxkit.reading import decode
        >>> [(text, round(s, 4)) for text, s, _ in decode.vote([{"A": 0.7}] + [{"B": 0.2}] * 4)]
        [('A', 0.2882), ('B', 0.0889)]
    """
    checks.one_of("rule", rule, VOTES)
    groups: dict[str, dict[int, tuple[float, str]]] = collections.defaultdict(dict)
    for passage, found in enumerate(candidates):
        for text, score in found.items():
            group = groups[normalise(text) or text]
            group[passage] = max(group.get(passage, (-1.0, "")), (float(score), text))
    ranking = []
    for members in groups.values():
        scores = [score for score, _ in members.values()]
        ranking.append((max(members.values())[1], _combine(scores, rule), sorted(members)))
    return sorted(ranking, key=lambda item: (-item[1], item[0]))


def supported(passages: Sequence[str], candidates: Sequence[Mapping[str, float]]) -> list[float]:
    """How likely each passage is to hold the answer, by what all passages of a question say.

    Args:
        passages: The texts.
        candidates: As for `vote`.

    Returns:
        For each passage, the share of all scores that went to texts that occur in it.

    Example:
        >>> from jaxkit.reading import decode
        >>> said = [{"A": 0.6}, {"B": 0.2}, {}]
        >>> [round(share, 2) for share in decode.supported(["It is A.", "It is B.", "B, not A."], said)]
        [0.75, 0.25, 1.0]
    """
    shares = [(normalise(text) or text, score) for text, score, _ in vote(candidates, rule="sum")]
    total = sum(score for _, score in shares) or 1.0
    return [sum(score for text, score in shares if text in normalise(p)) / total for p in passages]


def _combine(scores: Sequence[float], rule: str) -> float:
    squares = sum(s * s for s in scores)
    values = {"smoothed": squares / (1 + sum(scores)), "sum": sum(scores), "squares": squares, "max": max(scores)}
    return values[rule]
