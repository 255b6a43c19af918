"""CLAIM: training by `fit` costs what a scan written by hand costs, and what it has reached is never lost.

Measured: a step of Adam in `fit` against a scan written by hand and against a Python loop over a jitted step (three
sizes of a perceptron on stored data); writing and reading a checkpoint of 5 MB; 200 damages of a checkpoint, each of
which must be refused; 100 trainings ended by SIGKILL at a random moment, each resumed, the last to the end and to the
bits of a run that nobody disturbed; SIGTERM; two processes of which one is killed under the launcher.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxkit as jk
from benchmarks import _harness
from jaxkit.learn import checkpoint
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
    call = lambda n: _cpu(lambda: jk.fit(loss, params, batches, steps=n, run=jk.Run(chunk=min(200, count))))
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


TWO = """
import json, sys, time
import jax
import jaxkit as jk
from benchmarks.training import mlp
from jaxkit.learn.batches import minibatches
params, loss = mlp(256, 1024)
batches = minibatches(jax.random.normal(jax.random.key(1), (2048, 256)), 512, jax.random.key(2))
steps, best = int(sys.argv[1]), {}
def call(n, devices):
    wall, cpu = time.perf_counter(), time.process_time()
    jk.fit(loss, params, batches, steps=n, run=jk.Run(devices=devices))
    return time.perf_counter() - wall, time.process_time() - cpu
for name, devices in 3 * (("one device", None), ("two devices", jax.devices()[:2])):
    short, long = call(steps, devices), call(3 * steps, devices)
    here = [(b - a) / (2 * steps) for a, b in zip(short, long, strict=True)]
    best[name] = [min(pair) for pair in zip(here, best.get(name, here), strict=True)]
print(json.dumps(best))
"""


def devices(quick: bool) -> tuple[list[dict], list[dict]]:
    """A batch of 512 on one device with the compiler's threads, and cut over two: each core then has one."""
    root = str(Path(__file__).parents[1])
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "NPROC": "8", "PYTHONPATH": root}
    command = [sys.executable, "-c", TWO, "3" if quick else "25"]
    text = subprocess.run(command, env=os.environ | flags, capture_output=True, text=True, check=True).stdout
    times = json.loads(text)
    rows = [
        {"what": "step of a batch of 512, large", "way": way, "cpu_us": 1e6 * cpu, "wall_ms": 1e3 * wall}
        for way, (wall, cpu) in times.items()
    ]
    return rows, []


def files(quick: bool) -> tuple[list[dict], list[dict]]:
    """Writing and reading five megabytes; two hundred damages."""
    rng = np.random.default_rng(0)
    tree = {f"layer{k}": {"w": rng.normal(size=(250, 500)).astype(np.float32), "b": np.zeros(500)} for k in range(10)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        wall: dict[str, list[float]] = {"write": [], "read": []}
        cpu: dict[str, list[float]] = {"write": [], "read": []}
        programs = {"write": lambda: checkpoint.write(path, tree), "read": lambda: checkpoint.read(path, tree)}
        for _ in range(5 if quick else 40):
            for name, program in programs.items():
                start, start_cpu = time.perf_counter(), time.process_time()
                _harness.wait(program())
                wall[name].append(1e3 * (time.perf_counter() - start))
                cpu[name].append(1e3 * (time.process_time() - start_cpu))
        size = path.stat().st_size / 1e6
        refused, count = 0, 20 if quick else 200
        data = path.read_bytes()
        for bad in damages(data, count, rng):
            path.write_bytes(bad)
            try:
                checkpoint.read(path, tree)
            except checkpoint.CheckpointError:
                refused += 1
    rows = [
        {"what": f"checkpoint of {size:.1f} MB", "way": way, "cpu_ms": min(cpu[way]), "wall_ms": min(wall[way])}
        | {"wall_ms_median": float(np.median(wall[way]))}
        for way in wall
    ]
    rows.append({"what": f"{count} damages of it", "way": "refused", "count": refused})
    return rows, [
        _harness.goal("ms to write 5 MB, sync included (least of 40)", rows[0]["wall_ms"], 50, at_least=False),
        _harness.goal("ms to read 5 MB (least of 40)", rows[1]["wall_ms"], 50, at_least=False),
        _harness.goal(f"of {count} damaged files refused", refused, count),
    ]


def damages(data: bytes, count: int, rng: np.random.Generator):
    """Bits flipped in the length, the header and the data; files cut; blocks zeroed, moved, appended."""
    header = 8 + int.from_bytes(data[:8], "little")
    for kind in range(count):
        bad = bytearray(data)
        low, high = [(0, 8), (8, header), (header, len(data)), (0, len(data))][kind // 6 % 4]
        at = int(rng.integers(low, high))
        if kind % 6 < 3:
            bad[at] ^= 1 << int(rng.integers(8))
        elif kind % 6 == 3:
            bad = bad[:at]
        elif kind % 6 == 4:
            bad[at : at + 512] = bytes(512)
        else:
            bad = bad + bad[at : at + 100]
        if bytes(bad) == data:
            bad[at] ^= 1
        yield bytes(bad)


SCRIPT = Path(__file__).parents[1] / "tests" / "multiprocess" / "training.py"
LAUNCH = ("-m", "jaxkit", "launch", "--processes", "2", "--", sys.executable)


def start(folder: Path, *options: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen:
    """One training run in a process of its own."""
    root = str(Path(__file__).parents[1])
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"PYTHONPATH": root}
    command = [sys.executable, *prefix, str(SCRIPT), str(folder), *options]
    return subprocess.Popen(command, env=environment | {"JAX_PLATFORMS": "cpu"}, stdout=subprocess.DEVNULL)


def logged(folder: Path) -> int:
    """Rows in the run's log: chunks that were computed."""
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def saved(folder: Path) -> int:
    """Step of the newest checkpoint, which must be whole."""
    found = checkpoint.steps(folder / "checkpoints")
    return checkpoint.meta(found[0])["step"] if found else 0


def bits(folder: Path) -> list[bytes]:
    """Everything a run ended with."""
    with np.load(folder / "end.npz") as end:
        return [end[name].tobytes() for name in end.files]


def ends(quick: bool) -> tuple[list[dict], list[dict]]:
    """SIGKILL at random moments, SIGTERM, and a killed peer."""
    kills, chunk, total = (3 if quick else 100), 20, (2_000 if quick else 40_000)
    moment = random.Random(0)  # noqa: S311
    sizes = ("--steps", str(total), "--chunk", str(chunk))
    with tempfile.TemporaryDirectory() as where:
        alone, killed, told, pair, bereft = (Path(where) / n for n in ("alone", "killed", "told", "pair", "bereft"))
        assert start(alone, *sizes).wait() == 0
        good = done = 0
        lost = []
        while done < kills:
            before, process = logged(killed), start(killed, *sizes)
            while logged(killed) == before and process.poll() is None:
                time.sleep(0.002)
            time.sleep(moment.uniform(0, 0.15))
            process.kill()
            if process.wait() != -signal.SIGKILL:
                break  # it had come to its end
            done += 1
            lost.append(chunk * logged(killed) - saved(killed))
            good += lost[-1] <= chunk
        assert start(killed, *sizes).wait() == 0
        same = bits(killed) == bits(alone)
        rows = [
            {"what": f"{done} runs ended by SIGKILL", "way": "at most one interval lost", "count": good},
            {"what": "most steps lost to a kill", "way": f"interval {chunk}", "count": max(lost)},
            {"what": "killed and resumed = undisturbed, bit for bit", "way": "", "count": int(same)},
        ]
        seconds = []
        for _ in range(1 if quick else 5):
            process, before = start(told, "--pause", "0.2"), logged(told)
            while logged(told) <= before + 1:
                time.sleep(0.01)
            clock = time.perf_counter()
            process.terminate()
            assert process.wait() == 128 + signal.SIGTERM
            seconds.append(time.perf_counter() - clock)
            assert saved(told) % 5 == 0
        rows.append({"what": "SIGTERM to exit 143 (a chunk lasts 0.2 s)", "way": "longest", "wall_s": max(seconds)})
        assert start(pair, prefix=LAUNCH).wait() == 0
        launcher = start(bereft, "--pause", "0.3", prefix=LAUNCH)
        while saved(bereft) < 10:
            time.sleep(0.05)
        os.kill(int((bereft / "pid-1").read_text()), signal.SIGKILL)
        clock = time.perf_counter()
        assert launcher.wait() == 0
        rows.append(
            {"what": "killed peer: restarted and done", "way": "2 processes", "wall_s": time.perf_counter() - clock}
        )
        again = bits(pair) == bits(bereft)
    return rows, [
        _harness.goal(f"of {done} SIGKILLs lost at most one interval", good, kills),
        _harness.goal("killed runs end with the bits of an undisturbed one", same, 1),
        _harness.goal("s from SIGTERM to exit 143, above the chunk", max(seconds) - 0.2, 2, at_least=False),
        _harness.goal("restarted after a peer's death: the same bits", again, 1),
    ]


def main() -> None:
    """Measure, print, save."""
    options = _harness.arguments(__doc__)
    rows, goals = [], []
    for part in (steps, devices, files, ends):
        some, reached = part(options.quick)
        print(_harness.table(some), _harness.table(reached), sep="\n", flush=True)
        rows, goals = rows + some, goals + reached
    if not options.quick:
        claim = (__doc__ or "").split("\n")[0].removeprefix("CLAIM: ")
        print("saved", _harness.save("training", claim=claim, rows=rows, goals=goals))


if __name__ == "__main__":
    main()
