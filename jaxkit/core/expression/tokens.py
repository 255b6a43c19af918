"""From characters to tokens, and the one error that the parser may raise."""

import dataclasses
import unicodedata

LONGEST = 1000  # most characters of a text
LEAST = 2.0**-1022  # smaller numbers are 0 to compiled programs
SUPERSCRIPTS = {c: str(k) for k, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")} | {"⁻": "-", "⁺": "+"}
SAME = {"−": "-", "–": "-", "×": "*", "·": "*", "⋅": "*", "∙": "*", "÷": "/", "∕": "/", "⁄": "/", "∣": "|", "，": ","}  # noqa: RUF100
ROOTS = "√∛∜"
SYMBOLS = "+-*/^()|=;," + ROOTS


class ParseError(ValueError):
    """Text that is not an expression. The message shows the text with a caret under the offending character.

    Attributes:
        text: What was typed.
        position: Index of the character.
        reason: The sentence without the caret.
    """

    def __init__(self, reason: str, text: str, position: int):
        self.reason, self.text, self.position = reason, text, position
        first = max(0, position - 60)
        shown = "".join(c if c.isprintable() else " " for c in text[first : first + 100])
        super().__init__(f"{reason}\n  {shown}\n  {' ' * (position - first)}^")


@dataclasses.dataclass(frozen=True)
class Token:
    """A number, a name, a symbol or the end, and its place in the text."""

    kind: str  # "number", "name", "end", or the symbol itself
    text: str
    at: int


def _characters(text: str) -> list[tuple[str, int]]:
    """NFKC-normalised characters with their positions in `text`; superscripts become `^(...)`."""
    found: list[tuple[str, int]] = []
    raised = False
    indices = _root_indices(text)
    for at, c in enumerate(text):
        if at in indices:
            found += [(indices[at], at)] if indices[at] else []
            continue
        above = _superscript(c)
        if bool(above) != raised:
            found += [("^", at), ("(", at)] if not raised else [(")", at)]
            raised = not raised
        if raised:
            found.append((above, at))
        elif unicodedata.category(c) == "No" and "⁄" in unicodedata.normalize("NFKC", c):
            raise ParseError("A fraction sign is ambiguous here; write it as (1/2).", text, at)
        elif c in SAME:
            found.append((SAME[c], at))
        else:
            found += [(SAME.get(d, d), at) for d in unicodedata.normalize("NFKC", c)]
    return found + ([(")", len(text))] if raised else [])


def _superscript(c: str) -> str:
    """The character that a superscript stands for, letters such as `ˣ` included, or an empty string."""
    if c in SUPERSCRIPTS:
        return SUPERSCRIPTS[c]
    form = unicodedata.decomposition(c)
    return unicodedata.normalize("NFKC", c) if form.startswith("<super>") else ""


def _root_indices(text: str) -> dict[int, str]:
    """Where a root is written with its index in front, as in `2 ³√x`: position -> that root's sign, or nothing."""
    found: dict[int, str] = {}
    for at, c in enumerate(text):
        start = at
        while c == "√" and start and _superscript(text[start - 1]).isdecimal():
            start -= 1
        before = text[start - 1] if start else " "
        if start == at or before.isalnum() or before in ")|":  # `x³√y` is a power times a root
            continue
        index = "".join(_superscript(d) for d in text[start:at])
        if index not in ("2", "3", "4"):
            raise ParseError(f"Write this root as a power, (...)^(1/{index}).", text, start)
        found |= dict.fromkeys(range(start, at), "") | {at: ROOTS[int(index) - 2]}
    return found


def tokenize(text: str) -> list[Token]:
    """Cut `text` into tokens; the last one marks the end."""
    if not isinstance(text, str):
        raise ParseError(f"An expression must be text, but is {type(text).__name__}.", "", 0)
    if len(text) > LONGEST:
        raise ParseError(f"The text has {len(text)} characters; at most {LONGEST} are read.", text, LONGEST)
    characters = _characters(text)
    tokens, k = [], 0
    while k < len(characters):
        c, at = characters[k]
        if c == "\n":
            tokens.append(Token(";", ";", at))
            k += 1
        elif c.isspace():
            k += 1
        elif c.isdecimal() or c == ".":
            k = _number(characters, k, tokens, text)
        elif c.isalpha() or c == "_":
            end = k
            while end < len(characters) and (characters[end][0].isalnum() or characters[end][0] == "_"):
                end += 1
            tokens.append(Token("name", "".join(d for d, _ in characters[k:end]), at))
            k = end
        elif c in SYMBOLS:
            double = c in "*=" and k + 1 < len(characters) and characters[k + 1][0] == c
            tokens.append(Token({"**": "^", "==": "="}[c + c] if double else c, c, at))
            k += 2 if double else 1
        else:
            raise ParseError(f"Unexpected character {c!r}.", text, at)
    return [*tokens, Token("end", "", len(text))]


def _number(characters: list[tuple[str, int]], k: int, tokens: list[Token], text: str) -> int:
    """Read digits, one point, and an exponent if digits follow it; return the index behind them."""
    start = k
    digit = lambda j: j < len(characters) and characters[j][0].isascii() and characters[j][0].isdecimal()
    while digit(k):
        k += 1
    if k < len(characters) and characters[k][0] == ".":
        k += 1
        while digit(k):
            k += 1
    mantissa = any(c.isdecimal() for c, _ in characters[start:k])
    if mantissa and k < len(characters) and characters[k][0] in "eE":
        sign = k + 1 < len(characters) and characters[k + 1][0] in "+-"
        if digit(k + 1 + sign):
            k += 2 + sign
            while digit(k):
                k += 1
    literal, at = "".join(c for c, _ in characters[start:k]), characters[start][1]
    if not mantissa:
        raise ParseError(f"Unexpected character {characters[start][0]!r}.", text, at)
    if float(literal) in (float("inf"),):
        raise ParseError(f"The number {literal[:20]} is too large.", text, at)
    if float(literal) < LEAST and any(c in "123456789" for c in literal.lower().partition("e")[0]):
        raise ParseError(f"The number {literal[:20]} is too small: it would be read as 0.", text, at)
    tokens.append(Token("number", literal, at))
    return k
