"""What a machine and its control groups leave for new work, read as Linux tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.engine.machine import available_bytes, left_bytes

MIB = 2**20


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A machine with 8,192 MiB left, on which this process holds 100."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text(
        f"MemTotal: {16384 * 1024} kB\nMemAvailable: {8192 * 1024} kB\n"
    )
    (tmp_path / "proc" / "self" / "status").write_text(f"Name:\tx\nVmRSS:\t{100 * 1024} kB\n")
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/\n")
    return tmp_path / "proc"


def group(folder: Path, limit: str, name: str, stat: str) -> None:
    folder.mkdir(parents=True)
    (folder / name).write_text(f"{limit}\n")
    (folder / "memory.stat").write_text(stat)


def test_without_limits_it_is_what_the_machine_has_left(proc: Path, tmp_path: Path) -> None:
    assert available_bytes(proc, tmp_path / "none") == 8292 * MIB


def test_a_container_leaves_less(proc: Path, tmp_path: Path) -> None:
    group(tmp_path / "v2", str(4096 * MIB), "memory.max", f"anon {1000 * MIB}\nfile {9 * MIB}\n")
    assert available_bytes(proc, tmp_path / "v2") == (4096 - 1000 + 100) * MIB


def test_a_group_around_this_one_counts_too(proc: Path, tmp_path: Path) -> None:
    (proc / "self" / "cgroup").write_text("0::/user/one\n")
    group(tmp_path / "v2" / "user", str(512 * MIB), "memory.max", f"anon {12 * MIB}\n")
    group(tmp_path / "v2" / "user" / "one", "max", "memory.max", "anon 0\n")
    assert available_bytes(proc, tmp_path / "v2") == (512 - 12 + 100) * MIB


def test_control_groups_of_the_first_version_are_read(proc: Path, tmp_path: Path) -> None:
    (proc / "self" / "cgroup").write_text("5:cpu,cpuacct:/\n4:memory:/box\n0::/\n")
    group(
        tmp_path / "v1" / "memory" / "box",
        str(2048 * MIB),
        "memory.limit_in_bytes",
        f"rss 1\ntotal_rss {48 * MIB}\n",
    )
    assert available_bytes(proc, tmp_path / "v1") == 2100 * MIB


def test_a_machine_that_does_not_tell_is_not_guessed(tmp_path: Path) -> None:
    assert available_bytes(tmp_path / "nowhere", tmp_path) is None


def test_a_container_over_its_limit_leaves_nothing(proc: Path, tmp_path: Path) -> None:
    group(tmp_path / "v2", "900", "memory.max", "anon 1000\n")
    assert left_bytes(proc, tmp_path / "v2") == 0


def test_under_a_path_that_only_the_host_sees_the_own_root_counts(
    proc: Path, tmp_path: Path
) -> None:
    (proc / "self" / "cgroup").write_text("0::/as/the/host/sees/it\n")
    group(tmp_path / "v2", str(512 * MIB), "memory.max", f"anon {12 * MIB}\n")
    assert left_bytes(proc, tmp_path / "v2") == 500 * MIB
