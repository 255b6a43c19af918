"""`python -m jaxkit run` and `cite`: the subjects, one or all, and their references."""

import argparse
import importlib
import time

from jaxkit import SUBJECTS
from jaxkit.core.citation import cite


def run_command(options: argparse.Namespace) -> int:
    """Run subjects on their data and print one verdict line for each.

    Args:
        options: `subject` (or `"all"`), `quick`, `out`.

    Returns:
        0, or 1 if a number came out wrong.
    """
    from rich.console import Console

    from jaxkit.report.verdict import claims_table

    console, verdicts = Console(), []
    for subject in SUBJECTS if options.subject == "all" else (options.subject,):
        start = time.perf_counter()
        console.rule(subject)
        run = importlib.import_module(f"jaxkit.{subject}.run").run
        verdict = run(options.out / subject, quick=options.quick, console=console)
        console.print(claims_table(verdict.claims))
        console.print(f"{len(verdict.files)} files in {options.out / subject}, {time.perf_counter() - start:.1f} s")
        verdicts.append(verdict)
    console.rule("verdicts")
    for verdict in verdicts:
        mark = "[green]ok[/]" if verdict.ok else "[red]WRONG[/]"
        console.print(f"{mark} [bold]{verdict.subject}[/]: {verdict.sentence}", highlight=False)
    return 0 if all(verdict.ok for verdict in verdicts) else 1


def cite_command(options: argparse.Namespace) -> int:
    """Print the BibTeX of `options.topics`."""
    print(cite(*options.topics))
    return 0
