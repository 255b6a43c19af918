"""GANs as digging pits and jumping into them; energies, their entropy, and samplers.

After Su Jianlin, "An energy view of GAN" I-III (kexue.fm/archives/6316, 6331, 6612).
"""

from jaxkit.energy import bounds as bounds
from jaxkit.energy import channel as channel
from jaxkit.energy import latent as latent
from jaxkit.energy.bounds import BOUNDS as BOUNDS
from jaxkit.energy.bounds import Bound as Bound
from jaxkit.energy.config import LANDSCAPE as LANDSCAPE
from jaxkit.energy.config import Config as Config
from jaxkit.energy.config import Negatives as Negatives
from jaxkit.energy.config import ReplayConfig as ReplayConfig
from jaxkit.energy.contrastive import contrastive as contrastive
from jaxkit.energy.contrastive import negatives as negatives
from jaxkit.energy.contrastive import replay_buffer as replay_buffer
from jaxkit.energy.digging import DIGGINGS as DIGGINGS
from jaxkit.energy.digging import Digging as Digging
from jaxkit.energy.experiments import Assessment as Assessment
from jaxkit.energy.experiments import Frames as Frames
from jaxkit.energy.experiments import assess as assess
from jaxkit.energy.experiments import by_momentum as by_momentum
from jaxkit.energy.experiments import landscape as landscape
from jaxkit.energy.optimizers import crossings as crossings
from jaxkit.energy.optimizers import double_pit as double_pit
from jaxkit.energy.pits import game as game
from jaxkit.energy.plots import animate_landscape as animate_landscape
from jaxkit.energy.plots import plot_bounds as plot_bounds
from jaxkit.energy.plots import plot_crossings as plot_crossings
from jaxkit.energy.plots import plot_energy as plot_energy
from jaxkit.energy.plots import plot_landscape as plot_landscape
from jaxkit.energy.plots import plot_momentum as plot_momentum
from jaxkit.energy.train import EnergyModel as EnergyModel
from jaxkit.energy.train import Trained as Trained
from jaxkit.energy.train import load as load
from jaxkit.energy.train import save as save
from jaxkit.energy.train import train as train
