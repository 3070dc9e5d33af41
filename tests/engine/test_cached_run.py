"""Whatever the cache holds, a run ends with the very bits of one that has none."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.engine.test_kill_and_resume import Engine, newest_first
from tests.engine.test_process import ENVIRONMENT, ROOT
from workers.engine import events
from workers.engine.cache import CacheFolder
from workers.engine.config import CacheSpec, RunSpec
from workers.engine.language_model import LanguageModel
from workers.engine.train import train

MakeSpec = Callable[..., RunSpec]
Outcome = dict[str, torch.Tensor]
PLENTY = 10**9
# Somewhat more than an epoch, so that groups come twice; three chunks of four groups each.
H: dict[str, Any] = {
    "num_steps": 90,
    "batch_size": 512,
    "checkpoint_interval": 30,
    "buffer_tokens": 16_000,
    "top_k_sparsity": 5.0,
}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every loading of the model and every forward pass, as they happen."""
    seen: list[str] = []
    for name in ("load", "capture"):
        method = getattr(LanguageModel, name)

        def watched(*args: Any, name: str = name, method: Any = method, **kwargs: Any) -> Any:
            seen.append(name)
            return method(*args, **kwargs)

        monkeypatch.setattr(LanguageModel, name, watched)
    return seen


@pytest.fixture
def cache(tmp_path: Path) -> CacheSpec:
    return CacheSpec(folder=tmp_path / "cache", limit_bytes=PLENTY)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """Of runs without a cache, by architecture."""
    return {}


@pytest.fixture
def uncached(
    make_spec: MakeSpec, tmp_path: Path, outcomes: dict[str, Outcome]
) -> Callable[[str], Outcome]:
    def outcome_of(architecture: str) -> Outcome:
        if architecture not in outcomes:
            outcomes[architecture] = run(make_spec(architecture, **H), tmp_path / "without")[1]
        return outcomes[architecture]

    return outcome_of


def run(spec: RunSpec, folder: Path) -> tuple[list[events.Event], Outcome]:
    """The events, and every tensor of the last checkpoint."""
    found = list(train(spec, folder))
    assert isinstance(found[-1], events.Completed)
    return found, outcome(folder)


def outcome(folder: Path) -> Outcome:
    return load_file(folder / "checkpoints" / "step-000090" / "tensors.safetensors")


def same(one: Outcome, two: Outcome) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def started(found: list[events.Event]) -> events.Started:
    (event,) = [event for event in found if isinstance(event, events.Started)]
    return event


def warned(found: list[events.Event]) -> list[str]:
    """What was told of the cache; other warnings are of the small configuration."""
    codes = [event.code for event in found if isinstance(event, events.Warned)]
    return [code for code in codes if code.startswith("cache")]


def shards(cache: CacheSpec) -> list[Path]:
    return sorted(cache.folder.glob("*/*.safetensors"))


@pytest.mark.parametrize("architecture", ["standard", "transcoder"])
def test_a_second_run_makes_no_forward_pass_and_ends_with_the_same_bits(
    make_spec: MakeSpec,
    tmp_path: Path,
    passes: list[str],
    cache: CacheSpec,
    uncached: Callable[[str], Outcome],
    architecture: str,
) -> None:
    expected = uncached(architecture)
    passes.clear()
    spec = make_spec(architecture, cache=cache, **H)
    first, one = run(spec, tmp_path / "first")
    assert started(first).cached_fraction == 0.0
    assert passes.count("load") == 1
    # One pass for every group, though most are read in two epochs.
    assert passes.count("capture") == len(shards(cache)) / (1 + (architecture == "transcoder"))
    passes.clear()
    second, two = run(spec, tmp_path / "second")
    assert passes == []
    assert started(second).cached_fraction == 1.0
    assert same(one, expected)
    assert same(two, expected)
    assert first[-1].evaluation == second[-1].evaluation  # type: ignore[attr-defined]


def test_another_seed_batch_size_and_split_read_the_same_entry(
    make_spec: MakeSpec, tmp_path: Path, passes: list[str], cache: CacheSpec
) -> None:
    run(make_spec("standard", cache=cache, **H), tmp_path / "first")
    passes.clear()
    other = H | {"seed": 7, "batch_size": 200, "held_out_tokens": 3000, "target_l0": 9}
    spec = make_spec("jumprelu", cache=cache, **other)
    found, _ = run(spec, tmp_path / "second")
    assert passes == []
    assert started(found).cached_fraction == 1.0


def test_a_transcoders_layers_serve_later_runs_on_either(
    make_spec: MakeSpec, tmp_path: Path, passes: list[str], cache: CacheSpec
) -> None:
    run(make_spec("transcoder", cache=cache, **H), tmp_path / "first")
    passes.clear()
    for layer in (1, 2):
        spec = make_spec("standard", cache=cache, **H)
        config = spec.config.model_copy(update={"layer": layer})
        run(spec.model_copy(update={"config": config}), tmp_path / f"layer-{layer}")
    assert passes == []
    assert len(CacheFolder(cache.folder, PLENTY).entries()) == 2


def remove_half(paths: list[Path]) -> None:
    for path in paths[::2]:
        path.unlink()


def harm_some(paths: list[Path]) -> None:
    for number, path in enumerate(paths[::3]):
        data = bytearray(path.read_bytes())
        if number % 2:
            data[-3] ^= 1
        else:
            del data[100:]
        path.write_bytes(data)


def replace_by_folders(paths: list[Path]) -> None:
    """Neither readable nor deletable as files."""
    for path in paths[:2]:
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (remove_half, []),
        (harm_some, ["cache_damaged"]),
        (replace_by_folders, ["cache_unreadable"]),
    ],
)
def test_half_filled_or_harmed_the_result_is_the_same_to_the_last_bit(
    make_spec: MakeSpec,
    tmp_path: Path,
    cache: CacheSpec,
    uncached: Callable[[str], Outcome],
    change: Callable[[list[Path]], None],
    told: list[str],
) -> None:
    spec = make_spec("transcoder", cache=cache, **H)
    run(spec, tmp_path / "first")
    whole = {path: path.read_bytes() for path in shards(cache)}
    change(list(whole))
    found, bits = run(spec, tmp_path / "second")
    assert same(bits, uncached("transcoder"))
    assert warned(found) == told
    if change is not replace_by_folders:
        assert {path: path.read_bytes() for path in shards(cache)} == whole


def test_evicted_while_it_runs_the_result_is_the_same_to_the_last_bit(
    make_spec: MakeSpec,
    tmp_path: Path,
    passes: list[str],
    cache: CacheSpec,
    uncached: Callable[[str], Outcome],
) -> None:
    """Files vanish under the run, as if somebody had emptied the folder by hand."""
    spec = make_spec("standard", cache=cache, **H)
    run(spec, tmp_path / "first")
    expected = uncached("standard")
    passes.clear()
    found = []
    for event in train(spec, tmp_path / "second"):
        found.append(event)
        if isinstance(event, events.Progress) and event.step in (20, 60):
            for path in shards(cache):
                path.unlink()
    assert passes.count("load") == 1
    assert warned(found) == []
    assert same(outcome(tmp_path / "second"), expected)


def test_a_full_cache_is_told_once_and_costs_no_bit(
    make_spec: MakeSpec, tmp_path: Path, uncached: Callable[[str], Outcome]
) -> None:
    small = CacheSpec(folder=tmp_path / "cache", limit_bytes=800_000)
    spec = make_spec("transcoder", cache=small, **H)
    found, bits = run(spec, tmp_path / "first")
    assert warned(found) == ["cache_full"]
    assert same(bits, uncached("transcoder"))
    assert 0 < len(shards(small)) < 6
    assert sum(p.stat().st_size for p in small.folder.rglob("*") if p.is_file()) <= 800_000
    found, bits = run(spec, tmp_path / "second")
    assert 0 < started(found).cached_fraction < 1  # type: ignore[operator]
    assert same(bits, uncached("transcoder"))


def test_a_run_makes_room_by_what_no_run_uses(
    make_spec: MakeSpec, tmp_path: Path, uncached: Callable[[str], Outcome]
) -> None:
    room = CacheSpec(folder=tmp_path / "cache", limit_bytes=3_500_000)
    run(make_spec("standard", cache=room, **H), tmp_path / "first")
    spec = make_spec("standard", cache=room, **H)
    config = spec.config.model_copy(update={"layer": 2})
    found, _ = run(spec.model_copy(update={"config": config}), tmp_path / "second")
    assert warned(found) == []
    folder = CacheFolder(room.folder, room.limit_bytes)
    assert [entry.manifest.identity.layer for entry in folder.entries()] == [2]
    assert [gone.layer for gone in folder.evictions()] == [1]
    _, bits = run(make_spec("standard", cache=room, **H), tmp_path / "third")
    assert same(bits, uncached("standard"))


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workers.engine.shelf.write_shard", refuse)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_told_once_and_ends_no_run(
    make_spec: MakeSpec, tmp_path: Path, cache: CacheSpec, uncached: Callable[[str], Outcome]
) -> None:
    found, bits = run(make_spec("standard", cache=cache, **H), tmp_path / "first")
    assert warned(found) == ["cache_unwritable"]
    assert shards(cache) == []
    assert same(bits, uncached("standard"))


def test_a_cache_that_cannot_be_used_ends_no_run(
    make_spec: MakeSpec, tmp_path: Path, uncached: Callable[[str], Outcome]
) -> None:
    (tmp_path / "cache").write_text("a file, where a folder should be")
    spec = CacheSpec(folder=tmp_path / "cache", limit_bytes=PLENTY)
    found, bits = run(make_spec("standard", cache=spec, **H), tmp_path / "first")
    assert warned(found) == ["cache_unusable"]
    assert started(found).cached_fraction is None
    assert same(bits, uncached("standard"))


def test_the_entry_is_in_use_during_the_run_and_free_after_it(
    make_spec: MakeSpec, tmp_path: Path, cache: CacheSpec
) -> None:
    folder = CacheFolder(cache.folder, PLENTY)
    for event in train(make_spec("standard", cache=cache, **H), tmp_path / "run"):
        if isinstance(event, events.Progress) and event.step == 20:
            (entry,) = folder.entries()
            assert entry.in_use
            assert folder.remove(entry.id) is False
    (entry,) = folder.entries()
    assert not entry.in_use
    assert (entry.manifest.model, entry.manifest.dataset) == ("toy-llama", "topics")


def test_two_runs_fill_one_entry_at_once(
    make_spec: MakeSpec, tmp_path: Path, cache: CacheSpec, uncached: Callable[[str], Outcome]
) -> None:
    spec = make_spec("standard", cache=cache, **H)
    engines = [Engine(spec, tmp_path / name) for name in ("one", "two")]
    for engine in engines:
        assert engine.end() == 0
        assert engine.events[-1]["event"] == "completed", engine.events[-1]
    for name in ("one", "two"):
        assert same(outcome(tmp_path / name), uncached("standard"))
    left = [path.name for path in cache.folder.rglob("*.tmp")]
    assert left == []


@pytest.mark.parametrize("between", ["kept", "emptied", "harmed"])
def test_killed_and_resumed_the_result_is_the_same_whatever_became_of_the_cache(
    make_spec: MakeSpec,
    tmp_path: Path,
    cache: CacheSpec,
    uncached: Callable[[str], Outcome],
    between: str,
) -> None:
    engine = Engine(make_spec("transcoder", cache=cache, **H), tmp_path / "1")
    while event := engine.hear():
        if event["event"] == "progress" and event["step"] == 50:
            break
    engine.kill()
    if between == "emptied":
        shutil.rmtree(cache.folder)
    if between == "harmed":
        harm_some(shards(cache))
    resumed = make_spec("transcoder", newest_first(tmp_path), cache=cache, **H)
    found, bits = run(resumed, tmp_path / "2")
    assert started(found).resumed_from == 30
    assert same(bits, uncached("transcoder"))


def test_a_resumed_run_holds_activations_in_the_checkpoints_number_format(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(make_spec("standard", **H), tmp_path / "whole")
    monkeypatch.setattr("workers.engine.fit.held_dtype", lambda choice: torch.float32)
    middle = tmp_path / "whole" / "checkpoints" / "step-000060"
    found, bits = run(make_spec("standard", (middle,), **H), tmp_path / "again")
    assert started(found).held_dtype == "bfloat16"
    assert same(bits, outcome(tmp_path / "whole"))


def test_float32_asked_for_is_kept_as_float32_in_an_entry_of_its_own(
    make_spec: MakeSpec, tmp_path: Path, cache: CacheSpec
) -> None:
    for dtype in ("auto", "float32"):
        run(make_spec("standard", cache=cache, **H, dtype=dtype), tmp_path / dtype)
    entries = CacheFolder(cache.folder, PLENTY).entries()
    assert {e.manifest.identity.held: e.manifest.bytes_per_token for e in entries} == {
        "bfloat16": 64,
        "float32": 128,
    }


def test_the_engine_needs_no_transformers_once_everything_is_stored(
    make_spec: MakeSpec, tmp_path: Path, cache: CacheSpec
) -> None:
    spec = make_spec("standard", cache=cache, **H)
    code = (
        "import sys, threading; from pathlib import Path; from workers.engine.run import run\n"
        "from workers.engine.voice import Voice\n"
        "import torch; torch.set_num_threads(1)\n"
        "status = run(Path(sys.argv[1]), Voice(sys.stdout), threading.Event(), threading.Event())\n"
        "print('transformers' in sys.modules); sys.exit(status)"
    )
    for name, expected in (("first", "True"), ("second", "False")):
        spec.write(tmp_path / name)
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name)],
            cwd=ROOT,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        *lines, loaded = done.stdout.splitlines()
        assert json.loads(lines[-1])["event"] == "completed"
        assert loaded == expected


def test_a_run_file_without_a_cache_still_works(make_spec: MakeSpec, tmp_path: Path) -> None:
    make_spec("standard", **H).write(tmp_path)
    written = json.loads((tmp_path / "run.json").read_text())
    del written["cache"]
    (tmp_path / "run.json").write_text(json.dumps(written))
    assert RunSpec.read(tmp_path).cache is None


def test_loading_the_model_is_not_counted_as_reading(
    make_spec: MakeSpec, tmp_path: Path, cache: CacheSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that must be loaded in the middle of a run takes 100 s by a clock that jumps."""
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    load = LanguageModel.load

    def slow(*args: Any) -> LanguageModel:
        clock[0] += 100.0
        return load(*args)

    spec = make_spec("standard", cache=cache, **H)
    run(spec, tmp_path / "first")
    monkeypatch.setattr(LanguageModel, "load", slow)
    points = []
    for event in train(spec, tmp_path / "second"):
        if isinstance(event, events.Progress):
            points.append(event)
            if event.step == 20:
                for path in shards(cache):
                    path.unlink()
    assert clock[0] == 100.0
    assert all(point.extraction_seconds == point.sae_seconds == 0.0 for point in points)


def test_a_transcoder_of_an_mlp_shares_the_entry_of_its_output_and_has_one_of_its_input(
    make_spec: MakeSpec, tmp_path: Path, passes: list[str], cache: CacheSpec
) -> None:
    alone = run(make_spec("transcoder", hook="mlp_in", **H), tmp_path / "alone")[1]
    found = [
        started(run(make_spec(architecture, hook=hook, cache=cache, **H), tmp_path / hook)[0])
        for architecture, hook in (("standard", "mlp_out"), ("standard", "mlp_in"))
    ]
    assert [event.cached_fraction for event in found] == [0.0, 0.0]
    assert len(list(cache.folder.glob("*/manifest.json"))) == 2
    passes.clear()
    both = run(make_spec("transcoder", hook="mlp_in", cache=cache, **H), tmp_path / "both")[1]
    assert passes == []
    assert same(both, alone)
