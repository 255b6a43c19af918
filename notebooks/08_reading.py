# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Reading: a convolutional net answers questions
#
# Su Jianlin's DGCNN ([kexue.fm 5409](https://kexue.fm/archives/5409), [6906](https://kexue.fm/archives/6906)) reads a
# passage without recurrence and without attention over pairs of words. Everything moves by gated dilated convolutions,
# $$y = x\,(1-\sigma(g)) + a\,\sigma(g),\qquad [a, g] = \mathrm{conv}_d(x),$$
# with dilations $d = 1, 2, 4, 8, 16, 1$: each place sees 32 tokens to each side. The question becomes one vector, which
# is put to every place of the passage; two pointers say where the answer starts and ends, and one number whether it is
# there at all. What the net need not learn, it is told: where question and passage agree.

# %%
import os

import jax
import matplotlib.pyplot as plt
import numpy as np

import jaxkit as jk
from jaxkit import reading

QUICK = os.environ.get("QUICK") == "1"

# %% [markdown]
# ## The features, exactly
# The article prints them for one question. Ours, all windows at once in integer bit operations, agree.

# %%
question = "白云山 的 海拔 是 多少 ？".split()
passage = "白云山 坐落 在 广州 ， 主峰 海拔 3 8 2 米".split()
table = reading.article_features(question, [passage])[0]
printed = [0.13, 0.11, 0.1, 0.09, 0.09, 0.09, 0.09, 0.09, 0.09, 0.1, 0]
print(
    "Jaccard",
    np.round(table[:, 2], 3),
    "largest difference from the article:",
    np.abs(table[:, 2] - printed).max().round(4),
)
print("edit distance / length", np.round(table[:, 3], 2))

# %% [markdown]
# ## Train, on questions made from templates
# No data needed: facts about people and hills, in two languages, with distractors.

# %%
train, test = reading.synthetic(3000, seed=1), reading.synthetic(100, seed=0)
print(train.examples[0].question, "|", train.examples[0].passages[0].text)
config = reading.small(steps=150 if QUICK else 400)
trained = reading.train(config, train, key=jax.random.key(0), run=jk.Run(chunk=50)).checked()
reader = trained.model
print(reader.evaluate(test, "squad"))
reading.plot_training(trained)
plt.show()

# %% [markdown]
# ## Ask
# `passages[i][start:end]` is the answer, always. Several passages vote: their scores are summed, or weighed by the
# article's rule $\sum s^2 / (1 + \sum s)$.

# %%
text = "Ada Baker was born in 1931. Later Ada Baker moved to Dover. Brian Clark studied under Ada Baker."
for asked in ("When was Ada Baker born?", "Where does Ada Baker live?", "Who taught Brian Clark?"):
    answer = reader.ask(asked, text)
    print(asked, "->", answer.text, f"(score {answer.score:.2f}, characters {answer.start} to {answer.end})")
print(
    reading.vote([{"A": 0.7}] + [{"B": 0.2}] * 4)[0], "as in the article: one sure passage outweighs four unsure ones"
)

# %%
figure, (above, below) = plt.subplots(2, 1, figsize=(9.0, 6.4), layout="constrained")
reading.plot_scores(reader, "Where does Ada Baker live?", text, axes=above)
reading.plot_saliency(reader, "Where does Ada Baker live?", text, axes=below)
plt.show()

# %% [markdown]
# ## Check against a reference
# The scorers are the official ones, written anew: CMRC's F1 counts the longest common run, SogouQA's counts characters
# and takes lists in any order.

# %%
print(
    reading.METRICS["cmrc"]("丙丁甲乙", ["甲乙丙丁"]),
    reading.METRICS["sogou"]("丙丁甲乙", ["甲乙丙丁"]),
    reading.METRICS["sogou"]("印度、巴西", ["巴西 印度"]),
)

# %% [markdown]
# ## Try this
# - `python -m jaxkit run reading` with CMRC 2018, DRCD and WebQA in `$JAXKIT_DATA/reading`: real Chinese questions.
# - `reading.Architecture(head="pointer")`: the article's sigmoids and focal loss. `features=False`: what does the net
#   lose?
# - `reading.save("reader.safetensors", reader)`, then
#   `python -m jaxkit answer reader.safetensors "When was Ada Baker born?" a.txt b.txt`.
