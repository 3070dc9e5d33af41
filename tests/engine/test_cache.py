"""The activation cache on disk: what is stored, what is never read, what goes when it is full."""

from __future__ import annotations

import multiprocessing
import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.cache_entry import identity
from workers.engine.cache import (
    CacheFolder,
    DamagedShard,
    Manifest,
    OpenEntry,
    model_digest,
    read_shard,
    write_shard,
)
from workers.engine.cache import folder as folder_module

PLENTY = 10**9


def manifest(layer: int = 5, **changes: Any) -> Manifest:
    return Manifest(identity(layer, **changes), "SmolLM2-135M", "TinyStories", 64, 4, 4000, 64)


def fill(cache: CacheFolder, layer: int, groups: int = 4, used: float | None = None) -> str:
    """An entry with files of about 10 kB; its id."""
    entry = OpenEntry(cache.path, manifest(layer))
    for group in range(groups):
        write_shard(entry.shard(group), "BF16", np.zeros((100, 100), np.uint8))
    entry.close()
    if used is not None:
        os.utime(entry.path / "lock", (used, used))
    return entry.path.name


@pytest.fixture
def cache(tmp_path: Path) -> CacheFolder:
    return CacheFolder(tmp_path / "cache", PLENTY)


# Files


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_file_is_read_back_to_the_last_bit_here_and_by_the_library(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    code = {torch.bfloat16: "BF16", torch.float32: "F32"}[dtype]
    tensor = torch.randn(7, 5).to(dtype)
    path = tmp_path / "a.safetensors"
    size = write_shard(path, code, tensor.view(torch.uint8).numpy())
    again = torch.from_numpy(read_shard(path, code, 7)).view(dtype)
    assert torch.equal(again, tensor)
    assert torch.equal(load_file(path)["activations"], tensor)
    assert path.stat().st_size == size
    assert stat.S_IMODE(path.stat().st_mode) & 0o044 == 0o044


def flip(data: bytearray, place: int) -> None:
    data[place] ^= 0x10


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: flip(data, -1),
        lambda data: flip(data, 0),
        lambda data: flip(data, 30),
        lambda data: data.__delitem__(slice(len(data) // 2, None)),
        lambda data: data.__delitem__(slice(4, None)),
        lambda data: data.clear(),
        lambda data: data.extend(b"x"),
        lambda data: data.__setitem__(slice(None), bytes(len(data))),
    ],
    ids=["bit", "length", "header", "half", "stub", "empty", "longer", "zeroed"],
)
def test_a_harmed_file_is_never_read(tmp_path: Path, harm: Callable[[bytearray], object]) -> None:
    path = tmp_path / "a.safetensors"
    write_shard(path, "BF16", np.arange(200, dtype=np.uint8).reshape(10, 20))
    data = bytearray(path.read_bytes())
    harm(data)
    path.write_bytes(data)
    with pytest.raises(DamagedShard):
        read_shard(path, "BF16", 10)


def test_a_file_of_another_shape_or_format_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_shard(path, "BF16", np.zeros((10, 20), np.uint8))
    for code, rows in (("BF16", 9), ("F32", 10)):
        with pytest.raises(DamagedShard, match="another tensor"):
            read_shard(path, code, rows)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(IsADirectoryError):
        write_shard(tmp_path / "a.safetensors", "BF16", np.zeros((10, 20), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


# Identity


def test_anything_that_may_change_a_bit_makes_another_entry() -> None:
    first = manifest().identity
    others: dict[str, Any] = {
        "model": "n",
        "tokens": "u",
        "hook": "mlp_out",
        "layer": 6,
        "held": "float32",
        "computed": "bfloat16",
        "group_contexts": 8,
        "machine": "cpu, 2 threads",
    }
    ids = {replace(first, **{name: value}).id for name, value in others.items()}
    assert len(ids) == len(others)
    assert first.id not in ids
    assert manifest().identity.id == first.id


def test_a_models_digest_follows_its_weights_and_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(100))
    first = model_digest(tmp_path)
    os.utime(weights, (1, 1))
    (tmp_path / "README.md").write_text("words")
    assert model_digest(tmp_path) == first
    weights.write_bytes(bytes(99) + b"\1")
    second = model_digest(tmp_path)
    (tmp_path / "config.json").write_text("{ }")
    assert len({first, second, model_digest(tmp_path)}) == 3


# Entries


def test_an_entry_tells_what_it_is_and_how_full(cache: CacheFolder) -> None:
    id = fill(cache, 5, groups=3)
    (found,) = cache.entries()
    assert (found.id, found.n_cached, found.share) == (id, 3, 0.75)
    assert found.manifest == manifest()
    assert found.bytes == sum(f.stat().st_size for f in (cache.path / id).iterdir())
    assert cache.used() == found.bytes
    assert cache.groups(manifest().identity) == {0, 1, 2}
    assert time.time() - found.last_used < 60


def test_an_entry_in_use_stays_until_its_run_ends(cache: CacheFolder) -> None:
    id = fill(cache, 5)
    run, other = (OpenEntry(cache.path, manifest()) for _ in range(2))
    assert cache.entries()[0].in_use
    assert cache.remove(id) is False
    run.close()
    assert cache.clear() == (0, 1)
    other.close()
    assert not cache.entries()[0].in_use
    assert cache.clear() == (1, 0)
    assert list(cache.path.iterdir()) == []
    with pytest.raises(KeyError):
        cache.remove(id)


def test_an_entry_is_let_go_by_a_run_that_is_killed(cache: CacheFolder) -> None:
    context = multiprocessing.get_context("spawn")
    ready, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_hold, args=(cache.path, theirs), daemon=True)
    child.start()
    theirs.close()
    assert ready.recv() == "held"
    assert cache.entries()[0].in_use
    child.kill()
    child.join()
    assert cache.remove(manifest().identity.id) is True


def _hold(path: Path, pipe: Any) -> None:
    held = OpenEntry(path, manifest())
    pipe.send("held")
    threading.Event().wait()
    held.close()


def test_a_run_that_comes_while_its_entry_is_removed_makes_a_new_one(cache: CacheFolder) -> None:
    id = fill(cache, 5)
    stop = threading.Event()

    def remove() -> None:
        while not stop.is_set():
            cache.clear()

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        for _ in range(200):
            run = OpenEntry(cache.path, manifest())
            write_shard(run.shard(0), "BF16", np.zeros((1, 2), np.uint8))
            assert 0 in run.groups()
            run.close()
    finally:
        stop.set()
        remover.join()
    assert [place.name for place in cache.path.iterdir() if place.is_dir()] in ([], [id])


def test_what_killed_runs_left_is_cleaned_up(cache: CacheFolder) -> None:
    id = fill(cache, 5)
    (cache.path / id / "000009.safetensors.ab.tmp").write_bytes(bytes(5000))
    (cache.path / "feed.gone").mkdir()
    (cache.path / "feed.gone" / "000001.safetensors").write_bytes(bytes(5000))
    before = cache.used()
    cache.make_room(1)
    assert cache.used() == before - 10_000
    assert cache.groups(manifest().identity) == {0, 1, 2, 3}


def test_what_is_no_entry_is_passed_over(cache: CacheFolder) -> None:
    fill(cache, 5)
    for name, text in (("a", "{"), ("b", "{}"), ("c", '{"identity": {}}')):
        (cache.path / name).mkdir()
        (cache.path / name / "manifest.json").write_text(text)
    (cache.path / "d").write_text("a file")
    assert len(cache.entries()) == 1


# Limit


def test_the_least_recently_used_entry_goes_first(cache: CacheFolder) -> None:
    old, middle, new = (fill(cache, layer, used=layer) for layer in (1, 2, 3))
    small = CacheFolder(cache.path, cache.used() + 100)
    assert small.make_room(50) >= 50
    assert len(small.entries()) == 3
    assert small.make_room(20_000) >= 20_000
    assert [entry.id for entry in small.entries()] == [new, middle]
    (gone,) = small.evictions()
    assert (gone.id, gone.layer, gone.model) == (old, 1, "SmolLM2-135M")
    assert gone.bytes > 40_000
    assert time.time() - gone.at < 60


def test_what_a_run_uses_never_goes(cache: CacheFolder) -> None:
    used = fill(cache, 1, used=1)
    fill(cache, 2, used=2)
    full = CacheFolder(cache.path, cache.used())
    run = OpenEntry(cache.path, manifest(1))
    os.utime(run.path / "lock", (1, 1))
    assert full.make_room(20_000) >= 20_000
    assert [entry.id for entry in full.entries()] == [used]
    assert full.make_room(60_000) < 60_000
    assert [entry.id for entry in full.entries()] == [used]
    run.close()


def test_nothing_goes_for_what_would_never_fit(cache: CacheFolder) -> None:
    fill(cache, 1)
    assert CacheFolder(cache.path, 50_000).make_room(60_000) < 60_000
    assert len(cache.entries()) == 1


def test_runs_that_ask_at_once_are_not_promised_the_same_bytes(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 100_000)
    assert [cache.make_room(10_000) for _ in range(4)] == [25_000] * 4


def test_a_reserve_of_the_disk_is_left_alone(
    cache: CacheFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache, 1)

    def disk(free: int) -> None:
        usage = type("Usage", (), {"total": 100 * 10**9, "free": free})
        monkeypatch.setattr(folder_module.shutil, "disk_usage", lambda path: usage)

    disk(10**10 + 1000)
    assert cache.room() == 1000
    disk(10**9)
    assert cache.make_room(1) < 1
    assert cache.entries() == []


def test_the_log_of_evictions_stays_short(cache: CacheFolder) -> None:
    for layer in range(120):
        fill(cache, layer, groups=1)
        CacheFolder(cache.path, 12_000).make_room(11_000)
    log = cache.evictions()
    assert [gone.layer for gone in log] == list(range(119, 19, -1))
