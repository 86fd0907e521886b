"""torch in int8: its quantisation of FX graphs for x86, as long as torch has it."""

import warnings
from functools import partial
from typing import Any

import torch

from peer_runtimes.network import Forward, Network
from peer_runtimes.torch_runtimes import TorchChannelsLast
from peer_runtimes.workload import Workload

OBSERVERS = ("histogram", "min_max")
"""Ways to find the activations' ranges: torch's default, and the extremes."""


class TorchFx(TorchChannelsLast):
    """`convert_fx` for the engine `x86`: channels last, weights by channel, one bit kept free."""

    name = "torch-fx"

    def load(self, workload: Workload, threads: int) -> None:
        """Quantise, choose the observer, and lay the input out."""
        super().load(workload, threads)
        observer, _ = workload.calibrated.once("torch int8", partial(_best, workload.calibrated))
        self.version = f"{torch.__version__} {observer}"

    def make_model(self, workload: Workload) -> Any:
        """The quantised model."""
        torch.backends.quantized.engine = "x86"
        network = workload.calibrated
        _, model = network.once("torch int8", partial(_best, network))
        return model


def _best(network: Network) -> tuple[str, Any]:
    def runner(model: Any) -> Forward:
        def forward(x: Any) -> Any:
            with torch.inference_mode():
                return model(_channels_last(x)).numpy()

        return forward

    settings = {name: partial(_quantised, network, name) for name in OBSERVERS}
    return network.best(settings, runner)


def _quantised(network: Network, observer: str) -> Any:
    from torch.ao import quantization
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    config = quantization.get_default_qconfig("x86")
    if observer == "min_max":
        # As the default, without VNNI in mind: products of u8 and 8 bits would saturate.
        reduced = quantization.MinMaxObserver.with_args(reduce_range=True)
        config = quantization.QConfig(activation=reduced, weight=config.weight)
    mapping = quantization.get_default_qconfig_mapping("x86").set_global(config)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        example = torch.from_numpy(network.calibration_nchw[:1])
        prepared = prepare_fx(network.torch_model(), mapping, (example,))
        for image in network.calibration_nchw:
            prepared(torch.from_numpy(image[None]))
        return convert_fx(prepared).to(memory_format=torch.channels_last)


def _channels_last(x: Any) -> torch.Tensor:
    return torch.from_numpy(x).contiguous(memory_format=torch.channels_last)
