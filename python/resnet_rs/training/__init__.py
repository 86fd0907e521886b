"""Training: a network that learns, step by step, and whole runs over folders of photos."""

from .errors import TrainingError
from .find_lr import LrSweep, find_lr
from .recipe import Recipe
from .result import Run
from .run import train
from .trainer import Trainer

__all__ = ["LrSweep", "Recipe", "Run", "Trainer", "TrainingError", "find_lr", "train"]
