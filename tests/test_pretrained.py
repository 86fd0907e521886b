"""Pretrained weights: the tables, the names, the cache, offline, the command."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from file_server import FileServer
from pretrained_case import CONTENT, ROW

from resnet_rs import _core
from resnet_rs.cli import pretrained as command
from resnet_rs.weights import pretrained
from resnet_rs.weights.pretrained import (
    TIMM_WEIGHTS,
    TORCHVISION_WEIGHTS,
    TorchvisionWeights,
    cache,
    fetch,
    timm_names,
    weights_of,
)
from resnet_rs.weights.pretrained.names import HubRepository, resolve

pytest_plugins = ["pretrained_fixtures"]
pytestmark = pytest.mark.usefixtures("empty_cache")


class TestTables:
    def test_torchvision_says_the_same(self) -> None:
        from torchvision import models

        ours = {row.full_name: row for row in TORCHVISION_WEIGHTS}
        theirs = {
            f"{name}.{weights.name}": weights
            for name in models.list_models(module=models)
            if name.startswith(("resnet", "resnext", "wide_resnet"))
            for weights in models.get_model_weights(name)
        }
        assert ours.keys() == theirs.keys()
        for name, weights in theirs.items():
            row, preset = ours[name], weights.transforms()
            assert weights.url == f"{pretrained._TORCHVISION_SERVER}/{row.file}"
            assert weights.meta["num_params"] == row.parameters
            assert weights.meta["_file_size"] == row.mebibytes
            metrics = weights.meta["_metrics"]["ImageNet-1K"]
            assert (metrics["acc@1"], metrics["acc@5"]) == (row.top_1, row.top_5)
            assert row.preprocessing() == {
                "resize": preset.resize_size[0],
                "crop": preset.crop_size[0],
                "interpolation": preset.interpolation.value,
                "mean": preset.mean,
                "std": preset.std,
            }
            default = models.get_model_weights(row.architecture).DEFAULT
            assert row.is_default == (weights == default)

    def test_timm_says_the_same(self) -> None:
        import timm

        for architecture, tags in TIMM_WEIGHTS.items():
            theirs = {
                name.partition(".")[2]: cfg
                for name, cfg in timm.models.get_arch_pretrained_cfgs(architecture).items()
                if cfg.hf_hub_id
            }
            assert tags.keys() == theirs.keys()
            assert timm.get_pretrained_cfg(architecture).tag == next(iter(tags))
            for tag, cfg in theirs.items():
                assert cfg.hf_hub_id == f"timm/{architecture}.{tag}"
                for size, use_test_size in (("train", False), ("test", True)):
                    data = timm.data.resolve_data_config(
                        pretrained_cfg=cfg.to_dict(), use_test_size=use_test_size
                    )
                    assert tags[tag].preprocessing(size) == {
                        "resize": math.floor(data["input_size"][1] / data["crop_pct"]),
                        "crop": data["input_size"][1],
                        "interpolation": data["interpolation"],
                        "mean": list(data["mean"]),
                        "std": list(data["std"]),
                    }, f"{architecture}.{tag}, {size}"

    def test_all_architectures_are_ours(self) -> None:
        known = set(_core.architectures())
        assert known >= {row.architecture for row in TORCHVISION_WEIGHTS}
        assert known >= TIMM_WEIGHTS.keys()


class TestNames:
    @pytest.mark.parametrize(
        ("name", "architecture", "row"),
        [
            ("IMAGENET1K_V2", "resnet50", "resnet50.IMAGENET1K_V2"),
            ("imagenet1k_v1", "resnet50", "resnet50.IMAGENET1K_V1"),
            ("DEFAULT", "resnet50", "resnet50.IMAGENET1K_V2"),
            ("DEFAULT", "resnet18", "resnet18.IMAGENET1K_V1"),
            ("resnet50.IMAGENET1K_V2", None, "resnet50.IMAGENET1K_V2"),
            ("resnet50.DEFAULT", "resnet50", "resnet50.IMAGENET1K_V2"),
            ("ResNet50_Weights.IMAGENET1K_V2", None, "resnet50.IMAGENET1K_V2"),
            (
                "ResNeXt101_64X4D_Weights.DEFAULT",
                "resnext101_64x4d",
                "resnext101_64x4d.IMAGENET1K_V1",
            ),
            ("Wide_ResNet50_2_Weights.DEFAULT", None, "wide_resnet50_2.IMAGENET1K_V2"),
        ],
    )
    def test_torchvisions_forms(self, name: str, architecture: str | None, row: str) -> None:
        found = resolve(name, architecture)
        assert isinstance(found, TorchvisionWeights)
        assert found.full_name == row

    @pytest.mark.parametrize(
        ("name", "architecture", "repository"),
        [
            ("resnet50.a1_in1k", None, HubRepository("timm/resnet50.a1_in1k", "main", "resnet50")),
            ("a2_in1k", "resnet18", HubRepository("timm/resnet18.a2_in1k", "main", "resnet18")),
            (
                "timm/resnet50.a1_in1k",
                "resnet50",
                HubRepository("timm/resnet50.a1_in1k", "main", "resnet50"),
            ),
            ("timm/resnet101", None, HubRepository("timm/resnet101.a1h_in1k", "main", "resnet101")),
            ("timm/resnet50.new", None, HubRepository("timm/resnet50.new", "main", "resnet50")),
            ("hf-hub:timm/seresnet50.x", None, HubRepository("timm/seresnet50.x", "main", None)),
            ("microsoft/resnet-50", "resnet50", HubRepository("microsoft/resnet-50")),
            ("a-b/c.d@refs/pr/1", None, HubRepository("a-b/c.d", "refs/pr/1")),
        ],
    )
    def test_hub_forms(
        self, name: str, architecture: str | None, repository: HubRepository
    ) -> None:
        assert resolve(name, architecture) == repository

    @pytest.mark.parametrize(
        ("name", "architecture", "message"),
        [
            ("IMAGENET1K_V2", None, "say which, as architecture='resnet50'"),
            ("IMAGENET1K_V2", "resnet18", "of resnet18. The nearest names: resnet18.IMAGENET1K_V1"),
            ("IMAGENET1K_V3", "resnet50", "nearest names: resnet50.IMAGENET1K_V"),
            ("resnet50.a9_in1k", None, "resnet50.a1_in1k"),
            ("resnet5O.IMAGENET1K_V1", None, "nearest names: resnet50.IMAGENET1K_V1"),
            ("resnet50", None, "is an architecture; say which weights: resnet50.IMAGENET1K_V1"),
            ("resnet50", "resnet50", "is an architecture"),
            ("DEFAULT", "resnet7", "there are no pretrained weights of resnet7"),
            ("zzz", None, "weights 'zzz'. `resnet-rs pretrained` lists all"),
            ("resnet18.DEFAULT", "resnet50", "are weights of resnet18; expected resnet50"),
            ("timm/resnet18.a1_in1k", "resnet50", "are weights of resnet18; expected resnet50"),
            ("a/b/c", None, "expected a repository as 'owner/repository'"),
            ("a/b@", None, "expected a repository"),
            ("../x", None, "expected a repository"),
            ("a/..@../..", None, "expected a repository"),
            ("a/b@../../c", None, "expected a repository"),
            ("/home/me/resnet50.pth", None, "pass its path to resnet_rs.load"),
        ],
    )
    def test_what_is_none_is_refused(
        self, name: str, architecture: str | None, message: str
    ) -> None:
        with pytest.raises(ValueError, match=re.escape(message)):
            resolve(name, architecture)

    def test_another_type_is_refused(self) -> None:
        with pytest.raises(TypeError, match="name must be a str"):
            resolve(Path("x"))  # type: ignore[arg-type]

    def test_every_name_is_found_by_itself(self) -> None:
        for row in TORCHVISION_WEIGHTS:
            assert resolve(row.full_name) is row
        for name in timm_names():
            found = resolve(name)
            assert isinstance(found, HubRepository)
            assert found.name == f"timm/{name}"


class TestCache:
    def test_folder_is_the_argument_then_the_variables(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        assert cache.cache_folder("here") == Path("here")
        assert cache.cache_folder() == tmp_path / "cache"
        monkeypatch.delenv("RESNET_RS_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache.cache_folder() == tmp_path / "xdg" / "resnet_rs"
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        for unset in ("", "relative"):
            monkeypatch.setenv("XDG_CACHE_HOME", unset)
            assert cache.cache_folder() == tmp_path / ".cache" / "resnet_rs"

    def test_offline_is_the_argument_then_the_variables(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert not cache.is_offline()
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert cache.is_offline()
        assert not cache.is_offline(False)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("RESNET_RS_OFFLINE", "Yes")
        assert cache.is_offline()
        monkeypatch.setenv("RESNET_RS_OFFLINE", "maybe")
        with pytest.raises(ValueError, match="RESNET_RS_OFFLINE must be 1"):
            cache.is_offline()

    def test_sha256_is_computed_anew_when_the_file_changes(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        for content in (b"one", b"three"):
            path.write_bytes(content)
            for _ in range(2):
                found = cache.sha256_of(path, tmp_path / "cache")
                assert found == hashlib.sha256(content).hexdigest()

    def test_sha256_is_not_computed_twice(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        path = tmp_path / "a"
        path.write_bytes(b"one")
        first = cache.sha256_of(path, tmp_path / "cache")
        monkeypatch.setattr(cache, "digest_of", lambda path: pytest.fail("it was read again"))
        assert cache.sha256_of(path, tmp_path / "cache") == first
        assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["a"]

    @pytest.mark.parametrize(
        "variables",
        [
            {},
            {"XDG_CACHE_HOME": "/xdg"},
            {"HF_HOME": "~/hf"},
            {"HF_HOME": "$HOME/hf", "XDG_CACHE_HOME": "/xdg"},
            {"HUGGINGFACE_HUB_CACHE": "/old", "HF_HOME": "/hf"},
            {"HF_HUB_CACHE": "/new", "HUGGINGFACE_HUB_CACHE": "/old"},
        ],
    )
    def test_hub_folder_is_the_one_of_hugging_face(
        self, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        assert cache.hub_folder("here") == Path("here/hub")
        assert cache.hub_folder() == tmp_path / "cache" / "hub"
        monkeypatch.delenv("RESNET_RS_CACHE")
        monkeypatch.setenv("HOME", str(tmp_path))
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        # The library reads the variables when it is imported.
        code = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE, end='')"
        theirs = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
        )
        assert str(cache.hub_folder()) == theirs.stdout


class TestOffline:
    def test_cache_is_used(self, server: FileServer, folder: Path) -> None:
        fetch("resnet50.DEFAULT")
        server.requests.clear()
        assert fetch("resnet50.DEFAULT", offline=True).path.read_bytes() == CONTENT
        assert server.requests == []

    def test_missing_file_is_named_with_its_place(
        self, server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RESNET_RS_OFFLINE", "1")
        with pytest.raises(FileNotFoundError) as caught:
            fetch("resnet50.DEFAULT")
        message = str(caught.value)
        assert f"Fetch {server.url}/{ROW.file} elsewhere" in message
        assert f"put it at {folder / ROW.file}" in message
        assert server.requests == []
        (folder / ROW.file).write_bytes(CONTENT)
        assert fetch("resnet50.DEFAULT").path == folder / ROW.file


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The command's exit status, output and errors."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    parsed = parser.parse_args([str(argument) for argument in arguments])
    status: int = parsed.run(parsed)
    output = capsys.readouterr()
    return status, output.out, output.err


class TestCommand:
    def test_lists_every_name(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, _ = run(capsys)
        assert status == 0
        first_words = {line.split()[0] for line in out.splitlines() if line}
        assert first_words >= {row.full_name for row in TORCHVISION_WEIGHTS} | set(timm_names())

    def test_lists_one_architecture(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, _ = run(capsys, "--architecture", "resnet50", "--format", "json")
        assert status == 0
        names = [entry["name"] for entry in json.loads(out)]
        assert names[:2] == [row.full_name for row in weights_of("resnet50")]
        assert all(name.startswith("resnet50.") for name in names)

    def test_lists_what_is_cached(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        weights = weights_of("resnet50")[1]
        (folder / weights.file).write_bytes(b"")
        _, out, _ = run(capsys)
        cached = [line.split()[0] for line in out.splitlines() if "cached" in line]
        _, out, _ = run(capsys, "--format", "json")
        cached += [entry["name"] for entry in json.loads(out) if entry.get("cached")]
        assert cached == [weights.full_name] * 2

    def test_unknown_architecture_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, err = run(capsys, "--architecture", "resnet7")
        assert (status, out) == (2, "")
        assert err == "resnet-rs: error: there are no pretrained weights of resnet7\n"

    def test_fetches_and_prints_the_path(
        self, server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status, out, err = run(capsys, "resnet50.DEFAULT", "--cache", tmp_path / "there")
        assert (status, err) == (0, "")
        assert Path(out.removesuffix("\n")).read_bytes() == CONTENT
        assert out.startswith(str(tmp_path / "there"))
        status, out, _ = run(
            capsys, "DEFAULT", "--architecture", "resnet50", "--format", "json", "--offline",
            "--cache", tmp_path / "there",
        )  # fmt: skip
        assert status == 0
        assert json.loads(out)["config"]["preprocessing"]["resize"] == 232

    def test_failure_is_one_line(
        self, server: FileServer, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status, out, err = run(capsys, "resnet50.DEFAULT", "--offline")
        assert (status, out) == (2, "")
        assert err.startswith("resnet-rs: error: resnet50.IMAGENET1K_V2 is not in the cache")
        assert err.count("\n") == 1


def run_python(code: str, **variables: str) -> None:
    """Run a program in a new process that has imported nothing."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment)


def test_import_of_the_package_loads_no_network_code() -> None:
    run_python(
        "import sys, resnet_rs\n"
        "known = set(sys.modules)\n"
        "assert 'resnet_rs.weights.pretrained' not in known, 'imported with the package'\n"
        "import resnet_rs.weights.pretrained\n"
        "new = {'urllib.request', 'huggingface_hub', 'requests', 'tqdm', 'filelock'}\n"
        "assert not new & (set(sys.modules) - known), 'imported early'\n"
    )


class TestWithoutTheExtra:
    """No library of the extra `pretrained` can be imported."""

    HIDE = (
        "import sys\n"
        "for name in ('huggingface_hub', 'requests', 'tqdm', 'filelock'):\n"
        "    sys.modules[name] = None\n"
        "from resnet_rs.weights.pretrained import fetch\n"
    )

    @pytest.mark.parametrize("name", ["resnet50.IMAGENET1K_V2", "resnet50.a1_in1k"])
    def test_download_names_it(self, name: str, empty_cache: Path) -> None:
        run_python(
            f"{self.HIDE}"
            "try:\n"
            f"    fetch({name!r})\n"
            "except ImportError as error:\n"
            "    assert 'pip install \"resnet_rs[pretrained]\"' in str(error), error\n"
            "else:\n"
            "    raise AssertionError('there is nothing to download with')\n",
        )
        assert not empty_cache.exists()

    def test_what_is_cached_loads(self, server: FileServer, folder: Path, tmp_path: Path) -> None:
        (folder / ROW.file).write_bytes(CONTENT)
        base = "/timm/resnet50.a1_in1k/resolve/main"
        server.files[f"{base}/config.json"] = b'{"architecture": "resnet50"}'
        weights = f"/timm/resnet50.a1_in1k/resolve/{server.commit}/model.safetensors"
        server.files[weights] = CONTENT
        with pytest.warns(UserWarning, match="stated no sha256"):
            fetch("resnet50.a1_in1k")
        server.requests.clear()
        run_python(
            f"{self.HIDE}"
            "from resnet_rs.weights import torchvision_weights\n"
            "from resnet_rs.weights.torchvision_weights import TorchvisionWeights\n"
            f"torchvision_weights.TORCHVISION_WEIGHTS = ({ROW!r},)\n"
            f"assert fetch('resnet50.DEFAULT').path.name == {ROW.file!r}\n"
            "assert (fetch('resnet50.a1_in1k').path / 'model.safetensors').is_file()\n",
        )
        assert server.requests == []
