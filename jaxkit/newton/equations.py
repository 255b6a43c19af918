"""Typed equations as a residual for `root`."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from jaxkit.core.arguments import require
from jaxkit.core.expression import Expression, parse_equations


@dataclasses.dataclass(frozen=True)
class Equations:
    """A system `residuals = 0`, or one equation: text is parsed once, and this is passed on.

    Attributes:
        shown: Each equation as text.
        residuals: Left side minus right side of each.
        unknowns: The names to solve for.

    Example:
        >>> from jaxkit import newton
        >>> system = newton.Equations.parse("x^2 = a", known=("a",))
        >>> system.unknowns, float(newton.solve(system, 1.0, {"a": 4.0}).value)
        (('x',), 2.0)
    """

    shown: tuple[str, ...]
    residuals: tuple[Expression, ...]
    unknowns: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, known: Iterable[str] = (), unknowns: Iterable[str] = ()) -> "Equations":
        """Read one equation, or several separated by `;`. All names but the known ones are unknowns.

        Args:
            text: The equations; read by jaxkit's own parser and never executed.
            known: Names of parameters, even if they are names of constants (`e`, `i`, `pi`).
            unknowns: Names of unknowns that are names of constants; the others are found.

        Raises:
            ParseError: The text is not an equation; the message points at the place.
            ValueError: The numbers of equations and unknowns differ, or a parameter occurs in none of them.
        """
        require(isinstance(text, str), "equations", "be text or a function", f"is {type(text).__name__}")
        return cls._read(text, tuple(known), tuple(unknowns))

    @classmethod
    @functools.lru_cache(maxsize=256)
    def _read(cls, text: str, known: tuple[str, ...], unknowns: tuple[str, ...]) -> "Equations":
        """`parse`, once for each text: what it gives does not change."""
        pairs = parse_equations(text, None, own=(*known, *unknowns))
        residuals = tuple(residual for _, residual in pairs)
        every = tuple(dict.fromkeys(name for residual in residuals for name in residual.names))
        found = tuple(name for name in every if name not in known)
        strange = [name for name in known if name not in every]
        has = f"are {text.strip()!r}" + _constants(residuals)
        require(not strange, "args", f"name what is in the equations ({', '.join(every)})", f"has {', '.join(strange)}")
        require(bool(found), "equations", "contain an unknown", has)
        require(
            len(found) == len(residuals),
            "equations",
            f"be as many as their unknowns, {', '.join(found)}",
            f"number {len(residuals)}{_given(found[: -len(residuals)])}",
        )
        return cls(tuple(shown for shown, _ in pairs), residuals, found)

    @classmethod
    def of(cls, given: "str | Equations", args: Mapping[str, Any] | None = None, x0: Any = None) -> "Equations":
        """`given`, parsed if it is text; the names in `args` are known, those in `x0` are unknowns."""
        if isinstance(given, cls):
            return given
        return cls.parse(given, args or (), x0 if isinstance(x0, Mapping) else ())  # pyright: ignore[reportArgumentType]

    def __contents__(self) -> tuple:
        """What these equations are, for keys of kept programs; not what has been derived from them meanwhile."""
        return self.shown, tuple(residual.__contents__() for residual in self.residuals), self.unknowns

    def on_host(self, x: Any, args: Mapping[str, Any] | None) -> np.ndarray:
        """The residual of a single equation over an array of numbers, in NumPy."""
        values = self.residuals[0].on_host(**{self.unknowns[0]: x}, **(args or {}))
        return np.broadcast_to(values, np.shape(x))

    @property
    def single(self) -> bool:
        """Whether there is one unknown."""
        return len(self.unknowns) == 1

    @property
    def is_complex(self) -> bool:
        """Whether the imaginary unit occurs."""
        return any(residual.is_complex for residual in self.residuals)

    @functools.cached_property
    def derivatives(self) -> tuple[str, ...]:
        """The partial derivatives that are not zero, each as a line of text."""
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


def _given(surplus: Iterable[str]) -> str:
    """How names that are known, if there are too many, are given their values."""
    said = " and ".join(f"`{name}`" for name in surplus)
    return f"; if {said} is known, give its value in `args` (--set)" if said else ""


def _constants(residuals: Iterable[Expression]) -> str:
    """The constants in a formula that a user may have meant as names."""
    found = sorted({constant for residual in residuals for constant in residual.constants})
    read = {"e": "Euler's number", "i": "the imaginary unit", "pi": "3.14159..."}
    said = ", ".join(f"`{name}` is read as {read[name]}" for name in found)
    return f", where {said}; a value or a first guess for it makes it a name" if said else ""


@functools.lru_cache(maxsize=256)
def residual_function(equations: Equations) -> Callable[[Any, Any], Any]:
    """The residual of `(x, parameters)`: `x` is a number for one unknown, else a dictionary. Cached: compiled once."""
    name = equations.unknowns[0]

    def one(x: Any, parameters: Mapping[str, Any] | None) -> Any:
        return equations.residuals[0](**{name: x}, **(parameters or {}))

    def several(x: Mapping[str, Any], parameters: Mapping[str, Any] | None) -> Any:
        import jax.numpy as jnp

        values = [residual(**_only(residual, {**x, **(parameters or {})})) for residual in equations.residuals]
        return [jnp.asarray(value) for value in values]

    return one if equations.single else several


def _only(residual: Expression, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in residual.names}
