"""Pictures from their publishers' files: Fashion-MNIST, MNIST, CIFAR-10, the ORL faces, scikit-learn's digits.

Files are looked for in `$JAXKIT_DATA` or `~/.cache/jaxkit`, in `images/<set>/` and `<set>/`. Their *contents* are
checked against the published MD5 sums, whatever they are packed in. Nothing is shipped with the package.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, Int, UInt8

from jaxkit.core import checks
from jaxkit.core.environment import data_root
from jaxkit.core.struct import static, struct
from jaxkit.learn.data.files import DataError, checked, fetch, find, read, unpack

SPLITS = ("train", "test")
PARTS = {"train": "train", "test": "t10k"}
IDX = {
    "fashion-mnist": (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        {
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
    ),
    "mnist": (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        {
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
    ),
}
CIFAR = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR_BATCHES = {  # published MD5 sums of the binary release; the sheets hold the same bytes in another order
    "data_batch_1": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
FACES = ("https://cam-orl.co.uk/facedatabase.html", "f4e81783820f470263acef3740a33b99")


@struct
class Images:
    """Pictures and their classes.

    Attributes:
        x: Pixels, shape `(n, h, w, c)`, 0 to 255.
        y: Classes, shape `(n,)`.
        name: Name of the set.
    """

    x: UInt8[Array, "n h w c"]
    y: Int[Array, " n"]
    name: str = static(default="images")

    def __len__(self) -> int:
        """Number of pictures."""
        return self.x.shape[0]


def load(
    name: str,
    split: str = "train",
    *,
    root: str | Path | None = None,
    download: bool = False,
    batches: tuple[int, ...] = (1, 2, 3, 4, 5),
) -> Images:
    """A set of pictures.

    Args:
        name: `"fashion-mnist"`, `"mnist"` (60,000 + 10,000 of 28 x 28), `"cifar10"` (50,000 + 10,000 of 32 x 32 x 3),
            `"faces"` (the 400 ORL faces, 28 x 23; the last 2 of each 10 are the test split) or `"digits"`
            (scikit-learn's 1,797 of 8 x 8; the last 360 are the test split).
        split: `"train"` or `"test"`.
        root: Data folder; `$JAXKIT_DATA` or `~/.cache/jaxkit` if None.
        download: Whether a missing file may be fetched from its publisher, by HTTPS.
        batches: Which training batches of CIFAR-10 to load; a missing one is an error, not a smaller set.

    Returns:
        The pictures, as bytes, as published.

    Raises:
        DataError: A file is missing or damaged; one sentence gives its path and its publisher's address.

    Example:
        >>> from jaxkit.learn import data as datasets
        >>> digits = datasets.load("digits", "test")
        >>> digits.x.shape, digits.x.dtype.name, int(digits.x.max())
        ((360, 8, 8, 1), 'uint8', 255)

    References:
        Xiao, Rasul, Vollgraf (2017); LeCun, Cortes, Burges (1998); Krizhevsky (2009); Samaria, Harter (1994); Alpaydin,
        Kaynak (1998).
    """
    checks.one_of("name", name, (*IDX, "cifar10", "faces", "digits"))
    checks.one_of("split", split, SPLITS)
    folder = data_root() if root is None else Path(root)
    if name in IDX:
        x, y = _idx_set(folder, name, split, download=download)
    elif name == "cifar10":
        wanted = [f"data_batch_{i}" for i in batches] if split == "train" else ["test_batch"]
        parts = [_cifar(folder, part, download=download) for part in wanted]
        x, y = (np.concatenate(both) for both in zip(*parts, strict=True))
    elif name == "faces":
        x, y = _split(*_faces(folder), np.arange(400) % 10 >= 8, split)
    else:
        x, y = _split(*_digits(), np.arange(1797) >= 1437, split)
    return Images(jnp.asarray(x), jnp.asarray(y, jnp.int32), name)


def folder(path: str | Path, *, size: int = 64, crop: int | None = None, limit: int | None = None) -> Images:
    """Every picture of a folder (CelebA's `img_align_celeba`, say), cropped to its middle square and scaled down.

    Args:
        path: Folder of jpg, jpeg and png files, which are read in the order of their names.
        size: Height and width of the result.
        crop: Side of the middle square that is kept (148 is usual for CelebA); the largest one if None.
        limit: The most pictures to read; all if None.

    Returns:
        Colour pictures, shape `(n, size, size, 3)`, all of class 0.

    Raises:
        DataError: There are no pictures, or one is damaged.
    """
    from PIL import Image, UnidentifiedImageError

    kinds = (".jpg", ".jpeg", ".png")
    names = sorted(p for p in Path(path).glob("*") if p.suffix.lower() in kinds)[:limit]
    if not names:
        raise DataError(f"There is no picture (jpg, jpeg or png) in {path}.")
    x = np.empty((len(names), size, size, 3), np.uint8)
    for i, one in enumerate(names):
        try:
            with Image.open(one) as opened:
                picture = opened.convert("RGB")
        except (OSError, UnidentifiedImageError):
            raise DataError(f"The picture {one} is damaged: remove it, or fetch it again.") from None
        side = min(picture.size) if crop is None else crop
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        box = (left, top, left + side, top + side)
        x[i] = np.asarray(picture.resize((size, size), Image.Resampling.BOX, box))
    return Images(jnp.asarray(x), jnp.zeros(len(names), jnp.int32), Path(path).name)


def scaled(pixels: Array, dtype: DTypeLike = jnp.float32) -> Float[Array, "..."]:
    """Byte pixels, 0 to 255, as numbers from -1 to 1; any other array is returned as it is."""
    return jnp.asarray(pixels).astype(dtype) / 127.5 - 1 if pixels.dtype == jnp.uint8 else pixels


def pixels(scaled: Float[Array, "..."]) -> UInt8[Array, "..."]:
    """Numbers from -1 to 1 as pixels 0 to 255, rounded; numbers outside are clipped."""
    return jnp.clip(jnp.round((scaled + 1) * 127.5), 0, 255).astype(jnp.uint8)


def stacked(images: Images, key: Array, n: int) -> Images:
    """Pictures of three digits, one per colour channel: a thousand classes, for counting modes.

    Args:
        images: Grey pictures of ten classes.
        key: Random key: three independent draws with replacement for each picture.
        n: Number of pictures.

    References:
        Metz et al. (2017), Unrolled generative adversarial networks.
    """
    pick = jax.random.randint(key, (n, 3), 0, len(images))
    x = jnp.moveaxis(images.x[..., 0][pick], 1, -1)
    return Images(x, images.y[pick] @ jnp.array([100, 10, 1], images.y.dtype), f"stacked {images.name}")


def _split(x: np.ndarray, y: np.ndarray, test: np.ndarray, split: str) -> tuple[np.ndarray, np.ndarray]:
    keep = test if split == "test" else ~test
    return x[keep], y[keep]


def _idx_set(root: Path, name: str, split: str, *, download: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels of a set in MNIST's format."""
    address, sums = IDX[name]
    arrays = []
    for part in (f"{PARTS[split]}-images-idx3-ubyte", f"{PARTS[split]}-labels-idx1-ubyte"):
        path = find(root, name, (part, f"{part}.gz"))
        if path is None:
            path = fetch(root, name, f"{part}.gz", address, sums[part], download=download)
        content = checked(read(path), sums[part], path, address)
        arrays.append(_idx(content))
    return arrays[0][..., None], arrays[1]


def _idx(content: bytes) -> np.ndarray:
    """An idx file of bytes: its fourth byte counts the axes, whose lengths follow, big-endian."""
    axes = content[3]
    shape = np.frombuffer(content, ">i4", axes, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _cifar(root: Path, part: str, *, download: bool) -> tuple[np.ndarray, np.ndarray]:
    """One batch of CIFAR-10: records of the binary release, or a lossless sheet whose rows are pictures."""
    sheet = find(root, "cifar10", (f"{part}.png",))
    records = None if sheet else find(root, "cifar10", (f"{part}.bin", f"cifar-10-batches-bin/{part}.bin"))
    if sheet:
        content = _sheet_records(sheet, part)
    elif records:
        content = read(records)
    else:
        archive = find(root, "cifar10", (Path(CIFAR).name,))
        if archive is None:
            archive = fetch(root, "cifar10", Path(CIFAR).name, CIFAR.rsplit("/", 1)[0] + "/", None, download=download)
        records, content = archive, unpack(archive, f"cifar-10-batches-bin/{part}.bin", CIFAR)
    content = checked(content, CIFAR_BATCHES[part], sheet or records, CIFAR)
    rows = np.frombuffer(content, np.uint8).reshape(-1, 3073)
    return np.ascontiguousarray(rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), rows[:, 0]


def _sheet_records(sheet: Path, part: str) -> bytes:
    """A sheet and its labels as records: label, then the red, the green and the blue plane."""
    import json

    from PIL import Image, UnidentifiedImageError

    split = "test" if part == "test_batch" else "train"
    names = (f"{split}_labels.json", f"{split}_lables.json")  # the published package misspells it
    labels = next((sheet.parent / name for name in names if (sheet.parent / name).is_file()), None)
    if labels is None:
        raise DataError(f"The labels of {sheet} are missing: {sheet.parent / names[0]} (publisher: {CIFAR}).")
    try:
        with Image.open(sheet) as opened:
            rows = np.asarray(opened.convert("RGB")).reshape(-1, 1024, 3)
        known = np.asarray(json.loads(labels.read_text()), np.uint8)
    except (OSError, UnidentifiedImageError, ValueError):
        raise DataError(f"The file {sheet} or {labels} is damaged: fetch it again (publisher: {CIFAR}).") from None
    first = 0 if split == "test" else 10000 * (int(part[-1]) - 1)
    known = known[first : first + len(rows)]
    if len(known) != len(rows):
        raise DataError(f"The file {labels} is damaged: it has no labels for {sheet} (publisher: {CIFAR}).")
    return np.concatenate([known[:, None], rows.transpose(0, 2, 1).reshape(len(rows), -1)], 1).tobytes()


def _faces(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """The ORL faces, scaled down, in one npz file."""
    name, (address, published) = "att_faces_400x28x23.npz", FACES
    path = find(root, "att_faces", (name,)) or find(root, "faces", (name,))
    if path is None:
        raise DataError(f"The file {root / 'images' / 'att_faces' / name} is missing (publisher: {address}).")
    try:
        with np.load(path, allow_pickle=False) as stored:
            x, y = stored["images"], stored["subject"]
    except (OSError, ValueError, KeyError, EOFError):
        raise DataError(f"The file {path} is damaged: fetch it again (publisher: {address}).") from None
    checked(x.tobytes(), published, path, address)
    return x[..., None], y


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """The digits that scikit-learn carries: 17 grey levels, spread over the bytes."""
    try:
        from sklearn import datasets
    except ImportError:
        raise DataError(
            "The digits are part of scikit-learn, which is not installed: pip install scikit-learn"
        ) from None
    stored: Any = datasets.load_digits()
    return np.round(stored.images[..., None] * (255 / 16)).astype(np.uint8), stored.target
