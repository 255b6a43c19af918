"""The one sentence in which arguments are refused, free of JAX: a command may refuse, and answer, without it."""

from collections.abc import Iterable
from typing import Any


def require(condition: bool, name: str, must: str, but: str) -> None:  # noqa: FBT001
    """Raise `ValueError` in the one sentence pattern unless `condition` holds."""
    if not condition:
        raise ValueError(f"Argument `{name}` must {must}, but {but}.")


def one_of(name: str, value: Any, allowed: Iterable[Any]) -> None:
    """Check membership and list what is allowed."""
    allowed = list(allowed)
    require(value in allowed, name, f"be one of {', '.join(map(repr, allowed))}", f"is {value!r}")
