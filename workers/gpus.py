"""The GPUs of this machine as NVIDIA's driver tells of them, without opening one."""

from __future__ import annotations

import csv
import itertools
import logging
import os
import shutil
import subprocess
from typing import TypedDict

logger = logging.getLogger(__name__)
PATIENCE = 30.0


class Gpu(TypedDict):
    """Of the whole GPU, whoever uses it; bytes."""

    name: str
    uuid: str
    memory_used: int
    memory_total: int


def visible() -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls them; none where NVIDIA's driver is not at hand."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        # CUDA takes none from the first -1 on.
        names = [name.strip() for name in given.split(",")]
        return [name for name in itertools.takewhile(lambda name: name != "-1", names) if name]
    return _asked("--query-gpu=index", "--format=csv,noheader").split()


def memory() -> list[Gpu]:
    """Of the visible ones; none where the driver does not answer."""
    names = visible()
    if not names:
        return []
    wanted = "--query-gpu=name,uuid,memory.used,memory.total"
    told = _asked(f"--id={','.join(names)}", wanted, "--format=csv,noheader,nounits")
    rows = csv.reader(told.splitlines(), skipinitialspace=True)
    return [
        Gpu(name=row[0], uuid=row[1], memory_used=_bytes(row[2]), memory_total=_bytes(row[3]))
        for row in rows
        if len(row) == 4 and row[2].isdecimal() and row[3].isdecimal()  # a part of a GPU has none
    ]


def _bytes(mebibytes: str) -> int:
    return int(mebibytes) * 1024 * 1024


def _asked(*words: str) -> str:
    """What nvidia-smi prints; nothing where it is missing or fails."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    try:
        told = subprocess.run([tool, *words], capture_output=True, text=True, timeout=PATIENCE)
    except (subprocess.TimeoutExpired, OSError) as error:
        logger.warning("nvidia-smi does not answer: %s", error)
        return ""
    return told.stdout if told.returncode == 0 else ""
