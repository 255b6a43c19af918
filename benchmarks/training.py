"""CLAIM: training by `fit` costs what a scan written by hand costs, and what it has reached is never lost.

Measured: a step of Adam in `fit` against a scan written by hand and against a Python loop over a jitted step (three
sizes of a perceptron on stored data); writing and reading a checkpoint of 5 MB; 200 damages of a checkpoint, each of
which must be refused; 100 trainings ended by SIGKILL at a random moment, each resumed, the last to the end and to the
bits of a run that nobody disturbed; SIGTERM; two processes of which one is killed under the launcher.
"""

import time

import jax
import jax.numpy as jnp
import optax

import jaxkit as jk
from benchmarks import _harness
from jaxkit.learn.batches import minibatches

WIDTHS = {"small": (16, 32), "middle": (64, 256), "large": (256, 1024)}


def mlp(width: int, hidden: int):
    """Parameters and loss of a perceptron with two hidden layers."""
    keys = jax.random.split(jax.random.key(0), 3)
    sizes = ((width, hidden), (hidden, hidden), (hidden, width))
    params = [
        {"w": jax.random.normal(k, s) / s[0] ** 0.5, "b": jnp.zeros(s[1])} for k, s in zip(keys, sizes, strict=True)
    ]

    def loss(params, batch):
        x = batch
        for layer in params[:-1]:
            x = jnp.tanh(x @ layer["w"] + layer["b"])
        return jnp.mean((x @ params[-1]["w"] + params[-1]["b"] - batch) ** 2)

    return params, loss


def steps(quick: bool) -> tuple[list[dict], list[dict]]:
    """One step of Adam, four ways, at three sizes."""
    rows, goals = [], []
    for name in list(WIDTHS)[: 1 if quick else 3]:
        each = one_size(name, quick)
        rows += [{"what": f"step of {name} {WIDTHS[name]}", "way": way, "cpu_us": 1e6 * t} for way, t in each.items()]
        goals.append(_harness.goal(f"fit / scan by hand, {name}", each["fit"] / each["scan"], 1.1, at_least=False))
    return rows, goals


def one_size(name: str, quick: bool) -> dict[str, float]:
    """CPU seconds a step: a scan by hand, `fit` called, `fit` in a trace, a Python loop over a jitted step."""
    params, loss = mlp(*WIDTHS[name])
    data, method = jax.random.normal(jax.random.key(1), (512, WIDTHS[name][0])), optax.adam(1e-3)
    batches = minibatches(data, 64, jax.random.key(2))
    count = {"small": 20_000, "middle": 1000, "large": 80}[name] // (10 if quick else 1)
    few = min(count, 300)

    def one(carry, i):
        params, state = carry
        value, slope = jax.value_and_grad(loss)(params, batches(i))
        moves, state = method.update(slope, state, params)
        return (optax.apply_updates(params, moves), state), value

    carry = (params, method.init(params))
    scan = jax.jit(lambda carry: jax.lax.scan(one, carry, jnp.arange(count)))
    step = jax.jit(one)
    inside = jax.jit(lambda p: jk.fit(loss, p, batches, steps=count).params)

    def loop():
        here = carry
        for i in range(few):
            here, _ = step(here, jnp.asarray(i))
        return here

    # Each call of `fit` traces and compiles: two lengths of the same call, whose difference has only steps in it.
    call = lambda n: _cpu(lambda: jk.fit(loss, params, batches, steps=n, chunk=min(200, count)))
    programs = {"scan": lambda: scan(carry), "inside": lambda: inside(params), "loop": loop}
    times = _harness.measure(programs, repeats=2 if quick else 7)
    short, long = (min(call(n) for _ in range(2 if quick else 5)) for n in (count, 3 * count))
    return {
        "scan": times["scan"].cpu / count,
        "fit": (long - short) / (2 * count),
        "fit in a trace": times["inside"].cpu / count,
        "loop of jitted steps": times["loop"].cpu / few,
    }


def _cpu(program) -> float:
    start = time.process_time()
    _harness.wait(program())
    return time.process_time() - start
