"""Article I's claim about optimizers: with momentum a point overshoots the nearest pit."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float

from jaxkit.core.run import Run
from jaxkit.dynamics.analysis.linearize import Linearization, linearize
from jaxkit.learn.fit import fit
from jaxkit.learn.play import play


def double_pit(x: Float[Array, "..."], args: Any = None) -> Float[Array, "..."]:
    """`U = x^4/4 - x^2/2`: pits at -1 and 1, a ridge at 0."""
    del args
    return x**4 / 4 - x**2 / 2


def crossings(
    optimizer: optax.GradientTransformation, *, starts: int = 2000, steps: int = 2000
) -> tuple[Float[Array, " starts"], Float[Array, " starts"]]:
    """Where descent from points of the right-hand pit ends.

    Args:
        optimizer: Any optax optimizer.
        starts: Points, evenly over (0.05, 2).
        steps: Steps of each.

    Returns:
        The starts and the ends. An end below 0 is in the wrong pit.

    Example:
        >>> import optax
        >>> from jaxkit.energy import crossings
        >>> _, ends = crossings(optax.sgd(0.05, momentum=0.9), starts=200, steps=1000)
        >>> round(float((ends < 0).mean()), 2)
        0.18
    """
    x0 = jnp.linspace(0.05, 2.0, starts)
    one = lambda x: fit(double_pit, x, optimizer=optimizer, steps=steps).params
    return x0, jax.jit(jax.vmap(one))(x0)


def dirac_losses(gamma: ArrayLike) -> dict[str, Any]:
    """The relativistic game on a line: real data at 0, a generator at theta, an energy of slope psi.

    The energy descends `sp(psi theta) + gamma/2 psi^2`, the generator `sp(-psi theta)` (not saturating).
    """
    return {
        "generator": lambda p, *_: jax.nn.softplus(-p["generator"] * p["energy"]),
        "energy": lambda p, *_: jax.nn.softplus(p["generator"] * p["energy"]) + 0.5 * gamma * p["energy"] ** 2,
    }


def dirac_field(t: ArrayLike, x: Float[Array, " 2"], gamma: ArrayLike) -> Float[Array, " 2"]:
    """The game as a flow of `(theta, psi)`: each goes down its own loss."""
    del t
    losses = dirac_losses(gamma)
    slope = lambda who, i: jax.grad(lambda v: losses[who](_players(x.at[i].set(v))))(x[i])
    return -jnp.stack([slope("generator", 0), slope("energy", 1)])


def _players(x: Array) -> dict[str, Array]:
    return {"generator": x[0], "energy": x[1]}


def momentum_map(t: ArrayLike, x: Float[Array, " 4"], args: tuple[ArrayLike, ...]) -> Float[Array, " 4"]:
    """One simultaneous step with momentum, as a map of `(theta, psi)` and the two velocities; args `(gamma, h, b)`."""
    gamma, rate, momentum = args
    velocity = momentum * x[2:] + dirac_field(t, x[:2], gamma)
    return jnp.concatenate([x[:2] + rate * velocity, velocity])


def dirac(gamma: float, momentum: float, *, rate: float = 0.1, steps: int = 2000) -> tuple[float, float, Linearization]:
    """The game under momentum, by eigenvalues and by simulation.

    Args:
        gamma: Weight of the gradient penalty.
        momentum: Of both players.
        rate: Learning rate of both.
        steps: Simultaneous steps from (1, 1).

    Returns:
        Largest modulus of an eigenvalue of one step's linear part at the rest point (below 1: it converges); distance
        from the rest point after the steps (infinite where it blew up); the flow's linear part there.

    Example:
        >>> from jaxkit.energy import dirac
        >>> modulus, distance, flow = dirac(1.0, 0.0)
        >>> modulus < 1, distance < 1e-30, bool(flow.stable)
        (True, True, True)
    """
    one = jnp.ones(())
    values = linearize(momentum_map, jnp.zeros(4), (gamma * one, rate * one, momentum * one)).eigenvalues
    sgd = optax.sgd(rate, momentum=momentum)
    end = play(
        dirac_losses(gamma),
        {"generator": one, "energy": one},
        optimizers={"generator": sgd, "energy": sgd},
        steps=steps,
        key=jax.random.key(0),
        turns="simultaneous",
        run=Run(chunk=steps),
    )
    distance = jnp.hypot(end.players["generator"], end.players["energy"])
    distance = jnp.where(end.ok & (distance < 1e6), distance, jnp.inf)
    flow = linearize(dirac_field, jnp.zeros(2), gamma * one)
    return float(jnp.max(jnp.abs(values))), float(distance), flow
