"""What functions and settings hold, as a key: two with equal text and equal contents have the same key.

A compiled program may be used again only where everything it was made from is as it was. A function is its code, its
defaults, the contents of its closure, and the globals that it names; those are followed into functions and classes of
the user, and into the attributes of his modules that the code names. Functions of installed packages are taken not to
change. Arrays of up to `SMALL` bytes count by their values, larger ones by identity: one that is written into in place
is not seen to have changed. Nor is what a function looks up by a name made at run time (`getattr`, `globals()[...]`).
"""

import dataclasses
import dis
import functools
import sys
import sysconfig
import types
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkit.core.jax_internals import Jaxpr, is_tracer

SMALL = 4096  # bytes of an array that is compared by its values
MOST = 20_000  # things that a key may hold
METADATA = ("dict", "weakref", "doc", "module", "annotations", "name", "qualname", "firstlineno", "wrapped")
IGNORED = frozenset(f"__{name}__" for name in METADATA)
INSTALLED = tuple(
    f"{Path(folder).resolve()}/"
    for folder in {*map(sysconfig.get_path, ("stdlib", "purelib", "platlib")), Path(__file__).parents[1]}
    if folder is not None
)


class Contents:
    """A key: equal where the contents are, with its hash kept and what it names by identity kept alive.

    Attributes:
        things: What it is the key of.
        size: Bytes of the arrays that are kept alive.
    """

    __slots__ = ("_hash", "_parts", "size", "things")

    def __init__(self, things: tuple[Any, ...], parts: Hashable, size: int) -> None:
        """Keep the hash."""
        self.things, self._parts, self._hash, self.size = things, parts, hash(parts), size

    def __hash__(self) -> int:
        """The hash of the contents."""
        return self._hash

    def __eq__(self, other: object) -> bool:
        """Whether the contents are equal."""
        return isinstance(other, Contents) and self._hash == other._hash and self._parts == other._parts


def contents(*things: Any) -> Contents | None:
    """The key of functions, settings and other values.

    Returns:
        The key; None where there is none: something holds a value that is being traced, or more than can be compared.
    """
    reader = _Reader()
    try:
        return Contents(things, tuple(map(reader.read, things)), reader.size)
    except _NoKeyError:
        return None


class _NoKeyError(Exception):
    """These contents have no key."""


class _Same:
    """Something that equals itself alone."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value


class _Reader:
    """One walk through contents. What is met again is named by the place where it was met first."""

    def __init__(self) -> None:
        self.met: dict[int, tuple[int, Any]] = {}  # (the things are held, so that no other gets their number)
        self.count = self.size = 0

    def read(self, value: Any) -> Hashable:
        """The key of one value."""
        kind = type(value)
        if kind in _PLAIN:
            return value if kind is str else (kind, value)
        if kind in (float, complex):
            return kind, repr(value)  # (0.0 is not -0.0, and NaN is NaN)
        self.count += 1
        if self.count > MOST or is_tracer(value):
            raise _NoKeyError
        if kind not in _OFTEN:
            if isinstance(value, _ARRAYS):
                return self._array(value)
            if isinstance(value, type):
                return self._class(value)
            if isinstance(value, _UNCHANGED):
                return _Same(value)
            if isinstance(value, Jaxpr):
                self._all(filter(is_tracer, value.consts))  # (has no key)
                return _Same(value)
            if isinstance(value, _BY_VALUE):
                return value
            if isinstance(value, jax.tree_util.PyTreeDef):
                return value if _is_plain(value) else self._tree(value)
        if id(value) in self.met:
            return "again", self.met[id(value)][0]
        self.met[id(value)] = len(self.met), value
        return kind, self._inside(value)

    def _inside(self, value: Any) -> Hashable:
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, (tuple, list)):
            return self._all(value)
        if isinstance(value, (dict, types.MappingProxyType)):
            return tuple((self.read(k), self.read(v)) for k, v in value.items())
        if isinstance(value, types.MethodType):
            return self.read(value.__func__), self.read(value.__self__)
        if isinstance(value, functools.partial):
            return self._all((value.func, value.args, value.keywords))
        if isinstance(value, (set, frozenset)):
            return frozenset(map(self.read, value))
        return self.read(type(value)), self._attributes(value)

    def _all(self, values: Iterable[Any]) -> tuple[Hashable, ...]:
        return tuple(map(self.read, values))

    def _tree(self, tree: Any) -> Hashable:
        """The structure of a pytree, whose nodes may hold functions."""
        kind, held = tree.node_data() or (None, None)
        return kind, self.read(held), tuple(map(self._tree, tree.children()))

    def _array(self, value: Any) -> Hashable:
        if not isinstance(value, jax.Array):
            return (_bytes(value)) if value.nbytes <= SMALL and not value.dtype.hasobject else self._large(value)
        if jnp.issubdtype(value.dtype, jax.dtypes.extended):
            return value.dtype, self._array(jax.random.key_data(value))
        if value.nbytes > SMALL or not value.is_fully_addressable:
            return self._large(value)
        return value.weak_type, _bytes(np.asarray(value))

    def _large(self, value: Any) -> Hashable:
        self.size += value.nbytes
        return _Same(value)

    def _function(self, fn: types.FunctionType) -> Hashable:
        code = fn.__code__
        if _installed(code.co_filename):
            return _Same(code), self._held(fn)
        text, globals_, attributes = _text(code)
        named = [(name, fn.__globals__[name]) for name in globals_ if name in fn.__globals__]
        parts = [(name, self.read(value), self._within(value, attributes)) for name, value in named]
        return text, self._held(fn), tuple(parts)

    def _held(self, fn: types.FunctionType) -> Hashable:
        """Closure, defaults and attributes of a function."""
        cells = tuple(map(self._cell, fn.__closure__ or ()))
        return cells, self._all((fn.__defaults__, fn.__kwdefaults__, vars(fn) or None))

    def _cell(self, cell: Any) -> Hashable:
        try:
            return self.read(cell.cell_contents)
        except ValueError:  # not set yet
            return "empty"

    def _within(self, value: Any, attributes: tuple[str, ...]) -> Hashable:
        """The attributes of a user's module that a code may name."""
        if not isinstance(value, types.ModuleType) or _installed(getattr(value, "__file__", None) or "<built in>/"):
            return ()
        if id(value) in self.met:
            return "again", self.met[id(value)][0]
        self.met[id(value)] = len(self.met), value
        return tuple((name, self.read(vars(value)[name])) for name in attributes if name in vars(value))

    def _class(self, kind: type) -> Hashable:
        """A class; one of the user's with its functions and values, which may have been assigned to."""
        if _library(kind.__module__) or id(kind) in self.met:
            return _Same(kind)
        self.met[id(kind)] = len(self.met), kind
        own = [(n, v) for n, v in vars(kind).items() if n not in IGNORED and not isinstance(v, _DESCRIPTORS)]
        return _Same(kind), self._all(kind.__bases__), tuple((n, self.read(_plain_function(v))) for n, v in own)

    def _attributes(self, value: Any) -> Hashable:
        """What an object holds; the object itself where that cannot be seen."""
        if isinstance(value, _JITTED):
            return self.read(value.__wrapped__)
        if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)]
            return tuple(self.read(getattr(value, name, None)) for name in names)
        slots = [n for base in type(value).__mro__ for n in _slots(base) if hasattr(value, n)]
        if not slots and not hasattr(value, "__dict__"):
            return _Same(value)
        held = [(n, v) for n, v in getattr(value, "__dict__", {}).items() if n not in IGNORED]
        return tuple((n, self.read(v)) for n, v in [*((n, getattr(value, n)) for n in slots), *held])


@functools.lru_cache(maxsize=4096)
def _is_plain(tree: Any) -> bool:
    """Whether a pytree is of Python's containers alone, which hold nothing but names beside their children."""
    kind = (tree.node_data() or (None,))[0]
    return kind in (None, type(None), tuple, list, dict) and all(map(_is_plain, tree.children()))


_PLAIN = frozenset((type(None), bool, int, str, bytes, type(Ellipsis), type(NotImplemented)))
_OFTEN = frozenset((tuple, list, dict, types.FunctionType))
_ARRAYS = (np.generic, np.ndarray, jax.Array)
_UNCHANGED = (types.ModuleType, types.BuiltinFunctionType, np.ufunc)
_BY_VALUE = (np.dtype, jax.ShapeDtypeStruct, jax.sharding.Sharding, jax.sharding.Mesh)
_JITTED: Any = type(jax.jit(lambda: None))
_DESCRIPTORS = (types.GetSetDescriptorType, types.MemberDescriptorType, types.WrapperDescriptorType)


def _plain_function(value: Any) -> Any:
    """The function inside a static method, class method or property."""
    if isinstance(value, staticmethod | classmethod):
        return value.__func__
    return (value.fget, value.fset) if isinstance(value, property) else value


def _bytes(value: Any) -> Hashable:
    return value.dtype, value.shape, value.tobytes()


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(s for s in slots if s not in ("__weakref__", "__dict__"))


@functools.lru_cache(maxsize=4096)
def _installed(filename: str) -> bool:
    """Whether a file belongs to an installed package (or to none: `<frozen ...>`), and so does not change."""
    if filename.startswith("<"):
        return filename.startswith(("<frozen", "<built", "<__array_function__"))
    return str(Path(filename).resolve()).startswith(INSTALLED)


@functools.lru_cache(maxsize=4096)
def _library(module: str) -> bool:
    found = sys.modules.get(module)
    return module != "__main__" and (found is None or _installed(getattr(found, "__file__", None) or "<built in>"))


_TEXTS: dict[int, tuple[types.CodeType, Any]] = {}


def _text(code: types.CodeType) -> tuple[Hashable, tuple[str, ...], tuple[str, ...]]:
    """The text of a code, wherever it stands; the globals that it names; the attributes."""
    known = _TEXTS.get(id(code))
    if known is not None:
        return known[1]
    globals_, attributes, consts = {}, {}, []
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            globals_[step.argval] = None
        elif isinstance(step.argval, str) and step.opname in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM"):
            attributes[step.argval] = None
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            text, more, others = _text(const)
            consts.append(text)
            globals_.update(dict.fromkeys(more))
            attributes.update(dict.fromkeys(others))
        else:
            consts.append((type(const), repr(const)))
    numbers = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    text = (code.co_code, getattr(code, "co_exceptiontable", b""), tuple(consts), numbers, names)
    found = (text, tuple(globals_), tuple(attributes))
    if len(_TEXTS) >= 4096:
        _TEXTS.clear()
    _TEXTS[id(code)] = code, found
    return found
