"""Pytrees whose leaves are not all numbers: modules with activation functions, names, flags beside their arrays.

The verbs work on numbers. What else a pytree holds is set aside and put back where the user's functions are called.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

NUMBERS = frozenset((int, float, complex))


class Parts(NamedTuple):
    """The parts of a pytree that are no numbers, and its structure."""

    treedef: Any
    moving: tuple[bool, ...]  # for each leaf, whether it is a number or an array of them
    fixed: tuple[Any, ...]

    def join(self, numbers: list[Any]) -> PyTree:
        """The pytree around other numbers."""
        values, others = iter(numbers), iter(self.fixed)
        return self.treedef.unflatten([next(values if moves else others) for moves in self.moving])

    def alone(self, numbers: list[Any]) -> PyTree:
        """The pytree around other numbers, with None for what is no number."""
        values = iter(numbers)
        return self.treedef.unflatten([next(values) if moves else None for moves in self.moving])

    def called(self, fn: Callable[..., Any], at: int) -> Callable[..., Any]:
        """A function whose argument number `at` is this pytree, as a function of the numbers."""
        return lambda *given: fn(*given[:at], self.join(given[at]), *given[at + 1 :])


def apart(tree: PyTree) -> tuple[PyTree, Parts | None]:
    """The numbers of a pytree and its other parts; the pytree itself and None where all of its leaves are numbers."""
    leaves, treedef = jax.tree.flatten(tree)
    moving = tuple(map(_is_number, leaves))
    if all(moving):
        return tree, None
    fixed = tuple(leaf for leaf, moves in zip(leaves, moving, strict=True) if not moves)
    return [leaf for leaf, moves in zip(leaves, moving, strict=True) if moves], Parts(treedef, moving, fixed)


def _is_number(leaf: Any) -> bool:
    if type(leaf) in NUMBERS or isinstance(leaf, jax.Array):
        return True
    return isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind in "biufcV"
