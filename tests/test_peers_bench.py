"""`benches/peers.py` and `precision_errors.py`: precisions, errors, images, on tiny networks."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benches"))

import peers
import precision_errors
from peer_runtimes import onnxruntime_int8
from peer_runtimes.accuracy import Accuracy, held_out_logits, measure_accuracy
from peer_runtimes.arguments import DEMO
from peer_runtimes.images import Images, photos, smooth_noise
from peer_runtimes.network import Network
from peer_runtimes.ours import Ours
from peer_runtimes.processor import has_vnni
from peer_runtimes.workload import Workload

TINY = "--architecture cifar_resnet20 --threads 1"
ONCE = "--batch 2 --rounds 1 --calls 1"
FEW = "--calibration 3 --held-out-count 3"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return peers.random_weights(tmp_path_factory.mktemp("weights") / "tiny", "cifar_resnet20")


@pytest.fixture
def workload(weights: Path, tmp_path: Path) -> Workload:
    images = smooth_noise(weights, 3, 3, (32, 24))
    network = Network(weights, tmp_path, images)
    return Workload(weights, tmp_path, 2, 32, 24, "int8", network)


class Fixed:
    """A runtime whose logits are a function of each image."""

    name = "fixed"
    version = ""

    def __init__(self, network: Network, error: float) -> None:
        self._images = network.images.held_out
        self._logits = (network.held_out_logits * (1 + error)).astype(np.float32)

    def load(self, workload: Workload, threads: int) -> None:
        self.set_input(workload.nhwc)

    def set_input(self, nhwc: NDArray[np.float32]) -> None:
        self.inputs = nhwc

    def __call__(self) -> NDArray[np.float32]:
        places = [
            next(i for i, known in enumerate(self._images) if np.array_equal(known, image))
            for image in self.inputs
        ]
        return self._logits[places]


def rows_of(table: Path) -> dict[str, dict[str, str]]:
    with table.open(encoding="utf-8") as file:
        return {row["runtime"]: row for row in csv.DictReader(file)}


def run_peers(tmp_path: Path, words: str) -> tuple[int, dict[str, dict[str, str]]]:
    table = tmp_path / "peers.csv"
    files = ["--csv", str(table), "--plot", str(tmp_path / "peers.png")]
    return peers.main([*f"{TINY} {ONCE} {words}".split(), *files]), rows_of(table)


def test_f32_is_what_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, rows = run_peers(tmp_path, "--size 32 --only torch-channels-last")
    assert status == 0
    assert list(rows) == ["resnet_rs", "torch-channels-last"]
    for row in rows.values():
        assert row["precision"] == "f32"
        assert float(row["median_ms"]) > 0, row["note"]
        assert float(row["relative_error"]) < 1e-5
        assert row["agreement"] == ""
    assert "same class" not in capsys.readouterr().out


@pytest.mark.slow
def test_int8_has_errors_beside_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only = "--only onnxruntime onnxruntime-u8u8"
    status, rows = run_peers(tmp_path, f"--precision int8 --size 32 {FEW} {only}")
    assert status == 0
    for name, row in rows.items():
        assert row["precision"] == "int8"
        if name == "onnxruntime-u8u8" and has_vnni():
            assert "nothing saturates" in row["note"]
            continue
        assert float(row["median_ms"]) > 0, row["note"]
        assert 1e-4 < float(row["relative_error"]) < 0.3
        assert 0 <= float(row["agreement"]) <= 1
    assert rows["onnxruntime"]["version"].split()[-1] in onnxruntime_int8.METHODS
    out = capsys.readouterr().out
    assert "cifar_resnet20, int8, batch 2, 32 x 32, 1 thread(s)" in out
    assert "same class" in out


def test_bf16_is_not_f32(tmp_path: Path) -> None:
    _, rows = run_peers(tmp_path, f"--precision bf16 --size 32 {FEW} --only torch-channels-last")
    torch_row = rows["torch-channels-last"]
    assert 1e-4 < float(torch_row["relative_error"]) < 0.1, torch_row["note"]
    ours = rows["resnet_rs"]
    assert 1e-4 < float(ours["relative_error"]) < 0.1, ours["note"]


def test_torch_quantises_by_fx(workload: Workload) -> None:
    runtime = peers.TorchFx()
    runtime.load(workload, 1)
    assert 1e-4 < measure_accuracy(runtime, workload).relative_error < 0.3


@pytest.mark.slow
def test_errors_without_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "errors.csv"
    words = f"{TINY} {FEW} --no-demo --only onnxruntime --csv {table}"
    assert precision_errors.main(words.split()) == 0
    rows = rows_of(table)
    assert [row["network"] for row in rows.values()] == ["cifar_resnet20"] * 2
    ours, peer = (float(rows[name]["relative_error"]) for name in ("resnet_rs", "onnxruntime"))
    assert float(rows["onnxruntime"]["ours_over_peer"]) == pytest.approx(ours / peer)
    assert "smooth noise: 3 calibrate, 3 measure" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "message"),
    [(0.6, "wrong logits"), (float("nan"), "wrong logits"), (1e-6, "not in int8")],
)
def test_what_is_not_int8_is_not_timed(workload: Workload, error: float, message: str) -> None:
    runtime = Fixed(workload.calibrated, error)
    found = peers.loaded_accuracy(runtime, workload, 1)
    assert isinstance(found, str)
    assert found.startswith(f"failed: ValueError: {message}")


def test_held_out_images_fill_batches(workload: Workload) -> None:
    runtime = Fixed(workload.calibrated, 0.01)
    found = peers.loaded_accuracy(runtime, workload, 1)
    assert isinstance(found, Accuracy)
    assert found.relative_error == pytest.approx(0.01, rel=1e-4)
    assert found.agreement == 1
    assert np.array_equal(runtime.inputs, workload.nhwc)
    for batch in (1, 2, 3, 5):
        logits = held_out_logits(runtime, replace(workload, batch=batch))
        assert np.array_equal(logits, runtime._logits)


def test_ours_calibrates_with_the_same_images(workload: Workload) -> None:
    runtime = Ours(None, winograd=True)
    runtime.load(workload, 1)
    recorded = runtime._model.config.quantization
    assert recorded is not None
    assert recorded["images"] == 3
    assert runtime.version.endswith(recorded["method"])


def test_the_best_setting_has_the_least_error(workload: Workload) -> None:
    network = workload.calibrated
    expected = network._reference(network.images.calibration)

    def runner(scale: float):  # type: ignore[no-untyped-def]
        places = iter(range(len(expected)))
        return lambda _: (expected[[next(places)]] * scale).astype(np.float32)

    settings = {
        "nan": lambda: float("nan"),
        "far": lambda: 1.2,
        "near": lambda: 0.9,
        "infinite": lambda: float("inf"),
    }
    assert network.best(settings, runner) == ("near", 0.9)
    assert network.once("x", lambda: 1) == network.once("x", lambda: 2) == 1


def test_noise_is_of_pixels(weights: Path) -> None:
    images = smooth_noise(weights, 4, 3, (40, 24))
    assert images.calibration.shape == (4, 40, 24, 3)
    assert images.held_out.shape == (3, 40, 24, 3)
    everything = np.concatenate([images.calibration, images.held_out])
    assert everything.dtype == np.float32
    pixels = everything * [0.229, 0.224, 0.225] + [0.485, 0.456, 0.406]
    assert np.allclose(pixels * 255, np.rint(pixels * 255), atol=1e-3)
    assert pixels.min() > -1e-3
    assert pixels.max() < 1.001
    # Neighbours are alike: white noise has a correlation of 0.
    for image in everything:
        assert np.corrcoef(image[:, 1:, 0].ravel(), image[:, :-1, 0].ravel())[0, 1] > 0.5
    assert len({image.tobytes() for image in everything}) == 7
    assert np.array_equal(smooth_noise(weights, 4, 3, (40, 24)).held_out, images.held_out)


def test_photos_that_measure_are_others(tmp_path: Path) -> None:
    for folder, count in (("some", 7), ("others", 2)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            shade = 30 * i + (7 if folder == "some" else 0)
            Image.new("RGB", (80, 70), (shade, 9, 200)).save(tmp_path / folder / f"{i}.png")

    def distinct(images: Images) -> set[bytes]:
        return {x.tobytes() for x in (*images.calibration, *images.held_out)}

    images = photos(DEMO, 5, 2, tmp_path / "some", None)
    assert images.calibration.shape == (5, 64, 64, 3)
    assert images.held_out.shape == (2, 64, 64, 3)
    assert len(distinct(images)) == 7
    images = photos(DEMO, 4, 2, tmp_path / "some", tmp_path / "others")
    assert len(distinct(images)) == 6
    with pytest.raises(ValueError, match="others: expected at least 3 photos; got 2"):
        photos(DEMO, 4, 3, tmp_path / "some", tmp_path / "others")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--images photos", "give --precision too"),
        ("--precision int8 --held-out photos", "--held-out goes with --images"),
        ("--precision int8 --images photos --size 64", "leave --size out"),
    ],
)
def test_options_without_effect_are_refused(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        peers.parse_arguments(words.split())
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fma avx2", False), ("avx512f avx512_vnni", True), ("avx_vnni f16c", True), ("vnni", False)],
)
def test_vnni_is_read_from_the_flags(tmp_path: Path, flags: str, expected: bool) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags : fpu {flags} x\n", encoding="utf-8")
    assert has_vnni(cpuinfo) is expected
    assert has_vnni(tmp_path / "missing") is False
