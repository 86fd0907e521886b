"""torchvision's own model: eager, eager with channels last, and compiled by inductor.

torch has one number of threads for the whole process, so every call sets it.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peer_runtimes.runtime import nchw
from peer_runtimes.workload import Workload


class Torch:
    """Eager mode, NCHW: what `torchvision.models.resnet50` does as it comes.

    In bf16 the whole model and its input are bf16, which is faster than autocast.
    """

    name = "torch"
    memory_format = torch.contiguous_format

    def load(self, workload: Workload, threads: int) -> None:
        """Lay the model and the input out."""
        self._threads = threads
        torch.set_num_threads(threads)
        self._dtype = torch.bfloat16 if workload.precision == "bf16" else torch.float32
        self._model = self.make_model(workload)
        self.set_input(workload.nhwc)
        self.version: str = torch.__version__

    def make_model(self, workload: Workload) -> Any:
        """The model in this precision and layout."""
        return workload.torch_model().to(dtype=self._dtype, memory_format=self.memory_format)

    def set_input(self, nhwc: NDArray[np.float32]) -> None:
        """Lay another input out."""
        x = torch.from_numpy(nchw(nhwc)).to(self._dtype)
        self._x: Any = x.contiguous(memory_format=self.memory_format)

    def __call__(self) -> NDArray[np.float32]:
        """Run the input once."""
        torch.set_num_threads(self._threads)
        with torch.inference_mode():
            logits: NDArray[np.float32] = self._model(self._x).float().numpy()
        return logits


class TorchChannelsLast(Torch):
    """Eager mode, NHWC in memory."""

    name = "torch-channels-last"
    memory_format = torch.channels_last


class TorchInductor(TorchChannelsLast):
    """Compiled with the weights frozen in, batch norm folded; needs a C++ compiler."""

    name = "torch-inductor"

    def load(self, workload: Workload, threads: int) -> None:
        """Compile for the exact shape and number of threads."""
        super().load(workload, threads)
        import torch._inductor.config as inductor

        inductor.freezing = True
        # Compiler processes that stay alive would take cores from the others' runs.
        inductor.compile_threads = 1
        torch._dynamo.reset()
        self._model = torch.compile(self._model, dynamic=False)
        self()
