"""Models for `benches/cold_start.py`: one network in every runtime's format.

`python -m cold_start_runtimes.files SCRATCH [WEIGHTS]`, in `benches/`, prints a JSON object:
`weights`, `onnx` and `ncnn` to paths, or to null where what converts is missing.

It is a process of its own because torch would make its parent large: see `cold_start.py`.
"""

import contextlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from peer_runtimes.workload import Workload
from peers import random_weights


def main(scratch: str, weights: str | None = None) -> None:
    """Make the files under `scratch` and print where they are."""
    folder = Path(scratch)
    source = Path(weights) if weights else random_weights(folder / "weights")
    workload = Workload(source, folder, 1, 224, 224)
    files: dict[str, str | None] = {"weights": str(source), "onnx": None, "ncnn": None}
    with contextlib.redirect_stdout(sys.stderr):
        with contextlib.suppress(ModuleNotFoundError):
            files["onnx"] = str(workload.onnx_file)
        with contextlib.suppress(ModuleNotFoundError):
            files["ncnn"] = str(workload.ncnn_files[0])
    print(json.dumps(files))


if __name__ == "__main__":
    main(*sys.argv[1:])
