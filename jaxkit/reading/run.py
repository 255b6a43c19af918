"""`python -m jaxkit run reading`: train a reader on the available data, score it, ask it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from rich.table import Table

from jaxkit.core.run import Run
from jaxkit.learn.callbacks import TimeBudget
from jaxkit.reading import corpora, plots
from jaxkit.reading.config import chinese, small
from jaxkit.reading.data import Dataset, Example, read
from jaxkit.reading.metrics import Scores
from jaxkit.reading.reader import Reader
from jaxkit.reading.saving import save
from jaxkit.reading.synthetic import synthetic
from jaxkit.reading.training import Trained, train
from jaxkit.report.figures import save as save_figure
from jaxkit.report.figures import style
from jaxkit.report.verdict import Claim, Verdict, judge

SYNTHETIC_GOAL, REAL_GOAL = 95.0, 30.0  # percent of exact matches, on templates and on the first real test set
MINUTES = 20.0  # at most
# Published results, for the table: exact match and F1. Only BERT is pretrained.
PUBLISHED = {
    "cmrc-dev": "P-Reader 59.9 / 81.5; BERT 65.5 / 84.5",
    "drcd-test": "R-Net 29.1 / 44.4 (on DRCD's own 26,936)",
    "webqa-ir": "article .7583 on another, larger set",
}


def run(out: Path, *, quick: bool, console: Any) -> Verdict:
    """Train and report: on CMRC, DRCD and WebQA if they are available (and not `quick`), else on templates."""
    there = [name for name in corpora.TRAINING if corpora.corpus(name).is_file()]
    if quick or not there:
        return _synthetic(out, console)
    return _real(out, there, console)


def train_synthetic(seed: int, *, steps: int = 150) -> tuple[Trained, Dataset]:
    """A small reader of the synthetic set, and 200 questions on passages on which it was not trained."""
    data, test = synthetic(3000, seed=1000 + seed), synthetic(200, seed=seed)
    return train(small(steps=steps), data, key=jax.random.key(seed), run=Run(chunk=50)), test


def _synthetic(out: Path, console: Any) -> Verdict:
    with console.status("training a small reader on questions from templates ..."):
        trained, test = train_synthetic(0)
    reader = trained.checked().model
    scores = reader.evaluate(test, "squad")
    console.print(f"after {reader.report['steps']} steps, {reader.report['cpu']:.0f} CPU seconds: {scores}")
    _ask(reader, test.examples[:6], console)
    example = next(e for e in test if e.id.startswith("en"))
    written = _figures(trained, out, example.question, example.passages[0].text)
    claims = [Claim("templates in two languages: exact match (%)", scores.exact, at_least=SYNTHETIC_GOAL)]
    return judge("reading", claims, f"templates in two languages: {scores}, {reader.report['cpu']:.0f} CPU s", written)


def _real(out: Path, there: list[str], console: Any) -> Verdict:
    data, config = corpora.training_set(there, console.print), chinese()
    dev = read(corpora.corpus("cmrc-dev")) if corpora.corpus("cmrc-dev").is_file() else None
    console.print(f"training for {config.steps} steps, at most {MINUTES:.0f} minutes, on {len(data)} questions ...")
    host = Run(progress=True, callback=TimeBudget(MINUTES))
    trained = train(config, data, key=jax.random.key(0), run=host, dev=dev).checked()
    reader = trained.model
    path = save(out / "reader.safetensors", reader)
    scores = corpora.corpus_scores(reader)
    console.print(_scores_table(scores))
    test = dev if dev is not None else data
    _ask(reader, test.examples[:200:20], console)
    example = min(test.examples[:100], key=lambda e: len(e.passages[0].text))
    written = [path, *_figures(trained, out, example.question, example.passages[0].text)]
    claims = [Claim("test sets at hand", len(scores), at_least=1)]
    claims += [
        Claim(f"{name}: exact match (%)", found.exact, at_least=None if i else REAL_GOAL)
        for i, (name, found) in enumerate(scores.items())
    ]
    told = "; ".join(f"{name} {s}" for name, s in scores.items())
    sentence = f"{told}; {reader.report['cpu'] / 60:.0f} CPU minutes, no pretraining but characters' vectors"
    return judge("reading", claims, sentence, written)


def _scores_table(scores: dict[str, Scores]) -> Table:
    table = Table(title="one net, no pretraining but characters' vectors (EM / F1, percent)")
    for column in ("test", "metric", "EM", "F1", "questions", "published"):
        table.add_column(column)
    for name, found in scores.items():
        numbers = f"{found.exact:.1f}", f"{found.f1:.1f}", str(found.count)
        table.add_row(name, found.metric, *numbers, PUBLISHED[name])
    return table


def _ask(reader: Reader, examples: Sequence[Example], console: Any) -> None:
    table = Table(title="asked")
    for column in ("question", "answer", "score", "reference"):
        table.add_column(column)
    pairs = [(e.question, [p.text for p in e.passages]) for e in examples]
    for example, (found, *_) in zip(examples, reader.ask_batch(pairs, threshold=0.0), strict=True):
        table.add_row(example.question, found.text, f"{found.score:.2f}", " | ".join(example.answers))
    console.print(table)


def _figures(trained: Trained, out: Path, question: str, passage: str) -> list[Path]:
    caption = "Above: where the answer starts and ends. Below: how much each character matters to the answer's score."
    with style() as plt:
        answer, (above, below) = plt.subplots(2, 1, figsize=(9.0, 6.4))
        plots.plot_scores(trained.model, question, passage, axes=above)
        plots.plot_saliency(trained.model, question, passage, axes=below)
        curves, axes = plt.subplots()
        plots.plot_training(trained, axes=axes)
    return [
        save_figure(answer, out / "answer.png", caption=caption),
        save_figure(curves, out / "training.png", caption="Loss and dev score of the run."),
    ]
