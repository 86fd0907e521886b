"""ncnn, converted by pnnx."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from peer_runtimes.workload import Workload


class Ncnn:
    """ncnn in f32, Winograd on as by default. It has no batches: image by image."""

    name = "ncnn"

    def load(self, workload: Workload, threads: int) -> None:
        """Load the converted network with every narrow type off."""
        import ncnn

        net = ncnn.Net()
        net.opt.num_threads = threads
        net.opt.use_vulkan_compute = False
        for option in dir(net.opt):
            if option.startswith(("use_fp16_", "use_bf16_")):
                setattr(net.opt, option, False)
        param, weights = workload.ncnn_files
        if net.load_param(str(param)) or net.load_model(str(weights)):
            raise RuntimeError(f"ncnn cannot load {param}")
        self._net: Any = net
        self._images: list[Any] = [ncnn.Mat(image).clone() for image in workload.nchw]
        self.version: str = ncnn.__version__

    def __call__(self) -> NDArray[np.float32]:
        """Run every image of the input once."""
        logits = []
        for image in self._images:
            extractor = self._net.create_extractor()
            extractor.input("in0", image)
            logits.append(np.array(extractor.extract("out0")[1]))
        return np.stack(logits)
