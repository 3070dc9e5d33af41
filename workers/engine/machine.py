"""Memory and disk of this machine: what is there for new work, what this process has taken."""

from __future__ import annotations

import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


class _Version(NamedTuple):
    """Where a version of control groups tells of memory; files that it can take back do not count
    as used."""

    folder: str
    limit: str
    used: str


_VERSION_1 = _Version("memory", "memory.limit_in_bytes", "total_rss")
_VERSION_2 = _Version("", "memory.max", "anon")


def left_bytes(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """Memory that this process may still take without swapping: the machine's, or its container's
    if less. None where there is no Linux to tell.
    """
    if not (proc / "meminfo").is_file():
        return None
    return min([_kib(proc / "meminfo", "MemAvailable"), *_left_in_groups(proc, cgroups)])


def gpu_left_bytes(device: torch.device) -> int:
    """Free memory of the GPU."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free)


def held_bytes(proc: Path = _PROC) -> int:
    """Resident bytes of this process now; 0 where there is no Linux to tell."""
    status = proc / "self" / "status"
    return _kib(status, "VmRSS") if status.is_file() else 0


def available_bytes(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """What this process may come to hold: what it holds and what is left."""
    left = left_bytes(proc, cgroups)
    return None if left is None else left + held_bytes(proc)


def peak_bytes() -> int:
    """Resident bytes of this process at its largest, since `forget_peak` where that was called.

    On Linux not `ru_maxrss`, which begins at the size of whatever process started this one.
    """
    if sys.platform == "linux":
        return _kib(_PROC / "self" / "status", "VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak() -> None:
    """Count the peak from now on, where the system can; elsewhere it stays that of the whole."""
    if sys.platform == "linux":
        (_PROC / "self" / "clear_refs").write_text("5", encoding="ascii")


def _left_in_groups(proc: Path, cgroups: Path) -> Iterator[int]:
    """What the control groups of this process, and those around them, still allow."""
    for line in (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        version = _VERSION_1 if "memory" in controllers.split(",") else _VERSION_2
        if controllers and version is _VERSION_2:
            continue
        root = cgroups / version.folder
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if (folder / version.limit).is_file():
                yield from _left(folder, version)
            if folder == root:
                break


def _left(folder: Path, version: _Version) -> Iterator[int]:
    limit = (folder / version.limit).read_text(encoding="ascii").strip()
    if limit.isdecimal():  # else "max"
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        used = dict(line.split() for line in lines)[version.used]
        yield max(0, int(limit) - int(used))


def _kib(file: Path, name: str) -> int:
    """The value of a line such as `VmHWM:   1024 kB`, in bytes."""
    lines = file.read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def free_bytes(folder: Path) -> int:
    """What an unprivileged process may still write where this folder is, or is to be made."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(there).free
