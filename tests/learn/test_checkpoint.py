"""Checkpoints: what goes in comes out, damage is refused, the one before is used, strangers' files do not pass."""

import hashlib
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxkit.learn import checkpoint

TREE = {
    "net": [{"w": np.arange(6, dtype=np.float32).reshape(2, 3)}, {"w": jnp.ones((3,), jnp.bfloat16)}],
    "count": jnp.asarray(7, jnp.int32),
    "mask": np.array([True, False]),
    "image": np.arange(4, dtype=np.uint8),
    "empty": jnp.zeros((0, 2)),
    "key": jax.random.key(5),
    "keys": jax.random.split(jax.random.key(1, impl="rbg"), 2),
}


def equal(a, b):
    plain = lambda v: jax.random.key_data(v) if jnp.issubdtype(v.dtype, jax.dtypes.prng_key) else v
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(plain(x), plain(y), strict=True), a, b)


def test_what_goes_in_comes_out(tmp_path):
    path = checkpoint.write(tmp_path / "deep" / "x.safetensors", TREE, meta={"step": 3, "name": '"sha256":"0'})
    equal(checkpoint.read(path, TREE), jax.tree.map(jnp.asarray, TREE))
    shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, TREE))
    equal(checkpoint.read(path, shapes), jax.tree.map(jnp.asarray, TREE))
    assert checkpoint.meta(path) == {"step": 3, "name": '"sha256":"0'}
    assert os.listdir(path.parent) == ["x.safetensors"]


def test_in_single_precision_numbers_are_what_jax_makes_of_them(tmp_path):
    path = checkpoint.write(tmp_path / "double", {"v": np.ones(2)})
    with jax.enable_x64(False):
        with pytest.raises(checkpoint.CheckpointError, match=r"`v` must be float32\(2,\), but is float64\(2,\)"):
            checkpoint.read(path, {"v": np.ones(2)})
        path = checkpoint.write(tmp_path / "single", {"v": np.ones(2)})
        assert checkpoint.read(path, {"v": np.ones(2)})["v"].dtype == jnp.float32


def test_any_reader_of_safetensors_reads_it(tmp_path):
    path = checkpoint.write(tmp_path / "x", {"a": {"w": np.ones((2, 2))}, "b": np.arange(3)})
    read = safetensors.numpy.load_file(path)
    np.testing.assert_array_equal(read["a/w"], np.ones((2, 2)))
    np.testing.assert_array_equal(read["b"], np.arange(3))


def damages(data, rng):
    """Two hundred ways to damage a file: bits flipped anywhere, cut, lengthened, blocks zeroed or swapped."""
    header = 8 + int.from_bytes(data[:8], "little")
    for kind in range(200):
        bad = bytearray(data)
        if kind < 120:
            low, high = [(0, 8), (8, header), (header, len(data)), (0, len(data))][kind % 4]
            bad[rng.integers(low, high)] ^= 1 << rng.integers(8)
        elif kind < 150:
            bad = bad[: rng.integers(0, len(bad))]
        elif kind < 160:
            bad += bytes(rng.integers(0, 256, rng.integers(1, 20), dtype=np.uint8))
        elif kind < 180:
            start = rng.integers(0, len(bad) - 64)
            bad[start : start + 64] = bytes(64)
        else:
            bad[header:] = bad[header:][::-1]
        if bytes(bad) == data:  # a block of zeros over zeros
            bad[-1] ^= 1
        yield bytes(bad)


def test_every_damage_is_refused_in_one_sentence(tmp_path):
    rng = np.random.default_rng(0)
    tree = {"w": rng.normal(size=(20, 10)), "b": rng.normal(size=10)}
    path = checkpoint.write(tmp_path / "x", tree)
    data, refused = path.read_bytes(), 0
    for bad in damages(data, rng):
        path.write_bytes(bad)
        with pytest.raises(checkpoint.CheckpointError, match=r"^Checkpoint .*x is damaged: [^.]*\.$"):
            checkpoint.read(path, tree)
        refused += 1
    assert refused == 200


@pytest.mark.parametrize(
    "header",
    [
        b'{"__metadata__":{"meta":"{}","keys":"{}","sha256":"%s"},"w":{"dtype":"F64","shape":[9],"data_offsets":[0,8]}}',
        b'{"__metadata__":{"meta":"{}","sha256":"%s"}}',
        b'{"__metadata__":{"meta":"{","keys":"{}","sha256":"%s"}}',
        b'["sha256":"%s"]',
    ],
)
def test_a_made_up_file_with_the_right_digest_is_refused(tmp_path, header):
    text = header % (b"0" * 64)
    data = len(text).to_bytes(8, "little") + text + bytes(8)
    (tmp_path / "x").write_bytes(data.replace(b"0" * 64, hashlib.sha256(data).hexdigest().encode()))
    with pytest.raises(checkpoint.CheckpointError, match=r"x is damaged: (?!its SHA-256)"):
        checkpoint.read(tmp_path / "x", {"w": np.ones(9)})


def test_a_header_that_claims_gigabytes_is_not_read(tmp_path):
    path = checkpoint.write(tmp_path / "x", {"w": np.ones(3)})
    path.write_bytes((1 << 40).to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(checkpoint.CheckpointError, match="it has no header of ours"):
        checkpoint.read(path, {"w": np.ones(3)})
    with pytest.raises(ValueError, match="Argument `tree` must need a header of at most"):
        checkpoint.write(path, {"w" * (1 << 20): np.ones(3)})


@pytest.mark.parametrize(
    ("like", "sentence"),
    [
        ({"w": np.ones((2, 3))}, r"`w` must be float64\(2, 3\), but is float64\(3, 2\)"),
        ({"w": np.ones((3, 2), np.float32)}, r"`w` must be float32\(3, 2\), but is float64\(3, 2\)"),
        ({"w": np.ones((3, 2)), "b": np.ones(1)}, "it lacks array `b`"),
        ({}, "it has an extra array `w`"),
        ({"w": jax.random.key(0)}, r"`w` must be threefry2x32 uint32\(2,\), but is float64\(3, 2\)"),
    ],
)
def test_names_shapes_and_dtypes_must_fit(tmp_path, like, sentence):
    path = checkpoint.write(tmp_path / "x", {"w": np.ones((3, 2))})
    with pytest.raises(checkpoint.CheckpointError, match=sentence):
        checkpoint.read(path, like)


def test_the_newest_whole_one_of_a_folder(tmp_path):
    for step in range(1, 5):
        checkpoint.store(tmp_path, step, {"v": jnp.asarray(step)}, keep=3)
    assert [p.name for p in checkpoint.steps(tmp_path)] == [f"step-{k:09d}.safetensors" for k in (4, 3, 2)]
    like = lambda meta: {"v": jnp.asarray(0)}
    tree, meta, refused = checkpoint.newest(tmp_path, like)
    assert (int(tree["v"]), meta["step"], refused) == (4, 4, [])
    for path in checkpoint.steps(tmp_path)[:2]:
        path.write_bytes(path.read_bytes()[:-1])
    tree, meta, refused = checkpoint.newest(tmp_path, like)
    assert (int(tree["v"]), meta["step"], len(refused)) == (2, 2, 2)
    assert checkpoint.newest(tmp_path / "nothing", like) == (None, {}, [])


def test_leftovers_of_dead_writers_are_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stale, ours = (
        tmp_path / f".tmp-{dead.pid}-step-000000001.safetensors",
        tmp_path / ".tmp-1-step-000000002.safetensors",
    )
    stale.write_bytes(b"half"), ours.write_bytes(b"half")  # process 1 runs
    checkpoint.newest(tmp_path, lambda meta: {})
    assert not stale.exists()
    assert ours.exists()


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = checkpoint.write(tmp_path / "x", {"v": jnp.asarray(1)})
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        checkpoint.write(path, {"v": jnp.asarray(2)})
    monkeypatch.undo()
    assert int(checkpoint.read(path, {"v": jnp.asarray(0)})["v"]) == 1
    assert os.listdir(tmp_path) == ["x"]
