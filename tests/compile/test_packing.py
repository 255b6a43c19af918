"""Packing and loops: what goes in comes out, and a limit is a limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit.compile.loops import repeat_while
from jaxkit.compile.packing import (
    accepted_again,
    count_of,
    failed,
    in_a_row,
    pack,
    refused_again,
    runs,
    status_of,
    unpack,
)


def test_pack_and_unpack():
    values = (jnp.arange(3.0), jnp.arange(3.0) + 1, jnp.ones((2, 3)), jnp.zeros(3))
    packed = pack(values)
    assert [v.dtype.kind for v in packed] == ["c", "f", "f"]
    for ours, given in zip(unpack(packed), values, strict=True):
        np.testing.assert_array_equal(ours, given)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_count_carries_every_status(dtype):
    codes = jnp.array([int(s) for s in jk.Status if s != jk.Status.ok])
    for number in (0, 1, 4095, 100_000):
        count = jnp.full(codes.shape, number, dtype)
        broken = failed(count, codes)
        np.testing.assert_array_equal(status_of(broken), codes)
        np.testing.assert_array_equal(count_of(broken), number)
        assert not runs(broken).any()
        assert runs(count).all()
        assert not status_of(count).any()


def test_a_count_knows_how_many_steps_were_refused_in_a_row():
    count = jnp.asarray(7.0)
    for refused in (1, 2, 3):
        count = refused_again(count)
        assert (int(count), float(in_a_row(count))) == (7 + refused, refused)
    assert float(refused_again(count, 2)) == float(refused_again(refused_again(count)))
    for left in (2, 1, 0, 0):
        count = accepted_again(count)
        assert (int(count), float(in_a_row(count))) == (10, left)


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_loop_keeps_to_its_limit(limit, small):
    count = jax.jit(lambda x: repeat_while(lambda x: x < 100, lambda x: x + 1, x, limit=limit, small=small))
    assert int(count(jnp.asarray(0))) == limit
