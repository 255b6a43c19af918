"""A second call with other numbers, and with functions made anew, compiles nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from jaxkit import competition as comp

LOWERED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: (
        LOWERED.append(event) if event == "/jax/core/compile/jaxpr_to_mlir_module_duration" else None
    )
)


def fitted(c):
    data = comp.gause("paramecium caudatum")
    return comp.fit(dataclasses.replace(data, volume=data.volume * (1 + c)), starts=2)


def stable(c):
    return comp.Params(r=(0.1 + c, 0.3), N=(500.0, 1000 / 3 + c), a=(1e-4, 2e-4))


def bistable(c):
    return comp.Params(r=(1.0 + c, 1.0), N=(1.0, 1.0), a=(2.0, 2.0))


TS = jnp.array([0.0, 1.0, 2.0])
CALLS = {
    "simulate": lambda c: comp.simulate(stable(c), (100.0 + c, 150.0), TS + c),
    "event": lambda c: comp.simulate(stable(c), (100.0, 150.0), TS, event=lambda t, x, rates: x[0] - 101.0),
    "noisy": lambda c: comp.simulate_noisy(
        stable(c), (100.0, 150.0), TS * (1 + c), key=jax.random.key(int(1e6 * c)), individuals=1.0 + c
    ),
    "equilibria": lambda c: comp.equilibria(stable(c)),
    "lyapunov": lambda c: comp.lyapunov(stable(c))[0](TS[1:] + c),
    "dulac": lambda c: comp.dulac(stable(c))(TS[1:] + c),
    "separatrix": lambda c: comp.separatrix(bistable(c), knots=5),
    "basin": lambda c: comp.basin(bistable(c), TS[None, 1:] + c, horizon=40.0 + c),
    "outcome_map": lambda c: comp.outcome_map(bistable(c), TS + 1 + c, TS + 1),
    "branches": lambda c: comp.branches(stable(c), steps=4),
    "fit": fitted,
    "band": lambda c: comp.band(fitted(c), TS + 5),
    "profile": lambda c: comp.profile(fitted(c), "r", 0, points=2, span=1 + c),
}
SLOW = ("simulate", "event", "noisy", "branches", "fit", "band", "profile", "separatrix", "basin")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in CALLS])
def test_other_numbers_compile_nothing(name):
    for c in (0.0, 0.01):  # (the second one: arithmetic with other numbers)
        jax.block_until_ready(CALLS[name](c))
    before = len(LOWERED)
    jax.block_until_ready(CALLS[name](0.02))
    assert len(LOWERED) == before
