"""Repositories of a model hub: which files come, their hashes, redirects, tokens, offline."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from file_server import FileServer, file_server
from pretrained_case import visible

from resnet_rs.weights.pretrained import fetch
from resnet_rs.weights.pretrained.errors import DownloadError, NotFoundError

pytest_plugins = ["pretrained_fixtures"]

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = bytes(range(256)) * 4_000
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
TIMM = "timm/resnet50.a1_in1k"


def publish(
    server: FileServer,
    repository: str,
    config: dict[str, object],
    *,
    file: str = "model.safetensors",
    sha256: str | None = SHA256,
    revision: str = "main",
) -> None:
    """Put a repository on the server the way hubs do: the weights behind a redirect."""
    encoded = json.dumps(config).encode()
    for at in (revision, COMMIT):
        base = f"/{repository}/resolve/{at}"
        server.files[f"{base}/config.json"] = encoded
        server.headers[f"{base}/config.json"] = {"X-Repo-Commit": COMMIT}
        linked = {"X-Linked-ETag": f'"{sha256}"'} if sha256 else {}
        server.redirects[f"{base}/{file}"] = (
            f"{server.url}/storage/{file}",
            {"X-Repo-Commit": COMMIT, **linked},
        )
    server.files[f"/storage/{file}"] = WEIGHTS


class TestFetch:
    def test_files_of_one_commit_arrive(self, server: FileServer, empty_cache: Path) -> None:
        publish(server, TIMM, {"architecture": "resnet50"})
        file = fetch("resnet50.a1_in1k")
        assert file.path == empty_cache / "hub" / "timm--resnet50.a1_in1k" / "main"
        assert visible(file.path) == ["config.json", "model.safetensors"]
        assert (file.path / "model.safetensors").read_bytes() == WEIGHTS
        assert file.config == {
            "architecture": "resnet50",
            "source": {
                "repository": TIMM,
                "revision": COMMIT,
                "file": "model.safetensors",
                "sha256": SHA256,
            },
        }
        # The branch may move meanwhile, so what follows the first file is asked for by its commit.
        assert server.paths == [
            f"/{TIMM}/resolve/main/config.json",
            f"/{TIMM}/resolve/{COMMIT}/preprocessor_config.json",
            f"/{TIMM}/resolve/{COMMIT}/model.safetensors",
            "/storage/model.safetensors",
        ]

    def test_second_fetch_asks_nothing(self, server: FileServer) -> None:
        publish(server, TIMM, {"architecture": "resnet50"})
        first = fetch(TIMM)
        server.requests.clear()
        assert fetch(TIMM) == first
        assert fetch(TIMM, offline=True) == first
        assert server.requests == []

    def test_preprocessing_comes_where_there_is_one(self, server: FileServer) -> None:
        publish(server, "microsoft/resnet-50", {"model_type": "resnet"})
        base = f"/microsoft/resnet-50/resolve/{COMMIT}"
        server.files[f"{base}/preprocessor_config.json"] = b'{"size": 224}'
        file = fetch("microsoft/resnet-50", architecture="resnet50")
        assert visible(file.path) == [
            "config.json",
            "model.safetensors",
            "preprocessor_config.json",
        ]
        assert "architecture" not in file.config, "the name does not say it; the reader will"

    def test_older_weights_are_taken_where_there_are_no_others(self, server: FileServer) -> None:
        publish(server, "me/mine", {"model_type": "resnet"}, file="pytorch_model.bin")
        assert visible(fetch("me/mine").path) == ["config.json", "pytorch_model.bin"]

    def test_revisions_have_folders_of_their_own(self, server: FileServer) -> None:
        publish(server, "me/mine", {"model_type": "resnet"}, revision="v1.2")
        assert fetch("me/mine@v1.2").path.name == "v1.2"
        assert server.paths[0] == "/me/mine/resolve/v1.2/config.json"

    def test_interrupted_repository_is_completed_at_its_commit(self, server: FileServer) -> None:
        publish(server, TIMM, {"architecture": "resnet50"})
        config_bytes = 1000  # more than it has: it comes whole
        server.cuts = [config_bytes, *[1000] * 5]
        with pytest.raises(DownloadError, match="given up after 5 attempts"):
            fetch(TIMM)
        server.requests.clear()
        fetch(TIMM)
        assert server.paths[-2] == f"/{TIMM}/resolve/{COMMIT}/model.safetensors"
        assert server.requests[-1].headers["range"] == "bytes=5000-"


class TestHash:
    def test_wrong_hash_is_refused(self, server: FileServer) -> None:
        publish(server, TIMM, {"architecture": "resnet50"}, sha256="ab" * 32)
        with pytest.raises(DownloadError) as caught:
            fetch(TIMM)
        assert f"sha256 is {'ab' * 32}; got {SHA256}" in str(caught.value)

    def test_hash_in_the_plain_tag_counts_too(self, server: FileServer) -> None:
        publish(server, TIMM, {"architecture": "resnet50"}, sha256=None)
        server.headers["/storage/model.safetensors"] = {"ETag": f'"{"cd" * 32}"'}
        with pytest.raises(DownloadError, match=f"sha256 is {'cd' * 32}"):
            fetch(TIMM)

    def test_file_without_a_stated_hash_is_told(self, server: FileServer) -> None:
        publish(server, TIMM, {"architecture": "resnet50"}, sha256=None)
        with pytest.warns(UserWarning, match=f"stated no sha256 for model.safetensors.*{SHA256}"):
            fetch(TIMM)
        fetch(TIMM)  # a warning would fail here


class TestRefusals:
    def test_unknown_repository_is_told_with_those_near(self, server: FileServer) -> None:
        with pytest.raises(NotFoundError, match=r"nearest names: timm/resnet50\.a1_in1k"):
            fetch("timm/resnet50.a1_in1")
        with pytest.raises(NotFoundError, match="the server has no such file"):
            fetch("me/mine")

    def test_repository_without_weights_is_told(self, server: FileServer) -> None:
        publish(server, "me/mine", {"model_type": "resnet"}, file="other.bin")
        with pytest.raises(NotFoundError, match=r"expected model.safetensors or pytorch_model.bin"):
            fetch("me/mine")

    @pytest.mark.parametrize(
        ("name", "config", "message"),
        [
            ("me/mine", {"model_type": "vit"}, "model_type 'vit'; expected 'resnet'"),
            ("timm/resnetaa50.a1h_in1k", {"architecture": "resnetaa50"}, "'resnetaa50'; expected"),
            ("me/mine", {"architecture": "resnet18"}, "weights of resnet18; expected resnet50"),
        ],
    )
    def test_other_networks_are_refused_before_their_weights_come(
        self, name: str, config: dict[str, object], message: str, server: FileServer
    ) -> None:
        publish(server, name, config)
        with pytest.raises(ValueError, match=message):
            fetch(name, architecture="resnet50")
        assert server.paths == [f"/{name}/resolve/main/config.json"]

    def test_config_that_is_no_json_is_refused(self, server: FileServer) -> None:
        server.files["/me/mine/resolve/main/config.json"] = b"<html>"
        with pytest.raises(DownloadError, match=r"config.json: expected a JSON file"):
            fetch("me/mine")

    def test_offline_names_the_files_and_the_folder(
        self, server: FileServer, empty_cache: Path
    ) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            fetch("microsoft/resnet-50", offline=True)
        message = str(caught.value)
        assert f"{server.url}/microsoft/resnet-50/resolve/main/config.json" in message
        assert str(empty_cache / "hub" / "microsoft--resnet-50" / "main") in message
        assert server.requests == []

    def test_private_repository_asks_for_a_token(self, server: FileServer) -> None:
        server.statuses = [401]
        with pytest.raises(DownloadError, match="set HF_TOKEN"):
            fetch("me/mine")


class TestToken:
    def test_token_goes_to_the_hub_and_to_no_other_host(
        self, server: FileServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", "secret")
        publish(server, TIMM, {"architecture": "resnet50"})
        with file_server() as storage:
            storage.files["/w"] = WEIGHTS
            for path, (_, headers) in server.redirects.items():
                server.redirects[path] = (f"{storage.url}/w", headers)
            fetch(TIMM)
            assert [request.headers.get("authorization") for request in server.requests] == [
                "Bearer secret"
            ] * 3
            assert "authorization" not in storage.requests[0].headers

    def test_no_token_is_sent_where_none_is_set(self, server: FileServer) -> None:
        publish(server, TIMM, {"architecture": "resnet50"})
        fetch(TIMM)
        assert not any("authorization" in request.headers for request in server.requests)
