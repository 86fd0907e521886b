"""ncnn in int8, by its own tools `ncnn2table` and `ncnn2int8`.

The Python package does not have them: they are built from ncnn's sources (benches/README.md).
"""

import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

import numpy as np

from peer_runtimes.exports import export_ncnn
from peer_runtimes.ncnn_runtime import Ncnn, load_net, run_image
from peer_runtimes.network import Forward, Network
from peer_runtimes.workload import Workload

METHODS = ("kl", "aciq")
"""The calibration methods that are tried; `eq` takes hours."""

Files = tuple[Path, Path]


class NcnnInt8(Ncnn):
    """s8 activations, weights by channel; Winograd on as by default. Image by image."""

    def load(self, workload: Workload, threads: int) -> None:
        """Quantise, choose the calibration method, and load.

        Raises:
            FileNotFoundError: the tools are not on the PATH.
        """
        import ncnn

        method, files = workload.calibrated.once("ncnn int8", partial(_best, workload.calibrated))
        self._net = load_net(files, threads)
        self.set_input(workload.nhwc)
        self.version = f"{ncnn.__version__} {method}"


def _best(network: Network) -> tuple[str, Files]:
    import ncnn

    tools = [_tool(name) for name in ("ncnn2table", "ncnn2int8")]
    height, width = network.size
    original = export_ncnn(network.torch_model(), height, width, network.scratch)
    images = _write_images(network)

    def runner(files: Files) -> Forward:
        net = load_net(files, 1)
        return lambda x: run_image(net, ncnn.Mat(x[0]).clone())[None]

    settings = {
        method: partial(_quantised, network, method, tools, original, images) for method in METHODS
    }
    return network.best(settings, runner)


def _tool(name: str) -> str:
    if path := shutil.which(name):
        return path
    raise FileNotFoundError(f"{name} is not on the PATH, and the package ncnn does not have it")


def _write_images(network: Network) -> Path:
    """Write the calibration images as `.npy`, and a list of them, as `ncnn2table` reads them."""
    folder = network.scratch / "calibration"
    folder.mkdir()
    paths = [folder / f"{i}.npy" for i in range(len(network.calibration_nchw))]
    for path, image in zip(paths, network.calibration_nchw, strict=True):
        np.save(path, image)
    listed = folder / "list.txt"
    listed.write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
    return listed


def _quantised(
    network: Network, method: str, tools: list[str], original: Files, images: Path
) -> Files:
    table = network.scratch / f"ncnn-{method}.table"
    files = (network.scratch / f"ncnn-{method}.param", network.scratch / f"ncnn-{method}.bin")
    height, width = network.size
    to_table, to_int8 = tools
    _run(
        to_table,
        *original,
        images,
        table,
        f"shape=[{width},{height},3]",
        f"thread={os.cpu_count()}",
        f"method={method}",
        "type=1",
    )
    _run(to_int8, *original, *files, table)
    return files


def _run(*command: str | Path) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
