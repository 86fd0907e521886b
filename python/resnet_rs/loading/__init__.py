"""From what a caller asks for to a network that runs, and back from a pickle.

`request.py` checks the arguments; `network.py` finds the way from them to a `Loaded` network, which
models and their copies share; `pickling.py` sends that network elsewhere.
"""

from .network import Loaded, load
from .request import Request, request

__all__ = ["Loaded", "Request", "load", "request"]
