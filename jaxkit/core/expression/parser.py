"""From tokens to trees, by precedence climbing.

equations  = equation {";" equation}
equation   = sum ["=" sum]
sum        = product {("+" | "-") product}
product    = unary {("*" | "/") unary | power}      two factors side by side are multiplied
unary      = ("+" | "-") unary | power
power      = atom ["^" unary]                        so -x^2 = -(x^2), 2^-x is fine, x^y^z = x^(y^z)
atom       = number | name | "(" sum ")" | "|" sum "|" | function "(" sum ")" | function "^" n "(" sum ")" | root atom
root       = "√" | "∛" | "∜" | "³√" | "⁴√"
"""

import difflib
import re
from collections.abc import Callable, Collection
from typing import Any

from jaxkit.core.expression.functions import ALIASES, CONSTANTS, FUNCTIONS, GREEK
from jaxkit.core.expression.tokens import ROOTS, ParseError, Token, tokenize
from jaxkit.core.expression.tree import Apply, Name, Node, literal

NODES, DEPTH = 256, 64
ABSENT = ("min", "max", "floor", "ceil", "round", "mod", "gamma", "factorial")  # functions that text cannot hold
_LETTER = re.compile(r"[^\W\d_](\d{1,3})?$|[^\W\d_]_\w{1,20}$")


class Parser:
    """One pass over one text.

    Args:
        text: What was typed.
        names: The names it may contain; None allows single letters (with an index, as in `x1`) and Greek letters.
        own: Further names, which take precedence over constants and functions.
    """

    def __init__(self, text: str, names: Collection[str] | None = None, own: Collection[str] = ()):
        self.text, self.names, self.own = text, names, own
        self.tokens = tokenize(text)
        self.k = self.nodes = self.depth = self.bars = 0

    def equations(self) -> list[tuple[Node, Node | None]]:
        """All equations as (left, right); right is None where no `=` was typed."""
        found = []
        while True:
            while self._take(";"):
                pass
            if self.now.kind == "end":
                break
            left = self._sum()
            found.append((left, self._sum() if self._take("=") else None))
            if self.now.kind not in (";", "end"):
                raise self._unexpected()
        if not found:
            raise ParseError("There is no expression.", self.text, 0)
        return found

    @property
    def now(self) -> Token:
        """The token not yet taken."""
        return self.tokens[self.k]

    def _take(self, kind: str) -> bool:
        taken = self.now.kind == kind
        self.k += taken
        return taken

    def _node(self, make: Callable[..., Node], *args: Any) -> Node:
        self.nodes += 1
        if self.nodes > NODES:
            raise ParseError(f"The expression has more than {NODES} parts.", self.text, self.now.at)
        return make(*args)

    def _apply(self, op: str, *args: Node) -> Node:
        return self._node(Apply, op, args)

    def _unexpected(self) -> ParseError:
        token = self.now
        if token.kind == "end":
            return ParseError("The expression ends too early.", self.text, token.at)
        hint = {
            "=": "A second `=`: write one equation at a time, separated by `;`.",
            ")": "A closing parenthesis without an opening one.",
            "number": "Two numbers side by side; put an operator between them.",
            ",": "Unexpected comma; write decimals with a point, equations separated by `;`.",
        }
        return ParseError(hint.get(token.kind, f"Unexpected {token.text!r}."), self.text, token.at)

    def _sum(self) -> Node:
        left = self._product()
        while self.now.kind in "+-":
            op = self.now.kind
            self.k += 1
            left = self._apply(op, left, self._product())
        return left

    def _product(self) -> Node:
        left = self._unary()
        while True:
            token = self.now
            if token.kind in ("*", "/"):
                self.k += 1
                left = self._apply(token.kind, left, self._unary())
            elif token.kind in ("name", "(", *ROOTS) or (token.kind == "|" and not self.bars):
                left = self._apply("*", left, self._power())
            elif token.kind == "number" and self.tokens[self.k - 1].kind in (")", "|"):
                left = self._apply("*", left, self._power())
            else:
                return left

    def _unary(self) -> Node:
        if self.now.kind not in ("+", "-"):
            return self._power()
        negative = self.now.kind == "-"
        inner = self._deeper(lambda: (self._step(), self._unary())[1])
        return self._apply("neg", inner) if negative else inner

    def _step(self) -> None:
        self.k += 1

    def _deeper(self, parse: Callable[[], Node]) -> Node:
        self.depth += 1
        if self.depth > DEPTH:
            raise ParseError(f"The expression is nested more than {DEPTH} deep.", self.text, self.now.at)
        node = parse()
        self.depth -= 1
        return node

    def _power(self) -> Node:
        base = self._atom()
        if not self._take("^"):
            return base
        return self._apply("^", base, self._deeper(self._unary))

    def _atom(self) -> Node:
        token = self.now
        self.k += 1
        if token.kind == "number":
            return self._node(literal, token.text)
        if token.kind == "name":
            return self._name(token)
        if token.kind == "(":
            return self._enclosed(")", token)
        if token.kind == "|":
            return self._apply("abs", self._enclosed("|", token))
        if token.kind in ROOTS:
            inner = self._deeper(self._atom)
            if token.kind in ("√", "∛"):
                return self._apply("sqrt" if token.kind == "√" else "cbrt", inner)
            return self._apply("sqrt", self._apply("sqrt", inner))
        self.k -= 1
        raise self._unexpected()

    def _enclosed(self, closing: str, opening: Token) -> Node:
        outside, self.bars = self.bars, int(closing == "|")
        inner = self._deeper(self._sum)
        self.bars = outside
        if not self._take(closing):
            if self.now.kind in ("end", ";", "="):
                raise ParseError(f"This {opening.text!r} is never closed.", self.text, opening.at)
            raise self._unexpected()
        return inner

    def _name(self, token: Token) -> Node:
        name = token.text
        if name in self.own or (self.names is not None and name in self.names):
            return self._node(Name, name)
        name = ALIASES.get(name, name)
        if name in FUNCTIONS:
            return self._call(name, token)
        if name in CONSTANTS:
            return self._apply(name)
        if name in ABSENT and self.names is None and self.now.kind == "(":
            raise ParseError(_absent(name), self.text, token.at)
        if self.names is None and (_LETTER.match(name) or name in GREEK):
            return self._node(Name, name)
        raise ParseError(self._unknown(token.text), self.text, token.at)

    def _call(self, name: str, token: Token) -> Node:
        exponent = None
        if self.now.kind == "^" and self.tokens[self.k + 1].kind in ("number", "(", "-"):
            self.k += 1
            raised = self._take("(")  # from a superscript: sin²(x)
            power = self.now
            self.k += 1
            if power.kind != "number" or not power.text.isdecimal() or (raised and not self._take(")")):
                sentence = f"For the inverse of {name} write a{name}(x); a power is {name}^2(x)."
                raise ParseError(sentence, self.text, power.at)
            exponent = self._node(literal, power.text)
        opening = self.now
        if not self._take("("):
            raise ParseError(f"The function {name} needs parentheses: {name}(...).", self.text, token.at)
        call = self._apply(name, self._enclosed(")", opening))
        return call if exponent is None else self._apply("^", call, exponent)

    def _unknown(self, name: str) -> str:
        tail = next((f for f in (*FUNCTIONS, *ALIASES) if name.endswith(f) and len(name) - len(f) in (1, 2)), None)
        if tail and self.now.kind == "(":
            return f"Unknown name {name!r}; for a product write {name.removesuffix(tail)}*{tail}(...)."
        known = [*FUNCTIONS, *ALIASES, *CONSTANTS, *(self.names or ())]
        close = difflib.get_close_matches(name[:40], known, n=1, cutoff=0.6)
        if close:
            return f"Unknown name {name[:40]!r}; did you mean {close[0]!r}?"
        if self.names is not None:
            return f"Unknown name {name[:40]!r}; the names are {', '.join(sorted(self.names)) or 'none'}."
        if name.isalpha() and len(name) <= 4:
            return f"Unknown name {name!r}; for a product write {'*'.join(name)}."
        return f"Unknown name {name[:40]!r}; unknowns are single letters, as x, y, x1."


def _absent(name: str) -> str:
    """What to do without a function that text cannot hold."""
    if name in ("min", "max"):
        instead = f"write {name}(a, b) as (a + b {'-' if name == 'min' else '+'} |a - b|)/2, or"
    else:
        instead = "write gamma*(...) for a product, or" if name == "gamma" else "for it,"
    return f"The function {name} is not known in typed text; {instead} give a function, `lambda x, _: ...`."
