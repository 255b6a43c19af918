"""The command as a user runs it."""

import pytest
from rich.console import Console

from jaxkit.recurrent import run as command


@pytest.mark.slow
def test_quick_run(tmp_path):
    verdict = command.run(tmp_path, quick=True, console=Console(quiet=True))
    assert verdict.ok, verdict.sentence
    assert {path.name for path in verdict.files} == {
        f"{n}.png" for n in ("schemes", "article", "starts", "gause", "newton")
    }
    assert all(path.stat().st_size > 10_000 for path in verdict.files)


def test_verdict_can_fail():
    row = command.compare(("heun",))[2][0]
    assert (row.order, row.proved) == (2, 2)
    assert row.slope == pytest.approx(2, abs=0.1)
    assert row.gap <= 1e-14
