"""onnxruntime and OpenVINO, both from the same ONNX file."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from peer_runtimes.runtime import nchw
from peer_runtimes.workload import Workload


class OnnxRuntime:
    """onnxruntime's CPU provider; spinning and graph optimisation at their defaults."""

    name = "onnxruntime"

    def load(self, workload: Workload, threads: int) -> None:
        """Make a session for the exact shape."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session: Any = onnxruntime.InferenceSession(
            workload.onnx_file, options, providers=["CPUExecutionProvider"]
        )
        self.set_input(workload.nhwc)
        self.version: str = onnxruntime.__version__

    def set_input(self, nhwc: NDArray[np.float32]) -> None:
        """Lay another input out."""
        self._feed = {"image": nchw(nhwc)}

    def __call__(self) -> NDArray[np.float32]:
        """Run the input once."""
        logits: NDArray[np.float32] = self._session.run(None, self._feed)[0]
        return logits


class OpenVino:
    """OpenVINO's CPU plugin, told to stay in f32 (its default is bf16 where the CPU has it).

    For bf16 it is told to take that.
    """

    name = "openvino"

    def load(self, workload: Workload, threads: int) -> None:
        """Compile for the exact shape and for latency.

        Raises:
            RuntimeError: bf16 on a CPU that does not have it: OpenVINO would compute in f32.
        """
        import openvino

        core = openvino.Core()
        if workload.precision == "bf16" and not has_bf16(core):
            raise RuntimeError("OpenVINO has bf16 only where the CPU does, and takes f32 here")
        settings = {
            "INFERENCE_PRECISION_HINT": workload.precision,
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = core.compile_model(core.read_model(workload.onnx_file), "CPU", settings)
        self._request: Any = compiled.create_infer_request()
        self.set_input(workload.nhwc)
        self.version: str = openvino.__version__.split("-")[0]

    def set_input(self, nhwc: NDArray[np.float32]) -> None:
        """Lay another input out."""
        self._feed = {0: nchw(nhwc)}

    def __call__(self) -> NDArray[np.float32]:
        """Run the input once."""
        logits: NDArray[np.float32] = self._request.infer(self._feed)[0]
        return logits


def has_bf16(core: Any) -> bool:
    """Tell whether OpenVINO multiplies bf16 on this CPU."""
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
