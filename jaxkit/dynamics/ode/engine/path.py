"""The ends of the steps of one lane, and the states there."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxkit.compile.rows import Constants, Lanes, Row
from jaxkit.dynamics.ode.engine.adjoint import step_by_step
from jaxkit.dynamics.ode.engine.batch import Ensemble, Given, Plan, arrive
from jaxkit.dynamics.ode.engine.integrate import Stepper
from jaxkit.dynamics.ode.engine.variational import solve_lanes
from jaxkit.dynamics.ode.field import way_of


def with_path(plan: Plan, given: Given, ts: Array) -> tuple[Ensemble, Array, Any]:
    """An ensemble of one lane, with the times at which its steps end and the states there.

    Args:
        plan: The plan.
        given: The arrays of the ensemble.
        ts: Its times.
    """
    held = jax.lax.stop_gradient(given)
    way = way_of(held.t0[0], held.t1[0])
    ends = jax.lax.stop_gradient(arrive(plan, held, loop=_ends)[0])
    ends = jnp.where(jnp.isfinite(ends), ends, way * jnp.inf).at[0].set(ts[0])
    saved = ends if given.ts is None else jnp.concatenate([given.ts, ends])
    order = jnp.argsort(way * saved, stable=True)
    found = solve_lanes(plan, given._replace(ts=saved[order]))
    xs = jax.tree.map(lambda v: v[:, jnp.argsort(order)], found.xs)
    part = lambda a, b: jax.tree.map(lambda v: v[:, a:b], xs)
    first = len(saved) - len(ends)
    ends = jnp.where(way * ends <= way * found.end[0], ends, jnp.inf)
    return replace(found, xs=part(0, first) if first else None), ends, part(first, len(saved))


def _ends(stepper: Stepper, lanes: Lanes, constants: Constants, *, max_steps: int, **others: Any) -> Array:
    """The times at which the steps of a row of lanes end; infinite behind the last."""
    row, k = Row(stepper.field, stepper.roots, lanes, constants), len(lanes.x)
    _, path, count = step_by_step(stepper, row, lanes, max_steps)
    return jnp.where(jnp.arange(len(path), dtype=count.dtype)[:, None] <= count, path[:, k], jnp.inf)
