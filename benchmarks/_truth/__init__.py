"""The judges of `benchmarks.truth`: one module a verb, each judging random problems independently of the package.

A module defines `judge(count, seed) -> list[Tally]`: the package's row first, then peers on the same problems. Problems
are judged by mpmath, arb, a tighter other method or the analytic answer, never by the package itself.
"""

import dataclasses
from typing import Any

VERBS = ("root", "all_roots", "solve", "ensemble", "events", "least_squares", "sample", "continuation")


@dataclasses.dataclass
class Tally:
    """What one solver did with a set of problems.

    Attributes:
        verb: Which verb the problems are for.
        solver: The package's method, or the peer's name.
        solved: Said ok, and right.
        refused: Said not ok.
        needless: Of the refused, those that had an answer which the problem's kind lets one expect; 0 where unknown.
        false: Said ok, and wrong.
        first: The first false ok in full: problem, answer, truth.
    """

    verb: str
    solver: str
    solved: int = 0
    refused: int = 0
    needless: int = 0
    false: int = 0
    first: str | None = None

    def add(self, *, ok: bool, right: bool, problem: str = "", solvable: bool = False) -> None:
        """Count one problem; `problem` is kept if this is the first false ok."""
        if not ok:
            self.refused += 1
            self.needless += solvable
        elif right:
            self.solved += 1
        else:
            self.false += 1
            self.first = self.first or problem

    def row(self) -> dict[str, Any]:
        """The counts as a row of a table."""
        count = self.solved + self.refused + self.false
        return {
            "verb": self.verb,
            "solver": self.solver,
            "problems": count,
            "solved": self.solved / max(count, 1),
            "refused": self.refused / max(count, 1),
            "false ok": self.false,
        }
