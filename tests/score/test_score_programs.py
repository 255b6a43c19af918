"""A second call of a model, with other numbers or made anew, compiles nothing."""

import jax
import jax.numpy as jnp
import pytest

import jaxkit as jk

LOWERED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: (
        LOWERED.append(event) if event == "/jax/core/compile/jaxpr_to_mlir_module_duration" else None
    )
)


def model(c):
    return jk.score.exact(jk.models.mixture([[0.0, c], [2.0, 0.0]], 1.0 + c))


CALLS = {
    name: (lambda c, n=name: model(c).sample(jax.random.key(int(9 * c)), 3, sampler=n)) for name in jk.score.SAMPLERS
}
CALLS |= {
    "log_prob": lambda c: model(c).log_prob(jnp.ones((2, 2)) + c),
    "probes": lambda c: model(c).log_prob(
        jnp.ones((2, 2)) + c, flow=jk.score.ProbabilityFlow(trace=2), key=jax.random.key(int(9 * c))
    ),
    "encode": lambda c: model(c).encode(jnp.ones((2, 2)) + c),
    "decode": lambda c: model(c).decode(jnp.ones((2, 2)) + c),
    "guided": lambda c: jk.score.condition(model(c), lambda x: x[:, 1:], jnp.array([[c]])).sample(jax.random.key(1), 3),
}
QUICK = ("heun", "ddim")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in CALLS])
def test_other_numbers_compile_nothing(name):
    first = CALLS[name](0.0)
    CALLS[name](0.5)  # (arithmetic with other numbers)
    before = len(LOWERED)
    other = jax.block_until_ready(CALLS[name](1.0))
    assert len(LOWERED) == before
    assert not jnp.array_equal(jax.tree.leaves(first)[0], jax.tree.leaves(other)[0])
