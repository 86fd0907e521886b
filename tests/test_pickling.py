"""Models that travel: small pickles, checked weights, one copy in a process, other machines."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import THREAD_VARIABLES
from telling_rows import assert_telling
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import ResNet, ResNet50, WeightsError
from resnet_rs._core import available_isas
from resnet_rs.weights import files, pickling

IMAGES = np.random.default_rng(7).integers(0, 256, (3, 40, 52, 3), np.uint8)


@pytest.fixture
def tiny_dir(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "weights")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The files that were hashed in the test, in order."""
    hashed_files: list[str] = []
    original = files.digest_of

    def spy(path: str) -> str:
        hashed_files.append(os.path.basename(path))
        return original(path)

    monkeypatch.setattr(files, "digest_of", spy)
    return hashed_files


def answers(model: ResNet) -> tuple[Any, ...]:
    """A worker's results, with the tier and threads that its model uses."""
    return model.logits(IMAGES), type(model).__name__, model.isa, model.threads, os.getpid()


def read_in_child(data: bytes, **variables: str) -> str:
    """Unpickle in a fresh Python that sees another environment; returns isa and threads."""
    script = """if True:
        import pickle, sys
        model = pickle.loads(sys.stdin.buffer.read())
        print(type(model).__name__, model.isa, model.threads, *sorted(
            name for name in sys.modules if name.startswith(("resnet_rs.weights.formats", "PIL"))
        ))
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in (*THREAD_VARIABLES, "RESNET_RS_ISA")
    }
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        input=data,
        capture_output=True,
        env=kept | variables,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode().strip()


class TestSize:
    @pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
    def test_path_model_is_below_two_kilobytes(self, protocol: int, demo_dir: Path) -> None:
        model = ResNet50(
            demo_dir,
            isa="portable",
            threads=1,
            preprocessing={"resize": 72},
            labels=[*"abcdefghij"],
        )
        assert len(pickle.dumps(model, protocol)) < 2000

    def test_weights_do_not_travel_with_a_path(self, tiny_dir: Path) -> None:
        weights = (tiny_dir / "model.safetensors").read_bytes()
        assert weights[-64:] not in pickle.dumps(resnet_rs.load(tiny_dir))

    def test_bytes_model_carries_its_weights(self, tiny_dir: Path) -> None:
        model = resnet_rs.load(tiny_dir)
        weights = (tiny_dir / "model.safetensors").read_bytes()
        twin = ResNet50(weights, config=model.config.as_dict())
        data = pickle.dumps(twin)
        assert 0 < len(data) - len(weights) < 2000
        shutil.rmtree(tiny_dir)
        assert_telling(model.logits(IMAGES))
        np.testing.assert_array_equal(pickle.loads(data).logits(IMAGES), model.logits(IMAGES))


class TestHash:
    def test_is_computed_once_and_only_when_pickled(
        self, tiny_dir: Path, hashed: list[str]
    ) -> None:
        model = resnet_rs.load(tiny_dir)
        model.logits(IMAGES)
        assert hashed == []
        first = pickle.dumps(model)
        assert sorted(hashed) == ["config.json", "model.safetensors"]
        assert pickle.dumps(model) == first == pickle.dumps(copy.copy(model))
        assert len(hashed) == 2

    def test_other_weights_under_the_path_are_refused_with_both_hashes(
        self, tiny_dir: Path
    ) -> None:
        data = pickle.dumps(resnet_rs.load(tiny_dir))
        (before,) = (
            digest
            for name, digest in files.fingerprint_of(str(tiny_dir))
            if name == "model.safetensors"
        )
        write_tiny_model(tiny_dir, seed=1)
        with pytest.raises(WeightsError, match="not the weights that were pickled") as caught:
            pickle.loads(data)
        after = dict(files.fingerprint_of(str(tiny_dir)))["model.safetensors"]
        assert before != after
        for part in (str(tiny_dir), before, after):
            assert part in str(caught.value)

    def test_another_config_is_refused_too(self, tiny_dir: Path) -> None:
        data = pickle.dumps(resnet_rs.load(tiny_dir))
        config = tiny_dir / "config.json"
        config.write_text(config.read_text().replace("class 0", "class zero"))
        with pytest.raises(WeightsError, match=r"config\.json"):
            pickle.loads(data)

    def test_config_beside_a_file_counts_too(self, tiny_dir: Path) -> None:
        config = tiny_dir / "config.json"
        model = resnet_rs.load(tiny_dir / "model.safetensors")
        data = pickle.dumps(resnet_rs.load(tiny_dir / "model.safetensors"))
        config.write_text(config.read_text().replace("class 1", "another class"))
        with pytest.raises(WeightsError, match=r"config\.json"):
            pickle.loads(data)
        with pytest.raises(WeightsError, match="changed since the model was loaded"):
            pickle.dumps(model)

    def test_files_that_do_not_matter_may_change(self, tiny_dir: Path) -> None:
        model = resnet_rs.load(tiny_dir)
        data = pickle.dumps(model)
        (tiny_dir / "README.md").write_text("About these weights")
        assert_telling(model.logits(IMAGES))
        np.testing.assert_array_equal(pickle.loads(data).logits(IMAGES), model.logits(IMAGES))

    def test_weights_that_changed_since_loading_are_not_pickled(self, tiny_dir: Path) -> None:
        model = resnet_rs.load(tiny_dir)
        write_tiny_model(tiny_dir, seed=1)
        with pytest.raises(WeightsError, match="changed since the model was loaded"):
            pickle.dumps(model)

    def test_missing_weights_say_what_to_do(self, tiny_dir: Path) -> None:
        data = pickle.dumps(resnet_rs.load(tiny_dir))
        shutil.rmtree(tiny_dir)
        with pytest.raises(FileNotFoundError, match="same path, or make the model from bytes"):
            pickle.loads(data)

    def test_directory_of_many_files_has_one_hash(self, tmp_path: Path) -> None:
        for number in range(9):
            (tmp_path / f"layer{number}_weight.txt").write_text(str(number))
        ((name, digest),) = files.fingerprint_of(str(tmp_path))
        assert "9 files" in name
        (tmp_path / "layer3_weight.txt").write_text("33")
        assert files.fingerprint_of(str(tmp_path)) != ((name, digest),)


class TestCache:
    def test_pickles_of_one_model_share_the_network(
        self, tiny_dir: Path, hashed: list[str]
    ) -> None:
        data = pickle.dumps(resnet_rs.load(tiny_dir))
        hashed.clear()
        first, second = pickle.loads(data), pickle.loads(data)
        assert first is not second
        assert first.loaded.network is second.loaded.network
        assert hashed.count("model.safetensors") == 1

    def test_other_arguments_have_a_network_of_their_own(self, tiny_dir: Path) -> None:
        models = [
            resnet_rs.load(tiny_dir, threads=1),
            resnet_rs.load(tiny_dir, threads=2),
            resnet_rs.load(tiny_dir, threads=1, isa="portable"),
            resnet_rs.load(tiny_dir, threads=1, winograd=False),
            resnet_rs.load(tiny_dir, threads=1, labels=list("abcde")),
        ]
        twins = [pickle.loads(pickle.dumps(model)) for model in models]
        assert len({id(twin.loaded.network) for twin in twins}) == len(models)
        for model, twin in zip(models, twins, strict=True):
            assert (twin.threads, twin.isa, twin.labels) == (model.threads, model.isa, model.labels)

    def test_equal_bytes_share_the_network(self, tiny_dir: Path) -> None:
        weights = (tiny_dir / "model.safetensors").read_bytes()
        config = resnet_rs.load(tiny_dir).config.as_dict()
        twins = [
            pickle.loads(pickle.dumps(ResNet50(bytes(bytearray(weights)), config=config)))
            for _ in range(2)
        ]
        assert twins[0].loaded.network is twins[1].loaded.network

    def test_nothing_is_kept_without_a_model(self, tiny_dir: Path) -> None:
        twin = pickle.loads(pickle.dumps(resnet_rs.load(tiny_dir)))
        fingerprint = twin.loaded.fingerprint
        assert any(key[0] == fingerprint for key in pickling._restored)
        copies = [copy.copy(twin), copy.deepcopy(twin)]
        del twin
        gc.collect()
        assert any(key[0] == fingerprint for key in pickling._restored)
        del copies
        gc.collect()
        assert not any(key[0] == fingerprint for key in pickling._restored)

    def test_many_threads_load_once(self, tiny_dir: Path, hashed: list[str]) -> None:
        data = pickle.dumps(resnet_rs.load(tiny_dir))
        hashed.clear()
        together = threading.Barrier(8)

        def work(_: int) -> ResNet:
            together.wait(60)
            model: ResNet = pickle.loads(data)
            return model

        with ThreadPoolExecutor(8) as pool:
            models = list(pool.map(work, range(8)))
        assert len({id(model.loaded.network) for model in models}) == 1
        assert hashed.count("model.safetensors") == 1

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
    def test_fork_while_another_thread_restores(self, tiny_dir: Path) -> None:
        data = pickle.dumps(resnet_rs.load(tiny_dir))
        with pickling._lock:  # as if a thread of the parent were in the middle of it
            child = os.fork()
            if child == 0:
                pickle.loads(data)
                os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0


class TestCopies:
    def test_share_the_weights(self, tiny_dir: Path) -> None:
        model = resnet_rs.load(tiny_dir)
        for twin in (copy.copy(model), copy.deepcopy(model), copy.deepcopy({"m": [model]})["m"][0]):
            assert twin is not model
            assert type(twin) is type(model)
            assert twin.loaded.network is model.loaded.network


class TestOtherMachines:
    def test_spawned_workers_give_the_same_bits(self, tiny_dir: Path) -> None:
        model = resnet_rs.load(tiny_dir, threads=1)
        expected = model.logits(IMAGES)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            for logits, name, isa, threads, pid in pool.map(answers, [model] * 4):
                np.testing.assert_array_equal(logits, expected)
                assert (name, isa, threads) == ("ResNet50", model.isa, 1)
                assert pid != os.getpid()

    @pytest.mark.parametrize("isa", available_isas())
    def test_tier_and_threads_are_the_new_machine_s(self, isa: str, tiny_dir: Path) -> None:
        data = pickle.dumps(resnet_rs.load(tiny_dir))
        found = read_in_child(data, RESNET_RS_ISA=isa, RESNET_RS_NUM_THREADS="3")
        assert found == f"ResNet50 {isa} 3"

    def test_what_was_asked_for_stays(self, tiny_dir: Path) -> None:
        data = pickle.dumps(resnet_rs.load(tiny_dir, isa="portable", threads=2))
        found = read_in_child(data, RESNET_RS_NUM_THREADS="3")
        assert found == "ResNet50 portable 2"

    def test_environment_of_the_moment_counts_in_one_process(
        self, tiny_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RESNET_RS_NUM_THREADS", "1")
        data = pickle.dumps(resnet_rs.load(tiny_dir))
        first = pickle.loads(data)
        monkeypatch.setenv("RESNET_RS_NUM_THREADS", "2")
        monkeypatch.setenv("RESNET_RS_ISA", "portable")
        second = pickle.loads(data)
        assert (first.threads, second.threads, second.isa) == (1, 2, "portable")

    def test_pretrained_weights_are_fetched_where_they_are_missing(
        self, tiny_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from resnet_rs.weights import pretrained

        place = [tiny_dir]
        monkeypatch.setattr(
            pretrained, "fetch", lambda name, **_: pretrained.PretrainedFile(place[0], {})
        )
        model = ResNet50.from_pretrained("IMAGENET1K_V2")
        data = pickle.dumps(model)
        place[0] = tmp_path / "another cache"
        tiny_dir.rename(place[0])
        np.testing.assert_array_equal(pickle.loads(data).logits(IMAGES), model.logits(IMAGES))


class TestKinds:
    @pytest.mark.parametrize(
        "arguments",
        [
            {"num_classes": 0},
            {"backend": "reference"},
            {"variant": {"norm_epsilon": 1e-3}},
            {"preprocessing": {"crop": 24}},
        ],
        ids=str,
    )
    def test_arguments_travel(self, arguments: dict[str, Any], tiny_dir: Path) -> None:
        model = resnet_rs.load(tiny_dir, **arguments)
        twin = pickle.loads(pickle.dumps(model))
        assert (twin.config, twin.backend) == (model.config, model.backend)
        np.testing.assert_array_equal(twin.logits(IMAGES[0]), model.logits(IMAGES[0]))

    def test_bare_file_warns_once(self, tiny_dir: Path, tmp_path: Path) -> None:
        bare = tmp_path / "bare.safetensors"
        shutil.copy(tiny_dir / "model.safetensors", bare)
        variant = resnet_rs.load(tiny_dir).config.variant
        with pytest.warns(UserWarning, match="IMAGENET1K_V2"):
            model = ResNet50(bare, variant=variant)
        twin = pickle.loads(pickle.dumps(model))  # a warning here would be an error
        assert_telling([model.logits(IMAGES[0])])
        np.testing.assert_array_equal(twin.logits(IMAGES[0]), model.logits(IMAGES[0]))

    def test_state_dict_travels_as_its_path(self, tiny_dir: Path, tmp_path: Path) -> None:
        import torch
        from safetensors.torch import load_file

        path = tmp_path / "best.pth"
        torch.save(load_file(tiny_dir / "model.safetensors"), path)
        config = resnet_rs.load(tiny_dir).config.as_dict()
        model = ResNet50(path, config=config)
        data = pickle.dumps(model)
        assert len(data) < 2000
        assert_telling(model.logits(IMAGES))
        np.testing.assert_array_equal(pickle.loads(data).logits(IMAGES), model.logits(IMAGES))
