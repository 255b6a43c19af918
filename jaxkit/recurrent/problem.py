"""Observations of a motion, and the residuals of a cell's run against them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxkit.core import checks
from jaxkit.core.struct import static, struct
from jaxkit.dynamics.recurrence.unroll import unroll
from jaxkit.inverse.problem import Unknowns
from jaxkit.recurrent.fields import FieldCell


@struct
class Observations:
    """What was seen of a state, and when.

    Attributes:
        times: Increasing times of the rows, shape `(m,)`.
        values: States (or what `observe` makes of them), flattened, shape `(m, d)`; NaN where nothing was seen.
    """

    times: Float[Array, " m"]
    values: Float[Array, "m d"]


@dataclasses.dataclass(frozen=True)
class FreeStart:
    """An unknown start, which is fitted too.

    Attributes:
        guess: First guess of the state at the first time; None takes the first row of the observations.
    """

    guess: Any = None


@struct
class Problem:
    """The residuals of the cell's run as a function of the unknowns.

    Attributes:
        first: First guesses, `{"params": ...}`, and `"start"` if that is not known.
        start: State at the first time.
        values: What was observed, shape `(m, d)`.
        index: Number of steps before each row was observed, shape `(m,)`.
        rows, columns: Which entries of `values` count.
        time: Time step and first time of the cell.
        field: Field of the cell.
        scheme: Scheme of the cell.
        observe: What is seen of a state; all of it if None.
        length: Number of steps of the run.
        positive: Whether the unknowns keep the sign of their first guess.
    """

    first: dict[str, Any]
    start: Any
    values: Array
    index: Any
    rows: Any
    columns: Any
    time: tuple[Any, Any]
    field: Any = static()
    scheme: Any = static()
    observe: Callable | None = static()
    length: int = static()
    positive: bool = static()

    @classmethod
    def of(
        cls,
        cell: FieldCell,
        params0: Any,
        seen: Observations,
        start: Any,
        observe: Callable | None,
        *,
        positive: bool,
    ) -> "Problem":
        """The problem, checked."""
        times, values = np.asarray(seen.times, float), checks.floating("values", seen.values)
        checks.shape("times", times, ("m",))
        checks.shape("values", values, (len(times), "d"))
        checks.finite("times", times)
        checks.require(bool(np.all(np.diff(times) >= 0)), "times", "not decrease", "it does")
        estimate = isinstance(start, FreeStart)
        start = start.guess if isinstance(start, FreeStart) else start
        if start is None:
            checks.require(observe is None, "start", "be given with `observe`", "is None")
            checks.finite("values[0]", values[0])  # otherwise it cannot be the start
            start = values[0]
        start = jax.tree.map(lambda v: checks.floating("start", v), start)
        t0 = float(times[0]) if len(times) else 0.0
        index = _whole_steps(times, t0, float(np.asarray(cell.dt)))
        length = int(index.max(initial=0))
        checks.require(length > 0, "times", "span at least one step", f"ends at {t0}")
        mask = np.ones(values.shape, bool) if checks.is_traced(values) else np.isfinite(np.asarray(values))
        mask &= estimate | (index > 0)[:, None]
        rows, columns = np.nonzero(mask)
        first = {"params": params0} | ({"start": start} if estimate else {})
        count, unknowns = len(rows), Unknowns(first, positive=positive).base.size
        checks.require(count >= unknowns, "observations", f"hold at least {unknowns} values to fit", f"holds {count}")
        of_cell = {"time": (cell.dt, t0), "field": cell.field, "scheme": cell.scheme}
        whole = {"observe": observe, "length": length, "positive": positive}
        return cls(first, start, values, index, rows, columns, **of_cell, **whole)

    @property
    def cell(self) -> FieldCell:
        """The cell."""
        return FieldCell(self.field, self.scheme, *self.time)

    @property
    def unknowns(self) -> Unknowns:
        """The coordinates of the fit."""
        return Unknowns(self.first, positive=self.positive)

    def unpack(self, natural: Float[Array, " n"]) -> tuple[Any, Any]:
        """Parameters and start."""
        unknown = self.unknowns.unravel(natural)
        return unknown["params"], unknown.get("start", self.start)

    def run(self, params: Any, start: Any) -> Any:
        """States at `t0, t0 + dt, ...`."""
        ys = unroll(self.cell, start, args=params, length=self.length).ys
        return jax.tree.map(lambda v, rest: jnp.concatenate([v[None], rest]), start, ys)

    def against(self, rows: Array) -> Float[Array, " k"]:
        """Predictions at the rows, shape `(m, d)`, minus what was observed."""
        return (rows - jnp.nan_to_num(self.values))[self.rows, self.columns]

    def misfit(self, unknowns: Float[Array, " n"]) -> Float[Array, " k"]:
        """Residuals of one run of the cell."""
        states = self.run(*self.unpack(unknowns))
        observe = self.observe or (lambda state: jax.flatten_util.ravel_pytree(state)[0])
        return self.against(jax.vmap(observe)(jax.tree.map(lambda v: v[self.index], states)))

    def residuals(self, z: Float[Array, " n"]) -> Float[Array, " k"]:
        """The same in the coordinates of the fit."""
        return self.misfit(self.unknowns.natural(z))


def _whole_steps(times: np.ndarray, t0: float, dt: float) -> np.ndarray:
    """Number of steps before each row was observed."""
    exact = (times - t0) / dt
    index = np.rint(exact).astype(int)
    off = np.flatnonzero(np.abs(exact - index) > 1e-6 * (1 + np.abs(exact)))
    shown = f"times[{off[0]}] = {times[off[0]]:g} does not with dt = {dt:g}" if off.size else ""
    checks.require(not off.size, "times", "lie a whole number of steps after the first", shown)
    return index
