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
# # Two species: from data to theorem
#
# Two populations eat from one plate. Each grows logistically, and each harms the other:
#
# $$\dot x_1 = r_1x_1\Bigl(1-\frac{x_1}{N_1}\Bigr)-a_1x_1x_2,\qquad
#   \dot x_2 = r_2x_2\Bigl(1-\frac{x_2}{N_2}\Bigr)-a_2x_1x_2 .$$
#
# Who is left in the end? We answer three times: by integrating, by proving, and from Gause's experiment of 1934.
# After Su Jianlin,
# *Two-species competition: LaTeX + Python* (kexue.fm/archives/3120).

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import jaxkit as jk
from jaxkit import competition as comp

jk.set_precision("double")

# %% [markdown]
# ## 1. The article's example, integrated

# %%
p = comp.Params(r=(0.1, 0.3), N=(500.0, 1000 / 3), a=(1e-4, 2e-4))
trajectory = comp.simulate(p, x0=(100.0, 150.0), ts=jnp.linspace(0, 100, 1001)).checked()
print("after 100 units of time:", trajectory.final)
comp.plot_time_series(p, (100.0, 150.0), 100.0)
plt.show()

# %% [markdown]
# ## 2. The same, proven
# Four equilibria; the eigenvalues of the linear part name them. The interior one should be $(375, 250)$, a stable
# node.

# %%
eq = comp.equilibria(p)
for x, values, kind in zip(eq.x, eq.eigenvalues, eq.kind, strict=True):
    print([round(float(v), 3) for v in x], [round(float(v.real), 6) for v in values], jk.Kind(int(kind)).label)
print(comp.explain(p))

# %% [markdown]
# No orbit closes: with the Dulac function $1/(x_1x_2)$ the divergence is negative (automatic differentiation
# against the closed form).

# %%
x = jnp.array([120.0, 80.0])
print(float(comp.dulac(p)(x)), -0.1 / (500 * 80) - 0.3 / (1000 / 3 * 120))
print("coexistence attracts everything:", bool(comp.lyapunov(p)[1]))

# %%
comp.plot_portrait(p, starts=[(100.0, 150.0), (450.0, 350.0), (20.0, 10.0)])
plt.show()

# %% [markdown]
# ## 3. When the harm is great, the first to be common wins
# The border between the two basins is the stable manifold of the saddle.

# %%
rivals = comp.Params(r=(1.0, 0.8), N=(100.0, 80.0), a=(0.02, 0.014))
print(comp.explain(rivals))
border = comp.separatrix(rivals).checked()
x1 = jnp.array([10.0, 50.0, 90.0])
above, below = (comp.basin(rivals, jnp.stack([x1, border(x1) * f], -1)) for f in (1.001, 0.999))
print("just above the separatrix:", above, " just below:", below)
comp.plot_portrait(rivals, starts=[(20.0, 5.0), (20.0, 60.0)])
plt.show()

# %%
comp.plot_outcome_map(rivals)
plt.show()

# %% [markdown]
# ## 4. Gause, 1934
# *Paramecium caudatum* and *P. aurelia* in one tube. The parameters are fitted **through the solver**; the
# derivative of every residual
# with respect to every parameter is exact.

# %%
fit = comp.fit(comp.gause("paramecium")).checked()
print(f"SSE {float(fit.sse):.2f} (published 3874.23), R2 {float(fit.r_squared):.4f} (published 0.9455)")
print("N =", fit.params.N, "+-", fit.params_errors.N)
print("a =", fit.params.a, "+-", fit.params_errors.a)
print(comp.explain(fit.params))
comp.plot_fit(fit)
plt.show()

# %% [markdown]
# Gause is remembered for *exclusion*, yet the fitted model says coexistence at low density of *P. caudatum*. How
# sure is that? The
# invasion rate of *P. caudatum* is a function of the parameters, so its standard error is one gradient away:

# %%
flat, unravel = jax.flatten_util.ravel_pytree(fit.unknowns)
rate = lambda v: comp.invasion(comp.Rates(unravel(v)["r"], unravel(v)["A"]).params)[0]
gradient = jax.grad(rate)(flat)
print(f"invasion rate {float(rate(flat)):.3f} +- {float(jnp.sqrt(gradient @ fit.covariance @ gradient)):.3f} per day")

# %% [markdown]
# ## 5. What if the harm were greater?

# %%
comp.plot_branches(comp.branches(fit.params), label="a1: harm of P. aurelia to P. caudatum")
plt.show()

# %% [markdown]
# **Try this.** Fit the yeasts (`comp.gause("yeast")`): the eight parameters are hardly identifiable, and the status
# and the standard
# errors say so. Add noise (`comp.simulate_noisy`) to twenty individuals and count how often *P. caudatum* dies out.
