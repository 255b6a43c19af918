"""Parameters of a vector field from a few observations: train the cell that solves it."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, Int

from jaxkit.core import checks
from jaxkit.core.status import Outcome
from jaxkit.core.struct import static, struct
from jaxkit.dynamics.ode.field import Field
from jaxkit.dynamics.recurrence.unroll import unroll
from jaxkit.dynamics.roots.least_squares import LeastSquares, least_squares
from jaxkit.inverse.estimate import multistart
from jaxkit.inverse.problem import Unknowns
from jaxkit.learn.fit import fit
from jaxkit.recurrent.fields import FieldCell, from_field

P = TypeVar("P")

METHODS = ("multistart", "shooting", "adam", "lm")


@struct
class Observations:
    """What was seen of a state, and when.

    Attributes:
        times: Increasing times of the rows, shape `(m,)`.
        values: States (or what `observe` makes of them), flattened, shape `(m, d)`; NaN where nothing was seen.
    """

    times: Float[Array, " m"]
    values: Float[Array, "m d"]


@struct
class Inference(Outcome, Generic[P]):
    """Parameters inferred, how well, and from where.

    Attributes:
        params: The parameters, of the structure of the first guess.
        standard_errors: Their standard errors (asymptotic), in the same structure.
        start: State at the first time.
        start_errors: Its standard errors; zeros where it was given.
        sse: Sum of squared residuals over what was observed (after the start, where that was taken as exact).
        residuals: Model less observation, one entry an observed number.
        covariance: Covariance of the parameters (and the start), flattened.
        xs: States of the cell at `times`, time first.
        times: `t0, t0 + dt, ...` up to the last observation.
        status: `Status` code of the fit that was chosen.
        starts: First guesses, a leading axis over starts in every leaf.
        all_params: Where each start led.
        all_sse: With what sum of squares, shape `(starts,)`.
        all_status: And with what status.
        history: Loss before each step of the gradient method; empty for the others.
        method: How it was fitted.
    """

    verb: ClassVar[str] = "infer"

    params: P
    standard_errors: P
    start: Any
    start_errors: Any
    sse: Float[Array, ""]
    residuals: Float[Array, " m"]
    covariance: Float[Array, "n n"]
    xs: Any
    times: Float[Array, " t"]
    status: Int[Array, ""]
    starts: Any
    all_params: Any
    all_sse: Float[Array, " k"]
    all_status: Int[Array, " k"]
    history: Float[Array, " steps"]
    method: str = static(default="multistart")

    @property
    def degrees_of_freedom(self) -> int:
        """Number of observed values less number of fitted ones."""
        return self.residuals.shape[-1] - self.covariance.shape[-1]


def infer(
    field: Field,
    params0: P,
    observations: Observations | tuple[ArrayLike, ArrayLike],
    *,
    dt: float,
    scheme: Any = "rk4",
    method: str = "multistart",
    start: Any = None,
    estimate_start: bool = False,
    observe: Callable[[Any], Array] | None = None,
    positive: bool = True,
    starts: int = 64,
    spread: float | None = None,
    key: Array | None = None,
    steps: int = 10_000,
    learning_rate: float = 1e-4,
    max_steps: int = 200,
) -> Inference[P]:
    """Infer parameters of `dx/dt = field(t, x, params)` from a few observations, by training the cell that solves it.

    The cell runs over the whole time with fixed steps; the loss looks only where something was observed. Methods:

    - `"multistart"`: Levenberg-Marquardt from many starts at once; the least sum of squares wins, all are returned.
    - `"shooting"`: multiple shooting. The states at the observations are unknowns too, first guessed by the data, and
      the gaps between the pieces are closed by and by; then Levenberg-Marquardt from where that leads.
    - `"lm"`: Levenberg-Marquardt from `params0` alone.
    - `"adam"`: the article's recipe, gradient descent from `params0` on the sum of squares.

    Args:
        field: Velocity of the state, `field(t, x, params)`.
        params0: First guess: a pytree of real arrays.
        observations: `Observations`, or the pair (times, values): shapes `(m,)` and `(m, d)`, NaN where unseen. Every
            time must be a whole number of steps after the first.
        dt: Step of the cell, in units of the times.
        scheme: Scheme of the cell: see `from_field`.
        method: `"multistart"`, `"shooting"`, `"lm"` or `"adam"`.
        start: State at the first time; by default the first row, taken as exact.
        estimate_start: Fit the start too (from `start`, or the first row, as a guess).
        observe: What is seen of a state, shape `(d,)`; by default the state itself, flattened.
        positive: Parameters (and an estimated start) keep the sign of their first guess: the fit works on logarithms.
        starts: Number of starts of `"multistart"`; the first is `params0` itself.
        spread: How far they lie: uniform within `exp(±spread)` times `params0` (default `log(10)`), or normal with
            `spread` times its size (default 1) where `positive` is off.
        key: Random key of the starts; `jax.random.key(0)` by default.
        steps: Steps of `"adam"`.
        learning_rate: Its learning rate.
        max_steps: Most iterations of Levenberg-Marquardt.

    Returns:
        An `Inference`. It does not raise: call `.checked()`, or look at `.status` and `.all_status`.

    Raises:
        ValueError: An argument is unusable: a time between two steps, a parameter 0 whose sign is to be kept, ...

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> decay = lambda t, x, p: -p["rate"] * x
        >>> times = jnp.array([0.0, 1.0, 2.0, 4.0])
        >>> seen = 3 * jnp.exp(-0.5 * times)[:, None]
        >>> found = jk.recurrent.infer(decay, {"rate": 0.1}, (times, seen), dt=0.25, method="lm").checked()
        >>> round(float(found.params["rate"]), 4)
        0.5

    References:
        Su (2018), RNN and ODE, kexue.fm/archives/5643; Bock (1983) for multiple shooting.
    """
    checks.one_of("method", method, METHODS)
    checks.require(starts > 0, "starts", "be positive", f"is {starts}")
    seen = observations
    if not isinstance(seen, Observations):
        seen = Observations(*(checks.floating(name, v) for name, v in zip(("times", "values"), seen, strict=True)))
    problem = _Problem(
        field, scheme, dt, params0, seen, start, observe, estimate_start=estimate_start, positive=positive
    )
    history = jnp.zeros(0)
    if method == "multistart":
        draws = problem.unknowns.scatter(starts, jax.random.key(0) if key is None else key, spread=spread)
        best, every = jax.jit(lambda z: multistart(problem.residuals, z, max_steps=max_steps))(draws)
    elif method == "adam":
        draws = problem.base[None]
        best, history = _descend(problem, learning_rate, steps)
        every = jax.tree.map(lambda v: v[None], best)
    else:
        first = problem.unknowns.guess if method == "lm" else _shoot(problem, max_steps)
        best = jax.jit(lambda z: least_squares(problem.residuals, z, max_steps=max_steps))(first)
        draws, every = first[None], jax.tree.map(lambda v: v[None], best)
    return _collect(problem, best, every, draws, history, method)


class _Problem:
    """The unknowns as one flat vector `z`, and the residuals of the cell's run as a function of it."""

    def __init__(
        self,
        field: Field,
        scheme: Any,
        dt: float,
        params0: Any,
        seen: Observations,
        start: Any,
        observe: Callable | None,
        *,
        estimate_start: bool,
        positive: bool,
    ):
        times, values = np.asarray(seen.times, float), checks.floating("values", seen.values)
        checks.shape("times", times, ("m",))
        checks.shape("values", values, (len(times), "d"))
        checks.finite("times", times)
        checks.require(bool(np.all(np.diff(times) >= 0)), "times", "not decrease", "it does")
        if start is None:
            checks.require(observe is None, "start", "be given with `observe`", "is None")
            checks.finite("values[0]", values[0])  # else it cannot be the start
            start = values[0]
        start = jax.tree.map(lambda v: checks.floating("start", v), start)
        t0 = float(times[0]) if len(times) else 0.0
        self.cell: FieldCell = from_field(field, scheme=scheme, dt=dt, t0=t0)
        self.index = _whole_steps(times, t0, dt)
        self.length = int(self.index.max(initial=0))
        checks.require(self.length > 0, "times", "span at least one step", f"ends at {t0}")
        self.observe = observe or (lambda state: jax.flatten_util.ravel_pytree(state)[0])
        self.direct, self.values, self.start = observe is None, values, start
        mask = np.ones(values.shape, bool) if checks.is_traced(values) else np.isfinite(np.asarray(values))
        mask &= estimate_start | (self.index > 0)[:, None]
        self.rows, self.columns = np.nonzero(mask)
        self.unknowns = Unknowns({"params": params0} | ({"start": start} if estimate_start else {}), positive=positive)
        self.base = self.unknowns.base
        count, unknowns = len(self.rows), self.base.size
        checks.require(count >= unknowns, "observations", f"hold at least {unknowns} values to fit", f"holds {count}")

    def unpack(self, natural: Float[Array, " n"]) -> tuple[Any, Any]:
        """Parameters and start."""
        unknown = self.unknowns.unravel(natural)
        return unknown["params"], unknown.get("start", self.start)

    def run(self, params: Any, start: Any) -> Any:
        """States at `t0, t0 + dt, ...`."""
        ys = unroll(self.cell, start, args=params, length=self.length).ys
        return jax.tree.map(lambda v, rest: jnp.concatenate([v[None], rest]), start, ys)

    def against(self, rows: Array) -> Float[Array, " k"]:
        """What is predicted at the rows, shape `(m, d)`, less what was observed."""
        return (rows - jnp.nan_to_num(self.values))[self.rows, self.columns]

    def misfit(self, unknowns: Float[Array, " n"]) -> Float[Array, " k"]:
        """Residuals of one run of the cell."""
        states = self.run(*self.unpack(unknowns))
        return self.against(jax.vmap(self.observe)(jax.tree.map(lambda v: v[self.index], states)))

    def residuals(self, z: Float[Array, " n"], args: Any = None) -> Float[Array, " k"]:
        """The same in the coordinates of the fit."""
        del args
        return self.misfit(self.unknowns.natural(z))


def _whole_steps(times: np.ndarray, t0: float, dt: float) -> np.ndarray:
    """Number of the step at which each row was observed."""
    exact = (times - t0) / dt
    index = np.rint(exact).astype(int)
    off = np.flatnonzero(np.abs(exact - index) > 1e-6 * (1 + np.abs(exact)))
    shown = f"times[{off[0]}] = {times[off[0]]:g} does not with dt = {dt:g}" if off.size else ""
    checks.require(not off.size, "times", "lie a whole number of steps after the first", shown)
    return index


def _descend(problem: _Problem, learning_rate: float, steps: int) -> tuple[LeastSquares, Array]:
    """The article's recipe, on the unknowns in their own units: where it ends, and the losses on the way."""
    loss = lambda p, _: jnp.sum(problem.misfit(p) ** 2)
    adam = optax.adam(learning_rate, eps=1e-7)  # Keras's epsilon, as in the article
    done = jax.jit(lambda p: fit(loss, p, optimizer=adam, steps=steps))(problem.base)
    here = jax.jit(lambda p: least_squares(lambda q, _: problem.misfit(q), p, max_steps=1))(done.params)
    return dataclasses.replace(here, status=done.status, steps=done.steps), done.history


def _shoot(problem: _Problem, max_steps: int) -> Float[Array, " n"]:
    """Multiple shooting: the unknowns it leads to, in the coordinates of the fit.

    One run of the cell that starts afresh at every observed time, from a state that is an unknown of its own; the
    jumps there are residuals, whose weight grows from 1 to 10.
    """
    checks.require(problem.direct, "observe", "be None for method 'shooting'", "is a function")
    nodes = np.unique(problem.index[problem.index > 0])[:-1]
    start, unravel = jax.flatten_util.ravel_pytree(problem.start)
    firsts = jnp.asarray(_interpolated(problem, nodes), start.dtype)
    fresh = np.zeros(problem.length, bool)
    fresh[nodes] = True  # the step number n begins with the state after n steps
    inputs = (jnp.arange(problem.length), jnp.asarray(fresh), jnp.asarray(np.maximum(np.cumsum(fresh) - 1, 0)))
    size = problem.base.size

    def residuals(unknowns: Array, weight: Array) -> tuple[Array, Array]:
        z, states = unknowns[:size], unknowns[size:].reshape(firsts.shape)
        params, first = problem.unpack(problem.unknowns.natural(z))
        first = jax.flatten_util.ravel_pytree(first)[0]

        def step(state: Array, at: Any, given: tuple[Any, Array]) -> tuple[Array, Array]:
            number, fresh, node = at
            begin = jnp.where(fresh, given[1][node], state)
            moved = jax.flatten_util.ravel_pytree(problem.cell(unravel(begin), number, given[0])[0])[0]
            return moved, moved

        padded = jnp.concatenate([states, first[None]])  # so that there is something to point at without any node
        arrived = jnp.concatenate([first[None], unroll(step, first, inputs, (params, padded)).ys])
        return problem.against(arrived.at[nodes].set(states)[problem.index]), weight * (arrived[nodes] - states)

    unknowns = jnp.concatenate([problem.unknowns.guess, firsts.ravel()])
    relax = jax.jit(lambda u, weight: least_squares(residuals, u, weight, max_steps=max_steps).params)
    for weight in (1.0, 10.0):
        unknowns = relax(unknowns, jnp.asarray(weight, start.dtype))
    return unknowns[:size]


def _interpolated(problem: _Problem, nodes: np.ndarray) -> np.ndarray:
    """States at the nodes as the observations suggest them, linear in time between what was seen."""
    values = np.asarray(problem.values)

    def column(seen: np.ndarray) -> np.ndarray:
        known = np.isfinite(seen)
        return np.interp(nodes, problem.index[known], seen[known])

    return np.stack([column(seen) for seen in values.T], axis=1)


def _collect(
    problem: _Problem, best: LeastSquares, every: LeastSquares, draws: Array, history: Array, method: str
) -> Inference:
    """The result in the unknowns' own units."""
    # Gradient descent works on the unknowns themselves, whatever coordinates the others take.
    unknowns = Unknowns(problem.unknowns.first, positive=problem.unknowns.positive and method != "adam")
    natural, covariance = unknowns.natural(best.params), unknowns.covariance(best.params, best.covariance)
    errors = unknowns.unravel(jnp.sqrt(jnp.diagonal(covariance)))
    params, start = problem.unpack(natural)
    lanes = lambda z: jax.vmap(lambda v: unknowns.tree(v)["params"])(z)
    nothing = jax.tree.map(jnp.zeros_like, start)
    steps = jnp.arange(problem.length + 1)
    return Inference(
        params=params,
        standard_errors=errors["params"],
        start=start,
        start_errors=errors.get("start", nothing),
        sse=best.sse,
        residuals=best.residuals,
        covariance=covariance,
        xs=problem.run(params, start),
        times=jnp.asarray(problem.cell.t0 + problem.cell.dt * steps.astype(problem.base.dtype)),
        status=best.status,
        starts=lanes(draws),
        all_params=lanes(every.params),
        all_sse=every.sse,
        all_status=every.status,
        history=history,
        method=method,
    )
