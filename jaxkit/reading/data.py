"""Question-answering data: SQuAD 1.1 and 2.0, CMRC 2018, DRCD, WebQA in both its forms, SogouQA.

A file may be .json, .json.gz or .json.xz. An answer that does not lie where the file says is sought nearby; the answers
that were moved and those that were given up are counted and reported.
"""

import dataclasses
import gzip
import json
import lzma
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

Span = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Passage:
    """A text and where the answer stands in it.

    Attributes:
        text: The text.
        spans: Half-open character ranges of the answer; empty if the passage does not answer.
    """

    text: str
    spans: tuple[Span, ...] = ()


@dataclasses.dataclass(frozen=True)
class Example:
    """A question, its passages, and the answers that count as right.

    Attributes:
        question: The question.
        passages: The passages to read.
        answers: Reference answers; empty if there is no answer.
        id: Name in the file.
        group: Article or other source: all questions of a group belong in the same part of a split.
    """

    question: str
    passages: tuple[Passage, ...]
    answers: tuple[str, ...] = ()
    id: str = ""
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Examples from a file, and how reading it went.

    Attributes:
        examples: The examples.
        realigned: Number of answers found elsewhere than where the file said.
        dropped: Number of answers found nowhere in their passage: they count in scoring, not in training.
    """

    examples: tuple[Example, ...]
    realigned: int = 0
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    def __add__(self, other: "Dataset") -> "Dataset":
        """The examples of both, one after the other."""
        return Dataset(self.examples + other.examples, self.realigned + other.realigned, self.dropped + other.dropped)

    def __str__(self) -> str:
        return f"{len(self)} questions; {self.realigned} answers realigned, {self.dropped} found nowhere"

    def split(self, fraction: float) -> tuple["Dataset", "Dataset"]:
        """The first `fraction` of the groups (sorted by name), and the rest."""
        groups = sorted({e.group for e in self.examples})
        first = set(groups[: round(fraction * len(groups))])
        inside = tuple(e for e in self.examples if e.group in first)
        outside = tuple(e for e in self.examples if e.group not in first)
        return Dataset(inside), Dataset(outside)


def read(path: str | Path) -> Dataset:
    """Read a file of questions in any of the known formats.

    Args:
        path: A `.json`, `.json.gz` or `.json.xz` file; the format is recognised by its content.

    Returns:
        A `Dataset`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, is not UTF-8, or has none of the known formats.

    Example:
        >>> import json, pathlib, tempfile
        >>> from jaxkit import reading
        >>> qa = {"question": "who?", "id": "1", "answers": [{"text": "Ada", "answer_start": 3}]}
        >>> article = {"title": "t", "paragraphs": [{"context": "Ada wrote it.", "qas": [qa]}]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "a.json"
        ...     _ = path.write_text(json.dumps({"data": [article]}))
        ...     print(reading.read(path), reading.read(path).examples[0].passages[0].spans)
        1 questions; 1 answers realigned, 0 found nowhere ((0, 3),)
    """
    path = Path(path)
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    try:
        with opener(path, "rb") as file:
            text = file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"Argument `path` must be UTF-8 text, but {path.name} is not: byte {error.start}.") from None
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise ValueError(f"Argument `path` must be an undamaged file, but {path.name} is not: {error}.") from None
    content = _parse(text, path.name)
    try:
        found, content = _form(content, path.name)
        collected = _Collector()
        return Dataset(tuple(found(content, collected)), collected.realigned, collected.dropped)
    except (KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__} {error}"
        raise ValueError(f"Argument `path` must follow its form, but {path.name} breaks it: {what}.") from None


def simplified(data: Dataset) -> Dataset:
    """Turn traditional characters into simplified ones (opencc, extra `zh`), and look for the answers again.

    Raises:
        ValueError: opencc is not installed.
    """
    try:
        import opencc
    except ImportError:
        raise ValueError("Simplifying needs opencc, which is not installed: pip install 'jaxkit[zh]'.") from None
    known: dict[str, str] = {}
    converter, collected = opencc.OpenCC("t2s"), _Collector()

    def convert(text: str) -> str:
        if text not in known:
            known[text] = converter.convert(text)
        return known[text]

    def change(example: Example) -> Example:
        passages = []
        for passage in example.passages:
            text = convert(passage.text)
            wanted = [(convert(passage.text[a:b]), a) for a, b in passage.spans]
            passages.append(Passage(text, collected.align(text, wanted)))
        answers = tuple(map(convert, example.answers))
        return dataclasses.replace(
            example, question=convert(example.question), passages=tuple(passages), answers=answers
        )

    return Dataset(tuple(map(change, data)), data.realigned + collected.realigned, data.dropped + collected.dropped)


class _Collector:
    """Aligns answers and counts what it had to do."""

    def __init__(self) -> None:
        self.realigned = self.dropped = 0

    def align(self, text: str, wanted: Iterable[tuple[str, int | None]]) -> tuple[Span, ...]:
        """Where the answers stand: at the given place, or at the nearest place with the same text."""
        spans = []
        for answer, start in wanted:
            if not answer:
                continue
            if start is not None and 0 <= start and text.startswith(answer, start):
                spans.append((start, start + len(answer)))
                continue
            matches = occurrences(text, answer)
            if not matches:
                self.dropped += 1
                continue
            if start is not None:
                self.realigned += 1
                matches = [min(matches, key=lambda m, at=start: abs(m[0] - at))]
            spans += matches
        return tuple(dict.fromkeys(spans))


def occurrences(text: str, answer: str) -> list[Span]:
    """Every place where the answer stands; if there is none, where it stands up to white space and case."""
    found = [m.span() for m in re.finditer(re.escape(answer), text)]
    if not found:
        letters = [re.escape(c) for c in answer if not c.isspace()]
        found = [m.span() for m in re.finditer(r"\s*".join(letters), text, re.IGNORECASE)] if letters else []
    return found


def _parse(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as whole:
        try:
            # Not `splitlines`, which also cuts at U+2028 and other characters that may stand inside a string.
            return [json.loads(line) for line in text.split("\n") if line.strip()]
        except json.JSONDecodeError:
            raise ValueError(
                f"Argument `path` must be JSON or JSON lines, but {name} is not: {whole.msg} at line {whole.lineno}."
            ) from None


def _form(content: Any, name: str) -> tuple[Callable[[Any, _Collector], Iterator[Example]], Any]:
    """The format, and the content as that format has it: a single record of JSON lines becomes a list of one."""
    if isinstance(content, dict):
        if "data" in content:
            return _squad, content
        first = next(iter(content.values()), None)
        if isinstance(first, dict) and "evidences" in first:
            return _webqa, content
        content = [content]
    if isinstance(content, list):
        first = content[0] if content else None
        for key, form in (("q_key", _webqa_tokens), ("passages", _sogou), ("context_text", _cmrc_trial)):
            if isinstance(first, dict) and key in first:
                return form, content
    raise ValueError(f"Argument `path` must be SQuAD, CMRC, DRCD, WebQA or SogouQA data, but {name} is none of them.")


def _text(value: Any) -> str:
    """A text from a file; `TypeError` for anything else, so that it is refused here rather than failing later."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} where a text should be")
    return value


def _answers(values: Any) -> list[str]:
    """The answers that are not null or empty, by which files say that there is none."""
    return [_text(value) for value in values or () if value not in (None, "", "no_answer")]


def _squad(content: Any, collected: _Collector) -> Iterator[Example]:
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            text = _text(paragraph["context"])
            for qa in paragraph["qas"]:
                said = [] if qa.get("is_impossible") else qa.get("answers") or []
                given = [(answer, a["answer_start"]) for a in said for answer in _answers([a["text"]])]
                spans = collected.align(text, dict.fromkeys(given))
                answers = tuple(dict.fromkeys(answer for answer, _ in given))
                group = str(article.get("title", article.get("id", "")))
                yield Example(_text(qa["question"]), (Passage(text, spans),), answers, str(qa["id"]), group)


def _cmrc_trial(content: Any, collected: _Collector) -> Iterator[Example]:
    for paragraph in content:
        text = _text(paragraph["context_text"])
        for qa in paragraph["qas"]:
            answers = tuple(dict.fromkeys(_answers(qa["answers"])))
            spans = collected.align(text, [(a, None) for a in answers])
            group = str(paragraph.get("title", ""))
            yield Example(_text(qa["query_text"]), (Passage(text, spans),), answers, str(qa["query_id"]), group)


def _webqa(content: Any, collected: _Collector) -> Iterator[Example]:
    for name, item in content.items():
        passages, answers = [], {}
        for evidence in item["evidences"].values():
            given, text = _answers(evidence["answer"]), _text(evidence["evidence"])
            passages.append(Passage(text, collected.align(text, [(a, None) for a in given])))
            answers |= dict.fromkeys(given)
        yield Example(_text(item["question"]), tuple(passages), tuple(answers), str(name), str(name))


def _webqa_tokens(content: Any, collected: _Collector) -> Iterator[Example]:
    for item in content:
        passages, answers = [], {}
        for evidence in item["evidences"]:
            text = "".join(evidence["evidence_tokens"])
            given = _answers(["".join(tokens) for tokens in evidence["golden_answers"] or () if tokens])
            # A passage that holds the text of the answer without answering must not be learned from.
            right = given if evidence.get("type", "positive") == "positive" else []
            passages.append(Passage(text, collected.align(text, [(a, None) for a in right])))
            answers |= dict.fromkeys(given)
        yield Example("".join(item["question_tokens"]), tuple(passages), tuple(answers), str(item["q_key"]), "")


def _sogou(content: Any, collected: _Collector) -> Iterator[Example]:
    for item in content:
        passages = []
        for passage in item["passages"]:
            given, text = _answers([passage.get("answer")]), _text(passage["passage"])
            passages.append(Passage(text, collected.align(text, [(a, None) for a in given])))
        answers = tuple(dict.fromkeys(_answers([item.get("answer"), *(item.get("expand") or ())])))
        yield Example(_text(item["question"]), tuple(passages), answers, str(item["id"]), str(item["id"]))
