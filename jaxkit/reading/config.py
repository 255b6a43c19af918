"""What a reader is and how it is trained: the net's architecture, the recipe, and both in one `Config`."""

import dataclasses

from jaxkit.core import checks

HEADS = ("softmax", "pointer")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The net's shape.

    Attributes:
        width: Number of channels.
        question_dilations: Dilations of the question's blocks.
        passage_dilations: Dilations of the passage's blocks: (1, 2, 4, 8, 16, 1) sees 32 tokens to each side.
        head: `"softmax"`: pointers over the passage, existence separate (best on single passages); `"pointer"`: the
            article's sigmoids times existence, with focal loss.
        features: Whether the net sees where question and passage agree (`features.dense`).
        align: Whether the net sees, at each place, the question's tokens most similar to the token there.
        lexical: Whether the net sees the shape of tokens (script, case, punctuation) and parts of speech.
        positions: Whether the net sees where in the passage a token stands (the article's sines; an ablation).
        gate: Whether the blocks have gates (plain residual convolutions otherwise; an ablation).
        dropout: Share of the embedding channels that are dropped in training.
        gate_noise: Relative noise of the gates in training.
        convolution: How the convolution is computed: a name in `nets.text.FORMS`.
        vocabulary_size: Rows of the embedding. This field and the next two follow from the data: `train` sets them.
        learned_rows: Number of first rows of the embedding that are learned; the others have only fixed vectors. 0
            learns all.
        vector_width: Width of the fixed vectors that are added to the embedding; 0 without them.
    """

    width: int = 128
    question_dilations: tuple[int, ...] = (1, 2, 1)
    passage_dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 1)
    head: str = "softmax"
    features: bool = True
    align: bool = True
    lexical: bool = True
    positions: bool = False
    gate: bool = True
    dropout: float = 0.1
    gate_noise: float = 0.1
    convolution: str = "winograd"
    vocabulary_size: int = 0
    learned_rows: int = 0
    vector_width: int = 0

    def __post_init__(self) -> None:
        """Check the values; lists, as in JSON, become tuples."""
        checks.one_of("head", self.head, HEADS)
        for name in ("question_dilations", "passage_dilations"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a reader is trained.

    Attributes:
        learning_rate: Peak of the learning rate, after the warm-up.
        weight_decay: Weight decay of the matrices.
        clip_norm: Norm at which the gradient is clipped.
        batch_size: Windows per step.
        window: Tokens per window.
        negatives: Share of the windows from passages that do not answer the question.
        random_windows: Share of the other windows that lie anywhere in the passage, with or without the answer.
        unanswerable: Share of the other windows from which the answer was cut.
        token_dropout: Share of the tokens whose identity is hidden.
        ema: Decay of the averaged weights, which are those that answer; 0 for no average.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    clip_norm: float = 5.0
    batch_size: int = 32
    window: int = 128
    negatives: float = 0.4
    random_windows: float = 0.2
    unanswerable: float = 0.0
    token_dropout: float = 0.05
    ema: float = 0.999

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("learning_rate", "clip_norm", "batch_size", "window"):
            checks.positive(name, float(getattr(self, name)))
        for name in ("negatives", "random_windows", "unanswerable", "token_dropout"):
            value = getattr(self, name)
            checks.require(0 <= value <= 1, name, "lie in [0, 1]", f"is {value}")


@dataclasses.dataclass(frozen=True)
class Config:
    """A reader before it is trained.

    Attributes:
        architecture: The net.
        recipe: How it is trained.
        steps: Number of steps.
        max_answer_tokens: Most tokens of an answer.
        min_count: Least number of occurrences with which a token enters the vocabulary.
        words: Whether to use jieba's words; None uses them if jieba is installed.
        pretrained_characters: Whether the embedding starts from LAC's character vectors, if jieba is installed.
        metric: Scorer of held-out questions: `"cmrc"`, `"squad"` or `"sogou"`.
        dev_size: Number of held-out questions by which the best weights are chosen and the threshold is calibrated.
        evaluations: Number of times that held-out questions are scored.

    Example:
        >>> from jaxkit import reading
        >>> config = reading.Config(steps=500, recipe=reading.Recipe(batch_size=16))
        >>> config.architecture.width, config.recipe.ema
        (128, 0.999)
    """

    architecture: Architecture = Architecture()
    recipe: Recipe = Recipe()
    steps: int = 3000
    max_answer_tokens: int = 40
    min_count: int = 2
    words: bool | None = None
    pretrained_characters: bool = True
    metric: str = "cmrc"
    dev_size: int = 200
    evaluations: int = 6

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("steps", "max_answer_tokens", "dev_size", "evaluations"):
            value = getattr(self, name)
            checks.require(value > 0, name, "be positive", f"is {value}")


def small(*, steps: int = 150) -> Config:
    """A small net for the synthetic questions, whose facts of a few words need no wide view."""
    architecture = Architecture(width=64, question_dilations=(1, 2), passage_dilations=(1, 2, 4, 1))
    recipe = Recipe(learning_rate=3e-3, window=96, ema=0.98)
    return Config(architecture, recipe, steps, max_answer_tokens=8, words=False)


def chinese(*, steps: int = 3000) -> Config:
    """The run of `python -m jaxkit run reading` on Chinese questions; 3,000 steps are enough."""
    # Windows without their answer teach the net to say no; too many of them cost exact matches.
    return Config(recipe=Recipe(unanswerable=0.08, token_dropout=0.1), steps=steps, dev_size=400)
