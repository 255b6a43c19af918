"""The command line: what it prints, where it writes, how it fails."""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time

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


def in_process(*arguments, code="", **environment):
    """Exit status, output, errors of the command in a process of its own; `code` runs there first."""
    start = f"{code}\nimport sys; from jaxkit.tools.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", start, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_plain_equation_is_solved_without_jax():
    """Importing JAX takes longer than all the rest: here it cannot be imported."""
    without = "import sys; sys.modules.update(dict.fromkeys(('jax', 'jaxlib', 'diffrax', 'matplotlib')))"
    status, out, err = in_process("root", "x^3 = 2x + 5", "--certify", code=without)
    assert (status, err) == (0, "")
    assert "x = 2.094551481542327 " in out
    assert "exactly one root" in out
    for arguments in ((), ("--version",), ("cite", "newton"), ("root", "x^2 = 2", "--all", "--certify")):
        assert in_process(*arguments, code=without)[::2] == (0, "")
    assert "if `a` is known, give its value in `args` (--set)" in in_process("root", "a*x = 2", code=without)[2]


def test_without_a_command_it_says_what_to_try(capsys):
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Five things to try")
    tried = [line.split()[1] for line in shown.splitlines() if line.startswith("  jaxkit ")]
    assert len(tried) == 5
    assert set(tried) <= {command.name for command in cli.COMMANDS}


def test_a_terminal_without_greek_letters_shows_their_codes():
    status, out, err = in_process("root", "cos(θ) = θ", PYTHONIOENCODING="ascii")
    assert (status, err) == (0, "")
    assert "\\u03b8 = 0.7390851332151607 " in out


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    def stopped(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxkit.newton.command.root_command", stopped)
    assert cli.main(["root", "x = 2"]) == 130
    assert capsys.readouterr().err == "jaxkit root: stopped by Ctrl-C.\n"


def test_ctrl_c_is_not_lost_in_the_garbage_collector(monkeypatch, capsys):
    """JAX's callback there is not ours: an exception in it is printed and forgotten."""

    def _xla_gc_callback(*_):
        signal.raise_signal(signal.SIGINT)
        return 0

    def collecting(options):
        with contextlib.suppress(KeyboardInterrupt):  # as Python does in a callback
            _xla_gc_callback()
        for _ in range(100):
            time.sleep(0.02)
        return 0

    monkeypatch.setattr("jaxkit.newton.command.root_command", collecting)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        assert cli.main(["root", "x = 2"]) == 130
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "jaxkit root: stopped by Ctrl-C.\n"


def test_an_output_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "a.png").mkdir()
    assert cli.main(["root", "x^3 = 2", "--plot", str(tmp_path / "a.png")]) == 2
    assert capsys.readouterr().err == f"jaxkit root: cannot use {tmp_path / 'a.png'}: Is a directory.\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("arguments", [("root", "x = 2"), ()])
def test_a_full_disk_and_a_reader_that_has_gone(arguments):
    command = [sys.executable, "-m", "jaxkit", *arguments]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"{' '.join(('jaxkit', *arguments[:1]))}: No space left on device.\n"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")
