"""Networks: Flax Linen modules behind plain functions of `(params, inputs)`."""

from jaxkit.learn.nets.mlp import MLP as MLP
from jaxkit.learn.nets.mlp import Dense as Dense
from jaxkit.learn.nets.plain import Net as Net
from jaxkit.learn.nets.plain import count as count
from jaxkit.learn.nets.plain import plain as plain
