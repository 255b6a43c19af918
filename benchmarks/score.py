"""Claim: score models train on a CPU beside PyTorch: points at >= 2.5 times its speed, MDSM >= 1, a U-Net >= 1/1.3.

One thread of each (on Linux the process keeps to one core), float32, Adam, the same networks in both, CPU time a step
(compile time apart):
1. denoising of 2-D points by a perceptron (3 x 128, batch 256): steps in one compiled loop against torch's Python loop;
2. MDSM: an energy of 28 x 28 pictures (residual convolutions), the gradient of a squared gradient, batch 64;
3. a denoising U-Net of 28 x 28 pictures, batch 64;
and the likelihood of 500 points under a mixture, by the probability flow: time and largest error over the tolerance.
"""

import functools
import itertools
import os
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

import jaxkit as jk
from benchmarks import _harness as harness
from jaxkit import models, score

LEVEL = (-1.2, 1.2)


def points(torch: Any, *, quick: bool, repeats: int) -> tuple[list[dict], list[dict]]:
    """Steps of DSM on points."""
    steps, batch = (20, 64) if quick else (200, 256)
    x = np.asarray(models.ring(8).sample(jax.random.key(0), batch), np.float32)
    net = jk.nets.plain(jk.nets.MLP((128, 128, 128, 2)), jnp.zeros((1, 3)))
    apply = lambda params, y, s: net.apply(params, jnp.concatenate([y, jnp.log(s)[:, None]], axis=1)) / s[:, None]

    def loss(params: Any, x: Any, key: Any) -> Any:
        level, normal = jax.random.split(key)
        sigma = jnp.exp(LEVEL[0] + LEVEL[1] * jax.random.normal(level, x.shape[:1]))
        return score.losses.dsm(lambda y, s: apply(params, y, s), x, sigma, normal)

    run = jax.jit(
        lambda p: jk.fit(loss, p, jnp.asarray(x), optimizer=optax.adam(1e-3), steps=steps, key=jax.random.key(1)).params
    )
    params = net.init(jax.random.key(0))

    sizes = (3, 128, 128, 128, 2)
    parts: list[Any] = []
    for a, b in itertools.pairwise(sizes):
        parts += [torch.nn.Linear(a, b), torch.nn.SiLU()]
    peer = torch.nn.Sequential(*parts[:-1])
    optimizer, tensor = torch.optim.Adam(peer.parameters(), lr=1e-3), torch.tensor(x)

    def theirs() -> None:
        for _ in range(steps):
            sigma = torch.exp(LEVEL[0] + LEVEL[1] * torch.randn(batch, 1))
            noise = torch.randn_like(tensor)
            out = peer(torch.cat([tensor + sigma * noise, torch.log(sigma)], 1)) / sigma
            value = 0.5 * ((sigma * out + noise) ** 2).sum(1).mean()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()

    times = harness.measure({"ours": functools.partial(run, params), "torch": theirs}, repeats=repeats)
    return _row("2-D points, a step", times, 2.5, per=steps)


class Energy(nn.Module):
    """Residual convolutions and a quadratic head, without normalisation, as in the reference of MDSM."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Any) -> Any:
        """The energy of each picture."""
        h = jk.nets.Conv(self.widths[0], name="enter")(x)
        for i, width in enumerate(self.widths):
            if i:
                h = jk.nets.Conv(width, window=1, name=f"match{i}")(jk.nets.avg_pool(h))
            inner = jk.nets.Conv(width, name=f"a{i}")(jax.nn.elu(h))
            h = h + jk.nets.Conv(width, name=f"b{i}")(jax.nn.elu(inner))
        h = jnp.mean(jax.nn.elu(h), axis=(1, 2))
        one, two, three = (jk.nets.Dense(1, name=f"head{k}")(h if k < 2 else h**2)[:, 0] for k in range(3))
        return one * two + three


def _torch_energy(torch: Any, widths: tuple[int, ...]) -> Any:
    class Peer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            conv = lambda a, b, k=3: torch.nn.Conv2d(a, b, k, padding=k // 2)
            self.enter = conv(1, widths[0])
            self.a = torch.nn.ModuleList(conv(w, w) for w in widths)
            self.b = torch.nn.ModuleList(conv(w, w) for w in widths)
            self.match = torch.nn.ModuleList(conv(a, b, 1) for a, b in itertools.pairwise(widths))
            self.head = torch.nn.ModuleList(torch.nn.Linear(widths[-1], 1) for _ in range(3))

        def forward(self, x: Any) -> Any:
            elu = torch.nn.functional.elu
            h = self.enter(x)
            for i in range(len(widths)):
                if i:
                    h = self.match[i - 1](torch.nn.functional.avg_pool2d(h, 2))
                h = h + self.b[i](elu(self.a[i](elu(h))))
            h = elu(h).mean((2, 3))
            return (self.head[0](h) * self.head[1](h) + self.head[2](h**2))[:, 0]

    return Peer()


def mdsm(torch: Any, *, quick: bool, repeats: int) -> tuple[list[dict], list[dict]]:
    """The gradient of MDSM's loss in the weights of an energy."""
    batch, widths = (4, (8, 8)) if quick else (64, (32, 48, 64))
    x = np.random.default_rng(0).uniform(-1, 1, (batch, 28, 28, 1)).astype(np.float32)
    net = jk.nets.plain(Energy(widths), jnp.zeros((1, 28, 28, 1)))
    sigma = np.geomspace(0.1, 3.0, batch).astype(np.float32)
    ours = jax.jit(
        lambda p, key: jax.grad(lambda p: score.losses.mdsm(net.apply, p, jnp.asarray(x), jnp.asarray(sigma), key))(p)
    )
    peer, clean = _torch_energy(torch, widths), torch.tensor(x.transpose(0, 3, 1, 2).copy())
    levels = torch.tensor(sigma)[:, None, None, None]

    def theirs() -> None:
        noise = torch.randn_like(clean)
        y = (clean + levels * noise).requires_grad_()
        (slope,) = torch.autograd.grad(peer(y).sum(), y, create_graph=True)
        value = 0.5 * ((slope / levels - noise) ** 2).sum((1, 2, 3)).mean()
        peer.zero_grad()
        value.backward()

    params = net.init(jax.random.key(0))
    times = harness.measure({"ours": lambda: ours(params, jax.random.key(1)), "torch": theirs}, repeats=repeats)
    return _row(f"MDSM energy, {jk.nets.count(params)} weights", times, 1.0)


def _torch_unet(torch: Any, widths: tuple[int, ...], embedding: int = 128) -> Any:
    functional = torch.nn.functional

    class Block(torch.nn.Module):
        def __init__(self, inside: int, out: int) -> None:
            super().__init__()
            self.match = torch.nn.Conv2d(inside, out, 1) if inside != out else torch.nn.Identity()
            self.norm0, self.norm1 = torch.nn.GroupNorm(8, out), torch.nn.GroupNorm(8, out)
            self.conv0, self.conv1 = (torch.nn.Conv2d(out, out, 3, padding=1) for _ in range(2))
            self.modulate = torch.nn.Linear(embedding, 2 * out)

        def forward(self, x: Any, noise: Any) -> Any:
            x = self.match(x)
            h = self.conv0(functional.silu(self.norm0(x)))
            scale, shift = self.modulate(noise)[:, :, None, None].chunk(2, 1)
            return x + self.conv1(functional.silu(self.norm1(h) * (1 + scale) + shift))

    class Peer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.noise = torch.nn.Linear(64, embedding)
            self.enter, self.leave = (torch.nn.Conv2d(a, b, 3, padding=1) for a, b in ((1, widths[0]), (widths[0], 1)))
            pairs = zip((widths[0], *widths), widths, strict=False)
            self.down = torch.nn.ModuleList(Block(a, b) for a, b in pairs)
            self.bottom = Block(widths[-1], widths[-1])
            self.up = torch.nn.ModuleList(Block(widths[i + 1] + widths[i], widths[i]) for i in range(len(widths) - 1))
            self.norm = torch.nn.GroupNorm(8, widths[0])

        def forward(self, x: Any, level: Any) -> Any:
            turns = 2 * np.pi * level[:, None] * 2 ** torch.linspace(-2, 4, 32)[None]
            noise = functional.silu(self.noise(torch.cat([turns.sin(), turns.cos()], 1)))
            h, skips = self.enter(x), []
            for i, block in enumerate(self.down):
                h = block(h, noise)
                if i + 1 < len(widths):
                    skips.append(h)
                    h = functional.avg_pool2d(h, 2)
            h = self.bottom(h, noise)
            for i in reversed(range(len(widths) - 1)):
                h = self.up[i](torch.cat([functional.interpolate(h, scale_factor=2), skips[i]], 1), noise)
            return self.leave(functional.silu(self.norm(h)))

    return Peer()


def unet(torch: Any, *, quick: bool, repeats: int) -> tuple[list[dict], list[dict]]:
    """The gradient of a denoising loss in the weights of a U-Net."""
    batch, widths = (4, (8, 8, 8)) if quick else (64, (32, 48, 64))
    x = np.random.default_rng(0).uniform(-1, 1, (batch, 28, 28, 1)).astype(np.float32)
    net = score.nets.image_net((28, 28, 1), widths, patch=1)
    apply = score.nets.Preconditioned(net, 0.0, 0.7)

    def loss(params: Any, key: Any) -> Any:
        level, normal = jax.random.split(key)
        sigma = jnp.exp(LEVEL[0] + LEVEL[1] * jax.random.normal(level, (batch,)))
        return score.losses.edm(lambda y, s: apply(params, y, s), jnp.asarray(x), sigma, normal, sd=0.7)

    ours, params = jax.jit(jax.grad(loss)), net.init(jax.random.key(0))
    peer, clean = _torch_unet(torch, widths), torch.tensor(x.transpose(0, 3, 1, 2).copy())
    same = sum(p.numel() for p in peer.parameters()) == jk.nets.count(params)
    assert same, (sum(p.numel() for p in peer.parameters()), jk.nets.count(params))

    def theirs() -> None:
        sigma = torch.exp(LEVEL[0] + LEVEL[1] * torch.randn(batch))[:, None, None, None]
        y = clean + sigma * torch.randn_like(clean)
        total = sigma**2 + 0.49
        inner = peer(y / total.sqrt(), torch.log(sigma[:, 0, 0, 0]) / 4)
        out = 0.49 / total * y + sigma * 0.7 / total.sqrt() * inner
        value = (total / (sigma * 0.7) ** 2 * (out - clean) ** 2).sum((1, 2, 3)).mean()
        peer.zero_grad()
        value.backward()

    times = harness.measure({"ours": lambda: ours(params, jax.random.key(1)), "torch": theirs}, repeats=repeats)
    return _row(f"U-Net, {jk.nets.count(params)} weights", times, 1 / 1.3)


def _row(what: str, times: dict[str, harness.Timing], wanted: float, per: int = 1) -> tuple[list[dict], list[dict]]:
    ours, torch = times["ours"], times["torch"]
    row = {"what": what, "ours CPU ms": 1e3 * ours.cpu / per, "torch CPU ms": 1e3 * torch.cpu / per}
    row |= {"ours wall ms": 1e3 * ours.wall / per, "torch wall ms": 1e3 * torch.wall / per}
    row |= {"first call s": ours.first, "ratio": torch.cpu / ours.cpu}
    return [row], [harness.goal(f"{what}: torch / ours (CPU time)", torch.cpu / ours.cpu, wanted)]


def likelihood(*, quick: bool, repeats: int) -> list[dict]:
    """Time and error of 500 likelihoods over the tolerance, in double precision."""
    rows = []
    with jax.enable_x64(True):
        mixture = models.ring(8)
        x = mixture.sample(jax.random.key(0), 50 if quick else 500)
        for rtol in (1e-3,) if quick else (1e-3, 1e-5, 1e-7):
            flow = score.ProbabilityFlow(rtol=rtol, error_bars=False)
            run = jax.jit(lambda x, flow=flow: score.exact(mixture).log_prob(x, flow=flow))
            found = run(x)
            timing = harness.measure({"ours": functools.partial(run, x)}, repeats=repeats)["ours"]
            error = float(jnp.max(jnp.abs(found.value - mixture.log_prob(x))))
            rows.append({"what": "likelihood", "rtol": rtol, "ours CPU ms": 1e3 * timing.cpu, "largest error": error})
    return rows


def main() -> None:
    options = harness.arguments(__doc__)
    harness.one_core()
    repeats = 2 if options.quick else 6
    rows, goals = likelihood(quick=options.quick, repeats=repeats), []
    torch = harness.optional("torch")
    if torch is not None:
        torch.manual_seed(0)
        torch.set_num_threads(1)
        for part in (points, mdsm, unet):
            new, wanted = part(torch, quick=options.quick, repeats=repeats)
            rows, goals = rows + new, goals + wanted
    print(harness.table(rows), end="\n\n")
    print(harness.table(goals))
    if not options.quick:
        print(harness.save("score", claim=(__doc__ or "").splitlines()[0], rows=rows, goals=goals))


if __name__ == "__main__":
    main()
