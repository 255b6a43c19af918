"""The reader's net in PyTorch as its users write it (Conv1d, channels first), for `benchmarks.reading`."""

from typing import Any

import torch
from torch import nn

from jaxkit.reading import tokens


class Block(nn.Module):
    """A gated dilated convolution with its noise."""

    def __init__(self, width: int, dilation: int, noise: float):
        super().__init__()
        self.conv, self.noise = nn.Conv1d(width, 2 * width, 3, padding=dilation, dilation=dilation), noise

    def forward(self, x: Any, real: Any) -> Any:
        x = x * real
        new, gate = self.conv(x).chunk(2, dim=1)
        if self.training:
            gate = gate * (1 + (torch.rand(x.shape[0], x.shape[1], 1) * 2 - 1) * self.noise)
        return (x + (new - x) * torch.sigmoid(gate)) * real


class Pool(nn.Module):
    """Additive attention pooling."""

    def __init__(self, width: int):
        super().__init__()
        self.hidden, self.score = nn.Linear(width, width, bias=False), nn.Linear(width, 1, bias=False)

    def forward(self, x: Any, mask: Any) -> Any:
        score = self.score(torch.tanh(self.hidden(x)))[..., 0].masked_fill(~mask, -1e9)
        return torch.einsum("bn,bnc->bc", torch.softmax(score, dim=1), x)


class Net(nn.Module):
    """The net without hand-made features; inputs as in `jaxkit.reading.DGCNN`."""

    def __init__(self, config: Any):
        super().__init__()
        c = self.config = config
        self.embedding = nn.Embedding(c.vocabulary_size, c.width)
        self.kinds, self.tags = nn.Embedding(tokens.KINDS, c.width), nn.Embedding(tokens.TAG_CODES, c.width)
        self.question = nn.ModuleList([Block(c.width, d, c.gate_noise) for d in c.question_dilations])
        self.passage = nn.ModuleList([Block(c.width, d, c.gate_noise) for d in c.passage_dilations])
        line = lambda a, b, bias=False: nn.Linear(a, b, bias=bias)
        self.word, self.asked = line(c.width, c.width, True), line(c.width, c.width)
        self.align_key, self.align = line(c.width, c.width), line(c.width, c.width)
        self.pool_q, self.pool_p = Pool(c.width), Pool(2 * c.width)
        self.exists = line(3 * c.width, 1, True)
        self.heads = nn.ModuleList(
            [nn.ModuleList([line(c.width, 1), line(c.width, c.width), line(c.width, 1, True)]) for _ in range(2)]
        )

    def embed(self, coded: Any, mask: Any) -> Any:
        x = self.embedding(coded.ids) + self.kinds(coded.kind) + self.tags(coded.tag)
        if self.training:
            kept = 1 - self.config.dropout
            x = x * torch.bernoulli(torch.full((x.shape[0], 1, x.shape[2]), kept)) / kept
        return x * mask[..., None]

    def forward(self, question: Any, passage: Any) -> Any:
        q_mask, p_mask = question.match > 0, passage.match > 0
        q, p = self.embed(question, q_mask), self.embed(passage, p_mask)
        through = lambda blocks, x, mask: self._through(blocks, x, mask)
        encoded = through(self.question, q, q_mask)
        asked = self.pool_q(encoded, q_mask)
        weight = torch.relu(self.align_key(p)) @ torch.relu(self.align_key(q)).transpose(1, 2) * self.config.width**-0.5
        weight = torch.softmax(weight.masked_fill(~q_mask[:, None, :], -1e9), dim=2)
        x = self.word(p) + self.asked(asked)[:, None, :] + self.align(weight @ encoded)
        x = through(self.passage, x, p_mask)
        pooled = self.pool_p(torch.cat([x, asked[:, None, :].expand_as(x)], dim=2), p_mask)
        exists = self.exists(torch.cat([pooled, x.max(dim=1).values], dim=1))[:, 0]
        point = lambda head: (
            head[0](x)[..., 0]
            + torch.einsum("bnc,bc->bn", x, head[1](asked)) * self.config.width**-0.5
            + head[2](asked)
        )
        start, end = (point(head).masked_fill(~p_mask, -1e9) for head in self.heads)
        return start, end, exists

    def _through(self, blocks: Any, x: Any, mask: Any) -> Any:
        x, real = x.transpose(1, 2), mask[:, None, :].float()
        for block in blocks:
            x = block(x, real)
        return x.transpose(1, 2)


def loss(net: Net, batch: Any) -> Any:
    """The softmax head's loss of a batch of tensors."""
    start, end, exists = net(batch.question, batch.passage)
    positive = (batch.start.amax(dim=1) > 0).float()
    existence = nn.functional.binary_cross_entropy_with_logits(exists, positive)
    missed = 0.0
    for logit, label in ((start, batch.start), (end, batch.end)):
        right = logit.masked_fill(label == 0, -1e9)
        missed = missed + torch.logsumexp(logit, dim=1) - torch.logsumexp(right, dim=1)
    return (missed * positive).mean() + existence
