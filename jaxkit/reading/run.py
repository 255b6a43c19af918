"""`python -m jaxkit run reading`: train a reader on what is at hand, score it, ask it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.table import Table

from jaxkit.reading import data as files
from jaxkit.reading import plots
from jaxkit.reading.data import Dataset
from jaxkit.reading.reader import Reader
from jaxkit.reading.synthetic import synthetic
from jaxkit.reading.train import Recipe
from jaxkit.report.figures import save, style
from jaxkit.report.verdict import Claim, Verdict, judge

# A small net for the synthetic set: facts of a few words need no long view.
SMALL = {"width": 64, "question_dilations": (1, 2), "passage_dilations": (1, 2, 4, 1)}
QUICK = Recipe(rate=3e-3, window=96, batch=32, average=0.98, chunk=50)
QUICK_STEPS = 150
SYNTHETIC_GOAL, REAL_GOAL = 95.0, 30.0  # percent exact match, of templates and of the first real test set
# Windows shorn of their answer teach it to say no; too many of them cost exact matches.
RECIPE = Recipe(shorn=0.08, hide=0.1)
TRAINING = ("cmrc-train", "drcd-dev", "webqa")
LOOK = 400  # questions of CMRC's dev set by which the best weights are chosen
MINUTES = 8.0  # about 3,000 steps of a slow core; more gains nothing
# Published without pretraining, for the table: exact match and F1.
PUBLISHED = {
    "cmrc-dev": "P-Reader 59.9 / 81.5; BERT 65.5 / 84.5",
    "drcd-test": "R-Net 29.1 / 44.4 (on DRCD's own 26,936)",
    "webqa-ir": "article .7583 on another, larger set",
}


def run(out: Path, *, quick: bool, console: Any) -> Verdict:
    """Train and show: on CMRC, DRCD and WebQA where they are at hand (and not `quick`), else on templates."""
    there = [name for name in TRAINING if files.corpus(name).is_file()]
    if quick or not there:
        return _synthetic(out, console)
    return _real(out, there, console)


def fit_synthetic(seed: int, *, steps: int = QUICK_STEPS) -> tuple[Reader, Dataset]:
    """A small reader of the synthetic set, trained on other passages than the 200 questions returned with it."""
    train, test = synthetic(3000, seed=1000 + seed), synthetic(200, seed=seed)
    reader = Reader.fit(train, steps=steps, key=jax.random.key(seed), recipe=QUICK, longest=8, words=False, **SMALL)
    return reader, test


def _synthetic(out: Path, console: Any) -> Verdict:
    with console.status("training a small reader on questions from templates ..."):
        reader, test = fit_synthetic(0)
    scores = reader.evaluate(test, "squad")
    console.print(f"after {reader.report['steps']} steps, {reader.report['cpu']:.0f} CPU seconds: {scores}")
    _ask(reader, list(test)[:6], console)
    example = next(e for e in test if e.id.startswith("en"))
    written = _figures(reader, out, example.question, example.passages[0].text)
    claims = [Claim("templates in two languages: exact match (%)", scores.exact, at_least=SYNTHETIC_GOAL)]
    return judge("reading", claims, f"templates in two languages: {scores}, {reader.report['cpu']:.0f} CPU s", written)


def training_set(names: Sequence[str], say: Callable[[str], Any]) -> Dataset:
    """The questions of some data sets together; `say` is told of each."""
    parts: list[Dataset] = []
    for name in names:
        try:
            found = _corpus(name)
        except ValueError as error:  # traditional characters, and nothing installed that simplifies them
            say(f"{name} is left out: {error}")
            continue
        say(f"{name}: {found}")
        parts += [found, found] if name == "webqa" else [found]  # few and short: twice
    return sum(parts[1:], parts[0])


def _real(out: Path, there: list[str], console: Any) -> Verdict:
    train = training_set(there, console.print)
    dev = files.read(files.corpus("cmrc-dev")) if files.corpus("cmrc-dev").is_file() else None
    console.print(f"training for {MINUTES:.0f} minutes on {len(train)} questions ...")
    key = jax.random.key(0)
    reader = Reader.fit(
        train, dev, minutes=MINUTES, recipe=RECIPE, dev_size=LOOK, key=key, progress=True, checkpoint=out / "run"
    )
    folder = reader.save(out / "model").parent
    table, scores = evaluation(reader)
    console.print(table)
    test = dev if dev is not None else train
    _ask(reader, list(test)[:200:20], console)
    example = min(list(test)[:100], key=lambda e: len(e.passages[0].text))
    written = [folder, *_figures(reader, out, example.question, example.passages[0].text)]
    claims = [Claim("test sets at hand", len(scores), at_least=1)]
    claims += [
        Claim(f"{name}: exact match (%)", found.exact, at_least=None if i else REAL_GOAL)
        for i, (name, found) in enumerate(scores.items())
    ]
    told = "; ".join(f"{name} {s}" for name, s in scores.items())
    sentence = f"{told}; {reader.report['cpu'] / 60:.0f} CPU minutes, no pretraining"
    return judge("reading", claims, sentence, written)


def evaluation(reader: Reader, *, limit: int | None = None) -> tuple[Table, dict[str, Any]]:
    """Scores on the test sets that are at hand (on `limit` questions spread over each), as a table and as numbers."""
    table = Table(title="one net, no pretraining but characters' vectors (EM / F1, percent)")
    for column in ("test", "metric", "EM", "F1", "questions", "published"):
        table.add_column(column)
    scores = {}
    for name, metric in (("cmrc-dev", "cmrc"), ("drcd-test", "cmrc"), ("webqa-ir", "sogou")):
        if not files.corpus(name).is_file():
            continue
        try:
            examples = _corpus(name)
        except ValueError:
            continue
        every = max(len(examples) // (limit or len(examples)), 1)  # spread over the articles: neighbours are alike
        found = scores[name] = reader.evaluate(examples.examples[::every][:limit], metric)
        table.add_row(name, metric, f"{found.exact:.1f}", f"{found.f1:.1f}", str(found.count), PUBLISHED[name])
    return table, scores


def _corpus(name: str) -> Dataset:
    """A data set in simplified characters."""
    found = files.read(files.corpus(name))
    return files.simplified(found) if name.startswith("drcd") else found


def _ask(reader: Reader, examples: list[Any], console: Any) -> None:
    table = Table(title="asked")
    for column in ("question", "answer", "score", "reference"):
        table.add_column(column)
    pairs = [(e.question, [p.text for p in e.passages]) for e in examples]
    for example, (found, *_) in zip(examples, reader.answer_batch(pairs, threshold=0.0), strict=True):
        table.add_row(example.question, found.text, f"{found.score:.2f}", " | ".join(example.answers))
    console.print(table)


def _figures(reader: Reader, out: Path, question: str, passage: str) -> list[Path]:
    summary = plots.plot_summary(reader, question, passage)
    caption = "Above: where the answer starts and ends. Below: how much each character matters to the answer's score."
    with style() as plt:
        curves, axes = plt.subplots()
        plots.plot_curves(reader.report, axes=axes)
    return [
        save(summary, out / "answer.png", caption=caption),
        save(curves, out / "training.png", caption="Loss and dev score of the run."),
    ]
