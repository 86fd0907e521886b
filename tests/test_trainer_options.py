"""Options of a `Trainer` against torch, bits over threads, and threads, forks and Ctrl-C."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from network_pairs import Array, nchw, noise
from test_trainer_gradients import assert_near, clear_batch
from torch import nn
from torch.nn import functional
from training_networks import CLASSES, NETWORKS, Pair

import resnet_rs
from resnet_rs import Trainer, _core
from resnet_rs.datasets.loader import measuring
from resnet_rs.training.schedule import Schedule

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SIZE = (33, 47)


def pair_of(name: str) -> Pair:
    """A network whose weights float32 holds exactly, so that all see the same ones."""
    pair = Pair(NETWORKS[name], SIZE)
    pair.tensors = {n: t.astype(np.float32).astype(np.float64) for n, t in pair.tensors.items()}
    state = {n: torch.from_numpy(t) for n, t in pair.tensors.items()}
    pair.model.load_state_dict(state, strict=False)
    return pair


def trainer_of(pair: Pair, **options: Any) -> Trainer:
    trainer = Trainer("resnet50", variant=pair.variant, num_classes=CLASSES, threads=2, **options)
    for name, tensor in pair.tensors.items():
        trainer._core.write("values", name, np.ascontiguousarray(tensor, np.float32))
    return trainer


def torch_backward(
    pair: Pair, batches: list[tuple[Array, Any, dict[str, Any]]], dtype: torch.dtype, frozen: Any
) -> tuple[list[float], dict[str, Array], dict[str, Array]]:
    """The losses, the gradients of their sum, and the running statistics."""
    model = copy.deepcopy(pair.model).to(dtype).train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name not in frozen
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and f"{name}.weight" in frozen:
            module.eval()
    losses = []
    for x, y, options in batches:
        target = torch.from_numpy(y)
        if target.is_floating_point():
            target = target.to(dtype)
        if "weight" in options:
            options = {**options, "weight": torch.tensor(options["weight"], dtype=dtype)}
        loss = functional.cross_entropy(model(nchw(x).to(dtype)), target, **options)
        loss.backward()
        losses.append(loss.item())
    gradients = {
        n: p.grad.double().numpy() for n, p in model.named_parameters() if p.grad is not None
    }
    running = {n: b.double().numpy() for n, b in model.named_buffers() if "running" in n}
    return losses, gradients, running


WEIGHTS = [0.5, 2.0, 1.0, 0.25, 3.0]
SOFT = np.random.default_rng(5).dirichlet(np.ones(CLASSES), 6).astype(np.float32)

LOSSES: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "labels": (None, {}, {}),
    "smoothing": (None, {"label_smoothing": 0.2}, {"label_smoothing": 0.2}),
    "weights": (None, {"class_weights": WEIGHTS}, {"weight": WEIGHTS}),
    "soft": (SOFT, {}, {}),
    "all": (
        SOFT,
        {"label_smoothing": 0.1, "class_weights": WEIGHTS},
        {"label_smoothing": 0.1, "weight": WEIGHTS},
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    soft, ours, theirs = LOSSES[name]
    pair = pair_of("option-b")
    x, y = clear_batch(pair, 6, SIZE)
    y = y if soft is None else soft
    trainer = trainer_of(pair, **ours)
    loss, seen = trainer.backward(x, y)
    exact = torch_backward(pair, [(x, y, theirs)], torch.float64, ())
    rounded = torch_backward(pair, [(x, y, theirs)], torch.float32, ())
    assert loss == pytest.approx(exact[0][0], rel=1e-6)
    assert_near(trainer.gradients(), exact[1], rounded[1])
    with torch.no_grad():
        logits = copy.deepcopy(pair.model).train()(nchw(x).double())
    assert seen.tolist() == logits.argmax(dim=1).tolist()


def test_two_batches_add_up_as_in_torch() -> None:
    """Each batch has its own statistics, and the running ones take in both."""
    pair = pair_of("bottleneck")
    batches = []
    for seed in (0, 1):
        x, y = clear_batch(pair, 3 + seed, SIZE)
        batches.append((x, y, {}))
    trainer = trainer_of(pair)
    losses = [
        trainer.backward(x, y, accumulate=place > 0)[0] for place, (x, y, _) in enumerate(batches)
    ]
    exact = torch_backward(pair, batches, torch.float64, ())
    rounded = torch_backward(pair, batches, torch.float32, ())
    assert losses == pytest.approx(exact[0], rel=1e-6)
    assert_near(trainer.gradients(), exact[1], rounded[1])
    found = {name: t for name, t in trainer.state_dict().items() if "running" in name}
    assert_near(found, exact[2], rounded[2])


@pytest.mark.parametrize(
    "freeze",
    ["norms", ["conv1", "bn1", "layer1"], ["layer2"], ["layer3.0.conv2", "fc"], "backbone"],
    ids=str,
)
@pytest.mark.parametrize("name", ["bottleneck", "d-basic"])
def test_frozen_layers(name: str, freeze: Any) -> None:
    """Layers before, between and after those that learn: gradients go through them."""
    pair = pair_of(name)
    if name == "d-basic" and isinstance(freeze, list) and freeze[0] == "layer3.0.conv2":
        freeze = ["conv1", "layer3.0", "layer4.0.downsample"]
    x, y = clear_batch(pair, 4, SIZE)
    trainer = trainer_of(pair, freeze=freeze)
    trainer.backward(x, y)
    exact = torch_backward(pair, [(x, y, {})], torch.float64, trainer.frozen)
    rounded = torch_backward(pair, [(x, y, {})], torch.float32, trainer.frozen)
    assert trainer.gradients().keys() == exact[1].keys()
    assert_near(trainer.gradients(), exact[1], rounded[1])
    found = {n: t for n, t in trainer.state_dict().items() if "running" in n}
    assert_near(found, exact[2], rounded[2])


def test_biases_before_batch_norms() -> None:
    """Their gradients are zero but for rounding, as in torch, and they stay in the state."""
    pair = Pair({"block": "basic", "conv_bias": True}, SIZE)
    x, y = pair.batch(4, SIZE)
    x = x.astype(np.float32)
    trainer = trainer_of(pair)
    trainer.backward(x, y)
    _, exact, _ = torch_backward(pair, [(x, y, {})], torch.float64, ())
    gradients = trainer.gradients()
    assert gradients.keys() == exact.keys()
    biases = [name for name in exact if "conv" in name and name.endswith(".bias")]
    assert len(biases) == 9
    for name in biases:
        weight = np.linalg.norm(exact[name.replace("bias", "weight")])
        assert np.linalg.norm(gradients[name]) <= 1e-4 * weight, name


@pytest.mark.parametrize("momentum", [0.0, 0.25, 1.0])
def test_the_share_of_a_batch_in_the_statistics(momentum: float) -> None:
    pair = pair_of("option-b")
    for module in pair.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
    x, y = pair.batch(4, SIZE)
    x = x.astype(np.float32)
    trainer = trainer_of(pair, norm_momentum=momentum)
    trainer.backward(x, y)
    _, _, running = torch_backward(pair, [(x, y, {})], torch.float64, ())
    for name, expected in running.items():
        np.testing.assert_allclose(trainer.state_dict()[name], expected, rtol=1e-4, atol=1e-5)


class TestBits:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_threads_change_no_bit_of_any_kind_of_network(self, name: str) -> None:
        size = (64, 64) if name == "avg-pool-head" else (37, 50)
        pair = Pair(NETWORKS[name], size)
        x, y = pair.batch(5, size)
        states = []
        for threads in (1, 2, 4):
            trainer = Trainer(
                "resnet50",
                variant=pair.variant,
                preprocessing=measuring(size[0], channels=pair.variant["in_channels"]),
                num_classes=CLASSES,
                threads=threads,
                lr=0.01,
                clip_norm=0.5,
            )
            trainer.step(x.astype(np.float32), y)
            trainer.step(x[:3].astype(np.float32), y[:3])
            states.append({**trainer.state_dict(), **trainer.gradients()})
        for other in states[1:]:
            assert all(np.array_equal(states[0][n], other[n]) for n in states[0])

    def test_a_batch_between_others_changes_nothing(self) -> None:
        """The memory of a step is used again for batches of other shapes."""
        pair = Pair(NETWORKS["bottleneck"], SIZE)
        x, y = pair.batch(4, SIZE)
        trainer = trainer_of(pair)
        trainer.backward(x, y)
        first = trainer.gradients()
        for count, side in ((1, 65), (7, 40), (2, 96), (3, 33), (5, 48), (2, 64)):
            other = noise(count, side, side, 3)
            trainer.backward(other, np.zeros(count, np.int64))
        trainer.backward(x, y)
        assert all(np.array_equal(first[n], t) for n, t in trainer.gradients().items())


class TestEvaluating:
    def test_a_backward_pass_moves_the_statistics(self) -> None:
        """Logits after it are those of the statistics of now, though there was no step."""
        trainer = trainer_of(pair_of("option-b"))
        x = noise(4, *SIZE, 3)
        before = trainer.logits(x)
        trainer.backward(5 * x, [0, 1, 2, 3])
        after = trainer.logits(x)
        assert not np.array_equal(before, after)

    def test_measuring_changes_nothing(self) -> None:
        trainer = trainer_of(pair_of("option-b"))
        x = noise(4, *SIZE, 3)
        trainer.step(x, [0, 1, 2, 3])
        before, gradients = trainer.state_dict(), trainer.gradients()
        trainer.evaluate(x, [0, 1, 2, 3])
        trainer.embed(x)
        assert all(np.array_equal(before[n], t) for n, t in trainer.state_dict().items())
        assert all(np.array_equal(gradients[n], t) for n, t in trainer.gradients().items())


class TestSchedulesOfTorch:
    def rates(self, make: Any, steps: int) -> list[float]:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
        scheduler = make(optimizer)
        rates = []
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return rates

    def test_cosine(self) -> None:
        expected = self.rates(
            lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=40), steps=40
        )
        schedule = Schedule("cosine", 0.3)
        assert [schedule.at(step / 40) for step in range(40)] == pytest.approx(expected)

    def test_step(self) -> None:
        expected = self.rates(
            lambda o: torch.optim.lr_scheduler.MultiStepLR(o, milestones=[20, 30]), steps=40
        )
        schedule = Schedule("step", 0.3)
        assert [schedule.at(step / 40) for step in range(40)] == pytest.approx(expected)


class TestProcesses:
    def test_two_threads_do_not_mix_their_steps(self) -> None:
        """Two trainers at once give the bits that each gives alone."""
        pair = pair_of("option-b")
        x, y = pair.batch(4, SIZE)
        x = x.astype(np.float32)

        def train(trainer: Trainer) -> None:
            for _ in range(5):
                trainer.step(x, y)

        alone = trainer_of(pair, lr=0.01)
        train(alone)
        trainers = [trainer_of(pair, lr=0.01) for _ in range(2)]
        threads = [threading.Thread(target=train, args=(trainer,)) for trainer in trainers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for trainer in trainers:
            found = trainer.state_dict()
            assert all(np.array_equal(t, found[n]) for n, t in alone.state_dict().items())

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_a_child_goes_on_with_the_same_bits(self) -> None:
        pair = pair_of("option-b")
        x, y = pair.batch(4, SIZE)
        x = x.astype(np.float32)
        trainer = trainer_of(pair, lr=0.01)
        trainer.step(x, y)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                trainer.step(x, y)
                os.write(writing, trainer.state_dict()["fc.weight"].tobytes())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            found = pipe.read()
        os.waitpid(child, 0)
        trainer.step(x, y)
        assert found == trainer.state_dict()["fc.weight"].tobytes()

    def test_an_interrupted_step_leaves_the_trainer_whole(self) -> None:
        """Ctrl-C in one's own loop ends a long step at once; the next step is right."""
        script = (
            "import os, signal, threading, numpy as np\n"
            "from resnet_rs import Trainer\n"
            "trainer = Trainer('resnet50', num_classes=3, threads=1)\n"
            "before = trainer.state_dict()\n"
            "x = np.random.default_rng(0).standard_normal((16, 224, 224, 3)).astype(np.float32)\n"
            "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
            "try:\n"
            "    trainer.step(x, np.arange(16) % 3)\n"
            "    print('no interrupt')\n"
            "except KeyboardInterrupt:\n"
            "    after = trainer.state_dict()\n"
            "    same = all(np.array_equal(before[n], after[n]) for n in before)\n"
            "    trainer.step(x[:2, :64, :64], [0, 1])\n"
            "    print('same', same, trainer.steps)\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(Path(resnet_rs.__file__).parents[1])}
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert done.stdout == "same True 1\n", done.stdout + done.stderr


def test_every_set_of_numbers_is_read_and_written() -> None:
    trainer = trainer_of(pair_of("option-b"), average=0.5, optimizer="adamw")
    trainer.step(noise(4, *SIZE, 3), [0, 1, 2, 3])
    core: _core.Trainer = trainer._core
    for kind in ("values", "gradients", "first", "second", "average"):
        for name, shape, is_statistic in core.tensors():
            array = core.read(kind, name)
            if array is None:
                assert is_statistic
                continue
            assert list(array.shape) == shape
            changed = array + np.float32(1)
            core.write(kind, name, changed)
            assert np.array_equal(core.read(kind, name), changed), (kind, name)
