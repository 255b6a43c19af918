"""Scores: from denoising autoencoders to generative models with a likelihood one can trust.

After Su Jianlin, "From denoising autoencoders to generative models" (kexue.fm/archives/7038).
"""

from jaxkit.score.density import Density as Density
from jaxkit.score.density import Generator as Generator
from jaxkit.score.density import density as density
from jaxkit.score.density import generator as generator
from jaxkit.score.density import log_normalizer as log_normalizer
from jaxkit.score.inverse import condition as condition
from jaxkit.score.likelihood import Coded as Coded
from jaxkit.score.likelihood import LogProb as LogProb
from jaxkit.score.likelihood import bits_per_dimension as bits_per_dimension
from jaxkit.score.likelihood import decode as decode
from jaxkit.score.likelihood import encode as encode
from jaxkit.score.likelihood import log_prob as log_prob
from jaxkit.score.model import Model as Model
from jaxkit.score.model import denoise as denoise
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
from jaxkit.score.samplers import SAMPLERS as SAMPLERS
from jaxkit.score.samplers import Samples as Samples
from jaxkit.score.samplers import sample as sample
from jaxkit.score.train import Trained as Trained
from jaxkit.score.train import train as train
from jaxkit.score.train import untrained as untrained
