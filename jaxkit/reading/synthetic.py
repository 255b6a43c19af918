"""Questions made from templates, in Chinese and English: for tests, first runs and machines without data.

Each passage states a few facts about several people, cities or companies; a question asks for one of them. The others
are distractors: without the question, the answer cannot be known.
"""

import dataclasses
import random

from jaxkit.core import checks
from jaxkit.reading.data import Dataset, Example, Passage

SURNAMES, GIVEN = "赵钱孙李周吴郑王冯陈卫蒋沈韩杨", "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超兰霞平刚桂"
FIRST, LAST = "白青黑红长大南北东西金银", "云石水松龙凤马沙岭关河湖"
NAMES = "Ada Brian Clara David Emma Frank Grace Henry Irene Jacob Karen Louis Maria Nolan Olga Peter".split()
FAMILIES = "Adams Baker Clark Dixon Evans Foster Gibson Harris Irving Jensen Keller Larson Mason Norris".split()
PLACES = "Avalon Brighton Camden Dover Easton Fairfax Galway Hudson Ithaca Kingston Lisbon Malvern Norwich".split()
TRADES_ZH = "医生 教师 工程师 律师 画家 作家 农民 记者 厨师 演员".split()
TRADES_EN = "doctor nurse engineer lawyer painter writer farmer reporter cook actor".split()


@dataclasses.dataclass(frozen=True)
class Fact:
    """A relation: how it is stated and asked; `{x}` is the subject, `{v}` the value."""

    kind: str
    states: tuple[str, ...]
    asks: tuple[str, ...]


CHINESE = {
    "person": (
        Fact("year", ("{x}出生于{v}。", "{v}，{x}出生。"), ("{x}是哪一年出生的？", "{x}出生于哪一年？")),
        Fact("place", ("{x}住在{v}。", "后来{x}搬到{v}居住。"), ("{x}住在哪里？", "{x}居住在什么地方？")),
        Fact("trade", ("{x}的职业是{v}。", "{x}是一名{v}。"), ("{x}的职业是什么？", "{x}是做什么工作的？")),
        Fact("person", ("{x}的老师是{v}。", "{v}是{x}的老师。"), ("{x}的老师是谁？", "谁是{x}的老师？")),
    ),
    "hill": (
        Fact("metres", ("{x}海拔{v}。", "{x}的主峰高{v}。"), ("{x}的海拔是多少？", "{x}有多高？")),
        Fact("place", ("{x}坐落在{v}。", "{x}位于{v}。"), ("{x}在哪里？", "{x}位于什么地方？")),
    ),
}
ENGLISH = {
    "person": (
        Fact(
            "year",
            ("{x} was born in {v}.", "In {v}, {x} was born."),
            ("When was {x} born?", "What year was {x} born in?"),
        ),
        Fact(
            "place",
            ("{x} lives in {v}.", "Later {x} moved to {v}."),
            ("Where does {x} live?", "Where is the home of {x}?"),
        ),
        Fact(
            "trade",
            ("{x} works as a {v}.", "The job of {x} is that of a {v}."),
            ("What is the job of {x}?", "What does {x} do?"),
        ),
        Fact(
            "person",
            ("{x} studied under {v}.", "{v} was the teacher of {x}."),
            ("Who taught {x}?", "Who was the teacher of {x}?"),
        ),
    ),
    "hill": (
        Fact(
            "metres",
            ("{x} is {v} high.", "The top of {x} reaches {v}."),
            ("How high is {x}?", "What is the height of {x}?"),
        ),
        Fact("place", ("{x} lies in {v}.", "{x} stands near {v}."), ("Where is {x}?", "Where does {x} lie?")),
    ),
}


def synthetic(count: int, *, seed: int = 0, language: str = "both", unanswerable: float = 0.0) -> Dataset:
    """Questions with passages made from templates.

    Args:
        count: Number of questions.
        seed: The same seed gives the same questions; different seeds almost always give different ones.
        language: `"zh"`, `"en"` or `"both"`.
        unanswerable: Share of questions whose passage states everything but what is asked.

    Returns:
        A `Dataset` of single passages.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> from jaxkit import reading
        >>> example = reading.synthetic(1, seed=1, language="en").examples[0]
        >>> (a, b), text = example.passages[0].spans[0], example.passages[0].text
        >>> text[a:b] == example.answers[0]
        True
    """
    checks.require(count > 0, "count", "be positive", f"is {count}")
    checks.one_of("language", language, ("zh", "en", "both"))
    checks.require(0 <= unanswerable <= 1, "unanswerable", "lie in [0, 1]", f"is {unanswerable}")
    draw = random.Random(f"{seed} {language}")  # noqa: S311  (no secrets here)
    tongues = ("zh", "en") if language == "both" else (language,)
    return Dataset(
        tuple(_example(draw, tongues[i % len(tongues)], i, draw.random() < unanswerable) for i in range(count))
    )


def _example(draw: random.Random, tongue: str, number: int, empty: bool) -> Example:  # noqa: FBT001
    kinds = CHINESE if tongue == "zh" else ENGLISH
    stated: list[tuple[str, Fact, str, str]] = []
    used: set[str] = set()
    for kind in draw.choices(list(kinds), k=draw.randint(2, 4)):
        subject = _fresh(draw, "person" if kind == "person" else "hill", tongue, used)
        for fact in draw.sample(kinds[kind], k=draw.randint(1, min(3, len(kinds[kind])))):
            value = _fresh(draw, fact.kind, tongue, used)
            stated.append((subject, fact, value, draw.choice(fact.states)))
    draw.shuffle(stated)
    chosen = draw.randrange(len(stated))
    subject, fact, value, _ = stated[chosen]
    text, span, gap = "", None, "" if tongue == "zh" else " "
    for i, (x, _, v, form) in enumerate(stated):
        if i == chosen and empty:
            continue
        text += gap if text else ""
        before = form.split("{v}")[0].replace("{x}", x)
        if i == chosen:
            span = (len(text) + len(before), len(text) + len(before) + len(v))
        text += form.replace("{x}", x).replace("{v}", v)
    question = draw.choice(fact.asks).replace("{x}", subject)
    spans = () if span is None else (span,)
    return Example(
        question, (Passage(text, spans),), (value,) if spans else (), f"{tongue}{number}", f"{tongue}{number}"
    )


def _fresh(draw: random.Random, kind: str, tongue: str, used: set[str]) -> str:
    """A value not yet in the passage."""
    while True:
        value = _value(draw, kind, tongue)
        if not any(value in other or other in value for other in used):
            used.add(value)
            return value


def _value(draw: random.Random, kind: str, tongue: str) -> str:
    chinese = tongue == "zh"
    if kind == "year":
        return f"{draw.randint(1900, 2020)}{'年' if chinese else ''}"
    if kind == "metres":
        return f"{draw.randint(200, 8800)}{'米' if chinese else ' metres'}"
    if kind == "trade":
        return draw.choice(TRADES_ZH if chinese else TRADES_EN)
    if kind == "person":
        if chinese:
            return draw.choice(SURNAMES) + draw.choice(GIVEN) + draw.choice(GIVEN)
        return f"{draw.choice(NAMES)} {draw.choice(FAMILIES)}"
    if kind == "place":
        return draw.choice(FIRST) + draw.choice(LAST) + draw.choice("县市镇") if chinese else draw.choice(PLACES)
    return draw.choice(FIRST) + draw.choice(LAST) + "山" if chinese else f"Mount {draw.choice(FAMILIES)}"
