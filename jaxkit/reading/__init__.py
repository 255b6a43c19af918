"""Reading: a dilated gated convolutional net that answers questions from passages, in Chinese and English.

After Su Jianlin, "DGCNN: a CNN-based model for reading comprehension" (kexue.fm/archives/5409 and 6906).
"""

from jaxkit.reading.answers import Answer as Answer
from jaxkit.reading.config import Architecture as Architecture
from jaxkit.reading.config import Config as Config
from jaxkit.reading.config import Recipe as Recipe
from jaxkit.reading.config import chinese as chinese
from jaxkit.reading.config import small as small
from jaxkit.reading.corpora import corpus as corpus
from jaxkit.reading.corpora import corpus_scores as corpus_scores
from jaxkit.reading.corpora import training_set as training_set
from jaxkit.reading.data import Dataset as Dataset
from jaxkit.reading.data import Example as Example
from jaxkit.reading.data import Passage as Passage
from jaxkit.reading.data import read as read
from jaxkit.reading.data import simplified as simplified
from jaxkit.reading.decode import VOTES as VOTES
from jaxkit.reading.decode import vote as vote
from jaxkit.reading.encode import Coded as Coded
from jaxkit.reading.encode import Vocabulary as Vocabulary
from jaxkit.reading.features import article_features as article_features
from jaxkit.reading.metrics import METRICS as METRICS
from jaxkit.reading.metrics import Scores as Scores
from jaxkit.reading.metrics import auc as auc
from jaxkit.reading.metrics import score_answers as score_answers
from jaxkit.reading.model import DGCNN as DGCNN
from jaxkit.reading.model import Logits as Logits
from jaxkit.reading.model import network as network
from jaxkit.reading.model import span_loss as span_loss
from jaxkit.reading.plots import plot_saliency as plot_saliency
from jaxkit.reading.plots import plot_scores as plot_scores
from jaxkit.reading.plots import plot_training as plot_training
from jaxkit.reading.pool import Batch as Batch
from jaxkit.reading.reader import Reader as Reader
from jaxkit.reading.saving import load as load
from jaxkit.reading.saving import save as save
from jaxkit.reading.synthetic import synthetic as synthetic
from jaxkit.reading.tokens import Tokens as Tokens
from jaxkit.reading.tokens import tokenize as tokenize
from jaxkit.reading.training import Trained as Trained
from jaxkit.reading.training import train as train
from jaxkit.reading.vectors import Vectors as Vectors
from jaxkit.reading.vectors import read_vectors as read_vectors
