"""CLAIM: the first call is what a user waits for: how long it takes, how many programs it compiles, beside the peers.

Each job runs in a process of its own, without a compilation cache: time from the call to the numbers (imports apart),
programs compiled and the time that this took, and programs that the same call with other numbers compiles again. The
peers are written as their users write them.
"""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import optax

import jaxkit as jk
from benchmarks import _harness

jk.set_precision("double")
COMPILE = "/jax/core/compile/backend_compile_duration"
TRACE = ("/jax/core/compile/jaxpr_trace_duration", "/jax/core/compile/jaxpr_to_mlir_module_duration")
TIMES = jnp.linspace(0.0, 10.0, 20)
START, RATES = jnp.array([1.0, 0.5]), jnp.array([1.1, 0.4, 0.1, 0.4])


def hunt(t: Any, x: Any, r: Any) -> Any:
    """Prey and predators."""
    del t
    return jnp.stack([r[0] * x[0] - r[1] * x[0] * x[1], r[2] * x[0] * x[1] - r[3] * x[1]])


def solved(scale: float) -> Any:
    """One solve."""
    return jk.solve(hunt, START, TIMES, scale * RATES).xs


def slope(scale: float) -> Any:
    """The gradient of one solve."""
    return jax.grad(lambda r: jnp.sum(jk.solve(hunt, START, TIMES, r).xs))(scale * RATES)


def many(scale: float) -> Any:
    """A thousand solves."""
    starts = jnp.linspace(0.5, 1.5, 1000)[:, None] * START[None]
    return jk.ensemble(hunt, starts, jnp.array([0.0, 10.0]), scale * RATES[None]).final


def fitted(scale: float) -> Any:
    """Least squares over a solve."""
    data = jk.solve(hunt, START, TIMES, RATES).xs
    return jk.least_squares(lambda r, _: jk.solve(hunt, START, TIMES, r).xs - data, scale * RATES).params


def gause(scale: float) -> Any:
    """Gause's experiment, fitted."""
    from jaxkit import competition

    del scale
    return competition.fit(competition.gause("paramecium caudatum")).sse


def typed(scale: float) -> Any:
    """A root of a typed equation."""
    from jaxkit import newton

    return newton.solve("x^3 = 2x + a", 2.0, {"a": 5.0 * scale}).value


def neural(scale: float) -> Any:
    """Ten steps of descent of a neural ODE."""
    key = jax.random.key(0)
    net = {"w": 0.1 * jax.random.normal(key, (16, 2)), "v": 0.1 * jax.random.normal(key, (2, 16))}
    field = lambda t, x, p: p["v"] @ jnp.tanh(p["w"] @ x)
    loss = lambda p, _: jnp.mean((jk.solve(field, START, TIMES, p).xs - scale) ** 2)
    return jk.fit(loss, net, optimizer=optax.adam(1e-2), steps=10).params


def chains(scale: float) -> Any:
    """HMC of an ODE's parameters."""
    data = jk.solve(hunt, START, TIMES, RATES).xs
    energy = lambda r, _: 50 * jnp.sum((jk.solve(hunt, START, TIMES, jnp.exp(r)).xs - data) ** 2)
    first = jnp.tile(jnp.log(scale * RATES), (4, 1))
    return jk.sample(energy, first, key=jax.random.key(0), steps=20, warmup=20, method=jk.HMC(0.01)).xs


def game(scale: float) -> Any:
    """A GAN's first steps."""
    from jaxkit import gan

    data = scale * jax.random.normal(jax.random.key(0), (1000, 2))
    return gan.train(gan.Config(steps=5), data, key=jax.random.key(1)).history


def denoiser(scale: float) -> Any:
    """A score net's first steps."""
    from jaxkit import score

    data = scale * jax.random.normal(jax.random.key(0), (1000, 2))
    return score.train(score.Config(steps=5), data, key=jax.random.key(1)).history


def reader(scale: float) -> Any:
    """A reader's first steps."""
    from jaxkit import reading

    config = reading.Config(reading.Architecture(width=32), reading.Recipe(batch_size=8), steps=5, words=False)
    return reading.train(config, reading.synthetic(40), key=jax.random.key(int(10 * scale))).history


def photon(scale: float) -> Any:
    """A photon's orbit."""
    from jaxkit import gravity

    hole = gravity.schwarzschild()
    x = jnp.array([[0.0, 30.0, jnp.pi / 2, 0.0]])
    p = gravity.momentum(hole, x, jnp.array([[-1.0, 0.0, 0.005 * scale]]))
    return gravity.trace(hole, x, p, 50.0).x


def picture(scale: float) -> Any:
    """A picture of Kerr's hole."""
    from jaxkit import gravity

    return gravity.image(gravity.kerr(), {"M": 1.0, "a": 0.9 * scale}, pixels=16).intensity


def diffrax_solve(r: Any) -> Any:
    """One solve by diffrax."""
    import diffrax

    return diffrax.diffeqsolve(
        diffrax.ODETerm(hunt), diffrax.Tsit5(), 0.0, 10.0, None, START, r, saveat=diffrax.SaveAt(ts=TIMES),
        stepsize_controller=diffrax.PIDController(rtol=1e-7, atol=1e-9),
    ).ys  # fmt: skip


def diffrax_many(scale: float) -> Any:
    """A thousand solves by diffrax."""
    import diffrax

    def one(x0: Any) -> Any:
        control = diffrax.PIDController(rtol=1e-7, atol=1e-9)
        term, method = diffrax.ODETerm(hunt), diffrax.Tsit5()
        return diffrax.diffeqsolve(
            term, method, 0.0, 10.0, None, x0, scale * RATES, stepsize_controller=control
        ).ys  # fmt: skip

    return jax.jit(jax.vmap(one))(jnp.linspace(0.5, 1.5, 1000)[:, None] * START[None])


def optimistix_fit(scale: float) -> Any:
    """Least squares over a solve, by optimistix and diffrax with its forward adjoint."""
    import diffrax
    import optimistix

    def simulated(r: Any) -> Any:
        return diffrax.diffeqsolve(
            diffrax.ODETerm(hunt), diffrax.Tsit5(), 0.0, 10.0, None, START, r, saveat=diffrax.SaveAt(ts=TIMES),
            stepsize_controller=diffrax.PIDController(rtol=1e-7, atol=1e-9), adjoint=diffrax.ForwardMode(),
        ).ys  # fmt: skip

    data = simulated(RATES)
    method = optimistix.LevenbergMarquardt(rtol=1e-8, atol=1e-8)
    return optimistix.least_squares(lambda r, _: simulated(r) - data, method, scale * RATES).value


def diffrax_neural(scale: float) -> Any:
    """Ten steps of a neural ODE by diffrax, equinox and optax."""
    import equinox as eqx

    net = eqx.nn.MLP(2, 2, 16, 1, jnp.tanh, key=jax.random.key(0))
    adam = optax.adam(1e-2)
    import diffrax

    def loss(net: Any) -> Any:
        ys = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, net: net(y)), diffrax.Tsit5(), 0.0, 10.0, None, START, net,
            saveat=diffrax.SaveAt(ts=TIMES), stepsize_controller=diffrax.PIDController(rtol=1e-7, atol=1e-9),
        ).ys  # fmt: skip
        assert ys is not None
        return jnp.mean((ys - scale) ** 2)

    @eqx.filter_jit
    def step(net: Any, state: Any) -> Any:
        updates, state = adam.update(eqx.filter_grad(loss)(net), state)
        return eqx.apply_updates(net, updates), state

    state = adam.init(eqx.filter(net, eqx.is_array))
    for _ in range(10):
        net, state = step(net, state)
    return eqx.filter(net, eqx.is_array)


def blackjax_chains(scale: float) -> Any:
    """HMC of an ODE's parameters by blackjax and diffrax."""
    import blackjax

    data = diffrax_solve(RATES)
    density = lambda r: -50 * jnp.sum((diffrax_solve(jnp.exp(r)) - data) ** 2)
    hmc: Any = blackjax.hmc(density, 0.01, jnp.ones(4), 10)
    states = jax.vmap(hmc.init)(jnp.tile(jnp.log(scale * RATES), (4, 1)))

    def step(states: Any, key: Any) -> Any:
        states, _ = jax.vmap(hmc.step)(jax.random.split(key, 4), states)
        return states, states.position

    return jax.jit(lambda s: jax.lax.scan(step, s, jax.random.split(jax.random.key(0), 40)))(states)[1]


OURS: dict[str, Callable[[float], Any]] = {
    "one solve": solved,
    "its gradient": slope,
    "an ensemble": many,
    "least squares over a solve": fitted,
    "Gause fitted": gause,
    "a typed root": typed,
    "a neural ODE": neural,
    "HMC of an ODE": chains,
    "a GAN's first steps": game,
    "a score net's": denoiser,
    "a reader's": reader,
    "a photon's orbit": photon,
    "a picture of Kerr": picture,
}
PEERS: dict[str, Callable[[float], Any]] = {
    "one solve": lambda scale: diffrax_solve(scale * RATES),
    "its gradient": lambda scale: jax.grad(lambda r: jnp.sum(diffrax_solve(r)))(scale * RATES),
    "an ensemble": diffrax_many,
    "least squares over a solve": optimistix_fit,
    "a neural ODE": diffrax_neural,
    "HMC of an ODE": blackjax_chains,
}
IMPORTS = ("diffrax", "optimistix", "blackjax", "equinox", "flax.linen")


def job(name: str, *, peer: bool) -> dict[str, Any]:
    """One job in this process: its first call, and the second with other numbers."""
    for module in IMPORTS if peer else ("jaxkit.dynamics.ode.solve", "flax.linen", "optax"):
        importlib.import_module(module)
    call = (PEERS if peer else OURS)[name]
    told: dict[str, list[float]] = {}

    def listen(event: str, duration_secs: float, **kwargs: Any) -> None:
        del kwargs
        told.setdefault(event, []).append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    numbers = []
    for scale in (1.0, 1.05):
        told.clear()
        wall, cpu = time.perf_counter(), time.process_time()
        _harness.wait(call(scale))
        numbers.append((time.perf_counter() - wall, time.process_time() - cpu, {k: list(v) for k, v in told.items()}))
    (wall, cpu, first), (_, again, second) = numbers
    return {
        "call": name,
        "with": "peer" if peer else "jaxkit",
        "wall s": wall,
        "cpu s": cpu,
        "programs": len(first.get(COMPILE, [])),
        "compiling s": sum(first.get(COMPILE, [])),
        "tracing s": sum(sum(first.get(key, [])) for key in TRACE),
        "again cpu s": again,
        "compiled again": len(second.get(COMPILE, [])),
    }


def apart(name: str, *, peer: bool) -> dict[str, Any]:
    """The same in a new process without a compilation cache."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("JAX_COMPILATION_CACHE")}
    words = [sys.executable, "-m", "benchmarks.first_call", "--job", name, *(["--peer"] if peer else [])]
    done = subprocess.run(words, env=clean, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"call": name, "with": "peer" if peer else "jaxkit", "wall s": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def command(*words: str) -> float:
    """CPU seconds of a command of the package, in a process of its own."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("JAX_COMPILATION_CACHE")}
    before = os.times()
    subprocess.run([sys.executable, "-m", "jaxkit", *words], env=clean, capture_output=True, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    """Measure, print, save."""
    parser = _harness.parser(__doc__)
    parser.add_argument("--job", choices=list(OURS))
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--jobs", nargs="+", choices=list(OURS), default=list(OURS), metavar="JOB")
    options = parser.parse_args()
    if options.job:
        print(json.dumps(job(options.job, peer=options.peer)))
        return
    names = ["one solve"] if options.quick else options.jobs
    rows = []
    for name in names:
        rows += [apart(name, peer=False)] + ([apart(name, peer=True)] if name in PEERS else [])
        print(_harness.table(rows[-2:]), flush=True)
    goals = []
    if not options.quick:
        goals.append(_harness.goal("jaxkit root, CPU s", command("root", "x^3 = 2x + 5"), 1.5, at_least=False))
    again = sum(row.get("compiled again", 1) for row in rows if row["with"] == "jaxkit")
    goals.append(_harness.goal("programs compiled by second calls", again, 0, at_least=False))
    print(_harness.table(rows))
    print(_harness.table(goals))
    if not options.quick and options.jobs == list(OURS):
        _harness.save(
            "first_call", claim=(__doc__ or "").splitlines()[0].removeprefix("CLAIM: "), rows=rows, goals=goals
        )


if __name__ == "__main__":
    main()
