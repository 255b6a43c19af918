"""The public names, as a file: a name that appears, vanishes, or changes its arguments or defaults shows in the diff.

`python tests/test_public_api.py` writes the file anew.
"""

import dataclasses
import inspect
import types
from pathlib import Path

import jaxkit as jk

SNAPSHOT = Path(__file__).with_name("public_api.txt")


def signature(value):
    if inspect.isclass(value):
        if dataclasses.is_dataclass(value):
            of_flax = ("parent", "name") if hasattr(value, "apply") else ()
            shown = [p for n, p in inspect.signature(value).parameters.items() if n not in of_flax]
            return "(" + ", ".join(map(_shown, shown)) + ")"
        fields = getattr(value, "_fields", None)
        return f"({', '.join(fields)})" if fields else ""
    if callable(value):
        return "(" + ", ".join(map(_shown, inspect.signature(value).parameters.values())) + ")"
    return ""


def _shown(parameter):
    mark = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    required = parameter.default is parameter.empty
    if required:
        return f"{mark}{parameter.name}{'!' if parameter.kind is parameter.KEYWORD_ONLY else ''}"
    return f"{parameter.name}={_default(parameter.default)}"


def _default(value):
    """A default as it reads in code; of an object only its class and fields, of a function its name: no addresses."""
    if isinstance(value, (types.FunctionType, types.BuiltinFunctionType, type)):
        return value.__qualname__
    if dataclasses.is_dataclass(value):
        return repr(value) if " at 0x" not in repr(value) else type(value).__qualname__
    shown = repr(value)
    return type(value).__qualname__ if " at 0x" in shown or "Array(" in shown or "\n" in shown else shown


def public(module):
    names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
    found = {name: getattr(module, name) for name in names}
    return {name: value for name, value in found.items() if not isinstance(value, types.ModuleType)}


def listing():
    lines = [f"jaxkit.{name}{signature(value)}" for name, value in public(jk).items()]
    for room in (n for n in jk.__all__ if isinstance(getattr(jk, n), types.ModuleType)):
        lines += [f"jaxkit.{room}.{name}{signature(v)}" for name, v in public(getattr(jk, room)).items()]
    return sorted(lines)


def test_public_names_are_those_of_the_snapshot():
    assert listing() == SNAPSHOT.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    SNAPSHOT.write_text("\n".join(listing()) + "\n", encoding="utf-8")
