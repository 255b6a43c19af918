"""The fixed table of functions and constants that a user may type."""

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType


@dataclasses.dataclass(frozen=True)
class Function:
    """A function of one argument `u`.

    Attributes:
        name: The name as it is typed.
        derivative: Its derivative, as text in `u`; empty where `definition` is given.
        latex: The LaTeX command, or a pattern with `{}` for the argument.
        array: The function's name in numpy and `jax.numpy`.
        definition: The function in terms of others, as text in `u`.
        holomorphic: Whether it has a complex derivative.
    """

    name: str
    derivative: str = ""
    latex: str = ""
    array: str = ""
    definition: str = ""
    holomorphic: bool = True


def _row(name: str, derivative: str, latex: str = "", array: str = "") -> Function:
    return Function(name, derivative, latex or rf"\{name}", array or name)


FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        row.name: row
        for row in (
            _row("exp", "exp(u)"),
            _row("log", "1/u", r"\ln"),
            _row("log10", "1/(u*log(10))", r"\log_{10}"),
            _row("log2", "1/(u*log(2))", r"\log_{2}"),
            _row("sqrt", "1/(2*sqrt(u))", r"\sqrt{{{}}}"),
            Function("cbrt", "1/(3*cbrt(u)^2)", r"\sqrt[3]{{{}}}", "cbrt", holomorphic=False),
            _row("sin", "cos(u)"),
            _row("cos", "-sin(u)"),
            _row("tan", "1 + tan(u)^2"),
            _row("asin", "1/sqrt(1 - u^2)", r"\arcsin", "arcsin"),
            _row("acos", "-1/sqrt(1 - u^2)", r"\arccos", "arccos"),
            _row("atan", "1/(1 + u^2)", r"\arctan", "arctan"),
            _row("sinh", "cosh(u)"),
            _row("cosh", "sinh(u)"),
            _row("tanh", "1 - tanh(u)^2"),
            _row("asinh", "1/sqrt(u^2 + 1)", r"\operatorname{arsinh}", "arcsinh"),
            _row("acosh", "1/(sqrt(u - 1)*sqrt(u + 1))", r"\operatorname{arcosh}", "arccosh"),
            _row("atanh", "1/(1 - u^2)", r"\operatorname{artanh}", "arctanh"),
            Function("erf", "2*exp(-u^2)/sqrt(pi)", r"\operatorname{erf}", "erf", holomorphic=False),
            Function("abs", "sign(u)", r"\left|{}\right|", "abs", holomorphic=False),
            Function("sign", "0", r"\operatorname{sgn}", "sign", holomorphic=False),
            Function("sec", latex=r"\sec", definition="1/cos(u)"),
            Function("csc", latex=r"\csc", definition="1/sin(u)"),
            Function("cot", latex=r"\cot", definition="cos(u)/sin(u)"),
        )
    }
)
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "ln": "log",
        "lg": "log10",
        "arcsin": "asin",
        "arccos": "acos",
        "arctan": "atan",
        "arcsinh": "asinh",
        "arccosh": "acosh",
        "arctanh": "atanh",
        "arsinh": "asinh",
        "arcosh": "acosh",
        "artanh": "atanh",
        "sgn": "sign",
        "π": "pi",
    }
)
CONSTANTS: Mapping[str, complex] = MappingProxyType({"pi": math.pi, "e": math.e, "i": 1j})
GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega"
).split()
