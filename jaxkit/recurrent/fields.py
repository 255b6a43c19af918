"""A vector field read as a recurrent cell, and a residual cell read as a vector field."""

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PyTree

from jaxkit.core import checks
from jaxkit.dynamics.ode import schemes
from jaxkit.dynamics.ode.field import Field

X = TypeVar("X")


@dataclasses.dataclass(frozen=True)
class FieldCell(Generic[X]):
    """A cell whose step is one step of a Runge-Kutta scheme; made by `from_field`.

    Attributes:
        field: Velocity of the state, `field(t, x, args)`.
        scheme: The Runge-Kutta scheme.
        dt: Time step.
        t0: Time before the first step.
        driven: Whether the cell takes an input besides the index of the step.
    """

    field: Field
    scheme: schemes.Tableau
    dt: ArrayLike
    t0: ArrayLike = 0.0
    driven: bool = False

    def __call__(self, x: X, step: Any = 0, args: PyTree = None) -> tuple[X, X]:
        """Move the state by one step from time `t0 + step dt`; the output is the new state.

        Args:
            x: State of the field.
            step: Index of the step, which `unroll` feeds by itself; with `driven`, the pair (index, input): the
                field then gets the arguments `(args, input)`, with the input held constant over the step.
            args: Arguments of the field.
        """
        number, args = (step[0], (args, step[1])) if self.driven else (step, args)
        dtype = jnp.result_type(*(checks.floating("x", leaf) for leaf in jax.tree.leaves(x)))
        t = self.t0 + jnp.asarray(number).astype(dtype) * self.dt
        x = schemes.step(self.scheme, self.field, t, x, self.dt, args)
        return x, x

    def times(self, length: int) -> Array:
        """Times of the outputs of `length` steps."""
        return jnp.asarray(self.t0 + self.dt * jnp.arange(1, length + 1).astype(jnp.result_type(float)))


def from_field(
    field: Field, *, scheme: Any = "rk4", dt: ArrayLike, t0: ArrayLike = 0.0, driven: bool = False
) -> FieldCell:
    """A vector field as a recurrent cell: running the cell is solving the equation.

    Args:
        field: Velocity of the state: `field(t, x, args)`.
        scheme: A name in `jaxkit.dynamics.ode.schemes.TABLEAUS`, a `Tableau`, or a diffrax Runge-Kutta solver.
        dt: Step, in units of time.
        t0: Time before the first step.
        driven: Whether the cell takes an input besides the index of the step: see `FieldCell.__call__`.

    Returns:
        The cell, for `unroll`.

    Raises:
        ValueError: The scheme is unknown, or the step is not positive.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> decay = lambda t, x, rate: -rate * x
        >>> cell = jk.recurrent.from_field(decay, scheme="rk4", dt=0.1)
        >>> round(float(jk.unroll(cell, 1.0, args=1.0, length=10).final), 6)  # exp(-1)
        0.36788

    References:
        Su (2018), RNN and ODE, kexue.fm/archives/5643.
    """
    checks.require(callable(field), "field", "be a function `field(t, x, args)`", f"is {type(field).__name__}")
    checks.positive("dt", dt)
    checks.finite("t0", t0)
    return FieldCell(field, schemes.get(scheme), dt, t0, driven)


def as_field(
    cell: Callable[[PyTree, Any, Any], tuple[Any, Any]],
    *,
    dt: float = 1.0,
    t0: float = 0.0,
    inputs: Callable[[Array], PyTree] | None = None,
) -> Field:
    """A residual cell as a vector field: the velocity whose Euler step of length `dt` is the cell.

    Args:
        cell: Moves the state once, `(x, input, args) -> (x, y)`.
        dt: Time that one step of the cell stands for.
        t0: Time of step 0.
        inputs: The cell's input as a function of time; without it the cell is fed the index of the step,
            `(t - t0) / dt`, so that a field read as an Euler cell comes back unchanged.

    Returns:
        `field(t, x, args)`, with the `args` of the cell: for `solve`, `linearize` or `from_field`.

    Raises:
        ValueError: The step is not positive.

    Example:
        >>> import jax.numpy as jnp, jaxkit as jk
        >>> growth = lambda x, _, rate: (x + rate * x, x)
        >>> field = jk.recurrent.as_field(growth)
        >>> float(field(0.0, jnp.asarray(2.0), 0.5))
        1.0
        >>> round(float(jk.solve(field, 1.0, jnp.array([0.0, 1.0]), 0.5).checked().final), 4)  # exp(0.5)
        1.6487

    References:
        Su (2018), RNN and ODE, kexue.fm/archives/5643; Chang et al. (2019), AntisymmetricRNN.
    """
    checks.require(callable(cell), "cell", "be a function `cell(x, input, args)`", f"is {type(cell).__name__}")
    checks.positive("dt", dt)

    def field(t: ArrayLike, x: Any, args: PyTree) -> Any:
        given = (t - t0) / dt if inputs is None else inputs(jnp.asarray(t))
        moved, _ = cell(x, given, args)
        return jax.tree.map(lambda new, old: (new - old) / dt, moved, x)

    return field
