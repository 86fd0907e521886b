"""`resnet-rs evaluate`: layouts, reports, pictures, exit statuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from resnet_rs.cli import main
from resnet_rs.stream.folder import paths


@pytest.fixture
def data(tmp_path: Path, demo_photos: list[Path]) -> Path:
    """Two photos of each digit, one of them in a folder of another digit."""
    root = tmp_path / "signs"
    for photo in demo_photos:
        folder = root / photo.name[0]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, folder)
    (root / "3" / "3_IMG_4479.jpg").rename(root / "8" / "wrong.jpg")
    (root / "3" / "notes.txt").write_text("not a photo")
    (root / ".cache").mkdir()
    return root


def evaluate(demo_dir: Path, *arguments: object) -> int:
    return main(["evaluate", "--weights", str(demo_dir), *map(str, arguments)])


def test_text(demo_dir: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(demo_dir, data) == 0
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert lines[0].split() == ["images", "20"]
    assert lines[1].split(maxsplit=2) == ["top-1", "95.00%", "(19 of 20)"]
    row = next(line for line in lines if line.startswith("8 "))
    assert row.split() == ["8", "3", "100.00%", "66.67%", "80.00%"]
    assert lines[-3] == "1 mistake, the most confident first:"
    assert lines[-1].split()[::2] == ["3", "8", str(data / "8" / "wrong.jpg")]
    assert "left out 1 file" in output.err


def test_report_and_pictures(
    demo_dir: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, pictures = tmp_path / "report.json", tmp_path / "new" / "pictures"
    assert evaluate(demo_dir, data, "-o", report, "--pictures", pictures, "--top", "1") == 0
    capsys.readouterr()
    found = json.loads(report.read_text(encoding="ascii"))
    assert (found["images"], found["correct"], found["top1"]) == (20, 19, 0.95)
    assert found["mistakes"][0]["image"] == str(data / "8" / "wrong.jpg")
    assert found["confusion"][8][3] == 1
    assert sorted(path.name for path in pictures.iterdir()) == ["confusion.png", "mistakes.jpg"]
    for path in pictures.iterdir():
        with Image.open(path) as picture:
            assert min(picture.size) > 400


def test_json_on_stdout(demo_dir: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(demo_dir, data, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["classes"][8]["recall"] == pytest.approx(2 / 3)


def test_json_has_all_mistakes_and_all_remarks(
    demo_dir: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(24):
        shutil.copy(data / "3" / "3_IMG_5490.jpg", data / "8" / f"wrong{number}.jpg")
    report = tmp_path / "report.json"
    for flags, printed in (([], 25), (["--top", "3"], 3)):
        assert evaluate(demo_dir, data, "--format", "json", "-o", report, *flags) == 0
        output = capsys.readouterr()
        found, saved = json.loads(output.out), json.loads(report.read_text(encoding="ascii"))
        assert len(found["mistakes"]) == printed
        assert len(saved["mistakes"]) == 25
        assert found["remarks"] == saved["remarks"]
        assert [f"resnet-rs: note: {one}" for one in found["remarks"]] == output.err.splitlines()
        assert "left out 1 file" in found["remarks"][0]
    assert evaluate(demo_dir, data) == 0
    assert "25 mistakes, the most confident first (the first 20):" in capsys.readouterr().out


def test_split(
    demo_dir: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "split"
    shutil.copytree(data, root / "val")
    shutil.copytree(data / "5", root / "train" / "5")
    for arguments, images in (((root,), 20), ((root, "--split", "train"), 2)):
        assert evaluate(demo_dir, *arguments, "--format", "json") == 0
        assert json.loads(capsys.readouterr().out)["images"] == images
    assert evaluate(demo_dir, root, "--split", "test") == 2
    assert "expected the part 'test'; found train and val" in capsys.readouterr().err
    shutil.rmtree(root / "val")
    assert evaluate(demo_dir, root) == 0
    assert "these are the photos of train, the only part" in capsys.readouterr().err


def test_unreadable_photo_is_listed_and_the_status_is_1(
    demo_dir: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = data / "5" / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 not really")
    assert evaluate(demo_dir, data) == 1
    text = capsys.readouterr().out
    assert "not read                1" in text
    assert f"  {broken}: " in text
    assert evaluate(demo_dir, data, "--on-error", "fail") == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert str(broken) in output.err


def test_no_mistake(
    demo_dir: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(data / "8")
    assert evaluate(demo_dir, data, "--pictures", tmp_path / "pictures") == 0
    assert "confusion matrix" not in capsys.readouterr().out
    assert (tmp_path / "pictures" / "mistakes.jpg").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "no such folder or file of photos"),
        (["file.txt"], "file.txt: the file is empty; expected a first line"),
        (
            ["empty"],
            "empty: expected a folder for each class, as in empty/CLASS/photo.jpg",
        ),
        (["hollow"], "found the folders '2' without a photo"),
        (["other"], "expects names among '0', '1', '2', '3', '4', '5', ... (10 in all); found 'ca"),
        (["good", "-o", "no/report.json"], "there is no such folder: 'no'"),
        (["good", "-o", "other"], "other is a directory: expected the name of a file to write"),
        (["good", "--weights", "nothing"], "nothing"),
    ],
)
def test_what_does_not_fit_is_one_line_and_the_status_is_2(
    arguments: list[str],
    message: str,
    demo_dir: Path,
    demo_photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("")
    for name in ("empty", "hollow/2", "other/cat", "good/2"):
        (tmp_path / name).mkdir(parents=True)
    for folder in ("other/cat", "good/2"):
        shutil.copy(demo_photo, tmp_path / folder)
    assert evaluate(demo_dir, *arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err
    assert len(output.err.splitlines()) == 1


def test_folder_that_cannot_be_listed_is_an_error(
    demo_dir: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its photos would be missing from the figures."""
    real = paths._list

    def refuse(directory: str) -> object:
        if directory == str(data / "4"):
            raise PermissionError(13, "Permission denied", directory)
        return real(directory)

    monkeypatch.setattr(paths, "_list", refuse)
    assert evaluate(demo_dir, data) == 2
    assert f"Permission denied: '{data / '4'}'" in capsys.readouterr().err


def test_choices_about_photos_hold_in_pictures(
    demo_dir: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mistake is a photo that is cut off, which only --truncated shows."""
    wrong = data / "8" / "wrong.jpg"
    content = wrong.read_bytes()
    wrong.write_bytes(content[: len(content) * 19 // 20])
    pictures = tmp_path / "pictures"
    assert evaluate(demo_dir, data, "--truncated", "--pictures", pictures) == 0
    capsys.readouterr()
    with Image.open(pictures / "mistakes.jpg") as picture:
        tile = picture.crop((60, 140, 340, 420)).convert("L")
        low, high = tile.getextrema()
    assert high - low > 100, "the tile shows the photo"


@pytest.mark.parametrize("flag", ["--top", "--batch-size", "--workers"])
def test_numbers_are_checked(
    flag: str, demo_dir: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        evaluate(demo_dir, data, flag, "0")
    assert caught.value.code == 2
    assert "a whole number from 1 up; got '0'" in capsys.readouterr().err


def test_files_are_named_on_a_terminal(
    demo_dir: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    report = tmp_path / "report.json"
    assert evaluate(demo_dir, data, "-o", report) == 0
    output = capsys.readouterr()
    assert output.err.endswith(f"resnet-rs: wrote {report}\n")
    assert "/20 images" in output.err


def test_control_characters_of_names_are_escaped(
    demo_dir: Path, demo_photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = [*map(str, range(8)), "a\nb", "\x1b[31mred"]
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.safetensors").symlink_to(demo_dir / "model.safetensors")
    config = json.loads((demo_dir / "config.json").read_text())
    (weights / "config.json").write_text(json.dumps({**config, "labels": labels}))
    for photo in demo_photos:
        folder = tmp_path / "signs" / labels[8 + int(photo.name[0]) % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, folder)
    (tmp_path / "signs" / labels[9] / "x\ry.jpg").write_bytes(b"no photo")
    assert evaluate(weights, tmp_path / "signs") == 1
    text = capsys.readouterr().out
    assert r"\x1b[31mred" in text
    assert r"a\nb" in text
    assert r"x\ry.jpg" in text
    assert not {"\x1b", "\r"} & set(text)
    assert "\na\nb" not in text
    assert evaluate(weights, tmp_path / "no\nfolder") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
