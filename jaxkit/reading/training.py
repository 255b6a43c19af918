"""Training a reader: the loss, the schedule, and a run of `jk.fit` that keeps the best weights."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxkit.core.run import Run
from jaxkit.core.status import Outcome
from jaxkit.core.struct import struct
from jaxkit.learn.callbacks import KeepBest
from jaxkit.learn.descent import TrainState
from jaxkit.learn.fit import Fit, fit
from jaxkit.reading import model
from jaxkit.reading.config import Config, Recipe
from jaxkit.reading.data import Dataset
from jaxkit.reading.encode import Vocabulary, initial_embedding, lac_table
from jaxkit.reading.pool import Batch, Sampler, build
from jaxkit.reading.reader import Reader
from jaxkit.reading.vectors import Vectors

WARM_UP = 200  # steps of increasing learning rate, but at most a tenth of the run
LOW = 0.02  # learning rate at the end, as a share of its peak
BLIND = 0.98  # a pointer loss above this share of the loss of guessing, after a quarter of the run, is a collapse
MEMORY = 0.98  # decay of the running mean of the pointer loss
LAC_ROWS = 6000  # rows of LAC's most frequent characters, which every Chinese vocabulary holds
FIXED = "vectors"  # the parameter that training does not change


@struct
class Trained(Outcome):
    """A trained reader and how it was reached.

    Attributes:
        model: The reader, with the averaged weights that scored best on held-out questions.
        history: Loss of each step, shape `(steps,)`; NaN after an early end of the run.
        metrics: The parts of the loss, `pointer` and `existence`, and `contrast`, the difference in the probability of
            an answer between windows with and without one; each of shape `(steps,)`.
        status: `Status` code.
        steps: Steps taken.
    """

    verb: ClassVar[str] = "reading.train"

    model: Reader
    history: Float[Array, " steps"]
    metrics: dict[str, Array]
    status: Int[Array, ""]
    steps: Int[Array, ""]


def train(
    config: Config,
    data: Dataset,
    *,
    key: PRNGKeyArray,
    run: Run | None = None,
    dev: Dataset | None = None,
    vectors: Vectors | None = None,
    start: Reader | None = None,
) -> Trained:
    """Train a reader.

    If after a quarter of the run the pointers know no more than the length of the window, training starts again, once,
    with another order of the data (its checkpoints lie in a folder `again` beside the others).

    Args:
        config: The net and the recipe.
        data: Questions with passages; passages without spans count as not answering.
        key: Key of all draws: the same key gives the same reader.
        run: What the host does meanwhile: see `jaxkit.Run`.
        dev: Held-out questions: `config.dev_size` of them are scored `config.evaluations` times, the best weights are
            kept, and the threshold is calibrated on them. Without them, the last weights are kept.
        vectors: Fixed word vectors to add (`read_vectors`): their words are known too, and only words of the training
            set with `config.min_count` occurrences have an embedding of their own.
        start: Continue from this reader's weights, with its vocabulary and net, instead of beginning anew.

    Returns:
        A `Trained`; the `report` of its `model` says what was done. A loss that is not finite does not raise: call
        `.checked()`, or look at `.status`.

    Raises:
        ValueError: The data hold no answers, or training collapsed twice.

    Example:
        >>> import jax
        >>> from jaxkit import reading
        >>> config = reading.Config(reading.Architecture(width=8), reading.Recipe(batch_size=4), steps=2, words=False)
        >>> trained = reading.train(config, reading.synthetic(20), key=jax.random.key(0)).checked()
        >>> trained.history.shape, len(trained.model.vocabulary) == trained.model.architecture.vocabulary_size
        ((2,), True)
    """
    run = Run() if run is None else run
    seed = int(jax.random.randint(jax.random.fold_in(key, 7), (), 0, 2**31 - 1, jnp.int32))
    begin = _untrained(config, data, jax.random.fold_in(key, 1), seed, vectors) if start is None else start
    pool = build(data, begin.vocabulary, window=config.recipe.window, seed=seed)
    part = _spread(dev, config.dev_size) if dev is not None else ()
    fixed = {name: value for name, value in begin.params.items() if name == FIXED}
    ready = lambda params: dataclasses.replace(begin, params=params | fixed, threshold=0.0)

    def score(params: Any) -> float:
        found = ready(params).evaluate(part, config.metric)
        return found.exact + found.f1

    for again in range(2):
        overseer = _Overseer(config, begin.architecture.head, run.chunk, score if part else None)
        sampler = Sampler(pool, jax.random.fold_in(jax.random.fold_in(key, 2), again), config.recipe)
        noise = jax.random.fold_in(key, 3 + again)
        done = _moved(config, begin, sampler, noise, _attended(run, overseer, again=again > 0))
        if not overseer.collapsed:
            break
    else:
        raise ValueError("Argument `data` must be learnable, but training collapsed twice: every window looks alike.")
    params = overseer.chosen(done)
    report = overseer.report(done) | {"restarts": again, "questions": len(data), "vocabulary": len(begin.vocabulary)}
    reader = dataclasses.replace(ready(params), report=report)
    reader = reader.calibrated(part) if part else reader
    return Trained(reader, done.history, done.metrics, done.status, done.steps)


def schedule(recipe: Recipe, steps: int) -> optax.Schedule:
    """A warm-up, then a cosine down to nearly zero after `steps` steps."""
    warm = max(round(min(WARM_UP, 0.1 * steps)), 1)
    rise = optax.linear_schedule(recipe.learning_rate / warm, recipe.learning_rate, warm - 1)
    fall = optax.cosine_decay_schedule(recipe.learning_rate, max(steps - warm, 1), alpha=LOW)
    return optax.join_schedules([rise, fall], [warm])


def optimizer(recipe: Recipe, steps: int) -> optax.GradientTransformation:
    """Adam with weight decay of the matrices and gradient clipping."""
    matrices = lambda params: jax.tree.map(lambda v: v.ndim > 1, params)
    adam = optax.adamw(schedule(recipe, steps), weight_decay=recipe.weight_decay, mask=matrices)
    return optax.chain(optax.clip_by_global_norm(recipe.clip_norm), adam)


def blind(pointer: float, head: str, window: int) -> bool:
    """Whether a mean pointer loss shows the known collapse: the net knows no more than the length of the window.

    The mean pointer loss is compared with that of guessing. (In ports of the article's focal loss, the collapse shows
    as probabilities that are all zero.)
    """
    if head == "softmax":
        return not pointer < BLIND * 2 * np.log(window)
    share = jnp.float32(1 / window)  # what a blind net learns everywhere: the share of positives
    return not pointer < BLIND * 200 * float(model.focal(share, share))


@struct
class _Stream:
    """The i-th batch, and the fixed vectors, which are not parameters."""

    sampler: Sampler
    fixed: dict[str, Array]  # with a leading axis of 1, since batches are cut over devices along their first axis

    def __call__(self, i: Array) -> tuple[Batch, dict[str, Array]]:
        return self.sampler(i), self.fixed


def _moved(config: Config, begin: Reader, sampler: Sampler, noise: PRNGKeyArray, run: Run) -> Fit:
    """Fit the weights of `begin`; the carry is the running mean of the pointer loss, `(sum, weight)`."""
    net, recipe = model.network(begin.architecture), config.recipe

    def loss(params: Any, given: tuple[Batch, dict[str, Array]], key: Array, carry: Array) -> tuple[Array, Any, Array]:
        batch, fixed = given[0], {name: table[0] for name, table in given[1].items()}
        logits = net.apply(params | fixed, batch.question, batch.passage, key)
        value, parts = model.span_loss(logits, batch.start, batch.end, begin.architecture.head)
        positive = (jnp.max(batch.start, axis=1) > 0).astype(jnp.float32)
        sure = jax.nn.sigmoid(logits.exists)
        mean = lambda w: jnp.sum(w * sure) / jnp.maximum(jnp.sum(w), 1)
        pointer = jax.lax.stop_gradient(parts["pointer"])
        carry = MEMORY * carry + (1 - MEMORY) * jnp.stack([pointer, jnp.ones_like(pointer)])
        return value, parts | {"contrast": mean(positive) - mean(1 - positive)}, carry

    def ema(i: Array) -> Array:
        n = i.astype(jnp.float32)
        return jnp.minimum(recipe.ema, (1 + n) / (10 + n))

    params = {name: value for name, value in begin.params.items() if name != FIXED}
    stream = _Stream(sampler, {name: value[None] for name, value in begin.params.items() if name == FIXED})
    method, first = optimizer(recipe, config.steps), jnp.zeros(2, jnp.float32)
    return fit(
        loss, params, stream, optimizer=method, steps=config.steps, key=noise, carry=first, ema=ema, run=run
    )  # fmt: skip


class _Overseer:
    """Callback of a run: measures its CPU time, keeps the best weights, and ends it if the pointers learn nothing."""

    def __init__(self, config: Config, head: str, chunk: int, score: Callable[[Any], float] | None):
        self.config, self.head, self.chunk = config, head, chunk
        self.best = None if score is None else KeepBest(score)
        self.looks = np.full((config.evaluations + 1, 2), np.nan, np.float32)
        self.cpu, self.at, self.collapsed, self._clock = 0.0, 0, False, time.process_time()

    def __call__(self, step: int, state: TrainState) -> bool:
        """True after a collapse."""
        self.cpu += time.process_time() - self._clock
        total, weight = (float(v) for v in state.carry)
        late = 4 * step >= self.config.steps and step >= 2 * self.chunk
        self.collapsed = late and blind(total / weight, self.head, self.config.recipe.window)
        due = lambda step: step * self.config.evaluations // self.config.steps
        if due(step) > due(self.at) and not self.collapsed:
            self.look(step, state.averaged)
        self.at, self._clock = step, time.process_time()
        return self.collapsed

    def look(self, step: int, params: Any) -> None:
        """Score weights on the held-out questions, if there are any."""
        if self.best is not None:
            row = int(np.sum(np.isfinite(self.looks[:, 0])))
            self.looks[row] = step, self.best.look(step, params)

    def chosen(self, done: Fit) -> Any:
        """The best weights, after a last look if the run ended early; the last weights if nothing was scored."""
        if self.best is None:
            return done.ema
        if int(done.steps) not in self.looks[:, 0]:
            self.look(int(done.steps), done.ema)
        return done.ema if self.best.params is None else self.best.params

    def report(self, done: Fit) -> dict[str, Any]:
        """What was done, as numbers."""
        looks = self.looks[np.isfinite(self.looks[:, 0])].tolist()
        return {"steps": int(done.steps), "cpu": self.cpu, "looks": [[int(step), value] for step, value in looks]}

    def state(self, now: TrainState) -> dict[str, Any]:
        """What a checkpoint holds."""
        best = None if self.best is None else self.best.state(now)
        return {"cpu": jnp.asarray(self.cpu), "at": jnp.int32(self.at), "looks": jnp.asarray(self.looks), "best": best}

    def restore(self, tree: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.cpu, self.at, self.looks = float(tree["cpu"]), int(tree["at"]), np.array(tree["looks"])
        if self.best is not None:
            self.best.restore(tree["best"])
        self._clock = time.process_time()


def _attended(run: Run, overseer: _Overseer, *, again: bool) -> Run:
    """The run with one more callback; a second attempt has checkpoints of its own."""
    folder = Path(run.checkpoint) / "again" if again and run.checkpoint is not None else run.checkpoint
    return dataclasses.replace(run, callback=[*run.callbacks, overseer], checkpoint=folder)


def _untrained(config: Config, data: Dataset, key: PRNGKeyArray, seed: int, vectors: Vectors | None) -> Reader:
    """A reader before its first step."""
    learned = _vocabulary(config, data)
    vocabulary = learned if vectors is None else learned.with_keys(vectors.keys)
    sizes: dict[str, int] = {"vocabulary_size": len(vocabulary)}
    if vectors is not None:
        sizes |= {"learned_rows": len(learned), "vector_width": vectors.table.shape[1]}
    architecture = dataclasses.replace(config.architecture, **sizes)
    params = model.network(architecture).init(key)
    table = initial_embedding(learned, architecture.width, seed, pretrained=config.pretrained_characters)
    params |= {"embedding": jnp.asarray(table, jnp.float32)}
    params |= {} if vectors is None else {FIXED: jnp.asarray(vectors.rows(vocabulary))}
    return Reader(params, architecture, vocabulary, config.max_answer_tokens)


def _vocabulary(config: Config, data: Dataset) -> Vocabulary:
    texts = dict.fromkeys(p.text for e in data for p in e.passages)
    lac = lac_table()
    chinese = lac is not None and any("一" <= c <= "鿿" for e in list(data)[:100] for c in e.question)
    also = lac[0][:LAC_ROWS] if lac is not None and chinese else ()
    everything = [*texts, *(e.question for e in data)]
    return Vocabulary.of(everything, min_count=config.min_count, also=also, words=config.words)


def _spread(data: Dataset, count: int) -> tuple[Any, ...]:
    """`count` evenly spread questions, since neighbours are alike."""
    return data.examples[:: max(len(data) // count, 1)][:count]
