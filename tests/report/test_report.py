"""report: LaTeX that cannot be broken by text, figures, animation, the competition report."""

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.font_manager import FontEntry
from PIL import Image
from scipy.stats import t

from jaxkit import competition as comp
from jaxkit.report import figures
from jaxkit.report.animation import animate
from jaxkit.report.figures import plain, save, style
from jaxkit.report.latex import Document, escape, number
from jaxkit.report.portrait import plot_equilibria, plot_field
from jaxkit.report.verdict import Claim, claims_table, judge


def test_special_characters_are_escaped():
    assert escape(r"\input{/etc/passwd} 50%_$&#^~<>") == (
        r"\textbackslash{}input\{/etc/passwd\} 50\%\_\$\&\#\textasciicircum{}\textasciitilde{}\textless{}\textgreater{}"
    )


@pytest.mark.parametrize(("value", "text"), [(0.25, "0.25"), (-12.0, "-12"), (1.5e-7, r"1.5\times 10^{-7}")])
def test_numbers(value, text):
    assert number(value) == text


def test_without_pdflatex_the_source_is_left_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    files, said = Document("A").section("B").text("50%").write(tmp_path)
    assert [file.name for file in files] == ["report.tex"]
    assert r"50\%" in files[0].read_text()
    assert "pdflatex is not installed" in said


def test_a_refusal_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    refuse = subprocess.CompletedProcess([], 1, "log\n! Undefined control sequence.\n", "")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: refuse)
    files, said = Document("A").write(tmp_path)
    assert len(files) == 1
    assert "! Undefined control sequence." in said


SPECIAL = "$%&_#{}~^\\"
LATEX = re.compile(r"\\[a-zA-Z]+|\\.|.", re.DOTALL)  # commands, and all other characters one by one
NAMES = (SPECIAL, SPECIAL[::-1], "草履虫 " + SPECIAL, "双小核\n\n草履虫", "[x]", "*", "a--b ''c'' `d")


def special(source):
    """The special characters of a source that are not escaped, in order; those of formulas are left out."""
    found = [piece for piece in LATEX.findall(source) if piece in "{}$%#~^_&`"]
    outside = "".join(found).split("$")
    assert len(outside) % 2 == 1
    return "".join(outside[::2])


@pytest.mark.parametrize("name", NAMES)
def test_a_name_leaves_braces_formulas_and_rows_as_they_are(name):
    document = Document(name).section(name).text(name).figure("a.png", name)
    title, body = document.source.split("\\begin{document}")
    table = document.table([name, "$x_1$"], [[name, "$1$"], [name, name]], name).parts[-1]
    for source in (title.split("\\title")[1], body, table):
        found = special(source)
        while "{}" in found:
            found = found.replace("{}", "")
        assert found == ("&&&" if source is table else "")
    one_line = [part for part in (title.split("\\title")[1], *document.parts, table) if part != document.parts[1]]
    assert not any("\n\n" in part.strip() for part in one_line)  # no paragraph ends within a caption or a cell
    assert not re.search(r"\\\\\s*[\[*]", table)  # nothing that would be an option of the row's end
    assert not re.search(r"--|''|,,", body + table)


def test_special_characters_are_shown_as_they_stand():
    commands = {r"\textbackslash": "\\", r"\textasciicircum": "^", r"\textasciitilde": "~", r"\textasciigrave": "`"}
    pieces = [piece for piece in LATEX.findall(escape(SPECIAL + "`[a] *")) if piece not in "{}"]
    assert "".join(commands.get(piece, piece[-1]) for piece in pieces) == SPECIAL + "`[a] *"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_hostile_text_still_compiles(tmp_path):
    document = Document(r"\end{document} $ % & # _ ^ ~").text(r"\write18{rm} {{{ \\ $$ ##")
    files, said = document.table(["a_b", "$x_1$"], [["50%", "$1$"]], "c & d").write(tmp_path)
    assert files[-1].read_bytes().startswith(b"%PDF"), said


def test_chinese_reports_are_for_xelatex(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(shutil, "which", asked.append)
    _, said = Document("Competition of 草履虫 and P. aurelia").write(tmp_path)
    assert asked == ["xelatex", "lualatex"]
    assert "xelatex is not installed" in said
    source = (tmp_path / "report.tex").read_text()
    assert source.index("iftex") < source.index("{ctex}") < source.index("草履虫")
    asked.clear()
    Document("Müller’s café").write(tmp_path)
    assert asked == ["pdflatex"]
    assert "ctex" not in (tmp_path / "report.tex").read_text()


@pytest.mark.skipif(shutil.which("xelatex") is None, reason="xelatex is not installed")
def test_chinese_names_compile(tmp_path):
    files, said = Document("草履虫 $ % & # _").text("双小核草履虫").write(tmp_path)
    assert files[-1].read_bytes().startswith(b"%PDF"), said


HOSTILE = ("$x_1", "$x$", r"a\$b$", "50%", "_hidden", "a&b#c", "{", "\\", r"\frac{", "x^2_{")


def test_names_are_drawn_as_they_stand():
    with style() as plt:
        axes = plt.subplots()[1]
        for name in HOSTILE:
            axes.plot([0, 1], label=plain(name))
        axes.set(xlabel=plain("$"), title=plain(r"$\frac{$"))
        texts = [text.get_text() for text in axes.legend().get_texts()]
        axes.figure.canvas.draw()
        plt.close(axes.figure)
    shown = [matplotlib.cbook.is_math_text(text) for text in texts]
    assert not any(shown)
    assert tuple(text.replace(r"\$", "$").lstrip("\u200b") for text in texts) == HOSTILE


def test_without_a_chinese_font_there_are_boxes_and_one_warning(monkeypatch):
    figures._warn_of_boxes.cache_clear()
    monkeypatch.setattr(figures, "_drawable", lambda: frozenset(range(32, 0x2E80)))
    with pytest.warns(UserWarning, match="Noto Sans CJK") as seen:
        assert plain("草履虫 1") == plain("双小核 1") == "\u25a1\u25a1\u25a1 1"
    assert len(seen) == 1


def test_any_font_with_chinese_characters_does(monkeypatch):
    fonts = [FontEntry(fname=name, name=name) for name in ("Latin", "Rare Song")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts)
    monkeypatch.setattr(figures, "_characters", lambda path: {0x4E2D} if path == "Rare Song" else {})
    monkeypatch.setattr(figures, "chinese_font", figures.chinese_font.__wrapped__)
    with style() as plt:
        assert plt.rcParams["font.family"][-1] == "Rare Song"
    fonts.append(FontEntry(fname="", name="Noto Sans CJK SC"))
    assert figures.chinese_font() == "Noto Sans CJK SC"


def test_saved_figures_are_the_same_each_time(tmp_path):
    def draw(name):
        with style() as plt:
            figure, axes = plt.subplots()
            axes.plot([0, 1], [0, 1])
            return save(figure, tmp_path / name, caption="a line").read_bytes()

    assert draw("a.png") == draw("b.png")
    assert Image.open(tmp_path / "a.png").text["Description"] == "a line"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_a_figure_without_a_suffix_is_a_png_and_a_failed_one_leaves_nothing(tmp_path):
    for name in ("figure", "figure."):
        with style() as plt:
            path = save(plt.subplots()[0], tmp_path / name)
        assert path == tmp_path / "figure.png"
        assert path.read_bytes().startswith(b"\x89PNG")
        path.unlink()
    with style() as plt, pytest.raises(ValueError, match=r"Argument `path` must end in one of .*\.png.* but is a\.v2"):
        save(plt.subplots()[0], tmp_path / "a.v2")
    (tmp_path / "folder.png").mkdir()
    with style() as plt, pytest.raises(OSError, match=r"folder\.png"):
        save(plt.subplots()[0], tmp_path / "folder.png")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]
    assert animate(lambda axes, i: None, 1, tmp_path / "moving").name == "moving.gif"
    with pytest.raises(ValueError, match="Argument `frames` must be positive"):
        animate(lambda axes, i: None, 0, tmp_path / "b.gif")


def test_animation_has_its_frames(tmp_path):
    path = animate(lambda axes, i: axes.plot([0, i + 1], [0, 1]), 3, tmp_path / "a.gif", seconds=1.0)
    with Image.open(path) as gif:
        assert gif.n_frames == 3


def test_portrait_marks_each_kind_once():
    with style() as plt:
        figure, axes = plt.subplots()
        plot_field(lambda t, x, a: jnp.stack([x[1], -x[0]]), (-1, 1, -1, 1), axes=axes)
        plot_equilibria(np.zeros((3, 2)), np.array([3, 3, 0]), axes=axes)
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["saddle"]
        plt.close(figure)


@pytest.mark.slow
def test_the_report_of_a_fit(tmp_path):
    found = comp.fit(comp.gause("paramecium"))
    found = dataclasses.replace(found, data=dataclasses.replace(found.data, names=(SPECIAL, "$x_1$ [b]")))
    files, _ = comp.report(found, tmp_path, quick=True)
    names = {file.name for file in files}
    assert {"fit.png", "portrait.png", "outcomes.png", "series.png", "branches.png", "report.tex"} <= names
    source = (tmp_path / "report.tex").read_text()
    assert "226.03" in source  # capacity of P. caudatum
    assert "coexistence attracts every start" in source
    assert "where species 2 alone becomes stable, species 1 dies out" in source
    assert escape(SPECIAL) in source
    ts = jnp.linspace(2.0, float(found.data.time.max()), 200)
    mean, error = comp.band(found, ts)
    with style() as plt:
        drawn = comp.plot_fit(found).collections[0].get_paths()[0].vertices
        plt.close("all")
    top = np.max(mean[:, 0] + t.ppf(0.975, found.degrees_of_freedom) * error[:, 0])
    assert drawn[:, 1].max() == pytest.approx(float(top), rel=1e-4)
    with pytest.raises(ValueError, match="must be a fit of two species"):
        comp.report(comp.fit(comp.gause("saccharomyces")), tmp_path)


def test_one_claim_that_fails_is_named_and_what_is_for_the_record_cannot_fail():
    held, record = Claim("a", 1.0, at_least=1.0, at_most=1.0), Claim("b", "whatever")
    good = judge("s", [held, record], "done", [Path("x")])
    assert (good.ok, good.sentence, good.files) == (True, "done", (Path("x"),))
    bad = [Claim("c", 2, at_most=1), Claim("d", float("nan"), at_least=0), Claim("e", "no", ok=False)]
    for claim in bad:
        verdict = judge("s", [held, claim, record], "done")
        assert not verdict.ok
        assert verdict.sentence == f"done; NOT as it must be: {claim}"
    assert str(bad[0]) == "c 2 (wanted ≤ 1)"
    assert [claims_table([c]).row_count for c in bad] == [1, 1, 1]


def test_a_verdict_needs_a_claim_that_can_fail():
    with pytest.raises(ValueError, match="Argument `claims` must hold one that can fail"):
        judge("s", [Claim("b", 1.0)], "done")
    with pytest.raises(ValueError, match="Argument `value` must be a number where it has a bound"):
        Claim("b", "1.0", at_most=1)
