"""torch: torchvision's network with its own autograd and SGD, in each layout and precision.

torch has one number of threads for the whole process, so every call sets it.
"""

from typing import Any

import torch
from torch.nn import functional

import torch_reference
from training_runtimes.task import LR, MOMENTUM, WEIGHT_DECAY, Task


class Torch:
    """Eager mode in f32, NCHW: a training loop of torch as it comes."""

    name = "torch"
    precision = "f32"
    memory_format = torch.contiguous_format
    dtype = torch.float32

    def load(self, task: Task, threads: int) -> None:
        """Build the network with resnet_rs' first weights, and lay the batch out."""
        self._threads = threads
        torch.set_num_threads(threads)
        state = {
            name: torch.from_numpy(tensor) for name, tensor in task.trainer(1).state_dict().items()
        }
        network: Any = torch_reference.build_reference(state, task.architecture).train()
        self._network = network.to(self.dtype, memory_format=self.memory_format)
        x = torch.from_numpy(task.nhwc).permute(0, 3, 1, 2).to(self.dtype)
        self._x: Any = x.contiguous(memory_format=self.memory_format)
        self._y: Any = torch.from_numpy(task.labels)
        # Its fused loop is the fastest of torch's three.
        self._optimizer = torch.optim.SGD(
            self._network.parameters(), LR, MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True
        )
        self.version: str = torch.__version__

    def __call__(self) -> float:
        """Do a step."""
        torch.set_num_threads(self._threads)
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            loss = functional.cross_entropy(self._network(self._x), self._y)
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())


class TorchChannelsLast(Torch):
    """Eager mode in f32, NHWC in memory."""

    name = "torch-channels-last"
    memory_format = torch.channels_last


class TorchBf16(Torch):
    """Eager mode under bf16 autocast, NCHW."""

    name = "torch-bf16"
    precision = "bf16"


class TorchBf16ChannelsLast(TorchChannelsLast):
    """Eager mode under bf16 autocast, NHWC in memory."""

    name = "torch-bf16-channels-last"
    precision = "bf16"


class TorchF64(Torch):
    """The yardstick of the losses, not timed."""

    name = "torch-f64"
    precision = "f64"
    dtype = torch.float64
