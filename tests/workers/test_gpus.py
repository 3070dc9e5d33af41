"""What is known of GPUs: what the driver's own tool says, and nothing where it says nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from workers import gpus

MIB = 1024 * 1024


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """An nvidia-smi that does what it is told."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    def write(does: str) -> Path:
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)
        return path

    return write


def test_they_are_counted_by_the_driver_where_nothing_else_is_said(
    tool: Callable[[str], Path],
) -> None:
    tool("printf '0\\n1\\n'")
    assert gpus.visible() == ["0", "1"]
    tool("exit 9")
    assert gpus.visible() == []
    tool("exit 9").unlink()
    assert gpus.visible() == []


def test_memory_is_that_of_the_visible_ones(
    tool: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-ab")
    tool(
        'test "$1" = --id=1,GPU-ab || exit 3\n'
        "echo 'NVIDIA H100 80GB HBM3, GPU-aa, 1024, 81559'\n"
        "echo 'NVIDIA H100 80GB HBM3, GPU-ab, 0, 81559'\n"
        "echo 'a part of one, MIG-ac, [N/A], [N/A]'"
    )
    found = gpus.memory()
    assert [gpu["uuid"] for gpu in found] == ["GPU-aa", "GPU-ab"]
    assert (found[0]["memory_used"], found[0]["memory_total"]) == (1024 * MIB, 81559 * MIB)
    tool("exit 9")
    assert gpus.memory() == []
