"""The whole path of a solve: the state at any time of its span, kept only where it is asked for.

What is kept are the ends of the steps. Between two of them the state comes from a step of the same method, from the
end before to the time asked for: it is shorter than the step that was accepted, and so as accurate, which the usual
interpolants of low order are not.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, NamedTuple, TypeVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxkit.compile.jit_cache import run_kept
from jaxkit.core import checks
from jaxkit.core.struct import static, struct
from jaxkit.dynamics.ode import schemes
from jaxkit.dynamics.ode.field import Field, way_of
from jaxkit.dynamics.ode.forms import Form
from jaxkit.dynamics.ode.reasons import nought, without_derivative
from jaxkit.dynamics.ode.stops import Stops

X = TypeVar("X")
NAMED = {diffrax.Euler: "euler", diffrax.ImplicitEuler: "backward_euler"}  # solvers without a table of their own


@struct
class Dense:
    """Times of `solve` between which the solution may be asked for, too: `solve(...)` is then a function of time.

    Attributes:
        ts: Times, as for `solve`.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> sol = jk.solve(lambda t, x, _: -x, 1.0, jk.Dense(jnp.array([0.0, 2.0]))).checked()
        >>> [round(float(x), 6) for x in sol(jnp.array([0.5, 1.5, 2.5]))]  # exp(-t), and nothing beyond the end
        [0.606531, 0.22313, nan]
    """

    ts: ArrayLike


class Within(NamedTuple):
    """How the state moves on within a step: `step(moves, t, x, h, args)`."""

    step: Callable[..., Any]
    moves: Any


@struct
class Path(Generic[X]):
    """The ends of the steps of a solve, and how to go on from them.

    Attributes:
        within: How to go on from there.
        ts: Times of the ends, in the order of motion; infinite behind the last.
        xs: States at `ts`.
        span: The first time, and the last one reached.
        args: Parameters.
        form: How the user's state is made of the one that is kept, where they differ.
    """

    within: Within = static()
    ts: Float[Array, " s"]
    xs: X
    span: tuple[Float[Array, ""], Float[Array, ""]]
    args: Any
    form: Form | None = static(default=None)

    def at(self, t: Array, ok: Bool[Array, ""]) -> X:
        """The states at times `t` of any shape; NaN outside the span, and everywhere if the solve is not `ok`."""

        def one(t: Array) -> tuple[X, Array]:
            held = jax.lax.stop_gradient
            way = way_of(*self.span)
            ends = held(jnp.where(jnp.isfinite(self.ts), way * self.ts, jnp.inf))
            i = jnp.clip(jnp.searchsorted(ends, held(way * t), side="right") - 1, 0, len(ends) - 1)
            inside = ok & (way * t >= way * self.span[0]) & (way * t <= way * self.span[1])
            since = t - self.ts[i]
            since = jnp.where(inside, jnp.where(way * since < 0, nought(since), since), 0)
            start = jax.tree.map(lambda v: v[i], self.xs)
            found = self.within.step(self.within.moves, self.ts[i], start, since, self.args)
            return found, ~inside

        found, outside = jax.vmap(one)(jnp.ravel(t))
        found = without_derivative(outside, found, value_too=True)
        found = jax.tree.map(lambda v: v.reshape(*t.shape, *v.shape[1:]), found)
        return found if self.form is None else self.form.restored(found)


def ask(path: "Path[X] | None", ok: Array, t: ArrayLike) -> X:
    """The states of a solution, or of a batch of them, at times `t`."""
    if path is None:
        raise ValueError("Argument `ts` must be `Dense(ts)` for a solution that is a function of time, but is not.")
    return run_kept(_asked, (), (path, ok, t))


def _asked(path: "Path[X]", ok: Array, t: ArrayLike) -> X:
    t = checks.floating("t", t).astype(path.ts.dtype)
    at = lambda path, ok: path.at(t, ok)
    for _ in range(ok.ndim):
        at = jax.vmap(at)
    return at(path, ok)


def has_table(solver: diffrax.AbstractSolver) -> bool:
    """Whether a solver is defined by one Butcher tableau."""
    return type(solver) in NAMED or isinstance(getattr(solver, "tableau", None), diffrax.ButcherTableau)


def by_scheme(solver: diffrax.AbstractSolver, field: Field, controller: Any, args: Any) -> tuple[Within, Any]:
    """Steps of a Runge-Kutta scheme, and their parameters."""
    stops = None
    if isinstance(controller, Stops):  # without the tolerances, which are not asked here
        stops = replace(controller, controller=diffrax.PIDController(1.0, 1.0))
    numbers, rest = eqx.partition(stops, eqx.is_array)
    return Within(_step, (schemes.get(NAMED.get(type(solver), solver)), field, rest)), (args, numbers)


def _step(moves: tuple[schemes.Tableau, Field, Any], t: Array, x: Any, h: Array, args: Any) -> Any:
    """The state a time `h` after `(t, x)`, this side of the field's next switch."""
    (table, field, rest), (args, numbers) = moves, args
    if rest is not None:
        left = eqx.combine(numbers, rest).left(t)
        h = jnp.where(jnp.abs(h) > jnp.abs(left), jax.lax.stop_gradient(left) + nought(h), h)
    return schemes.step(table, field, t, x, h, args)
