"""How `infer` fits: from many starts, by multiple shooting, or by gradient descent."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core import checks
from jaxkit.dynamics.recurrence.unroll import unroll
from jaxkit.dynamics.roots.least_squares import LeastSquares, least_squares
from jaxkit.inverse.estimate import multistart
from jaxkit.learn.fit import fit
from jaxkit.recurrent.problem import Problem


class Found(NamedTuple):
    """What a method found.

    Attributes:
        problem: What it fitted, with the coordinates of the fit.
        best: The fit that is chosen.
        every: All fits, with a leading axis over starts.
        starts: Where they started, shape `(k, n)`.
        history: Losses of a gradient method; empty for the other methods.
    """

    problem: Problem
    best: LeastSquares
    every: LeastSquares
    starts: Float[Array, "k n"]
    history: Float[Array, " steps"]


def _single(problem: Problem, best: LeastSquares, start: Array, history: Array | None = None) -> Found:
    """What a method with only one start found."""
    every = jax.tree.map(lambda v: v[None], best)
    return Found(problem, best, every, start[None], jnp.zeros(0) if history is None else history)


def _residuals(z: Array, problem: Problem) -> Array:
    return problem.residuals(z)


@runtime_checkable
class Method(Protocol):
    """A way to fit. A new one is a class with this method, and a line in `METHODS` if it is to have a name."""

    def fit(self, problem: Problem) -> Found:
        """Fit the problem."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Multistart:
    """Levenberg-Marquardt from many starts at once; the least sum of squares wins.

    Attributes:
        starts: Number of starts; the first is `params0` itself.
        spread: How far the starts are scattered: log-uniformly within `exp(±spread)` times `params0` (default
            `log(10)`), or normally with `spread` times its size (default 1) where signs are free.
        key: Random key; `jax.random.key(0)` by default.
        max_steps: Most iterations of each fit.
    """

    starts: int = 64
    spread: float | None = None
    key: Array | None = None
    max_steps: int = 200

    def fit(self, problem: Problem) -> Found:
        """Fit from every start."""
        checks.require(self.starts > 0, "starts", "be positive", f"is {self.starts}")
        key = jax.random.key(0) if self.key is None else self.key
        starts = problem.unknowns.scatter(self.starts, key, spread=self.spread)
        if self.starts == 1:
            best = least_squares(_residuals, starts[0], problem, max_steps=self.max_steps)
            return _single(problem, best, starts[0])
        best, every = multistart(_residuals, starts, problem, max_steps=self.max_steps)
        return Found(problem, best, every, starts, jnp.zeros(0))


@dataclasses.dataclass(frozen=True)
class Adam:
    """The article's recipe: gradient descent from `params0` on the sum of squares, in the unknowns' own units.

    Attributes:
        steps: Number of steps.
        learning_rate: Learning rate of the steps.
    """

    steps: int = 10_000
    learning_rate: float = 1e-4

    def fit(self, problem: Problem) -> Found:
        """Descend."""
        own = dataclasses.replace(problem, positive=False)
        return run_kept(_descended, (self.steps,), (own, self.learning_rate))


def _descended(steps: int, problem: Problem, learning_rate: Array) -> Found:
    loss = lambda p, _: jnp.sum(problem.residuals(p) ** 2)
    adam = optax.adam(learning_rate, eps=1e-7)  # Keras's epsilon, as in the article
    first = problem.unknowns.guess
    done = fit(loss, first, optimizer=adam, steps=steps)
    here = least_squares(_residuals, done.params, problem, max_steps=1)
    return _single(problem, dataclasses.replace(here, status=done.status, steps=done.steps), first, done.history)


@dataclasses.dataclass(frozen=True)
class Shooting:
    """Multiple shooting: the states at the observations are unknowns too, first guessed from the data.

    The run of the cell starts afresh at every observed time; the jumps there are residuals, whose weight grows from 1
    to 10. Levenberg-Marquardt then starts from the result, without jumps.

    Attributes:
        max_steps: Most iterations of each fit.

    References:
        Bock (1983), Recent advances in parameter identification techniques for O.D.E.
    """

    max_steps: int = 200

    def fit(self, problem: Problem) -> Found:
        """Shoot, then fit."""
        first = self._shoot(problem)
        best = least_squares(_residuals, first, problem, max_steps=self.max_steps)
        return _single(problem, best, first)

    def _shoot(self, problem: Problem) -> Float[Array, " n"]:
        """The unknowns that multiple shooting leads to."""
        checks.require(problem.observe is None, "observe", "be None for method 'shooting'", "is a function")
        nodes = np.unique(problem.index[problem.index > 0])[:-1]
        firsts = jnp.asarray(_interpolated(problem, nodes), problem.values.dtype)
        fresh = np.zeros(problem.length, bool)
        fresh[nodes] = True  # step n begins with the state after n steps
        inputs = (jnp.arange(problem.length), jnp.asarray(fresh), jnp.asarray(np.maximum(np.cumsum(fresh) - 1, 0)))
        z = problem.unknowns.guess
        unknowns = (z, firsts)
        for weight in (1.0, 10.0):
            given = (problem, nodes, inputs, jnp.asarray(weight, z.dtype))
            unknowns = least_squares(_jumps, unknowns, given, max_steps=self.max_steps).params
        return unknowns[0]


def _jumps(unknowns: tuple[Array, Array], given: tuple[Problem, Any, Any, Array]) -> tuple[Array, Array]:
    """The residuals of runs that start afresh at the nodes, and the jumps there."""
    (z, states), (problem, nodes, inputs, weight) = unknowns, given
    params, first = problem.unpack(problem.unknowns.natural(z))
    first, unravel = jax.flatten_util.ravel_pytree(first)

    def step(state: Array, at: Any, given: tuple[Any, Array]) -> tuple[Array, Array]:
        number, fresh, node = at
        begin = jnp.where(fresh, given[1][node], state)
        moved = jax.flatten_util.ravel_pytree(problem.cell(unravel(begin), number, given[0])[0])[0]
        return moved, moved

    padded = jnp.concatenate([states, first[None]])  # so that an index is valid even without any node
    arrived = jnp.concatenate([first[None], unroll(step, first, inputs, (params, padded)).ys])
    return problem.against(arrived.at[nodes].set(states)[problem.index]), weight * (arrived[nodes] - states)


def _interpolated(problem: Problem, nodes: np.ndarray) -> np.ndarray:
    """States at the nodes, interpolated linearly in time between the observations."""
    values = np.asarray(problem.values)

    def column(seen: np.ndarray) -> np.ndarray:
        known = np.isfinite(seen)
        return np.interp(nodes, problem.index[known], seen[known])

    return np.stack([column(seen) for seen in values.T], axis=1)


# Name -> method. A line here makes a method known to `infer`.
METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "multistart": Multistart(),
        "shooting": Shooting(),
        "levenberg_marquardt": Multistart(starts=1),
        "adam": Adam(),
    }
)
