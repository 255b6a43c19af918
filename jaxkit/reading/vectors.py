"""Fixed word vectors from a text file as of GloVe or word2vec: on each line a word and its numbers."""

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
    """Pretrained vectors, which training does not change (as in kexue.fm/archives/5409 and 6906).

    Attributes:
        keys: Keys as a `Vocabulary` has them, the most frequent first.
        table: Their vectors, shape `(n, width)`, scaled to a mean square of 1 / 10.
        skipped: Number of lines that were left out, since they do not hold a word and numbers like the others.
    """

    keys: tuple[str, ...]
    table: np.ndarray
    skipped: int = 0

    def rows(self, vocabulary: Vocabulary) -> np.ndarray:
        """A vector for each row of the vocabulary; zeros where there is none."""
        table = np.zeros((len(vocabulary), self.table.shape[1]), np.float32)
        own = {key: i for i, key in enumerate(self.keys)}
        pairs = [(row, own[key]) for key, row in vocabulary.index.items() if key in own]
        if pairs:
            here, there = np.array(pairs).T
            table[here] = self.table[there]
        return table


def read_vectors(path: str | Path, *, most: int = 50_000) -> Vectors:
    """Read word vectors from a UTF-8 text file: on each line a word and its numbers, the most frequent first.

    Args:
        path: The file; a first line of two numbers (word2vec, fastText) is skipped.
        most: Most lines that are read.

    Returns:
        The vectors. Words with the same key, such as all numbers of four digits, share their mean; a malformed line is
        left out and counted in `skipped`.

    Raises:
        ValueError: Half of the lines or more are malformed.
    """
    checks.require(most > 0, "most", "be positive", f"is {most}")
    name = Path(path).name
    with Path(path).open("rb") as file:  # as bytes: only a newline ends a line, and one line may not be UTF-8
        lines = list(itertools.islice(file, most))
    if lines and len(lines[0].split()) == 2:
        del lines[0]
    # Numbers per line: of most lines, not of the first.
    widths = collections.Counter(len(line.split()) - 1 for line in lines)
    width = max(widths.most_common(1)[0][0], 0) if widths else 0
    sums: dict[str, np.ndarray] = {}
    counts: collections.Counter[str] = collections.Counter()
    for word, vector in filter(None, (_parsed(line, width) for line in lines)):
        key = tk.vocabulary_key(word)
        sums[key] = sums.get(key, np.zeros(width, np.float32)) + vector
        counts[key] += 1
    skipped = len(lines) - counts.total()
    what = f"hold a word and {width or 'its'} numbers a line"
    checks.require(2 * skipped < len(lines), "path", what, f"{skipped} of {len(lines)} lines of {name} do not")
    table = np.stack([v / counts[key] for key, v in sums.items()])
    return Vectors(tuple(sums), (table * np.sqrt(0.1 / np.mean(table**2))).astype(np.float32), skipped)


def _parsed(line: bytes, width: int) -> tuple[str, np.ndarray] | None:
    """The word of a line (it may contain spaces, as some of GloVe's do) and its numbers; None for a malformed line."""
    try:
        word, *values = line.decode("utf-8").rstrip().rsplit(" ", width)
        vector = np.array(values, np.float32)
    except ValueError:
        return None
    good = 0 < width == len(vector) and bool(np.all(np.isfinite(vector)))
    return (word, vector) if good else None
