"""A second call with other numbers, and with functions made anew, compiles nothing."""

import jax
import jax.numpy as jnp
import pytest

import jaxkit as jk
from jaxkit import recurrent

LOWERED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: (
        LOWERED.append(event) if event == "/jax/core/compile/jaxpr_to_mlir_module_duration" else None
    )
)
METHODS = {
    "multistart": recurrent.Multistart(starts=2),
    "levenberg_marquardt": "levenberg_marquardt",
    "shooting": "shooting",
    "adam": recurrent.Adam(steps=5, learning_rate=0.01),
}


def inferred(method, rate, **options):
    """The rate of a decay, guessed at .1, from what was seen of it at a step that depends on the rate, too."""
    times = (1 + rate / 10) * jnp.array([0.0, 1.0, 2.0, 4.0])
    seen = times, 3 * jnp.exp(-rate * times)[:, None]
    decay = lambda t, x, p: -p["rate"] * x
    return recurrent.infer(decay, {"rate": 0.1 + rate / 10}, seen, dt=0.25 * (1 + rate / 10), method=method, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_other_data_compile_nothing(name):
    inferred(METHODS[name], 0.5), inferred(METHODS[name], 0.6)
    before = len(LOWERED)
    found = jax.block_until_ready(inferred(METHODS[name], 0.7))
    assert len(LOWERED) == before
    if name != "adam":
        assert float(found.params["rate"]) == pytest.approx(0.7, rel=1e-4)


def test_a_cell_made_anew_compiles_nothing():
    decay = lambda rate: jk.unroll(recurrent.from_field(lambda t, x, r: -r * x, dt=0.1), 1.0, args=rate, length=3).final
    decay(1.0)
    before = len(LOWERED)
    assert float(decay(2.0)) == pytest.approx(float(decay(1.0)) ** 2, rel=1e-4)
    assert len(LOWERED) == before
