"""Chains: jaxkit's MALA and HMC against blackjax's.

CLAIM: on the same target, with the same step and number of chains, `jk.sample` takes at least as many steps per CPU
second as blackjax, by MALA and by HMC, with the same acceptance.

The kernels are the same, so the effective samples of a step differ by chance alone (by up to a fifth, in one run).

Targets: a correlated Gaussian in 20 dimensions (condition 25) and Neal's funnel cut to two dimensions; 200 chains.
blackjax runs as its documentation says: `jax.vmap` of its kernel over chains, one key a chain, inside `lax.scan`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jaxkit as jk
from benchmarks._harness import arguments, goal, measure, optional, save, table

DIMENSION, CHAINS, LEAPFROGS = 20, 200, 8


def gaussian(x, precision):
    return 0.5 * x @ precision @ x


def funnel(x, _):
    return 0.5 * (x[0] ** 2 + x[1] ** 2 * jnp.exp(-x[0]) + x[0])


def targets():
    """Name -> (energy, args, dimensions, MALA's step, HMC's step)."""
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(DIMENSION, DIMENSION)))
    precision = jnp.asarray(basis * np.geomspace(1.0, 25.0, DIMENSION) @ basis.T, jnp.float32)
    return {
        "Gaussian, 20 dimensions": (gaussian, precision, DIMENSION, 0.08, 0.22),
        "funnel, 2 dimensions": (funnel, None, 2, 0.3, 0.3),
    }


def ours(energy, args, method, step, steps):
    kernel = jk.MALA(step) if method == "mala" else jk.HMC(step, num_leapfrog_steps=LEAPFROGS, jitter=0.0)
    return jax.jit(lambda x0, key: jk.sample(energy, x0, args, key=key, steps=steps, method=kernel))


def theirs(blackjax, energy, args, method, step, steps, dimensions):
    """Blackjax's kernel, vmapped over chains; its MALA's step is half of ours (drift `step`, noise `2 step`)."""
    log_density = lambda x: -energy(x, args)
    if method == "mala":
        algorithm = blackjax.mala(log_density, step / 2)
    else:
        algorithm = blackjax.hmc(log_density, step, jnp.ones(dimensions, jnp.float32), LEAPFROGS)

    @jax.jit
    def run(x0, key):
        def one(states, key):
            states, info = jax.vmap(algorithm.step)(jax.random.split(key, len(x0)), states)
            return states, (states.position, info.acceptance_rate)

        _, (xs, acceptance) = jax.lax.scan(one, jax.vmap(algorithm.init)(x0), jax.random.split(key, steps))
        return xs, jnp.mean(acceptance)

    return run


def main():
    options = arguments(__doc__)
    steps, repeats = (200, 2) if options.quick else (1000, 7)
    blackjax = optional("blackjax")
    rows, goals = [], []
    for name, (energy, args, dimensions, mala, hmc) in targets().items():
        x0 = jax.random.normal(jax.random.key(1), (CHAINS, dimensions), jnp.float32)
        for method, step in (("mala", mala), ("hmc", hmc)):
            mine = ours(energy, args, method, step, steps)
            programs, found, key = {"jaxkit": functools.partial(mine, x0, jax.random.key(0))}, {}, jax.random.key(0)
            run = mine(x0, key)
            found["jaxkit"] = (float(jnp.mean(run.acceptance)), run.xs)
            if blackjax is not None:
                peer = theirs(blackjax, energy, args, method, step, steps, dimensions)
                programs["blackjax"] = functools.partial(peer, x0, key)
                xs, acceptance = peer(x0, key)
                found["blackjax"] = (float(acceptance), xs)
            times = measure(programs, repeats=repeats)
            speed = {}
            for who, timing in times.items():
                acceptance, xs = found[who]
                least = float(jnp.min(jk.effective_sample_size(xs)))
                speed[who] = least / timing.cpu
                rows.append(
                    {
                        "target": name,
                        "method": method,
                        "program": who,
                        "cpu_seconds": timing.cpu,
                        "compile_seconds": timing.first - timing.wall,
                        "acceptance": acceptance,
                        "least_ess": least,
                        "ess_per_cpu_second": speed[who],
                        "steps_per_cpu_second": steps * CHAINS / timing.cpu,
                    }
                )
            if blackjax is not None:
                rate = times["blackjax"].cpu / times["jaxkit"].cpu
                goals.append(goal(f"{method} on the {name}: steps per CPU second over blackjax's", rate, 1.0))
                gap = abs(found["jaxkit"][0] - found["blackjax"][0])
                goals.append(goal(f"{method} on the {name}: difference of acceptance", gap, 0.02, at_least=False))
    print(table(rows))
    for row in goals:
        print(f"{row['goal']}: {row['reached']:.3g} (wanted {row['wanted']:g})", "met" if row["met"] else "MISSED")
    if not options.quick:
        print(save("samplers", claim=__doc__.strip(), rows=rows, goals=goals))


if __name__ == "__main__":
    main()
