"""ncnn, converted by pnnx."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peer_runtimes.runtime import nchw
from peer_runtimes.workload import Workload


class Ncnn:
    """ncnn in f32 or bf16, Winograd on as by default. It has no batches: image by image.

    Its bf16 is one of storage: products are f32 where the CPU has no others.
    """

    name = "ncnn"

    def load(self, workload: Workload, threads: int) -> None:
        """Load the converted network with every narrow type off, or bf16 alone on."""
        import ncnn

        self._net = load_net(workload.ncnn_files, threads, bf16=workload.precision == "bf16")
        self.set_input(workload.nhwc)
        self.version: str = ncnn.__version__

    def set_input(self, nhwc: NDArray[np.float32]) -> None:
        """Lay another input out."""
        import ncnn

        self._images: list[Any] = [ncnn.Mat(image).clone() for image in nchw(nhwc)]

    def __call__(self) -> NDArray[np.float32]:
        """Run every image of the input once."""
        return np.stack([run_image(self._net, image) for image in self._images])


def load_net(files: tuple[Path, Path], threads: int, *, bf16: bool = False) -> Any:
    """Load a network with 16-bit types off, but for storage in bf16 if that is wanted.

    Raises:
        RuntimeError: ncnn cannot read the files.
    """
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    for option in dir(net.opt):
        if option.startswith("use_fp16_"):
            setattr(net.opt, option, False)
        elif option.startswith("use_bf16_"):
            setattr(net.opt, option, bf16)
    param, weights = files
    if net.load_param(str(param)) or net.load_model(str(weights)):
        raise RuntimeError(f"ncnn cannot load {param}")
    return net


def run_image(net: Any, image: Any) -> NDArray[np.float32]:
    """The logits of one `ncnn.Mat`."""
    extractor = net.create_extractor()
    extractor.input("in0", image)
    return np.array(extractor.extract("out0")[1])
