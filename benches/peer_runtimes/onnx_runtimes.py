"""onnxruntime and OpenVINO, both from the same ONNX file."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        self._feed = {"image": workload.nchw}
        self.version: str = onnxruntime.__version__

    def __call__(self) -> NDArray[np.float32]:
        """Run the input once."""
        logits: NDArray[np.float32] = self._session.run(None, self._feed)[0]
        return logits


class OpenVino:
    """OpenVINO's CPU plugin, told to stay in f32: its default is bf16 where the CPU has it."""

    name = "openvino"

    def load(self, workload: Workload, threads: int) -> None:
        """Compile for the exact shape and for latency."""
        import openvino

        core = openvino.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = core.compile_model(core.read_model(workload.onnx_file), "CPU", settings)
        self._request: Any = compiled.create_infer_request()
        self._feed = {0: workload.nchw}
        self.version: str = openvino.__version__.split("-")[0]

    def __call__(self) -> NDArray[np.float32]:
        """Run the input once."""
        logits: NDArray[np.float32] = self._request.infer(self._feed)[0]
        return logits
