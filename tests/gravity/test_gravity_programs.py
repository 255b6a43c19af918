"""A second call with other numbers, and with a metric made anew, compiles nothing."""

import jax
import jax.numpy as jnp
import pytest

from jaxkit import gravity

LOWERED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: (
        LOWERED.append(event) if event == "/jax/core/compile/jaxpr_to_mlir_module_duration" else None
    )
)


def own(c):
    """Schwarzschild's metric from a new function, with a radius of 2 + c."""
    at = lambda x, p: jnp.array(
        [p["edge"] / x[1] - 1, 1 / (1 - p["edge"] / x[1]), x[1] ** 2, (x[1] * jnp.sin(x[2])) ** 2]
    )
    return gravity.from_function(lambda x, p: jnp.diag(at(x, p)), {"edge": 2.0 + c})


METRICS = {
    "schwarzschild": lambda c: gravity.schwarzschild(1 + c),
    "kerr": lambda c: gravity.kerr(a=0.5 + c),
    "own": own,
}
AT = jnp.array([0.0, 10.0, jnp.pi / 2, 0.0])
MOMENTUM = jnp.array([-1.0, -0.9, 0.0, 3.0])
CALLS = {
    "horizon": lambda m, c: gravity.horizon(m),
    "horizons": lambda m, c: gravity.horizons(m, search=(1.0 + c, 20.0)),
    "temperature": lambda m, c: gravity.hawking_temperature(m),
    "photon": lambda m, c: gravity.photon_sphere(m),
    "isco": lambda m, c: gravity.isco(m),
    "shadow": lambda m, c: gravity.shadow_radius(m),
    "strong": lambda m, c: gravity.strong_field(m),
    "deflection": lambda m, c: gravity.deflection(m, b=10.0 + c),
    "precession": lambda m, c: gravity.precession(m, p=20.0 + c, e=0.3),
    "shapiro": lambda m, c: gravity.shapiro(m, r0=10.0 + c, r1=100.0),
    "trace": lambda m, c: gravity.trace(m, AT[None], MOMENTUM[None], 1.0 + c, method="tsit5"),
    "long_run": lambda m, c: gravity.long_run(m, AT, MOMENTUM, step=0.1 + c, steps=2),
    "image": lambda m, c: gravity.image(m, pixels=2, inclination=80.0 + c),
    "curvature": lambda m, c: gravity.curvature(m)(AT + c),
    "curvatures": lambda m, c: gravity.curvatures(m, lambda k: k.scalar)(AT[None] + c),
    "field_equations": lambda m, c: gravity.field_equations(lambda k, p: k.scalar, m, moving=[1])(AT + c),
}  # fmt: skip
ALONE = {
    "critical_curve": lambda c: gravity.critical_curve_kerr(0.5 + c, points=8),
    "solve_static": lambda c: gravity.solve_static(
        lambda r, f, df, n, p: n * (p - f - r * df), (3.0 + c, 9.0), 1.0, inner=0.3 + c, nodes=6
    ),
    "field_residual": lambda c: gravity.field_residual(
        gravity.kehagias_sfetsos(1.0 + c), gravity.reduced_lagrangian, {**gravity.COUPLINGS, "omega": 1.0 + c}, AT[1:2]
    ),
    "fit_metric": lambda c: gravity.fit_metric(
        gravity.schwarzschild(1 + c),
        lambda m, p, r: m.time(r, p),
        {"M": 1 + c},
        (AT[:2] + 9, AT[:2] / 9 + c, AT[:2] + 1),
    ),
}


def lowered(call):
    before = len(LOWERED)
    found = jax.block_until_ready(call())
    return len(LOWERED) - before, found


STATIC = ("shadow", "strong", "deflection", "precession", "shapiro")
PAIRS = [(name, kind) for name in CALLS for kind in METRICS if (kind, name not in STATIC) != ("kerr", False)]
QUICK = {
    ("horizon", "schwarzschild"), ("horizons", "schwarzschild"), ("temperature", "kerr"), ("photon", "schwarzschild"),
    ("isco", "schwarzschild"), ("shadow", "schwarzschild"), ("long_run", "kerr"), ("curvature", "own"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"), [pytest.param(*pair, marks=[] if pair in QUICK else [pytest.mark.slow]) for pair in PAIRS]
)
def test_a_metric_made_anew_compiles_nothing(name, kind):
    make, call = METRICS[kind], CALLS[name]
    _, first = lowered(lambda: call(make(0.0), 0.0))
    lowered(lambda: call(make(0.05), 0.05))  # (arithmetic with other numbers)
    count, other = lowered(lambda: call(make(0.1), 0.1))
    assert count == 0
    assert not all(jnp.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True))


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in ALONE])
def test_other_numbers_compile_nothing(name):
    lowered(lambda: ALONE[name](0.0))
    lowered(lambda: ALONE[name](0.05))
    assert lowered(lambda: ALONE[name](0.1))[0] == 0


def test_an_edited_constant_is_seen():
    edge = {"at": 2.0}
    metric = gravity.static(lambda r, p: 1 - edge["at"] / r)
    assert float(gravity.horizon(metric).value) == pytest.approx(2, rel=1e-12)
    edge["at"] = 3.0
    assert float(gravity.horizon(metric).value) == pytest.approx(3, rel=1e-12)
