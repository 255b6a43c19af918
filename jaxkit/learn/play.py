"""Several players, each descending its own loss: the `play` verb. A GAN is a game of two."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxkit.core import checks
from jaxkit.core.run import Run
from jaxkit.core.status import Outcome
from jaxkit.core.struct import struct
from jaxkit.learn import chunks, descent
from jaxkit.learn.descent import Decay, TrainState


@struct
class Play(Outcome):
    """Where the players ended, and how: dictionaries with one key per player.

    Attributes:
        players: Parameters of every player after the last step (the last finite ones: in a step that fails, the player
            whose loss is not finite and all after it stay where they are).
        ema: Exponential moving averages of the players that asked for one (see `Fit`).
        carry: The last carry that the losses returned, or None.
        opt_states: States of the optimizers.
        history: Loss of each player before its (last) update in a step, shape `(steps,)`.
        metrics: The scalars that each loss returned for recording, each with a leading axis `steps`.
        status: `Status` code, as of a `Fit`.
        steps: Number of steps that moved the players, including those of the play that this one continued.
    """

    verb: ClassVar[str] = "play"

    players: dict[str, Any]
    ema: dict[str, Any]
    carry: Any
    opt_states: dict[str, Any]
    history: dict[str, Float[Array, " steps"]]
    metrics: dict[str, dict[str, Array]]
    status: Int[Array, ""]
    steps: Int[Array, ""]


def play(
    losses: Mapping[str, Callable[..., Any]],
    players: "Mapping[str, Any] | Play",
    batches: Any = None,
    *,
    optimizers: Mapping[str, optax.GradientTransformation],
    steps: int,
    key: PRNGKeyArray,
    carry: Any = None,
    turns: str | Mapping[str, int] = "alternating",
    ema: Mapping[str, Decay | None] | None = None,
    accumulate: int = 1,
    run: Run | None = None,
) -> Play:
    """Let several players each minimise their own loss in their own parameters.

    They move in turn, in the order of `losses`, each seeing the others where they now are; or all at once. With M
    updates in a step, update j of step i sees `batches(i * M + j)` and the key `fold_in(fold_in(key, i), j)`; players
    that move at once share `batches(i)` and one key.

    Args:
        losses: Player -> `loss(players, batch, key)` or, with a `carry`, `loss(players, batch, key, carry)`. It returns
            a scalar; or a scalar and a dictionary of scalars to record; or these two and the next carry.
        players: Player -> its parameters; or an earlier `Play`, which is continued as in `fit`.
        batches: As for `fit`.
        optimizers: Player -> optax optimizer.
        steps: Number of steps.
        key: Key of the losses' noise.
        carry: State that is nobody's parameter, as for `fit`: it goes from update to update, also between players that
            move at once.
        turns: `"alternating"`, one update each; `"simultaneous"`, all from the same point; or player -> its updates
            per step, in turn (1 if not given).
        ema: Player -> decay (see `fit`) of an averaged copy of its parameters; no copy if not given.
        accumulate: Number of batches over which each gradient is averaged, as for `fit`.
        run: What the host does meanwhile, as for `fit`.

    Returns:
        A `Play`. A failed run does not raise: call `.checked()`, or look at `.status`.

    Raises:
        ValueError: An argument is unusable.

    Example:
        Two players of x y that move at once only circle, and the explicit steps spiral out:

        >>> import jax, jax.numpy as jnp, optax, jaxkit as jk
        >>> losses = {"x": lambda p, *_: p["x"] * p["y"], "y": lambda p, *_: -p["x"] * p["y"]}
        >>> start = {"x": jnp.array(1.0), "y": jnp.array(0.0)}
        >>> sgd = {"x": optax.sgd(0.1), "y": optax.sgd(0.1)}
        >>> end = jk.play(losses, start, optimizers=sgd, steps=100, key=jax.random.key(0), turns="simultaneous").players
        >>> bool(jnp.isclose(jnp.hypot(end["x"], end["y"]), 1.01**50))
        True
    """
    names, before = tuple(losses), players if isinstance(players, Play) else None
    given: Mapping[str, Any] = players.players if isinstance(players, Play) else players
    carry = before.carry if before is not None and carry is None else carry
    simultaneous = turns == "simultaneous"
    checks.require(
        isinstance(turns, Mapping) or turns in ("alternating", "simultaneous"),
        "turns",
        "be 'alternating', 'simultaneous' or updates by player",
        f"is {turns!r}",
    )
    repeats = dict.fromkeys(names, 1) | (dict(turns) if isinstance(turns, Mapping) else {})
    decays = {name: decay for name, decay in (ema or {}).items() if decay is not None}
    _check(names, given, optimizers, repeats, ema or {})
    checks.require(accumulate > 0, "accumulate", "be positive", f"is {accumulate}")
    start = {name: descent.trainable("players", given[name]) for name in names}
    with jax.numpy_dtype_promotion("standard"):
        states = before.opt_states if before is not None else {n: optimizers[n].init(start[n]) for n in names}
    data, batch_of = descent.source(batches, accumulate, 1 if simultaneous else sum(repeats.values()))
    rules = _Rules(
        dict(losses), dict(optimizers), repeats, decays, simultaneous, batch_of, accumulate, carry is not None
    )
    about = {"verb": "play", "ema": decays, "accumulate": accumulate, "turns": turns, **descent.described(start, key)}
    averages, done = (start, 0) if before is None else (start | before.ema, before.steps)
    first = descent.begin(start, {name: averages[name] for name in decays}, carry, states, done)
    end, logs = chunks.loop(rules.update, first, data, key, steps, run, about)
    history = {name: logs[name].pop("loss") for name in names}
    return Play(end.params, end.ema, end.carry, end.opt_state, history, logs, descent.status(end, data), end.steps)


@dataclasses.dataclass(frozen=True)
class _Rules:
    """The rules of a game: who moves when, and how."""

    losses: dict[str, Callable[..., Any]]
    optimizers: dict[str, optax.GradientTransformation]
    repeats: dict[str, int]
    decays: dict[str, Decay]
    simultaneous: bool
    batch_of: Callable[[Any, Array], Any]
    accumulate: int
    carries: bool

    def update(self, state: TrainState, data: Any, key: Any, *, careful: bool) -> tuple[TrainState, descent.Logs]:
        """The next step of the game: every player's turn."""
        i = state.steps
        here, opts, logs, first = dict(state.params), dict(state.opt_state), {}, 0
        alive, carry = state.alive, state.carry
        for name, repeats in ((name, self.repeats[name]) for name in self.losses):
            seen = state.params if self.simultaneous else dict(here)
            again = lambda own, j, name=name, seen=seen: self.move(name, seen, own, i, j, (data, key), careful=careful)
            own = (here[name], opts[name], carry, alive)
            if repeats == 1:
                own, logs[name] = again(own, first)
            else:
                own, rows = jax.lax.scan(again, own, first + jnp.arange(repeats))
                logs[name] = jax.tree.map(lambda v: v[-1], rows)
            here[name], opts[name], carry, alive = own
            first += 0 if self.simultaneous else repeats
        averages = {n: descent.average(v, here[n], self.decays[n], i, alive) for n, v in state.ema.items()}
        return TrainState(here, averages, carry, opts, alive, state.steps + alive.astype(state.steps.dtype)), logs

    def move(
        self, name: str, seen: dict, own: tuple[Any, Any, Any, Array], i: Array, j: Any, drawn: Any, *, careful: bool
    ) -> tuple[tuple[Any, Any, Any, Array], descent.Logs]:
        """One player's update j of step i: ((its parameters, its optimizer's state, carry, alive), what to log)."""
        (params, opt_state, carry, alive), (data, key) = own, drawn
        given = 4 if self.carries else 3
        loss = lambda own, *rest: self.losses[name](*(seen | {name: own}, *rest)[:given])
        inner = jax.random.fold_in(jax.random.fold_in(key, i), j)
        batch = i * (1 if self.simultaneous else sum(self.repeats.values())) + j
        batch_of = lambda k: self.batch_of(data, k)
        logs, slope, new = descent.gradient(loss, params, batch_of, inner, carry, batch, self.accumulate)
        alive = alive & descent.finite(logs["loss"], slope, careful=careful)
        value_fn = descent.value_of(loss, batch_of, inner, carry, batch, self.accumulate)
        moved = descent.descend(self.optimizers[name], slope, opt_state, params, alive, logs["loss"], value_fn)
        return (*moved, descent.kept(alive, new, carry), alive), logs


def _check(names: tuple, players: Mapping, optimizers: Mapping, repeats: Mapping, ema: Mapping) -> None:
    for what, given in (("players", players), ("optimizers", optimizers)):
        checks.require(set(given) == set(names), what, f"have the keys {sorted(names)}", f"has {sorted(given)}")
    for what, given in (("turns", repeats), ("ema", ema)):
        checks.require(set(given) <= set(names), what, f"have keys of {sorted(names)}", f"has {sorted(given)}")
    least = min(repeats.values())
    checks.require(least > 0, "turns", "be positive", f"contains {least}")
    for decay in ema.values():
        descent.check_decay("ema", decay)
