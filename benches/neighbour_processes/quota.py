"""Quotas of CPU time: control groups of Linux, as containers have them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
"""The kernel's default: a group that has used its quota stops until the period ends."""


class NoQuotaError(OSError):
    """No control group can be made: this takes root's rights."""


@contextlib.contextmanager
def quota(cpus: float) -> Iterator[Path]:
    """Make a control group with a quota of `cpus` CPUs, and remove it at the end.

    Returns:
        Its file `cgroup.procs`: a process whose number is written into it joins the group.

    Raises:
        NoQuotaError: no group can be made.
    """
    is_second_version = (ROOT / "cgroup.controllers").exists()
    group = (ROOT if is_second_version else ROOT / "cpu") / f"resnet_rs-{os.getpid()}"
    allowed = f"{cpus * PERIOD_US:.0f}"
    try:
        group.mkdir()
    except OSError as error:
        raise NoQuotaError(f"no control group can be made in {group.parent}: {error}") from error
    try:
        if is_second_version:
            (group / "cpu.max").write_text(f"{allowed} {PERIOD_US}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(allowed)
        yield group / "cgroup.procs"
    except FileNotFoundError as error:
        raise NoQuotaError(f"{group} has no quota of CPU time: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            group.rmdir()
