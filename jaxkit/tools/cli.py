"""The command line: `python -m jaxkit run|root|...`. Each command is defined elsewhere; here are their arguments."""

import argparse
import contextlib
import dataclasses
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from jaxkit import SUBJECTS, __version__

# Subjects whose programs run for milliseconds, so that compilation takes nearly all the time.
LIGHT = ("competition", "newton", "recurrent")

FIRST_STEPS = """Five things to try:

  jaxkit root "x^3 = 2x + 5"                    solve an equation; --certify proves the root
  jaxkit root "sin(x) = x/3" --all --certify    all roots between -10 and 10, proven
  jaxkit run competition --quick                fit Gause's experiments of 1934: figures, report, verdict
  jaxkit cite competition                       what stands behind it, as BibTeX
  jaxkit doctor                                 is this machine fit?

jaxkit --help shows every command, jaxkit COMMAND --help its options."""

Argument = tuple[tuple[str, ...], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        name: Its name.
        handler: `"module:function"` of `function(options) -> exit status`, imported when the command is given.
        help: One line of help.
        arguments: What argparse's `add_argument` takes, one pair per argument.
        precision: Precision in which it computes; None if it computes nothing itself, or prepares for it when it must.
    """

    name: str
    handler: str
    help: str
    arguments: tuple[Argument, ...] = ()
    precision: str | None = "double"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 if done, 1 if a number came out wrong, 2 for unusable input.

    Whatever stops it is said in one sentence, without a traceback: 130 after Ctrl-C, 141 if nobody reads the output.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a letter shows its code
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if arguments is None else arguments)

    def stopped(sentence: str, status: int) -> int:
        with contextlib.suppress(OSError):  # nobody can be told
            print(f"{' '.join(['jaxkit', *arguments[:1]])}: {sentence}", file=sys.stderr)
        return status

    try:
        try:
            with _interruptible():
                return _run(arguments)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except KeyboardInterrupt:
        return stopped("stopped by Ctrl-C.", 130)
    except BrokenPipeError:
        _discard_output()
        return 141
    except OSError as error:
        file = error.filename2 or error.filename
        if file is None:  # it may be the output that cannot be written
            _discard_output()
        where = f"cannot use {file}: " if file else ""
        return stopped(f"{where}{error.strerror}." if error.strerror else str(error), 2)
    except ValueError as error:
        return stopped(str(error), 2)


def _run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="jaxkit", description="Differentiable scientific computing in JAX.")
    parser.add_argument("--version", action="version", version=f"jaxkit {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in COMMANDS:
        own = commands.add_parser(command.name, help=command.help)
        for names, settings in command.arguments:
            own.add_argument(*names, **settings)
        own.set_defaults(chosen=command)
    options = parser.parse_args(_values(arguments))
    if options.command is None:
        print(FIRST_STEPS)
        return 0
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # quiet compiler logs
    if options.chosen.precision is not None:
        _prepare(options.chosen.precision, light=getattr(options, "subject", None) in LIGHT)
    module, _, function = options.chosen.handler.partition(":")
    return getattr(importlib.import_module(module), function)(options)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the block wherever it comes: in JAX's callback of the garbage collector it would be lost."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        if frame is not None and frame.f_code.co_name == "_xla_gc_callback":
            threading.Timer(0.01, signal.raise_signal, (number,)).start()
        else:
            raise KeyboardInterrupt

    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # signals are not ours to handle
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _discard_output() -> None:
    """Let what cannot be written any more go nowhere, or Python complains of it once more as it ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a stream without a descriptor
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)


def _values(arguments: Sequence[str]) -> list[str]:
    """Mark values that begin with a minus (`--x0 -1+1i`) by a space, so that the parser does not see flags in them."""
    if not arguments or arguments[0] != "root":
        return list(arguments)
    return [f" {text}" if text[:1] == "-" and text[:2] not in ("--", "-h") else text for text in arguments]


def _prepare(precision: str, *, light: bool) -> None:
    from jaxkit.compile.options import prepare

    prepare(precision, light=light)


def _arg(*names: str, **settings: Any) -> Argument:
    return names, settings


COMMANDS = (
    Command("run", "jaxkit.tools.subjects:run_command", "run a subject on its real data: figures, report, verdict", (
        _arg("subject", choices=[*SUBJECTS, "all"]),
        _arg("--quick", action="store_true", help="smaller sizes: a sanity run of seconds"),
        _arg("--out", type=Path, default=Path("out"), help="folder for what is written (default: out)"),
    )),
    Command("root", "jaxkit.newton.command:root_command", 'solve an equation: jaxkit root "x^3 = 2x + 5"', (
        _arg("equations", help='text such as "x*exp(x) = 2"; several equations separated by ;'),
        _arg("--x0", metavar="VALUE", help='first guess: 1.5, 1+2i, or "x=2, y=0.5"'),
        _arg("--set", metavar="NAMES", help='parameters: "a=2, b=0.1"'),
        _arg("--interval", nargs=2, metavar=("A", "B"), help="ends between which to look (with --all: all)"),
        _arg("--all", action="store_true", help="all real roots in --interval (default: -10 10)"),
        _arg("--certify", action="store_true", help="prove the roots by interval arithmetic"),
        _arg("--proof", type=Path, metavar="FILE", help="write the proof that --all --certify finds"),
        _arg("--complex", action="store_true", help="complex roots"),
        _arg("--method", help="newton (default), halley, chord, damped, dogleg, bisect, ..."),
        _arg("--plot", type=Path, metavar="FILE", help="draw the curve with the tangents, or the basins"),
    ), precision=None),
    Command("answer", "jaxkit.reading.command:answer_command", "answer a question from text files", (
        _arg("model", type=Path, help="file of a reader (`reading.save`; `run reading` writes one)"),
        _arg("question"),
        _arg("passages", nargs="+", type=Path, metavar="FILE", help="text files, UTF-8"),
        _arg("--top", type=int, default=1, help="how many answers (default: 1)"),
        _arg("--always", action="store_true", help="answer even where the reader would rather not"),
    ), precision="single"),
    Command("sweep", "jaxkit.tools.sweep:sweep_command", "solve an ensemble in shards (job arrays); then merge them", (
        _arg("config", type=Path, help="JSON: field, x0, ts, args, lanes, ... (see jaxkit.tools.sweep)"),
        _arg("--shard", help="i/n; /n or nothing takes i from SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX"),
        _arg("--merge", action="store_true", help="merge the shards that lie in the folder"),
        _arg("--out", type=Path, default=Path("out/sweep"), help="folder of the files (default: out/sweep)"),
    )),
    Command("launch", "jaxkit.tools.launch:launch_command", "run a script as several processes; restart if one dies", (
        _arg("--processes", type=int, default=2, metavar="N", help="how many processes (default: 2)"),
        _arg("--coordinator", metavar="HOST:PORT", help="of process 0, when the others run elsewhere"),
        _arg("--process", type=int, metavar="I", help="start this one alone, with --coordinator"),
        _arg("--restarts", type=int, default=3, help="times to start again (default: 3)"),
        _arg("--stuck", type=float, metavar="S", help="start again if a process finishes no chunk in S seconds"),
        _arg("program", nargs=argparse.REMAINDER, metavar="-- CMD ...", help="the program and its arguments"),
    ), precision=None),
    Command("cite", "jaxkit.tools.subjects:cite_command", "BibTeX of what stands behind a subject or a method", (
        _arg("topics", nargs="*", help="competition, gan, ensemble, dopri8, ...; none: everything"),
    ), precision=None),
    Command("doctor", "jaxkit.tools.doctor:doctor_command", "is this machine fit? devices, versions, compiler, JAX"),
)  # fmt: skip
