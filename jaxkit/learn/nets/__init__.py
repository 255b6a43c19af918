"""Networks: Flax Linen modules behind plain functions of `(params, inputs)`."""

from jaxkit.learn.nets.images import Critic as Critic
from jaxkit.learn.nets.images import EnergyNet as EnergyNet
from jaxkit.learn.nets.images import Generator as Generator
from jaxkit.learn.nets.layers import Conv as Conv
from jaxkit.learn.nets.layers import ConvTranspose as ConvTranspose
from jaxkit.learn.nets.layers import GroupNorm as GroupNorm
from jaxkit.learn.nets.layers import ResBlock as ResBlock
from jaxkit.learn.nets.layers import avg_pool as avg_pool
from jaxkit.learn.nets.layers import max_pool as max_pool
from jaxkit.learn.nets.layers import upsample as upsample
from jaxkit.learn.nets.mlp import MLP as MLP
from jaxkit.learn.nets.mlp import Dense as Dense
from jaxkit.learn.nets.mlp import activate as activate
from jaxkit.learn.nets.mlp import spectral_norm as spectral_norm
from jaxkit.learn.nets.plain import Net as Net
from jaxkit.learn.nets.plain import count as count
from jaxkit.learn.nets.plain import plain as plain
from jaxkit.learn.nets.text import AttentionPool as AttentionPool
from jaxkit.learn.nets.text import GatedDilatedConv as GatedDilatedConv
from jaxkit.learn.nets.text import masked_softmax as masked_softmax
from jaxkit.learn.nets.unet import ScoreNet as ScoreNet
