"""Runge-Kutta schemes as data: one table of coefficients defines a method, and `step` moves a state by it."""

import functools
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PyTree

from jaxkit.core import checks
from jaxkit.core.status import Status
from jaxkit.core.struct import static, struct
from jaxkit.dynamics.ode.field import Field
from jaxkit.dynamics.roots.root import root

X = TypeVar("X")


@struct
class Tableau:
    """A Butcher tableau: `k_i = f(t + c_i h, x + h sum_j a_ij k_j)`, `x' = x + h sum_i b_i k_i`.

    Attributes:
        name: Name of the scheme.
        order: Order of accuracy of `b`.
        a: Stage coefficients, shape `(s, s)`; strictly lower triangular for an explicit scheme.
        b: Weights, shape `(s,)`.
        c: Nodes, shape `(s,)`.
        error: Weights of the embedded error estimate, shape `(s,)`; None where there is none.
    """

    name: str = static()
    order: int = static()
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    error: np.ndarray | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tableau) and self._numbers() == other._numbers()

    def __hash__(self) -> int:
        return hash(self._numbers())

    def _numbers(self) -> tuple:
        arrays = (self.a, self.b, self.c, self.error)
        return (self.name, self.order, *(None if v is None else np.asarray(v).tobytes() for v in arrays))

    @property
    def explicit(self) -> bool:
        """Whether each stage needs only the stages before it."""
        return not np.any(np.triu(self.a))


def tableau(name: str, order: int, a: list[list[float]], b: list[float], error: list[float] | None = None) -> Tableau:
    """A tableau from the rows of `a` (short rows are filled with zeros); its nodes are the row sums."""
    full = np.zeros((len(b), len(b)))
    for i, row in enumerate(a):
        full[i, : len(row)] = row
    return Tableau(name, order, full, np.array(b), full.sum(1), None if error is None else np.array(error))


def from_diffrax(solver: Any) -> Tableau:
    """The tableau of one of diffrax's Runge-Kutta solvers, explicit or diagonally implicit, e.g. `diffrax.Tsit5()`.

    Args:
        solver: A diffrax solver that is defined by one Butcher tableau.

    Raises:
        ValueError: The solver has no such tableau (such as multistep, symplectic and additive ones).

    Example:
        >>> import diffrax
        >>> from jaxkit.dynamics.ode.schemes import from_diffrax
        >>> kvaerno = from_diffrax(diffrax.Kvaerno3())
        >>> kvaerno.name, kvaerno.order, kvaerno.explicit, kvaerno.a.shape
        ('kvaerno3', 3, False, (4, 4))
    """
    theirs = getattr(solver, "tableau", None)
    if not isinstance(theirs, diffrax.ButcherTableau):
        raise ValueError(f"Argument `solver` must have a Butcher tableau, but {type(solver).__name__} has none.")
    rows = [[], *(list(np.asarray(row, float)) for row in theirs.a_lower)]
    if theirs.a_diagonal is not None:
        rows = [[*row, float(own)] for row, own in zip(rows, theirs.a_diagonal, strict=True)]
    error = list(np.asarray(theirs.b_error, float))
    order = solver.order(None)
    return tableau(type(solver).__name__.lower(), int(order or 0), rows, list(np.asarray(theirs.b_sol, float)), error)


_ROOT3, _ROOT15 = 3**0.5, 15**0.5

TABLEAUS: Mapping[str, Tableau] = MappingProxyType(
    {
        "euler": tableau("euler", 1, [[]], [1.0]),
        "midpoint": tableau("midpoint", 2, [[], [0.5]], [0.0, 1.0]),
        "heun": tableau("heun", 2, [[], [1.0]], [0.5, 0.5], error=[0.5, -0.5]),
        "ralston": from_diffrax(diffrax.Ralston()),
        "bosh3": from_diffrax(diffrax.Bosh3()),
        "rk4": tableau("rk4", 4, [[], [0.5], [0, 0.5], [0, 0, 1.0]], [1 / 6, 1 / 3, 1 / 3, 1 / 6]),
        "tsit5": from_diffrax(diffrax.Tsit5()),
        "dopri5": from_diffrax(diffrax.Dopri5()),
        "dopri8": from_diffrax(diffrax.Dopri8()),
        "backward_euler": tableau("backward_euler", 1, [[1.0]], [1.0]),
        "implicit_midpoint": tableau("implicit_midpoint", 2, [[0.5]], [1.0]),
        "trapezoid": tableau("trapezoid", 2, [[], [0.5, 0.5]], [0.5, 0.5]),
        "radau3": tableau("radau3", 3, [[5 / 12, -1 / 12], [3 / 4, 1 / 4]], [3 / 4, 1 / 4]),
        "gauss4": tableau("gauss4", 4, [[1 / 4, 1 / 4 - _ROOT3 / 6], [1 / 4 + _ROOT3 / 6, 1 / 4]], [1 / 2, 1 / 2]),
        "gauss6": tableau(
            "gauss6",
            6,
            [
                [5 / 36, 2 / 9 - _ROOT15 / 15, 5 / 36 - _ROOT15 / 30],
                [5 / 36 + _ROOT15 / 24, 2 / 9, 5 / 36 - _ROOT15 / 24],
                [5 / 36 + _ROOT15 / 30, 2 / 9 + _ROOT15 / 15, 5 / 36],
            ],
            [5 / 18, 4 / 9, 5 / 18],
        ),
        "kvaerno3": from_diffrax(diffrax.Kvaerno3()),
        "kvaerno5": from_diffrax(diffrax.Kvaerno5()),
    }
)


def get(scheme: "str | Tableau | Any") -> Tableau:
    """A tableau by its name in `TABLEAUS`, from a diffrax solver, or as it is.

    Raises:
        ValueError: There is no scheme of this name.
    """
    if isinstance(scheme, Tableau):
        return scheme
    if isinstance(scheme, diffrax.AbstractSolver):
        return from_diffrax(scheme)
    checks.one_of("scheme", scheme, TABLEAUS)
    return TABLEAUS[scheme]


def order_of(scheme: Tableau, *, at_most: int = 8) -> int:
    """The order of accuracy of a tableau, proved by the order conditions: one equation for each rooted tree.

    Args:
        scheme: The tableau.
        at_most: Highest order to try (there are 200 conditions up to order 8).

    Example:
        >>> from jaxkit.dynamics.ode import schemes
        >>> [schemes.order_of(schemes.get(name)) for name in ("euler", "rk4", "gauss6", "dopri8")]
        [1, 4, 6, 8]

    References:
        Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, theorem II.2.13.
    """
    trees: set[tuple] = {()}  # a tree is the sorted tuple of the trees that hang from its root
    for order in range(1, at_most + 1):
        if any(abs(scheme.b @ _stage_weights(scheme, tree) * _density(tree) - 1) > 1e-9 for tree in trees):
            return order - 1
        trees = {grown for tree in trees for grown in _with_a_leaf(tree)}
    return at_most


def _stage_weights(scheme: Tableau, tree: tuple) -> np.ndarray:
    return np.prod([scheme.a @ _stage_weights(scheme, branch) for branch in tree], axis=0) * np.ones(len(scheme.b))


def _nodes(tree: tuple) -> int:
    return 1 + sum(map(_nodes, tree))


def _density(tree: tuple) -> int:
    return _nodes(tree) * math.prod(map(_density, tree))


def _with_a_leaf(tree: tuple) -> list[tuple]:
    """Every tree that is this one with one more leaf."""
    deeper = [
        tuple(sorted((*tree[:i], grown, *tree[i + 1 :]))) for i, old in enumerate(tree) for grown in _with_a_leaf(old)
    ]
    return [tuple(sorted((*tree, ()))), *deeper]


def step(scheme: Tableau, field: Field, t: ArrayLike, x: X, dt: ArrayLike, args: PyTree = None) -> X:
    """Move the state by one step: from `x` at time `t` to its value at `t + dt`.

    Stages that depend only on earlier ones are computed in turn, the others by Newton's method: one stage at a time for
    a diagonally implicit scheme, all at once for a fully implicit one. Where Newton's method fails, the result is NaN.

    Args:
        scheme: The Runge-Kutta scheme.
        field: Velocity of the state: `field(t, x, args)`.
        t: Time.
        x: State: any pytree of real arrays.
        dt: Step, in units of `t`.
        args: Parameters; differentiable, as are `t`, `x` and `dt`.

    Returns:
        The state at `t + dt`.

    Example:
        >>> from jaxkit.dynamics.ode import schemes
        >>> decay = lambda t, x, rate: -rate * x
        >>> [round(float(schemes.step(schemes.get(name), decay, 0.0, 1.0, 0.1, 1.0)), 9) for name in ("euler", "rk4")]
        [0.9, 0.9048375]
        >>> round(float(schemes.step(schemes.get("backward_euler"), decay, 0.0, 1.0, 0.1, 1.0)), 9)  # 1 / 1.1
        0.909090909

    References:
        Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, II.2; Hairer, Wanner, II, IV.8.
    """
    x = jax.tree.map(lambda v: checks.floating("x", v), x)
    dtype = jnp.result_type(*jax.tree.leaves(x))
    t, dt = jnp.asarray(t, dtype), jnp.asarray(dt, dtype)
    coupled = bool(np.any(np.triu(scheme.a, 1)))
    slopes = _all_stages(scheme, field, t, x, dt, args) if coupled else _stages(scheme, field, t, x, dt, args)
    return _along(x, dt, scheme.b, slopes)


def _along(x: X, dt: Array, weights: np.ndarray, slopes: list[X]) -> X:
    """`x + dt sum_i weights_i slopes_i`, in the order that keeps Euler's method exact to the last bit."""
    used = [(float(w), slope) for w, slope in zip(weights, slopes, strict=False) if w != 0]
    if not used:
        return x

    def moved(v: Array, *ks: Array) -> Array:
        terms = [k if w == 1 else w * k for (w, _), k in zip(used, ks, strict=True)]
        return v + dt * functools.reduce(jnp.add, terms)

    return jax.tree.map(moved, x, *(slope for _, slope in used))


def _stages(scheme: Tableau, field: Field, t: Array, x: X, dt: Array, args: PyTree) -> list[X]:
    """Slopes, one after another; a stage that contains itself is a root."""
    slopes: list[X] = []
    for row, node in zip(scheme.a, scheme.c, strict=True):
        at, base, own = t + float(node) * dt, _along(x, dt, row, slopes), float(row[len(slopes)])
        if own == 0:
            slopes.append(field(at, base, args))
            continue

        def residual(slope: X, given: Any, own: float = own) -> X:
            at, base, dt, args = given
            velocity = field(at, _along(base, dt, np.array([own]), [slope]), args)
            return jax.tree.map(jnp.subtract, slope, velocity)

        slopes.append(_solved(residual, field(at, base, args), (at, base, dt, args)))
    return slopes


def _all_stages(scheme: Tableau, field: Field, t: Array, x: X, dt: Array, args: PyTree) -> list[X]:
    """Slopes of a fully implicit scheme: one root for all of them."""

    def residual(slopes: list[X], given: Any) -> list[X]:
        t, x, dt, args = given
        nodes = zip(scheme.a, scheme.c, slopes, strict=True)
        velocity = lambda row, node: field(t + float(node) * dt, _along(x, dt, row, slopes), args)
        return [jax.tree.map(jnp.subtract, slope, velocity(row, node)) for row, node, slope in nodes]

    return _solved(residual, [field(t, x, args)] * len(scheme.b), (t, x, dt, args))


def _solved(residual: Any, guess: X, given: Any) -> X:
    """The root near the guess, to rounding; NaN where there is none, so that the failure shows in the state."""
    eps = float(jnp.finfo(jnp.result_type(*jax.tree.leaves(guess))).eps)
    found = root(residual, jax.lax.stop_gradient(guess), given, rtol=eps**0.5, atol=32 * eps)
    failed = found.status != int(Status.ok)
    return jax.tree.map(lambda v: jnp.where(failed, jnp.nan, v), found.value)
