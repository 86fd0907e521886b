"""Planted mistakes: each must be found at the right layer and named rightly."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from network_pairs import Array, by_step, hooked, load, nchw, noise, relative_l2
from planted_mistakes import (
    PLANTS,
    Plant,
    epsilon,
    network,
    with_block,
    with_weights,
    without_residual,
)
from tiny_model import write_tiny_model
from tiny_torch import randomize, tiny_variant
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

import resnet_rs
from resnet_rs.inspect.compare import Comparison, compare, write_dump
from resnet_rs.inspect.compare.inputs import input_mistakes
from resnet_rs.inspect.compare.mistakes import mistakes
from resnet_rs.inspect.compare.steps import TOLERANCE
from resnet_rs.reference.walk import parameters

PREPROCESSING = {"resize": 72, "crop": 64}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> resnet_rs.ResNet:
    """The right network: `TinyResNet` in our core."""
    directory = tmp_path_factory.mktemp("right")
    return load(
        network(),
        directory,
        architecture="resnet50",
        variant=tiny_variant(),
        preprocessing=PREPROCESSING,
    )


def check(comparison: Comparison, layer: str, mistake: str, text: str) -> None:
    found = comparison.diagnosis
    assert not comparison.ok
    assert found is not None, str(comparison)
    assert (found.layer, found.mistake) == (layer, mistake), str(found)
    assert text in found.text
    assert f"it looks like: {mistake}, at {layer}" in str(comparison)
    assert str(found) == f"{layer}: {mistake}: {found.text}"


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_mistake_in_a_torch_module_is_found(model, plant: Plant) -> None:
    comparison = compare(model, plant.make(), noise(2, 47, 40, 3))
    check(comparison, plant.layer, plant.mistake, plant.text)


def test_v1_5_beside_a_right_v1(tmp_path) -> None:
    right = network(stride_on_conv1=True)
    variant = tiny_variant(stride_on="conv1")
    model = load(right, tmp_path, architecture="resnet50", variant=variant)
    x = noise(1, 47, 40, 3)
    assert compare(model, right, x).ok
    check(
        compare(model, network(), x),
        "layer2.0.conv1",
        "stride on the other convolution",
        "the stride is on conv2 (v1.5: torchvision), not on conv1",
    )


def test_flatten_order_and_the_pool_before_it(tmp_path) -> None:
    module = network()
    module.avgpool = nn.AvgPool2d(2, 2, padding=1)
    module.fc = nn.Linear(64 * 2 * 2, 5)
    randomize(module)
    head = {"avg_pool": {"kernel": 2, "stride": 2, "padding": 1}}
    model = load(
        module,
        tmp_path / "right",
        architecture="resnet50",
        variant=tiny_variant(head=head),
        preprocessing={"resize": 64, "crop": 64},
    )
    x = noise(1, 64, 64, 3)
    assert compare(model, module, x).ok

    steps = by_step(hooked(module, x))
    weights, bias = (p.detach().double().numpy() for p in (module.fc.weight, module.fc.bias))
    steps["fc"] = steps["avgpool"].reshape(1, -1) @ weights.T + bias  # NHWC, as it lies
    write_dump(tmp_path / "dump.npz", steps.items())
    comparison = compare(model, tmp_path / "dump.npz", x)
    check(comparison, "fc", "flatten order", "pixel by pixel (NHWC)")

    module.avgpool = nn.AvgPool2d(2, 2, padding=1, count_include_pad=False)
    comparison = compare(model, module, x)
    check(comparison, "avgpool", "average pool's divisor", "outside the picture are not counted")


def test_basic_blocks_and_their_strides(tmp_path) -> None:
    right = network(BasicBlock, (1, 1, 1, 1))
    variant = {**tiny_variant(blocks=[1, 1, 1, 1]), "block": "basic", "expansion": 1}
    model = load(right, tmp_path, architecture="resnet18", variant=variant)
    x = noise(1, 47, 40, 3)
    assert compare(model, right, x).ok
    wrong = network(BasicBlock, (1, 1, 1, 1))
    block = wrong.layer2[0]
    block.conv1.stride, block.conv2.stride = (1, 1), (2, 2)
    found = compare(model, wrong, x)
    check(found, "layer2.0.conv1", "stride on the other convolution", "on conv2")


def dump(path: Path, module: nn.Module, x: Array, *, keep: Callable[[str], bool]) -> Path:
    """A dump of some of the steps, in torch's layout."""
    steps = by_step(hooked(module, x))
    kept = [(name, array.transpose(0, 3, 1, 2)) for name, array in steps.items() if keep(name)]
    assert kept
    write_dump(path, kept, layout="NCHW")
    return path


def is_block(name: str) -> bool:
    return name.startswith("layer") and name.count(".") == 1


@pytest.mark.parametrize(
    ("module", "layer", "mistake"),
    [
        (lambda: network(stride_on_conv1=True), "layer2.0.conv1", "stride on the other"),
        (lambda: with_block("layer2.1", without_residual), "layer2.1.add", "missing residual"),
        (lambda: epsilon(1e-3, "layer3.0.bn2"), "layer3.0.bn2", "wrong epsilon"),
        (
            lambda: with_weights("layer4.0.conv2.weight", lambda w: w.transpose(2, 3)),
            "layer4.0.conv2",
            "transposed weights",
        ),
    ],
    ids=["v1", "residual", "epsilon", "weights"],
)
def test_mistake_within_a_block_is_found_from_the_blocks_results_alone(
    model, module, layer, mistake, tmp_path
) -> None:
    x = noise(1, 47, 40, 3)
    path = dump(tmp_path / "dump.npz", module(), x, keep=is_block)
    found = compare(model, path, x).diagnosis
    assert found is not None
    assert found.layer == layer
    assert found.mistake.startswith(mistake)


def test_mistake_everywhere_is_found_from_the_logits_alone(model, tmp_path) -> None:
    x = noise(1, 47, 40, 3)
    path = dump(tmp_path / "dump.npz", epsilon(1e-3), x, keep=lambda name: name == "fc")
    comparison = compare(model, path, x)
    check(comparison, "bn1", "wrong epsilon", "0.001, not 1e-05; so in all 20 places up to here")


IMAGE_PLANTS: dict[str, tuple[Callable[[Array], Array], str, str]] = {
    # Changes of pixels from 0 to 255, and the expected diagnosis of each.
    "BGR": (lambda p: (p / 255 - MEAN) / STD, "RGB/BGR", "B, G, R"),
    "BGR before the mean": (
        lambda p: (p[..., ::-1] / 255 - MEAN) / STD,
        "RGB/BGR",
        "normalised by the numbers of R, G, B",
    ),
    "0 to 1": (lambda p: p / 255, "wrong normalisation", "the pixels are 0 to 1"),
    "0 to 255": (lambda p: p, "wrong normalisation", "the pixels are 0 to 255"),
    "no division by 255": (
        lambda p: (p - MEAN) / STD,
        "wrong normalisation",
        "the division by 255 is missing",
    ),
    "no mean": (lambda p: p / 255 / STD, "wrong normalisation", "the mean is not subtracted"),
    "normalised twice": (
        lambda p: ((p / 255 - MEAN) / STD - MEAN) / STD,
        "wrong normalisation",
        "mean and std are applied twice",
    ),
    "times std": (
        lambda p: (p / 255 - MEAN) * STD,
        "wrong normalisation",
        "the pixels are multiplied by std",
    ),
    "no std": (lambda p: p / 255 - MEAN, "wrong normalisation", "the division by std is missing"),
    "-1 to 1": (lambda p: p / 127.5 - 1, "wrong normalisation", "scaled to -1 to 1"),
    "Caffe": (
        lambda p: p[..., ::-1] - np.array([103.939, 116.779, 123.68]),
        "wrong normalisation",
        "Caffe's and Keras's",
    ),
    "BGR and 0 to 1": (
        lambda p: p[..., ::-1] / 255,
        "RGB/BGR and wrong normalisation",
        "B, G, R, and mean and std are not applied",
    ),
    "NWHC": (
        lambda p: ((p / 255 - MEAN) / STD).transpose(0, 2, 1, 3),
        "transposed input",
        "height and width",
    ),
    "reshape": (
        lambda p: ((p / 255 - MEAN) / STD).reshape(1, 3, 64, 64).transpose(0, 2, 3, 1),
        "reshape for a transpose",
        "NHWC became NCHW by reshape",
    ),
    "mirrored": (
        lambda p: ((p / 255 - MEAN) / STD)[:, :, ::-1],
        "flipped picture",
        "left and right",
    ),
}
MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize("with_image", [True, False], ids=["image", "results alone"])
@pytest.mark.parametrize("name", IMAGE_PLANTS)
def test_wrong_input_is_found(model, demo_photo, tmp_path, name, with_image) -> None:
    wrong, mistake, text = IMAGE_PLANTS[name]
    pixels = (model.preprocess(demo_photo).astype(np.float64) * STD + MEAN) * 255
    x = wrong(pixels)
    if name == "BGR":
        x = x[..., ::-1]
    results = [(step, array) for step, array in by_step(hooked(network(), x)).items()]
    write_dump(tmp_path / "dump.npz", results, image=x if with_image else None)

    comparison = compare(model, tmp_path / "dump.npz", demo_photo)

    check(comparison, "image", mistake, text)
    assert comparison.first_wrong == ("image" if with_image else "conv1")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"interpolation": "bicubic"}, "resized with bicubic, not bilinear"),
        ({"resize": 64}, "the short side was resized to 64, not 72"),
        ({"resize": [64, 64]}, "squashed to 64 x 64"),
    ],
)
def test_another_resize_is_found(model, tmp_path, change, text) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    origin = model.loaded.options.origin
    other = resnet_rs.load(origin, preprocessing={**PREPROCESSING, **change})
    comparison = compare(model, other, photo)
    check(comparison, "image", "another resize or crop", text)


STEPS = ["conv1", "layer2.0.conv2", "layer2.0.conv3", "bn1", "relu", "layer2.0.add", "maxpool"]


@pytest.mark.parametrize("step", [*STEPS, "avgpool", "fc"])
def test_every_mistake_of_a_step_is_told_from_the_others(model, step, tmp_path) -> None:
    """A mistake's own results are diagnosed as that mistake, unless it changes nothing here."""
    assert len(told_mistakes(model, step, tmp_path)) >= 2


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("layer2.0.conv2", {"the bias is not added"}),
        (
            "maxpool",
            {
                "the padding is 1, not 0",
                "the size is rounded down, not up",
                "the padding is 1, not 0, and the size is rounded down",
            },
        ),
        ("avgpool", {"it takes the mean, not the largest value"}),
    ],
)
def test_every_mistake_of_other_layers_is_told_from_the_others(step, words, tmp_path) -> None:
    fields = {"conv_bias": True, "stem_pool": "max_ceil", "head": "global_max_pool"}
    fields["stem_widths"] = [4]
    other = resnet_rs.load(write_tiny_model(tmp_path, crop=64, **fields))
    assert told_mistakes(other, step, tmp_path, words) == words


def told_mistakes(
    model: resnet_rs.ResNet, step: str, tmp_path: Path, texts: set[str] | None = None
) -> set[str]:
    """Make a step's mistakes, of these texts or all, check that each is found, give their texts."""
    x = noise(2, 47, 40, 3)
    trace = resnet_rs.load(model.loaded.options.origin, backend="reference").trace(x)
    results = {"image": trace.image.astype(np.float64), **trace}
    operation = next(o for o in trace.operations if o["name"] == step)
    inputs = [results[name] for name in operation["inputs"]]
    own = parameters(operation, model.loaded.tensors())
    tried = set()
    for mistake in mistakes(operation):
        if texts is not None and mistake.text not in texts:
            continue
        with contextlib.suppress(ValueError), np.errstate(all="ignore"):
            wrong = mistake.formula(operation, inputs, own)
            if wrong.shape == results[step].shape and not np.isfinite(wrong).all():
                continue  # such as the root of a negative variance: told as not finite
            right = results[step]
            if wrong.shape == right.shape and relative_l2(wrong, right) <= TOLERANCE:
                continue
            write_dump(tmp_path / "dump.npz", {**trace, step: wrong}.items(), image=trace.image)
            found = compare(model, tmp_path / "dump.npz", x).diagnosis
            assert found is not None, mistake
            assert (found.layer, found.mistake) == (step, mistake.mistake), (mistake, found)
            tried.add(mistake.text)
    return tried


def test_imagenets_normalisation_in_place_of_anothers_is_found(model, tmp_path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    origin = model.loaded.options.origin
    for field, value in (("mean", [0.5, 0.5, 0.5]), ("std", [0.3, 0.25, 0.2])):
        other = resnet_rs.load(origin, preprocessing={**PREPROCESSING, field: value})
        comparison = compare(other, model, photo)
        check(comparison, "image", "wrong normalisation", "mean and std are ImageNet's")


def test_another_tensor_of_a_model_is_named_and_not_that_of_its_trace(model, tmp_path) -> None:
    module = network()
    with torch.no_grad():
        weight = module.layer1[0].conv2.weight
        weight += 0.1 * torch.from_numpy(noise(*weight.shape)).to(weight)
    variant = tiny_variant()
    fields = {"architecture": "resnet50", "variant": variant, "preprocessing": PREPROCESSING}
    other = load(module, tmp_path, **fields)
    x = noise(1, 47, 40, 3)
    text = "layer1.0.conv2.weight is another tensor (relative L2 "
    check(compare(model, other, x), "layer1.0.conv2", "other weights", text)
    from_trace = compare(model, other.trace(x), x)
    assert from_trace.first_wrong == "layer1.0.conv2"
    assert from_trace.diagnosis is None


def test_hypotheses_end_with_the_budget(model, monkeypatch) -> None:
    plant = next(plant for plant in PLANTS if plant.name == "TensorFlow's same")
    x = noise(2, 47, 40, 3)
    monkeypatch.setattr("resnet_rs.inspect.compare.diagnose.MAC_BUDGET", 0)
    assert compare(model, plant.make(), x).diagnosis is None


def test_every_mistake_of_the_input_is_told_from_the_others(model, tmp_path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    x = model.preprocess(photo).astype(np.float64)
    tried = set()
    for mistake in input_mistakes(x, model.config.preprocessing, photo):
        if mistake.image.shape == x.shape and np.allclose(mistake.image, x, atol=1e-3):
            continue  # the right one: the model's own normalisation is ImageNet's
        write_dump(tmp_path / "dump.npz", [("conv1", noise(1, 2, 2, 3))], image=mistake.image)
        found = compare(model, tmp_path / "dump.npz", photo).diagnosis
        assert found is not None, mistake.text
        assert (found.layer, found.mistake, found.text) == ("image", mistake.mistake, mistake.text)
        tried.add(mistake.text)
    assert len(tried) > 25


def test_other_resizes_are_tried_with_the_models_choices_about_pictures(model, tmp_path) -> None:
    """A photo with transparent parts, on the background that the model states."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 4), np.uint8)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "x.png")
    origin = model.loaded.options.origin
    chosen = resnet_rs.load(origin, background=(250, 3, 90))
    spec = chosen.config.preprocessing
    squashed = dataclasses.replace(spec, resize=(spec.crop, spec.crop))
    other = resnet_rs.load(origin, background=(250, 3, 90), preprocessing=squashed)
    wrong = other.preprocess(tmp_path / "x.png")
    write_dump(tmp_path / "dump.npz", [("conv1", noise(1, 2, 2, 3))], image=wrong)
    found = compare(chosen, tmp_path / "dump.npz", tmp_path / "x.png").diagnosis
    assert found is not None
    assert found.mistake == "another resize or crop"
    assert "squashed" in found.text


def test_an_unknown_mistake_of_a_batch_is_not_looked_for_in_its_resizing(model, tmp_path) -> None:
    """A batch of pixels is no image that can be resized again."""
    batch = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    x = model.preprocess(batch)
    write_dump(tmp_path / "dump.npz", [("conv1", noise(1, 2, 2, 3))], image=noise(*x.shape))
    comparison = compare(model, tmp_path / "dump.npz", batch)
    assert comparison.first_wrong == "image"
    assert comparison.diagnosis is None


def test_epsilon_in_a_dump_shows_at_its_own_layer_though_all_later_ones_are_wrong(
    model, tmp_path
) -> None:
    x = noise(1, 47, 40, 3)
    module = epsilon(1e-2, "layer2.0.bn1", "layer3.0.bn1")
    path = dump(tmp_path / "dump.npz", module, x, keep=lambda name: True)
    comparison = compare(model, path, x)
    check(comparison, "layer2.0.bn1", "wrong epsilon", "epsilon is 0.01, not 1e-05")
    rows = {row.name: row.ok for row in comparison.rows}
    assert not rows["layer2.0.conv2"]
    assert rows["layer2.0.downsample.1"], "this branch does not see the mistake"


def test_hook_that_keeps_no_copy_is_told_from_a_wrong_network(model, tmp_path) -> None:
    """With ReLU(inplace=True) a kept reference shows the values after the ReLU."""
    module = network()
    for part in module.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = True
    kept: dict[str, Tensor] = {}
    for name, part in module.named_modules():
        if name in ("conv1", "bn1"):
            part.register_forward_hook(lambda _m, _i, o, name=name: kept.update({name: o}))
    x = noise(1, 47, 40, 3)
    with torch.no_grad():
        module(nchw(x))
    arrays = {name: tensor.numpy() for name, tensor in kept.items()}
    np.savez(tmp_path / "dump.npz", layout="NCHW", **arrays)
    comparison = compare(model, tmp_path / "dump.npz", x)
    check(comparison, "bn1", "hook without a copy", "after an in-place ReLU")


@pytest.mark.parametrize(
    ("store", "mistake", "text"),
    [
        (lambda a: a.transpose(0, 3, 1, 2), "wrong layout", "says NHWC, and its arrays are NCHW"),
        (lambda a: a.transpose(0, 2, 1, 3), "wrong layout", "height and width are swapped"),
        (
            lambda a: a.transpose(0, 3, 1, 2).reshape(a.shape),
            "reshape for a transpose",
            "NCHW became NHWC by reshape",
        ),
        (np.zeros_like, "wrong scale", "every value is 0"),
        (lambda a: np.where(a > 0, np.nan, a), "not finite", "values are NaN or infinite"),
    ],
)
def test_results_that_are_stored_wrongly_are_told(model, tmp_path, store, mistake, text) -> None:
    x = noise(1, 47, 40, 3)
    steps = by_step(hooked(network(), x))
    steps["layer1.0.conv2"] = store(steps["layer1.0.conv2"])
    write_dump(tmp_path / "dump.npz", steps.items())
    check(compare(model, tmp_path / "dump.npz", x), "layer1.0.conv2", mistake, text)


def test_small_differences_that_have_grown_are_no_mistake(model, tmp_path) -> None:
    x = noise(1, 47, 40, 3)
    steps = by_step(hooked(network(), x))
    # As in half precision: each step is right for the inputs that it got, within its own rounding.
    rounded = {name: array.astype(np.float16) for name, array in steps.items()}
    module = network()
    with torch.no_grad():
        wrong_input = torch.from_numpy(steps["relu"].transpose(0, 3, 1, 2).copy()).float()
        pooled = module.maxpool(wrong_input * 1.0003)
        conv = module.layer1[0].conv1(pooled).numpy().transpose(0, 2, 3, 1)
    rounded["maxpool"] = pooled.numpy().transpose(0, 2, 3, 1)
    rounded["layer1.0.conv1"] = conv * 1.0003
    write_dump(tmp_path / "dump.npz", rounded.items())
    comparison = compare(model, tmp_path / "dump.npz", x, tolerance=5e-4)
    check(comparison, "layer1.0.conv1", "accumulated differences", "right for the inputs")


def test_what_is_no_known_mistake_is_not_guessed(model, tmp_path) -> None:
    x = noise(1, 47, 40, 3)
    steps = by_step(hooked(network(), x))
    steps["layer1.0.conv2"] = steps["layer1.0.conv2"] + 0.1 * noise(*steps["layer1.0.conv2"].shape)
    write_dump(tmp_path / "dump.npz", steps.items())
    comparison = compare(model, tmp_path / "dump.npz", x)
    assert comparison.first_wrong == "layer1.0.conv2"
    assert comparison.diagnosis is None
    assert "this looks like no mistake that is known here" in str(comparison)
