"""onnxruntime in int8: its own static quantisation, u8 activations and s8 weights by channel."""

import contextlib
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peer_runtimes.network import Forward, Network
from peer_runtimes.processor import has_vnni
from peer_runtimes.runtime import nchw
from peer_runtimes.workload import Workload

METHODS = ("MinMax", "Percentile")
"""The calibration methods that are tried. Entropy takes twice as long and has 128 bins."""

PRECISE = {"session.x64quantprecision": "1"}
"""Makes u8 x u8 products of u8 x s8 ones where the latter could saturate."""


class OnnxRuntimeInt8:
    """QDQ, by channel; without VNNI weights of 7 bits, as onnxruntime advises.

    Without VNNI products of u8 and s8 are added in pairs of 16 bits, which saturate. With
    `reduce_range` they cannot.
    """

    name = "onnxruntime"
    entries: dict[str, str] = {}  # noqa: RUF012
    """Of the session's configuration."""

    def load(self, workload: Workload, threads: int) -> None:
        """Quantise, choose the calibration method, and make a session for the exact shape."""
        import onnxruntime

        narrow = self._narrow()
        method, file = workload.calibrated.once(
            f"{self.name} int8", partial(self._best, workload.calibrated, narrow)
        )
        self._session = self._make(file, workload.batch, threads)
        self.set_input(workload.nhwc)
        weights = "reduce_range" if narrow else "u8u8" if self.entries else "u8s8"
        self.version: str = f"{onnxruntime.__version__} {weights} {method}"

    def set_input(self, nhwc: NDArray[np.float32]) -> None:
        """Lay another input out."""
        self._feed = {"image": nchw(nhwc)}

    def __call__(self) -> NDArray[np.float32]:
        """Run the input once."""
        logits: NDArray[np.float32] = self._session.run(None, self._feed)[0]
        return logits

    def _narrow(self) -> bool:
        return not has_vnni()

    def _best(self, network: Network, narrow: bool) -> tuple[str, Path]:
        def runner(file: Path) -> Forward:
            session = self._make(file, 1)
            return lambda x: session.run(None, {"image": x})[0]

        settings = {method: partial(_quantised, network, method, narrow) for method in METHODS}
        return network.best(settings, runner)

    def _make(self, file: Path, batch: int, threads: int = 0) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_free_dimension_override_by_name("batch", batch)
        for name, value in self.entries.items():
            options.add_session_config_entry(name, value)
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


class OnnxRuntimePrecise(OnnxRuntimeInt8):
    """Weights of 8 bits and u8 x u8 products: slower than `reduce_range`, and exact.

    With VNNI it would be the same as the other, and does not run.
    """

    name = "onnxruntime-u8u8"
    entries = PRECISE

    def _narrow(self) -> bool:
        if has_vnni():
            raise RuntimeError("with VNNI nothing saturates: as onnxruntime")
        return False


def _quantised(network: Network, method: str, narrow: bool) -> Path:
    """Quantise by one method; the ranges that it finds serve both widths of weights."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    path = network.scratch / f"onnxruntime-{method}{'-7' * narrow}.onnx"
    with contextlib.redirect_stdout(sys.stderr):
        quantize_static(
            network.once("onnxruntime fused", partial(_fused, network)),
            path,
            _reader(network.calibration_nchw),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=narrow,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=getattr(CalibrationMethod, method),
            # Image by image: histograms would keep every activation of every image in memory.
            extra_options={"CalibStridedMinMax": 1},
            calibration_cache_path=network.scratch / f"onnxruntime-{method}.json",
        )
    return path


def _fused(network: Network) -> Path:
    """The graph with shapes, and fused, which onnxruntime asks for before it quantises."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = network.scratch / "onnxruntime-fused.onnx"
    quant_pre_process(network.onnx_file, path)
    return path


def _reader(images: NDArray[np.float32]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """One image at a time, of a range if one is set."""

        def __init__(self) -> None:
            self.set_range(0, len(images))

        def __len__(self) -> int:
            return len(images)

        def set_range(self, start_index: int, end_index: int) -> None:
            self._rest = iter(images[start_index:end_index])

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            image = next(self._rest, None)
            return None if image is None else {"image": image[None]}

    return Reader()
