"""Keys of functions: equal for equal text and contents, other ones for anything that a result may depend on."""

import array
import collections
import dataclasses
import functools
import operator
import random
import sys
import types
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit.compile.contents import SMALL, contents

K = 1.0
TABLE = {"k": [1.0, 2.0]}


class Field:
    power = 2

    def __init__(self, k):
        self.k = k

    def __call__(self, x):
        return self.inner(x) * K

    def inner(self, x):
        return self.k * x**self.power


def helper(x):
    return K * x


def calls_helper(x):
    return helper(x) + TABLE["k"][0]


def closing(c):
    return lambda x: c * x


def closing_elsewhere(c):
    """Another place, the same text."""
    return lambda x: c * x


def test_equal_text_and_contents_have_equal_keys():
    assert contents(closing(1.0)) == contents(closing(1.0)) == contents(closing_elsewhere(1.0))
    assert hash(contents(closing(1.0))) == hash(contents(closing(1.0)))
    assert contents(closing(jnp.ones(3))) == contents(closing(jnp.ones(3)))
    assert contents(functools.partial(closing(1.0), x=2)) == contents(functools.partial(closing(1.0), x=2))
    jitted = jax.jit(closing(1.0))
    assert contents(jitted) == contents(jitted) != contents(jax.jit(closing(1.0)))  # (it remembers what it has traced)
    assert contents(Field(1.0)) == contents(Field(1.0))
    assert contents(Field(1.0).inner) == contents(Field(1.0).inner)
    parameter = lambda: jax.tree.structure(jax.tree_util.Partial(closing(1.0), 2.0))
    assert contents(parameter()) == contents(parameter())
    assert contents({"a": (closing, [1])}) == contents({"a": (closing, [1])})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        (1, 1 + 0j),
        ("1", b"1"),
        ((1,), [1]),
        (jnp.zeros(2), jnp.zeros(2) + 1),
        (np.zeros(2), np.zeros(2, np.float32)),
        (np.zeros(2), np.zeros((2, 1))),
        (jnp.asarray(1.0), jnp.asarray(np.float64(1.0))),  # weak and strong
        (jax.random.key(0), jax.random.key(1)),
        (closing(1.0), closing(2.0)),
        (lambda x: x + 1, lambda x: x + 2),
        (lambda x: x.real, lambda x: x.imag),
        (lambda x, y=1: x, lambda x, y=2: x),
        (lambda x, *, y=1: x, lambda x, *, y=2: x),
        (jax.jit(closing(1.0)), jax.jit(closing(2.0))),
        (jax.custom_jvp(closing(1.0)), jax.custom_jvp(closing(2.0))),
        (Field(1.0), Field(2.0)),
        (Field(1.0).inner, Field(2.0).inner),
        (functools.partial(helper, x=1), functools.partial(helper, x=2)),
        (jax.tree.structure({"a": 1}), jax.tree.structure({"b": 1})),
        (lambda: helper(1), lambda: closing(1)),
        (jax.tree.structure(jax.tree_util.Partial(helper)), jax.tree.structure(jax.tree_util.Partial(closing))),
    ],
)
def test_other_contents_have_other_keys(one, other):
    assert contents(one) != contents(other)
    assert contents(closing(one)) != contents(closing(other))
    assert contents(one) == contents(one)
    nan = contents(float("nan"))
    assert nan == contents(float("nan"))


def test_what_is_edited_is_seen(monkeypatch):
    module = types.ModuleType("users_constants")
    module.rate = 1.0
    monkeypatch.setitem(globals(), "users", module)
    module.__file__ = "/home/user/users_constants.py"
    in_module = lambda x: users.rate * x
    field = Field(1.0)
    things = {"global": calls_helper, "object": field, "method": field.inner, "module": in_module, "class": Field}
    before = {name: contents(thing) for name, thing in things.items()}
    changed = lambda: {name for name, thing in things.items() if contents(thing) != before[name]}
    assert not changed()
    with monkeypatch.context() as edit:
        edit.setitem(globals(), "K", 2.0)  # read by a function that a function names, and by `__call__`
        assert changed() == {"global", "object", "method", "class"}
    with monkeypatch.context() as edit:
        edit.setitem(TABLE, "k", [5.0])
        assert changed() == {"global"}
    with monkeypatch.context() as edit:
        edit.setattr(field, "k", 2.0)
        assert changed() == {"object", "method"}
    with monkeypatch.context() as edit:
        edit.setattr(Field, "power", 3)
        assert changed() == {"object", "method", "class"}
    with monkeypatch.context() as edit:
        edit.setattr(Field, "inner", lambda self, x: x)
        assert changed() == {"object", "class"} | ({"method"} & changed())
    with monkeypatch.context() as edit:
        edit.setitem(globals(), "helper", lambda x: -x)  # redefined
        assert changed() == {"global"}
    with monkeypatch.context() as edit:
        edit.setattr(module, "rate", 2.0)
        assert changed() == {"module"}
    assert not changed()


def test_large_arrays_count_by_identity():
    large = np.zeros(SMALL)
    assert contents(closing(large)) == contents(closing(large)) != contents(closing(large.copy()))
    assert contents(closing(large)).size == large.nbytes
    assert contents(closing(np.zeros(3))).size == 0


def test_what_goes_round_in_circles_has_a_key():
    circle = [1]
    circle.append(circle)
    other = [1]
    other.append(other)
    assert contents(circle) == contents(other) is not None

    def recursive(n):
        return recursive(n - 1) if n else 0

    assert contents(recursive) == contents(recursive) is not None


def test_what_is_traced_has_no_key():
    seen = []
    jax.jit(lambda x: seen.append(contents(closing(x))))(1.0)
    jax.grad(lambda x: (seen.append(contents(closing({"x": [x]}))), x)[1])(1.0)
    assert seen == [None, None]
    assert contents(list(range(3))) is not None
    assert contents([[i] for i in range(30_000)]) is None  # more than is compared


@dataclasses.dataclass
class Record:
    k: float = 1.0


class Slotted:
    __slots__ = ("__hidden",)

    def edit(self):
        self.__hidden = 2.0


class Number(float):
    pass


class Table(dict):
    scale = 1.0


class Meta(type):
    by = 1.0


class Made(metaclass=Meta):
    pass


class Raises:
    def __getattribute__(self, name):
        raise RuntimeError(name)


def _module(name, **values):
    module = types.ModuleType(name)
    vars(module).update(values)
    return module


def _edits():
    """Things, and how each is edited."""
    record, slotted, table, owner = Record(), Slotted(), Table(), Field(1.0)
    queue, numbers, objects = collections.deque([1]), array.array("d", [1.0]), np.array([1, None], object)
    reference, weak, generator = weakref.ref(owner), weakref.proxy(owner), np.random.default_rng(0)
    python = random.Random(0)  # noqa: S311
    masked = np.ma.array([1.0, 2.0], mask=[0, 0], fill_value=0.0)
    names: dict = {}
    exec("class A:\n    k = 1\n    def __call__(self, x): return self.k * x", names)  # noqa: S102
    return {
        "a dataclass's other attribute": (record, lambda: setattr(record, "other", 2)),
        "a slot with a private name": (slotted, slotted.edit),
        "an attribute of a dictionary": (table, lambda: setattr(table, "scale", 2.0)),
        "a metaclass": (Made(), lambda: setattr(Meta, "by", Meta.by + 1)),
        "a deque": (queue, lambda: queue.append(2)),
        "a method of a deque": (queue.count, lambda: queue.append(2)),
        "an array of Python's": (numbers, lambda: numbers.append(2.0)),
        "an array of objects": (objects, lambda: objects.__setitem__(0, 2)),
        "a mask": (masked, lambda: masked.__setitem__(0, np.ma.masked)),
        "a weak reference": (reference, lambda: setattr(owner, "k", 2.0)),
        "a weak proxy": (weak, lambda: setattr(owner, "k", 3.0)),
        "random numbers of NumPy": (generator, generator.normal),
        "random numbers of Python": (python, python.random),
        "the global random numbers": (lambda x: x * np.random.normal(), np.random.normal),  # noqa: NPY002
        "a class made by `exec`": (names["A"](), lambda: setattr(names["A"], "k", 2)),
    }


@pytest.mark.parametrize("name", _edits())
def test_edits_of_objects_are_seen(name):
    thing, edit = _edits()[name]
    before = contents(closing(thing))
    assert before == contents(closing(thing)) is not None
    edit()
    assert contents(closing(thing)) != before


def test_modules_are_seen_through_attributes_closures_and_imports(monkeypatch):
    inner = _module("inner_constants", rate=1.0, other=1.0)
    monkeypatch.setitem(globals(), "outer", _module("outer_constants", inner=inner))
    monkeypatch.setitem(sys.modules, "inner_constants", inner)
    monkeypatch.setitem(globals(), "users", inner)

    class Holds:
        constants = inner

        def __call__(self, x):
            return self.constants.rate * x

    def imports(x):
        import inner_constants

        return inner_constants.rate * x

    def imports_from(x):
        from inner_constants import rate

        return rate * x

    first = lambda x: users.other * x
    second = lambda x: users.rate * first(x)
    in_closure = (lambda module: lambda x: module.rate * x)(inner)
    for thing in (
        lambda x: outer.inner.rate * x,
        Holds(),
        imports,
        imports_from,
        lambda x: second(first(x)),
        in_closure,
    ):
        before = contents(thing)
        assert before == contents(thing)
        monkeypatch.setattr(inner, "rate", inner.rate + 1)
        assert contents(thing) != before
    before = contents(constant := lambda x: np.euler_gamma * x)
    monkeypatch.setattr(np, "euler_gamma", 2.0)
    assert contents(constant) != before


def test_objects_that_differ_have_other_keys_and_equal_ones_the_same():
    cached = functools.lru_cache(closing(1.0))
    assert contents(cached) == contents(cached) != contents(functools.lru_cache(closing(1.0)))
    pairs = [
        (Number(1.0), Number(2.0)),
        (operator.itemgetter(0), operator.itemgetter(1)),
        (range(2), range(3)),
        (np.ones(2).view(np.recarray), np.ones(2)),
    ]
    for one, other in pairs:
        assert contents(one) != contents(other)
    assert contents(cached(1.0)) == contents(cached(1.0))
    assert contents(operator.itemgetter(0)) == contents(operator.itemgetter(0))


def test_what_cannot_be_looked_at_has_no_key():
    deep = []
    for _ in range(5000):
        deep = [deep]
    for thing in (Raises(), deep, (i for i in range(3))):
        assert contents(closing(thing)) is None
    assert contents(closing(sys.stdout)) is not None
