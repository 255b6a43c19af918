"""The command line: what it prints, where it writes, how it fails."""

import pytest

from jaxkit.tools import cli


@pytest.fixture(autouse=True)
def _double(monkeypatch):
    monkeypatch.setattr(cli, "_prepare", lambda *a, **k: None)  # the suite has its own precision and flags


@pytest.mark.slow
def test_run_competition(tmp_path, capsys):
    assert cli.main(["run", "competition", "--quick", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "ok competition: Gause 1934: SSE 3874.22" in out.replace("\n", " ")
    assert (tmp_path / "competition" / "fit.png").stat().st_size > 10_000


def test_unknown_subject_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", "astrology"])
    assert stop.value.code == 2
    assert "invalid choice: 'astrology'" in capsys.readouterr().err


def test_doctor_fails_when_a_kernel_is_wrong(monkeypatch, capsys):
    import jaxkit.core.environment as environment

    monkeypatch.setattr(environment, "canary", lambda: {"fine": 1e-16, "matmul": 0.1})
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "WRONG matmul: jitted and eager results differ by 1.0e-01" in out
    assert "backend cpu" in out
    assert "1 of 2 kernels agree" in out


def test_version(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.startswith("jaxkit 0.")
