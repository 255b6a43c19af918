"""The command line: what it prints, where it writes, how it fails."""

import importlib

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


def test_version(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.startswith("jaxkit 0.")


def test_every_command_names_a_function_that_exists():
    for command in cli.COMMANDS:
        module, _, function = command.handler.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), command.name


def test_unusable_arguments_are_one_sentence(capsys):
    assert cli.main(["launch"]) == 2
    assert capsys.readouterr().err == "jaxkit launch: Argument `CMD` must be a program to run, but is missing.\n"
    assert cli.main(["launch", "--process", "1", "--", "true"]) == 2
    assert "Argument `process` must come with `coordinator`" in capsys.readouterr().err
