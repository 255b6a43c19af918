"""What the user typed, as a residual for `root`."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from jaxkit.core.checks import require
from jaxkit.core.expression import Expression, parse_equations


@dataclasses.dataclass(frozen=True)
class Equations:
    """A system `residuals = 0`, or one equation.

    Attributes:
        shown: Each equation as text.
        residuals: Left minus right side of each.
        unknowns: The names solved for.
    """

    shown: tuple[str, ...]
    residuals: tuple[Expression, ...]
    unknowns: tuple[str, ...]

    @property
    def single(self) -> bool:
        """Whether there is one unknown."""
        return len(self.unknowns) == 1

    @property
    def is_complex(self) -> bool:
        """Whether the imaginary unit occurs."""
        return any(residual.is_complex for residual in self.residuals)

    def derivatives(self) -> tuple[str, ...]:
        """The partial derivatives that are not zero, each a line of text."""
        lines = []
        for k, residual in enumerate(self.residuals):
            head = "f" if len(self.residuals) == 1 else f"f{k + 1}"
            for name in self.unknowns:
                slope = residual.derivative(name)
                shown = str(slope) if slope.size <= 200 else f"(a formula of {slope.size} parts)"
                if self.single:
                    lines.append(f"{head}'({name}) = {shown}")
                elif shown != "0":
                    lines.append(f"d{head}/d{name} = {shown}")
        return tuple(lines)


@functools.lru_cache(maxsize=256)
def read(text: str, parameters: tuple[str, ...] = (), unknowns: tuple[str, ...] | None = None) -> Equations:
    """Parse equations and settle what is unknown: all names but the parameters."""
    pairs = parse_equations(text, None if unknowns is None else (*unknowns, *parameters))
    residuals = tuple(residual for _, residual in pairs)
    found = tuple(dict.fromkeys(name for residual in residuals for name in residual.names if name not in parameters))
    require(bool(found), "equations", "contain an unknown", f"are {text.strip()!r}")
    require(
        len(found) == len(residuals),
        "equations",
        f"be as many as their unknowns, {', '.join(found)}",
        f"number {len(residuals)}",
    )
    return Equations(tuple(shown for shown, _ in pairs), residuals, found)


def parameter_names(text: str, parameters: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Names of the parameters, checked."""
    require(isinstance(text, str), "equations", "be text or a function", f"is {type(text).__name__}")
    return tuple(sorted(parameters or ()))


@functools.lru_cache(maxsize=256)
def residual_function(equations: Equations) -> Callable[[Any, Any], Any]:
    """The residual of `(x, parameters)`: `x` is a number for one unknown, else a dictionary. Cached: compiles once."""
    name = equations.unknowns[0]

    def one(x: Any, parameters: Mapping[str, Any] | None) -> Any:
        return equations.residuals[0](**{name: x}, **(parameters or {}))

    def several(x: Mapping[str, Any], parameters: Mapping[str, Any] | None) -> Any:
        values = [residual(**_only(residual, {**x, **(parameters or {})})) for residual in equations.residuals]
        return [jnp.asarray(value) for value in values]

    return one if equations.single else several


def _only(residual: Expression, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in residual.names}
