"""The trainers by name."""

from collections.abc import Iterator

from resnet_rs import _core
from training_runtimes.ours import Ours, OursBf16
from training_runtimes.runtime import Runtime

OURS = (Ours.name, OursBf16.name)
TORCH = ("torch", "torch-channels-last", "torch-bf16", "torch-bf16-channels-last")
NAMES = (*OURS, *TORCH)


def make(name: str, isa: str | None = None, winograd: bool = True) -> Runtime:
    """Make a trainer; torch is imported only for torch's, so that ours does without its memory.

    Args:
        name: one of `NAMES`, or `torch-f64`.
        isa: our tier.
        winograd: ours may use Winograd's algorithm.

    Raises:
        ModuleNotFoundError: torch is not installed.
        ValueError: there is no such trainer.
    """
    for ours in (Ours, OursBf16):
        if ours.name == name:
            return ours(isa, winograd)
    for kind in _torch_kinds():
        if kind.name == name:
            return kind()
    raise ValueError(f"no trainer {name!r}: expected one of {', '.join(NAMES)}")


def default_names(isa: str | None = None) -> list[str]:
    """All trainers; those in bf16 only if the processor multiplies bf16, and ours only on its tier.

    Every processor with AMX also has AVX-512's instructions for bf16.

    Args:
        isa: our tier; None for the fastest.
    """
    has_bf16 = "avx512bf16" in _core.cpu_features()
    lacking = () if isa in (None, "avx512") else (OursBf16.name,)
    return [name for name in NAMES if (has_bf16 or "bf16" not in name) and name not in lacking]


def _torch_kinds() -> Iterator[type[Runtime]]:
    from training_runtimes import torch_steps

    yield torch_steps.Torch
    yield torch_steps.TorchChannelsLast
    yield torch_steps.TorchBf16
    yield torch_steps.TorchBf16ChannelsLast
    yield torch_steps.TorchF64
