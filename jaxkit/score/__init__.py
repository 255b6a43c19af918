"""Scores: from denoising autoencoders to generative models with a likelihood.

After Su Jianlin, "From denoising autoencoders to generative models" (kexue.fm/archives/7038).
"""

from jaxkit.score import losses as losses
from jaxkit.score import nets as nets
from jaxkit.score.config import Config as Config
from jaxkit.score.density import Density as Density
from jaxkit.score.density import DensityConfig as DensityConfig
from jaxkit.score.density import density as density
from jaxkit.score.density import log_normalizer as log_normalizer
from jaxkit.score.generator import Generated as Generated
from jaxkit.score.generator import GeneratorConfig as GeneratorConfig
from jaxkit.score.generator import generator as generator
from jaxkit.score.inverse import condition as condition
from jaxkit.score.likelihood import Carried as Carried
from jaxkit.score.likelihood import LogProb as LogProb
from jaxkit.score.likelihood import ProbabilityFlow as ProbabilityFlow
from jaxkit.score.likelihood import bits_per_dimension as bits_per_dimension
from jaxkit.score.model import Denoiser as Denoiser
from jaxkit.score.model import exact as exact
from jaxkit.score.model import load as load
from jaxkit.score.model import save as save
from jaxkit.score.noise import EDM as EDM
from jaxkit.score.noise import NOISES as NOISES
from jaxkit.score.noise import VE as VE
from jaxkit.score.noise import VP as VP
from jaxkit.score.noise import Noise as Noise
from jaxkit.score.noise import SubVP as SubVP
from jaxkit.score.noise import geometric as geometric
from jaxkit.score.noise import karras as karras
from jaxkit.score.plots import on_grid as on_grid
from jaxkit.score.plots import plot_density as plot_density
from jaxkit.score.plots import plot_likelihood as plot_likelihood
from jaxkit.score.plots import plot_rows as plot_rows
from jaxkit.score.samplers import DDIM as DDIM
from jaxkit.score.samplers import SAMPLERS as SAMPLERS
from jaxkit.score.samplers import Ancestral as Ancestral
from jaxkit.score.samplers import AnnealedLangevin as AnnealedLangevin
from jaxkit.score.samplers import DPMSolver as DPMSolver
from jaxkit.score.samplers import Drawn as Drawn
from jaxkit.score.samplers import FlowODE as FlowODE
from jaxkit.score.samplers import Heun as Heun
from jaxkit.score.samplers import PredictorCorrector as PredictorCorrector
from jaxkit.score.samplers import ReverseSDE as ReverseSDE
from jaxkit.score.samplers import Sampler as Sampler
from jaxkit.score.train import Trained as Trained
from jaxkit.score.train import train as train
