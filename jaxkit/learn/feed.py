"""Batches that the host makes one after another, fetched ahead of the compiled steps that use them."""

import contextlib
import dataclasses
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxkit.core import checks

Form = tuple[Any, tuple[tuple[tuple[int, ...], Any], ...]]


@dataclasses.dataclass(frozen=True)
class HostBatches:
    """Any iterable of batches, with the settings of how it is read: `batches=` for `fit` and `play`.

    An iterator that is handed to `fit` or `play` as it is is read with the defaults.

    Attributes:
        source: Yields pytrees of arrays (of NumPy or any other library that NumPy can read), all of one form. One that
            can be iterated again (a list-like object, a torch `DataLoader`, a grain `IterDataset`) begins anew at its
            end; an iterator ends the run at its end. One smaller last batch is skipped. If its iterator has
            `get_state` and `set_state`, as grain's have, checkpoints hold its state; if it has not, a resumed run draws
            and drops the batches that were used.
        ahead: Chunks that a thread draws while the device works; 0 draws them between the chunks, without a thread.
        megabytes: Most that the batches of a chunk take; a `Run.chunk` that needs more is made shorter.

    Example:
        >>> import jax.numpy as jnp, numpy as np, jaxkit as jk
        >>> def draws():
        ...     generator = np.random.default_rng(0)
        ...     while True:
        ...         yield generator.normal(3.0, 1.0, 64)
        >>> loss = lambda mean, x: jnp.mean((x - mean) ** 2)
        >>> done = jk.fit(loss, jnp.zeros(()), jk.learn.HostBatches(draws(), ahead=2), steps=100)
        >>> done.checked().history.shape
        (100,)
    """

    source: Iterable[Any]
    ahead: int = 1
    megabytes: float = 256

    def __post_init__(self) -> None:
        """Check the values."""
        yields = isinstance(self.source, Iterable)
        checks.require(yields, "source", "be an iterable of batches", f"is {type(self.source).__name__}")
        for name in ("ahead", "megabytes"):
            value = getattr(self, name)
            checks.require(value >= 0, name, "not be negative", f"is {value}")


def host_batches(batches: Any) -> HostBatches | None:
    """The host's batches if these are such, else None: a pytree of arrays and a function of the step are not."""
    if isinstance(batches, HostBatches):
        return batches
    container = not jax.tree_util.all_leaves([batches])
    data = hasattr(batches, "dtype") or callable(batches) or isinstance(batches, str | bytes | set | frozenset)
    return HostBatches(batches) if isinstance(batches, Iterable) and not container and not data else None


@dataclasses.dataclass
class Piece:
    """The batches of one chunk.

    Attributes:
        rows: The batches one behind the other, padded to the length of a full chunk; None if there is not even one.
        steps: Steps that they are enough for.
        last: Whether the source ended before there was enough for the whole chunk.
        state: State of the source behind them, or None.
    """

    rows: PyTree
    steps: int
    last: bool
    state: Any


class Feed:
    """Reads a source in pieces, in a thread that is ahead of the run."""

    def __init__(self, batches: HostBatches, per_step: int) -> None:
        """Start the source and look at its first batch.

        Args:
            batches: The source.
            per_step: Batches that a step takes.
        """
        self.settings, self.per_step, self.ended = batches, per_step, False
        self.double = bool(jax.config.read("jax_enable_x64"))  # here, since a thread does not see this thread's setting
        self.again = not isinstance(batches.source, Iterator)
        self.iterator = iter(batches.source)
        self.pending: list[Any] = []
        self.form: Form | None = None
        first = self._next()
        checks.require(first is not None, "batches", "yield at least one batch", "yields none")
        self.pending = [first]

    @property
    def example(self) -> PyTree:
        """What a step of the form of all others is given: a piece of zeros, one step long."""
        rows = jax.tree.map(lambda v: np.zeros((self.per_step, *v.shape), v.dtype), self.pending[0])
        return {"first": jnp.asarray(0), "rows": rows}

    def chunk(self, wanted: int) -> int:
        """Steps in a chunk: as many as are wanted, or as fit into the memory that is allowed."""
        size = self.per_step * sum(leaf.nbytes for leaf in jax.tree.leaves(self.pending))
        return max(1, min(wanted, int(self.settings.megabytes * 2**20 // max(size, 1))))

    def skip(self, steps: int, state: Any) -> None:
        """Go on behind the batches that an earlier run has used in its steps; with `state`, to where the source was."""
        if state is not None and hasattr(self.iterator, "set_state"):
            self.pending = []
            self.iterator.set_state(_unpacked(state))  # pyright: ignore[reportAttributeAccessIssue]
            return
        count = steps * self.per_step
        for _ in range(count):
            short = self._next() is None
            checks.require(not short, "batches", f"yield the {count} batches that were used, to resume", "end before")

    @contextlib.contextmanager
    def pieces(self, start: int, steps: int, size: int) -> Iterator[Callable[[], Piece]]:
        """A function that returns the batches of one chunk after another, of steps from `start` to before `steps`."""
        lengths = [min(size, steps - at) for at in range(start, steps, size)]
        made = (self._piece(length, size) for length in lengths)
        if self.settings.ahead == 0:
            yield lambda: next(made)
            return
        ready: queue.Queue[Any] = queue.Queue(self.settings.ahead)
        over = threading.Event()
        thread = threading.Thread(target=_draw, args=(made, ready, over), daemon=True)
        thread.start()
        try:
            yield lambda: _taken(ready)
        finally:
            over.set()
            while thread.is_alive():  # a thread that waits for room must see that nobody takes any more
                with contextlib.suppress(queue.Empty):
                    ready.get_nowait()
                thread.join(0.05)

    def state(self) -> Any:
        """State of the source, if it tells."""
        get = getattr(self.iterator, "get_state", None)
        return None if get is None else get()

    def _piece(self, steps: int, size: int) -> Piece:
        rows = []
        while len(rows) < steps * self.per_step:
            batch = self._next()
            if batch is None:
                break
            rows.append(batch)
        whole = len(rows) // self.per_step
        if not whole:
            return Piece(rows=None, steps=0, last=True, state=None)
        state = _packed(self.state()) if whole == steps else None
        padded = rows + [rows[-1]] * (size * self.per_step - len(rows))
        return Piece(jax.tree.map(lambda *v: np.stack(v), *padded), whole, whole < steps, state)

    def _next(self) -> PyTree | None:
        """The next batch, as arrays of the dtypes that JAX will use; None at the end of a source that ends."""
        if self.pending:
            return self.pending.pop()
        batch = self._drawn()
        if batch is None:
            return None
        form = _form(batch)
        self.form = form if self.form is None else self.form
        if form == self.form:
            return batch
        after = self._drawn(same=True)
        ragged = _smaller(form, self.form) and (after is None or after is _ANEW)
        but = f"yields one of {_told(form)} after others of {_told(self.form)}"
        checks.require(ragged, "batches", "yield batches of one form (except a smaller last one)", but)
        return None if after is None else self._next()

    def _drawn(self, *, same: bool = False) -> Any:
        """The next batch as it comes; None at the end; `_ANEW` where `same` and the source begins anew."""
        try:
            return _arrays(next(self.iterator), self.double)
        except StopIteration:
            if not self.again:
                return None
        self.iterator = iter(self.settings.source)
        if same:
            return _ANEW
        first = next(self.iterator, _ANEW)
        return None if first is _ANEW else _arrays(first, self.double)


_ANEW = object()
_SINGLE = {"float64": np.float32, "int64": np.int32, "uint64": np.uint32, "complex128": np.complex64}


def _draw(made: Iterator[Piece], ready: "queue.Queue[Any]", over: threading.Event) -> None:
    """Put the pieces into the queue; an error goes the same way."""
    try:
        for piece in made:
            if over.is_set():
                return
            ready.put(piece)
    except BaseException as error:  # raised again where the piece is taken
        ready.put(error)


def _taken(ready: "queue.Queue[Any]") -> Piece:
    found = ready.get()
    if isinstance(found, BaseException):
        raise found
    return found


def _arrays(batch: Any, double: bool) -> PyTree:  # noqa: FBT001
    """A batch as NumPy arrays of the dtypes that JAX will use."""

    def one(leaf: Any) -> np.ndarray:
        array = np.asarray(leaf)
        numbers = array.dtype.kind in "biufc" or jnp.issubdtype(array.dtype, jnp.floating)
        checks.require(numbers, "batches", "yield pytrees of numbers", f"yields a {type(leaf).__name__}")
        return np.asarray(array, array.dtype if double else _SINGLE.get(array.dtype.name, array.dtype))

    return jax.tree.map(one, batch)


def _form(batch: PyTree) -> Form:
    leaves, structure = jax.tree.flatten(batch)
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)


def _smaller(form: Form, usual: Form) -> bool:
    """Whether it differs by a shorter first axis alone."""
    same = form[0] == usual[0] and len(form[1]) == len(usual[1])
    return same and all(
        a[1] == b[1] and a[0][1:] == b[0][1:] and 0 < len(a[0]) == len(b[0]) and a[0][0] <= b[0][0]
        for a, b in zip(form[1], usual[1], strict=True)
    )


def _told(form: Form) -> str:
    return ", ".join(f"{dtype}{list(shape)}" for shape, dtype in form[1])


def _packed(state: Any) -> Any:
    """A source's state as JSON: bytes as text, everything else as it is."""
    return {"latin-1": state.decode("latin-1")} if isinstance(state, bytes) else state


def _unpacked(stored: Any) -> Any:
    coded = isinstance(stored, dict) and set(stored) == {"latin-1"}
    return stored["latin-1"].encode("latin-1") if coded else stored


def nth(data: PyTree, j: Any) -> PyTree:
    """The j-th batch of a run, of those that the chunk's piece holds."""
    return jax.tree.map(lambda v: v[j - data["first"]], data["rows"])
