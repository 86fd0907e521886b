"""Features of this processor that the peers' settings depend on."""

import re
from pathlib import Path


def has_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether it multiplies fours of 8 bits into 32: otherwise pairs are added in 16 bits.

    Where Linux's list of features is missing, the answer is no.
    """
    if not cpuinfo.exists():
        return False
    return re.search(r"\bavx(512)?_vnni\b", cpuinfo.read_text(encoding="utf-8")) is not None
