"""The data sets of Chinese and English questions: where they lie, and which are for training and for testing."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxkit.core import checks
from jaxkit.core.environment import data_root
from jaxkit.reading import data
from jaxkit.reading.data import Dataset
from jaxkit.reading.metrics import Scores
from jaxkit.reading.reader import Reader

TRAINING = ("cmrc-train", "drcd-dev", "webqa")
TESTS = {"cmrc-dev": "cmrc", "drcd-test": "cmrc", "webqa-ir": "sogou"}  # and their metrics


def corpus(name: str) -> Path:
    """The path of one of the data sets in the data folder (`$JAXKIT_DATA`); it may not exist."""
    files = {
        "cmrc-train": "cmrc2018/cmrc2018_train.json.xz",
        "cmrc-dev": "cmrc2018/cmrc2018_dev.json.xz",
        "drcd-dev": "drcd/DRCD_dev.json.xz",
        "drcd-test": "drcd/DRCD_test.json.xz",
        "webqa": "webqa/webqa_2824.json.xz",
        "webqa-ir": "webqa/webqa_ir_100.json.xz",
        "squad": "squad11/squad11_9k.json.xz",
    }
    checks.one_of("name", name, files)
    return data_root() / "reading" / files[name]


def training_set(names: Sequence[str] = TRAINING, say: Callable[[str], Any] = lambda line: None) -> Dataset:
    """The questions of some data sets together, in simplified characters.

    Args:
        names: Data sets, as for `corpus`.
        say: Called with a line about each set; sets in traditional characters are left out if opencc is not installed.

    Raises:
        FileNotFoundError: One of them is missing.
    """
    parts: list[Dataset] = []
    for name in names:
        try:
            found = simplified_corpus(name)
        except ValueError as error:
            say(f"{name} is left out: {error}")
            continue
        say(f"{name}: {found}")
        parts += [found, found] if name == "webqa" else [found]  # few and short, hence twice
    return sum(parts, Dataset(()))


def corpus_scores(reader: Reader, *, limit: int | None = None) -> dict[str, Scores]:
    """Scores on the available test sets, on at most `limit` questions spread over each."""
    scores = {}
    for name, metric in TESTS.items():
        if not corpus(name).is_file():
            continue
        try:
            examples = simplified_corpus(name).examples
        except ValueError:  # traditional characters, and nothing is installed that simplifies them
            continue
        every = max(len(examples) // (limit or len(examples)), 1)  # spread over the articles: neighbours are alike
        scores[name] = reader.evaluate(examples[::every][:limit], metric)
    return scores


def simplified_corpus(name: str) -> Dataset:
    """A data set in simplified characters.

    Raises:
        ValueError: Its characters are traditional, and opencc is not installed.
    """
    found = data.read(corpus(name))
    return data.simplified(found) if name.startswith("drcd") else found
