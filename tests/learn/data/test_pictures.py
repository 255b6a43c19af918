"""Picture sets: formats, sums, sentences. Files made here have the formats; the real ones are read where they are."""

import gzip
import hashlib
import io
import json
import tarfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxkit.core.environment import data_root
from jaxkit.learn import data as datasets
from jaxkit.learn.data import files, images


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return head + array.tobytes()


@pytest.fixture
def little(tmp_path, monkeypatch):
    """A data folder with seven tiny pictures in MNIST's format, and the sums that fit them."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (7, 28, 28), dtype=np.uint8), np.arange(7, dtype=np.uint8)
    contents = {"train-images-idx3-ubyte": idx(x), "train-labels-idx1-ubyte": idx(y)}
    sums = {name: md5(content) for name, content in contents.items()}
    monkeypatch.setitem(images.IDX, "mnist", ("https://example.org/", sums))
    return tmp_path, x, y, contents


@pytest.mark.parametrize("layout", ["images/mnist", "mnist"])
@pytest.mark.parametrize("packed", [True, False])
def test_both_layouts_packed_or_not(little, layout, packed):
    root, x, y, contents = little
    (root / layout).mkdir(parents=True)
    for name, content in contents.items():
        file = root / layout / (name + ".gz" * packed)
        file.write_bytes(gzip.compress(content) if packed else content)
    data = datasets.load("mnist", root=root)
    assert data.x.shape == (7, 28, 28, 1)
    assert data.x.dtype == jnp.uint8
    np.testing.assert_array_equal(data.x[..., 0], x)
    np.testing.assert_array_equal(data.y, y)


def test_missing_and_damaged_files_are_one_sentence(little):
    root, _, _, contents = little
    with pytest.raises(datasets.DataError, match=r"train-images-idx3-ubyte.gz is missing: fetch https://example.org/"):
        datasets.load("mnist", root=root)
    (root / "mnist").mkdir()
    name, content = next(iter(contents.items()))
    for damaged in (content[:-1] + b"x", content[:100]):
        (root / "mnist" / name).write_bytes(damaged)
        with pytest.raises(datasets.DataError, match=r"is damaged: its content does not have the published sum"):
            datasets.load("mnist", root=root)
    (root / "mnist" / name).unlink()
    (root / "mnist" / f"{name}.gz").write_bytes(gzip.compress(content)[:-20])
    with pytest.raises(datasets.DataError, match="damaged"):
        datasets.load("mnist", root=root)


def test_download_checks_and_leaves_nothing_half_done(little, monkeypatch):
    root, x, _, contents = little
    served = {f"https://example.org/{name}.gz": gzip.compress(content) for name, content in contents.items()}
    monkeypatch.setattr(files.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(served[url]))
    np.testing.assert_array_equal(datasets.load("mnist", root=root, download=True).x[..., 0], x)
    path = root / "images" / "mnist" / "train-labels-idx1-ubyte.gz"
    path.unlink()
    served["https://example.org/train-labels-idx1-ubyte.gz"] = gzip.compress(b"another file")
    with pytest.raises(datasets.DataError, match="published sum"):
        datasets.load("mnist", root=root, download=True)
    assert [p.name for p in path.parent.iterdir()] == ["train-images-idx3-ubyte.gz"]
    monkeypatch.setitem(images.IDX, "mnist", ("http://example.org/", images.IDX["mnist"][1]))
    with pytest.raises(datasets.DataError, match="HTTPS alone"):
        datasets.load("mnist", root=root, download=True)


@pytest.fixture
def records(monkeypatch):
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 256, (5, 3073), dtype=np.uint8)
    rows[:, 0] %= 10
    monkeypatch.setitem(images.CIFAR_BATCHES, "test_batch", md5(rows.tobytes()))
    return rows


@pytest.mark.parametrize("form", ["bin", "folder", "archive", "sheet"])
def test_cifar_in_all_its_forms(tmp_path, records, form):
    place = tmp_path / "images" / "cifar10"
    (place / "cifar-10-batches-bin").mkdir(parents=True)
    content = records.tobytes()
    pictures = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    if form == "archive":
        with tarfile.open(place / "cifar-10-binary.tar.gz", "w:gz") as archive:
            member = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    elif form == "sheet":
        Image.fromarray(np.ascontiguousarray(pictures.reshape(5, 1024, 3))).save(place / "test_batch.png")
        (place / "test_lables.json").write_text(json.dumps(records[:, 0].tolist()))
    else:
        (place / {"bin": "test_batch.bin", "folder": "cifar-10-batches-bin/test_batch.bin"}[form]).write_bytes(content)
    data = datasets.load("cifar10", "test", root=tmp_path)
    np.testing.assert_array_equal(data.x, pictures)
    np.testing.assert_array_equal(data.y, records[:, 0])
    with pytest.raises(datasets.DataError, match=r"cifar-10-binary.tar.gz is missing: fetch https|damaged: fetch"):
        datasets.load("cifar10", "train", root=tmp_path)


def test_a_folder_of_pictures(tmp_path):
    rng = np.random.default_rng(2)
    big = rng.integers(0, 256, (20, 12, 3), dtype=np.uint8)
    Image.fromarray(big).save(tmp_path / "b.png")
    Image.fromarray(np.full((20, 12), 7, np.uint8)).save(tmp_path / "a.png")
    data = datasets.folder(tmp_path, size=4, crop=8)
    assert data.x.shape == (2, 4, 4, 3)
    assert (np.asarray(data.x[0]) == 7).all()
    means = big[6:14, 2:10].reshape(4, 2, 4, 2, 3).mean((1, 3))
    np.testing.assert_allclose(data.x[1], means, atol=1)
    with pytest.raises(datasets.DataError, match="no picture"):
        datasets.folder(tmp_path / "nothing")
    (tmp_path / "c.png").write_bytes(b"not a picture")
    with pytest.raises(datasets.DataError, match=r"c.png is damaged"):
        datasets.folder(tmp_path)


def test_pixels_and_back_and_stacked(key):
    every = jnp.arange(256, dtype=jnp.uint8)
    np.testing.assert_array_equal(datasets.pixels(datasets.scaled(every)), every)
    assert float(datasets.scaled(every).min()) == -1
    assert float(datasets.scaled(every).max()) == 1
    x = jnp.broadcast_to(jnp.arange(10, dtype=jnp.uint8)[:, None, None, None], (10, 2, 2, 1))
    three = datasets.stacked(datasets.Images(x, jnp.arange(10), "digits"), key, 50)
    assert three.x.shape == (50, 2, 2, 3)
    np.testing.assert_array_equal(three.x[:, 0, 0].astype(int) @ np.array([100, 10, 1]), three.y)
    assert len(np.unique(three.y)) > 40


def test_digits():
    pytest.importorskip("sklearn", reason="scikit-learn, which carries the digits, is not installed")
    train, test = datasets.load("digits"), datasets.load("digits", "test")
    assert (len(train), len(test)) == (1437, 360)
    assert set(np.unique(train.y)) == set(range(10))


def test_wrong_names():
    with pytest.raises(ValueError, match="`name` must be one of 'fashion-mnist', 'mnist'"):
        datasets.load("imagenet")
    with pytest.raises(ValueError, match="`split` must be one of"):
        datasets.load("digits", "validation")


REAL = {
    ("fashion-mnist", "test"): ((10000, 28, 28, 1), "t10k-images-idx3-ubyte.gz"),
    ("mnist", "test"): ((10000, 28, 28, 1), "t10k-images-idx3-ubyte.gz"),
    ("cifar10", "test"): ((10000, 32, 32, 3), "test_batch.png"),
    ("faces", "train"): ((320, 28, 23, 1), "att_faces_400x28x23.npz"),
}


@pytest.mark.parametrize(("name", "split"), REAL)
def test_the_real_sets_where_they_are(name, split):
    shape, file = REAL[name, split]
    if files.find(data_root(), {"faces": "att_faces"}.get(name, name), (file,)) is None:
        pytest.skip(f"{name} is not in {data_root()} (set JAXKIT_DATA)")
    data = datasets.load(name, split)  # which checks the sums
    assert data.x.shape == shape
    counts = np.bincount(np.asarray(data.y))
    assert len(counts) == (40 if name == "faces" else 10)
    assert counts.min() > 0.05 * len(data) / len(counts)


def test_pictures_are_pytrees(key):
    data = datasets.Images(jnp.zeros((3, 2, 2, 1), jnp.uint8), jnp.zeros(3, jnp.int32), "nothing")
    assert jax.jit(lambda d: d.x.sum())(data) == 0
