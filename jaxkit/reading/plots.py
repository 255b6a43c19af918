"""Figures: what the reader looks at, how sure it is of each token, and how training went."""

from typing import TYPE_CHECKING

import numpy as np

from jaxkit.report.figures import axes_or_new, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jaxkit.reading.reader import Reader
    from jaxkit.reading.training import Trained


def plot_saliency(reader: "Reader", question: str, passage: str, *, axes: "Axes | None" = None) -> "Axes":
    """How much each character of a passage matters to the answer, as bars; the answer's characters are shaded.

    Args:
        reader: A reader.
        question: The question.
        passage: The passage; at most 256 tokens of it are drawn.
        axes: Where to draw; new ones by default.

    Returns:
        The axes.
    """
    answer, weight = reader.ask(question, passage, threshold=0.0), reader.saliency(question, passage)
    shown = np.flatnonzero([not c.isspace() for c in passage])[:256]
    with axes_or_new(axes, figsize=(9.0, 3.2)) as axes:
        colours = ["C3" if weight[i] < 0 else "C0" for i in shown]
        axes.bar(np.arange(len(shown)), weight[shown], color=colours, width=0.9)
        inside = np.flatnonzero((shown >= answer.start) & (shown < answer.end))
        if len(inside):
            axes.axvspan(inside[0] - 0.5, inside[-1] + 0.5, color="C1", alpha=0.25, label="answer")
            axes.legend()
        axes.axhline(0, color="0.5", linewidth=0.8)
        _characters(axes, passage, shown)
        axes.set(xlabel="character of the passage", ylabel="d log score /\nd weight of the embedding")
        axes.set_title(plain(f"what matters to the answer: {question} -> {answer.text} (score {answer.score:.2f})"))
    return axes


def plot_scores(reader: "Reader", question: str, passage: str, *, axes: "Axes | None" = None) -> "Axes":
    """Probabilities that the answer starts, and that it ends, at each token of a passage.

    Args:
        reader: A reader.
        question: The question.
        passage: The passage; its first 256 tokens are drawn.
        axes: Where to draw; new ones by default.

    Returns:
        The axes.
    """
    tokens, start, end, exists = reader.token_probabilities(question, passage)
    with axes_or_new(axes, figsize=(9.0, 3.2)) as axes:
        at = np.arange(len(tokens))
        axes.step(at, start, where="mid", color="C0", label="start")
        axes.step(at, end, where="mid", color="C1", label="end", linestyle="--")
        axes.set(xlabel="token of the passage", ylabel="probability", ylim=(0, 1.02))
        axes.legend(title=f"there is an answer: {exists:.2f}")
        axes.set_title(plain(f"where: {question}"))
        if len(tokens) <= 90:
            axes.set_xticks(at, [plain(token) for token in tokens], rotation=90, fontsize=6)
    return axes


def plot_training(trained: "Trained", *, axes: "Axes | None" = None) -> "Axes":
    """Loss of a training run over its steps, and the scores on held-out questions.

    Args:
        trained: What `train` returned.
        axes: Where to draw; new ones by default.

    Returns:
        The axes.
    """
    with axes_or_new(axes) as axes:
        loss, looks = np.asarray(trained.history), trained.model.report.get("looks")
        axes.plot(np.arange(len(loss)), loss, color="C0", label="loss of a batch")
        axes.set(xlabel="step", ylabel="loss", title="training")
        if looks:
            right = axes.twinx()
            at, value = np.array(looks).T
            right.plot(at, value / 2, "o-", color="C1", label="dev: mean of EM and F1 (%)")
            right.set_ylabel("dev score (%)")
            right.legend(loc="upper right", bbox_to_anchor=(1.0, 0.88))
        axes.legend(loc="upper right")
    return axes


def _characters(axes: "Axes", passage: str, shown: np.ndarray) -> None:
    if len(shown) <= 120:
        axes.set_xticks(np.arange(len(shown)), [plain(passage[i]) for i in shown], fontsize=6)
