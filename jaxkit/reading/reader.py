"""The reader: it answers, is scored, and explains its answers."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxkit.core import checks
from jaxkit.core.struct import static, struct
from jaxkit.reading import decode, explain, metrics, windows
from jaxkit.reading.answers import Answer, ranked, supported
from jaxkit.reading.config import Architecture
from jaxkit.reading.data import Dataset, Example, Passage
from jaxkit.reading.encode import Vocabulary
from jaxkit.reading.pool import neighbours

# A question and its passages.
Pair = tuple[str, str | Sequence[str]]


@struct
class Reader:
    """A net with its vocabulary, which answers questions from passages.

    Attributes:
        params: Weights.
        architecture: The net.
        vocabulary: The vocabulary.
        max_answer_tokens: Most tokens of an answer.
        threshold: Least score of the best span for which an answer is given (calibrated by `train`).
        report: How it was trained: steps, CPU seconds, scores on held-out questions.

    Example:
        >>> from jaxkit import reading
        >>> data = reading.synthetic(3000)
        >>> vocabulary = reading.Vocabulary.of(p.text for e in data for p in e.passages)
        >>> untrained = reading.Reader(None, reading.Architecture(vocabulary_size=len(vocabulary)), vocabulary)
        >>> untrained.ask("谁？", []).text, untrained.ask("谁？", ["", " "]).text  # nothing to read is no error
        ('', '')
    """

    params: Any
    architecture: Architecture = static()
    vocabulary: Vocabulary = static()
    max_answer_tokens: int = static(default=40)
    threshold: float = 0.0
    report: dict[str, Any] = dataclasses.field(default_factory=dict)

    def ask(
        self, question: str, passages: str | Sequence[str], *, threshold: float | None = None, vote: str = decode.VOTE
    ) -> Answer:
        """Answer a question from passages.

        Args:
            question: The question.
            passages: One text or several, of any length; there may be none, and they may be empty.
            threshold: Least score of the best span; the calibrated one by default. 0 always answers.
            vote: Rule by which the passages vote (see `decode.vote`).

        Returns:
            An `Answer`, which may be empty.
        """
        return self.ask_batch([(question, passages)], threshold=threshold, vote=vote)[0][0]

    def ask_batch(
        self, pairs: Iterable[Pair], *, top_k: int = 1, threshold: float | None = None, vote: str = decode.VOTE
    ) -> list[list[Answer]]:
        """Answer many questions at once, in full batches.

        Args:
            pairs: Questions with their passages.
            top_k: Most answers per question.
            threshold: See `ask`.
            vote: See `ask`.

        Returns:
            For each question, its answers, the best first: at least one, which may be empty.
        """
        checks.require(top_k > 0, "top_k", "be positive", f"is {top_k}")
        pairs = [(q, [p] if isinstance(p, str) else list(p)) for q, p in pairs]
        least = self.threshold if threshold is None else threshold
        found = self._read(pairs)
        return [ranked(passages, f, top_k, least, vote) for (_, passages), f in zip(pairs, found, strict=True)]

    def evaluate(
        self, examples: Iterable[Example], metric: str = "cmrc", *, threshold: float = 0.0, vote: str = decode.VOTE
    ) -> metrics.Scores:
        """Score the answers to examples.

        Args:
            examples: A `Dataset`, or examples.
            metric: `"cmrc"`, `"squad"` or `"sogou"`.
            threshold: See `ask`; by default every question is answered.
            vote: See `ask`.
        """
        examples = list(examples)
        answers = self.ask_batch(_pairs(examples), threshold=threshold, vote=vote)
        return metrics.score_answers([a[0].text for a in answers], [e.answers for e in examples], metric)

    def existence(self, examples: Iterable[Example], *, by: str = "span") -> tuple[np.ndarray, np.ndarray]:
        """For every passage of the examples, how sure the reader is that it answers, and whether it does.

        Args:
            examples: A `Dataset`, or examples.
            by: `"span"`: the score of its best span; `"head"`: only the head for existence; `"vote"`: what all passages
                of the question together make likely (`decode.supported`).
        """
        checks.one_of("by", by, ("span", "head", "vote"))
        examples = list(examples)
        pairs = _pairs(examples)
        found = self._read(pairs)
        if by == "vote":
            sure = [share for (_, p), f in zip(pairs, found, strict=True) for share in supported(p, f)]
        else:
            best = lambda f: f.candidates[0][0] if f.candidates else 0.0
            sure = [best(f) if by == "span" else f.exists for one in found for f in one]
        return np.array(sure), np.array([bool(p.spans) for e in examples for p in e.passages])

    def calibrated(self, dev: Iterable[Example]) -> "Reader":
        """The reader with the threshold that best separates passages that answer from others that share words.

        For each question, one passage of another question is added; the threshold maximises the mean of the share of
        answering passages that are answered and the share of the others that are refused.
        """
        examples = [e for e in dev if any(p.spans for p in e.passages)]
        texts = list(dict.fromkeys(p.text for e in examples for p in e.passages))
        if len(texts) < 2:
            return self
        encode = self.vocabulary.encode
        others = neighbours(
            Dataset(tuple(examples)), texts, [encode(e.question)[0] for e in examples], [encode(t)[0] for t in texts]
        )
        paired = [
            dataclasses.replace(e, passages=(next(p for p in e.passages if p.spans), Passage(texts[others[i, 0]])))
            for i, e in enumerate(examples)
        ]
        score, right = self.existence(paired)
        order = np.argsort(score)
        # With the threshold just above the k-th score, k + 1 passages are refused.
        refused = np.cumsum(~right[order]) / max((~right).sum(), 1)
        answered = 1 - np.cumsum(right[order]) / max(right.sum(), 1)
        k = int(np.argmax(refused + answered))
        threshold = float(score[order][k : k + 2].mean())
        return dataclasses.replace(self, threshold=threshold, report=self.report | {"auc": metrics.auc(score, right)})

    def saliency(self, question: str, passage: str) -> np.ndarray:
        """How much each character matters: the derivative of the answer's log score in the weight of its embedding.

        Args:
            question: The question.
            passage: The passage; only its first 256 tokens are read.

        Returns:
            Shape `(len(passage),)`: zero at white space; all zero if there is nothing to read.
        """
        return explain.saliency(*self._net, question, passage)

    def token_probabilities(self, question: str, passage: str) -> tuple[list[str], np.ndarray, np.ndarray, float]:
        """The first 256 tokens of a passage, the probabilities of start and end at each, and that of existence."""
        return explain.places(*self._net, question, passage)

    @property
    def _net(self) -> tuple[Any, Architecture, Vocabulary, int]:
        return self.params, self.architecture, self.vocabulary, self.max_answer_tokens

    def _read(self, pairs: Sequence[tuple[str, Sequence[str]]]) -> list[list[windows.Found]]:
        return windows.read(*self._net, pairs)


def _pairs(examples: Sequence[Example]) -> list[tuple[str, list[str]]]:
    return [(e.question, [p.text for p in e.passages]) for e in examples]
