"""OpenVINO in int8, quantised by NNCF."""

import logging
import sys
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

from peer_runtimes.network import Forward, Network
from peer_runtimes.onnx_runtimes import OpenVino
from peer_runtimes.processor import has_vnni
from peer_runtimes.workload import Workload

RANGES = ("mean_min_max", "min_max")
"""The estimators of activations' ranges that are tried: NNCF's default is the mean of the images'
extremes, which cuts the largest values off."""


class OpenVinoInt8(OpenVino):
    """NNCF's post-training quantisation: symmetric, biases corrected by the fast algorithm.

    The rest of the arithmetic is left to OpenVINO, which takes bf16 where the CPU has it.
    """

    def load(self, workload: Workload, threads: int) -> None:
        """Quantise, choose how ranges are found, and compile for the exact shape."""
        import nncf
        import openvino

        ranges, file = workload.calibrated.once(
            "openvino int8", partial(_best, workload.calibrated)
        )
        self._request: Any = _request(file, workload.batch, threads)
        self.set_input(workload.nhwc)
        version = openvino.__version__.split("-")[0]
        self.version = f"{version} nncf {nncf.__version__} {ranges}"


def _best(network: Network) -> tuple[str, Path]:
    def runner(file: Path) -> Forward:
        request = _request(file, 1)
        return lambda x: request.infer({0: x})[0]

    return network.best({name: partial(_quantised, network, name) for name in RANGES}, runner)


def _request(file: Path, batch: int, threads: int | None = None) -> Any:
    import openvino

    core = openvino.Core()
    model = core.read_model(file)
    model.reshape([batch, *list(model.input(0).partial_shape)[1:]])
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    return core.compile_model(model, "CPU", settings).create_infer_request()


def _quantised(network: Network, ranges: str) -> Path:
    import nncf
    import openvino
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.ERROR)
    estimator = {"mean_min_max": "MEAN_MINMAX", "min_max": "MINMAX"}[ranges]
    advanced = nncf.AdvancedQuantizationParameters(
        activations_range_estimator_params=getattr(RangeEstimatorParametersSet, estimator),
        # Half the range of weights in the first layer, NNCF's default: it saturates without VNNI.
        overflow_fix=nncf.OverflowFix.DISABLE if has_vnni() else nncf.OverflowFix.FIRST_LAYER,
    )
    with redirect_stdout(sys.stderr):
        model = nncf.quantize(
            openvino.Core().read_model(network.onnx_file),
            nncf.Dataset([image[None] for image in network.calibration_nchw]),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(network.calibration_nchw),
            fast_bias_correction=True,
            advanced_parameters=advanced,
        )
    path = network.scratch / f"openvino-{ranges}.xml"
    # Its default would round what stays in f32 to f16.
    openvino.save_model(model, path, compress_to_fp16=False)
    return path
