"""Problems brought to the form that is solved: a state of real numbers, parameters that are numbers.

A complex number of the state becomes its real and imaginary parts, each with the tolerances of the number.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxkit.compile.real_form import in_real_numbers
from jaxkit.core import checks
from jaxkit.dynamics.ode.actions import Event, Jumps
from jaxkit.dynamics.ode.methods import SDE
from jaxkit.dynamics.parts import Parts, apart


class Halves(NamedTuple):
    """A state that holds complex numbers."""

    treedef: Any
    paired: tuple[bool, ...]  # for each leaf, whether it is complex

    def split(self, x: PyTree, name: str) -> list[Any]:
        """The state's leaves, with pairs of real and imaginary parts."""
        have = jax.tree.structure(x)
        checks.require(have == self.treedef, name, f"return the structure of the state, {self.treedef}", f"has {have}")
        halves = lambda v: (jnp.real(v), jnp.imag(v))
        return [halves(v) if pair else v for v, pair in zip(jax.tree.leaves(x), self.paired, strict=True)]

    def join(self, leaves: list[Any]) -> PyTree:
        """The state."""
        joined = [jax.lax.complex(*v) if pair else v for v, pair in zip(leaves, self.paired, strict=True)]
        return self.treedef.unflatten(joined)


class Form(NamedTuple):
    """How a problem was brought to the form that is solved."""

    halves: Halves | None
    parts: Parts | None

    def field(self, fn: Any) -> Any:
        """A field, or an equation with noise."""
        if isinstance(fn, SDE):
            checks.require(self.halves is None, "x0", "be real for an SDE", "is complex")
            return SDE(self.called(fn.drift), self.called(fn.diffusion), fn.key, fn.sense)
        if self.halves is None or not callable(fn):
            return self.called(fn) if callable(fn) else fn
        halves, inner = self.halves, self.called(fn)
        return in_real_numbers(lambda t, x, a: halves.split(inner(t, x, a), "field"))

    def called(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """A function of time, state and parameters."""
        if self.parts is not None:
            fn = self.parts.called(fn, 2)
        if self.halves is None:
            return fn
        inner, halves = fn, self.halves
        return lambda t, x, a, *more: inner(t, halves.join(x), a, *more)

    def events(self, event: Any) -> Any:
        """What happens on the way."""
        if isinstance(event, Jumps):
            return replace(event, change=self._change(event.change))
        if isinstance(event, Event):
            change = None if event.change is None else self._change(event.change)
            return replace(event, fn=self._event(event.fn), change=change)
        if event is None or callable(event):
            return event and self._event(event)
        return tuple(map(self.events, event))

    def _event(self, event: Callable[..., Any]) -> Callable[..., Any]:
        return self.called(event) if self.halves is None else in_real_numbers(self.called(event))

    def _change(self, change: Callable[..., Any]) -> Callable[..., Any]:
        inner, halves = self.called(change), self.halves
        if halves is None:
            return inner
        return in_real_numbers(lambda t, x, a, *more: halves.split(inner(t, x, a, *more), "change"))

    def result(self, found: Any) -> Any:
        """A solution or an ensemble with states as the user knows them."""
        events, path = found.events, getattr(found, "path", None)
        more = {} if path is None else {"path": replace(path, form=self)}
        if events is not None:
            more["events"] = replace(events, xs=self.restored(events.xs))
        return replace(found, xs=self.restored(found.xs), final=self.restored(found.final), **more)

    def state(self, x: PyTree) -> PyTree:
        """A start."""
        return x if self.halves is None else self.halves.split(x, "x0")

    def tolerance(self, atol: Any) -> Any:
        """An absolute tolerance, which is a number or has the state's structure."""
        if self.halves is None or jax.tree.structure(atol) != self.halves.treedef or isinstance(atol, float | int):
            return atol
        return [(v, v) if pair else v for v, pair in zip(jax.tree.leaves(atol), self.halves.paired, strict=True)]

    def restored(self, x: PyTree) -> PyTree:
        """A state as the user knows it."""
        return x if self.halves is None else self.halves.join(x)


def form_of(x0: PyTree, args: PyTree) -> tuple[Form | None, PyTree]:
    """The form of a problem, None where it is the usual one; and the numbers of its parameters."""
    numbers, parts = apart(args)
    leaves, treedef = jax.tree.flatten(x0)
    paired = tuple(map(jnp.iscomplexobj, leaves))
    if parts is None and not any(paired):
        return None, args
    return Form(Halves(treedef, paired) if any(paired) else None, parts), numbers
