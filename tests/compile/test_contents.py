"""Keys of functions: equal for equal text and contents, other ones for anything that a result may depend on."""

import functools
import types

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
    assert contents(jax.jit(closing(1.0))) == contents(jax.jit(closing(1.0)))
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
