"""Training a reader: segments of one compiled program, with dev scores, guards and checkpoints between them."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from jaxkit.core import checks
from jaxkit.learn import checkpoint as store
from jaxkit.learn import nets, scale
from jaxkit.learn.fit import fit
from jaxkit.reading import model
from jaxkit.reading.encode import Coded
from jaxkit.reading.pool import QUESTION, Batch, Pool, Sampler

WARM = 200  # steps of rising learning rate
LOW = 0.02  # of the peak, at the end
BLIND = 0.98  # a pointer loss above this share of that of guessing, after a quarter of the run, is a collapse


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a reader is trained.

    Attributes:
        rate: Peak of the learning rate.
        decay: Weight decay.
        clip: Largest norm of a gradient.
        batch: Windows a step.
        window: Tokens a window.
        negatives: Share of windows from other passages.
        roam: Of the others, share anywhere in the passage.
        shorn: Of the others, share from which the answer was cut.
        hide: Share of tokens whose name is hidden.
        average: Decay of the averaged weights, which are the ones that answer; 0 for none.
        chunk: Steps between two looks.
    """

    rate: float = 1e-3
    decay: float = 1e-2
    clip: float = 5.0
    batch: int = 32
    window: int = 128
    negatives: float = 0.4
    roam: float = 0.2
    shorn: float = 0.0
    hide: float = 0.05
    average: float = 0.999
    chunk: int = 200


class Progress(NamedTuple):
    """State of a run between two segments; a pytree that is written as the checkpoint."""

    params: Any
    average: Any
    moments: Any
    step: Array
    best: Any
    best_score: Array


class Averaged(NamedTuple):
    """State of `averaged`."""

    inner: Any
    average: Any
    count: Array


def averaged(inner: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """An optimizer that also keeps the moving average of the parameters, with a decay of `min(decay, (1+n)/(10+n))`."""

    def init(params: Any) -> Averaged:
        return Averaged(inner.init(params), params, jnp.zeros((), jnp.int32))

    def update(slope: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        moves, moved = inner.update(slope, state.inner, params)
        n = state.count.astype(jnp.float32)
        keep = jnp.minimum(decay, (1 + n) / (10 + n)).astype(jnp.float32)
        new = optax.apply_updates(params, moves)
        mean = jax.tree.map(lambda old, v: keep * old + (1 - keep) * v, state.average, new)
        return moves, Averaged(moved, mean, state.count + 1)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def optimizer(recipe: Recipe, total: Array | int) -> optax.GradientTransformation:
    """Adam with decay, a clipped gradient, warm-up and a cosine down to almost nothing at `total` steps."""

    def rate(count: Any) -> Any:
        n, end = count.astype(jnp.float32), jnp.asarray(total, jnp.float32)
        warm = jnp.minimum(WARM, 0.1 * end)
        along = jnp.clip((n - warm) / jnp.maximum(end - warm, 1), 0, 1)
        fall = LOW + (1 - LOW) * 0.5 * (1 + jnp.cos(jnp.pi * along))
        return recipe.rate * jnp.minimum((n + 1) / jnp.maximum(warm, 1), fall)

    matrices = lambda params: jax.tree.map(lambda v: v.ndim > 1, params)
    adam = optax.adamw(rate, weight_decay=recipe.decay, mask=matrices)
    return averaged(optax.chain(optax.clip_by_global_norm(recipe.clip), adam), recipe.average)


def network(config: model.Config) -> nets.Net:
    """The net as plain functions."""
    example = lambda n: Coded(*[jnp.zeros((1, n), jnp.int32)] * 5)
    net = nets.plain(model.DGCNN(config), example(QUESTION), example(64))
    return nets.Net(jax.jit(net.init), net.apply)  # compiled, the net itself is not computed for its first weights


def segment(config: model.Config, recipe: Recipe, devices: Sequence[Any] | None = None) -> Callable[..., Any]:
    """The compiled program of `recipe.chunk` steps: `(params, moments, sampler, key, total, frozen) -> Fit`.

    With `devices` every batch is cut over them.
    """
    net = network(config)

    def loss(params: Any, batch: Batch, key: Array, frozen: Any) -> tuple[Array, dict[str, Array]]:
        logits = net.apply(params | frozen, batch.question, batch.passage, key)
        value, parts = model.loss(logits, batch.start, batch.end, config.head)
        positive = (jnp.max(batch.start, axis=1) > 0).astype(jnp.float32)
        sure = jax.nn.sigmoid(logits.exists)
        mean = lambda w: jnp.sum(w * sure) / jnp.maximum(jnp.sum(w), 1)
        return value, parts | {"contrast": mean(positive) - mean(1 - positive)}

    layout = scale.layout(devices)

    def run(params: Any, moments: Any, sampler: Sampler, key: Array, total: Array, frozen: Any) -> Any:
        method, own = optimizer(recipe, total), lambda params, batch, key: loss(params, batch, key, frozen)
        with layout.spreading():
            return fit(own, params, sampler, optimizer=method, steps=recipe.chunk, key=key, opt_state=moments)

    compiled = jax.jit(run)

    def call(*arguments: Any) -> Any:
        return compiled(*layout.place(arguments))

    return call


def blind(history: dict[str, np.ndarray], head: str, window: int) -> bool:
    """Whether the last steps show the known collapse: the pointers know no more than the length of the window.

    With the article's focal loss it shows as probabilities that are all zero, in a port without its square and without
    averaged weights; here the mean pointer loss is compared with that of guessing.
    """
    pointer = float(np.mean(history["pointer"][-50:]))
    if head == "softmax":
        return not pointer < BLIND * 2 * np.log(window)
    # All probabilities at the share of positives, which is what a blind net learns.
    p = np.array([1 / window])
    blind_loss = 200 * float(np.asarray(model.focal(jnp.float32(p), jnp.float32(p)))[0])
    return not pointer < BLIND * blind_loss


def train(
    config: model.Config,
    recipe: Recipe,
    pool: Pool,
    params: Any,
    *,
    key: Array,
    steps: int | None,
    minutes: float | None,
    score: Callable[[Any], float] | None = None,
    looks: int = 6,
    say: Callable[[str], None] = lambda line: None,
    folder: str | Path | None = None,
    resume: bool = False,
    devices: Sequence[Any] | None = None,
) -> tuple[Any, dict[str, np.ndarray], dict[str, Any]]:
    """Train and return the best weights.

    Args:
        config: The net.
        recipe: How.
        pool: Training set.
        params: First weights.
        key: Key of all draws.
        steps: Number of steps (rounded up to whole segments); or None, and
        minutes: as many as fit in this time, estimated from the second segment.
        score: Dev score of weights, higher is better; the best of `looks` looks is kept.
        looks: How often the dev score is taken.
        say: Told one line a segment.
        folder: For checkpoints, one a segment.
        resume: Go on from the newest one there.
        devices: Cut batches over these.

    Returns:
        Weights, history (each a value a step of this call), and a report.

    Raises:
        ValueError: Neither or both of `steps` and `minutes` are given, or training collapsed twice.
    """
    checks.require((steps is None) != (minutes is None), "steps", "be given, or `minutes`, not both", "it is not so")
    run = segment(config, recipe, devices)
    frozen = {name: params[name] for name in model.FROZEN if name in params}
    begin = begun({name: value for name, value in params.items() if name not in frozen}, recipe)
    here, plan = _resumed(folder if resume else None, begin, steps, say)
    history: list[dict[str, np.ndarray]] = []
    while plan["total"] is None or int(here.step) < plan["total"]:
        clock = time.perf_counter(), time.process_time()
        here, rows = _moved(run, here, plan, recipe, pool, key, frozen)
        cost = _booked(plan, clock, int(here.step), recipe.chunk, minutes, first=not history)
        history.append(rows)
        at, total = int(here.step), plan["total"]
        seen = ""
        if at >= recipe.chunk * 2 and 4 * at >= (total or 4 * at) and blind(rows, config.head, recipe.window):
            checks.require(
                plan["restarts"] < 1, "train", "be learnable", "training collapsed twice: every window looks alike"
            )
            here, plan = begin, plan | {"restarts": plan["restarts"] + 1, "looks": []}
            say("the pointers learned nothing: starting again with another order of the data")
        elif score is None:
            here = here._replace(best=here.average)
        elif total is not None and _look(at, total, looks, recipe.chunk):
            value = float(score(here.average | frozen))
            plan["looks"].append([at, value])
            seen = f"  dev {value:.2f}"
            if value >= float(here.best_score):
                here = here._replace(best=here.average, best_score=jnp.float32(value))
        means = "  ".join(f"{name} {float(np.mean(v)):.3f}" for name, v in rows.items())
        say(f"step {at} of {total or '?'}  {means}  {cost:.0f} CPU ms a step{seen}")
        if folder is not None:
            store.store(folder, at, here, meta={"plan": plan})
    joined = {name: np.concatenate([h[name] for h in history]) for name in history[0]} if history else {}
    return here.best | frozen, joined, plan | {"steps": int(here.step), "best": float(here.best_score)}


def begun(params: Any, recipe: Recipe) -> Progress:
    """The state before the first step."""
    moments: Any = optimizer(recipe, 1).init(params)
    return Progress(params, moments.average, moments, jnp.int32(0), params, jnp.float32(-1))


def _resumed(
    folder: str | Path | None, begin: Progress, steps: int | None, say: Callable[[str], None]
) -> tuple[Progress, dict[str, Any]]:
    """State and plan of the newest checkpoint in `folder`; those of the beginning if there is none."""
    plan: dict[str, Any] = {"total": steps, "spent": 0.0, "cpu": 0.0, "restarts": 0, "looks": []}
    if folder is None:
        return begin, plan
    found, meta, notes = store.newest(folder, lambda _: begin)
    for note in notes:
        say(note)
    if found is None:
        return begin, plan
    plan = meta["plan"] | ({} if steps is None else {"total": steps})
    say(f"resumed at step {int(found.step)} of {plan['total'] or '?'}")
    return found, plan


def _moved(
    run: Callable[..., Any], here: Progress, plan: dict[str, Any], recipe: Recipe, pool: Pool, key: Array, frozen: Any
) -> tuple[Progress, dict[str, np.ndarray]]:
    """The state after one more segment, and what was logged."""
    number = int(here.step)
    order = jax.random.fold_in(key, plan["restarts"])
    drawn = {name: getattr(recipe, name) for name in ("window", "negatives", "roam", "hide", "shorn")}
    sampler = Sampler(pool, order, jnp.int32(number), recipe.batch, **drawn)
    noise = jax.random.fold_in(key, 1_000_003 + number)
    total = jnp.int32(plan["total"] or 1_000_000)  # before the length of the run is known the rate only warms up
    done = run(here.params, here.moments, sampler, noise, total, frozen).checked()
    rows = jax.device_get({"loss": done.history, **done.metrics})
    moved = {"params": done.params, "moments": done.opt_state, "average": done.opt_state.average}
    return here._replace(**moved, step=jnp.int32(number + recipe.chunk)), rows


def _booked(
    plan: dict[str, Any], clock: tuple[float, float], at: int, chunk: int, minutes: float | None, *, first: bool
) -> float:
    """Add a segment's time to the plan, estimate the run's length if it is not known, and return CPU ms a step.

    The first segment of a call compiles: it does not count for the estimate.
    """
    lasted, cpu = time.perf_counter() - clock[0], time.process_time() - clock[1]
    if plan["total"] is None and not first:
        left = 60 * float(minutes or 0) - plan["spent"] - lasted
        plan["total"] = at + chunk * max(int(left / lasted), 0)
    plan["spent"], plan["cpu"] = plan["spent"] + lasted, plan["cpu"] + cpu
    return 1e3 * cpu / chunk


def _look(at: int, total: int, looks: int, chunk: int) -> bool:
    """Whether a look at the dev score is due: `looks` of them, evenly, the last at the end."""
    due = lambda step: step * looks // max(total, 1)
    return at >= total or due(at) > due(at - chunk)
