"""The budget of memory for reading a file of unknown origin."""

from __future__ import annotations

from ..._core import WeightsError

FREE_BYTES = 12 << 20
"""Memory that any file may take, for the objects of its pickle."""


class Budget:
    """Twice the file, and a fixed amount for small files; spent before memory is allocated.

    Args:
        file_bytes: the file's size.
    """

    def __init__(self, file_bytes: int) -> None:
        self._left = FREE_BYTES + 2 * file_bytes

    def spend(self, size: int) -> None:
        """Count `size` bytes that are about to be allocated.

        Raises:
            WeightsError: the file asks for more than a sound file of its size.
        """
        self._left -= size
        if self._left < 0:
            raise WeightsError(
                "it unfolds to more than twice its size, as no sound checkpoint does: save the "
                "state dict alone, uncompressed, with torch.save(model.state_dict(), path)"
            )
