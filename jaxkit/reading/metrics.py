"""Scores equal to those of the official scorers: SQuAD's, CMRC 2018's, and the tool of the SogouQA contest.

Each takes a predicted text and the reference answers, and gives exact match (0 or 1) and F1 in `[0, 1]`.
"""

import collections
import dataclasses
import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from jaxkit.core import checks
from jaxkit.reading.tokens import HALF_WIDTH

# The characters that CMRC's scorer removes and splits at; a hyphen is among them, other ASCII marks are not.
CMRC_MARKS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
# nltk's tokenizer does the rest there; these are its tokens for what occurs between Chinese characters.
CMRC_LATIN = re.compile(r"\w+(?:[.,']\w+)*|\S")
CMRC_CHINESE = re.compile("[\u4e00-\u9fa5]")
ARTICLES = re.compile(r"\b(a|an|the)\b")


@dataclasses.dataclass(frozen=True)
class Scores:
    """Means over questions, in percent.

    Attributes:
        exact: Exact match (SogouQA calls it accuracy).
        f1: F1.
        count: Number of questions.
        metric: Name of the scorer.
    """

    exact: float
    f1: float
    count: int
    metric: str

    @property
    def mean(self) -> float:
        """Mean of exact match and F1, as a share: SogouQA's final score."""
        return (self.exact + self.f1) / 200

    def __str__(self) -> str:
        return f"EM {self.exact:.1f} F1 {self.f1:.1f} ({self.metric}, {self.count} questions)"


def squad(prediction: str, answers: Sequence[str]) -> tuple[float, float]:
    """SQuAD's exact match and F1: words in lower case, without punctuation or articles; the best over the references.

    Example:
        >>> from jaxkit.reading import metrics
        >>> metrics.squad("the Norman dynasty", ["Normans", "Norman Dynasty."])
        (1.0, 1.0)
    """
    words = lambda s: ARTICLES.sub(" ", "".join(c for c in s.lower() if c not in string.punctuation)).split()
    own = words(prediction)
    scores = []
    for answer in answers or ("",):
        theirs = words(answer)
        f1 = _f1(_overlap(own, theirs), len(own), len(theirs)) if own and theirs else float(own == theirs)
        scores.append((float(own == theirs), f1))
    return max(s[0] for s in scores), max(s[1] for s in scores)


def cmrc(prediction: str, answers: Sequence[str]) -> tuple[float, float]:
    """CMRC 2018's exact match (without marks) and F1 (longest common run of its mixed segmentation).

    Example:
        >>> from jaxkit.reading import metrics
        >>> exact, f1 = metrics.cmrc("《战史演武》", ["「战史演武」&「争霸演武」"])
        >>> exact, round(f1, 4)
        (0.0, 0.6154)
    """
    bare = lambda s: "".join(c for c in s.lower().strip() if c not in CMRC_MARKS)
    own, scores = _segments(prediction), []
    for answer in answers or ("",):
        theirs = _segments(answer)
        scores.append((float(bare(prediction) == bare(answer)), _f1(_common_run(own, theirs), len(own), len(theirs))))
    return max(s[0] for s in scores), max(s[1] for s in scores)


def sogou(prediction: str, answers: Sequence[str]) -> tuple[float, float]:
    """SogouQA's accuracy and character F1; a list of things is right in any order.

    Example:
        >>> from jaxkit.reading import metrics
        >>> metrics.sogou("印度、巴西，俄罗斯", ["巴西 俄罗斯 印度"])
        (1.0, 1.0)
    """
    own = normalise(prediction)
    if not own:
        return 0.0, 0.0
    exact, f1 = 0.0, 0.0
    for answer in answers:
        theirs = normalise(answer)
        exact = max(exact, float(own == theirs or _parts(prediction) == _parts(answer)))
        f1 = max(f1, _f1(_overlap(own, theirs), len(own), len(theirs)))
    return exact, f1


METRICS: dict[str, Callable[[str, Sequence[str]], tuple[float, float]]] = {"squad": squad, "cmrc": cmrc, "sogou": sogou}


def score_answers(predictions: Iterable[str], references: Iterable[Sequence[str]], metric: str) -> Scores:
    """Mean scores over questions.

    Args:
        predictions: One text per question, empty for no answer.
        references: Reference answers of each question.
        metric: `"squad"`, `"cmrc"` or `"sogou"`.

    Returns:
        `Scores`, in percent.

    Raises:
        ValueError: `metric` is unknown, or the lengths differ.
    """
    checks.one_of("metric", metric, METRICS)
    pairs = [METRICS[metric](p, r) for p, r in zip(predictions, references, strict=True)]
    count = max(len(pairs), 1)
    return Scores(100 * sum(p[0] for p in pairs) / count, 100 * sum(p[1] for p in pairs) / count, len(pairs), metric)


def auc(score: np.ndarray, right: np.ndarray) -> float:
    """Area under the ROC curve: the probability that a right item scores above a wrong one (ties count half)."""
    order = np.argsort(score, kind="stable")
    ranks = np.empty(len(score))
    ranks[order] = np.arange(1, len(score) + 1)
    for value in np.unique(score):
        ranks[score == value] = ranks[score == value].mean()
    n, m = int(right.sum()), int((~right).sum())
    return float((ranks[right].sum() - n * (n + 1) / 2) / max(n * m, 1))


def normalise(text: str) -> str:
    """SogouQA's normal form: half width, lower case, no punctuation, no white space."""
    return "".join(_spaced(text).split())


def _spaced(text: str) -> str:
    """Half width, lower case (ASCII only, like the original in Python 2), with punctuation as spaces."""
    lowered = "".join(c.lower() if c.isascii() else c for c in text.translate(HALF_WIDTH))
    return "".join(" " if unicodedata.category(c)[0] in "PS" else c for c in lowered)


def _parts(text: str) -> frozenset[str]:
    return frozenset(_spaced(text).split())


def _overlap(own: Sequence[str], theirs: Sequence[str]) -> int:
    return sum((collections.Counter(own) & collections.Counter(theirs)).values())


def _f1(common: int, own: int, theirs: int) -> float:
    return 2 * common / (own + theirs) if common else 0.0


def _segments(text: str) -> list[str]:
    """CMRC's mixed segmentation without marks: each Chinese character, and the words between them.

    As in the original, a mark is dropped before anything is split, so that it does not separate the letters around it.
    """
    segments, between = [], ""
    for c in text.lower().strip():
        if CMRC_CHINESE.match(c):
            segments += [*CMRC_LATIN.findall(between), c]
            between = ""
        elif c not in CMRC_MARKS:
            between += c
    return segments + CMRC_LATIN.findall(between)


def _common_run(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common contiguous run."""
    best, row = 0, [0] * (len(b) + 1)
    for x in a:
        row = [0] + [row[j] + 1 if x == y else 0 for j, y in enumerate(b)]
        best = max(best, *row)
    return best
