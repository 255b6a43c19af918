"""What functions and settings hold, as a key: two with equal text and equal contents have the same key.

A compiled program may be used again only where everything it was made from is unchanged. A function is its code, its
defaults, the contents of its closure, and the globals that it names; those are followed into the user's functions and
classes, and into the attributes of the user's modules that the code names. Functions of installed packages are assumed
not to change. Arrays of up to `SMALL` bytes count by their values, larger ones by identity: a change made in place to
a large array is not seen. Nor is what a function looks up by a name made at run time (`getattr`, `globals()[...]`), or
what it asks of the outside world (a clock, a file). What cannot be inspected (a generator, an object that raises) has
no key, and neither has anything that holds it.
"""

import collections
import contextvars
import dis
import functools
import io
import logging
import random
import sys
import sysconfig
import types
import weakref
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkit.core.jax_internals import Jaxpr, is_tracer

SMALL = 4096  # bytes of the largest array that is compared by its values
MOST = 20_000  # most things that a key may hold
METADATA = ("dict", "weakref", "doc", "module", "annotations", "name", "qualname", "firstlineno", "dataclass_fields")
IGNORED = frozenset(f"__{name}__" for name in METADATA)
INSTALLED = tuple(
    f"{Path(folder).resolve()}/"
    for folder in {*map(sysconfig.get_path, ("stdlib", "purelib", "platlib")), Path(__file__).parents[1]}
    if folder is not None
)


class Contents:
    """A key: equal where the contents are. It keeps its hash, and keeps alive what it names by identity.

    Attributes:
        things: The values of which this is the key.
        size: Number of bytes of the arrays that are kept alive.
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
        The key; None where there is none: something holds a value that is being traced, cannot be inspected, or is
        more than can be compared.
    """
    reader = _Reader()
    try:
        return Contents(things, (tuple(map(reader.read, things)), reader.modules()), reader.size)
    except Exception:  # the user's objects may raise anything when inspected, or be nested too deeply
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
    """One walk through contents. What is met again is named by the place of its first meeting."""

    def __init__(self) -> None:
        self.met: dict[int, tuple[int, Any]] = {}  # (the values are held, so that no other gets their number)
        self.count = self.size = 0
        self.users: list[types.ModuleType] = []  # the user's modules, and the attributes that the user's functions name
        self.names: dict[str, None] = {}

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
            if isinstance(value, types.ModuleType):
                return self._module(value)
            if isinstance(value, _UNCHANGED):
                return _Same(value)
            if isinstance(value, Jaxpr):
                self._all(filter(is_tracer, value.consts))  # (has no key)
                return _Same(value)
            if isinstance(value, _BY_VALUE):
                return value
            own = vars(kind).get("__contents__")  # (a subclass may hold more)
            if own is not None:  # one of the package's classes, which may know a shorter key
                key = own(value)
                if key is not None:
                    return kind, key
            if isinstance(value, jax.tree_util.PyTreeDef):
                return value if _is_plain(value) else self._tree(value)
        if id(value) in self.met:
            return "again", self.met[id(value)][0]
        self.met[id(value)] = len(self.met), value
        return kind, self._inside(value, kind)

    def _inside(self, value: Any, kind: type) -> Hashable:
        if kind is types.FunctionType:
            return self._function(value)
        if kind is tuple or kind is list:
            return self._all(value)
        if kind is dict:
            return tuple((self.read(k), self.read(v)) for k, v in value.items())
        if kind is set or kind is frozenset:
            return frozenset(map(self.read, value))
        if kind is types.MethodType:
            return self.read(value.__func__), self.read(value.__self__)
        if kind is types.BuiltinFunctionType:  # a method of an object, or a function of a module
            owner = value.__self__
            return _Same(value) if isinstance(owner, types.ModuleType) else (value.__name__, self.read(owner))
        if kind in _WITH_MEMORY:
            return _Same(value), self.read(value.__wrapped__)
        if kind in weakref.ProxyTypes:
            return self.read(value.__init__.__self__)
        seen = [self.read(look(value)) for base, look in _LOOKS.items() if base in kind.__mro__]
        return self.read(kind), tuple(seen), self._attributes(value, kind, opaque=not seen)

    def _all(self, values: Iterable[Any]) -> tuple[Hashable, ...]:
        return tuple(map(self.read, values))

    def _tree(self, tree: Any) -> Hashable:
        """The structure of a pytree, whose nodes may hold functions."""
        kind, held = tree.node_data() or (None, None)
        return kind, self.read(held), tuple(map(self._tree, tree.children()))

    def _array(self, value: Any) -> Hashable:
        if not isinstance(value, jax.Array):
            held = None if type(value).__module__ == "numpy" else self.read(_dictionary(value))
            if value.dtype.hasobject:
                return type(value), value.shape, self.read(value.tolist()), held
            return type(value), _bytes(value) if value.nbytes <= SMALL else self._large(value), held
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
            holds = fn.__closure__ or fn.__defaults__ or fn.__kwdefaults__ or fn.__dict__
            return _Same(code), self._held(fn) if holds else None
        text, globals_, attributes, imports = _text(code)
        self.names.update(dict.fromkeys(attributes))
        for name in imports:
            self._all(_imported(name, fn.__globals__.get("__package__") or ""))
        parts = [(chain, self._named(fn.__globals__, chain)) for chain in globals_ if chain[0] in fn.__globals__]
        return text, self._held(fn), tuple(parts)

    def _named(self, names: dict[str, Any], chain: tuple[str, ...]) -> Hashable:
        """A global, or an attribute of an installed module; functions there do not change, but constants may be set."""
        value = names[chain[0]]
        for name in chain[1:]:
            if not isinstance(value, types.ModuleType) or not _installed_module(value) or name not in vars(value):
                return None
            value = vars(value)[name]
        whole = len(chain) == 1 or not callable(value) or isinstance(value, _BOUND)
        return self.read(value) if whole else _Same(value)

    def _held(self, fn: types.FunctionType) -> Hashable:
        """Closure, defaults and attributes of a function."""
        cells = tuple(map(self._cell, fn.__closure__ or ()))
        return cells, self._all((fn.__defaults__, fn.__kwdefaults__, vars(fn) or None))

    def _cell(self, cell: Any) -> Hashable:
        try:
            return self.read(cell.cell_contents)
        except ValueError:  # not set yet
            return "empty"

    def _module(self, value: types.ModuleType) -> Hashable:
        if id(value) not in self.met and not _installed_module(value):
            self.met[id(value)] = len(self.met), value
            self.users.append(value)
        return _Same(value)

    def modules(self) -> Hashable:
        """The attributes of the user's modules that the user's functions name; they may lead to more of both."""
        seen: dict[tuple[int, str], Hashable] = {}
        while True:
            new = [(i, n) for i, m in enumerate(self.users) for n in self.names if (i, n) not in seen and n in vars(m)]
            if not new:
                return tuple(seen.items())
            for i, name in new:
                seen[i, name] = self.read(vars(self.users[i])[name])

    def _class(self, kind: type) -> Hashable:
        """A class; a class of the user's with its functions and values, which may have been reassigned."""
        heap = kind.__flags__ & HEAP_TYPE
        if id(kind) in self.met or not heap or _library(kind.__module__, kind.__qualname__.partition(".")[0]):
            return _Same(kind)
        self.met[id(kind)] = len(self.met), kind
        own = [(n, v) for n, v in vars(kind).items() if n not in IGNORED and not isinstance(v, _DESCRIPTORS)]
        values = tuple((n, self.read(_plain_function(v))) for n, v in own)
        return _Same(kind), self.read(type(kind)), self._all(kind.__bases__), values

    def _attributes(self, value: Any, kind: type, *, opaque: bool) -> Hashable:
        """What an object holds; the object itself where that cannot be seen."""
        slots = [(d.__name__, self._slot(d, value)) for d in _members(_Same(kind))]
        held = _dictionary(value)
        if held is not None:
            ignored = IGNORED | {"_id"} if "_parent_ref" in held else IGNORED  # (the number of a Linen module)
            return tuple(slots), tuple((n, self.read(v)) for n, v in held.items() if n not in ignored)
        return tuple(slots) if slots or not opaque else self._reduced(value, kind)

    def _slot(self, member: Any, value: Any) -> Hashable:
        try:
            return self.read(member.__get__(value))
        except AttributeError:  # not set
            return None

    def _reduced(self, value: Any, kind: type) -> Hashable:
        """What `pickle` would keep of an object that has no attributes."""
        try:
            kept = value.__reduce_ex__(4)
        except TypeError:
            if hasattr(kind, "__next__"):  # an iterator: only it knows its next item
                raise _NoKeyError from None
            return _Same(value)
        if isinstance(kept, str):
            return _Same(value)
        return self._all([*kept[:3], *(list(items or ()) for items in kept[3:5])])


def _dictionary(value: Any) -> dict[str, Any] | None:
    try:
        return object.__getattribute__(value, "__dict__")
    except AttributeError:
        return getattr(value, "__dict__", None)


@functools.lru_cache(maxsize=1024)
def _members(kind: _Same) -> list[Any]:
    """The slots of a class."""
    held = [d for base in kind.value.__mro__ if "__slots__" in vars(base) for d in vars(base).values()]
    return [d for d in held if isinstance(d, types.MemberDescriptorType) and d.__name__ not in IGNORED]


def _is_plain(tree: Any) -> bool:
    """Whether a pytree consists of Python's containers alone, which hold only names besides their children."""
    try:
        if tree in _PLAIN_TREES:
            return True
    except TypeError:  # it holds something that has no hash
        return False
    kind = (tree.node_data() or (None,))[0]
    plain = kind in (None, type(None), tuple, list, dict) and all(map(_is_plain, tree.children()))
    if plain and len(_PLAIN_TREES) < 4096:
        _PLAIN_TREES.add(tree)
    return plain


_PLAIN_TREES: set[Any] = set()
_PLAIN = frozenset((type(None), bool, int, str, bytes, type(Ellipsis), type(NotImplemented)))
_OFTEN = frozenset((tuple, list, dict, types.FunctionType))
_ARRAYS = (np.generic, np.ndarray, jax.Array)
_UNCHANGED = (np.ufunc, io.IOBase, logging.Logger)
_BOUND = (types.MethodType, types.BuiltinFunctionType)
_BY_VALUE = (np.dtype, jax.ShapeDtypeStruct, jax.sharding.Sharding, jax.sharding.Mesh)
# They answer with what they saw before, whatever was edited since, so each has a key of its own.
_WITH_MEMORY: Any = (type(jax.jit(lambda: None)), type(functools.lru_cache(lambda: None)))
_DESCRIPTORS = (types.GetSetDescriptorType, types.MemberDescriptorType, types.WrapperDescriptorType)
# What objects of Python's own kinds, and of classes derived from them, hold besides their attributes.
_LOOKS: dict[type, Callable[[Any], Any]] = {
    **{kind: kind.__repr__ for kind in (int, float, complex, str, bytes)},
    **{kind: lambda v, items=kind.__iter__: tuple(items(v)) for kind in (tuple, list, collections.OrderedDict)},
    **{kind: lambda v, items=kind.__iter__: frozenset(items(v)) for kind in (set, frozenset)},
    dict: lambda v: tuple(dict.items(v)),
    **{type(view): tuple for view in ({}.keys(), {}.values(), {}.items())},
    types.MappingProxyType: dict,
    functools.partial: lambda v: (v.func, v.args, v.keywords),
    types.CellType: lambda v: v.cell_contents,
    weakref.ref: lambda v: v(),
    memoryview: bytes,
    random.Random: lambda v: v.getstate(),
    contextvars.ContextVar: lambda v: v.get(None),
}
HEAP_TYPE = 1 << 9  # the flag of classes that Python code makes


def _plain_function(value: Any) -> Any:
    """The function inside a static method, class method or property."""
    if isinstance(value, staticmethod | classmethod):
        return value.__func__
    return (value.fget, value.fset) if isinstance(value, property) else value


def _bytes(value: Any) -> Hashable:
    return value.dtype, value.shape, value.tobytes()


@functools.lru_cache(maxsize=4096)
def _installed(filename: str) -> bool:
    """Whether a file belongs to an installed package (or is no file: `<frozen ...>`), and so does not change."""
    if filename.startswith("<"):
        return filename.startswith(("<frozen", "<built", "<__array_function__"))
    path = str(Path(filename).resolve())
    return path.startswith(INSTALLED) or "/site-packages/" in path or "/dist-packages/" in path


def _installed_module(module: types.ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if file is None:
        return getattr(module.__spec__, "origin", None) in ("built-in", "frozen")
    return _installed(file)


@functools.lru_cache(maxsize=4096)
def _library(module: str, name: str) -> bool:
    """Whether an installed module holds a class, or what it was defined in, under its name."""
    found = sys.modules.get(module)
    return found is not None and name in vars(found) and _installed_module(found)


def _imported(name: str, package: str) -> list[types.ModuleType]:
    """The modules that an `import` within a function may mean."""
    parts = package.split(".") if package else []
    names = [name, *(".".join([*parts[:i], name]).rstrip(".") for i in range(1, len(parts) + 1))]
    return [sys.modules[n] for n in names if n in sys.modules]


_TEXTS: dict[int, tuple[types.CodeType, Any]] = {}


def _text(code: types.CodeType) -> tuple[Hashable, tuple[tuple[str, ...], ...], tuple[str, ...], tuple[str, ...]]:
    """The text of a code object without its place; the globals it names, also with attributes; attributes; imports."""
    known = _TEXTS.get(id(code))
    if known is not None:
        return known[1]
    named: tuple[dict[Any, None], ...] = ({}, {}, {})
    globals_, attributes, imports = named
    chain, consts = (), []
    for step in dis.get_instructions(code):
        attribute = step.opname in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM")
        chain = (*chain, step.argval) if attribute and chain else ()
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            chain = (step.argval,)
        elif attribute:
            attributes[step.argval] = None
        elif step.opname == "IMPORT_NAME":
            imports[step.argval] = None
        if chain:
            globals_[chain] = None
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            text, *inner = _text(const)
            consts.append(text)
            for own, more in zip(named, inner, strict=True):
                own.update(dict.fromkeys(more))
        else:
            consts.append((type(const), repr(const)))
    numbers = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    text = (code.co_code, getattr(code, "co_exceptiontable", b""), tuple(consts), numbers, names)
    found = (text, tuple(globals_), tuple(attributes), tuple(imports))
    if len(_TEXTS) >= 4096:
        _TEXTS.clear()
    _TEXTS[id(code)] = code, found
    return found
