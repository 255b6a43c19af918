"""From trees to text that parses back, and to LaTeX."""

from jaxkit.core.expression.functions import FUNCTIONS, GREEK
from jaxkit.core.expression.tree import Apply, Name, Node, Number

_SUM, _PRODUCT, _NEG, _POWER, _ATOM = range(1, 6)
_LEVEL = {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "neg": _NEG, "^": _POWER}


def level(node: Node) -> int:
    """How tightly the outermost operation binds."""
    if isinstance(node, Apply):
        return _LEVEL.get(node.op, _ATOM)
    return _ATOM if isinstance(node, Name) or node.value >= 0 else _NEG


def _literal(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e16 else repr(value)


def text(node: Node) -> str:
    """The expression as one would type it, with no more parentheses than needed."""
    if isinstance(node, Number):
        return _literal(node.value)
    if isinstance(node, Name):
        return node.name
    op, args = node.op, node.args
    if op in ("+", "-"):
        return f"{text(args[0])} {op} {_inside(args[1], _PRODUCT, text)}"
    if op in ("*", "/"):
        return f"{_inside(args[0], _PRODUCT, text)}{op}{_inside(args[1], _POWER, text)}"
    if op == "neg":
        return f"-{_inside(args[0], _PRODUCT, text)}"
    if op == "^":
        return f"{_inside(args[0], _ATOM, text)}^{_inside(args[1], _POWER, text)}"
    return f"{op}({text(args[0])})" if args else op


def _inside(node: Node, least: int, show) -> str:  # noqa: ANN001, RUF100
    shown = show(node)
    if level(node) >= least:
        return shown
    return f"({shown})" if show is text else rf"\left({shown}\right)"


def _latex_name(name: str) -> str:
    head, _, index = name.partition("_")
    if not index and head[:1].isalpha() and head[1:].isdecimal():
        head, index = head[0], head[1:]
    head = rf"\{head}" if head in GREEK and head != "omicron" else head
    head = head if len(head) == 1 or head.startswith("\\") else rf"\mathrm{{{head}}}"
    return f"{head}_{{{index}}}" if index else head


def latex(node: Node) -> str:
    """The expression for a LaTeX formula."""
    if isinstance(node, Number):
        mantissa, _, exponent = _literal(node.value).partition("e")
        return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if exponent else mantissa
    if isinstance(node, Name):
        return _latex_name(node.name)
    op, args = node.op, node.args
    if op in ("+", "-"):
        return f"{latex(args[0])} {op} {_inside(args[1], _PRODUCT, latex)}"
    if op == "*":
        left, right = _inside(args[0], _PRODUCT, latex), _inside(args[1], _POWER, latex)
        return rf"{left} \cdot {right}" if right[:1].isdecimal() else f"{left} {right}"
    if op == "/":
        return rf"\frac{{{latex(args[0])}}}{{{latex(args[1])}}}"
    if op == "neg":
        return f"-{_inside(args[0], _PRODUCT, latex)}"
    if op == "^":
        return f"{{{_inside(args[0], _ATOM, latex)}}}^{{{latex(args[1])}}}"
    if not args:
        return {"pi": r"\pi", "e": r"\mathrm{e}", "i": r"\mathrm{i}"}[op]
    pattern = FUNCTIONS[op].latex
    return pattern.format(latex(args[0])) if "{}" in pattern else rf"{pattern}\left({latex(args[0])}\right)"
