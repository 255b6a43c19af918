"""One file for a model: its arrays, its configuration, and the names of the code that makes it work.

`save(path, thing)` and `load(path)` serve every subject. A thing is anything built of arrays, numbers, texts, tuples,
lists and dictionaries, of dataclasses and named tuples (a subject's model and its `Config`, a Flax Linen module, a
`nets.Net`), and of functions and classes that can be imported by name. Nothing in the file is ever executed: code is
only named. Names are looked up in jaxkit, JAX, Flax and optax, and in modules that the program has already imported;
never in Python's standard library.
"""

import dataclasses
import functools
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.core import FrozenDict
from jaxtyping import Array

from jaxkit.learn import checkpoint
from jaxkit.learn.checkpoint import CheckpointError

ABOUT = "about.json"  # name of the array that holds the description, as bytes
FORMAT = 1
_IMPORTED = ("jaxkit", "jax", "flax", "optax")


def save(path: str | Path, thing: Any) -> Path:
    """Write a model, or any result, to one file (safetensors with its SHA-256).

    Args:
        path: The file; its folder is created if missing.
        thing: What to write. A network in it must have a name: a Linen module with fields that can be written, an NNX
            module's class with its arguments, or functions at the top level of a module.

    Returns:
        The file.

    Raises:
        ValueError: Something in it cannot be written (a lambda, say); one sentence says what and where.

    Example:
        >>> import tempfile, jax, jax.numpy as jnp, jaxkit as jk
        >>> net = jk.nets.plain(jk.nets.MLP((16, 1), activation="tanh"), jnp.zeros((1, 2)))
        >>> path = jk.learn.save(tempfile.mkdtemp() + "/net.safetensors", (net, net.init(jax.random.key(0))))
        >>> again, params = jk.learn.load(path)
        >>> again == net, again.apply(params, jnp.ones((3, 2))).shape
        (True, (3, 1))
    """
    arrays: dict[str, Any] = {}
    about = json.dumps(_described(thing, "", arrays), ensure_ascii=False, separators=(",", ":"))
    packed = np.frombuffer(about.encode(), np.uint8)
    return checkpoint.write(path, arrays | {ABOUT: packed}, meta={"format": FORMAT})


def load(path: str | Path, kind: type | None = None) -> Any:
    """Read what `save` wrote.

    Args:
        path: The file.
        kind: Class that it must have; any if None.

    Returns:
        The thing, with JAX arrays.

    Raises:
        CheckpointError: The file is damaged, holds no model or another `kind`, or names code that is not there.
        FileNotFoundError: There is no such file.
    """
    _, arrays = checkpoint.arrays(path)
    if ABOUT not in arrays:
        raise CheckpointError(f"Checkpoint {path} holds arrays alone, not something that `save` wrote.")
    try:
        thing = _rebuilt(json.loads(bytes(np.asarray(arrays[ABOUT]))), arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"Checkpoint {path} cannot be read: {error}") from error
    if kind is not None and not isinstance(thing, kind):
        raise CheckpointError(f"Checkpoint {path} must hold a {kind.__name__}, but holds a {type(thing).__name__}.")
    return thing


def _described(value: Any, where: str, arrays: dict[str, Any]) -> Any:
    """JSON that describes `value`; its arrays are put into `arrays`, named by their place in it."""
    inner = lambda name, part: _described(part, f"{where}/{name}" if where else str(name), arrays)
    if value is None or (isinstance(value, bool | int | float | str) and type(value).__module__ == "builtins"):
        return value
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        name = where or "value"
        while name in arrays or name == ABOUT:  # keys may hold slashes
            name += "'"
        arrays[name] = value
        return {"array": name} | ({} if isinstance(value, jax.Array) else {"numpy": True})
    if isinstance(value, dict | FrozenDict):
        pairs = [[inner(f"{k}.key", k), inner(k, v)] for k, v in value.items()]
        return {"dict" if isinstance(value, dict) else "frozen": pairs}
    if isinstance(value, tuple) and (names := getattr(value, "_fields", None)) is not None:
        return {"make": _name_of(type(value), where), "fields": {f: inner(f, getattr(value, f)) for f in names}}
    if isinstance(value, tuple | list):
        return {type(value).__name__: [inner(i, v) for i, v in enumerate(value)]}
    if isinstance(value, np.dtype):
        return {"dtype": value.name}
    if isinstance(value, jax.tree_util.PyTreeDef):
        tree: Any = value
        return {"tree": inner("tree", jax.tree.unflatten(tree, range(tree.num_leaves)))}
    if isinstance(value, functools.partial):
        parts = {"partial": value.func, "args": value.args, "named": value.keywords}
        return {name: inner(name, part) for name, part in parts.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {name: inner(name, v) for name, v in _fields(value).items()}
        return {"make": _name_of(type(value), where), "fields": fields}
    return {"code": _name_of(value, where)}


def _fields(value: Any) -> dict[str, Any]:
    """Fields of a dataclass by name, without functions left at their defaults, which are often nameless."""
    own = ("parent", "name") if isinstance(value, nn.Module) else ()
    fields = [f for f in dataclasses.fields(value) if f.init and f.name not in own]
    found = {f.name: (getattr(value, f.name), f.default) for f in fields}
    return {name: v for name, (v, default) in found.items() if not (v is default and callable(v))}


def _name_of(code: Any, where: str) -> str:
    """`module:name` of a function or class; one of jaxkit's is named by the highest module that has it."""
    module, name = getattr(code, "__module__", None), getattr(code, "__qualname__", None)
    if not (isinstance(module, str) and isinstance(name, str) and _found(module, name) is code):
        what = f"`{where}` is {code!r}" if where else f"is {code!r}"
        raise ValueError(f"Argument `thing` must be made of data and of code that can be imported by name, but {what}.")
    if module.startswith("jaxkit."):  # the highest that has it: files move, public names stay
        parts = module.split(".")
        above = (".".join(parts[:n]) for n in range(2, len(parts) + 1))
        module = next(each for each in above if getattr(sys.modules[each], name.split(".")[0], None) is not None)
    return f"{module}:{name}"


def _found(module: str, name: str) -> Any:
    """What a module of this process has by that name; None if nothing."""
    value: Any = sys.modules.get(module)
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def _rebuilt(value: Any, arrays: Mapping[str, Array]) -> Any:
    """The value that `_described` described."""
    inner = lambda part: _rebuilt(part, arrays)
    if not isinstance(value, dict):
        return value
    rules: dict[str, Callable[[Any], Any]] = {
        "array": lambda name: np.asarray(arrays[name]) if "numpy" in value else arrays[name],
        "dict": lambda pairs: {inner(k): inner(v) for k, v in pairs},
        "frozen": lambda pairs: FrozenDict({inner(k): inner(v) for k, v in pairs}),
        "tuple": lambda parts: tuple(map(inner, parts)),
        "list": lambda parts: [inner(v) for v in parts],
        "dtype": jnp.dtype,
        "tree": lambda part: jax.tree.structure(inner(part)),
        "partial": lambda fn: functools.partial(inner(fn), *inner(value["args"]), **inner(value["named"])),
        "make": lambda name: _record(name)(**{k: inner(v) for k, v in value["fields"].items()}),
        "code": _code,
    }
    rule = next(iter(value))
    return rules[rule](value[rule])


def _record(name: str) -> Callable[..., Any]:
    """A class whose construction only fills its fields."""
    cls = _code(name)
    plain = inspect.isclass(cls) and (dataclasses.is_dataclass(cls) or hasattr(cls, "_fields"))
    if not plain:
        raise ValueError(f"`{name}` is no dataclass and no named tuple.")
    return cls


def _code(path: str) -> Any:
    """A function or class by name, from modules that may be trusted (see the top of this module)."""
    module, _, name = path.partition(":")
    root = module.split(".")[0]
    if root in _IMPORTED:
        importlib.import_module(module)
    if root in sys.stdlib_module_names and root != "__main__":
        raise ValueError(f"it names `{path}`, which is no part of a model.")
    if module not in sys.modules:
        raise ValueError(f"it needs `{path}`: import `{module}` first.")
    value = _found(module, name)
    home = getattr(value, "__module__", None)
    own = isinstance(home, str) and f"{home}.".startswith(f"{module}.") and getattr(value, "__qualname__", "") == name
    if not (own and callable(value)):
        raise ValueError(f"`{path}` is not there.")
    return value
