"""Expressions as a user types them, parsed by our own parser, never by Python's or a computer algebra system's.

Text -> tree -> JAX function, derivative, text, LaTeX, interval enclosure. Only `ParseError` escapes the parser.
"""

from jaxkit.core.expression.expression import Expression as Expression
from jaxkit.core.expression.expression import parse as parse
from jaxkit.core.expression.expression import parse_equations as parse_equations
from jaxkit.core.expression.tokens import ParseError as ParseError
