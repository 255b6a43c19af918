"""Kept programs: used for values, also under `grad` and `vmap`, never inside of larger programs; and found again."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit.compile import jit_cache

LOWERED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: (
        LOWERED.append(event) if event == "/jax/core/compile/jaxpr_to_mlir_module_duration" else None
    )
)


@pytest.fixture
def programs(monkeypatch):
    fresh = jit_cache._Programs()
    monkeypatch.setattr(jit_cache, "_PROGRAMS", fresh)
    return fresh


def multiplied(fn, power, x, args):
    return fn(x) ** power * args["k"]


def call(c, x, k, power=2):
    return jit_cache.run_kept(multiplied, (lambda x: x + c, power), (x, {"k": k, "name": "k"}))


def test_a_fresh_lambda_finds_the_program(programs):
    assert float(call(1.0, 2.0, 3.0)) == 27
    count = len(LOWERED)
    assert float(call(1.0, 3.0, 4.0)) == 64
    assert float(call(1.0, 3.0, np.float64(4.0))) == 64  # (of another type: a program of its own)
    assert len(LOWERED) == count + 1
    assert float(call(2.0, 2.0, 3.0)) == 48
    assert float(call(1.0, 2.0, 3.0, power=3)) == 81
    assert call(1.0, jnp.ones(2), 3.0).shape == (2,)
    assert len(programs._programs) == 5
    with jax.enable_x64(False):
        assert call(1.0, 2.0, 3.0).dtype == jnp.float32
    assert call(1.0, 2.0, 3.0).dtype == jnp.float64


def test_derivatives_and_batches_find_it_too(programs):
    for _ in range(2):
        count = len(LOWERED)
        assert float(jax.grad(lambda x: call(1.0, x, 3.0))(2.0)) == 18
        assert float(jax.jvp(lambda x: call(1.0, x, 3.0), (2.0,), (1.0,))[1]) == 18
        assert jax.vmap(lambda x: call(1.0, x, 3.0))(jnp.arange(2.0)).tolist() == [3, 12]
        assert float(jax.grad(lambda c: call(c, 2.0, 3.0))(1.0)) == 18  # traced contents: no program is kept
    assert len(LOWERED) == count
    assert len(programs._programs) == 2  # a Python number, and what `vmap` takes from an array


def test_no_program_within_a_program(programs):
    assert float(jax.jit(lambda x: call(1.0, x, 3.0))(2.0)) == 27
    constant = lambda x: x + call(1.0, 2.0, 3.0)
    jax.lax.scan(lambda c, _: (constant(c), None), jnp.ones(()), length=2)
    assert not programs._programs
    jax.grad(constant)(1.0)  # here it is a value
    assert len(programs._programs) == 1
    assert not jit_cache.staged()


def test_an_edited_object_is_seen_when_an_old_program_meets_new_shapes(programs):
    class Scale:
        by = 2.0

        def __call__(self, x):
            return self.by * x

    one, other = Scale(), Scale()
    run = lambda fn, x: float(jnp.sum(jit_cache.run_kept(multiplied, (fn, 1), (x, {"k": 1.0}))))
    assert run(one, 1.0) == 2
    one.by = 3.0
    assert run(other, jnp.ones(2)) == 4  # the contents that `one` had before
    assert run(one, 1.0) == 3


def test_what_is_kept_is_bounded(programs, monkeypatch):
    monkeypatch.setattr(jit_cache, "KEPT", 3)
    for c in range(5):
        call(float(c), 1.0, 1.0)
    assert len(programs._programs) == 3
    monkeypatch.setattr(jit_cache, "BYTES", 1000)
    call(9.0, 1.0, 1.0)
    assert not programs._programs
    assert programs._bytes == 0


def test_a_program_with_a_large_result_is_kept(programs, monkeypatch):
    memory = iter((1 << 30, 8 << 30))
    monkeypatch.setattr(jit_cache, "_resident", lambda: next(memory))
    assert float(call(1.0, 2.0, 3.0)) == 27
    assert len(programs._programs) == 1


def test_threads_share_programs(programs):
    found = []
    work = lambda c: found.append([float(call(float(c % 2), float(i), 1.0)) for i in range(20)])
    threads = [threading.Thread(target=work, args=(c,)) for c in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = [[float((i + c) ** 2) for i in range(20)] for c in (0, 1)]
    assert len(found) == 8
    assert all(rows in wanted for rows in found)
    assert len(programs._programs) == 2


def test_results_of_host_functions_are_kept():
    asked = []

    @jit_cache.kept
    def looked_at(fn, size):
        asked.append(size)
        return fn(size)

    add = lambda c: lambda x: x + c
    assert [looked_at(add(1), 2), looked_at(add(1), 2), looked_at(add(2), 2), looked_at(add(1), 3)] == [3, 3, 4, 4]
    assert asked == [2, 2, 3]
