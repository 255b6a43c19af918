"""A training run of a denoiser as one frozen record, the same for points and for images."""

import dataclasses
from typing import Any

import optax

from jaxkit.core import checks

KINDS = ("denoiser", "energy", "mdsm")
_POINTS: dict[str, Any] = {"steps": 3000, "batch_size": 256, "ema": 0.999, "sigma_min": 0.1, "sigma_max": 3.0}
# The settings that reached the distances of `benchmarks/score_images.py` on Fashion-MNIST.
_IMAGES: dict[str, Any] = _POINTS | {"steps": 10_000, "batch_size": 64, "widths": (64, 96)}
_MDSM: dict[str, Any] = {
    "steps": 5000, "batch_size": 64, "ema": 0.998, "sigma_min": 0.05, "sigma_max": 12.0, "widths": (48, 64),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
    """A training run of a denoiser. Fields that are None take values that were measured to work for the data.

    Attributes:
        kind: `"denoiser"` (EDM); `"energy"`, the same with a curl-free score that has a log density at every noise
            level; `"mdsm"`, one energy for all noise levels (see `losses.mdsm` for what it learns).
        net: Network of `(y, level)` behind the denoiser (a module, or anything else that `jk.nets.plain` takes), with
            an output of the shape of `y`, or one number per datum for `"energy"`; by default a perceptron or a U-Net.
        steps: Steps of Adam: 3,000 for points, 10,000 for images (5,000 for `"mdsm"`) by default.
        batch_size: Data per step: 256 points or 64 images by default.
        learning_rate: Largest learning rate, or any optax schedule. For points, it falls from the start along a cosine
            to zero; for images, it rises over 100 steps, is held, and falls to zero over the last 44 % of the steps.
        ema: Decay of the averaged weights: 0.999 by default, 0.998 for `"mdsm"` on images.
        log_sigma_mean: Mean of `ln(sigma / 2 sd)` in training (EDM's -1.2 is for data of standard deviation 1/2).
        log_sigma_sd: Standard deviation of `ln sigma`.
        sigma_min: Least noise of `"mdsm"` in units of the data's standard deviation: 0.1 for points, 0.05 for images.
        sigma_max: Its largest noise: 3 for points, 12 for images. The levels cover every batch geometrically.
    """

    kind: str = "denoiser"
    net: Any = None
    steps: int | None = None
    batch_size: int | None = None
    learning_rate: float | optax.Schedule = 2e-3
    ema: float | None = None
    log_sigma_mean: float = -1.2
    log_sigma_sd: float = 1.2
    sigma_min: float | None = None
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        checks.one_of("kind", self.kind, KINDS)
        for name in ("steps", "batch_size", "log_sigma_sd", "sigma_min", "sigma_max"):
            value = getattr(self, name)
            checks.require(value is None or value > 0, name, "be positive", f"is {value}")

    def filled(self, shape: tuple[int, ...]) -> "Config":
        """The same run with every None but the network's replaced, for data of the given shape."""
        usual = self.usual(shape)
        return dataclasses.replace(self, **{n: usual[n] for n in usual if n != "widths" and getattr(self, n) is None})

    def usual(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """The measured recipe for data of the given shape."""
        return _POINTS if len(shape) == 1 else _MDSM if self.kind == "mdsm" else _IMAGES
