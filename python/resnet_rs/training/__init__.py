"""Training: a network that learns, step by step, and whole runs over folders of photos."""

from .errors import TrainingError
from .recipe import Recipe
from .run import Run, train
from .trainer import Trainer

__all__ = ["Recipe", "Run", "Trainer", "TrainingError", "train"]
