"""Affine recurrences in O(log length) parallel steps."""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxkit.dynamics.recurrence.method import Step, Unrolled, outcome


@runtime_checkable
class LinearCell(Protocol):
    """A step `x_t = decay_t * x_{t-1} + drive_t`, elementwise, where decay and drive depend on the input alone."""

    def affine(self, inputs: PyTree, args: PyTree) -> tuple[Array, Array]:
        """`(decay, drive)` for any leading axes of `inputs`."""
        ...

    def readout(self, x: Array, inputs: PyTree, args: PyTree) -> PyTree:
        """Output from the new state and its input, for any leading axes."""
        ...


@dataclasses.dataclass(frozen=True)
class Associative:
    """A linear cell (`affine`, `readout`), run exactly by an associative scan."""

    def run(self, step: Step, x0: Any, inputs: PyTree, args: PyTree, length: int) -> Unrolled:
        """All states at once."""
        del length
        if not isinstance(step, LinearCell):
            raise ValueError(
                "Argument `step` must be linear for method 'associative' (methods `affine`, `readout`), but is not."
            )
        decay, drive = step.affine(inputs, args)
        states = affine_scan(decay, drive, x0)
        ys = step.readout(states, inputs, args)
        return Unrolled(ys, states[-1], outcome(states[-1], ys), jnp.asarray(0))


def affine_scan(
    a: Float[Array, "t ..."], b: Float[Array, "t ... n"], start: Array | None = None, *, reverse: bool = False
) -> Float[Array, "t ... n"]:
    """All states of `h_t = a_t h_{t-1} + b_t` in O(log t) parallel steps.

    Args:
        a: Matrices, shape `(t, n, n)` with `b` of shape `(t, n)`; or elementwise factors of the shape of `b`.
        b: Inhomogeneity, with time along the first axis.
        start: `h_{-1}`, of the shape of `b[0]`; None stands for 0.
        reverse: Run from the last time to the first.

    Returns:
        The states, of the shape of `b`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkit.dynamics.recurrence.associative import affine_scan
        >>> affine_scan(jnp.full((4, 1), 0.5), jnp.ones((4, 1)))[:, 0].tolist()
        [1.0, 1.5, 1.75, 1.875]

    References:
        Blelloch (1990), Prefix sums and their applications.
    """
    times = jnp.multiply if a.shape == b.shape else lambda m, v: jnp.einsum("...ij,...j->...i", m, v)
    compose = jnp.multiply if a.shape == b.shape else jnp.matmul
    if start is not None:
        first = -1 if reverse else 0
        b = b.at[first].add(times(a[first], start))

    def combine(early: tuple[Array, Array], late: tuple[Array, Array]) -> tuple[Array, Array]:
        return compose(late[0], early[0]), times(late[0], early[1]) + late[1]

    return jax.lax.associative_scan(combine, (a, b), reverse=reverse)[1]
