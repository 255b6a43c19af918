# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Energy: dig pits, jump into them
#
# Su Jianlin's picture of a GAN (kexue.fm/archives/6316, 6331, 6612): a landscape $U$ is dug at the real points, and a
# generator lets its points fall into the pits,
#
# $$U=\arg\min_U\; \mathbb E_{real}U-\mathbb E_{fake}U+\lambda\,\mathbb E_{real}|\nabla U|^2,\qquad
#   G=\arg\min_G\; \mathbb E_z\,U(G(z)) .$$
#
# Which of its claims hold, and with what numbers?

# %%
import dataclasses
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

import jaxkit as jk
from jaxkit import energy as en
from jaxkit import models

jk.set_precision("double")
QUICK = os.environ.get("QUICK") == "1"

# %% [markdown]
# ## 1. Momentum jumps over the ridge
# Descent in $U = x^4/4 - x^2/2$ from points of the right-hand pit. Heavy ball: the claim holds. Adam: only at an
# extreme $\beta_1$.

# %%
methods = {f"heavy ball {b}": optax.sgd(0.05, momentum=b) for b in (0.0, 0.5, 0.8, 0.9)}
methods |= {f"Adam {b}": optax.adam(0.05, b1=b) for b in (0.9, 0.99)}
ends = {name: en.crossings(method, starts=300 if QUICK else 2000) for name, method in methods.items()}
for name, (_, end) in ends.items():
    print(f"{name:15s} wrong pit: {float(jnp.mean(end < 0)):.1%}")
en.plot_crossings(ends)
plt.show()

# %% [markdown]
# The same by eigenvalues, for the smallest game there is (real data at 0, a generator at $\theta$, a slope $\psi$):
# without a penalty the linear flow only circles, and steps of both players at once spiral outwards (until terms of
# higher order hold them, at a distance of .45); the penalty damps it; much momentum undoes the damping.

# %%
for penalty, momentum in ((0.0, 0.0), (0.3, 0.0), (0.3, 0.9), (1.0, 0.9)):
    run = models.DiracGame().descend(penalty, momentum)
    kind = jk.Kind(int(run.flow.kind)).label
    print(f"penalty {penalty}, momentum {momentum}: flow {kind}; growth {run.growth:.4f}; distance {run.distance:.1e}")

# %% [markdown]
# ## 2. The landscape, dug
# With an entropy term, so that the generator does not sit in one pit alone.

# %%
law = models.PlaneLaw.of(models.ring(5, 1.0, 0.1), box=2.0)
config = dataclasses.replace(en.LANDSCAPE, bound="jsd")
frames = en.landscape(config, law, key=jax.random.key(0), frames=6 if QUICK else 24, every=100)
en.plot_landscape(frames)
plt.show()

# %% [markdown]
# ## 3. How much entropy? Bounds of the information
# $H(G(z))$ is replaced by a lower bound of $I(x, z)$. On a channel $x = Az + \sigma n$ the truth is known:
# $\tfrac12\log\det(1 + AA^T/\sigma^2)$. Every bound, at its best critic:

# %%
A, sigma = jnp.array([[1.0, 0.3], [-0.2, 0.8]]), 0.6
x, z = en.channel.transmit(jax.random.key(0), A, sigma, 256)
print(f"exact: {float(en.channel.information(A, sigma)):.3f} nats")
best = en.channel.log_ratio(A, sigma)
for name, bound in en.BOUNDS.items():
    pairs = bound.scores(lambda x, z, b=bound: b.optimum(best(x, z)), x, z, jax.random.key(1))
    print(f"{name:14s} {float(bound.estimate(*pairs)):.3f}  (one batch of 256)")

# %% [markdown]
# ## 4. Samplers that are right
# The Metropolis test of MALA needs the drift in its proposal densities. With it the variance is 1 at any step; without
# a test (ULA) it is $1/(1 - \varepsilon/4)$, exactly.

# %%
normal = lambda x, _: 0.5 * jnp.sum(x**2)
for method in (jk.MALA, jk.ULA):
    for step in (0.1, 1.0):
        options = {"steps": 2000, "method": method(step), "warmup": 200, "thin": 5}
        run = jk.sample(normal, jnp.zeros((1000, 1)), key=jax.random.key(0), **options)
        print(f"{method.__name__} step {step}: variance {float(run.xs.var()):.3f}, R-hat {float(run.rhat[0]):.3f}")
print("theory for ULA:", round(1 / (1 - 0.1 / 4), 3), round(1 / (1 - 1 / 4), 3))

# %% [markdown]
# ## 5. Sampling through a generator
# The article samples $z$ with the energy $U(G(z))$. That is a truncation trick; the density of $x = G(z)$ is right only
# with $-\tfrac12\log\det J^TJ$. Wanted: $N(2, \tfrac12)$, through $G = \sinh$.

# %%
target, G = lambda x, _: jnp.sum((x - 2.0) ** 2), lambda z, _: jnp.sinh(z)
for way in (en.latent.article, en.latent.exact):
    key = jax.random.key(0)
    run = jk.sample(way(target, G), jnp.ones((500, 1)), key=key, steps=1000, method=jk.MALA(0.3), warmup=100)
    x = G(run.xs, None)
    print(f"{way.__name__:8s} mean {float(x.mean()):.3f}, variance {float(x.var()):.3f}")

# %% [markdown]
# ## Try this
# - Dig without entropy (`bound=None`) and with momentum (`betas=(0.9, 0.9)`): how many pits does the generator visit?
# - `digging="hinge"` or `"nonnegative"`: how does the landscape's height change?
# - Anneal: `method=jk.Annealed(sigmas, step_size)` finds the weights of a mixture; plain Langevin does not.
