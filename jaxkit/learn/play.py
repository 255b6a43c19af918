"""Several players, each descending its own loss: the `play` verb. A GAN is a field with two coordinates."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxkit.core import checks
from jaxkit.core.status import Outcome
from jaxkit.core.struct import struct
from jaxkit.learn import descent, train
from jaxkit.learn.descent import Decay, State
from jaxkit.learn.runlog import RunLog


@struct
class Play(Outcome):
    """Where the players came, and how. Everything is a dictionary with a key a player.

    Attributes:
        players: Parameters of every player after the last step (the last finite ones: in a step that fails, nobody
            moves from the player on whose loss is not finite).
        ema: Exponential moving averages of the players that asked for one.
        opt_states: States of the optimizers: pass them back to go on.
        history: Loss of each player before its (last) update in a step, shape `(steps,)`.
        metrics: What else each loss returned, each with a leading axis `steps`.
        status: `Status` code; `not_finite` when a loss or gradient was not finite.
        steps: Steps that moved the players.
    """

    verb: ClassVar[str] = "play"

    players: dict[str, Any]
    ema: dict[str, Any]
    opt_states: dict[str, Any]
    history: dict[str, Float[Array, " steps"]]
    metrics: dict[str, dict[str, Array]]
    status: Int[Array, ""]
    steps: Int[Array, ""]


def play(
    losses: Mapping[str, Callable[..., Any]],
    players: Mapping[str, Any],
    batches: Any = None,
    *,
    optimizers: Mapping[str, optax.GradientTransformation],
    steps: int,
    key: PRNGKeyArray,
    repeats: Mapping[str, int] | None = None,
    simultaneous: bool = False,
    chunk: int = 200,
    ema: Mapping[str, Decay | None] | None = None,
    accumulate: int = 1,
    opt_states: Mapping[str, Any] | None = None,
    devices: Sequence[Any] | None = None,
    progress: bool = False,
    log: str | Path | RunLog | None = None,
    checkpoint: str | Path | None = None,
    keep: int = 2,
    resume: bool = False,
    watch: Callable[[int, State], Any] | None = None,
) -> Play:
    """Let players move, each down its own loss in its own parameters.

    In turn (the default), in the order of `losses`, each seeing the others where they now are; or all at once.
    With M updates in a step, update j of step i sees `batches(i * M + j)` and the key `fold_in(fold_in(key, i), j)`;
    players that move at once share `batches(i)` and one key.

    Args:
        losses: Player -> `loss(players, batch, key)`: a scalar, or a scalar and a dictionary of scalars to record.
        players: Player -> its parameters.
        batches: As for `fit`.
        optimizers: Player -> optax optimizer.
        steps: Number of steps.
        key: Key of the losses' noise.
        repeats: Player -> updates a step; 1 where not given.
        simultaneous: Move all at once, from the same point.
        chunk: Steps a dispatch.
        ema: Player -> decay (see `fit`) of an averaged copy of its parameters; none where not given.
        accumulate: Average each gradient over so many batches.
        opt_states: To go on from an earlier play.
        devices: Cut every batch over these devices.
        progress: Show a bar, where the output is a terminal.
        log: Folder for `run.json` and `metrics.jsonl`, or a `runlog.RunLog`.
        checkpoint: Folder for checkpoints, one a chunk.
        keep: Checkpoints that are kept.
        resume: Go on from the newest good checkpoint in that folder, if there is one.
        watch: Called between chunks with the steps done and the state (`params`, `ema`, `opt_state`): to validate, or
            keep the best. If it returns something true, the run ends, and the rest of `history` is not a number.

    Returns:
        A `Play`. It does not raise: call `.checked()`, or look at `.status`.

    Raises:
        ValueError: An argument is unusable.

    Example:
        Two players of x y, moving at once, only circle, and the explicit steps spiral out:

        >>> import jax, jax.numpy as jnp, optax, jaxkit as jk
        >>> losses = {"x": lambda p, *_: p["x"] * p["y"], "y": lambda p, *_: -p["x"] * p["y"]}
        >>> start = {"x": jnp.array(1.0), "y": jnp.array(0.0)}
        >>> sgd = {"x": optax.sgd(0.1), "y": optax.sgd(0.1)}
        >>> end = jk.play(losses, start, optimizers=sgd, steps=100, key=jax.random.key(0), simultaneous=True).players
        >>> bool(jnp.isclose(jnp.hypot(end["x"], end["y"]), 1.01**50))
        True
    """
    names = tuple(losses)
    repeats, ema = {name: 1 for name in names} | dict(repeats or {}), dict(ema or {})
    _check(names, players, optimizers, repeats, ema, simultaneous=simultaneous)
    checks.require(accumulate > 0, "accumulate", "be positive", f"is {accumulate}")
    start = {name: descent.trainable("players", players[name]) for name in names}
    with jax.numpy_dtype_promotion("standard"):
        states = {name: (opt_states or {}).get(name) for name in names}
        states = {n: optimizers[n].init(start[n]) if s is None else s for n, s in states.items()}
    decays = {name: decay for name, decay in ema.items() if decay is not None}
    averaged = {name: start[name] for name in decays}
    data, batch_of = descent.source(batches, accumulate)
    turns = _Turns(dict(losses), dict(optimizers), repeats, decays, simultaneous, batch_of, accumulate, key)
    config = {"ema": ema, "accumulate": accumulate, "repeats": repeats, "simultaneous": simultaneous}
    config |= descent.described(start, key)
    host = train.Host("play", chunk, progress, log, checkpoint, keep, resume, devices, watch, config)
    state, logs = train.run(turns.update, descent.begin(start, averaged, states), data, steps, host)
    history = {name: logs[name].pop("loss") for name in names}
    return Play(state.params, state.ema, state.opt_state, history, logs, descent.status(state), state.steps)


@dataclasses.dataclass(frozen=True)
class _Turns:
    """The rules of a game: who moves when, and how."""

    losses: dict[str, Callable[..., Any]]
    optimizers: dict[str, optax.GradientTransformation]
    repeats: dict[str, int]
    decays: dict[str, Decay]
    simultaneous: bool
    batch_of: Callable[[Any, Array], Any]
    accumulate: int
    key: PRNGKeyArray

    def update(self, state: State, i: Array, data: Any, *, careful: bool) -> tuple[State, descent.Logs]:
        """Step i of the game: every player's turn."""
        here, opts, alive, logs, first = dict(state.params), dict(state.opt_state), state.alive, {}, 0
        for name, repeats in ((name, self.repeats[name]) for name in self.losses):
            seen = state.params if self.simultaneous else dict(here)
            again = lambda carry, j, name=name, seen=seen: self.move(name, seen, carry, i, j, data, careful=careful)
            carry = (here[name], opts[name], alive)
            if repeats == 1:
                carry, logs[name] = again(carry, first)
            else:
                carry, rows = jax.lax.scan(again, carry, first + jnp.arange(repeats))
                logs[name] = jax.tree.map(lambda v: v[-1], rows)
            here[name], opts[name], alive = carry
            first += 0 if self.simultaneous else repeats
        averages = {n: descent.average(v, here[n], self.decays[n], i, alive) for n, v in state.ema.items()}
        return State(here, averages, opts, alive, state.steps + alive.astype(state.steps.dtype)), logs

    def move(
        self, name: str, seen: dict, carry: tuple[Any, Any, Array], i: Array, j: Any, data: Any, *, careful: bool
    ) -> tuple[tuple[Any, Any, Array], descent.Logs]:
        """Update j of step i, of one player: ((its parameters, its optimizer's state, alive), what to log)."""
        own, opt_state, alive = carry
        loss = lambda own, batch, key: self.losses[name](seen | {name: own}, batch, key)
        inner = jax.random.fold_in(jax.random.fold_in(self.key, i), j)
        batch = i * (1 if self.simultaneous else sum(self.repeats.values())) + j
        batch_of = lambda k: self.batch_of(data, k)
        logs, slope = descent.gradient(loss, own, batch_of, inner, batch, self.accumulate)
        alive = alive & descent.finite(logs["loss"], slope, careful=careful)
        return (*descent.descend(self.optimizers[name], slope, opt_state, own, alive), alive), logs


def _check(names: tuple, players: Mapping, optimizers: Mapping, repeats: Mapping, ema: Mapping, *, simultaneous: bool):
    for what, given in (("players", players), ("optimizers", optimizers)):
        checks.require(set(given) == set(names), what, f"have the keys {sorted(names)}", f"has {sorted(given)}")
    for what, given in (("repeats", repeats), ("ema", ema)):
        checks.require(set(given) <= set(names), what, f"have keys of {sorted(names)}", f"has {sorted(given)}")
    least = min(repeats.values())
    checks.require(least > 0, "repeats", "be positive", f"contains {least}")
    once = not simultaneous or all(count == 1 for count in repeats.values())
    checks.require(once, "repeats", "be 1 for players that move at once", f"is {dict(repeats)}")
    for decay in ema.values():
        descent.check_decay("ema", decay)
