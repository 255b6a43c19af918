"""Scores of answers in words: exact match, and F1 over tokens."""

from collections import Counter
from collections.abc import Hashable, Sequence

from jaxkit.core import checks

Tokens = Sequence[Hashable]


def exact_match(prediction: Tokens, answers: Sequence[Tokens]) -> float:
    """1 if the prediction equals one of the accepted answers, else 0.

    Args:
        prediction: Tokens of the prediction (characters, for Chinese), normalised by the caller.
        answers: The accepted answers, each as tokens.
    """
    checks.require(len(answers) > 0, "answers", "hold at least one answer", "is empty")
    return float(any(list(prediction) == list(answer) for answer in answers))


def f1(prediction: Tokens, answers: Sequence[Tokens]) -> float:
    """Best F1 over the accepted answers, with tokens as bags: a token counts as often as both have it.

    Args:
        prediction: Tokens of the prediction.
        answers: The accepted answers, each as tokens.

    Example:
        >>> from jaxkit.learn import metrics
        >>> metrics.f1("in the park".split(), ["the park".split(), "a park".split()])
        0.8

    References:
        Rajpurkar et al. (2016), SQuAD: 100,000+ questions for machine comprehension of text.
    """
    checks.require(len(answers) > 0, "answers", "hold at least one answer", "is empty")
    return max(_f1(prediction, answer) for answer in answers)


def _f1(prediction: Tokens, answer: Tokens) -> float:
    if not prediction or not answer:
        return float(len(prediction) == len(answer))
    shared = sum((Counter(prediction) & Counter(answer)).values())
    return 2 * shared / (len(prediction) + len(answer))
