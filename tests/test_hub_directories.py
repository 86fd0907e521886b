"""Directories of Hugging Face transformers and timm, written by their own writers, and of ours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from checkpoints import TOLERANCE, assert_same_tensors, relative_error, rewrite_json
from safetensors.torch import save_file
from timm.models import save_for_hf
from tiny_torch import randomize
from torch import Tensor, nn

from resnet_rs import WeightsError
from resnet_rs.weights import formats
from resnet_rs.weights.formats import shapes
from resnet_rs.weights.formats.files import Fields
from resnet_rs.weights.formats.hf_directory import describe_transformers
from resnet_rs.weights.formats.hf_directory import preprocessing as transformers_preprocessing
from resnet_rs.weights.formats.timm_directory import preprocessing as timm_preprocessing


class Logits(nn.Module):
    """A transformers model as a function from images to one tensor."""

    def __init__(self, model: nn.Module, field: str) -> None:
        super().__init__()
        self.model = model
        self.field = field

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.model(x), self.field)


def transformers_model(**changes: Any) -> transformers.ResNetForImageClassification:
    settings = {
        "embedding_size": 8,
        "hidden_sizes": [16, 32, 48, 64],
        "depths": [1, 2, 1, 1],
        "id2label": {index: f"class {index}" for index in range(6)},
    }
    model = transformers.ResNetForImageClassification(
        transformers.ResNetConfig(**{**settings, **changes})
    )
    randomize(model)
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of `save_pretrained` of a model and its image processor."""
    directory = tmp_path_factory.mktemp("transformers")
    transformers_model().save_pretrained(directory)
    transformers.ConvNextImageProcessor(
        size={"shortest_edge": 224},
        crop_pct=0.875,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(directory)
    return directory


@pytest.fixture
def hub(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(saved, tmp_path / "hub"))


# --- Hugging Face transformers


@pytest.mark.parametrize(
    "changes",
    [
        {"layer_type": "bottleneck"},
        {"layer_type": "bottleneck", "downsample_in_bottleneck": True},
        {"layer_type": "basic"},
        {"layer_type": "basic", "num_channels": 1, "depths": [2, 1], "hidden_sizes": [8, 16]},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_save_pretrained_gives_their_logits(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = transformers_model(**changes)
    model.save_pretrained(tmp_path)
    preprocessing = {"mean": [0.5], "std": [0.5]} if "num_channels" in changes else None
    checkpoint = formats.read(tmp_path, preprocessing=preprocessing)
    assert relative_error(checkpoint, Logits(model, "logits")) <= TOLERANCE
    assert checkpoint.config["labels"] == [f"class {index}" for index in range(6)]


def test_a_model_without_a_head_gives_its_pooled_features(tmp_path: Path) -> None:
    model = transformers_model().resnet
    model.save_pretrained(tmp_path)
    checkpoint = formats.read(tmp_path)
    assert checkpoint.config["num_classes"] == 0
    assert "labels" not in checkpoint.config
    assert relative_error(checkpoint, Logits(model, "pooler_output")) <= TOLERANCE


def test_a_file_inside_is_read_with_the_config_beside_it(hub: Path) -> None:
    alone = formats.read(hub / "model.safetensors")
    assert alone.config == formats.read(hub).config
    assert alone.config["preprocessing"] == {
        "resize": 256,
        "crop": 224,
        "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }


def test_torch_files_and_shards_are_read_too(hub: Path) -> None:
    expected = formats.read(hub)
    state = transformers_model().state_dict()
    (hub / "model.safetensors").unlink()
    torch.save(state, hub / "pytorch_model.bin")
    assert formats.read(hub).tensors.keys() == expected.tensors.keys()

    (hub / "pytorch_model.bin").unlink()
    names = list(state)
    files = {
        name: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, name in enumerate(names)
    }
    for file in set(files.values()):
        save_file({name: state[name] for name in names if files[name] == file}, hub / file)
    index = hub / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files}))
    assert formats.read(hub).tensors.keys() == expected.tensors.keys()
    for bad in ("../model.safetensors", "absent.safetensors"):
        index.write_text(json.dumps({"weight_map": {"a": bad}}))
        with pytest.raises(WeightsError, match=f"there is no file '{bad}'"):
            formats.read(hub)
    for empty in ({"weight_map": {}}, {}):
        index.write_text(json.dumps(empty))
        with pytest.raises(WeightsError) as caught:
            formats.read(hub)
        assert f"{index}: weight_map: expected the shard of each tensor" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model_type", "vit", 'expected "resnet"'),
        ("hidden_act", "gelu", 'expected "relu", found "gelu"'),
        ("downsample_in_first_stage", True, "expected false, found true"),
        ("layer_type", "dense", '"basic" or "bottleneck"'),
        ("depths", [1, 2, 1], "expected as many as depths, 3"),
        ("depths", "many", "expected a list of whole numbers"),
        ("depths", [1, 2, 1, 10**6], "expected 1000 at most"),
        ("num_channels", 10**9, "a number from 1 to 65536"),
        ("hidden_sizes", [16, 32, 48, 66], "multiples of 4"),
        ("embedding_size", 1.5, "expected a whole number"),
        ("id2label", {"0": "a", "2": "b"}, "id2label: expected a name for each class from 0 up"),
        ("id2label", ["a"], "expected an object"),
    ],
)
def test_configs_that_are_not_supported_are_named(
    hub: Path, field: str, value: object, message: str
) -> None:
    rewrite_json(hub / "config.json", **{field: value})
    with pytest.raises(WeightsError, match=message) as caught:
        formats.read(hub)
    assert field in str(caught.value) or "variant" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "depths", "architecture"),
    [
        ("basic", [2, 2, 2, 2], "resnet18"),
        ("basic", [3, 4, 6, 3], "resnet34"),
        ("bottleneck", [3, 4, 6, 3], "resnet50"),
        ("bottleneck", [3, 4, 23, 3], "resnet101"),
        ("bottleneck", [3, 8, 36, 3], "resnet152"),
    ],
)
def test_the_papers_networks_have_their_names(
    kind: str, depths: list[int], architecture: str, tmp_path: Path
) -> None:
    """Of the sizes of the paper no field is another than the architecture's own."""
    widths = [64, 128, 256, 512] if kind == "basic" else [256, 512, 1024, 2048]
    settings = transformers.ResNetConfig(depths=depths, layer_type=kind, hidden_sizes=widths)
    fields = Fields("config.json", json.loads(settings.to_json_string(use_diff=False)))
    config = describe_transformers(fields, tmp_path).config
    assert config["architecture"] == architecture
    assert shapes.differing(architecture, config["variant"]) == {}


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ({"0": "LABEL_0", "1": "LABEL_1"}, None),
        ({"1": "LABEL_1", "0": "LABEL_0"}, None),
        ({"0": "LABEL_1", "1": "LABEL_0"}, ["LABEL_1", "LABEL_0"]),
        ({"0": "LABEL_0", "1": "dog"}, ["LABEL_0", "dog"]),
        ({"1": "dog", "0": "cat"}, ["cat", "dog"]),
        ({}, None),
    ],
    ids=str,
)
def test_placeholders_are_no_labels(
    names: dict[str, str], labels: list[str] | None, tmp_path: Path
) -> None:
    fields = Fields("config.json", {"model_type": "resnet", "id2label": names})
    assert describe_transformers(fields, tmp_path).config.get("labels") == labels


def processed(settings: dict[str, Any]) -> dict[str, Any]:
    return transformers_preprocessing(Fields("preprocessor_config.json", settings))


STATED: dict[str, Any] = {
    "resample": 2,
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.4, 0.5, 0.6],
}


@pytest.mark.parametrize(
    ("kind", "settings", "resize", "crop"),
    [
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}, "crop_pct": 0.9}, 248, 224),
        ("ConvNextFeatureExtractor", {"size": 224}, 256, 224),
        ("ConvNextImageProcessorFast", {"size": {"shortest_edge": 384}}, [384, 384], None),
        ("ViTImageProcessor", {"size": {"height": 200, "width": 100}}, [200, 100], None),
        ("ViTFeatureExtractor", {"size": 96}, [96, 96], None),
        (
            "BitImageProcessor",
            {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 200}},
            256,
            [224, 200],
        ),
        ("CLIPImageProcessor", {"size": 224, "crop_size": 224}, 224, 224),
        ("CLIPImageProcessor", {"size": 224, "do_center_crop": False}, 224, None),
        ("CLIPImageProcessor", {"do_resize": False, "crop_size": 224}, None, 224),
        ("ConvNextImageProcessor", {"do_resize": False, "size": 224}, None, None),
        ("ConvNextImageProcessor", {"size": 383}, 437, 383),
        ("ViTImageProcessor", {"do_resize": False, "size": 96}, None, None),
        (
            "BitImageProcessor",
            {"size": {"height": 90, "width": 80}, "do_center_crop": False},
            [90, 80],
            None,
        ),
    ],
)
def test_image_processors_become_preprocessing(
    kind: str, settings: dict[str, Any], resize: object, crop: object
) -> None:
    assert processed({"image_processor_type": kind, **STATED, **settings}) == {
        "resize": resize,
        "crop": crop,
        "interpolation": "bilinear",
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
    }


def test_a_processor_that_does_not_normalise_changes_nothing() -> None:
    settings = {"image_processor_type": "ViTImageProcessor", "size": 96, "do_normalize": False}
    spec = processed({**STATED, **settings})
    assert (spec["mean"], spec["std"]) == ([0.0] * 3, [1.0] * 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_processor_type": "DetrImageProcessor"}, "found 'Detr'"),
        ({"image_processor_type": 3}, "expected a string"),
        ({"rescale_factor": 1.0}, "do_rescale with 1/255"),
        ({"do_rescale": False}, "do_rescale with 1/255"),
        ({"do_pad": True}, "do_pad: expected false"),
        ({"resample": 17}, "resample: expected one of 0, 1, 2, 3, 4, 5"),
        ({"image_mean": None}, "image_mean: expected a value"),
        ({"image_mean": ["a"]}, "expected a list of numbers"),
        ({"size": None}, "size: expected a size"),
        ({"size": {"shortest_edge": 0}}, "expected a number of pixels"),
        ({"size": {"longest_edge": 3}}, "height: expected a number of pixels"),
        ({"size": {"height": 3, "width": 0}}, "width: expected a number of pixels"),
        (
            {"size": {"height": 224, "width": 224}},
            'size: expected {"shortest_edge": ...}, which this',
        ),
        ({"image_processor_type": "BitImageProcessor"}, "crop_size: expected a size to crop to"),
    ],
)
def test_processors_that_are_not_supported_are_named(changes: dict[str, Any], message: str) -> None:
    settings = {"image_processor_type": "ConvNextImageProcessor", "size": 224, **STATED, **changes}
    with pytest.raises(WeightsError, match=message):
        processed(settings)


# --- timm


TIMM_NAMES = ("resnet18", "resnet18d", "resnet10t", "resnet14t")


@pytest.mark.parametrize("name", TIMM_NAMES)
def test_save_for_hf_gives_timms_logits(tmp_path: Path, name: str) -> None:
    model = timm.create_model(name, num_classes=6)
    randomize(model)
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    checkpoint = formats.read(tmp_path)
    assert_same_tensors(checkpoint, model.state_dict())
    assert checkpoint.config["num_classes"] == 6
    assert relative_error(checkpoint, model) <= TOLERANCE


def test_timms_state_dict_under_the_name_of_a_torch_file(tmp_path: Path) -> None:
    model = timm.create_model("resnet18", num_classes=0, in_chans=1)
    randomize(model)
    save_for_hf(model, str(tmp_path), safe_serialization=False)
    assert (tmp_path / "pytorch_model.bin").is_file()
    checkpoint = formats.read(tmp_path, preprocessing={"mean": [0.5], "std": [0.5]})
    assert checkpoint.config["num_classes"] == 0
    assert relative_error(checkpoint, model) <= TOLERANCE


@pytest.mark.parametrize("name", ["resnet50", "resnet18d", "resnet34", "wide_resnet50_2"])
@pytest.mark.parametrize("test", [False, True])
def test_timms_preprocessing_is_that_of_its_transform(name: str, test: bool) -> None:
    cfg = timm.get_pretrained_cfg(name).to_dict()
    resolved = timm.data.resolve_data_config(pretrained_cfg=cfg, use_test_size=test)
    transform = timm.data.create_transform(**resolved)
    resize, crop = transform.transforms[:2]
    spec = timm_preprocessing(Fields("config.json", json.loads(json.dumps(cfg))), test=test)
    assert spec["resize"] == resize.size
    assert [spec["crop"]] * 2 == list(crop.size)
    assert spec["interpolation"] == resize.interpolation.value
    assert spec["mean"] == list(resolved["mean"])
    assert spec["std"] == list(resolved["std"])


@pytest.fixture(scope="module")
def timm_saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("timm")
    save_for_hf(
        timm.create_model("resnet10t", num_classes=2),
        str(directory),
        model_config={
            "label_names": ["n01", "n02"],
            "label_descriptions": {"n01": "a cat, asleep"},
        },
        safe_serialization=True,
    )
    return directory


@pytest.fixture
def timm_hub(timm_saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(timm_saved, tmp_path / "timm"))


def test_timms_labels_are_descriptions_where_there_are(timm_hub: Path) -> None:
    assert formats.read(timm_hub).config["labels"] == ["a cat, asleep", "n02"]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ({"0": "a", "1": "b"}, ["a", "b"]),
        ({"1": "b", "0": "a"}, ["a", "b"]),
        (["LABEL_0", "LABEL_1"], None),
        (["a", "b", "c"], None),
    ],
    ids=str,
)
def test_timms_label_names_may_be_by_number(
    timm_hub: Path, names: object, labels: list[str] | None
) -> None:
    rewrite_json(timm_hub / "config.json", label_names=names, label_descriptions=...)
    assert formats.read(timm_hub).config.get("labels") == labels


def test_the_remark_says_which_size_was_used(timm_hub: Path) -> None:
    (remark,) = formats.read(timm_hub).remarks
    assert "at the size of the training: resize 201, crop 176" in remark
    assert 'pass preprocessing={"resize": 235, "crop": 224}' in remark


def test_timms_first_configs_are_on_one_level(timm_hub: Path) -> None:
    config = json.loads((timm_hub / "config.json").read_text())
    flat = {"architecture": config["architecture"], **config["pretrained_cfg"]}
    (timm_hub / "config.json").write_text(json.dumps(flat))
    checkpoint = formats.read(timm_hub)
    assert checkpoint.config["architecture"] == "resnet18d"
    assert checkpoint.config["preprocessing"]["crop"] == 176


def test_transformers_wrapper_of_timm(tmp_path: Path) -> None:
    # It states neither labels (the names are placeholders) nor how images are prepared.
    config = transformers.TimmWrapperConfig(architecture="resnet18", num_labels=6)
    model = transformers.TimmWrapperForImageClassification(config)
    randomize(model)
    model.save_pretrained(tmp_path)
    checkpoint = formats.read(tmp_path)
    assert checkpoint.config == {
        "format_version": 1,
        "architecture": "resnet18",
        "num_classes": 6,
        "activation": "softmax",
    }
    assert relative_error(checkpoint, Logits(model, "logits")) <= TOLERANCE
    rewrite_json(tmp_path / "config.json", problem_type="multi_label_classification")
    assert formats.read(tmp_path).config["activation"] == "sigmoid"


def test_a_squashed_image_is_resized_exactly(timm_hub: Path) -> None:
    spec = timm_preprocessing(
        Fields("config.json", {"crop_mode": "squash", "input_size": [3, 90, 45], "crop_pct": 0.9})
    )
    assert (spec["resize"], spec["crop"]) == ([100, 50], [90, 45])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "resnetaa50"}, "resnetaa50 is not supported: .*pooling"),
        ({"architecture": "resnetblur50"}, "not supported: .*blur"),
        ({"architecture": "seresnet50"}, "not supported: .*gates"),
        ({"architecture": "vit_base"}, "found 'vit_base'"),
        ({"architecture": ...}, "architecture: expected a network's name"),
        ({"global_pool": "max"}, 'global_pool: expected "avg"'),
        ({"model_args": {"output_stride": 8}}, "model_args: output_stride cannot be"),
        ({"num_classes": 7}, "expected 2, as fc.weight has, got 7"),
        ({"label_names": [1, 2]}, "label_names: expected a list of names"),
        ({"label_names": {"0": "a", "2": "b"}}, "label_names: expected a list of names"),
        (
            {"pretrained_cfg": {"crop_pct": 0}},
            "crop_pct: expected a number from 0.001",
        ),
        ({"pretrained_cfg": {"crop_mode": "border"}}, "crop_mode"),
        ({"pretrained_cfg": {"interpolation": "random"}}, "interpolation: expected one of"),
        ({"pretrained_cfg": {"input_size": [3, 224]}}, "input_size"),
        ({"pretrained_cfg": {"input_size": [3, 224, 200]}}, "crop_mode"),
        ({"pretrained_cfg": []}, "expected an object"),
    ],
)
def test_timm_configs_that_are_not_supported_are_named(
    timm_hub: Path, changes: dict[str, Any], message: str
) -> None:
    rewrite_json(timm_hub / "config.json", **changes)
    with pytest.raises(WeightsError, match=message) as caught:
        formats.read(timm_hub)
    assert str(timm_hub) in str(caught.value)


# --- ours


def test_our_own_directory_is_read_with_overrides(demo_dir: Path) -> None:
    checkpoint = formats.read(demo_dir, preprocessing={"resize": 300})
    assert checkpoint.config["architecture"] == "resnet50"
    assert checkpoint.config["num_classes"] == len(checkpoint.config["labels"]) == 10
    stated = json.loads((demo_dir / "config.json").read_text())["preprocessing"]
    assert stated["resize"] != 300
    assert checkpoint.config["preprocessing"] == {**stated, "resize": 300}
    assert formats.read(demo_dir / "model.safetensors").config["num_classes"] == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "resnet51"}, "architecture"),
        ({"lables": []}, "lables"),
        ({"variant": {"blocks": [10**6]}}, "expected 1000 at most"),
        ({"variant": {"in_channels": "x"}}, "in_channels"),
        ({"variant": []}, "variant"),
        ({"labels": 3}, "labels"),
        ({"preprocessing": {"crop": -1}}, "crop"),
        ({"format_version": 2}, "format_version"),
    ],
)
def test_a_malformed_config_of_ours_is_named(
    demo_dir: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    shutil.copy(demo_dir / "config.json", tmp_path)
    (tmp_path / "model.safetensors").symlink_to(demo_dir / "model.safetensors")
    rewrite_json(tmp_path / "config.json", **changes)
    with pytest.raises(WeightsError, match=message) as caught:
        formats.read(tmp_path)
    assert "config.json" in str(caught.value)


def test_a_config_without_tensors_says_what_is_missing(demo_dir: Path, tmp_path: Path) -> None:
    shutil.copy(demo_dir / "config.json", tmp_path)
    with pytest.raises(WeightsError, match=r"expected model\.safetensors or pytorch_model\.bin"):
        formats.read(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "\xff", "[" * 100_000, ""])
def test_a_config_that_is_no_json_object_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(WeightsError, match=r"config\.json"):
        formats.read(tmp_path)
