"""Answers: the result of a vote of passages on the spans found in them."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxkit.reading import decode
from jaxkit.reading.windows import Found


@dataclasses.dataclass(frozen=True)
class Answer(Mapping):
    """An answer and where it stands; also a mapping with the keys of the former transformers pipeline.

    Attributes:
        text: The answer: `passages[passage][start:end]`; empty if there is none.
        start: Index of its first character in the passage.
        end: One past the index of its last character.
        score: Its score in the vote.
        passage: Index of the passage in which it scored highest; None if there is no answer.
        probability: Highest probability, over the passages, that a passage answers.
        support: Indices of the passages that voted for it.
    """

    text: str
    start: int = 0
    end: int = 0
    score: float = 0.0
    passage: int | None = None
    probability: float = 0.0
    support: tuple[int, ...] = ()

    def __getitem__(self, key: str) -> Any:
        """`answer`, `score`, `start` or `end`."""
        return {"answer": self.text, "score": self.score, "start": self.start, "end": self.end}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("answer", "score", "start", "end"))

    def __len__(self) -> int:
        return 4

    def __bool__(self) -> bool:
        return bool(self.text)


def said(passage: str, found: Found) -> dict[str, tuple[float, int, int]]:
    """What was found in a passage: each text with its highest score, and where it stands with that score."""
    best: dict[str, tuple[float, int, int]] = {}
    for score, a, b in found.candidates:
        if score > best.get(passage[a:b], (0.0, a, b))[0]:
            best[passage[a:b]] = (score, a, b)
    return best


def supported(passages: Sequence[str], found: Sequence[Found]) -> list[float]:
    """How likely each passage is to hold the answer, by what was found in all of them: see `decode.supported`."""
    return decode.supported(passages, [_scores(said(p, f)) for p, f in zip(passages, found, strict=True)])


def _scores(places: Mapping[str, tuple[float, int, int]]) -> dict[str, float]:
    return {text: score for text, (score, _, _) in places.items()}


def ranked(passages: Sequence[str], found: Sequence[Found], top_k: int, threshold: float, vote: str) -> list[Answer]:
    """The best answers from what was found in each passage; only the empty one if the best span scores too low."""
    places = [said(passage, one) for passage, one in zip(passages, found, strict=True)]
    probability = max((f.exists for f in found), default=0.0)
    best = max((score for one in places for score, _, _ in one.values()), default=0.0)
    if best <= 0 or best < threshold:
        return [Answer("", probability=probability, score=best)]
    answers = []
    for text, score, members in decode.vote([_scores(one) for one in places], rule=vote)[:top_k]:
        passage = max((i for i in members if text in places[i]), key=lambda i: places[i][text][0])
        _, a, b = places[passage][text]
        answers.append(Answer(text, a, b, score, passage, probability, tuple(members)))
    return answers
