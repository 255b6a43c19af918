"""Tokens to integers: a vocabulary, and the five numbers that stand for a token.

The numbers are the token's vocabulary entry, the fingerprint by which it is compared (so that words outside the
vocabulary match too), its kind, the fingerprint of the word that covers it, and that word's part of speech with the
token's place in it.
"""

import collections
import dataclasses
import functools
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

import jax
import numpy as np

from jaxkit.core import checks
from jaxkit.core.struct import struct
from jaxkit.reading import tokens as tk

PAD, UNKNOWN = 0, 1
LAC_HEADER, LAC_WIDTH = 29, 128  # bytes before the table of jieba's LAC model, and its width
SCALE = 0.3  # standard deviation of the initial embedding


@struct
class Coded:
    """Tokens as integers, all of the same shape `(..., n)`; 0 is padding in each.

    Attributes:
        ids: Row of the embedding (1 for unknown tokens).
        match: Fingerprint of the token in its normal form.
        kind: Kind of the token by its looks, below `tokens.KINDS`.
        word: Fingerprint of the word that covers it (of the token's stem without jieba).
        tag: Part of speech and place in the word, below `tokens.TAG_CODES` (0 without jieba).
    """

    ids: Any  # NumPy's arrays on the host, JAX's in a program
    match: Any
    kind: Any
    word: Any
    tag: Any


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Keys of the embedding's rows from row 2 on; rows 0 and 1 are padding and unknown tokens.

    Attributes:
        keys: The keys, most frequent first.
        words: Whether words are looked up too (needs jieba).

    Example:
        >>> from jaxkit import reading
        >>> vocabulary = reading.Vocabulary.of(["the cat sat", "the dog"], min_count=1, words=False)
        >>> coded, tokens = vocabulary.encode("The bird")
        >>> coded.ids.tolist(), tokens.words()
        ([2, 1], ['The', 'bird'])
    """

    keys: tuple[str, ...]
    words: bool = False

    @classmethod
    def of(
        cls, texts: Iterable[str], *, min_count: int = 2, also: Sequence[str] = (), words: bool | None = None
    ) -> "Vocabulary":
        """The tokens that occur at least `min_count` times in `texts`, and those in `also`.

        Args:
            texts: Training texts.
            min_count: Least number of occurrences.
            also: Further keys, such as the characters of a pretrained table.
            words: Whether to use jieba's words; by default if jieba is installed.
        """
        counts = collections.Counter(tk.vocabulary_key(w) for text in texts for w in tk.TOKEN.findall(text))
        frequent = [key for key, count in counts.most_common() if count >= min_count]
        use = tk.jieba_tokenizer() is not None if words is None else words
        return cls(tuple(dict.fromkeys([*frequent, *also])), use)

    def __len__(self) -> int:
        return len(self.keys) + 2

    def with_keys(self, more: Iterable[str]) -> "Vocabulary":
        """The same with further keys after its own."""
        return Vocabulary(tuple(dict.fromkeys([*self.keys, *more])), self.words)

    @functools.cached_property
    def index(self) -> dict[str, int]:
        """Key -> row of the embedding."""
        return {key: row for row, key in enumerate(self.keys, 2)}

    @functools.cached_property
    def _known(self) -> dict[str, tuple[int, int, int, int]]:
        return {}

    def look_up(self, token: str) -> tuple[int, int, int, int]:
        """Row, fingerprint, kind, and fingerprint of the stem of a token."""
        found = self._known.get(token)
        if found is None:
            if len(self._known) > 200_000:  # bounded: a service may read for years
                self._known.clear()
            row = self.index.get(tk.vocabulary_key(token), UNKNOWN)
            normal = tk.normal(token)
            prints = tk.fingerprint(normal), tk.fingerprint(tk.stem(normal))
            found = self._known[token] = (row, prints[0], tk.kind(token), prints[1])
        return found

    def encode(self, text: str) -> tuple[Coded, tk.Tokens]:
        """The integers of a text's tokens, and the tokens with their offsets."""
        cut = tk.tokenize(text)
        table = np.array([self.look_up(w) for w in cut.words()], np.int32).reshape(-1, 4)
        word, tag = table[:, 3], np.zeros(len(cut), np.int32)
        spans = tk.segment(text) if self.words and len(cut) else []
        if spans:
            bounds = np.array(spans, np.int32)
            at = np.searchsorted(bounds[:, 0], cut.start, side="right") - 1
            prints = np.array([tk.fingerprint(tk.normal(text[a:b])) for a, b, _ in spans], np.int32)
            word = prints[at]
            place = (cut.start == bounds[at, 0]) + 2 * (cut.end == bounds[at, 1])
            tag = (1 + 4 * bounds[at, 2] + place).astype(np.int32)
        return Coded(table[:, 0], table[:, 1], table[:, 2], word, tag), cut


def pad(coded: Coded, length: int, *, keep: str = "start") -> Coded:
    """Cut or pad with zeros to `length` tokens, keeping the `start` or the `end` of what is too long."""
    checks.one_of("keep", keep, ("start", "end"))

    def fit(v: np.ndarray) -> np.ndarray:
        v = np.asarray(v)[:length] if keep == "start" else np.asarray(v)[max(len(v) - length, 0) :]
        return np.pad(v, (0, length - len(v)))

    return jax.tree.map(fit, coded)


@functools.cache
def lac_table() -> tuple[tuple[str, ...], np.ndarray] | None:
    """The character vectors of jieba's LAC model, read from where pip put them; None without jieba.

    Keys, and rows `(n, 128)`, sorted by the characters' frequency.
    """
    if tk.jieba_tokenizer() is None:
        return None
    folder = resources.files("jieba") / "lac_small"
    try:
        lines = (folder / "word.dic").read_text(encoding="utf-8").splitlines()
        raw = (folder / "model_baseline" / "word_emb").read_bytes()[LAC_HEADER:]
    except OSError:  # a distribution of jieba without the model
        return None
    table = np.frombuffer(raw[: len(raw) // 4 * 4], "<f4")
    rows = [line.split("\t", 1) for line in lines if "\t" in line]
    if table.size % LAC_WIDTH or not rows or max(int(i) for i, _ in rows) * LAC_WIDTH >= table.size:
        return None
    order = [int(i) for i, _ in rows]
    return tuple(key for _, key in rows), table.reshape(-1, LAC_WIDTH)[order]


def initial_embedding(vocabulary: Vocabulary, width: int, seed: int, *, pretrained: bool = True) -> np.ndarray:
    """Initial embedding `(len(vocabulary), width)`: normal, but LAC's vectors where there are any (if `pretrained`).

    A long number gets the mean of the vectors of the ten digits.
    """
    table = (SCALE * np.random.default_rng(seed).standard_normal((len(vocabulary), width))).astype(np.float32)
    table[PAD] = 0
    lac = lac_table() if pretrained else None
    if lac is None or width != LAC_WIDTH:
        return table
    vectors = lac[1] * (SCALE / lac[1].std())
    row = {key: i for i, key in enumerate(lac[0])}
    for key, i in vocabulary.index.items():
        if key in row:
            table[i] = vectors[row[key]]
        elif key[0] == "#" and len(key) == 2:
            table[i] = vectors[[row[digit] for digit in "0123456789" if digit in row]].mean(0)
    return table
