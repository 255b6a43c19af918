"""One file for a model: what goes in comes out, equal nets share programs, and no file makes code run."""

import dataclasses
import functools
import json
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import jaxkit as jk
from jaxkit.core.struct import static, struct
from jaxkit.learn import checkpoint, nets, saving

X = jnp.ones((5, 2), jnp.float32)


class Own(nn.Module):
    """A user's Linen module."""

    width: int
    activation: Any = nn.relu
    kernel_init: Any = nn.initializers.he_normal()  # a closure without a name

    @nn.compact
    def __call__(self, x):
        """The module."""
        TRACES.append(self.width)
        return nn.Dense(1, param_dtype=x.dtype)(self.activation(nn.Dense(self.width, param_dtype=x.dtype)(x)))[..., 0]


class Wide(nnx.Module):
    """A user's NNX module."""

    def __init__(self, n, width, *, rngs):
        self.first, self.last = nnx.Linear(n, width, rngs=rngs), nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, x):
        """The module."""
        TRACES.append("nnx")
        return self.last(jnp.tanh(self.first(x)))[..., 0]


def start(key):
    """Parameters of a net written by hand."""
    return {"w": jax.random.normal(key, (2,), jnp.float32)}


def line(params, x):
    """A net written by hand."""
    TRACES.append("line")
    return x @ params["w"]


TRACES = []
MAKERS = {
    "linen": lambda: nets.plain(Own(4, activation=jnp.tanh), X),
    "ours": lambda: nets.plain(nets.MLP([4, 1], scalar=True), X),
    "nnx": lambda: nets.plain(functools.partial(Wide, 2, width=4)),
    "functions": lambda: nets.plain((start, line)),
}


@struct
class Model:
    """A model as subjects have them."""

    params: Any
    net: nets.Net = static()
    shape: tuple[int, ...] = static()

    def __call__(self, x):
        """The net of `x`."""
        return self.net.apply(self.params, x)


class Pair(NamedTuple):
    """A named tuple."""

    a: Any
    b: Any


@pytest.mark.parametrize("name", MAKERS)
class TestNets:
    def test_two_of_the_same_are_equal_and_share_one_program(self, name):
        one, two = MAKERS[name](), MAKERS[name]()
        assert one == two
        assert hash(one) == hash(two)
        run = jax.jit(lambda model, x: model(x))
        first, second = (Model(net.init(jax.random.key(i)), net, (2,)) for i, net in enumerate((one, two)))
        TRACES.clear()
        a = run(first, X)
        traced = len(TRACES)
        b = run(second, X)
        assert len(TRACES) == traced
        assert run._cache_size() == 1
        assert not np.allclose(a, b)

    def test_come_back_from_a_file_alone(self, name, tmp_path):
        net = MAKERS[name]()
        model = Model(net.init(jax.random.key(3)), net, (2,))
        back = jk.learn.load(jk.learn.save(tmp_path / "model", model), Model)
        assert back.net == net
        assert back.shape == (2,)
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), back, model)
        np.testing.assert_array_equal(back(X), model(X))

    def test_learn(self, name):
        net = MAKERS[name]()
        loss = lambda p, x: jnp.mean((net.apply(p, x) - 3) ** 2)
        found = jk.fit(loss, net.init(jax.random.key(0)), X, optimizer=optax.adam(0.1), steps=60).checked()
        assert found.history[-1] < 0.05 * found.history[0]


def test_other_nets_are_not_equal():
    base = nets.plain(Own(4), X)
    assert base != nets.plain(Own(5), X)
    assert base != nets.plain(Own(4), jnp.ones((5, 3), jnp.float32))
    assert nets.plain(functools.partial(Wide, 2, 4)) != nets.plain(functools.partial(Wide, 2, 5))


def test_nnx_instances_start_from_their_own_weights_and_cannot_be_saved(tmp_path):
    module = Wide(2, 4, rngs=nnx.Rngs(0))
    net = nets.plain(module)
    np.testing.assert_allclose(net.apply(net.init(jax.random.key(9)), X), module(X), rtol=1e-6)
    with pytest.raises(ValueError, match="made of data and of code that can be imported by name, but `0/apply"):
        jk.learn.save(tmp_path / "x", (net,))


def test_nets_with_more_than_parameters_are_refused():
    with pytest.raises(ValueError, match="must keep parameters alone, but also keeps BatchStat"):
        nets.plain(functools.partial(nnx.BatchNorm, 2)).init(jax.random.key(0))
    with pytest.raises(ValueError, match="`module` must be a Linen module, an NNX module or its class"):
        nets.plain("mlp", X)


def test_whatever_models_are_made_of(tmp_path):
    thing = {
        "numbers": [1, 2.5, True, None, "text", float("inf")],
        "integers": {0: jnp.arange(3), 1: jnp.zeros(2)},
        "keys": {"a/b": jnp.ones(1), "a": {"b": jnp.ones(2)}},
        "pair": Pair(jax.random.key(7), (np.float32(2.0), np.arange(4, dtype=np.int8))),
        "code": [jnp.tanh, optax.adam, functools.partial(line, x=1.0), jnp.dtype("bfloat16"), nets.MLP],
        "moments": optax.adam(0.1).init({"w": jnp.ones(2)}),
    }
    back = jk.learn.load(jk.learn.save(tmp_path / "deep" / "thing", thing))
    assert back["numbers"] == thing["numbers"]
    assert jax.tree.structure(back["keys"]) == jax.tree.structure(thing["keys"])
    for name in ("keys", "integers", "moments"):
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), back[name], thing[name])
    assert type(back["pair"]) is Pair
    assert jax.random.key_data(back["pair"].a).tolist() == [0, 7]
    assert isinstance(back["pair"].b[1], np.ndarray)
    assert back["code"][0] is jnp.tanh
    assert (back["code"][2].func, back["code"][2].keywords) == (line, {"x": 1.0})
    assert back["code"][3:] == thing["code"][3:]


def test_what_has_no_name_is_refused_in_one_sentence(tmp_path):
    for thing, where in (
        ({"f": lambda x: x}, "`f` is <function"),
        (nets.Net(start, lambda p, x: x), "`apply` is <fun"),
    ):
        with pytest.raises(ValueError, match="made of data and of code that can be imported by name, but " + where):
            jk.learn.save(tmp_path / "x", thing)
    assert not (tmp_path / "x").exists()


def forged(path, about):
    """A file with a good digest and a description made by hand."""
    packed = np.frombuffer(json.dumps(about).encode(), np.uint8)
    return checkpoint.write(path, {saving.ABOUT: packed})


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        ({"make": "subprocess:Popen", "fields": {"args": "true"}}, "names `subprocess:Popen`, which is no part of"),
        ({"code": "os:system"}, "names `os:system`"),
        ({"code": "builtins:exec"}, "names `builtins:exec`"),
        ({"code": "jaxkit.learn.runlog:subprocess.run"}, "`jaxkit.learn.runlog:subprocess.run` is not there"),
        ({"make": "jaxkit.learn.runlog:git", "fields": {}}, "is no dataclass and no named tuple"),
        ({"make": "jaxkit.learn.runlog:TensorBoard", "fields": {"folder": "x"}}, "is no dataclass"),
        ({"code": "never_imported:thing"}, "import `never_imported` first"),
        ({"make": "jaxkit.core.run:Run", "fields": {"chunk": 0}}, "`chunk` must be a positive integer"),
        ({"array": "nowhere"}, "cannot be read: 'nowhere'"),
        ({"pickle": "x"}, "cannot be read: 'pickle'"),
    ],
)
def test_a_file_cannot_make_code_run(tmp_path, about, sentence):
    with pytest.raises(checkpoint.CheckpointError, match=sentence):
        jk.learn.load(forged(tmp_path / "forged", about))


def test_other_files_and_kinds(tmp_path):
    checkpoint.write(tmp_path / "arrays", {"w": jnp.ones(2)})
    with pytest.raises(checkpoint.CheckpointError, match="holds arrays alone"):
        jk.learn.load(tmp_path / "arrays")
    jk.learn.save(tmp_path / "pair", Pair(1, 2))
    with pytest.raises(checkpoint.CheckpointError, match="must hold a Model, but holds a Pair"):
        jk.learn.load(tmp_path / "pair", Model)
    (tmp_path / "pair").write_bytes((tmp_path / "pair").read_bytes()[:-1])
    with pytest.raises(checkpoint.CheckpointError, match="damaged"):
        jk.learn.load(tmp_path / "pair")


def test_a_frozen_configuration_is_checked_again(tmp_path):
    run = dataclasses.replace(jk.Run(), chunk=3)
    assert jk.learn.load(jk.learn.save(tmp_path / "run", run)) == run


@pytest.mark.slow
def test_in_a_process_that_has_imported_nothing(tmp_path):
    path = jk.learn.save(tmp_path / "model", MAKERS["ours"]())
    script = f"import jaxkit as jk; print(jk.learn.load({str(path)!r}).apply.module.features)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(4, 1)"
