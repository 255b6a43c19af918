"""What the parser gives back: an expression one can print, differentiate, evaluate and enclose."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from jaxkit.core.arguments import require
from jaxkit.core.expression import printing
from jaxkit.core.expression.derivative import derivative
from jaxkit.core.expression.evaluate import evaluate
from jaxkit.core.expression.functions import CONSTANTS, FUNCTIONS
from jaxkit.core.expression.interval import Interval, enclose, enclose_slope, interval
from jaxkit.core.expression.parser import Parser
from jaxkit.core.expression.tokens import ParseError
from jaxkit.core.expression.tree import Apply, Node, free, rational, sub, walk

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike


@dataclasses.dataclass(frozen=True)
class Expression:
    r"""A formula in some names. Made by `parse`.

    Attributes:
        tree: The expression tree.

    Example:
        >>> from jaxkit.core.expression import parse
        >>> f = parse("x exp(x) - 2")
        >>> print(f, "|", f.derivative("x"))
        x*exp(x) - 2 | exp(x) + x*exp(x)
        >>> print(f.latex())
        x \exp\left(x\right) - 2
        >>> print(round(float(f(x=0.852605502013726)), 9))
        0.0
    """

    tree: Node

    def __contents__(self) -> str:
        """What this expression is, for keys of kept programs (0.0 is not -0.0)."""
        return self._written

    @functools.cached_property
    def _written(self) -> str:
        return repr(self.tree)

    def __str__(self) -> str:
        """The formula as one would type it; it parses back to the same tree."""
        return printing.text(self.tree)

    def __call__(self, **values: "ArrayLike") -> "Array":
        """Its value in JAX; arrays broadcast, complex values or an `i` in the formula give complex results."""
        missing = [name for name in self.names if name not in values]
        require(not missing, "values", f"have {', '.join(map(repr, self.names))}", f"lack {', '.join(missing)}")
        return evaluate(self.tree, values, complex_=self.is_complex)

    @property
    def names(self) -> tuple[str, ...]:
        """The names in it, in order of appearance."""
        return free(self.tree)

    @property
    def constants(self) -> tuple[str, ...]:
        """The constants in it: `e`, `i`, `pi`."""
        return tuple(dict.fromkeys(n.op for n in walk(self.tree) if isinstance(n, Apply) and n.op in CONSTANTS))

    @property
    def is_complex(self) -> bool:
        """Whether the imaginary unit occurs."""
        return any(isinstance(node, Apply) and node.op == "i" for node in walk(self.tree))

    @property
    def is_holomorphic(self) -> bool:
        """Whether it has a complex derivative: no `abs`, `sign`, `cbrt`, `erf`."""
        return all(
            FUNCTIONS[node.op].holomorphic
            for node in walk(self.tree)
            if isinstance(node, Apply) and node.op in FUNCTIONS
        )

    @property
    def size(self) -> int:
        """The number of nodes of the tree."""
        return sum(1 for _ in walk(self.tree))

    def latex(self) -> str:
        """The formula in LaTeX."""
        return printing.latex(self.tree)

    def derivative(self, name: str) -> "Expression":
        """The derivative with respect to one name, as a formula."""
        return Expression(derivative(self.tree, name))

    def on_host(self, **values: Any) -> Any:
        """Its value in numpy, in double precision."""
        return evaluate(self.tree, values, complex_=self.is_complex, host=True)

    def sign(self, values: Mapping[str, float]) -> int | None:
        """Its sign at these floats, -1, 0 or 1; None where it cannot be told. Exact for rational formulas."""
        exact = rational(self.tree, {name: Fraction(value) for name, value in values.items()})
        if exact is not None:
            return (exact > 0) - (exact < 0)
        bounds = self.enclose({name: interval(value) for name, value in values.items()})
        found = int(bounds.lo > 0) - int(bounds.hi < 0)
        return found if found and bounds.defined else None

    def function(self, *names: str) -> "Callable[..., Array]":
        """A JAX function of positional arguments."""
        return lambda *values: self(**dict(zip(names, values, strict=True)))

    def enclose(self, values: Mapping[str, Interval]) -> Interval:
        """Bounds on its values over intervals, rounded outward."""
        return enclose(self.tree, values)

    def enclose_slope(self, values: Mapping[str, Interval], name: str) -> tuple[Interval, Interval]:
        """Bounds on its values and on its derivative with respect to one name."""
        return enclose_slope(self.tree, values, name)


def parse(text: str, names: Collection[str] | None = None) -> Expression:
    """Read one expression.

    It may contain numbers, names, `+ - * / ^` (or `**`), parentheses, `|x|`, products without a sign (`2x`,
    `3 sin(x)`, `(x+1)(x-1)`; they bind like `*`), the functions exp log sqrt cbrt sin cos tan sinh ... erf abs, and
    the constants pi, e and i. At most 1000 characters, 256 parts, 64 levels.

    Args:
        text: What the user typed.
        names: The names allowed; by default single letters, with an index (`x1`, `x_max`), and Greek letters.

    Returns:
        The expression.

    Raises:
        ParseError: The text is not an expression; the message points at the place.

    Example:
        >>> from jaxkit.core.expression import parse
        >>> parse("sinn(x) + 1")
        Traceback (most recent call last):
        ...
        jaxkit.core.expression.tokens.ParseError: Unknown name 'sinn'; did you mean 'sin'?
          sinn(x) + 1
          ^
    """
    parser = Parser(text, names)
    found = parser.equations()
    if len(found) > 1 or found[0][1] is not None:
        at = next(token.at for token in parser.tokens if token.kind in ("=", ";"))
        raise ParseError("One expression is expected here, without `=` and `;`.", text, at)
    return Expression(found[0][0])


def parse_equations(
    text: str, names: Collection[str] | None = None, own: Collection[str] = ()
) -> tuple[tuple[str, Expression], ...]:
    """Read equations separated by `;` or line ends.

    Args:
        text: What the user typed; an expression without `=` is to be zero.
        names: See `parse`.
        own: Names that stand for themselves, even where a constant or a function has the same name.

    Returns:
        For each equation, its tidied text and the expression `left - right` that is to be zero.

    Raises:
        ParseError: The text is not a set of equations.

    Example:
        >>> from jaxkit.core.expression import parse_equations
        >>> for shown, residual in parse_equations("x^2 + y^2 = 4; xy = 1", names=("x", "y", "xy")):
        ...     print(shown, "|", residual)
        x^2 + y^2 = 4 | x^2 + y^2 - 4
        xy = 1 | xy - 1
    """
    equations = []
    for left, right in Parser(text, names, own).equations():
        shown = f"{printing.text(left)} = {printing.text(right) if right else '0'}"
        equations.append((shown, Expression(left if right is None else sub(left, right))))
    return tuple(equations)
