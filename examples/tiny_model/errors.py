"""What can go wrong that a user can mend.

TinyModelError
├── CorpusError    the interpreter has no standard library source
└── OccupiedError  the directory to write holds something else
"""


class TinyModelError(Exception):
    """The model cannot be made; the message says why and what to do."""


class CorpusError(TinyModelError):
    """The interpreter has no standard library source to learn from."""


class OccupiedError(TinyModelError):
    """The directory to write holds something else."""
