"""A torch model in the formats of other runtimes."""

import subprocess
import warnings
from pathlib import Path

import torch


def export_onnx(
    model: torch.nn.Module, shape: tuple[int | None, int, int, int], path: Path
) -> None:
    """Write an ONNX file whose input is `image` and whose output is `logits`.

    Args:
        model: in eval mode.
        shape: of the input, NCHW; a batch of None stays free, and is called `batch`.
        path: where to write.
    """
    batch, *rest = shape
    # An example of one image would make a free batch a constant.
    example = torch.zeros((2 if batch is None else batch, *rest))
    free = ({0: torch.export.Dim("batch")},) if batch is None else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (example,),
            path,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=free,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def export_ncnn(model: torch.nn.Module, height: int, width: int, folder: Path) -> tuple[Path, Path]:
    """Write ncnn's `.param` and `.bin` for one image, weights in f32.

    Raises:
        ModuleNotFoundError: pnnx is not installed.
    """
    import pnnx

    traced = folder / "image.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = torch.zeros((1, 3, height, width))
        torch.jit.trace(model, image, check_trace=False).save(str(traced))
    subprocess.run(
        [pnnx.EXEC_PATH, traced, f"inputshape=[1,3,{height},{width}]f32", "fp16=0"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return traced.with_suffix(".ncnn.param"), traced.with_suffix(".ncnn.bin")
