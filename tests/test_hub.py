"""Repositories of a model hub: which files come, their hashes, redirects, tokens, offline."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub
import pytest
from file_server import FileServer, file_server
from pretrained_case import HUB_BLOCK_BYTES as BLOCK
from pretrained_case import visible

from resnet_rs.weights.pretrained import fetch
from resnet_rs.weights.pretrained.errors import DownloadError, NotFoundError

pytest_plugins = ["pretrained_fixtures"]

WEIGHTS = bytes(range(256)) * 4_000
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
TIMM = "timm/resnet50.a1_in1k"
COMMIT = FileServer.commit
STORAGE = "/storage/model.safetensors"


def snapshot(hub: Path, repository: str = TIMM) -> Path:
    """The folder of a repository's commit in a Hugging Face cache."""
    return hub / f"models--{repository.replace('/', '--')}" / "snapshots" / COMMIT


def publish(
    server: FileServer,
    repository: str,
    config: dict[str, object],
    *,
    file: str = "model.safetensors",
    sha256: str | None = SHA256,
    revision: str = "main",
) -> None:
    """Put a repository on the server the way hubs do: the weights are on another host."""
    encoded = json.dumps(config).encode()
    storage = server.url.replace("127.0.0.1", "localhost")
    for at in (revision, COMMIT):
        base = f"/{repository}/resolve/{at}"
        server.files[f"{base}/config.json"] = encoded
        linked = {"X-Linked-ETag": f'"{sha256}"'} if sha256 else {"ETag": '"of no known kind"'}
        linked["X-Linked-Size"] = str(len(WEIGHTS))
        server.redirects[f"{base}/{file}"] = (f"{storage}/storage/{file}", linked)
    server.files[f"/storage/{file}"] = WEIGHTS


class TestFetch:
    def test_files_of_one_commit_arrive(self, server: FileServer, empty_cache: Path) -> None:
        publish(server, TIMM, {"architecture": "resnet50"})
        file = fetch("resnet50.a1_in1k")
        assert file.path == snapshot(empty_cache / "hub")
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
            "/storage/model.safetensors",
        ]
        assert {request.path for request in server.requests} == {
            f"/{TIMM}/resolve/main/config.json",
            f"/{TIMM}/resolve/{COMMIT}/model.safetensors",
            "/storage/model.safetensors",
        }

    def test_cache_is_the_one_of_hugging_face(
        self, server: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        publish(server, TIMM, {"architecture": "resnet50"})
        monkeypatch.delenv("RESNET_RS_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        monkeypatch.setenv("HF_HOME", str(tmp_path / "theirs"))
        file = fetch(TIMM)
        assert file.path == snapshot(tmp_path / "theirs" / "hub")
        found = huggingface_hub.try_to_load_from_cache(
            TIMM, "model.safetensors", cache_dir=tmp_path / "theirs" / "hub"
        )
        assert Path(str(found)) == file.path / "model.safetensors"

    def test_what_another_program_fetched_is_used(self, server: FileServer, tmp_path: Path) -> None:
        publish(server, TIMM, {"architecture": "resnet50"})
        hub = tmp_path / "cache" / "hub"
        for name in ("config.json", "model.safetensors"):
            huggingface_hub.hf_hub_download(TIMM, name, cache_dir=hub, endpoint=server.url)
        server.requests.clear()
        assert fetch(TIMM).path == snapshot(hub)
        assert server.requests == []

    def test_preprocessing_that_another_program_left_out_is_fetched(
        self, server: FileServer, tmp_path: Path
    ) -> None:
        publish(server, "me/mine", {"model_type": "resnet"})
        hub = tmp_path / "cache" / "hub"
        for name in ("config.json", "model.safetensors"):
            huggingface_hub.hf_hub_download("me/mine", name, cache_dir=hub, endpoint=server.url)
        asked = f"/me/mine/resolve/{COMMIT}/preprocessor_config.json"
        server.files[asked] = b'{"size": 224}'
        server.requests.clear()
        assert "preprocessor_config.json" in visible(fetch("me/mine").path)
        assert set(server.paths) == {asked}

    def test_files_put_there_by_hand_are_used(self, server: FileServer, empty_cache: Path) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            fetch("me/mine", offline=True)
        folder = Path(str(caught.value).rpartition("put them into ")[2])
        assert folder.is_relative_to(empty_cache)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"model_type": "resnet"}')
        (folder / "model.safetensors").write_bytes(WEIGHTS)
        for offline in (True, False):
            file = fetch("me/mine", offline=offline)
            assert file.path == folder
            assert file.config["source"]["revision"] == "main"
            assert file.config["source"]["sha256"] == SHA256
        assert server.requests == []

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
        file = fetch("me/mine@v1.2")
        assert file.config["source"]["revision"] == COMMIT
        assert server.paths[0] == "/me/mine/resolve/v1.2/config.json"
        server.requests.clear()
        assert fetch("me/mine@v1.2", offline=True) == file
        with pytest.raises(FileNotFoundError):
            fetch("me/mine", offline=True)

    def test_second_fetch_of_a_transformers_repository_asks_nothing(
        self, server: FileServer
    ) -> None:
        publish(server, "me/mine", {"model_type": "resnet"})
        first = fetch("me/mine")
        server.requests.clear()
        assert fetch("me/mine") == first
        assert server.requests == []

    def test_cut_is_resumed(self, server: FileServer, empty_cache: Path) -> None:
        publish(server, TIMM, {"architecture": "resnet50"})
        config_bytes = 1000  # more than it has: it comes whole
        server.cuts = [config_bytes, 3 * BLOCK, 2 * BLOCK]
        assert (fetch(TIMM).path / "model.safetensors").read_bytes() == WEIGHTS
        ranges = [request.headers.get("range") for request in server.asked(STORAGE)]
        assert ranges == [None, f"bytes={3 * BLOCK}-", f"bytes={5 * BLOCK}-"]

    def test_busy_hub_is_asked_again(self, server: FileServer) -> None:
        publish(server, TIMM, {"architecture": "resnet50"})
        server.statuses = [503, 503, 429]
        assert (fetch(TIMM).path / "model.safetensors").read_bytes() == WEIGHTS

    def test_interrupted_repository_is_completed_at_its_commit(
        self, server: FileServer, empty_cache: Path
    ) -> None:
        publish(server, TIMM, {"architecture": "resnet50"})
        server.cuts = [1000, *[0] * 20]
        with pytest.raises(DownloadError, match="cannot be fetched"):
            fetch(TIMM)
        server.cuts.clear()
        server.requests.clear()
        # The branch has moved meanwhile.
        server.files[f"/{TIMM}/resolve/main/config.json"] = b"{}"
        assert fetch(TIMM).path == snapshot(empty_cache / "hub")
        assert {request.path for request in server.requests} == {
            f"/{TIMM}/resolve/{COMMIT}/model.safetensors",
            STORAGE,
        }

    def test_many_at_once_fetch_once(self, server: FileServer) -> None:
        publish(server, TIMM, {"architecture": "resnet50"})
        with ThreadPoolExecutor(8) as pool:
            files = list(pool.map(lambda _: fetch(TIMM), range(8)))
        assert files == files[:1] * 8
        assert len(server.asked(STORAGE)) == 1


class TestHash:
    def test_wrong_hash_is_refused_and_removed(self, server: FileServer, empty_cache: Path) -> None:
        publish(server, TIMM, {"architecture": "resnet50"}, sha256="ab" * 32)
        with pytest.raises(DownloadError) as caught:
            fetch(TIMM)
        assert f"sha256 is {'ab' * 32}; got {SHA256}" in str(caught.value)
        storage = snapshot(empty_cache / "hub").parent.parent
        assert not list(storage.glob("snapshots/*/model.safetensors"))
        left = [path.name for path in storage.glob("snapshots/*/*")]
        assert "model.safetensors" not in left, "a link that leads nowhere"
        assert not (storage / "blobs" / ("ab" * 32)).exists()

    def test_hash_in_the_plain_tag_counts_too(self, server: FileServer) -> None:
        publish(server, TIMM, {"architecture": "resnet50"}, sha256=None)
        for path, (location, _) in server.redirects.items():
            linked = {"ETag": f'"{"cd" * 32}"', "X-Linked-Size": str(len(WEIGHTS))}
            server.redirects[path] = (location, linked)
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
        server.statuses = [404]  # without the headers by which a hub explains itself
        with pytest.raises(NotFoundError, match=r"no such file \(HTTP 404\)"):
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
        with pytest.raises(
            DownloadError,
            match=r"config.json: expected a JSON file.*; remove it to have it fetched",
        ):
            fetch("me/mine")

    def test_offline_names_the_files_and_the_folder(
        self, server: FileServer, empty_cache: Path
    ) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            fetch("microsoft/resnet-50", offline=True)
        message = str(caught.value)
        assert f"{server.url}/microsoft/resnet-50/resolve/main/config.json" in message
        folder = empty_cache / "hub" / "models--microsoft--resnet-50" / "snapshots" / "main"
        assert f"put them into {folder}" in message
        assert "microsoft/resnet-50 is not in the cache" in message
        assert "model.safetensors (else pytorch_model.bin)" in message
        assert "preprocessor_config.json elsewhere" in message
        assert server.requests == []

    def test_no_network_is_told_with_the_way_out(
        self, server: FileServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
        with pytest.raises(DownloadError, match=r"refused.*RESNET_RS_OFFLINE=1") as caught:
            fetch("me/mine")
        assert "http://127.0.0.1:9/me/mine/resolve/main/config.json" in str(caught.value)

    def test_slashes_after_the_endpoint_do_not_count(
        self, server: FileServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9//")
        with pytest.raises(DownloadError) as caught:
            fetch("me/mine")
        assert "http://127.0.0.1:9/me/mine/resolve/main/config.json" in str(caught.value)

    def test_mirror_that_is_no_hub_is_told(self, server: FileServer) -> None:
        publish(server, TIMM, {"architecture": "resnet50"})
        server.commit = ""
        with pytest.raises(DownloadError, match="X-Repo-Commit"):
            fetch(TIMM)

    @pytest.mark.parametrize("status", [401, 403])
    def test_private_repository_asks_for_a_token(self, status: int, server: FileServer) -> None:
        server.statuses = [status]
        with pytest.raises(DownloadError, match=rf"HTTP {status}\).*set HF_TOKEN") as caught:
            fetch("me/mine")
        assert str(caught.value).startswith(f"{server.url}/me/mine/resolve/main/config.json: ")

    @pytest.mark.parametrize(
        "error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("no name")]
    )
    def test_errors_of_the_disk_and_of_a_name_stay_what_they_are(
        self, error: Exception, server: FileServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
        with pytest.raises(type(error)) as caught:
            fetch("me/mine")
        assert caught.value is error

    def test_a_config_without_an_object_says_nothing(
        self, server: FileServer, empty_cache: Path
    ) -> None:
        publish(server, "me/mine", {})
        for at in ("main", COMMIT):
            server.files[f"/me/mine/resolve/{at}/config.json"] = b"[]"
        assert fetch("me/mine").path == snapshot(empty_cache / "hub", "me/mine")


class TestProgress:
    def test_bar_is_shown_on_a_terminal_only(
        self, server: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        publish(server, TIMM, {"architecture": "resnet50"})
        for stream, progress, shown in (
            (Terminal(), True, True),
            (Terminal(), False, False),
            (io.StringIO(), True, False),
        ):
            monkeypatch.setattr(sys, "stderr", stream)
            fetch(TIMM, cache_dir=tmp_path / str(id(stream)), progress=progress)
            assert ("B/s" in stream.getvalue()) == shown
        assert not huggingface_hub.utils.are_progress_bars_disabled()


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
            assert {request.headers.get("authorization") for request in server.requests} == {
                "Bearer secret"
            }
            assert "authorization" not in storage.requests[0].headers

    def test_no_token_is_sent_where_none_is_set(self, server: FileServer) -> None:
        publish(server, TIMM, {"architecture": "resnet50"})
        fetch(TIMM)
        assert not any("authorization" in request.headers for request in server.requests)
