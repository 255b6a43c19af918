"""Frozen dataclasses that are pytrees: what every verb returns."""

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import jax

T = TypeVar("T")


def static(**kwargs: Any) -> Any:
    """Declare a field that is part of the pytree's structure: hashable, not traced.

    Example:
        >>> from jaxkit.core.struct import static, struct
        >>> @struct
        ... class Grid:
        ...     points: object
        ...     name: str = static(default="grid")
        >>> jax.tree.leaves(Grid(points=1.0))
        [1.0]
    """
    return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, static))
def struct(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass and register it as a pytree.

    Fields hold arrays or pytrees of them; those declared by `static()` belong to the structure.
    """
    cls = dataclasses.dataclass(frozen=True)(cls)
    fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
    meta = [f.name for f in fields if f.metadata.get("static", False)]
    data = [f.name for f in fields if f.name not in meta]
    return jax.tree_util.register_dataclass(cls, data, meta)
