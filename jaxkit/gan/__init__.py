"""Two players: relativistic adversarial training with zero-centred gradient penalties.

After Su Jianlin, "RSGAN: the Turing test inside adversarial models" (kexue.fm/archives/6110).
"""

from jaxkit.gan.config import IMAGES as IMAGES
from jaxkit.gan.config import Config as Config
from jaxkit.gan.losses import LOSSES as LOSSES
from jaxkit.gan.losses import Loss as Loss
from jaxkit.gan.losses import all_pairs as all_pairs
from jaxkit.gan.losses import apart as apart
from jaxkit.gan.losses import average as average
from jaxkit.gan.losses import pairs as pairs
from jaxkit.gan.model import GAN as GAN
from jaxkit.gan.model import load as load
from jaxkit.gan.model import save as save
from jaxkit.gan.penalties import PENALTIES as PENALTIES
from jaxkit.gan.penalties import Penalty as Penalty
from jaxkit.gan.penalties import penalise as penalise
from jaxkit.gan.plots import plot_critic as plot_critic
from jaxkit.gan.plots import plot_dirac as plot_dirac
from jaxkit.gan.plots import plot_history as plot_history
from jaxkit.gan.plots import plot_images as plot_images
from jaxkit.gan.plots import plot_interpolation as plot_interpolation
from jaxkit.gan.plots import plot_points as plot_points
from jaxkit.gan.theory import dirac_game as dirac_game
from jaxkit.gan.theory import jensen_shannon as jensen_shannon
from jaxkit.gan.theory import optimal_value as optimal_value
from jaxkit.gan.theory import swap_divergence as swap_divergence
from jaxkit.gan.train import Trained as Trained
from jaxkit.gan.train import train as train
from jaxkit.gan.train import two_losses as two_losses
