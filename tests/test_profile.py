"""`model.profile` and `RESNET_RS_PROFILE`: every layer there, figures that fit each other."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest

from resnet_rs import ResNet50
from resnet_rs.inspect.profile import ROUNDS, Profile, ProfileRow, direct_macs, measure_profile

SIZES = [(64, 64), (224, 224), (65, 97)]


def noise(batch: int, height: int, width: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.standard_normal((batch, height, width, 3), dtype=np.float32)


def profiled_layers(model: ResNet50, x: np.ndarray) -> list[str]:
    """The names that a profile must have: the input's copy, then every activation."""
    return ["input", *(name for name, _ in model.loaded.network.activations(x))]


@pytest.fixture(scope="module")
def profile(model: ResNet50) -> Profile:
    return model.profile(noise(1, 64, 64), rounds=2)


@pytest.fixture(scope="module")
def winograd_rows(profile: Profile) -> list[ProfileRow]:
    rows = [row for row in profile.rows if row.algorithm.startswith("winograd")]
    assert rows
    return rows


class TestRows:
    def test_one_for_each_layer_in_order(self, model: ResNet50, profile: Profile) -> None:
        assert [row.name for row in profile.rows] == profiled_layers(model, noise(1, 64, 64))

    def test_shapes_are_the_activations(self, model: ResNet50, profile: Profile) -> None:
        shapes = {
            name: array.shape for name, array in model.loaded.network.activations(noise(1, 64, 64))
        }
        shapes["input"] = (1, 64, 64, 3)
        assert {row.name: row.output_shape for row in profile.rows} == shapes

    def test_of_winograd_layers_say_the_tile(self, winograd_rows: list[ProfileRow]) -> None:
        for row in winograd_rows:
            assert row.algorithm in ("winograd F(2x2)", "winograd F(4x4)")
            assert "_conv_" in row.kernel, "the products take the most time"

    @pytest.mark.parametrize(("height", "width"), SIZES)
    def test_macs_are_those_of_direct_convolutions(
        self, height: int, width: int, model: ResNet50, demo_dir: Path
    ) -> None:
        """The model without Winograd counts its convolutions itself."""
        plan = ResNet50(demo_dir, winograd=False).loaded.network.plan(3, height, width)
        profile = model.profile(noise(3, height, width), rounds=1)
        assert [row.macs for row in profile.rows] == [step["macs"] for step in plan]
        assert profile.total_macs == sum(step["macs"] for step in plan)

    def test_macs_of_blocks_of_tiles(self) -> None:
        """A layer that is cut into blocks repeats its three steps."""

        def step(shape: tuple[int, int, int, int], macs: int) -> dict[str, object]:
            return {"algorithm": "winograd", "output_shape": shape, "macs": macs}

        out = step((1, 8, 12, 7), 0)
        block = [step((36, 1, 3, 5), 0), step((1, 1, 3, 7), 36 * 3 * 5 * 7), out]
        assert direct_macs(block + block) == 8 * 12 * 7 * 9 * 5

    @pytest.mark.parametrize("detail", [False, True])
    def test_figures_fit_each_other(self, detail: bool, model: ResNet50) -> None:
        profile = model.profile(noise(2, 64, 64), rounds=3, detail=detail)
        assert profile.total_ms == pytest.approx(sum(row.ms for row in profile.rows))
        assert sum(row.share_of_total for row in profile.rows) == pytest.approx(1)
        assert profile.peak_gflops > 0
        for row in profile.rows:
            assert row.ms > 0
            if row.macs == 0:
                assert (row.gflops, row.share_of_peak) == (None, None)
                continue
            assert row.gflops == pytest.approx(2 * row.macs / (row.ms / 1e3) / 1e9)
            assert row.share_of_peak == pytest.approx(row.gflops / profile.peak_gflops)

    def test_detail_has_every_step_of_the_plan(self, model: ResNet50, profile: Profile) -> None:
        detailed = model.profile(noise(1, 64, 64), rounds=1, detail=True)
        plan = model.loaded.network.plan(1, 64, 64)
        columns = ("name", "kernel", "output_shape", "macs")
        expected = [tuple(step[column] for column in columns) for step in plan]
        assert [tuple(getattr(row, c) for c in columns) for row in detailed.rows] == expected
        assert len(detailed.rows) > len(profile.rows)
        assert detailed.total_macs == profile.total_macs
        products = [row for row in detailed.rows if row.algorithm.startswith("winograd")]
        assert sum(row.macs for row in products) < sum(
            row.macs for row in profile.rows if row.algorithm.startswith("winograd")
        )

    def test_slower_half_of_the_rounds_is_left_out(self, model: ResNet50) -> None:
        """Of rounds that take 1, 9, 2, 8 and 3 ms a step, those of 1, 2 and 3 count."""
        steps = len(model.loaded.network.plan(1, 32, 32))
        rounds = iter([[7e-3] * steps, *([ms * 1e-3] * steps for ms in (1, 9, 2, 8, 3))])

        class Scripted:
            def __getattr__(self, name: str) -> object:
                return getattr(model.loaded.network, name)

            def profile(self, x: np.ndarray) -> list[float]:
                return next(rounds)

        profile = measure_profile(Scripted(), noise(1, 32, 32), rounds=5, detail=True)
        assert [row.ms for row in profile.rows] == pytest.approx([2.0] * steps)

    def test_tier_and_threads_are_the_models(self, isa: str, demo_dir: Path) -> None:
        profile = ResNet50(demo_dir, isa=isa, threads=3).profile(noise(1, 32, 32), rounds=1)
        assert (profile.isa, profile.threads) == (isa, 3)
        kernels = {row.kernel for row in profile.rows if row.macs}
        assert all(kernel.endswith(isa) for kernel in kernels)


class TestTable:
    def test_has_a_line_for_each_row_and_a_total(self, profile: Profile) -> None:
        head, table = str(profile).split("\n\n")
        assert head.startswith("batch 1, 64 x 64, ")
        note = "GFLOP/s = 2 x multiply-accumulates of the direct convolution; Winograd does fewer"
        assert f"\n{note}, and may pass the peak\n" in head
        header, *lines, total = table.splitlines()
        assert header.split("  ")[0] == "layer"
        assert header.endswith("of total")
        assert [line.split()[0] for line in lines] == [row.name for row in profile.rows]
        assert total.startswith("total")
        assert total.endswith("100.0%")

    def test_says_whose_figures_stand_in_the_details(self, model: ResNet50) -> None:
        detailed = str(model.profile(noise(1, 64, 64), rounds=1, detail=True))
        note = "GFLOP/s = 2 x multiply-accumulates: in the total those of direct convolutions, "
        assert f"\n{note}Winograd's rows their own\n" in detailed

    def test_is_aligned(self, profile: Profile) -> None:
        lines = str(profile).split("\n\n")[1].splitlines()
        assert len({len(line) for line in lines}) == 1
        (start,) = {line.index("f32_conv_") for line in lines if "f32_conv_" in line}
        assert lines[0].index("kernel") == start

    def test_says_nothing_of_winograd_without_it(self, demo_dir: Path) -> None:
        direct = ResNet50(demo_dir, winograd=False).profile(noise(1, 32, 32), rounds=1)
        assert "inograd" not in str(direct)

    def test_dict_survives_json(self, profile: Profile) -> None:
        told = json.loads(json.dumps(profile.as_dict()))
        assert len(told["rows"]) == len(profile.rows)
        assert told["rows"][1]["name"] == "relu"
        assert told["total_ms"] == profile.total_ms


class TestInput:
    def test_photos_are_preprocessed(self, model: ResNet50, demo_photos: list[Path]) -> None:
        one = model.profile(demo_photos[0], rounds=1)
        assert (one.batch, one.height, one.width) == (1, 64, 64)
        assert model.profile(demo_photos[:3], rounds=1).batch == 3

    def test_strided_array_is_copied(self, model: ResNet50) -> None:
        x = noise(2, 32, 48)[:, ::-1]
        profile = model.profile(x, rounds=1)
        assert (profile.batch, profile.height, profile.width) == (2, 32, 48)

    def test_logits_stay_the_same_after_it(self, model: ResNet50, demo_photo: Path) -> None:
        before = model.logits(demo_photo)
        model.profile(demo_photo, rounds=1)
        np.testing.assert_array_equal(model.logits(demo_photo), before)

    def test_default_rounds_are_the_rooms_own(self) -> None:
        assert inspect.signature(ResNet50.profile).parameters["rounds"].default == ROUNDS

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"rounds": 0}, ValueError, "rounds must be at least 1"),
            ({"rounds": 1.5}, TypeError, "rounds must be an int"),
            ({"detail": 1}, TypeError, "detail must be True or False"),
        ],
    )
    def test_bad_argument_is_named(
        self, arguments: dict[str, object], error: type[Exception], message: str, model: ResNet50
    ) -> None:
        with pytest.raises(error, match=message):
            model.profile(noise(1, 32, 32), **arguments)

    @pytest.mark.parametrize(
        ("images", "error", "message"),
        [
            (noise(1, 32, 32)[0], ValueError, "Add the batch axis"),
            ([], ValueError, "at least one image"),
            (noise(1, 32, 32).astype(np.float64), TypeError, "float64"),
            ("missing.jpg", FileNotFoundError, "missing.jpg"),
        ],
    )
    def test_bad_images_are_errors(
        self, images: object, error: type[Exception], message: str, model: ResNet50
    ) -> None:
        with pytest.raises(error, match=message):
            model.profile(images)


class TestVariable:
    def test_prints_each_input_shape_once(
        self,
        demo_dir: Path,
        demo_photos: list[Path],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("RESNET_RS_PROFILE", "1")
        model = ResNet50(demo_dir)
        calls = [
            (lambda: model.predict(demo_photos[0]), "batch 1, 64 x 64, "),
            (lambda: model.logits(demo_photos[1]), None),
            (lambda: model.embed(demo_photos[:2]), "batch 2, 64 x 64, "),
            (lambda: model.forward(noise(1, 32, 48)), "batch 1, 32 x 48, "),
            (lambda: model.forward(noise(1, 32, 48)), None),
        ]
        for call, head in calls:
            call()
            output = capsys.readouterr()
            assert output.out == ""
            if head is None:
                assert output.err == ""
            else:
                assert output.err.startswith(head)
                assert output.err.count("\ntotal ") == 1

    def test_results_are_the_same(
        self,
        model: ResNet50,
        demo_dir: Path,
        demo_photo: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("RESNET_RS_PROFILE", "1")
        logits = ResNet50(demo_dir).logits(demo_photo)
        assert capsys.readouterr().err
        np.testing.assert_array_equal(logits, model.logits(demo_photo))

    @pytest.mark.parametrize("value", ["", "0"])
    def test_off_prints_nothing(
        self,
        value: str,
        demo_dir: Path,
        demo_photo: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("RESNET_RS_PROFILE", value)
        ResNet50(demo_dir).logits(demo_photo)
        assert capsys.readouterr() == ("", "")

    def test_other_values_are_refused(
        self, demo_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RESNET_RS_PROFILE", "yes")
        with pytest.raises(ValueError, match=r"RESNET_RS_PROFILE must be 1 .* got 'yes'"):
            ResNet50(demo_dir)
