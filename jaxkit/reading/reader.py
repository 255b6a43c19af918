"""The reader: fit it, ask it, save it."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxkit.core import checks
from jaxkit.learn import checkpoint as store
from jaxkit.reading import decode, metrics, model, windows
from jaxkit.reading import train as training
from jaxkit.reading.data import Dataset, Example, Passage
from jaxkit.reading.encode import Vocabulary, initial_embedding, lac_table, pad
from jaxkit.reading.pool import QUESTION, build, neighbours
from jaxkit.reading.vectors import Vectors

FILE = "reader.safetensors"
LAC_ROWS = 6000  # of LAC's most frequent characters that every vocabulary holds


@dataclasses.dataclass(frozen=True)
class Answer(Mapping):
    """An answer and where it stands; also a mapping with the keys of the former transformers pipeline.

    Attributes:
        text: The answer: `passages[passage][start:end]`; empty if there is none.
        start: First character.
        end: One past the last.
        score: What the vote gave it.
        passage: Index of the passage in which it scored highest; None if there is no answer.
        probability: Highest probability that any passage answers.
        support: Passages that voted for it.
    """

    text: str
    start: int = 0
    end: int = 0
    score: float = 0.0
    passage: int | None = None
    probability: float = 0.0
    support: tuple[int, ...] = ()

    def __getitem__(self, key: str) -> Any:
        """`answer`, `score`, `start` or `end`."""
        return {"answer": self.text, "score": self.score, "start": self.start, "end": self.end}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("answer", "score", "start", "end"))

    def __len__(self) -> int:
        return 4

    def __bool__(self) -> bool:
        return bool(self.text)


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
        learned = _vocabulary(train, min_count, words)
        vocabulary = learned if vectors is None else learned.with_keys(vectors.keys)
        shape = {k: tuple(v) if isinstance(v, list) else v for k, v in shape.items()}
        if vectors is not None:
            shape |= {"learned": len(learned), "vectors": vectors.table.shape[1]}
        config = model.Config(vocabulary=len(vocabulary), **shape)
        seed = int(jax.random.randint(jax.random.fold_in(key, 7), (), 0, 2**31 - 1, jnp.int32))
        pool = build(train, vocabulary, window=recipe.window, seed=seed)
        params = training.network(config).init(jax.random.fold_in(key, 1))
        table = (embedding or (lambda v, width: initial_embedding(v, width, seed)))(learned, config.width)
        params = params | {"embedding": jnp.asarray(table, jnp.float32)}
        params |= {} if vectors is None else {"vectors": jnp.asarray(vectors.rows(vocabulary))}
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
        self, question: str, passages: str | Sequence[str], *, threshold: float | None = None, vote: str = "smoothed"
    ) -> Answer: ...

    @overload
    def answer(
        self,
        question: str,
        passages: str | Sequence[str],
        *,
        top_k: int,
        threshold: float | None = None,
        vote: str = "smoothed",
    ) -> Answer | list[Answer]: ...

    def answer(
        self,
        question: str,
        passages: str | Sequence[str],
        *,
        top_k: int = 1,
        threshold: float | None = None,
        vote: str = "smoothed",
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
        vote: str = "smoothed",
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
        return [self._ranked(passages, f, top_k, least, vote) for (_, passages), f in zip(pairs, found, strict=True)]

    def _ranked(
        self, passages: Sequence[str], found: Sequence[windows.Found], top_k: int, threshold: float, vote: str
    ) -> list[Answer]:
        places: dict[tuple[int, str], tuple[float, int, int]] = {}
        candidates: list[dict[str, float]] = []
        for i, one in enumerate(found):
            texts: dict[str, float] = {}
            for score, a, b in one.candidates:
                text = passages[i][a:b]
                if score > texts.get(text, 0.0):
                    texts[text], places[i, text] = score, (score, a, b)
            candidates.append(texts)
        probability = max((f.exists for f in found), default=0.0)
        best = max((s for texts in candidates for s in texts.values()), default=0.0)
        if best <= 0 or best < threshold:
            return [Answer("", probability=probability, score=best)]
        answers = []
        for text, score, members in decode.vote(candidates, rule=vote)[:top_k]:
            passage = max((i for i in members if (i, text) in places), key=lambda i: places[i, text][0])
            _, a, b = places[passage, text]
            answers.append(Answer(text, a, b, score, passage, probability, tuple(members)))
        return answers

    def evaluate(
        self,
        examples: Iterable[Example],
        metric: str = "cmrc",
        *,
        threshold: float = 0.0,
        vote: str = "smoothed",
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

    def existence(self, examples: Iterable[Example]) -> tuple[np.ndarray, np.ndarray]:
        """For every passage of the examples, the score of its best span, and whether it truly answers."""
        examples = list(examples)
        pairs = [(e.question, [p.text for p in e.passages]) for e in examples]
        found = windows.read(self.params, self.config, self.vocabulary, pairs, longest=self.longest)
        best = [f.candidates[0][0] if f.candidates else 0.0 for one in found for f in one]
        return np.array(best), np.array([bool(p.spans) for e in examples for p in e.passages])

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
        coded, cutting = self.vocabulary.encode(passage)
        asked, _ = self.vocabulary.encode(question)
        result = np.zeros(len(passage), np.float32)
        if not len(cutting) or not len(asked.ids):
            return result
        bucket = next((b for b in windows.BUCKETS if len(cutting) <= b), windows.BUCKETS[-1])
        row = lambda c, n, keep: jax.tree.map(lambda v: jnp.asarray(v)[None], pad(c, n, keep=keep))
        slope = _slope(self.config, self.longest)(self.params, row(asked, QUESTION, "end"), row(coded, bucket, "start"))
        for value, a, b in zip(np.asarray(slope), cutting.start, cutting.end, strict=False):
            result[a:b] = value
        return result

    def places(self, question: str, passage: str) -> tuple[list[str], np.ndarray, np.ndarray, float]:
        """The tokens of a passage (its first 256), how probable start and end are at each, and existence."""
        coded, cutting = self.vocabulary.encode(passage)
        asked, _ = self.vocabulary.encode(question)
        size = min(len(cutting), windows.BUCKETS[-1])
        if not size or not len(asked.ids):
            return cutting.words()[:size], np.zeros(size), np.zeros(size), 0.0
        bucket = next(b for b in windows.BUCKETS if size <= b)
        row = lambda c, n, keep: jax.tree.map(lambda v: jnp.asarray(v)[None], pad(c, n, keep=keep))
        net = training.network(self.config)
        logits = jax.jit(net.apply)(self.params, row(asked, QUESTION, "end"), row(coded, bucket, "start"))
        bare = dataclasses.replace(logits, exists=jnp.full_like(logits.exists, jnp.inf))  # places apart from existence
        start, end, _ = model.probabilities(bare, self.config.head)
        exists = float(jax.nn.sigmoid(logits.exists)[0])
        return cutting.words()[:size], np.asarray(start[0, :size]), np.asarray(end[0, :size]), exists

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


def _slope(config: model.Config, longest: int) -> Callable[..., Any]:
    net = training.network(config)

    def value(emphasis: Any, params: Any, question: Any, passage: Any) -> Any:
        start, end, _ = model.probabilities(net.apply(params, question, passage, emphasis=emphasis), config.head)
        score, _, _ = decode.spans(start, end, longest=longest, count=1)
        return jnp.log(jnp.maximum(score[0, 0], 1e-30))

    @jax.jit
    def slope(params: Any, question: Any, passage: Any) -> Any:
        ones = jnp.ones(passage.match.shape, jnp.float32)
        return jax.grad(value)(ones, params, question, passage)[0]

    return slope
