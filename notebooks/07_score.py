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
# # From denoising autoencoders to generative models
# After Su Jianlin, [kexue.fm/archives/7038](https://kexue.fm/archives/7038).
#
# **Question.** A network that removes noise: why can it draw new data, and what probability does it give to old ones?
#
# The best denoiser of $y = x + \sigma n$ knows the density of noisy data (Tweedie):
# $$r(y) = \mathbb E[x\mid y] = y + \sigma^2\,\nabla\log p_\sigma(y).$$
# Everything below takes one such denoiser: samplers walk up $\nabla\log p_\sigma$ while $\sigma$ falls, and the
# probability flow $\dfrac{dx}{d\sigma} = \dfrac{x - r(x)}{\sigma}$ carries data to noise and back, with a density.

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import jaxkit as jk
from jaxkit import models, score

QUICK = os.environ.get("QUICK") == "1"
jk.set_precision("double")

# %% [markdown]
# ## The identity
# Of a mixture of Gaussians everything is known. The posterior mean needs no derivative; the right side is one.

# %%
mixture = models.ring(8)
model = score.exact(mixture)  # the exact denoiser
y = mixture.sample(jax.random.key(0), 5) + 0.3 * jax.random.normal(jax.random.key(1), (5, 2))
gradient = jax.grad(lambda y: jnp.sum(mixture.log_prob(y, 0.3)))(y)
print("largest difference:", float(jnp.max(jnp.abs(model.denoise(y, 0.3) - (y + 0.3**2 * gradient)))))

# %% [markdown]
# ## A likelihood one can trust
# The probability flow of that denoiser, against the exact density. `tolerance_error` is the error bar of the solver.

# %%
x = mixture.sample(jax.random.key(2), 400)
found = jax.jit(lambda x: model.log_prob(x))(x).checked()
error = jnp.abs(found.value - mixture.log_prob(x))
print(f"largest error {float(error.max()):.1e} nats, largest bar {float(found.tolerance_error.max()):.1e}")

# %% [markdown]
# ## Learn it
# A perceptron, trained to remove noise of all levels. How far is its density from the truth?

# %%
data = mixture.sample(jax.random.key(3), 50_000)
config = score.Config(steps=1000 if QUICK else 12_000, learning_rate=5e-3)
trained = score.train(config, data, key=jax.random.key(4)).checked()
flow = score.ProbabilityFlow(error_bars=False)
learned = jax.jit(lambda x: trained.model.log_prob(x, flow=flow).value)
nats = jnp.mean(mixture.log_prob(x) - learned(x))
print(f"KL(truth || learned) = {float(nats):.3f} nats")

drawn = trained.model.sample(jax.random.key(5), 2000).checked()
fig, axes = plt.subplots(1, 3, figsize=(10, 3.4))
axes[0].plot(*drawn.x.T, ".", markersize=1.5)
axes[0].set(title=f"samples, {int(drawn.evaluations)} evaluations", xlabel="x1", ylabel="x2", aspect="equal")
side = 20 if QUICK else 60
score.plot_density(score.on_grid(learned, 3.0, side), 3.0, title="learned density", axes=axes[1])
score.plot_density(score.on_grid(mixture.log_prob, 3.0, side), 3.0, title="true density", axes=axes[2])
plt.show()

# %% [markdown]
# ## Samplers, and a trap
# Two modes of weights 0.8 and 0.2. Annealed samplers find the weights; Langevin motion at the data's own noise keeps
# whatever it started with.

# %%
unequal = models.mixture([[-2.0, 0.0], [2.0, 0.0]], 0.5, [0.8, 0.2])
law = score.exact(unequal)
ladder = score.AnnealedLangevin(steps=120, sigma_min=0.05, sigma_max=8.0, schedule="geometric")
for sampler in [ladder] if QUICK else [score.Heun(), score.DPMSolver(), ladder]:
    drawn = law.sample(jax.random.key(6), 2000, sampler=sampler).checked()
    print(f"{type(sampler).__name__:16s} share of the left mode {float(jnp.mean(drawn.x[:, 0] < 0)):.3f}")
start = unequal.means[jnp.arange(2000) % 2]
flat = score.AnnealedLangevin(steps=60, sigma_min=0.0499, sigma_max=0.05)
stuck = law.sample(jax.random.key(6), 2000, sampler=flat, start=start)
print(f"no ladder        share of the left mode {float(jnp.mean(stuck.x[:, 0] < 0)):.3f} (it started with half)")

# %% [markdown]
# ## An energy instead: the denoising density estimator
# At one noise level, $\min_E \mathbb E\,|\sigma\nabla E(x + \sigma n) + n|^2$ makes $E$ the log density itself, up to a
# constant that a sum over a grid supplies.

# %%
noise = 0.2 / float(jnp.mean(mixture.moments()[1])) ** 0.5  # in units of the data's deviation
settings = score.DensityConfig(sigma=noise, steps=500 if QUICK else 8000)
estimator = score.density(settings, data, key=jax.random.key(7)).checked()
y = x + 0.2 * jax.random.normal(jax.random.key(8), x.shape)
off = jnp.abs(estimator.log_prob(y) - mixture.log_prob(y, 0.2))
print(f"log Z = {float(estimator.log_z):.4f}; mean distance from the true log density {float(off.mean()):.3f} nats")

# %% [markdown]
# ## Try this
# - `score.condition(model, lambda x: x[:, 1:], jnp.array([[2.0]]))`: a denoiser that knows `x2`: let it `sample`.
# - `model.log_prob(x, flow=score.ProbabilityFlow(trace=16), key=...)`: random probes, with their own error bar, for
#   data of many dimensions.
# - `score.train(score.Config(), images, key=key)` with bytes `(n, h, w, c)` trains a U-Net; `Config("mdsm")` an energy.
# - `model.log_prob(x, flow=score.ProbabilityFlow(noise=score.VP()))`: another process, the same density. Why?
