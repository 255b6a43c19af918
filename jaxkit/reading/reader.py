"""The reader: fit it, ask it, save it."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxkit.core import checks
from jaxkit.learn import checkpoint as store
from jaxkit.reading import decode, explain, metrics, model, windows
from jaxkit.reading import train as training
from jaxkit.reading.answers import Answer, ranked, supported
from jaxkit.reading.data import Dataset, Example, Passage
from jaxkit.reading.encode import Vocabulary, initial_embedding, lac_table
from jaxkit.reading.pool import build, neighbours
from jaxkit.reading.vectors import Vectors

FILE = "reader.safetensors"
LAC_ROWS = 6000  # of LAC's most frequent characters that every vocabulary holds


@dataclasses.dataclass(frozen=True)
class Reader:
    """A net with its vocabulary: answers questions from passages.

    Attributes:
        params: Weights.
        config: The net.
        vocabulary: The vocabulary.
        threshold: Least score of the best span for an answer to be given (calibrated by `fit`).
        longest: Most tokens of an answer.
        report: How it was trained.

    Example:
        >>> import jax
        >>> from jaxkit import reading
        >>> data = reading.synthetic(3000)
        >>> reader = reading.Reader.fit(data, minutes=1, key=jax.random.key(0))  # doctest: +SKIP
        >>> vocabulary = reading.Vocabulary.of(p.text for e in data for p in e.passages)
        >>> untrained = reading.Reader(None, reading.Config(vocabulary=len(vocabulary)), vocabulary)
        >>> untrained.answer("谁？", []).text, untrained.answer("谁？", ["", " "]).text  # nothing to read is no error
        ('', '')
    """

    params: Any
    config: model.Config
    vocabulary: Vocabulary
    threshold: float = 0.0
    longest: int = 40
    report: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        train: Dataset,
        dev: Dataset | None = None,
        *,
        key: PRNGKeyArray,
        minutes: float | None = None,
        steps: int | None = None,
        metric: str = "cmrc",
        recipe: training.Recipe | None = None,
        min_count: int = 2,
        words: bool | None = None,
        embedding: Callable[[Vocabulary, int], np.ndarray] | None = None,
        vectors: Vectors | None = None,
        start: "Reader | None" = None,
        longest: int = 40,
        dev_size: int = 200,
        progress: bool = False,
        checkpoint: str | Path | None = None,
        resume: bool = False,
        devices: Sequence[Any] | None = None,
        **shape: Any,
    ) -> "Reader":
        """Train a reader.

        Args:
            train: Questions with passages; passages without spans are read as not answering.
            dev: Held-out questions: the best of six looks is kept, and the threshold calibrated, on `dev_size` of them.
            key: Key of all draws: the same key and number of steps give the same reader.
            minutes: Train about this long; 15 by default.
            steps: Train exactly this many steps instead.
            metric: Scorer of the looks.
            recipe: How to train.
            min_count: Least occurrences of a token in the vocabulary.
            words: Whether to use jieba's words; where it is installed by default.
            embedding: First embedding, of (vocabulary, width); LAC's character vectors by default, where jieba is.
            vectors: Fixed word vectors to add (`read_vectors`): their words are read too, and of the training set's
                only those with `min_count` occurrences have an embedding of their own.
            start: Go on from this reader's weights, with its vocabulary and its net, instead of beginning anew.
            longest: Most tokens of an answer.
            dev_size: Questions a look.
            progress: Print a line a segment.
            checkpoint: Folder for checkpoints.
            resume: Go on from there.
            devices: Cut batches over these.
            **shape: Fields of `model.Config` (`width`, `head`, `features`, ...).

        Returns:
            The reader; its `report` holds what was done.

        Raises:
            ValueError: The data hold no answers, or training collapsed twice.
        """
        recipe = training.Recipe() if recipe is None else recipe
        seed = int(jax.random.randint(jax.random.fold_in(key, 7), (), 0, 2**31 - 1, jnp.int32))
        if start is None:
            start = _untrained(train, key, seed, min_count, words, embedding, vectors, shape)
        params, config, vocabulary = start.params, start.config, start.vocabulary
        pool = build(train, vocabulary, window=recipe.window, seed=seed)
        part = None if dev is None else _some(dev, dev_size)

        def score(params: Any) -> float:
            found = cls(params, config, vocabulary, 0.0, longest).evaluate(part or (), metric)
            return found.exact + found.f1

        params, history, report = training.train(
            config, recipe, pool, params, key=jax.random.fold_in(key, 2),
            steps=steps, minutes=(15.0 if minutes is None else minutes) if steps is None else None,
            score=score if part is not None and len(part) else None, say=print if progress else lambda line: None,
            folder=checkpoint, resume=resume, devices=devices,
        )  # fmt: skip
        report |= {"questions": len(train), "vocabulary": len(vocabulary), "head": config.head}
        report |= {
            name: [round(float(v), 5) for v in values[:: max(len(values) // 100, 1)]]
            for name, values in history.items()
        }
        reader = cls(params, config, vocabulary, 0.0, longest, report)
        return reader if part is None or not len(part) else reader.calibrated(part)

    @overload
    def answer(
        self, question: str, passages: str | Sequence[str], *, threshold: float | None = None, vote: str = decode.VOTE
    ) -> Answer: ...

    @overload
    def answer(
        self,
        question: str,
        passages: str | Sequence[str],
        *,
        top_k: int,
        threshold: float | None = None,
        vote: str = decode.VOTE,
    ) -> Answer | list[Answer]: ...

    def answer(
        self,
        question: str,
        passages: str | Sequence[str],
        *,
        top_k: int = 1,
        threshold: float | None = None,
        vote: str = decode.VOTE,
    ) -> Answer | list[Answer]:
        """Answer a question from passages.

        Args:
            question: The question.
            passages: One text or several, of any length; none and empty ones are fine.
            top_k: With more than 1, a list of the best answers.
            threshold: Least score of the best span; the calibrated one by default, 0 always answers.
            vote: How passages vote (`decode.vote`).

        Returns:
            An `Answer`, or for `top_k > 1` a list of them (the empty answer alone if there is none).
        """
        checks.require(top_k > 0, "top_k", "be positive", f"is {top_k}")
        ranked = self.answer_batch([(question, passages)], top_k=top_k, threshold=threshold, vote=vote)[0]
        return ranked[0] if top_k == 1 else ranked

    def answer_batch(
        self,
        pairs: Iterable[tuple[str, str | Sequence[str]]],
        *,
        top_k: int = 1,
        threshold: float | None = None,
        vote: str = decode.VOTE,
        widest: int = windows.BUCKETS[-1],
    ) -> list[list[Answer]]:
        """Answer many questions at once, in full batches.

        Args:
            pairs: Questions with their passages.
            top_k: Most answers a question.
            threshold: See `answer`.
            vote: See `answer`.
            widest: Most tokens read at once; longer passages are read in overlapping windows.

        Returns:
            For each question its answers, the best first, at least one (which may be empty).
        """
        pairs = [(q, [p] if isinstance(p, str) else list(p)) for q, p in pairs]
        found = windows.read(self.params, self.config, self.vocabulary, pairs, longest=self.longest, widest=widest)
        least = self.threshold if threshold is None else threshold
        return [ranked(passages, f, top_k, least, vote) for (_, passages), f in zip(pairs, found, strict=True)]

    def evaluate(
        self,
        examples: Iterable[Example],
        metric: str = "cmrc",
        *,
        threshold: float = 0.0,
        vote: str = decode.VOTE,
        widest: int = windows.BUCKETS[-1],
    ) -> metrics.Scores:
        """Score the answers to examples.

        Args:
            examples: A `Dataset`, or examples.
            metric: `"cmrc"`, `"squad"` or `"sogou"`.
            threshold: 0 answers always.
            vote: How passages vote.
            widest: Most tokens read at once.
        """
        examples = list(examples)
        pairs = [(e.question, [p.text for p in e.passages]) for e in examples]
        answers = self.answer_batch(pairs, threshold=threshold, vote=vote, widest=widest)
        return metrics.score([a[0].text for a in answers], [e.answers for e in examples], metric)

    def existence(self, examples: Iterable[Example], *, by: str = "span") -> tuple[np.ndarray, np.ndarray]:
        """For every passage of the examples, how sure the reader is that it answers, and whether it truly does.

        Args:
            examples: A `Dataset`, or examples.
            by: `"span"`: score of its best span; `"head"`: what the head for existence says alone; `"vote"`: what all
                passages of the question together make likely (`decode.supported`).
        """
        checks.one_of("by", by, ("span", "head", "vote"))
        examples = list(examples)
        pairs = [(e.question, [p.text for p in e.passages]) for e in examples]
        found = windows.read(self.params, self.config, self.vocabulary, pairs, longest=self.longest)
        if by == "vote":
            sure = [share for (_, p), f in zip(pairs, found, strict=True) for share in supported(p, f)]
        else:
            best = lambda f: f.candidates[0][0] if f.candidates else 0.0
            sure = [best(f) if by == "span" else f.exists for one in found for f in one]
        return np.array(sure), np.array([bool(p.spans) for e in examples for p in e.passages])

    def calibrated(self, dev: Iterable[Example]) -> "Reader":
        """The reader with the threshold that best parts passages that answer from others that share words.

        For each question one passage of another question is added; the threshold maximises the share of rightly
        answered and rightly refused passages (each kind weighs the same).
        """
        examples = [e for e in dev if any(p.spans for p in e.passages)]
        texts = list(dict.fromkeys(p.text for e in examples for p in e.passages))
        if len(texts) < 2:
            return self
        encode = self.vocabulary.encode
        others = neighbours(
            Dataset(tuple(examples)), texts, [encode(e.question)[0] for e in examples], [encode(t)[0] for t in texts]
        )
        paired = [
            dataclasses.replace(e, passages=(next(p for p in e.passages if p.spans), Passage(texts[others[i, 0]])))
            for i, e in enumerate(examples)
        ]
        score, right = self.existence(paired)
        order = np.argsort(score)
        # With the threshold just above the k-th score, k + 1 passages are refused.
        refused = np.cumsum(~right[order]) / max((~right).sum(), 1)
        answered = 1 - np.cumsum(right[order]) / max(right.sum(), 1)
        k = int(np.argmax(refused + answered))
        threshold = float(score[order][k : k + 2].mean())
        return dataclasses.replace(self, threshold=threshold, report=self.report | {"auc": auc(score, right)})

    def saliency(self, question: str, passage: str) -> np.ndarray:
        """How much each character matters: derivative of the log score of the answer by the weight of its embedding.

        Args:
            question: The question.
            passage: The passage; of a long one, the first 256 tokens.

        Returns:
            Shape `(len(passage),)`: zero at white space; all zero where there is nothing to read.
        """
        return explain.saliency(self.params, self.config, self.vocabulary, self.longest, question, passage)

    def places(self, question: str, passage: str) -> tuple[list[str], np.ndarray, np.ndarray, float]:
        """The tokens of a passage (its first 256), how probable start and end are at each, and existence."""
        return explain.places(self.params, self.config, self.vocabulary, self.longest, question, passage)

    def save(self, folder: str | Path) -> Path:
        """Write the reader into a folder, as one file that knows whether it is whole."""
        about = {"config": _plain(self.config), "keys": list(self.vocabulary.keys), "words": self.vocabulary.words}
        about |= {"threshold": self.threshold, "longest": self.longest, "report": self.report}
        packed = np.frombuffer(json.dumps(about, ensure_ascii=False).encode(), np.uint8)
        return store.save(
            Path(folder) / FILE, {"params": self.params, "about": packed},
            meta={"config": about["config"], "about": len(packed)},
        )  # fmt: skip

    @classmethod
    def load(cls, folder: str | Path) -> "Reader":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: There is no reader in the folder.
            CheckpointError: A byte has changed; one sentence.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            raise FileNotFoundError(f"Argument `folder` must hold a saved reader, but {folder} has no {FILE}.")
        kept = store.meta(path)
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in kept["config"].items()}
        config = model.Config(**fields)
        like = jax.eval_shape(training.network(config).init, jax.random.key(0))
        tree = store.load(path, {"params": like, "about": jax.ShapeDtypeStruct((kept["about"],), np.uint8)})
        about = json.loads(bytes(np.asarray(tree["about"])))
        vocabulary = Vocabulary(tuple(about["keys"]), about["words"])
        return cls(tree["params"], config, vocabulary, about["threshold"], about["longest"], about["report"])


def auc(score: np.ndarray, right: np.ndarray) -> float:
    """Area under the ROC curve: the probability that a right one scores above a wrong one (ties count half)."""
    order = np.argsort(score, kind="stable")
    ranks = np.empty(len(score))
    ranks[order] = np.arange(1, len(score) + 1)
    for value in np.unique(score):
        ranks[score == value] = ranks[score == value].mean()
    n, m = int(right.sum()), int((~right).sum())
    return float((ranks[right].sum() - n * (n + 1) / 2) / max(n * m, 1))


def _untrained(
    train: Dataset,
    key: PRNGKeyArray,
    seed: int,
    min_count: int,
    words: bool | None,  # noqa: FBT001
    embedding: Callable[[Vocabulary, int], np.ndarray] | None,
    vectors: Vectors | None,
    shape: dict[str, Any],
) -> Reader:
    """A reader before its first step."""
    learned = _vocabulary(train, min_count, words)
    vocabulary = learned if vectors is None else learned.with_keys(vectors.keys)
    shape = {k: tuple(v) if isinstance(v, list) else v for k, v in shape.items()}
    if vectors is not None:
        shape |= {"learned": len(learned), "vectors": vectors.table.shape[1]}
    config = model.Config(vocabulary=len(vocabulary), **shape)
    params = training.network(config).init(jax.random.fold_in(key, 1))
    table = (embedding or (lambda v, width: initial_embedding(v, width, seed)))(learned, config.width)
    params |= {"embedding": jnp.asarray(table, jnp.float32)}
    params |= {} if vectors is None else {"vectors": jnp.asarray(vectors.rows(vocabulary))}
    return Reader(params, config, vocabulary)


def _vocabulary(train: Dataset, min_count: int, words: bool | None) -> Vocabulary:  # noqa: FBT001
    texts = dict.fromkeys(p.text for e in train for p in e.passages)
    lac = lac_table()
    chinese = lac is not None and any("一" <= c <= "鿿" for e in list(train)[:100] for c in e.question)
    also = lac[0][:LAC_ROWS] if lac is not None and chinese else ()
    return Vocabulary.of([*texts, *(e.question for e in train)], min_count=min_count, also=also, words=words)


def _some(data: Dataset, count: int) -> Dataset:
    """`count` questions, evenly spread."""
    every = max(len(data) // max(count, 1), 1)
    return Dataset(data.examples[::every][:count])


def _plain(config: model.Config) -> dict[str, Any]:
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}  # pyright: ignore[reportArgumentType]
