"""Training: a network that learns, step by step, and whole runs over folders of photos."""

from .errors import TrainingError
from .recipe import Recipe
from .result import Run
from .run import train
from .trainer import Trainer

__all__ = ["Recipe", "Run", "Trainer", "TrainingError", "train"]
