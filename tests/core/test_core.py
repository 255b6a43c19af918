"""core: outcomes, structs, checks, safe numerics, environment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit as jk
from jaxkit.core import checks
from jaxkit.core.environment import data_root, versions
from jaxkit.core.numerics import safe_divide, safe_log, safe_norm, safe_sqrt
from jaxkit.core.status import Outcome, worst
from jaxkit.core.struct import static, struct


@struct
class Lanes(Outcome):
    """A result with a status."""

    verb = "try"

    value: jax.Array
    status: jax.Array
    label: str = static(default="x")


class TestStatus:
    def test_every_code_has_its_own_sentence(self):
        sentences = [status.sentence for status in jk.Status]
        assert len(set(sentences)) == len(sentences)
        assert all(sentence.endswith(".") for sentence in sentences)
        assert [int(status) for status in jk.Status] == list(range(len(jk.Status)))

    def test_checked_returns_itself_when_fine(self):
        lanes = Lanes(jnp.zeros(3), jnp.zeros(3, int))
        assert lanes.checked() is lanes
        assert bool(lanes.ok.all())

    def test_checked_counts_and_locates(self):
        lanes = Lanes(jnp.arange(4.0), jnp.array([0, 0, 2, 1]))
        with pytest.raises(jk.SolverError, match=r"try: not_finite \(2 of 4 lanes failed, the first at index 2\)") as e:
            lanes.checked()
        assert e.value.solution is lanes

    def test_checked_locates_in_two_dimensions(self):
        with pytest.raises(jk.SolverError, match=r"the first at index \(1, 0\)"):
            Lanes(jnp.zeros((2, 2)), jnp.array([[0, 0], [3, 0]])).checked()

    def test_scalar_sentence_has_no_count(self):
        with pytest.raises(jk.SolverError, match=r"^try: max_steps: "):
            Lanes(jnp.zeros(()), jnp.asarray(1)).checked()

    def test_worst_keeps_the_first_failure(self):
        assert worst(jnp.array([0, 2, 0]), jnp.array([1, 3, 0])).tolist() == [1, 2, 0]


class TestStruct:
    def test_static_fields_are_structure(self):
        lanes = Lanes(jnp.zeros(2), jnp.zeros(2, int), "a")
        assert len(jax.tree.leaves(lanes)) == 2
        assert jax.tree.structure(lanes) != jax.tree.structure(Lanes(jnp.zeros(2), jnp.zeros(2, int), "b"))

    def test_frozen(self):
        with pytest.raises(AttributeError):
            Lanes(jnp.zeros(2), jnp.zeros(2, int)).value = 1

    def test_vmaps(self):
        out = jax.vmap(lambda v: Lanes(v, jnp.asarray(0)))(jnp.arange(3.0))
        assert out.value.shape == (3,)


class TestChecks:
    @pytest.mark.parametrize(
        ("call", "sentence"),
        [
            (
                lambda: checks.shape("x0", jnp.zeros(3), (2,)),
                r"Argument `x0` must have shape \(2,\), but has shape \(3,\).",
            ),
            (
                lambda: checks.shape("A", jnp.zeros((2, 3)), ("n", "n")),
                r"must have shape \(n, n\), but has shape \(2, 3\)",
            ),
            (
                lambda: checks.finite("x", jnp.array([1.0, jnp.nan])),
                "Argument `x` must be finite, but has nan at index 1.",
            ),
            (lambda: checks.positive("r", jnp.array([1.0, -2.0])), "Argument `r` must be positive, but contains -2."),
            (lambda: checks.positive("r", -1.0, strict=False), "must not be negative, but contains -1."),
            (
                lambda: checks.increasing("ts", jnp.array([0.0, 2.0, 2.0])),
                r"must increase strictly, but ts\[2\] <= ts\[1\]",
            ),
            (lambda: checks.one_of("m", "z", ["a", "b"]), "must be one of 'a', 'b', but is 'z'."),
            (lambda: checks.floating("x", "word"), "must be a number or an array of numbers, but is 'word'."),
            (lambda: checks.floating("x", 1j), "must be real, but is complex."),
            (lambda: checks.structure("v", (1.0,), 1.0, of="the state"), "must have the structure of the state"),
        ],
    )
    def test_one_sentence_pattern(self, call, sentence):
        with pytest.raises(ValueError, match=sentence) as error:
            call()
        assert str(error.value).startswith("Argument `")
        assert "\n" not in str(error.value)

    def test_values_are_not_checked_under_a_trace(self):
        jax.jit(lambda x: checks.positive("x", x) or x)(jnp.array(-1.0))
        with pytest.raises(ValueError, match="shape"):
            jax.jit(lambda x: checks.shape("x", x, (2,)) or x)(jnp.zeros(3))

    def test_floating_keeps_single_precision(self):
        assert checks.floating("x", jnp.zeros(2, jnp.float32)).dtype == jnp.float32
        assert checks.floating("x", [1, 2]).dtype == jnp.float64

    def test_large_whole_numbers_keep_their_value_in_single_precision(self):
        with jax.enable_x64(False):
            assert checks.floating("ts", np.array([0, 3_000_000_000]))[1] == 3e9
            assert checks.floating("ts", [0, 3_000_000_000])[1] == 3e9
            with pytest.raises(ValueError, match="within int32"):
                jk.root(lambda x, a: x - a, 1.0, np.int64(3_000_000_000))
            with pytest.raises(ValueError, match="within int32"):
                jk.learn.minibatches(np.full(4, 3_000_000_000), 2, jax.random.key(0))
            assert jk.newton.polynomial_roots(np.array([1, -3_000_000_000])).value == 3e9


class TestNumerics:
    @pytest.mark.parametrize("fn", [safe_sqrt, safe_log, lambda x: safe_norm(x[None]), lambda x: safe_divide(1.0, x)])
    def test_gradient_at_zero_is_finite(self, fn):
        assert np.isfinite(jax.grad(fn)(0.0))
        assert np.isfinite(jax.jvp(fn, (0.0,), (1.0,))[1])

    def test_values_elsewhere(self):
        x = jnp.array([0.5, 2.0])
        np.testing.assert_allclose(safe_sqrt(x), np.sqrt(x), rtol=1e-15)
        np.testing.assert_allclose(safe_log(x), np.log(x), rtol=1e-15)
        np.testing.assert_allclose(safe_divide(1.0, x), 1 / x, rtol=1e-15)
        np.testing.assert_allclose(jax.grad(safe_norm)(jnp.array([3.0, 4.0])), [0.6, 0.8], rtol=1e-15)


class TestEnvironment:
    def test_precision(self):
        with pytest.raises(ValueError, match="must be one of 'single', 'double'"):
            jk.set_precision("half")

    def test_data_root_follows_the_variable(self, monkeypatch, tmp_path):
        monkeypatch.setenv("JAXKIT_DATA", str(tmp_path))
        assert data_root() == tmp_path

    def test_versions(self):
        assert versions()["jax"] == jax.__version__


def test_positive_takes_integers():
    checks.positive("n", 3)
    with pytest.raises(ValueError, match="Argument `n` must be positive, but contains -2"):
        checks.positive("n", [1, -2])


def test_run_checks_its_values():
    run = jk.Run(chunk=50, callback=[lambda *_: None, lambda *_: True], devices=[0])
    assert run.chunk == 50
    assert len(run.callbacks) == 2
    assert run.asked() == ["devices", "callback"]
    assert jk.Run().asked() == []
    for bad, sentence in (
        ({"chunk": 0}, "`chunk` must be a positive integer, but is 0"),
        ({"keep": 1.5}, "`keep` must be a positive integer, but is 1.5"),
        ({"resume": True}, "`checkpoint` must be a folder to resume from, but is None"),
        ({"devices": []}, "`devices` must not be empty"),
        ({"callback": 3}, "`callback` must be callable"),
    ):
        with pytest.raises(ValueError, match=sentence):
            jk.Run(**bad)
