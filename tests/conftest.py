"""Fixtures that the tests share: the demo model, its photos and the tiers of kernels."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import resnet_rs
from resnet_rs import ResNet50
from resnet_rs._core import available_isas

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "examples" / "sign-digits"
ISAS = ("portable", "avx2", "avx512")

# The variables that change what a model does; a test that is about one sets it itself.
THREAD_VARIABLES = ("RESNET_RS_NUM_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS")

# torch and NumPy on one thread each: beside another worker of xdist, their teams wait for each
# other longer than small tensors take. torch reads its variable when a test imports it. NumPy is
# imported already, here; but the workers inherit both. Neither means anything to the package.
JUDGES_THREADS = ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def pytest_configure() -> None:
    """Take interrupts again: a run in the background inherits that they are ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in JUDGES_THREADS:
        os.environ.setdefault(name, "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runslow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--runslow"):
        return
    skip = pytest.mark.skip(reason="slow: run with --runslow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


def pytest_report_header() -> str:
    return (
        f"resnet_rs {resnet_rs.__version__}, tiers on this machine: {', '.join(available_isas())}"
    )


@pytest.fixture
def one_torch_thread() -> Iterator[None]:
    """torch without a team: its threads wait for each other longer than small tensors take."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def required_isas() -> list[str]:
    """The tiers that `RESNET_RS_REQUIRE_ISA` (a comma list) says must be tested here."""
    return [name for name in os.environ.get("RESNET_RS_REQUIRE_ISA", "").split(",") if name]


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    """Each tier in turn; one that the machine lacks is skipped, or fails where it is required."""
    name: str = request.param
    if name not in available_isas():
        message = f"this machine cannot run {name}"
        if name in required_isas():
            pytest.fail(f"{message}, and RESNET_RS_REQUIRE_ISA asks for it")
        pytest.skip(message)
    return name


@pytest.fixture(scope="session")
def demo_dir() -> Path:
    """The weights directory of the model that reads digits from hand signs."""
    assert (DEMO / "model.safetensors").is_file(), f"the repository has lost {DEMO}"
    return DEMO


@pytest.fixture(scope="session")
def demo_photos() -> list[Path]:
    """The demo model's photos; a name starts with the digit that is shown."""
    photos = sorted((DEMO / "photos").glob("*.jpg"))
    assert photos, f"the repository has lost the photos in {DEMO}"
    return photos


@pytest.fixture(scope="session")
def demo_photo(demo_photos: list[Path]) -> Path:
    return demo_photos[5]


@pytest.fixture(scope="session")
def model(demo_dir: Path) -> ResNet50:
    """The demo model with every default."""
    return ResNet50(demo_dir)
