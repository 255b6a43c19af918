"""What a subject's run ends with: one line a reader can check."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The outcome of `python -m jaxkit run <subject>`.

    Attributes:
        subject: Its name.
        ok: Whether every number came out as it must.
        sentence: The result in one line, with its numbers.
        files: What was written.
    """

    subject: str
    ok: bool
    sentence: str
    files: tuple[Path, ...] = ()
