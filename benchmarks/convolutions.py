"""Convolutions that stay in their family: layers, gradient penalties and whole GAN steps on a CPU.

CLAIM: a GAN step with penalties on real and generated pictures (R1 + R2), through strided and transposed convolutions,
costs at most 1.1 times what PyTorch takes, and is at least 3 times faster than the same step through Flax's own layers,
whose transposed convolutions and double backward passes XLA computes slowly (https://github.com/jax-ml/jax/issues/31662).

The critic is 28x28 -> conv4 s2 (64) -> conv4 s2 (128) -> 1, the generator 100 -> 7x7x128 -> convT4 s2 (64) -> convT4 s2
(1); batch 64, single precision, Adam; the loss is the relativistic one. Times are CPU milliseconds, all threads added
(torch runs on one thread: its spinning threads would be counted too). Gradients of all variants are compared first.

    python -m benchmarks.convolutions
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from benchmarks._harness import arguments, goal, measure, optional, save, table
from jaxkit.learn import nets
from jaxkit.learn.gradients import value_and_half_square_gradient

GAMMA, LATENT, RATE = 1.0, 100, 2e-4
# name, (height, channels in), channels out, window, stride, transposed
LAYERS = [
    ("conv3 28x28 32-32", (28, 32), 32, 3, 1, False),
    ("conv3 14x14 64-64", (14, 64), 64, 3, 1, False),
    ("conv4 s2 14x14 64-128", (14, 64), 128, 4, 2, False),
    ("conv4 s2 28x28 1-64", (28, 1), 64, 4, 2, False),
    ("convT4 s2 7x7 128-64", (7, 128), 64, 4, 2, True),
    ("convT4 s2 14x14 64-1", (14, 64), 1, 4, 2, True),
    ("conv1 28x28 96-32", (28, 96), 32, 1, 1, False),
]
leaky = partial(nn.leaky_relu, negative_slope=0.2)


def layer(native, features, window, stride, transposed):
    """Flax's layer, or ours: with the same parameters."""
    if native and transposed:
        return nn.ConvTranspose(features, (window, window), (stride, stride), transpose_kernel=True)
    if native:
        return nn.Conv(features, (window, window), stride)
    if transposed:
        return nets.ConvTranspose(features, window, stride)
    return nets.Conv(features, window, stride)


class Critic(nn.Module):
    """Two strided convolutions and a number."""

    native: bool

    @nn.compact
    def __call__(self, x):
        """Scores."""
        for i, features in enumerate((64, 128)):
            x = leaky(layer(self.native, features, 4, 2, transposed=False).copy(name=f"conv{i}")(x))
        return nn.Dense(1, name="score")(x.reshape(len(x), -1))[:, 0]


class Generator(nn.Module):
    """Two transposed convolutions."""

    native: bool

    @nn.compact
    def __call__(self, z):
        """Pictures."""
        x = nn.relu(nn.Dense(7 * 7 * 128, name="start")(z).reshape(-1, 7, 7, 128))
        x = nn.relu(layer(self.native, 64, 4, 2, transposed=True).copy(name="up0")(x))
        return nn.tanh(layer(self.native, 1, 4, 2, transposed=True).copy(name="up1")(x))


def layers(batch, torch, repeats):
    """Value and both gradients of each layer: CPU milliseconds."""
    rows = []
    for name, (size, channels), features, window, stride, transposed in LAYERS:
        x = jax.random.normal(jax.random.key(0), (batch, size, size, channels))
        programs = {}
        for label, native in (("flax", True), ("jaxkit", False)):
            net = nets.plain(layer(native, features, window, stride, transposed), x)
            params = net.init(jax.random.key(1))
            # The cotangent must not be constant, or XLA would simplify what depends on it alone.
            run = jax.jit(jax.value_and_grad(lambda p, x, net=net: jnp.sum(net.apply(p, x) ** 2), (0, 1)))
            programs[label] = partial(run, params, x)
        if torch:
            kind = torch.nn.ConvTranspose2d if transposed else torch.nn.Conv2d
            module = kind(channels, features, window, stride, padding=(window - 1) // 2)
            picture = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2).copy(), requires_grad=True)

            def torch_layer(module=module, picture=picture):
                value = (module(picture) ** 2).sum()
                return torch.autograd.grad(value, (picture, *module.parameters()))

            programs["torch"] = torch_layer
        times = measure(programs, repeats=repeats)
        rows.append({"layer": name, **{f"{label} ms": 1e3 * t.cpu for label, t in times.items()}})
        print(table(rows[-1:]), flush=True)
    return rows


def players(native):
    """Critic and generator as plain functions."""
    x, z = jnp.zeros((1, 28, 28, 1)), jnp.zeros((1, LATENT))
    return nets.plain(Critic(native), x), nets.plain(Generator(native), z)


def critic_loss(critic, mode):
    """The relativistic loss with both penalties.

    `forward` is the identity of `half_square_gradient`, `reverse` its double backward pass, `usual` what one writes by
    hand: a gradient in a loss.
    """

    def loss(params, real, fake):
        both, n = jnp.concatenate([real, fake]), len(real)
        if mode == "usual":
            slopes = jax.grad(lambda x: jnp.sum(critic.apply(params, x)))(both)
            scores, half = critic.apply(params, both), 0.5 * jnp.sum(slopes**2, (1, 2, 3))
        else:
            scores, half = value_and_half_square_gradient(critic.apply, params, both, mode=mode)
        return jnp.mean(jax.nn.softplus(scores[n:] - scores[:n])) + GAMMA * jnp.sum(half) / n

    return loss


def step(native, mode):
    """One step of both players, as a jitted function of their state."""
    critic, generator = players(native)
    optimizer, loss = optax.adam(RATE, b1=0.0, b2=0.99), critic_loss(critic, mode)
    first, second = players(native=False)  # all start from the same weights

    @jax.jit
    def run(state, real, z):
        (c, g), (oc, og) = state
        slope = jax.grad(loss)(c, real, generator.apply(g, z))
        update, oc = optimizer.update(slope, oc)
        c = optax.apply_updates(c, update)
        chase = lambda g: jnp.mean(jax.nn.softplus(critic.apply(c, real) - critic.apply(c, generator.apply(g, z))))
        update, og = optimizer.update(jax.grad(chase)(g), og)
        return (c, optax.apply_updates(g, update)), (oc, og)

    c, g = first.init(jax.random.key(0)), second.init(jax.random.key(1))
    return run, ((c, g), (optimizer.init(c), optimizer.init(g)))


class TorchGan:
    """The same players and step in PyTorch, with the weights of ours."""

    def __init__(self, torch, critic, generator):
        self.torch = torch
        tensor = lambda v: torch.tensor(np.array(v), requires_grad=True)
        planes = lambda kernel: np.asarray(kernel).transpose(3, 2, 0, 1)  # also right for the transposed kernels
        flat = lambda kernel: np.asarray(kernel).reshape(7, 7, 128).transpose(2, 0, 1).reshape(1, -1)
        start = np.asarray(generator["start"]["kernel"]).reshape(LATENT, 7, 7, 128).transpose(3, 1, 2, 0)
        bias = np.asarray(generator["start"]["bias"]).reshape(7, 7, 128).transpose(2, 0, 1)
        both = lambda part: [tensor(planes(part["kernel"])), tensor(part["bias"])]
        score = [tensor(flat(critic["score"]["kernel"])), tensor(critic["score"]["bias"])]
        self.c = [*both(critic["conv0"]), *both(critic["conv1"]), *score]
        self.g = [
            tensor(start.reshape(-1, LATENT)),
            tensor(bias.reshape(-1)),
            *both(generator["up0"]),
            *both(generator["up1"]),
        ]
        self.optimizers = [torch.optim.Adam(p, RATE, betas=(0.0, 0.99)) for p in (self.c, self.g)]

    def critic(self, x):
        """Scores."""
        f, c = self.torch.nn.functional, self.c
        x = f.leaky_relu(f.conv2d(x, c[0], c[1], 2, 1), 0.2)
        x = f.leaky_relu(f.conv2d(x, c[2], c[3], 2, 1), 0.2)
        return f.linear(x.flatten(1), c[4], c[5])[:, 0]

    def generator(self, z):
        """Pictures."""
        f, g = self.torch.nn.functional, self.g
        x = f.linear(z, g[0], g[1]).reshape(-1, 128, 7, 7).relu()
        x = f.conv_transpose2d(x, g[2], g[3], 2, 1).relu()
        return f.conv_transpose2d(x, g[4], g[5], 2, 1).tanh()

    def critic_gradient(self, real, fake):
        """Gradient of the critic's loss."""
        torch, n = self.torch, len(real)
        both = torch.cat([real, fake.detach()]).requires_grad_()
        scores = self.critic(both)
        (slopes,) = torch.autograd.grad(scores.sum(), both, create_graph=True)
        gap = torch.nn.functional.softplus(scores[n:] - scores[:n]).mean()
        return torch.autograd.grad(gap + GAMMA * 0.5 * (slopes**2).sum() / n, self.c)

    def step(self, real, z):
        """One step of both."""
        with self.torch.no_grad():
            fake = self.generator(z)
        self._move(0, self.c, self.critic_gradient(real, fake))
        gap = self.critic(real) - self.critic(self.generator(z))
        self._move(1, self.g, self.torch.autograd.grad(self.torch.nn.functional.softplus(gap).mean(), self.g))

    def _move(self, which, params, gradients):
        for p, g in zip(params, gradients, strict=True):
            p.grad = g
        self.optimizers[which].step()


def whole(batch, torch, repeats):
    """The critic's gradient and whole steps: checked against each other, then timed."""
    real = jax.random.uniform(jax.random.key(2), (batch, 28, 28, 1), minval=-1)
    z = jax.random.normal(jax.random.key(3), (batch, LATENT))
    variants = {
        "flax layers, gradient of a gradient": (True, "usual"),
        "flax layers, identity": (True, "forward"),
        "jaxkit layers, gradient of a gradient": (False, "reverse"),
        "jaxkit layers, identity": (False, "forward"),
    }
    gradients, steps, slopes = {}, {}, {}
    for name, (native, mode) in variants.items():
        run, state = step(native, mode)
        critic, generator = players(native)
        fake = jax.jit(generator.apply)(state[0][1], z)
        slope = jax.jit(jax.grad(critic_loss(critic, mode)))
        slopes[name] = slope(state[0][0], real, fake)
        gradients[name], steps[name] = partial(slope, state[0][0], real, fake), partial(run, state, real, z)
    reference = slopes["flax layers, gradient of a gradient"]
    size = max(float(jnp.max(jnp.abs(v))) for v in jax.tree.leaves(reference))
    gap = lambda a, b: float(np.max(np.abs(np.asarray(a) - np.asarray(b)))) / size
    apart = [max(jax.tree.leaves(jax.tree.map(gap, reference, slope))) for slope in slopes.values()]
    if torch:
        other = TorchGan(torch, *state[0])
        planes = lambda v: torch.tensor(np.asarray(v).transpose(0, 3, 1, 2).copy())
        theirs = other.critic_gradient(planes(real), planes(fake))
        for i, part in enumerate(("conv0", "conv1")):
            apart.append(gap(reference[part]["kernel"].transpose(3, 2, 0, 1), theirs[2 * i]))
        gradients["torch"] = partial(other.critic_gradient, planes(real), planes(fake))
        steps["torch"] = partial(other.step, planes(real), torch.tensor(np.array(z)))
    print(f"largest relative difference of the critics' gradients: {max(apart):.1e}")
    assert max(apart) < 1e-4
    rows = []
    for what, programs in (("critic gradient with R1 + R2", gradients), ("GAN step with R1 + R2", steps)):
        for name, t in measure(programs, repeats=repeats).items():
            rows.append(
                {"what": what, "with": name, "cpu ms": 1e3 * t.cpu, "wall ms": 1e3 * t.wall, "compile s": t.first}
            )
    return rows


def main():
    options = arguments(__doc__)
    torch = optional("torch")
    if torch:
        torch.set_num_threads(1)
    batch, repeats = (8, 2) if options.quick else (64, 5)
    rows = layers(batch, torch, repeats)
    more = whole(batch, torch, repeats)
    print(table(more))
    cost = lambda what, who: min(r["cpu ms"] for r in more if r["what"].startswith(what) and r["with"].startswith(who))
    faster = cost("GAN", "flax layers, gradient") / cost("GAN", "jaxkit")
    goals = [goal("GAN step with R1 + R2: times faster than through flax's layers", faster, 3)]
    if torch:
        ratio = cost("GAN", "jaxkit") / cost("GAN", "torch")
        goals.append(goal("GAN step with R1 + R2: times torch's CPU time", ratio, 1.1, at_least=False))
        ratio = rows[4]["jaxkit ms"] / rows[4]["torch ms"]
        goals.append(goal(f"{LAYERS[4][0]}, gradients: times torch's CPU time", ratio, 1.5, at_least=False))
    print(table(goals))
    if not options.quick:
        save(
            "convolutions",
            claim=__doc__.split("CLAIM: ")[1].split("\n\n")[0].replace("\n", " "),
            rows=rows + more,
            goals=goals,
        )


if __name__ == "__main__":
    main()
