"""Text to tokens with exact offsets: `text[start:end]` is always the token.

One tokenizer for both scripts: a CJK character | digits | Latin (or other) letters | any other character.
jieba, where it is installed (extra `zh`), adds words: which word covers a token, its part of speech, its ends.
"""

import dataclasses
import functools
import re
import unicodedata
import warnings
import zlib
from typing import Any

import numpy as np

from jaxkit.core import checks

CJK = "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
TOKEN = re.compile(rf"[{CJK}]|[^\W\D]+|[^\W\d_{CJK}]+|\S")
ARTICLE = re.compile(rf"[{CJK}]|\S")  # the article's characters: each digit and letter by itself
HALF_WIDTH = {code: code - 65248 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
NUMERALS = frozenset("〇零一二三四五六七八九十百千万亿兩两几数")
STOPS, PAUSES = frozenset("。！？.!?;；…"), frozenset(",，、:：-—–~～/·")
OPENS, CLOSES = frozenset("([{（【《〈「『“‘<\"'"), frozenset(")]}）】》〉」』”’>")
ENDINGS = "ations ation ating ated ates ings ing ies ied ers er est ed es ly al e s y".split()  # longer ones first
KINDS = 18  # values of `kind`; 0 is padding
TAGS = ("x", "nr", "ns", "nt", "nz", "n", "v", "a", "d", "m", "q", "t", "r", "p", "c", "u", "f", "i", "eng", "other")
TAG_CODES = 1 + 4 * len(TAGS)  # 0: no word known; else 1 + 4 * part of speech + place (inside, begin, end, both)


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Tokens of a text and where they lie.

    Attributes:
        text: The text.
        start: First character of each token, shape `(n,)`.
        end: One past its last character, shape `(n,)`.
    """

    text: str
    start: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def words(self) -> list[str]:
        """The tokens as strings."""
        return [self.text[a:b] for a, b in zip(self.start, self.end, strict=True)]


def tokenize(text: str, *, units: str = "mixed") -> Tokens:
    """Cut a text into tokens; white space belongs to no token.

    Args:
        text: Any text.
        units: `"mixed"`: CJK character | digits | letters | other. `"character"`: every character by itself.
            `"word"`: jieba's words, with every digit and Latin letter by itself (as in the article; needs extra `zh`).

    Returns:
        The tokens, with offsets into the unchanged `text`.

    Raises:
        ValueError: `units` is unknown, or jieba is needed but not installed.

    Example:
        >>> from jaxkit import reading
        >>> reading.tokenize("白云山海拔382米, Guangzhou").words()
        ['白', '云', '山', '海', '拔', '382', '米', ',', 'Guangzhou']
    """
    checks.one_of("units", units, ("mixed", "character", "word"))
    if units == "word":
        if jieba_tokenizer() is None:
            raise ValueError("Word units need jieba, which is not installed: pip install 'jaxkit[zh]'.")
        spans = []
        for start, end, _ in segment(text):
            split = text[start:end].isascii()
            spans += [(i, i + 1) for i in range(start, end) if not text[i].isspace()] if split else [(start, end)]
        spans = [(a, b) for a, b in spans if text[a:b].strip()]
    else:
        pattern = TOKEN if units == "mixed" else ARTICLE
        spans = [match.span() for match in pattern.finditer(text)]
    table = np.array(spans, np.int32).reshape(-1, 2)
    return Tokens(text, table[:, 0], table[:, 1])


def normal(token: str) -> str:
    """The form in which tokens are compared: half width and lower case."""
    return token.translate(HALF_WIDTH).lower()


def vocabulary_key(token: str) -> str:
    """The form under which a token is looked up in a vocabulary: of a long number, only the length counts."""
    token = normal(token)
    return f"#{min(len(token), 8)}" if token.isdecimal() and len(token) > 1 else token


def stem(token: str) -> str:
    """A word without its English ending, roughly: enough to see that "founded" and "founding" are one word."""
    if not token.isascii() or len(token) < 5:
        return token
    ending = next((e for e in ENDINGS if token.endswith(e) and len(token) - len(e) >= 3), "")
    return token[: len(token) - len(ending)]


def fingerprint(token: str) -> int:
    """A positive 31-bit number: equal for equal tokens, in every process (Python's own hash is salted)."""
    return (zlib.crc32(token.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF) or 1


def kind(token: str) -> int:
    """What a token looks like, `1 ... KINDS - 1`: script, case, length of a number, sort of punctuation."""
    token = token.translate(HALF_WIDTH)
    first = token[0]
    if token.isdecimal():
        return 5 + min(len(token), 5)  # 6 ... 10
    if first in NUMERALS:
        return 2
    for code, members in ((11, STOPS), (12, PAUSES), (13, OPENS), (14, CLOSES)):
        if first in members:
            return code
    if not first.isalpha():
        return 16 if unicodedata.category(first)[0] == "S" else 15
    if unicodedata.category(first) == "Lo":
        return 1 if len(token) == 1 else 17
    if token.islower():
        return 3
    return 4 if token.istitle() or not token[1:].isupper() or len(token) == 1 else 5


@functools.cache
def jieba_tokenizer() -> Any:
    """Jieba's tokenizer with its dictionary loaded (once), or None if it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes and pkg_resources in jieba itself
            import jieba
    except ImportError:
        return None
    jieba.setLogLevel(60)
    tokenizer = jieba.Tokenizer()
    tokenizer.initialize()
    return tokenizer


@functools.cache
def parts_of_speech() -> dict[str, int]:
    """Word -> index into `TAGS`, from jieba's dictionary."""
    tokenizer = jieba_tokenizer()
    if tokenizer is None:
        return {}
    code = {tag: i for i, tag in enumerate(TAGS)}
    found = {}
    with tokenizer.get_dict_file() as lines:
        for line in lines:
            word, *rest = line.decode("utf-8").split()
            tag = rest[-1] if len(rest) > 1 else "x"
            found[word] = code.get(tag, code.get(tag[:2], code.get(tag[0], code["other"])))
    return found


def segment(text: str) -> list[tuple[int, int, int]]:
    """Jieba's words as `(start, end, part of speech)`; none without jieba."""
    tokenizer = jieba_tokenizer()
    if tokenizer is None:
        return []
    tags, words, at = parts_of_speech(), [], 0
    for word in tokenizer.cut(text, HMM=True):
        code = tags.get(word)
        if code is None:
            code = TAGS.index("m") if word[0].isdecimal() else TAGS.index("eng") if word.isascii() else 0
        words.append((at, at + len(word), code))
        at += len(word)
    return words
