"""Keras files by Keras itself, and what Keras computes with them.

Keras and its backend are imported by a process of their own: they are slow, warn, and read their
settings from the environment at import.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIXELS_SHAPE = (2, 64, 64, 3)
PHOTO_SIZE = (48, 80)
"""Height and width."""


def pixels() -> NDArray[np.uint8]:
    """Two RGB images, not square in content, as Keras and we see them."""
    return np.random.default_rng(1).integers(0, 256, PIXELS_SHAPE, dtype=np.uint8)


def write(folder: Path, *cases: str) -> None:
    """Let Keras write files to a folder; `<case>.npy` holds its logits for `pixels()`.

    A case that is a photo's path gives `photo.npy`: what Keras makes of it for its networks. A case
    that ends in `.onnx` gives that file alone.
    """
    environment = {"KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, str(folder), *cases],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# -- In the process that has Keras -------------------------------------------------------------


def randomize(model: Any, seed: int = 0) -> None:
    """Random weights, biases and batch-norm statistics that keep activations in range."""
    source = np.random.default_rng(seed)
    for layer in model.layers:
        if hasattr(layer, "layers"):
            randomize(layer, seed + 1)
            continue
        arrays = []
        for array in layer.get_weights():
            shape = np.shape(array)
            if len(shape) > 1:
                scale = (2 / np.prod(shape[:-1])) ** 0.5
                if shape[0] == 7:  # of the stem, whose input has values up to 150
                    scale /= 100
                arrays.append(source.normal(0, scale, shape))
            else:
                arrays.append(source.normal(0, 0.2, shape))
        if type(layer).__name__ == "BatchNormalization":
            gamma, beta, mean, variance = arrays
            arrays = [1 + gamma, beta, mean, 1 + np.abs(variance)]
        layer.set_weights(arrays)


def tiny(keras: Any, **options: Any) -> Any:
    """keras.applications' own ResNet with two stages of one and two blocks, 2 and 4 channels."""
    from keras.src.applications import resnet

    def stages(x: Any) -> Any:
        x = resnet.stack_residual_blocks_v1(x, 2, 1, stride1=1, name="conv2")
        return resnet.stack_residual_blocks_v1(x, 4, 2, name="conv3")

    arguments = {"weights": None, "input_shape": (64, 64, 3), "classes": 5}
    arguments |= {"classifier_activation": None, **options}
    return resnet.ResNet(stages, False, True, **arguments)


def sequential(keras: Any) -> Any:
    """The network in a model of its own, with a head on it: how most people fine-tune."""
    layers = keras.layers
    base = tiny(keras, include_top=False, name="backbone")
    head = [layers.GlobalAveragePooling2D(), layers.Dropout(0.5), layers.Dense(5)]
    return keras.Sequential([base, *head])


def headed(keras: Any, units: int, *functions: str) -> Any:
    """The network with a dense layer; further functions are layers of their own after it."""
    layers = keras.layers
    base = tiny(keras, include_top=False, pooling="avg")
    dense, *others = functions
    x = layers.Dense(units, activation=dense, name="classes")(base.output)
    for function in others:
        after = layers.Softmax() if function == "Softmax" else layers.Activation(function)
        x = after(x)
    return keras.Model(base.input, x)


def preprocessing(keras: Any, mean: float = 0.0) -> Any:
    """A functional model that takes RGB and has its preprocessing inside."""
    layers = keras.layers
    image = keras.Input((64, 64, 3))
    x = layers.RandomFlip()(image)
    if mean:
        x = layers.Rescaling(1 / 127.5, offset=-1)(x)
    else:
        x = keras.applications.resnet.preprocess_input(x)
    x = tiny(keras, include_top=False)(x, training=False)
    x = layers.Dense(5)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, x)


def normalization(keras: Any) -> Any:
    """A model that takes RGB, and subtracts a mean and divides by a deviation itself."""
    layers = keras.layers
    front = layers.Normalization(mean=[120.0, 110.0, 100.0], variance=[3300.0, 3200.0, 3100.0])
    base = tiny(keras, include_top=False)
    head = [layers.GlobalAveragePooling2D(), layers.Dense(5)]
    return keras.Sequential([keras.Input((64, 64, 3)), front, base, *head])


def trained(keras: Any) -> Any:
    """A flat functional model after a step of training: with an optimizer's state."""
    base = tiny(keras, include_top=False, pooling="avg")
    model = keras.Model(base.input, keras.layers.Dense(5, name="classes")(base.output))
    model.compile(optimizer="adam", loss="mse")
    model.fit(np.zeros((2, 64, 64, 3)), np.zeros((2, 5)), verbose=0)
    return model


def build(keras: Any, case: str) -> Any:
    """The model of a case."""
    applications = keras.applications
    if case.startswith("head-"):
        units, *functions = case.split("-")[1:]
        return headed(keras, int(units), *functions)
    small = {"weights": None, "input_shape": (64, 64, 3), "classifier_activation": None}
    if case in ("float16", "bfloat16", "float64"):
        keras.config.set_dtype_policy(case)
        model = tiny(keras)
        keras.config.set_dtype_policy("float32")
        return model
    return {
        "ResNet50": lambda: applications.ResNet50(classes=7, **small),
        "ResNet101": lambda: applications.ResNet101(classes=7, **small),
        "ResNet152": lambda: applications.ResNet152(classes=7, **small),
        "ResNet50V2": lambda: applications.ResNet50V2(classes=7, **small),
        "other": lambda: keras.Sequential(
            [keras.Input((64, 64, 3)), keras.layers.Conv2D(4, 3), keras.layers.Dense(2)]
        ),
        "tiny": lambda: tiny(keras),
        "softmax": lambda: tiny(keras, classifier_activation="softmax"),
        "no_top": lambda: tiny(keras, include_top=False),
        "pooled": lambda: tiny(keras, include_top=False, pooling="avg"),
        "max": lambda: tiny(keras, include_top=False, pooling="max"),
        "grey": lambda: tiny(keras, input_shape=(64, 64, 1)),
        "sequential": lambda: sequential(keras),
        "preprocessing": lambda: preprocessing(keras),
        "rescaling": lambda: preprocessing(keras, 0.5),
        "normalization": lambda: normalization(keras),
        "trained": lambda: trained(keras),
        "max_head": lambda: keras.Sequential(
            [tiny(keras, include_top=False, pooling="max"), keras.layers.Dense(5, name="classes")]
        ),
        "two_heads": lambda: keras.Sequential(
            [
                tiny(keras, include_top=False, pooling="avg"),
                keras.layers.Dense(8, name="hidden"),
                keras.layers.Dense(5, name="classes"),
            ]
        ),
    }[case]()


def export(keras: Any, case: str, path: str) -> None:
    """Let Keras write a case as an ONNX file, as `model.export` does with torch behind it."""
    model = build(keras, case)
    randomize(model)
    model(np.zeros((1, *model.input_shape[1:]), np.float32))
    model.export(path, format="onnx", verbose=False)


def main(folder: str, *cases: str) -> int:
    """Write each case in every format that has it, and its logits."""
    import h5py
    import keras
    import torch
    from keras.src.legacy.saving import legacy_h5_format

    torch.set_num_threads(1)
    for case in cases:
        if os.path.isfile(case):
            photo = keras.utils.load_img(case, target_size=PHOTO_SIZE)
            array = keras.applications.resnet.preprocess_input(keras.utils.img_to_array(photo))
            np.save(os.path.join(folder, "photo.npy"), array)
            continue
        if case.endswith(".onnx"):
            export(keras, case.removesuffix(".onnx"), os.path.join(folder, case))
            continue
        model = build(keras, case)
        randomize(model)
        stem = os.path.join(folder, case)
        model.save(f"{stem}.keras")
        model.save(f"{stem}.h5")
        model.save_weights(f"{stem}.weights.h5")
        # The format of `save_weights("x.h5")` before Keras 3, and of keras.applications' downloads.
        with h5py.File(f"{stem}_legacy.h5", "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
        images = pixels().astype(np.float32)
        if case == "grey":
            images = images[..., :1]
        elif case not in ("preprocessing", "rescaling", "normalization"):
            images = keras.applications.resnet.preprocess_input(images)
        logits = model(images, training=False)
        np.save(f"{stem}.npy", keras.ops.convert_to_numpy(keras.ops.cast(logits, "float32")))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
