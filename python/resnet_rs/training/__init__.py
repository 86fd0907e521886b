"""Training: a network that learns, step by step, and whole runs over folders of photos."""

from .errors import TrainingError
from .trainer import Trainer

__all__ = ["Trainer", "TrainingError"]
