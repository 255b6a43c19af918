"""Batches that the host makes: the same fit as from arrays, read ahead, resumed, and ended with a word."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxkit as jk

KEY = jax.random.key(5)
ROWS = np.random.default_rng(0).normal(size=(40, 3))
ADAM = optax.adam(0.05)


def loss(params, batch):
    return jnp.mean(((batch - params[None]) ** 2) @ jnp.arange(1.0, 4.0))


def generator(count=None, rows=ROWS):
    i = 0
    while count is None or i < count:
        yield rows[(4 * i) % 40 : (4 * i) % 40 + 4]
        i += 1


def of_step(i):
    return jax.lax.dynamic_slice(jnp.asarray(ROWS), ((4 * i) % 40, 0), (4, 3))


def fitted(batches, steps=23, **options):
    return jk.fit(loss, jnp.zeros(3), batches, optimizer=ADAM, steps=steps, run=jk.Run(chunk=5), **options)


def same(a, b):
    np.testing.assert_allclose(a.params, b.params, rtol=1e-13)
    np.testing.assert_allclose(a.history, b.history, rtol=1e-13)


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_a_generator_fits_as_a_function_of_the_step(ahead):
    found = fitted(jk.learn.HostBatches(generator(), ahead=ahead)).checked()
    same(found, fitted(of_step).checked())


def test_accumulated_batches_and_an_earlier_fit():
    batches = generator()
    first = fitted(batches, 10, accumulate=2)
    second = jk.fit(loss, first, batches, optimizer=ADAM, steps=7, accumulate=2, run=jk.Run(chunk=5))
    whole = fitted(of_step, 17, accumulate=2)
    np.testing.assert_allclose(second.checked().params, whole.params, rtol=1e-13)


def test_players_draw_in_turn():
    losses = {"a": lambda p, b, _: loss(p["a"], b), "b": lambda p, b, _: loss(p["b"], b + p["a"][None])}
    start, ways = {"a": jnp.zeros(3), "b": jnp.ones(3)}, {"a": ADAM, "b": ADAM}
    play = lambda batches: jk.play(
        losses, start, batches, optimizers=ways, steps=9, key=KEY, turns={"a": 2}, run=jk.Run(chunk=4)
    )
    found, wanted = play(generator()).checked(), play(of_step).checked()
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-13), found.players, wanted.players)


def test_an_iterator_that_ends_is_not_ok_and_loses_nothing():
    found = fitted(generator(12))
    assert found.status == jk.Status.out_of_batches
    assert int(found.steps) == 12
    assert np.isfinite(np.asarray(found.history)).sum() == 12
    np.testing.assert_allclose(found.params, fitted(of_step, 12).params, rtol=1e-13)
    with pytest.raises(jk.SolverError, match="came to an end"):
        found.checked()
    assert fitted(generator(23)).ok


class Epochs:
    """A loader that can be iterated again; its last batch is smaller."""

    def __iter__(self):
        return (ROWS[i : i + 12] for i in range(0, 40, 12))


def test_a_loader_begins_anew_and_its_smaller_last_batch_is_skipped():
    whole = jnp.asarray(ROWS[:36].reshape(3, 12, 3))
    same(fitted(Epochs()).checked(), fitted(lambda i: whole[i % 3]).checked())
    assert fitted(iter(Epochs()), 3).ok
    assert fitted(iter(Epochs()), 4).status == jk.Status.out_of_batches


def test_what_is_no_batch_is_said():
    with pytest.raises(ValueError, match=r"`batches` must yield batches of one form .*4, 2\] after"):
        fitted(iter([ROWS[:4], ROWS[:4, :2], ROWS[:4]]))
    with pytest.raises(ValueError, match="`batches` must yield at least one batch"):
        fitted(iter([]))
    with pytest.raises(ValueError, match="`batches` must yield pytrees of numbers, but yields a str"):
        fitted(iter(["a"]))
    with pytest.raises(ValueError, match="`batches` must be arrays or a function of the step inside a trace"):
        jax.jit(lambda p: jk.fit(loss, p, generator(), steps=3).params)(jnp.zeros(3))
    with pytest.raises(ValueError, match="`ahead` must not be negative"):
        jk.learn.HostBatches(generator(), ahead=-1)


def test_an_error_of_the_source_reaches_the_caller_and_no_thread_stays():
    def broken():
        yield from generator(8)
        raise OSError("the disk is gone")

    before = threading.active_count()
    with pytest.raises(OSError, match="the disk is gone"):
        fitted(broken())
    fitted(jk.learn.HostBatches(generator(), ahead=4), 5)
    stopped = jk.Run(chunk=2, callback=lambda step, _: step >= 4)
    end = jk.fit(loss, jnp.zeros(3), generator(), optimizer=ADAM, steps=1000, run=stopped)
    assert end.ok
    assert int(end.steps) == 4
    assert threading.active_count() == before


def test_batches_are_those_of_minibatches_of_a_file_on_disk(tmp_path):
    np.save(tmp_path / "rows.npy", ROWS)
    data = {"x": np.load(tmp_path / "rows.npy", mmap_mode="r")}
    loss_of = lambda p, batch: loss(p, batch["x"])
    of = lambda batches: jk.fit(loss_of, jnp.zeros(3), batches, optimizer=ADAM, steps=90, run=jk.Run(chunk=20))
    same(of(jk.learn.host_minibatches(data, 6, KEY)), of(jk.learn.minibatches({"x": jnp.asarray(ROWS)}, 6, KEY)))


@pytest.mark.parametrize("told", [True, False], ids=["state", "drawn again"])
def test_resumed_from_a_checkpoint(tmp_path, told):
    drawn = []

    def counted():
        for i, batch in enumerate(generator()):
            drawn.append(i)
            yield batch

    source = lambda: jk.learn.host_minibatches(ROWS, 4, KEY) if told else counted()
    run = lambda **more: jk.Run(chunk=5, checkpoint=tmp_path, **more)
    go = lambda steps, run: jk.fit(loss, jnp.zeros(3), source(), optimizer=ADAM, steps=steps, run=run)
    go(10, run())
    end = go(23, run(resume=True))
    same(end.checked(), fitted(source(), 23))
    if not told:
        assert drawn.count(0) == 3


def test_the_memory_of_a_chunk_is_bounded():
    sizes = []
    watched = lambda step, state: sizes.append(int(state.steps))
    one = 3 * 4 * ROWS.itemsize / 2**20
    jk.fit(
        loss, jnp.zeros(3), jk.learn.HostBatches(generator(), megabytes=2.5 * one), optimizer=ADAM, steps=5,
        run=jk.Run(chunk=200, callback=watched),
    )  # fmt: skip
    assert sizes == [2, 4, 5]


def test_loaders_of_grain():
    grain = pytest.importorskip("grain.python", reason="grain is not installed")
    data = grain.MapDataset.source(ROWS).batch(4).repeat()
    same(fitted(data.to_iter_dataset()).checked(), fitted(of_step).checked())
