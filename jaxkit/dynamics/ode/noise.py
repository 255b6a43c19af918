"""Equations with noise: one noise for each number of the state or any number of shared ones; Itô's or Stratonovich's.

A solver of diffrax converges to the solution in one of the two senses. An equation in the other sense is brought to it
by half of the noise's drift along itself, `1/2 sum_j (dg_j/dx) g_j`, where `g_j` is what noise `j` does to the state.
"""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from jaxkit.core import checks
from jaxkit.dynamics.ode.methods import SDE

FIRST_ORDER = (diffrax.Heun, diffrax.Midpoint, diffrax.Ralston, diffrax.ItoMilstein, diffrax.StratonovichMilstein)


def noises(equation: SDE, t: Any, x: PyTree, args: PyTree) -> int | None:
    """The number of noises that the state shares; None where each of its numbers has its own."""
    found = jax.eval_shape(equation.diffusion, t, x, args)
    have, want = jax.tree.structure(found), jax.tree.structure(x)
    checks.require(have == want, "diffusion", f"return the structure of the state, {want}", f"returns {have}")
    shapes, wanted = ([tuple(jnp.shape(v)) for v in jax.tree.leaves(tree)] for tree in (found, x))
    if shapes == wanted:
        return None
    many = {s[-1] for s in shapes if s}
    fits = len(many) == 1 and [s[:-1] for s in shapes] == wanted and all(shapes)
    must = f"return the shapes of the state, {wanted}, or these with one more axis for the noises"
    checks.require(fits, "diffusion", must, f"returns {shapes}")
    return many.pop()


def matrix(equation: SDE, t: Array, x: PyTree, args: PyTree) -> Float[Array, "k m"]:
    """What each noise does to each number of the state."""
    found = equation.diffusion(t, x, args)
    if noises(equation, t, x, args) is None:
        return jnp.diag(ravel_pytree(found)[0])
    return jnp.concatenate([v.reshape(-1, v.shape[-1]) for v in jax.tree.leaves(found)])


def own_drift(equation: SDE, t: Array, x: PyTree, args: PyTree) -> PyTree:
    """The noise's drift along itself, `sum_j (dg_j/dx) g_j`."""
    flat, back = ravel_pytree(x)
    return back(jnp.einsum("jkj->k", _along_each(lambda x: matrix(equation, t, back(x), args), flat)))


def _along_each(field: Callable[[Array], Float[Array, "k m"]], x: Float[Array, " k"]) -> Float[Array, "m k m"]:
    """How what the noises do changes along each of them, the first axis."""
    return jax.vmap(lambda g: jax.jvp(field, (x,), (g,))[1], -1, 0)(field(x))


def in_sense_of(equation: SDE, solver: diffrax.AbstractSolver) -> SDE:
    """The equation in the sense in which a solver converges."""
    senses = {"ito": diffrax.AbstractItoSolver, "stratonovich": diffrax.AbstractStratonovichSolver}
    solved = [sense for sense, kind in senses.items() if isinstance(solver, kind)]
    must = "be for equations with noise: `euler`, `heun`, `midpoint`, `ralston` or such a diffrax solver"
    checks.require(bool(solved), "method", must, f"is {type(solver).__name__}")
    if equation.sense in solved:
        return equation
    sign = 0.5 if equation.sense == "stratonovich" else -0.5

    def drift(t: Array, x: PyTree, args: PyTree) -> PyTree:
        more = own_drift(equation, t, x, args)
        return jax.tree.map(lambda v, u: v + sign * u, equation.drift(t, x, args), more)

    return dataclasses.replace(equation, drift=drift, sense=solved[0])


def terms(equation: SDE, solver: Any, ts: Array, x0: PyTree, args: PyTree, dt: float | None) -> Any:
    """Diffrax's terms: the drift, and the noise along one Brownian path."""
    many = noises(equation, ts[0], x0, args)
    shared = many is not None and isinstance(solver, diffrax.ItoMilstein)  # whose Jacobians want a leaf for each
    checks.require(not shared, "method", "be another for shared noises", "is ItoMilstein")
    shape: Any = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), x0)
    area = getattr(solver, "minimal_levy_area", diffrax.BrownianIncrement)
    area = diffrax.SpaceTimeLevyArea if area is not diffrax.BrownianIncrement else area
    control = shape if many is None else jax.ShapeDtypeStruct((many,), jnp.result_type(*jax.tree.leaves(x0)))
    until = jnp.where(ts[-1] == ts[0], ts[0] + 1, ts[-1])
    path = diffrax.VirtualBrownianTree(
        ts[0], until, tol=(dt or 1.0) / 2, shape=control, key=equation.key, levy_area=area
    )

    def diffusion(t: Array, x: PyTree, args: PyTree) -> lineax.AbstractLinearOperator:
        found = equation.diffusion(t, x, args)
        return lineax.DiagonalLinearOperator(found) if many is None else lineax.PyTreeLinearOperator(found, shape)

    own: Any = (equation.drift, diffusion)
    return diffrax.MultiTerm(diffrax.ODETerm(own[0]), diffrax.ControlTerm(own[1], path))


def warn_of_order(equation: SDE, solver: Any, t: Any, x: PyTree, args: PyTree) -> None:
    """Say where noises do not commute, so that a solver of strong order 1 has order 1/2; known values alone."""
    if not isinstance(solver, FIRST_ORDER) or checks.is_traced((equation, t, x, args)):
        return
    flat, back = ravel_pytree(x)
    field: Callable[[Array], Array] = lambda x: matrix(equation, t, back(x), args)
    for scale in (1.0, 1.1):  # at the start alone they might commute by chance
        point = flat * scale + (scale - 1) * jnp.cos(1 + jnp.arange(flat.size, dtype=flat.dtype))
        moved = _along_each(field, point)
        gap = np.max(np.abs(np.asarray(moved - jnp.swapaxes(moved, 0, 2))), initial=0.0)
        if gap > 1e-4 * np.max(np.abs(np.asarray(moved)), initial=0.0):
            warnings.warn(
                f"The noises do not commute: the strong order of {type(solver).__name__} is 1/2 for this equation, not "
                "1. (Its law is right; for paths, take shorter steps.)",
                stacklevel=4,
            )
            return
