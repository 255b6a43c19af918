"""fit, play, minibatches: equal to a loop written by hand, in chunks or in a trace; statuses; nothing donated."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxkit as jk
from jaxkit.learn.batches import minibatches

KEY = jax.random.key(3)
X = jax.random.normal(KEY, (24, 3))
Y = jnp.sin(X @ jnp.array([1.0, -2.0, 0.5]))
PARAMS = {"w": jnp.ones(3) / 3, "b": jnp.zeros(())}


def loss(params, batch):
    x, y = batch
    gap = jnp.tanh(x @ params["w"] + params["b"]) - y
    return jnp.mean(gap**2), {"worst": jnp.max(jnp.abs(gap))}


def noisy(params, batch, key):
    return jnp.mean((params["w"] - jax.random.normal(key, (3,))) ** 2) + loss(params, batch)[0]


def by_hand(value, params, batch_of, method, steps):
    """Python loop, one jitted step each."""
    state, history = method.init(params), []

    @jax.jit
    def step(params, state, i):
        cost, slope = jax.value_and_grad(value)(params, batch_of(i), i)
        with jax.numpy_dtype_promotion("standard"):
            moves, state = method.update(slope, state, params)
        return optax.apply_updates(params, moves), state, cost

    for i in range(steps):
        params, state, cost = step(params, state, jnp.asarray(i))
        history.append(cost)
    return params, state, jnp.stack(history)


def close(a, b, **kwargs):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **({"rtol": 1e-12, "atol": 1e-14} | kwargs)), a, b)


class TestFit:
    def test_equals_a_loop_written_by_hand(self):
        method, batches = optax.adam(0.05), minibatches((X, Y), 8, KEY)
        params, state, history = by_hand(lambda p, b, _: loss(p, b)[0], PARAMS, batches, method, 25)
        found = jk.fit(loss, PARAMS, batches, optimizer=method, steps=25, run=jk.Run(chunk=10)).checked()
        close((found.params, found.opt_state, found.history), (params, state, history))
        assert found.metrics["worst"].shape == (25,)
        assert int(found.steps) == 25

    def test_key_of_step_i_is_folded_in(self):
        method = optax.sgd(0.1)
        value = lambda p, b, i: noisy(p, b, jax.random.fold_in(KEY, i))
        params, _, history = by_hand(value, PARAMS, lambda i: (X, Y), method, 12)
        found = jk.fit(noisy, PARAMS, (X, Y), optimizer=method, steps=12, key=KEY, run=jk.Run(chunk=5))
        close((found.params, found.history), (params, history))

    def test_one_pure_program_inside_a_trace(self):
        run = lambda key: jk.fit(noisy, PARAMS, minibatches((X, Y), 8, key), steps=6, key=key, run=jk.Run(chunk=4))
        keys = jax.random.split(KEY, 3)
        together = jax.jit(jax.vmap(run))(keys)
        for lane in range(3):
            close(jax.tree.map(lambda v, lane=lane: v[lane], together), run(keys[lane]))
        # Descent of a quadratic: the derivative of where it ends with respect to where it starts.
        end = lambda p: jk.fit(lambda p, _: p**2, p, optimizer=optax.sgd(0.1), steps=5).params
        np.testing.assert_allclose(jax.grad(end)(1.0), 0.8**5, rtol=1e-12)
        with pytest.raises(
            ValueError, match="Argument `run` must ask nothing of the host inside a trace, but asks for progress"
        ):
            jax.jit(lambda p: jk.fit(lambda p, _: p**2, p, run=jk.Run(progress=True)).params)(1.0)

    def test_the_callers_arrays_are_not_donated(self):
        params = jnp.ones(3)
        first = jk.fit(lambda p, _: jnp.sum(p**2), params, steps=3, ema=0.9)
        again = jk.fit(lambda p, _: jnp.sum(p**2), first, steps=3, ema=0.9)
        assert not params.is_deleted()
        assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((first, again)))

    def test_average_of_the_weights(self):
        found = jk.fit(lambda p, _: p, 0.0, optimizer=optax.sgd(1.0), steps=3, ema=0.8)
        # Parameters -1, -2, -3, averaged from 0.
        np.testing.assert_allclose(found.ema, 0.8 * (0.8 * (0.2 * -1) + 0.2 * -2) + 0.2 * -3, rtol=1e-12)

    def test_average_whose_decay_follows_the_step(self):
        # Decay i / (i + 1) is the mean of all steps so far: here of -1, -2, -3, -4.
        mean = jk.fit(lambda p, _: p, 0.0, optimizer=optax.sgd(1.0), steps=4, ema=lambda i: i / (i + 1))
        np.testing.assert_allclose(mean.ema, -2.5, rtol=1e-12)

    def test_accumulated_gradients_are_those_of_the_whole_batch(self):
        whole = jk.fit(lambda p, b: loss(p, b)[0], PARAMS, (X, Y), optimizer=optax.sgd(0.1), steps=4)
        cut = jk.fit(lambda p, b: loss(p, b)[0], PARAMS, (X, Y), optimizer=optax.sgd(0.1), steps=4, accumulate=3)
        close((cut.params, cut.history), (whole.params, whole.history), rtol=1e-12)
        with pytest.raises(
            ValueError, match=r"Argument `batches` must have first axes divisible by 5, but has one of 24"
        ):
            jk.fit(loss, PARAMS, (X, Y), accumulate=5)

    def test_a_loss_that_stops_being_finite_is_a_status_with_the_step(self):
        falling = lambda p, _: (jnp.where(p < -2.5, jnp.nan, p), {"at": p})
        found = jk.fit(falling, 0.0, optimizer=optax.sgd(1.0), steps=20, run=jk.Run(chunk=4))
        assert (int(found.status), int(found.steps), float(found.params)) == (jk.Status.not_finite, 3, -3.0)
        np.testing.assert_array_equal(found.history[:4], [0.0, -1.0, -2.0, np.nan])
        assert np.isnan(found.history[4:]).all()
        with pytest.raises(jk.SolverError, match="fit: not_finite"):
            found.checked()
        # A gradient that is not finite moves nothing either.
        root = jk.fit(lambda p, _: jnp.sqrt(jnp.abs(p)), 0.0, optimizer=optax.sgd(1.0), steps=3)
        assert (int(root.status), float(root.params)) == (jk.Status.not_finite, 0.0)

    @pytest.mark.parametrize(
        "method", [optax.lion(0.1), optax.sign_sgd(0.1), optax.chain(optax.clip(1.0), optax.sgd(0.1))]
    )
    def test_no_optimizer_hides_an_infinite_gradient(self, method):
        steep = lambda p, _: jnp.sum(jnp.sqrt(jnp.maximum(p, 0)))  # at 0 its slope is infinite, its value is not
        found = jk.fit(steep, jnp.asarray([0.25, 9.0]), optimizer=method, steps=20, run=jk.Run(chunk=8))
        assert int(found.status) == jk.Status.not_finite or bool(jnp.all(found.params > 0))
        root = lambda p, _: jnp.sum(jnp.sqrt(jnp.abs(p)))
        found = jk.fit(root, jnp.zeros(2), optimizer=method, steps=3)
        assert (int(found.status), int(found.steps)) == (jk.Status.not_finite, 0)

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
    def test_the_average_of_short_numbers_does_not_stand_still(self, dtype):
        start = jnp.zeros((), dtype)
        drift = lambda p, _: 0 * p
        still = jk.fit(drift, start + 1, optimizer=optax.sgd(0.0), steps=1, ema=0.999)
        moved = jk.fit(
            drift, dataclasses.replace(still, ema=jnp.zeros(())), optimizer=optax.sgd(0.0), steps=3000, ema=0.999
        )
        assert moved.params.dtype == dtype
        np.testing.assert_allclose(moved.ema, 1 - 0.999**3000, rtol=1e-3)

    @pytest.mark.parametrize("ema", [None, 0.9])
    def test_going_on_from_a_fit_is_one_long_fit(self, ema):
        options = {"optimizer": optax.adam(optax.cosine_decay_schedule(0.1, 12)), "key": KEY, "ema": ema}
        batches = minibatches((X, Y), 8, KEY)

        def seen(p, batch, key, carry):
            return noisy(p, batch, key), {"at": carry}, carry + 1

        whole = jk.fit(seen, PARAMS, batches, steps=12, carry=0, **options)
        half = jk.fit(seen, PARAMS, batches, steps=5, carry=0, **options)
        rest = jk.fit(seen, half, batches, steps=7, run=jk.Run(chunk=3), **options)
        close((rest.params, rest.ema, rest.opt_state), (whole.params, whole.ema, whole.opt_state))
        close(rest.history, whole.history[5:])
        np.testing.assert_array_equal(rest.metrics["at"], range(5, 12))
        assert int(rest.steps) == 12
        falls = lambda p, _: jnp.where(p < -6.5, jnp.nan, p)
        first = jk.fit(falls, 0.0, optimizer=optax.sgd(1.0), steps=4)
        second = jk.fit(falls, first, optimizer=optax.sgd(1.0), steps=9, run=jk.Run(chunk=2))
        assert np.isfinite(second.history).tolist() == [True] * 3 + [False] * 6

    def test_optimizers_that_ask_for_the_value_or_its_function(self):
        bowl = lambda p, b: jnp.sum((p - 3.0) ** 2 * jnp.array([1.0, 100.0])) + 0 * jnp.sum(b)
        for parts in (1, 3):
            quick = jk.fit(bowl, jnp.zeros(2), X, optimizer=optax.lbfgs(), steps=20, accumulate=parts).checked()
            np.testing.assert_allclose(quick.params, 3.0, rtol=1e-8)
        patient = optax.chain(optax.sgd(1e-3), optax.contrib.reduce_on_plateau(patience=2))
        jk.fit(bowl, jnp.zeros(2), X, optimizer=patient, steps=20, run=jk.Run(chunk=7)).checked()
        both = {"a": lambda p, *_: (p["a"] - p["b"]) ** 2, "b": lambda p, *_: (p["b"] - 2) ** 2}
        methods = {"a": optax.lbfgs(), "b": optax.polyak_sgd()}
        end = jk.play(both, {"a": 0.0, "b": 0.0}, optimizers=methods, steps=30, key=KEY).checked()
        np.testing.assert_allclose((end.players["a"], end.players["b"]), 2.0, rtol=1e-4)

    def test_on_several_devices(self):
        batches = minibatches((X, Y), 8, KEY)
        one, two = (
            jk.fit(loss, PARAMS, batches, optimizer=optax.adam(0.05), steps=9, run=jk.Run(chunk=4, devices=d))
            for d in (None, jax.devices()[:2])
        )
        close((two.params, two.history), (one.params, one.history), rtol=1e-10)

    def test_arguments(self):
        with pytest.raises(ValueError, match="Argument `loss` must return a scalar, but returns shape"):
            jk.fit(lambda p, _: p, jnp.zeros(2))
        with pytest.raises(ValueError, match="Argument `ema` must lie in"):
            jk.fit(lambda p, _: p, 0.0, ema=1.0)
        with pytest.raises(ValueError, match="Argument `steps` must be positive"):
            jk.fit(lambda p, _: p, 0.0, steps=0)


DUEL = {"x": lambda p, *_: p["x"] * p["y"], "y": lambda p, *_: -p["x"] * p["y"]}
START = {"x": jnp.array(1.0), "y": jnp.array(0.0)}
SGD = {"x": optax.sgd(0.1), "y": optax.sgd(0.1)}


class TestCarry:
    """State that is no parameter goes from step to step through the loss."""

    def test_goes_from_step_to_step_and_is_no_parameter(self):
        def loss(p, _, key, carry):
            assert key is None
            return p * carry["mean"], {"seen": carry["n"]}, {"mean": 0.5 * (carry["mean"] + p), "n": carry["n"] + 1}

        start = {"mean": 3.0, "n": 0}
        found = jk.fit(loss, 1.0, optimizer=optax.sgd(0.1), steps=5, carry=start, run=jk.Run(chunk=2)).checked()
        p, mean = 1.0, 3.0
        for _ in range(5):
            p, mean = p - 0.1 * mean, 0.5 * (mean + p)  # the slope is the carry itself: nothing flows through it
        close((found.params, found.carry["mean"]), (p, mean))
        assert int(found.carry["n"]) == 5
        np.testing.assert_array_equal(found.metrics["seen"], range(5))

    def test_goes_through_the_parts_of_a_step_each_with_its_own_key(self):
        """Each accumulated part draws with a key of its own; the carry collects what they drew."""

        def loss(p, batch, key, carry):
            drawn = jax.random.normal(key)
            return p * batch[0] * drawn, {"drawn": drawn}, jnp.roll(carry, 1).at[0].set(drawn)

        batches = jnp.arange(1.0, 4.0)
        options = {"optimizer": optax.sgd(1.0), "steps": 2, "key": KEY, "accumulate": 3, "carry": jnp.zeros(6)}
        found = jk.fit(loss, 0.0, batches, **options).checked()
        keys = [jax.random.fold_in(jax.random.fold_in(KEY, i), j) for i in range(2) for j in range(3)]
        drawn = np.array([jax.random.normal(k) for k in keys])
        np.testing.assert_allclose(found.carry, drawn[::-1], rtol=1e-12)
        np.testing.assert_allclose(found.params, -np.mean(drawn.reshape(2, 3) * np.arange(1, 4), 1).sum(), rtol=1e-12)
        np.testing.assert_allclose(found.metrics["drawn"], drawn.reshape(2, 3).mean(1), rtol=1e-12)

    @pytest.mark.parametrize("mapped", [False, True])
    def test_a_step_that_fails_keeps_the_old_one(self, mapped):
        loss = lambda p, _, key, n: (jnp.where(n == 3, jnp.nan, p), {}, n + 1)
        run = lambda p: jk.fit(loss, p, optimizer=optax.sgd(1.0), steps=8, carry=0)
        found = jax.tree.map(lambda v: v[0], jax.vmap(run)(jnp.zeros(1))) if mapped else run(0.0)
        assert int(found.status) == jk.Status.not_finite
        assert (int(found.steps), int(found.carry), float(found.params)) == (3, 3, -3.0)
        root = lambda p, _, key, n: (jnp.sqrt(jnp.abs(p)), {}, n + 1)  # finite at 0, where its slope is not
        assert int(jk.fit(root, 0.0, optimizer=optax.sgd(1.0), steps=3, carry=0).carry) == 0

    def test_players_hand_it_on(self):
        losses = {
            "a": lambda p, _, key, seen: (p["a"], {"seen": seen}, 10 * seen + 1),
            "b": lambda p, _, key, seen: (p["b"], {"seen": seen}, 10 * seen + 2),
            "c": lambda p, _, key, seen: (p["c"], {"seen": seen}),  # only looks
        }
        start = dict.fromkeys(losses, 0.0)
        methods = dict.fromkeys(losses, optax.sgd(1.0))
        run = lambda **k: jk.play(losses, start, optimizers=methods, steps=2, key=KEY, carry=0, **k).checked()
        found = run(turns={"a": 2})
        assert int(found.carry) == 112112
        assert [int(found.metrics[name]["seen"][1]) for name in losses] == [1121, 11211, 112112]
        assert int(run(turns="simultaneous").carry) == 1212
        falls = losses | {"b": lambda p, _, key, seen: (jnp.where(seen > 100, jnp.nan, p["b"]), {}, 10 * seen + 2)}
        end = jk.play(falls, start, optimizers=methods, steps=4, key=KEY, carry=0)
        assert (int(end.carry), int(end.steps), float(end.players["a"]), float(end.players["b"])) == (
            121,
            1,
            -2.0,
            -1.0,
        )

    def test_must_come_back_as_it_went(self):
        for carry, message in (((0.0, 1.0), "return a carry like the one"), (jnp.zeros(2), "return a carry like the")):
            with pytest.raises(ValueError, match=message):
                jk.fit(lambda p, _, key, c, new=carry: (p, {}, new), 0.0, steps=1, carry=0.0)
        with pytest.raises(ValueError, match="return a carry like the one it is given"):
            jk.fit(lambda p, _: (p, {}, 1.0), 0.0, steps=1)


class TestPlay:
    def test_at_once_is_one_matrix(self):
        end = jk.play(
            DUEL, START, optimizers=SGD, steps=7, key=KEY, turns="simultaneous", run=jk.Run(chunk=3)
        ).checked()
        wanted = np.linalg.matrix_power(np.array([[1, -0.1], [0.1, 1]]), 7) @ [1.0, 0.0]
        close((end.players["x"], end.players["y"]), tuple(wanted))

    def test_in_turn_with_repeats(self):
        end = jk.play(
            DUEL, START, optimizers=SGD, steps=5, key=KEY, turns={"y": 3}, ema={"y": 0.8}, run=jk.Run(chunk=2)
        )
        first, second = np.array([[1, -0.1], [0, 1]]), np.array([[1, 0], [0.3, 1]])
        wanted, average = np.array([1.0, 0.0]), 0.0
        for _ in range(5):
            wanted = second @ first @ wanted
            average = 0.8 * average + 0.2 * wanted[1]
        close((end.players["x"], end.players["y"], end.ema), (*wanted, {"y": average}))

    def test_batches_and_keys_of_the_updates(self):
        watch = lambda p, batch, key: (0.0 * p["a"] * p["b"], {"batch": batch, "bits": jax.random.bits(key)})
        both = {"a": jnp.array(0.0), "b": jnp.array(0.0)}
        method = {"a": optax.sgd(1.0), "b": optax.sgd(1.0)}
        run = lambda **k: jk.play({"a": watch, "b": watch}, both, lambda i: i, optimizers=method, steps=3, key=KEY, **k)
        turns, once = run(turns={"a": 2}).metrics, run(turns="simultaneous").metrics
        np.testing.assert_array_equal(turns["a"]["batch"], [1, 4, 7])
        np.testing.assert_array_equal(turns["b"]["batch"], [2, 5, 8])
        np.testing.assert_array_equal(once["b"]["batch"], [0, 1, 2])
        np.testing.assert_array_equal(once["a"]["bits"], once["b"]["bits"])
        expected = [jax.random.bits(jax.random.fold_in(jax.random.fold_in(KEY, i), 2)) for i in range(3)]
        np.testing.assert_array_equal(turns["b"]["bits"], expected)

    def test_going_on_from_a_play_is_one_long_play(self):
        losses = {"x": lambda p, b, key: (p["x"] - p["y"] - b) ** 2 + jax.random.normal(key) * p["x"], "y": DUEL["y"]}
        options = {"optimizers": SGD, "key": KEY, "turns": {"y": 2}, "ema": {"x": 0.5}}
        run = lambda start, steps: jk.play(losses, start, lambda i: jnp.sin(i.astype(float)), steps=steps, **options)
        whole, rest = run(START, 9), run(run(START, 4), 5)
        close((rest.players, rest.ema, rest.history["x"]), (whole.players, whole.ema, whole.history["x"][4:]))

    def test_vmaps_over_seeds(self):
        losses = {"x": lambda p, _, key: (p["x"] - p["y"] - jax.random.normal(key)) ** 2, "y": DUEL["y"]}
        run = lambda key: jk.play(losses, START, optimizers=SGD, steps=4, key=key)
        keys = jax.random.split(KEY, 2)
        together = jax.vmap(run)(keys)
        close(jax.tree.map(lambda v: v[1], together), run(keys[1]))

    def test_arguments(self):
        with pytest.raises(ValueError, match=r"Argument `optimizers` must have the keys \['x', 'y'\], but has \['x'\]"):
            jk.play(DUEL, START, optimizers={"x": optax.sgd(0.1)}, steps=1, key=KEY)
        for turns, sentence in (
            ("together", "must be 'alternating', 'simultaneous' or updates by player, but is 'together'"),
            ({"x": 0}, "must be positive, but contains 0"),
            ({"z": 2}, r"must have keys of \['x', 'y'\], but has"),
        ):
            with pytest.raises(ValueError, match="Argument `turns` " + sentence):
                jk.play(DUEL, START, optimizers=SGD, steps=1, key=KEY, turns=turns)


class TestMinibatches:
    @pytest.mark.parametrize(("length", "size"), [(1, 1), (2, 1), (10, 3), (64, 8), (1000, 7)])
    def test_an_epoch_is_a_permutation(self, length, size):
        batches = minibatches({"n": np.arange(length, dtype=np.int32)}, size, KEY)
        rows = jax.vmap(batches)(jnp.arange(2 * batches.per_epoch))["n"]
        epochs = rows.reshape(2, -1)
        for epoch in epochs:
            assert len(set(epoch.tolist())) == batches.per_epoch * size
            assert set(epoch.tolist()) <= set(range(length))
        if length > 60:
            assert (epochs[0] != epochs[1]).any()

    def test_rows_are_drawn_alike(self):
        # 2000 epochs of 7 batches of 1 out of 7: each value at each position about 286 times; chi2 with 36 degrees.
        batches = minibatches(jnp.arange(7), 1, KEY)
        rows = jax.jit(jax.vmap(batches))(jnp.arange(14_000)).reshape(2000, 7)
        counts = np.stack([np.bincount(rows[:, k], minlength=7) for k in range(7)])
        assert np.sum((counts - 2000 / 7) ** 2 / (2000 / 7)) < 75  # 0.9999 quantile of chi2(36) is 76

    def test_bytes_stay_bytes_and_bad_sizes_are_refused(self):
        images = np.zeros((5, 2, 2), np.uint8)
        assert minibatches(images, 2, KEY)(0).dtype == jnp.uint8
        with pytest.raises(ValueError, match=r"Argument `size` must lie in 1..5, but is 6"):
            minibatches(images, 6, KEY)
        with pytest.raises(ValueError, match="Argument `data` must have one leading axis"):
            minibatches((images, images[:2]), 2, KEY)


def test_a_known_key_may_be_used_inside_a_trace(key):
    loss = lambda p, _, key: jnp.sum((p - jax.random.normal(key)) ** 2)
    run = lambda start: jk.fit(loss, start, key=key, steps=3).params
    np.testing.assert_allclose(jax.jit(run)(jnp.zeros(2)), run(jnp.zeros(2)), rtol=1e-12)
