# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Everything moves: the verbs in sixty lines
# A model is a state and a pure rule that moves it. Each verb is one call; beside each printed number stands what theory
# says.

# %%
import jax
import jax.numpy as jnp
import optax

import jaxkit as jk
from jaxkit import competition as comp
from jaxkit.report.figures import style
from jaxkit.report.portrait import plot_equilibria, plot_field

jk.set_precision("double")
p = comp.Params(r=(1.0, 0.8), N=(100.0, 80.0), a=(0.02, 0.014))  # two species; the start decides who wins

# %% [markdown]
# **solve**: continuous motion, and the derivative of where it ends. **ensemble**: ten thousand of them.

# %%
end = lambda rate: jk.solve(lambda t, x, k: -k * x, 1.0, jnp.array([0.0, 2.0]), rate, rtol=1e-9, atol=1e-9).final
print(f"solve    {end(0.5):.6f} (exp(-1) = 0.367879), derivative {jax.grad(end)(0.5):.6f} (-2 exp(-1) = -0.735759)")
x0s = jax.random.uniform(jax.random.key(0), (10_000, 2), minval=1.0, maxval=100.0)
last = (
    jk.ensemble(jk.models.lotka_volterra, x0s, (0.0, 100.0), jax.tree.map(lambda v: v[None], p.rates)).checked().final
)
print(f"ensemble species 1 wins {jnp.mean(last[:, 0] > last[:, 1]):.1%} of ten thousand starts")

# %% [markdown]
# **unroll**: discrete motion with inputs; a cell is one step of a scheme. **root**: rest points, with implicit
# derivatives.

# %%
euler = lambda x, _, dt: (x - dt * x, x)
print(f"unroll   {jk.unroll(euler, 1.0, args=0.01, length=100).final:.6f} (0.99^100 = {0.99**100:.6f})")
cube = lambda a: jk.root(lambda x, a: x**3 - a, 1.0, a).value
print(f"root     {cube(2.0):.6f} (2^(1/3) = {2 ** (1 / 3):.6f}), derivative {jax.grad(cube)(2.0):.6f} (0.209987)")

# %% [markdown]
# **fit**: descent of one loss. **play**: two players, each with its own. The linear part of the Dirac-GAN below
# is a centre without a penalty: only terms of higher order draw the players in, ever more slowly. With one they settle.

# %%
line = jk.fit(lambda w, _: jnp.sum((w - 3.0) ** 2), jnp.zeros(2), optimizer=optax.adam(0.1), steps=300).checked()
print("fit      " + ", ".join(f"{w:.4f}" for w in line.params), "(3, 3)")
softplus = jax.nn.softplus
for penalty in (0.0, 1.0):
    losses = {
        "critic": lambda w, *_, g=penalty: softplus(w["critic"] * w["generator"]) + g / 2 * w["critic"] ** 2,
        "generator": lambda w, *_: softplus(-w["critic"] * w["generator"]),
    }
    start, move = {"critic": jnp.array(1.0), "generator": jnp.array(1.0)}, optax.sgd(0.1)
    both = jk.play(losses, start, optimizers=dict.fromkeys(start, move), steps=2000, key=jax.random.key(0))
    radius = jnp.hypot(both.players["critic"], both.players["generator"])
    print(f"play     penalty {penalty:.0f}: distance from the equilibrium {radius:.1e}")

# %% [markdown]
# **sample**: noisy motion whose law is `exp(-energy)`.

# %%
energy = lambda x, scale: jnp.sum(x**2) / (2 * scale**2)
drawn = jk.sample(
    energy, jnp.zeros((200, 1)), 2.0, key=jax.random.key(1), steps=2000, method=jk.MALA(step_size=4.0)
).checked()
print(f"sample   variance {jnp.var(drawn.xs):.3f} (4)")

# %% [markdown]
# **linearize -> classify**: one analysis names the rest points of two species *and* says why the flow of a GAN
# without a penalty circles.


# %%
def game(t, x, penalty):
    """The Dirac-GAN's motion: a generator at x[0], a critic of slope x[1], data at 0."""
    pull = 1 / (1 + jnp.exp(x[0] * x[1]))
    return jnp.stack([x[1] * pull, -x[0] * pull - penalty * x[1]])


eq = comp.equilibria(p)
for point, kind in zip(eq.x, eq.kind, strict=True):
    print(f"species at ({point[0]:6.2f}, {point[1]:6.2f}): {jk.Kind(int(kind)).label}")
with style() as plt:
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.7))
    plot_field(jk.models.lotka_volterra, (0, 110, 0, 90), p.rates, axes=axes[0], colorbar=None)
    plot_equilibria(eq.x, eq.kind, axes=axes[0])
    axes[0].set(xlabel="species 1", ylabel="species 2", title="Two species")
    for panel, penalty in zip(axes[1:], (0.0, 0.6), strict=True):
        linear = jk.linearize(game, jnp.zeros(2), penalty)
        print(f"GAN, penalty {penalty}: {jk.Kind(int(linear.kind)).label}")
        plot_field(game, (-2, 2, -2, 2), penalty, axes=panel, colorbar=None)
        plot_equilibria(jnp.zeros((1, 2)), linear.kind[None], axes=panel)
        panel.set(xlabel="generator", ylabel="critic", title=f"A GAN, penalty {penalty}")
