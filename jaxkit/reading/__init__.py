"""Reading: a dilated gated convolutional net that answers questions from passages, in Chinese and English.

After Su Jianlin, "DGCNN: a CNN-based model for reading comprehension" (kexue.fm/archives/5409 and 6906).
"""

from jaxkit.reading.answers import Answer as Answer
from jaxkit.reading.data import Dataset as Dataset
from jaxkit.reading.data import Example as Example
from jaxkit.reading.data import Passage as Passage
from jaxkit.reading.data import corpus as corpus
from jaxkit.reading.data import read as read
from jaxkit.reading.data import simplified as simplified
from jaxkit.reading.decode import vote as vote
from jaxkit.reading.encode import Coded as Coded
from jaxkit.reading.encode import Vocabulary as Vocabulary
from jaxkit.reading.metrics import Scores as Scores
from jaxkit.reading.metrics import score as score
from jaxkit.reading.model import DGCNN as DGCNN
from jaxkit.reading.model import Config as Config
from jaxkit.reading.reader import Reader as Reader
from jaxkit.reading.synthetic import synthetic as synthetic
from jaxkit.reading.tokens import Tokens as Tokens
from jaxkit.reading.tokens import tokenize as tokenize
from jaxkit.reading.train import Recipe as Recipe
from jaxkit.reading.vectors import Vectors as Vectors
from jaxkit.reading.vectors import read_vectors as read_vectors
