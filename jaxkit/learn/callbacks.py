"""Callbacks for `jk.Run(callback=...)`: keep the best parameters by a score, end a run when its time is up.

`jk.Run(callback=[best, budget])` takes several. They are called between chunks, so `jk.Run(chunk=...)` sets how finely
they act; what they remember is part of the run's checkpoints.
"""

import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxkit.core import checks
from jaxkit.learn.descent import TrainState


@runtime_checkable
class Stateful(Protocol):
    """A callback that remembers something: checkpoints hold it, and a run that is resumed gives it back."""

    def __call__(self, step: int, state: TrainState) -> Any:
        """Called after a chunk; something true ends the run."""
        ...

    def state(self, now: TrainState) -> PyTree:
        """Arrays to write; the same structure and shapes at any time (`now` is the run's state, for templates)."""
        ...

    def restore(self, tree: PyTree) -> None:
        """Take back what `state` gave."""
        ...


class KeepBest:
    """Keep the parameters with the highest score, and end the run when they no longer improve.

    Args:
        score: `score(params) -> float`, higher is better; it is given the averaged parameters where `fit` keeps an
            average (`ema`), and a dictionary of players for `play`. A NaN score is never the best.
        every: Number of chunks between two looks.
        patience: End the run after this many looks in a row without a better score; None never ends it.

    Attributes:
        params: The best parameters so far; None before the first look.
        value: Their score.
        step: Number of steps after which they were found.
        looks: `(step, score)` of each look in this process.

    Example:
        >>> import jax.numpy as jnp, optax, jaxkit as jk
        >>> best = jk.learn.KeepBest(lambda p: -abs(float(p) - 5.0))
        >>> run = jk.Run(chunk=1, callback=[best, jk.learn.TimeBudget(minutes=5)])
        >>> done = jk.fit(lambda p, _: -p, 0.0, optimizer=optax.sgd(1.0), steps=8, run=run)
        >>> float(done.params), float(best.params), best.step
        (8.0, 5.0, 5)
    """

    def __init__(self, score: Callable[[Any], Any], *, every: int = 1, patience: int | None = None):
        checks.require(every > 0, "every", "be positive", f"is {every}")
        checks.require(patience is None or patience > 0, "patience", "be positive or None", f"is {patience}")
        self.score, self.every, self.patience = score, every, patience
        self.params: Any = None
        self.value, self.step, self.looks = -float("inf"), 0, list[tuple[int, float]]()
        self._chunks = self._without = 0

    def __call__(self, step: int, state: TrainState) -> bool:
        """Look, if a look is due; true once the patience is exhausted."""
        self._chunks += 1
        if self._chunks % self.every == 0:
            self.look(step, state.averaged)
        return self.patience is not None and self._without >= self.patience

    def look(self, step: int, params: Any) -> float:
        """Score parameters and keep them if they are the best; also for a last look after the run."""
        value = float(self.score(params))
        self.looks.append((step, value))
        self._without += 1
        if value > self.value or (self.params is None and value == self.value):
            self.params, self.value, self.step, self._without = params, value, step, 0
        return value

    def state(self, now: TrainState) -> PyTree:
        """What a checkpoint holds."""
        params = now.averaged if self.params is None else self.params
        numbers = jnp.asarray([self.step, self._chunks, self._without, self.params is not None], jnp.int32)
        return {"params": params, "value": jnp.asarray(self.value), "numbers": numbers}

    def restore(self, tree: PyTree) -> None:
        """Go on from a checkpoint."""
        self.step, self._chunks, self._without, found = (int(v) for v in tree["numbers"])
        self.params, self.value = (tree["params"], float(tree["value"])) if found else (None, -float("inf"))


class TimeBudget:
    """End a run when its wall-clock time is up, counted from when this object is made.

    A resumed run goes on with the time that is left. To make a learning-rate schedule fit into the time, measure
    `seconds_per_step` in a short run first, and give the real one the number of steps that fit.

    Args:
        minutes: Length of the run. The run ends after the first chunk that leaves too little time for another.

    Attributes:
        spent: Seconds used, including those before a resumption.
        seconds_per_step: Time of a step, without the first chunk, which compiles; NaN before the second.
    """

    def __init__(self, minutes: float):
        checks.positive("minutes", minutes)
        self.minutes, self.spent, self.seconds_per_step = minutes, 0.0, float("nan")
        self._clock = time.perf_counter()
        self._first: tuple[int, float] | None = None

    def __call__(self, step: int, state: TrainState) -> bool:
        """True when the time is up."""
        del state
        now = time.perf_counter()
        lasted, self._clock = now - self._clock, now
        self.spent += lasted
        if self._first is None:
            self._first = (step, now)
            return self.spent >= 60 * self.minutes
        self.seconds_per_step = (now - self._first[1]) / (step - self._first[0])
        return self.spent + lasted > 60 * self.minutes

    def state(self, now: TrainState) -> PyTree:
        """What a checkpoint holds."""
        del now
        return {"spent": jnp.asarray(self.spent)}

    def restore(self, tree: PyTree) -> None:
        """Go on from a checkpoint."""
        self.spent, self._clock = float(jax.device_get(tree["spent"])), time.perf_counter()
