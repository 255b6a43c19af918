"""The public names, as a file: a name that appears, vanishes or changes its arguments shows in the diff.

`python tests/test_public_api.py` writes the file anew.
"""

import inspect
import types
from pathlib import Path

import jaxkit as jk

SNAPSHOT = Path(__file__).with_name("public_api.txt")


def signature(value):
    if inspect.isclass(value):
        fields = getattr(value, "__dataclass_fields__", None) or getattr(value, "_fields", None)
        return f"({', '.join(fields)})" if fields else ""
    if callable(value):
        return "(" + ", ".join(_shown(p) for p in inspect.signature(value).parameters.values()) + ")"
    return ""


def _shown(parameter):
    mark = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    optional = "" if parameter.default is parameter.empty else "="
    keyword = "!" if parameter.kind is parameter.KEYWORD_ONLY and not optional else ""
    return f"{mark}{parameter.name}{optional}{keyword}"


def public(module):
    names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
    found = {name: getattr(module, name) for name in names}
    return {name: value for name, value in found.items() if not isinstance(value, types.ModuleType)}


def listing():
    lines = [f"jaxkit.{name}{signature(value)}" for name, value in public(jk).items()]
    for subject in (n for n in jk.__all__ if isinstance(getattr(jk, n), types.ModuleType)):
        lines += [f"jaxkit.{subject}.{name}{signature(v)}" for name, v in public(getattr(jk, subject)).items()]
    return sorted(lines)


def test_public_names_are_those_of_the_snapshot():
    assert listing() == SNAPSHOT.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    SNAPSHOT.write_text("\n".join(listing()) + "\n", encoding="utf-8")
