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
# # Two players: the Turing test inside adversarial models
#
# *After Su Jianlin, "RSGAN: the Turing test inside adversarial models" (kexue.fm/archives/6110).* A critic $T$ looks at
# a real and a fake sample *together* and says which is which:
# $$\min_T\; -\mathbb E\,\log\sigma\bigl(T(x_r) - T(x_f)\bigr), \qquad
# \min_G\; -\mathbb E\,\log\sigma\bigl(T(x_f) - T(x_r)\bigr).$$
# Why does such a game settle at all? Both players are a *motion*, and `linearize -> classify` reads it off.

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxkit as jk
from jaxkit import gan, models

QUICK = os.environ.get("QUICK") == "1"

# %% [markdown]
# ## The smallest game
# Data at 0, a generator at $\theta$, a critic $T(x) = \psi x$, a penalty $\frac\gamma2\psi^2$ on its slope (R1). The
# eigenvalues at the equilibrium are $-\gamma/2 \pm \sqrt{\gamma^2/4 - 1/4}$: without the penalty a centre, which only
# terms of higher order draw the players into, ever more slowly.

# %%
for gamma in (0.0, 0.3, 1.5):
    found = jk.linearize(gan.dirac_game("rsgan").field, jnp.zeros(2), gamma)
    print(f"gamma {gamma}: {jk.Kind(int(found.kind)).label}, eigenvalues {np.round(np.asarray(found.eigenvalues), 4)}")
    np.testing.assert_allclose(found.eigenvalues, models.dirac_eigenvalues(gamma), atol=1e-6)
fig, axes = plt.subplots(1, 3, figsize=(12, 3.8))
for panel, gamma in zip(axes, (0.0, 0.3, 1.5), strict=True):
    gan.plot_dirac(gamma, axes=panel)
plt.show()

# %% [markdown]
# ## What the best critic knows
# $T^* = \log p/q$ up to a constant, and the loss is then $\log 2 - JS\bigl(p(x)q(y) \,\|\, q(x)p(y)\bigr)$: could the
# two samples have been exchanged unnoticed? For $N(0,1)$ and $N(1,1)$ it is 0.4918017.

# %%
x, dx = jnp.linspace(-11, 12, 801), 23 / 800
log_p, log_q = (-0.5 * (x - m) ** 2 - 0.5 * jnp.log(2 * jnp.pi) for m in (0.0, 1.0))
by_loss = gan.optimal_value("rsgan", log_p, log_q, dx)
by_divergence = np.log(2) - gan.swap_divergence(log_p, log_q, dx)
print("by the loss", float(by_loss), "by the divergence", float(by_divergence))
assert abs(float(by_loss) - 0.4918017) < 3e-6

# %% [markdown]
# ## Twenty-five modes
# The default of `gan.train` puts this article and the next one together: RSGAN, zero-centred penalties on real *and*
# fake samples (R1 + R2), no momentum, a penalty that is annealed.

# %%
law = models.plane_law("grid25")
config = gan.Config(steps=1500 if QUICK else 12_000)
trained = gan.train(config, law.sample, key=jax.random.key(0)).checked()
samples = trained.model.sample(jax.random.key(1), 10_000)
found = jk.metrics.modes(samples, law.centers, law.width)
print(f"{found.found} of {found.total} modes, {found.good:.1%} within 3 sd, KL of the shares {found.kl:.4f} nats")
fig, axes = plt.subplots(1, 3, figsize=(12, 4.2))
gan.plot_points(law.sample(jax.random.key(2), 4000), box=law.box, title="data", axes=axes[0])
gan.plot_points(samples[:4000], box=law.box, title="generator", axes=axes[1])
gan.plot_critic(trained.model, box=law.box, axes=axes[2])
plt.show()

# %%
gan.plot_history(trained)

# %% [markdown]
# ## Try this
# Another game from `gan.LOSSES`, or no penalty at all: watch the modes go.

# %%
bare = gan.Config(loss="sgan", penalty="none", steps=config.steps // 3)
other = gan.train(bare, law.sample, key=jax.random.key(0))
lost = jk.metrics.modes(other.model.sample(jax.random.key(1), 10_000), law.centers, law.width)
print(f"SGAN without penalty: {lost.found} of 25 modes, {lost.good:.1%} within 3 sd, KL {lost.kl:.3f}")
