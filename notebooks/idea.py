"""The picture of the README: two species that compete and two networks that compete, under one `classify`.

python notebooks/idea.py        writes notebooks/idea.png
"""

from pathlib import Path

import jax.numpy as jnp

import jaxkit as jk
from jaxkit import competition as comp
from jaxkit.report.figures import save, style
from jaxkit.report.portrait import plot_equilibria, plot_field


def game(t, x, penalty):
    """The Dirac-GAN: data at 0, a generator at x[0], a critic of slope x[1] with a gradient penalty."""
    generator, critic = x
    pull = 1 / (1 + jnp.exp(generator * critic))
    return jnp.stack([critic * pull, -generator * pull - penalty * critic])


def main():
    """Draw both portraits side by side."""
    jk.set_precision("double")
    p = comp.Params(r=(1.0, 0.8), N=(100.0, 80.0), a=(0.02, 0.014))
    with style() as plt:
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.7))
        eq = comp.equilibria(p)
        plot_field(jk.models.lotka_volterra, (0, 110, 0, 90), p.rates, axes=left, colorbar=None)
        x1 = jnp.linspace(0, 110, 300)
        left.plot(x1, comp.separatrix(p)(x1), color="black", linewidth=2, label="separatrix")
        plot_equilibria(eq.x, eq.kind, axes=left)
        left.set(xlabel="species 1", ylabel="species 2", title="Two species: the first to be common wins")
        for axes, penalty, words in (
            (middle, 0.0, "without a penalty they circle"),
            (right, 0.6, "with one they settle"),
        ):
            linear = jk.linearize(game, jnp.zeros(2), penalty)
            plot_field(game, (-2, 2, -2, 2), penalty, axes=axes, colorbar=None)
            plot_equilibria(jnp.zeros((1, 2)), linear.kind[None], axes=axes)
            axes.set(xlabel="generator", ylabel="critic", title=f"A GAN: {words}")
        print(save(figure, Path(__file__).with_name("idea.png"), caption="Motion, and the kind of its rest points."))


if __name__ == "__main__":
    main()
