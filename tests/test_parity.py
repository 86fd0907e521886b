"""Every fused step of the network against torchvision's resnet50 in f64."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from resnet_rs import _core

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "sign-digits"))

import predict_digits

import check_signs
import export
from torch_reference import load_reference, reference_activations, relative_l2

DEMO_MODEL = predict_digits.HERE

STEP_TOLERANCE = 1e-5
"""Largest relative L2 error of any step's output.

A f32 convolution adds 3e-7 to 8e-7, with Winograd's algorithm about as much, and steps deep in the
network inherit some of what came before: 1.7e-6 at most. A wrong tap, stride or statistic gives
more than 1e-2.
"""

LOGITS_TOLERANCE = 2e-6
"""Largest relative L2 error of the logits: averaging over positions and fc halve a step's error."""

SIZES = [(224, 224), (160, 288), (65, 97), (32, 32)]
BATCHES = [1, 3]
TIERS = _core.available_isas()


@dataclass(frozen=True)
class Case:
    """A model, an input of three images and what torch in f64 makes of it."""

    weights: Path
    x: NDArray[np.float32]
    expected: dict[str, NDArray[np.float64]]


@pytest.fixture(scope="module", params=["random", "demo"])
def weights(request, tmp_path_factory) -> Path:
    if request.param == "demo":
        return DEMO_MODEL
    directory = tmp_path_factory.mktemp("random-resnet50")
    assert export.main(["--random", "0", "--no-verify", "--force", "--out", str(directory)]) == 0
    return directory


@pytest.fixture(scope="module")
def reference(weights):
    return load_reference(weights)


@pytest.fixture(scope="module")
def network_on(weights) -> Callable[[str], _core.Network]:
    """Load each tier's network once per model."""
    loaded: dict[str, _core.Network] = {}

    def network(tier: str) -> _core.Network:
        if tier not in loaded:
            loaded[tier] = _core.Network(str(weights), isa=tier)
        return loaded[tier]

    return network


@pytest.fixture(scope="module", params=SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def case(request, weights, reference) -> Case:
    shape = (max(BATCHES), *request.param, 3)
    x = np.random.default_rng(sum(request.param)).standard_normal(shape, dtype=np.float32)
    return Case(weights, x, reference_activations(reference, x))


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("tier", TIERS)
def test_every_step_matches_torch_in_f64(case, network_on, tier, batch):
    steps = network_on(tier).activations(case.x[:batch])

    assert [name for name, _ in steps] == list(case.expected)
    errors = []
    for name, actual in steps:
        expected = case.expected[name][:batch]
        # fc is [batch, classes] in torch and [batch, 1, 1, classes] among our NHWC steps.
        errors.append((name, relative_l2(actual.reshape(expected.shape), expected)))
    wrong = [name for name, error in errors if not error <= STEP_TOLERANCE]
    assert not wrong, f"first wrong step: {wrong[0]}\n{table(errors)}"


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("tier", TIERS)
def test_logits_match_torch_in_f64(case, network_on, tier, batch):
    logits = network_on(tier).logits(case.x[:batch])

    assert relative_l2(logits, case.expected["fc"][:batch]) <= LOGITS_TOLERANCE


def table(errors: list[tuple[str, float]]) -> str:
    """Every step and its error in network order, wrong ones marked."""
    return "\n".join(
        f"{name:<16} {error:.1e}{'' if error <= STEP_TOLERANCE else '  WRONG'}"
        for name, error in errors
    )


def test_reference_sees_every_block_and_both_inner_relus():
    """The comparison above is only as good as the names that it covers."""
    x = np.ones((1, 32, 32, 3), np.float32)
    names = list(reference_activations(load_reference(DEMO_MODEL), x))

    blocks = [
        f"layer{stage}.{block}{step}"
        for stage, count in enumerate((3, 4, 6, 3), start=1)
        for block in range(count)
        for step in (".relu1", ".relu2", "")
    ]
    assert names == ["relu", "maxpool", *blocks, "avgpool", "fc"]


def test_demo_model_top_1_equals_torchs_on_the_photos_here(tmp_path, capsys):
    for photo in (DEMO_MODEL / "photos").iterdir():
        folder = tmp_path / photo.name[0]
        folder.mkdir(exist_ok=True)
        shutil.copy(photo, folder)

    assert check_signs.main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "accuracy, ours     20 of 20" in printed
    assert "accuracy, torch    20 of 20" in printed


def test_check_signs_reports_a_disagreement(tmp_path, capsys, monkeypatch):
    (tmp_path / "0").mkdir()
    shutil.copy(next((DEMO_MODEL / "photos").glob("0_*.jpg")), tmp_path / "0")
    wrong = np.eye(10)[[7]]
    monkeypatch.setattr(check_signs, "torch_logits", lambda *_: iter([wrong]))

    assert check_signs.main([str(tmp_path)]) == 1
    assert "ours says 0, torch says 7" in capsys.readouterr().out


def test_demo_script_prints_the_right_digit_for_each_photo(capsys):
    assert predict_digits.main([]) == 0
    assert "20 of 20 right" in capsys.readouterr().out


def test_demo_script_fails_on_a_wrong_digit(tmp_path, capsys):
    mislabelled = tmp_path / "9_was_a_0.jpg"
    shutil.copy(next((DEMO_MODEL / "photos").glob("0_*.jpg")), mislabelled)

    assert predict_digits.main([str(mislabelled)]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_demo_script_says_what_it_cannot_read(tmp_path, capsys):
    assert predict_digits.main([str(tmp_path)]) == 2
    assert "no .jpg or .png photo" in capsys.readouterr().err

    assert predict_digits.main(["--weights", str(tmp_path / "absent")]) == 2
    assert "absent" in capsys.readouterr().err
