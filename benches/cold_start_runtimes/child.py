"""A process of `benches/cold_start.py`: from its start to one prediction, with one runtime.

`python child.py RUNTIME MODEL PHOTO THREADS` prints the best class and its logit. It exits with
status 3 where the runtime is not installed. Nothing is imported that the runtime does not need.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

MISSING = 3

RESIZE, CROP = 232, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main(runtime: str, model: str, photo: str, threads: str) -> int:
    """Predict once; returns the exit status."""
    try:
        logits = RUNTIMES[runtime](model, photo, int(threads))
    except ModuleNotFoundError as error:
        print(f"{error.name} is not installed")
        return MISSING
    if logits is None:
        print("nothing computed", flush=True)
        return 0
    best = int(logits.argmax())
    # The parent's clock stops when it reads this line.
    print(best, float(logits[best]), flush=True)
    return 0


def numpy_and_pillow(model: str, photo: str, threads: int) -> None:
    """Import what every runtime here needs to read a photo, and do nothing."""
    import numpy  # noqa: F401
    import PIL.Image  # noqa: F401


def ours(model: str, photo: str, threads: int) -> Any:
    """resnet_rs: a weights directory."""
    from resnet_rs import ResNet50

    return ResNet50(model, threads=threads).logits(photo)


def ours_direct(model: str, photo: str, threads: int) -> Any:
    """resnet_rs without Winograd's algorithm."""
    from resnet_rs import ResNet50

    return ResNet50(model, threads=threads, winograd=False).logits(photo)


def onnxruntime(model: str, photo: str, threads: int) -> Any:
    """onnxruntime: an ONNX file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": preprocessed(photo)})[0][0]


def openvino(model: str, photo: str, threads: int) -> Any:
    """OpenVINO in f32: the same ONNX file."""
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    return request.infer({0: preprocessed(photo)})[0][0]


def ncnn(model: str, photo: str, threads: int) -> Any:
    """Ncnn in f32: a `.param` file with its `.bin` beside it."""
    import ncnn
    import numpy as np

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    for option in dir(net.opt):
        if option.startswith(("use_fp16_", "use_bf16_")):
            setattr(net.opt, option, False)
    if net.load_param(model) or net.load_model(model.removesuffix("param") + "bin"):
        raise RuntimeError(f"ncnn cannot load {model}")
    extractor = net.create_extractor()
    # A Mat borrows its array: the name keeps that alive.
    image = preprocessed(photo)[0]
    extractor.input("in0", ncnn.Mat(image))
    return np.array(extractor.extract("out0")[1])


def preprocessed(photo: str) -> "NDArray[Any]":
    """The photo by torchvision's IMAGENET1K_V2 preset: f32 `[1, 3, 224, 224]`."""
    import numpy as np
    from PIL import Image

    with Image.open(photo) as file:
        image = file.convert("RGB")
    short = min(image.size)
    width, height = (int(RESIZE * side / short) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - CROP) / 2), round((height - CROP) / 2)
    pixels = np.asarray(image.crop((left, top, left + CROP, top + CROP)), np.float32)
    x = (pixels / np.float32(255) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(x.transpose(2, 0, 1)[None])


RUNTIMES: dict[str, Callable[[str, str, int], Any]] = {
    "numpy and Pillow": numpy_and_pillow,
    "resnet_rs": ours,
    "resnet_rs direct": ours_direct,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "ncnn": ncnn,
}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
