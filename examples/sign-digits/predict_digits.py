"""Name the digit in photos of hand signs with the demo model.

The true digit is the first character of each file's name, so the table can say what is right.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from resnet_rs import ResNet50

HERE = Path(__file__).resolve().parent


def photos_in(paths: Sequence[Path]) -> list[Path]:
    """Expand directories to the JPEG and PNG files in them, sorted by name; keep files as given."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.iterdir() if p.suffix.lower() in {".jpg", ".png"})
        else:
            found.append(path)
    return found


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return `photos` (list of Path) and `weights` (Path)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "photos",
        nargs="*",
        type=Path,
        default=[HERE / "photos"],
        metavar="PHOTO",
        help="photos, or directories of photos (default: the twenty beside this script)",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        default=HERE,
        metavar="DIR",
        help="weights directory (default: the demo model beside this script)",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a row for every photo.

    Returns:
        0 if all are right, 1 if any is wrong, 2 if a photo or the weights cannot be read.
    """
    arguments = parse_arguments(argv)
    photos = photos_in(arguments.photos)
    if not photos:
        places = ", ".join(str(path) for path in arguments.photos)
        print(
            f"error: no .jpg or .png photo in {places}: pass photos or a directory", file=sys.stderr
        )
        return 2

    try:
        model = ResNet50(arguments.weights)
        predictions = [best for (best,) in model.predict(photos, top_k=1)]
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    width = max(len(path.name) for path in photos)
    print(f"{'photo':<{width}}  digit   score")
    right = 0
    for path, best in zip(photos, predictions, strict=True):
        is_right = path.name.startswith(best.label)
        right += is_right
        verdict = "right" if is_right else "WRONG"
        print(f"{path.name:<{width}}  {best.label:>5}  {best.score:6.1%}  {verdict}")
    print(f"{right} of {len(photos)} right")
    return 0 if right == len(photos) else 1


if __name__ == "__main__":
    sys.exit(main())
