"""Fixed word vectors from a file in the form of GloVe's and word2vec's: a word and its numbers a line."""

import collections
import dataclasses
import itertools
from pathlib import Path

import numpy as np

from jaxkit.core import checks
from jaxkit.reading import tokens as tk
from jaxkit.reading.encode import Vocabulary


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Pretrained vectors, which training leaves as they are (kexue.fm 5409 and 6906 do so too).

    Attributes:
        keys: Keys as a `Vocabulary` has them, the most frequent first.
        table: Their vectors, shape `(n, width)`, of mean square 1 / 10.
    """

    keys: tuple[str, ...]
    table: np.ndarray

    def rows(self, vocabulary: Vocabulary) -> np.ndarray:
        """A row for each of the vocabulary's; zeros where there is no vector."""
        table = np.zeros((len(vocabulary), self.table.shape[1]), np.float32)
        own = {key: i for i, key in enumerate(self.keys)}
        pairs = [(row, own[key]) for key, row in vocabulary.index.items() if key in own]
        if pairs:
            here, there = np.array(pairs).T
            table[here] = self.table[there]
        return table


def read_vectors(path: str | Path, *, most: int = 50_000) -> Vectors:
    """Read word vectors from a text file, UTF-8: a word and its numbers a line, the most frequent first.

    Args:
        path: The file; a first line of two numbers (word2vec, fastText) is skipped.
        most: Lines that are read.

    Returns:
        The vectors. Words with the same key share their mean, as all numbers of four digits do.

    Raises:
        ValueError: A line does not hold what the others do.
    """
    checks.require(most > 0, "most", "be positive", f"is {most}")
    name, sums, width = Path(path).name, {}, 0
    counts: collections.Counter[str] = collections.Counter()
    with Path(path).open(encoding="utf-8") as lines:
        for number, line in enumerate(itertools.islice(lines, most), 1):
            word, *values = line.rstrip().split(" ")
            if number == 1 and len(values) == 1:
                continue
            width = width or len(values)
            try:
                vector = np.array(values, np.float32)
            except ValueError:
                vector = np.zeros(0, np.float32)
            good = len(vector) == width > 0 and bool(np.all(np.isfinite(vector)))
            checks.require(good, "path", f"hold a word and {width} numbers a line", f"line {number} of {name} does not")
            key = tk.vocabulary_key(word)
            sums[key] = sums.get(key, 0) + vector
            counts[key] += 1
    checks.require(bool(sums), "path", "hold vectors", f"{name} holds none")
    table = np.stack([v / counts[key] for key, v in sums.items()])
    return Vectors(tuple(sums), (table * np.sqrt(0.1 / np.mean(table**2))).astype(np.float32))
