"""LaTeX reports: text, formulas, tables and figures; compiled where `pdflatex` is installed.

Text in non-Latin letters needs `xelatex` (or `lualatex`), and Chinese text needs the package ctex.

Everything a user supplies goes through `escape`; formulas are written by the caller, never taken from outside.
"""

import dataclasses
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "^": r"\textasciicircum{}",
    "_": r"\_", "~": r"\textasciitilde{}", "%": r"\%", "<": r"\textless{}", ">": r"\textgreater{}",
    "`": r"\textasciigrave{}", "[": "{[}", "*": "{*}",  # behind the end of a table's row, `[` and `*` are its options
}  # fmt: skip
_PREAMBLE = r"""\documentclass[11pt,a4paper]{article}
\usepackage{iftex}
\ifPDFTeX\usepackage[T1]{fontenc}\usepackage[utf8]{inputenc}\usepackage{textcomp}\else\usepackage{fontspec}\fi
\usepackage{amsmath,amssymb,graphicx,booktabs,float}
\usepackage[margin=25mm]{geometry}
\usepackage[hidelinks]{hyperref}
"""


def escape(text: object) -> str:
    r"""Text that LaTeX prints as it stands.

    Example:
        >>> from jaxkit.report.latex import escape
        >>> escape("50% of x_1 & {y}")
        '50\\% of x\\_1 \\& \\{y\\}'
    """
    shown = (c if c.isprintable() or c == "\n" else " " for c in str(text))
    escaped = "".join(_SPECIAL.get(character, character) for character in shown)
    return re.sub(r"([-,'])(?=\1)", r"\1{}", escaped)  # `--`, `,,` and `''` would be one character each


def _line(text: object) -> str:
    """Escaped text without the end of a paragraph, which titles, captions and cells must not hold."""
    return escape(" ".join(str(text).split()))


def _is_latin(character: str) -> bool:
    """Whether pdflatex knows the character."""
    return ord(character) < 0x180 or character in "\u2013\u2014\u2018\u2019\u201c\u201d\u2026"


def _is_chinese(character: str) -> bool:
    blocks = (("\u2e80", "\u9fff"), ("\uf900", "\ufaff"), ("\uff00", "\uffef"), ("\U00020000", "\U0003ffff"))
    return any(first <= character <= last for first, last in blocks)


def number(value: float, digits: int = 4) -> str:
    r"""A number for a formula or a table: plain where it reads well, with a power of ten elsewhere.

    Example:
        >>> from jaxkit.report.latex import number
        >>> number(0.25), number(1.5e-7)
        ('0.25', '1.5\\times 10^{-7}')
    """
    text = f"{float(value):.{digits}g}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    return rf"{mantissa}\times 10^{{{int(exponent)}}}"


@dataclasses.dataclass(frozen=True)
class Document:
    """A report in parts. Each method returns a longer document.

    Attributes:
        title: Title, as plain text.
        parts: LaTeX source of the parts so far.
    """

    title: str
    parts: tuple[str, ...] = ()

    def _with(self, source: str) -> "Document":
        return dataclasses.replace(self, parts=(*self.parts, source))

    def section(self, title: str) -> "Document":
        """Begin a section."""
        return self._with(rf"\section{{{_line(title)}}}")

    def text(self, text: str) -> "Document":
        """Add a paragraph of plain text."""
        return self._with(escape(text) + "\n")

    def raw(self, source: str) -> "Document":
        """Add LaTeX source written by the package (never by a user)."""
        return self._with(source)

    def equation(self, source: str) -> "Document":
        """Add a displayed formula."""
        return self._with(rf"\begin{{equation*}}{source}\end{{equation*}}")

    def table(self, head: Sequence[str], rows: Iterable[Sequence[object]], caption: str) -> "Document":
        """Add a table; cells are plain text, except strings between dollar signs, which are formulas."""
        cell = lambda v: v if isinstance(v, str) and len(v) > 1 and v[0] == v[-1] == "$" else _line(v)
        body = " \\\\\n".join(" & ".join(map(cell, row)) for row in rows)
        columns = "l" + "r" * (len(head) - 1)
        return self._with(
            "\\begin{table}[H]\\centering\n"
            rf"\caption{{{_line(caption)}}}"
            f"\n\\begin{{tabular}}{{{columns}}}\\toprule\n{' & '.join(map(cell, head))} \\\\ \\midrule\n{body} \\\\ "
            "\\bottomrule\\end{tabular}\\end{table}"
        )

    def figure(self, path: str | Path, caption: str, width: float = 0.8) -> "Document":
        """Add a picture from the folder to which the report is written."""
        name = Path(path).name
        return self._with(
            rf"\begin{{figure}}[H]\centering\includegraphics[width={width}\textwidth]{{{name}}}"
            rf"\caption{{{_line(caption)}}}\end{{figure}}"
        )

    @property
    def source(self) -> str:
        """The whole document as LaTeX."""
        body = "\n\n".join(self.parts)
        title = rf"\title{{{_line(self.title)}}}\author{{jaxkit}}\date{{}}"
        chinese = "\\usepackage[scheme=plain]{ctex}\n" if any(map(_is_chinese, self.title + body)) else ""
        return f"{_PREAMBLE}{chinese}{title}\n\\begin{{document}}\\maketitle\n{body}\n\\end{{document}}\n"

    def write(self, folder: str | Path, name: str = "report") -> tuple[tuple[Path, ...], str]:
        """Write `name.tex`, and `name.pdf` where the program that makes it is installed.

        Args:
            folder: Where to write; the pictures must be there.
            name: Name of the files.

        Returns:
            The files written, and one sentence that says what was done.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tex, pdf = folder / f"{name}.tex", folder / f"{name}.pdf"
        tex.write_text(self.source, encoding="utf-8")
        engines = ("pdflatex",) if all(map(_is_latin, self.source)) else ("xelatex", "lualatex")
        program = next(filter(None, map(shutil.which, engines)), None)
        if program is None:
            return (tex,), f"{engines[0]} is not installed: {tex} and its pictures are left for you to compile."
        command = [program, "-no-shell-escape", "-halt-on-error", "-interaction=nonstopmode", tex.name]
        done = subprocess.run(  # noqa: S603 (a fixed command on a file we wrote)
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120, check=False
        )
        for suffix in (".aux", ".out"):
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
        if done.returncode:
            complaint = next((line for line in done.stdout.splitlines() if line.startswith("!")), "no message")
            return (tex,), f"{Path(program).stem} refused {tex}: {complaint} (see {name}.log)."
        (folder / f"{name}.log").unlink(missing_ok=True)
        return (tex, pdf), f"{pdf} was typeset from {tex.name}."
