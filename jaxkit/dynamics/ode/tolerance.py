"""Absolute tolerances: one number for all of the state, or one for each of its numbers."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jaxtyping import Array, PyTree

from jaxkit.core import checks


class Each(NamedTuple):
    """One absolute tolerance for each leaf or number of the state; equal ones are equal keys of a program."""

    treedef: Any
    shapes: tuple[tuple[int, ...], ...]
    numbers: tuple[float, ...]


Absolute = float | Each


def absolute(atol: Any) -> Any:
    """An absolute tolerance as part of a program's key; a number that is being traced stays as it is."""
    if type(atol) is float:
        return atol
    leaves, treedef = jax.tree.flatten(atol)
    if isinstance(atol, Each) or (treedef == jax.tree.structure(0) and not jnp.ndim(leaves[0])):
        return atol if isinstance(atol, Each) or checks.is_traced(atol) else float(leaves[0])
    checks.require(not checks.is_traced(leaves), "atol", "be known numbers, one for each of the state", "is traced")
    arrays = [np.asarray(v, float) for v in leaves]
    for v in arrays:
        checks.positive("atol", v)
    return Each(treedef, tuple(v.shape for v in arrays), tuple(float(x) for v in arrays for x in v.ravel()))


def spread(atol: Each, x: PyTree) -> PyTree:
    """The tolerances of a state, in its structure and shapes."""
    leaves, at = [], 0
    for shape in atol.shapes:
        size = math.prod(shape)
        leaves.append(np.reshape(atol.numbers[at : at + size], shape))
        at += size
    have, want = atol.treedef, jax.tree.structure(x)
    checks.require(have == want, "atol", f"be a number or have the structure of the state, {want}", f"has {have}")

    def one(own: np.ndarray, v: Any) -> np.ndarray:
        fits = own.shape in ((), tuple(v.shape))
        checks.require(fits, "atol", f"have the state's shape {tuple(v.shape)}", f"has shape {own.shape}")
        return np.broadcast_to(own, v.shape)

    return jax.tree.map(one, atol.treedef.unflatten(leaves), x)


def rows(atol: Absolute | tuple[float, ...], x: PyTree) -> float | tuple[float, ...]:
    """One number, or one for each row of the state's numbers."""
    if not isinstance(atol, Each):
        return atol
    return tuple(float(v) for leaf in jax.tree.leaves(spread(atol, x)) for v in leaf.ravel())


def weights(atol: float | tuple[float, ...]) -> tuple[float, ...] | None:
    """How much each row of the state counts: in units in which all have the largest of the tolerances."""
    return tuple(max(atol) / v for v in atol) if isinstance(atol, tuple) else None


def weighed(values: Sequence[Any], by: tuple[float, ...] | None) -> list[Any]:
    """Rows of numbers, of one state or of several, each times its weight."""
    return list(values) if by is None else [v * w for v, w in zip(values, itertools.cycle(by), strict=False)]


class Control(diffrax.PIDController):
    """Diffrax's step control, where a step that cannot be computed (overflow) is refused and the next one shorter.

    Diffrax's would make the next step NaN for good.
    """

    def init(
        self, terms: Any, t0: Any, t1: Any, y0: Any, dt0: Any, args: Any, func: Any, error_order: Any
    ) -> tuple[Any, Any]:
        """The end of the first step."""
        end, state = super().init(terms, t0, t1, y0, dt0, args, func, error_order)
        return _possible(end, t0, t1), state

    def adapt_step_size(
        self, t0: Any, t1: Any, y0: Any, y1_candidate: Any, args: Any, y_error: Any, error_order: Any,
        controller_state: Any,
    ) -> tuple[Any, Any, Any, Any, Any, Any]:  # fmt: skip
        """Whether a step is kept, and the next one."""
        y1_candidate, y_error = _refusing(y1_candidate, y_error)
        return super().adapt_step_size(t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state)


def _refusing(x: PyTree, error: PyTree) -> tuple[PyTree, PyTree]:
    """A state that is NaN, and so gives no scale, where it is infinite; errors that are infinite where they are NaN."""
    finite = lambda v: jnp.where(jnp.isfinite(v), v, jnp.nan)
    return jax.tree.map(finite, x), jax.tree.map(lambda v: jnp.where(jnp.isnan(v), jnp.inf, v), error)


def _known(before: Array, after: Array) -> Array:
    """The numbers after a step; those before it where that could not be computed."""
    return jnp.where(jnp.all(jnp.isfinite(after)), after, before)


def _possible(end: Any, t0: Any, t1: Any) -> Any:
    """The end of a first step; that of the whole motion where it is none because a norm overflowed.

    Steps that are refused become shorter.
    """
    return jnp.where((jnp.isnan(end) | (end == t0)) & ~jnp.isnan(t0), t1, end)


class EachControl(diffrax.AbstractAdaptiveStepSizeController[Any, Any]):
    """Diffrax's step control with an absolute tolerance for each number of the state.

    Attributes:
        rtol: Relative tolerance.
        each: Absolute tolerances, in the state's structure.
        least: The least of them.
    """

    rtol: float
    each: PyTree
    least: float

    @property
    def atol(self) -> float:
        """The tolerance of what knows of one alone: the equations of implicit methods."""
        return self.least

    @property
    def norm(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Size of an error."""
        return optimistix.rms_norm

    def wrap(self, direction: Any) -> "EachControl":
        """The controller itself, which knows nothing of time."""
        return self

    def init(
        self, terms: Any, t0: Any, t1: Any, y0: Any, dt0: Any, args: Any, func: Any, error_order: Any
    ) -> tuple[Any, Any]:
        """The end of the first step."""
        size = self._size(y0, y0)
        norm = lambda v: self.norm(jax.tree.map(jnp.divide, v, size))
        inner = Control(rtol=0.0, atol=1.0, norm=norm)
        return inner.init(terms, t0, t1, y0, dt0, args, func, error_order)

    def adapt_step_size(
        self, t0: Any, t1: Any, y0: Any, y1_candidate: Any, args: Any, y_error: Any, error_order: Any,
        controller_state: Any,
    ) -> tuple[Any, Any, Any, Any, Any, Any]:  # fmt: skip
        """Whether a step is kept, and the next one: an error is measured relative to a size that we give."""
        inner, size = Control(rtol=1.0, atol=0.0, norm=self.norm), self._size(y0, y1_candidate)
        return inner.adapt_step_size(t0, t1, size, size, args, y_error, error_order, controller_state)

    def _size(self, before: PyTree, after: PyTree) -> PyTree:
        def one(atol: Any, u: Array, v: Array) -> Array:
            return jnp.asarray(atol, u.dtype) + self.rtol * jnp.maximum(jnp.abs(u), jnp.abs(_known(u, v)))

        return jax.tree.map(one, self.each, before, after)


class Tangents(NamedTuple):
    """The tolerance of a pair of a state and its tangents, which have one axis of directions in front."""

    state: Any  # a number, or one for each number of the state


class TangentControl(EachControl):
    """Diffrax's step control for a pair of a state and its tangents.

    Tangents have no absolute tolerance; along each direction it is relative to their largest entry, in units in which
    all numbers of the state have the same absolute tolerance.
    """

    @property
    def norm(self) -> Any:
        """Size of an error: of the state, or of the tangents along one direction where that is larger."""

        def size(error: Any) -> Array:
            return jnp.maximum(optimistix.rms_norm(error[0]), jnp.max(jax.vmap(optimistix.rms_norm)(error[1])))

        return size

    def init(
        self, terms: Any, t0: Any, t1: Any, y0: Any, dt0: Any, args: Any, func: Any, error_order: Any
    ) -> tuple[Any, Any]:
        """The end of the first step, which follows from the state alone: tangents may be zero here."""
        size = super()._size(y0[0], y0[0])
        norm = lambda v: optimistix.rms_norm(jax.tree.map(jnp.divide, v[0], size))
        inner = Control(rtol=0.0, atol=1.0, norm=norm)
        return inner.init(terms, t0, t1, y0, dt0, args, func, error_order)

    def _size(self, before: PyTree, after: PyTree) -> PyTree:
        most = jnp.max(jnp.stack([jnp.max(jnp.asarray(v)) for v in jax.tree.leaves(self.each)]))
        units = jax.tree.map(lambda atol: most / atol, self.each)

        def largest(tangents: PyTree) -> Array:
            rows = [
                jnp.max(jnp.abs(v * unit.astype(v.dtype)[None]).reshape(len(v), -1), axis=1, initial=0.0)
                for v, unit in zip(jax.tree.leaves(tangents), jax.tree.leaves(units), strict=True)
            ]
            return jnp.max(jnp.stack(rows), axis=0)

        new = jax.tree.map(_known, before[1], after[1])
        size = self.rtol * jnp.maximum(largest(before[1]), largest(new))
        size = size + float(jnp.finfo(size.dtype).tiny)
        spread = lambda v, unit: jnp.broadcast_to(
            size.reshape(-1, *(1,) * (v.ndim - 1)) / unit.astype(v.dtype)[None], v.shape
        )
        return super()._size(before[0], after[0]), jax.tree.map(spread, before[1], units)


def control(rtol: float, atol: Any, x: PyTree) -> Any:
    """Diffrax's step control for these tolerances."""
    if isinstance(atol, Tangents):
        each = atol.state
        each = spread(each, x[0]) if isinstance(each, Each) else jax.tree.map(lambda v: np.full(v.shape, each), x[0])
        return TangentControl(rtol, each, least(atol.state))  # pyright: ignore[reportCallIssue]
    if not isinstance(atol, Each):
        return Control(rtol, atol)
    return EachControl(rtol, spread(atol, x), min(atol.numbers))  # pyright: ignore[reportCallIssue]


def least(atol: Any) -> Any:
    """The least of the tolerances."""
    if isinstance(atol, Tangents):
        return least(atol.state)
    return min(atol.numbers) if isinstance(atol, Each) else atol
