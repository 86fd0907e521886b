"""`Trainer`: a network that learns, step by step."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core, arguments
from ..images.spec import Preprocessing
from ..targets import target_matrix
from .errors import TrainingError, no_number
from .groups import frozen_names, step_groups
from .inputs import checked_images
from .numbers import PRECISIONS, Numbers, number, scales
from .start import start

if TYPE_CHECKING:
    from ..evaluation import Evaluation

Tensors = dict[str, NDArray[np.float32]]


class Trainer:
    """A network that learns: its weights, their gradients, and an optimiser.

    ```python
    import numpy as np
    from resnet_rs import Trainer

    trainer = Trainer("cifar_resnet20", num_classes=2, lr=0.05)
    random = np.random.default_rng(0)
    for _ in range(3):
        x = random.standard_normal((8, 32, 32, 3), np.float32)  # normalised images
        loss = trainer.step(x, [0, 1] * 4)  # and their labels
    trainer.save("trained")
    ```

    Batch norm learns as in torch: each batch is normalised with its own mean and its biased
    variance, and the running statistics take their share of the mean and of the unbiased variance.
    Gradients are those of the mean loss of the batch. The same seed and the same batches give the
    same weights to the bit on one instruction set, for any number of threads.

    Args:
        weights: the name of an architecture, such as `resnet50`, for random weights (He's
            initialisation); or weights of any kind that `resnet_rs.load` takes, or a loaded model,
            to go on from.
        num_classes: the number of classes to learn; by default that of `labels`, else the weights'
            own. If the weights have another number, the last layer is a new one (`remarks` says
            so).
        labels: the names of the classes by index, kept in what `save` writes.
        seed: of random weights.
        preprocessing: of the images, kept in what `save` writes; by default the weights' own.
        variant: fields of config.json's `variant`, with an architecture (docs/weights.md).
        zero_last: begin with the last scale of each block at 0, so that each block begins as the
            identity; only for random weights.
        optimizer: `sgd` or `adamw`.
        lr: the learning rate; `step(lr=...)` may give another one each time.
        momentum: SGD's.
        nesterov: SGD looks one step of momentum ahead.
        betas: AdamW's.
        eps: AdamW's.
        weight_decay: the decay of weights.
        decay_norms: let the parameters of batch norms and all biases decay too.
        clip_norm: the largest norm of all gradients together; larger ones are scaled down to it.
        average: keep running averages of the weights, of which a step keeps this part, such as
            0.999; `state_dict(average=True)` returns them.
        label_smoothing: the part of each label that is shared among all classes.
        class_weights: a factor of the loss for each class.
        freeze: parameters that do not learn: `backbone` (all but the last layer), `norms`, or
            beginnings of names such as `conv1` and `layer1`; one or several. Frozen batch norms
            normalise with their running statistics and leave them as they are.
        lr_scales: factors of the learning rate by beginnings of names, such as
            `{"backbone": 0.01}`.
        norm_momentum: the share of a batch in the running statistics.
        isa: the kernels, as for `resnet_rs.load`.
        threads: the number of threads, as for `resnet_rs.load`.
        winograd: let 3x3 convolutions use Winograd's algorithm.
        precision: the products of convolutions: `f32`; or `bf16`, with sums, weights, activations
            and everything else in f32. bf16 needs a processor with AVX512_BF16 and is faster on AMD
            since Zen 4; on some Xeons it is slower than f32, so try both.
        options: further options of `resnet_rs.load`, for weights that need them.

    Attributes:
        remarks: what was assumed or changed at the beginning, as sentences.
        steps: the number of steps so far.

    Raises:
        TypeError, ValueError: an argument of another kind or out of range, or a network that cannot
            be trained.
        FileNotFoundError, WeightsError: as for `resnet_rs.load`.
        UnsupportedIsaError: this machine lacks the instructions of `isa` or `precision`.
    """

    def __init__(
        self,
        weights: Any,
        *,
        num_classes: int | None = None,
        labels: Sequence[str] | None = None,
        seed: int = 0,
        preprocessing: Preprocessing | None = None,
        variant: Mapping[str, Any] | None = None,
        zero_last: bool = False,
        optimizer: str = "sgd",
        lr: float = 0.1,
        momentum: float = 0.9,
        nesterov: bool = False,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-4,
        decay_norms: bool = False,
        clip_norm: float | None = None,
        average: float | None = None,
        label_smoothing: float = 0.0,
        class_weights: ArrayLike | None = None,
        freeze: str | Iterable[str] = (),
        lr_scales: Mapping[str, float] | None = None,
        norm_momentum: float = 0.1,
        isa: str | None = None,
        threads: int | None = None,
        winograd: bool = True,
        precision: str = "f32",
        **options: Any,
    ) -> None:
        self._numbers = Numbers(
            optimizer,
            lr,
            momentum,
            nesterov,
            betas,
            eps,
            weight_decay,
            clip_norm,
            average,
        )
        number("norm_momentum", norm_momentum, most=1.0)
        begin = start(
            weights,
            num_classes=num_classes,
            labels=labels,
            seed=arguments.count("seed", seed, least=0),
            zero_last=arguments.flag("zero_last", zero_last),
            preprocessing=preprocessing,
            variant=variant,
            options=options,
        )
        self._config_text = begin.config_text
        self.remarks = begin.remarks
        self._lr_scales = scales(lr_scales)
        self._decay_norms = arguments.flag("decay_norms", decay_norms)
        self._smoothing = number("label_smoothing", label_smoothing, most=1.0)
        self._kernels: dict[str, Any] = {
            "origin": begin.origin,
            "isa": isa,
            "threads": threads,
            "winograd": arguments.flag("winograd", winograd),
            "precision": arguments.choice("precision", precision, PRECISIONS),
            "norm_momentum": float(norm_momentum),
        }
        self._core = _core.Trainer(begin.tensors, self._config_text, **self._kernels)
        # The loss checks labels, smoothing and weights; these may be wrong before the first one.
        target_matrix([0], self.num_classes, smoothing=self._smoothing)
        self.set_class_weights(class_weights)
        tensors = self._core.tensors()
        self._shapes = {name: tuple(shape) for name, shape, _ in tensors}
        statistics = {name for name, _, is_statistic in tensors if is_statistic}
        self._names = [name for name, _, is_statistic in tensors if not is_statistic]
        of_norms = {name.rsplit(".", 1)[0] for name in statistics}
        self._norms = frozenset(n for n in self._names if n.rsplit(".", 1)[0] in of_norms)
        self._statistics = sorted(statistics)
        self._frozen: set[str] = set()
        self._set_groups()
        if freeze:
            self.freeze(freeze)
        self._evaluated: tuple[Any, Any] | None = None
        if average is not None:
            # They begin with the first weights and statistics.
            name = self._names[0]
            self._core.write("average", name, self._read("values", name))

    def __repr__(self) -> str:
        return (
            f"Trainer({self.config['architecture']}, {self.num_classes} classes, "
            f"precision={self.precision!r}, isa={self.isa!r}, threads={self.threads}, "
            f"steps={self.steps})"
        )

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return self._core.num_classes

    @property
    def config(self) -> dict[str, Any]:
        """The fields of config.json."""
        return self._core.config

    @property
    def preprocessing(self) -> Preprocessing:
        """The preparation of images that `save` writes."""
        return Preprocessing.from_dict(self.config["preprocessing"])

    @property
    def steps(self) -> int:
        """The number of steps so far."""
        return self._core.steps

    @property
    def isa(self) -> str:
        """The kernels in use."""
        return self._core.isa

    @property
    def precision(self) -> str:
        """The precision of the products of convolutions: `f32` or `bf16`."""
        return self._core.precision

    @property
    def threads(self) -> int:
        """The number of threads."""
        return self._core.threads

    @property
    def frozen(self) -> frozenset[str]:
        """The names of the parameters that do not learn."""
        return frozenset(self._frozen)

    def freeze(self, names: str | Iterable[str] = ()) -> None:
        """Choose the parameters that do not learn, in place of the choice before.

        Args:
            names: as for the class; an empty list lets all learn.

        Raises:
            TypeError, ValueError: something else than names of parameters.
        """
        frozen = frozen_names(names, self._names, self._norms)
        if len(frozen) == len(self._names):
            raise ValueError("freeze: expected parameters that learn; found all of them frozen")
        self._core.freeze(frozen)
        self._frozen = frozen

    def step(self, x: ArrayLike, y: ArrayLike, *, lr: float | None = None) -> float:
        """Learn from a batch: forward, loss, gradients, and a step of the optimiser.

        Args:
            x: images, float32 `[batch, height, width, channels]`, normalised.
            y: labels, integers `[batch]`; or soft targets, float `[batch, classes]`.
            lr: the learning rate of this step.

        Returns:
            The loss, the mean over the batch.

        Raises:
            TrainingError: the loss is no number; nothing has changed.
            TypeError, ValueError: arrays of another kind, shape or range.
            MemoryError: the batch does not fit in memory.
        """
        loss, _ = self.backward(x, y)
        self.update(lr=lr)
        return loss

    def backward(
        self, x: ArrayLike, y: ArrayLike, *, accumulate: bool = False, share: float = 1.0
    ) -> tuple[float, NDArray[np.int64]]:
        """Compute the gradients of a batch, without a step.

        Args:
            x: as for `step`.
            y: as for `step`.
            accumulate: add the gradients to those that are there.
            share: the batch's share of the mean loss; with `accumulate`, the shares of all batches
                of a step add up to 1.

        Returns:
            The loss, and the class that the network saw in each image, int64 `[batch]`.

        Raises:
            TrainingError, TypeError, ValueError, MemoryError: as for `step`.
        """
        images = checked_images(x, self._core.in_channels)
        targets = target_matrix(
            y, self.num_classes, smoothing=self._smoothing, class_weights=self._class_weights
        )
        if len(targets) != len(images):
            raise ValueError(
                f"y: expected a label for each of {len(images)} images; found {len(targets)}"
            )
        matrix = np.ascontiguousarray(targets * number("share", share), np.float32)
        self._evaluated = None  # The running statistics change.
        losses, predicted = self._core.backward(images, matrix, accumulate=accumulate)
        loss = math.fsum(losses)
        if not math.isfinite(loss):
            step = f"step {self.steps + 1}"
            raise TrainingError(no_number(step, loss, images, self.state_dict()))
        return loss, np.array(predicted, np.int64)

    def update(self, *, lr: float | None = None) -> None:
        """Do a step of the optimiser with the gradients that are there.

        Args:
            lr: the learning rate of this step.

        Raises:
            TrainingError: the gradients are no numbers, which is noticed if `clip_norm` bounds
                them; nothing has changed.
        """
        rate = self._numbers.lr if lr is None else number("lr", lr)
        norm = self._core.update(lr=rate, **self._numbers.for_core())
        if norm is not None and not math.isfinite(norm):
            raise TrainingError(
                f"step {self.steps + 1}: the gradients' norm is {norm}; the weights are those "
                "before the step. Try a smaller learning rate"
            )

    def apply(self, gradients: Mapping[str, NDArray[Any]], *, lr: float | None = None) -> None:
        """Do a step of the optimiser with other gradients, such as means over several machines.

        Args:
            gradients: by name, all that `gradients` returns.
            lr: the learning rate of this step.

        Raises:
            ValueError: a name or a shape that is not the network's, or a gradient is missing.
        """
        missing = [n for n in self._names if n not in self._frozen and n not in gradients]
        if missing:
            raise ValueError(
                f"gradients: expected those of all parameters that learn; found none of "
                f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}"
            )
        for name, array in gradients.items():
            self._write("gradients", name, array)
        self.update(lr=lr)

    def gradients(self) -> Tensors:
        """The gradients of the last `backward` or `step`, by torchvision's names, as in torch.

        Frozen parameters have none.
        """
        names = (name for name in self._names if name not in self._frozen)
        return {name: self._read("gradients", name) for name in names}

    def state_dict(self, *, average: bool = False) -> Tensors:
        """The weights and running statistics, by torchvision's names, convolutions OIHW.

        `torch.nn.Module.load_state_dict` takes them as tensors.

        Args:
            average: the running averages in place of the last weights.

        Raises:
            ValueError: no averages are kept.
        """
        kind = "average" if average else "values"
        if average and self._core.read(kind, self._names[0]) is None:
            raise ValueError("average: expected a trainer with average=..., and a step before")
        return {name: self._read(kind, name) for name, _, _ in self._core.tensors()}

    def evaluate(
        self, x: ArrayLike, y: ArrayLike, *, average: bool = False, batch_size: int = 64
    ) -> Evaluation:
        """Measure the network as it would be used: batch norm with its running statistics.

        Args:
            x: images, as for `step`.
            y: labels, integers `[batch]`.
            average: measure the running averages of the weights.
            batch_size: the number of images that run at once.

        Returns:
            The evaluation: `top1`, `loss`, a confusion matrix and more.
        """
        from ..evaluation import measure

        return measure(
            self.logits(x, average=average, batch_size=batch_size),
            y,
            self.config.get("labels"),
        )

    def logits(
        self, x: ArrayLike, *, average: bool = False, batch_size: int = 64
    ) -> NDArray[np.float32]:
        """The logits of images, float32 `[batch, classes]`, as for `evaluate`."""
        images = checked_images(x, self._core.in_channels)
        if not len(images):
            raise ValueError("x: expected at least one image; found none")
        network = self._network(average)
        step = arguments.count("batch_size", batch_size)
        parts = [network.logits(images[i : i + step]) for i in range(0, len(images), step)]
        return np.concatenate(parts)

    def embed(self, x: ArrayLike) -> NDArray[np.float32]:
        """The pooled features of images, float32 `[batch, features]`, as `ResNet.embed` gives."""
        embedded: NDArray[np.float32] = self._network(False).embed(
            checked_images(x, self._core.in_channels)
        )
        return embedded

    def set_head(self, weight: ArrayLike, bias: ArrayLike) -> None:
        """Overwrite the last layer.

        Args:
            weight: `[classes, features]`.
            bias: `[classes]`.

        Raises:
            ValueError: another shape.
        """
        for name, values in (("fc.weight", weight), ("fc.bias", bias)):
            self._write("values", name, values)
        self._evaluated = None

    def set_class_weights(self, class_weights: ArrayLike | None) -> None:
        """Set the factor of the loss for each class; None for 1 each.

        Raises:
            ValueError: not a number of at least 0 for each class.
        """
        if class_weights is not None:
            uniform = np.full((1, self.num_classes), 1 / self.num_classes)
            target_matrix(uniform, self.num_classes, class_weights=class_weights)
        self._class_weights = class_weights

    def _network(self, average: bool) -> Any:
        """The network for inference, made again after each step."""
        key = (self.steps, average)
        if self._evaluated is None or self._evaluated[0] != key:
            network = _core.Network.from_tensors(
                self.state_dict(average=average),
                self._config_text,
                origin="trainer",
                isa=self.isa,
                threads=self.threads,
            )
            self._evaluated = (key, network)
        return self._evaluated[1]

    def save(
        self, directory: str | os.PathLike[str], *, average: bool = False, force: bool = False
    ) -> None:
        """Write a weights directory that `resnet_rs.load` loads.

        Args:
            directory: the directory to write to.
            average: the running averages in place of the last weights.
            force: replace a network that is there.

        Raises:
            FileExistsError: there is a network, and `force` is not given.
            WeightsError: a weight is not finite.
            OSError: it cannot be written.
        """
        from ..weights.formats.checkpoint import Checkpoint
        from ..weights.formats.convert import write_directory

        config = {**self.config, "source": {"trained": f"{self.steps} steps by resnet_rs"}}
        checkpoint = Checkpoint(self.state_dict(average=average), config, "trainer", ())
        write_directory(checkpoint, directory, force=force)

    def copy(self) -> Trainer:
        """Make a trainer with the same weights, optimiser's memory and choices.

        The two then go their own ways.
        """
        from .checkpoint import copy_sets

        twin = copy.copy(self)
        twin._core = _core.Trainer(self.state_dict(), self._config_text, **self._kernels)
        twin._set_groups()
        twin._core.freeze(self._frozen)
        copy_sets(self._core, twin._core)
        twin._evaluated = None
        return twin

    def checkpoint(self, path: str | os.PathLike[str], **more: Any) -> None:
        """Write everything that is needed to go on to the bit, to one file.

        Args:
            path: the file; an old one is replaced when the new one is complete.
            more: further values, as JSON takes them, which `resume` returns.

        Raises:
            OSError: it cannot be written.
        """
        from .checkpoint import write

        write(self._core, path, self.config, more)

    def resume(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Take up weights, optimiser's memory and averages of a checkpoint.

        Args:
            path: the file that `checkpoint` wrote, of a trainer of the same network.

        Returns:
            The further values that were given to `checkpoint`.

        Raises:
            OSError: it cannot be read.
            ValueError: it is no checkpoint of this network.
        """
        from .checkpoint import read

        self._evaluated = None
        return read(self._core, path, self.config)

    def _set_groups(self) -> None:
        groups = step_groups(
            self._names, self._norms, self._lr_scales, decay_norms=self._decay_norms
        )
        self._core.set_groups(groups)

    def _write(self, kind: str, name: str, values: ArrayLike) -> None:
        array = np.ascontiguousarray(values, np.float32)
        expected = self._shapes.get(name)
        if expected is None:
            raise ValueError(f"{name}: not a tensor of this network")
        if array.shape != expected:
            raise ValueError(f"{name}: expected shape {list(expected)}; found {list(array.shape)}")
        self._core.write(kind, name, array)

    def _read(self, kind: str, name: str) -> NDArray[np.float32]:
        array = self._core.read(kind, name)
        assert array is not None
        return array
