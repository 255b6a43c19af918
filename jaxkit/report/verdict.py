"""What the run of a subject ends with: claims, each with what was measured; one function judges them all."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxkit.core import checks


@dataclasses.dataclass(frozen=True)
class Claim:
    """A number of a run and what it must be.

    Attributes:
        text: What was measured.
        value: The number, or a text where there is more to say than one number.
        at_most: The number must not exceed this.
        at_least: The number must not fall below this.
        ok: Whether the claim holds, where that is more than a bound. Without any of the three, the number is shown
            for the record.

    Example:
        >>> from jaxkit.report.verdict import Claim
        >>> Claim("error", 1e-3, at_most=1e-2).holds, Claim("error", float("nan"), at_most=1e-2).holds
        (True, False)
    """

    text: str
    value: float | str
    _: dataclasses.KW_ONLY
    at_most: float | None = None
    at_least: float | None = None
    ok: bool | None = None

    def __post_init__(self) -> None:
        """Check that a bound has a number to bound."""
        bounded = self.at_most is not None or self.at_least is not None
        number = not isinstance(self.value, str)
        checks.require(number or not bounded, "value", "be a number where it has a bound", f"is {self.value!r}")

    @property
    def judged(self) -> bool:
        """Whether the claim can fail."""
        return (self.at_most, self.at_least, self.ok) != (None, None, None)

    @property
    def holds(self) -> bool:
        """Whether the value is as it must be; a value that is not a number keeps no bound."""
        low = self.at_least is None or bool(float(self.value) >= self.at_least)
        high = self.at_most is None or bool(float(self.value) <= self.at_most)
        return low and high and self.ok is not False

    @property
    def measured(self) -> str:
        """The value as text."""
        return self.value if isinstance(self.value, str) else f"{self.value:.4g}"

    @property
    def wanted(self) -> str:
        """The bounds as text; empty where there are none."""
        bounds = (("≥", self.at_least), ("≤", self.at_most))
        return ", ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)

    def __str__(self) -> str:
        return f"{self.text} {self.measured}" + (f" (wanted {self.wanted})" if self.wanted else "")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The outcome of `python -m jaxkit run <subject>`.

    Attributes:
        subject: Name of the subject.
        ok: Whether every claim holds.
        sentence: The result in one line, with its numbers; it names the claims that do not hold.
        claims: What was measured.
        files: The files that were written.
    """

    subject: str
    ok: bool
    sentence: str
    claims: tuple[Claim, ...]
    files: tuple[Path, ...] = ()


def judge(subject: str, claims: Sequence[Claim], sentence: str, files: Sequence[Path] = ()) -> Verdict:
    """The verdict on a subject's claims.

    Args:
        subject: Name of the subject.
        claims: What was measured; at least one of them must be able to fail.
        sentence: The result in one line, with its numbers.
        files: The files that were written.

    Raises:
        ValueError: No claim can fail.

    Example:
        >>> from jaxkit.report.verdict import Claim, judge
        >>> verdict = judge("optics", [Claim("focal length", 1.3, at_most=1.2)], "one lens")
        >>> verdict.ok, verdict.sentence
        (False, 'one lens; NOT as it must be: focal length 1.3 (wanted ≤ 1.2)')
    """
    checks.require(any(claim.judged for claim in claims), "claims", "hold one that can fail", "hold none")
    failed = [str(claim) for claim in claims if not claim.holds]
    sentence = f"{sentence}; NOT as it must be: {', '.join(failed)}" if failed else sentence
    return Verdict(subject, not failed, sentence, tuple(claims), tuple(files))


def claims_table(claims: Sequence[Claim]) -> Any:
    """The claims as a `rich` table."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("claim", "measured", "wanted", "as it must be", title="claims")
    for claim in claims:
        mark = "[green]yes[/]" if claim.holds else "[red]NO[/]"
        texts = (escape(text) for text in (claim.text, claim.measured, claim.wanted))
        table.add_row(*texts, mark if claim.judged else "for the record")
    return table
