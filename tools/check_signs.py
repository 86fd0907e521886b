"""Compare our top-1 with torch's on every photo of hand signs under DIR/<digit>/.

torch runs in f64 on torchvision's own preprocessing, so the two share nothing but the weights.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional

from resnet_rs import ResNet50
from torch_reference import load_reference, relative_l2

DEMO_MODEL = Path(__file__).resolve().parents[1] / "examples" / "sign-digits"
SUFFIXES = {".jpg", ".jpeg", ".png"}
BATCH = 32


def main(argv: Sequence[str] | None = None) -> int:
    """Print counts and accuracies; return 1 if ours and torch's top-1 differ on any photo."""
    arguments = parse_arguments(argv)
    photos = sorted(p for p in arguments.photos.glob("*/*") if p.suffix.lower() in SUFFIXES)
    if not photos:
        print(f"error: no photos in {arguments.photos}/<digit>/", file=sys.stderr)
        return 1

    model = ResNet50(arguments.weights)
    ours = np.concatenate([model.logits(chunk) for chunk in chunks(photos)])
    expected = np.concatenate(list(torch_logits(arguments.weights, model, photos)))

    digits = [path.parent.name for path in photos]
    our_labels = [model.labels[i] for i in ours.argmax(axis=1)]
    torch_labels = [model.labels[i] for i in expected.argmax(axis=1)]
    for path, a, b in zip(photos, our_labels, torch_labels, strict=True):
        if a != b:
            print(f"{path}: ours says {a}, torch says {b}")
    agreed = count_equal(our_labels, torch_labels)
    print(f"photos             {len(photos)}")
    print(f"top-1 as torch's   {agreed}")
    print(f"accuracy, ours     {count_equal(our_labels, digits)} of {len(photos)}")
    print(f"accuracy, torch    {count_equal(torch_labels, digits)} of {len(photos)}")
    print(f"relative L2 error  {relative_l2(ours, expected):.1e} of all logits, tier {model.isa}")
    return 0 if agreed == len(photos) else 1


def chunks(photos: list[Path]) -> Iterator[list[Path]]:
    """Split into lists of at most `BATCH`, in order."""
    return (photos[i : i + BATCH] for i in range(0, len(photos), BATCH))


def torch_logits(
    weights: Path, model: ResNet50, photos: list[Path]
) -> Iterator[NDArray[np.float64]]:
    """Yield f64 logits `[up to BATCH, num_classes]`, preprocessed by torchvision."""
    config = model.config.preprocessing
    interpolation = transforms.InterpolationMode(config.interpolation)
    reference = load_reference(weights)

    def tensor(path: Path) -> torch.Tensor:
        image = Image.open(path).convert("RGB")
        image = functional.resize(image, config.resize, interpolation)
        image = functional.center_crop(image, config.crop)
        return functional.normalize(functional.to_tensor(image), config.mean, config.std)

    for chunk in chunks(photos):
        batch = torch.stack([tensor(path) for path in chunk])
        with torch.inference_mode():
            yield reference(batch.double()).numpy()


def count_equal(left: list[str], right: list[str]) -> int:
    """Count the places at which two lists of one length agree."""
    return sum(a == b for a, b in zip(left, right, strict=True))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return `photos` and `weights`, both Path."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, metavar="DIR", help="holds a folder for each digit")
    parser.add_argument(
        "--weights", type=Path, default=DEMO_MODEL, metavar="DIR", help="(default: the demo model)"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
