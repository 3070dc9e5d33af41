"""How much memory there is to take, as the device, the kernel and the container say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

# Names of the limit, of what is used, and of the cache in it that the kernel gives up on demand:
# of control groups of the second version, and of the first.
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def on_gpu(device: torch.device) -> int:
    """Free bytes of the GPU."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free)


def on_host(root: Path = Path("/")) -> int | None:
    """Bytes this process may still take without swapping; None where the system does not say."""
    meminfo = root / "proc/meminfo"
    if not meminfo.is_file():
        return None
    fields = dict(line.split(":", 1) for line in meminfo.read_text(encoding="utf-8").splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    return min([available, *_left_in_groups(root)])


def _left_in_groups(root: Path) -> Iterator[int]:
    """What each control group around this process leaves; a container is one."""
    own = root / "proc/self/cgroup"
    lines = own.read_text(encoding="utf-8").splitlines() if own.is_file() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _left(root / "sys/fs/cgroup", path, _V2)
        elif "memory" in controllers.split(","):
            yield from _left(root / "sys/fs/cgroup/memory", path, _V1)


def _left(mount: Path, path: str, names: tuple[str, str, str]) -> Iterator[int]:
    group = mount / path.strip("/")
    # A container may see its own group as the root, under a path that is the host's.
    for folder in {mount, group, *(p for p in group.parents if p.is_relative_to(mount))}:
        limit, used = folder / names[0], folder / names[1]
        if not (limit.is_file() and used.is_file()):
            continue
        text = limit.read_text(encoding="utf-8").strip()
        if text != "max":
            yield max(0, int(text) - int(used.read_text(encoding="utf-8")) + _cache(folder, names))


def _cache(folder: Path, names: tuple[str, str, str]) -> int:
    stat = folder / "memory.stat"
    lines = stat.read_text(encoding="utf-8").splitlines() if stat.is_file() else []
    return next((int(line.split()[1]) for line in lines if line.split()[0] == names[2]), 0)
