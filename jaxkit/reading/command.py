"""`python -m jaxkit answer MODEL "question" passage.txt ...`: answers from files."""

import argparse
from pathlib import Path

from jaxkit.reading.saving import load


def answer_command(options: argparse.Namespace) -> int:
    """Answer a question from text files; print the answers, where they stand, and how sure the reader is.

    Args:
        options: `model`, `question`, `passages` (files), `top`, `always`.

    Returns:
        0; 1 if there is no answer.

    Raises:
        ValueError: A file is not text, or the model is damaged.
        FileNotFoundError: A file or the model is missing.
    """
    reader = load(options.model)
    texts = [_read(path) for path in options.passages]
    threshold = 0.0 if options.always else None
    (ranked,) = reader.ask_batch([(options.question, texts)], top_k=options.top, threshold=threshold)
    if not ranked[0]:
        print(  # noqa: T201
            f"no answer: the best span scores {ranked[0].score:.3g}, below the threshold {reader.threshold:.3g} "
            "(--always answers all the same)"
        )
        return 1
    for found in ranked:
        assert found.passage is not None  # noqa: S101  (an answer has a passage)
        text = texts[found.passage]
        before, after = text[max(found.start - 20, 0) : found.start], text[found.end : found.end + 20]
        context = " ".join(f"{before}[{found.text}]{after}".split())
        name = Path(options.passages[found.passage]).name
        print(f"{found.text}\t{found.score:.3g}\t{name}:{found.start}-{found.end}\t{context}")  # noqa: T201
    return 0


def _read(path: Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"Argument `passages` must be UTF-8 text, but {path} is not: byte {error.start}.") from None
