"""Trainings that share one stream of activations are, bit for bit, those that run alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.engine.test_process import ENVIRONMENT
from workers.engine import events, machine
from workers.engine.activations import Activations
from workers.engine.advance import advance
from workers.engine.asked import Asked
from workers.engine.config import CacheSpec, ConfigError, RunSpec
from workers.engine.config.members import write_members
from workers.engine.fit import sized
from workers.engine.forward import Forward
from workers.engine.preflight import Cut, Footprint
from workers.engine.prepared import Entry
from workers.engine.ranks import ALONE
from workers.engine.state import State
from workers.engine.train import train, train_together
from workers.engine.voice import NO_PULSE

MakeSpec = Callable[..., RunSpec]
STEPS = 30
SAE = "sae/sae_weights.safetensors"
SHARED: dict[str, Any] = {"num_steps": STEPS, "checkpoint_interval": 12, "data_seed": 5}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "standard": ("standard", {"target_l0": 12, "resample_steps": 8, "dead_window_tokens": 1024}),
    "jumprelu": ("jumprelu", {"learning_rate": 1e-3, "seed": 1}),
    "topk": ("standard", {"top_k_sparsity": 4.0, "latent_dim": 96, "seed": 2}),
    "batchtopk": ("batchtopk", {"target_l0": 6, "moments_dtype": "bfloat16", "num_steps": 20}),
}


@dataclass
class Group:
    """A group that is trained, what was told of each of its members, and how they are told."""

    folder: Path
    specs: dict[str, RunSpec]
    told: dict[str, list[events.Event]] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.told = {name: [] for name in self.specs}

    def run(self, **asked: Callable[[], bool]) -> Iterator[tuple[str, events.Event]]:
        entries = [
            Entry(spec, self.folder / name, lambda name=name: name in self.leaving)
            for name, spec in self.specs.items()
        ]
        for name, event in train_together(entries, self._failed, **asked):
            self.told[name].append(event)
            yield name, event

    def trained(self) -> Group:
        list(self.run())
        return self

    def last(self, name: str) -> events.Event:
        return self.told[name][-1]

    @staticmethod
    def _failed(_training_id: str, step: int, error: Exception) -> events.Event:
        return events.Failed(step=step, error=str(error))


@pytest.fixture
def specs(make_spec: MakeSpec) -> dict[str, RunSpec]:
    return {name: named(make_spec(kind, **SHARED | h), name) for name, (kind, h) in KINDS.items()}


def named(spec: RunSpec, name: str) -> RunSpec:
    return spec.model_copy(update={"training_id": name, "name": name})


def with_(spec: RunSpec, **h: Any) -> RunSpec:
    hyperparameters = spec.config.hyperparameters.model_copy(update=h)
    config = spec.config.model_copy(update={"hyperparameters": hyperparameters})
    return spec.model_copy(update={"config": config})


def points(told: list[events.Event]) -> list[tuple[Any, ...]]:
    """Of every point what does not depend on the clock."""
    return [
        (e.step, e.loss, e.l0, e.l1, e.fvu, e.dead_neurons, e.coefficient, e.learning_rate)
        for e in told
        if isinstance(e, events.Progress)
    ]


def same_files(one: Path, other: Path) -> None:
    """The newest checkpoint and the SAE."""
    newest = sorted((one / "checkpoints").iterdir())[-1].name
    same_tensors(one, other, f"checkpoints/{newest}/tensors.safetensors")
    same_tensors(one, other, SAE)


def same_tensors(one: Path, other: Path, file: str) -> None:
    expected, found = load_file(one / file), load_file(other / file)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def outcome(told: list[events.Event]) -> tuple[Any, ...]:
    """How it ended, and what kinds of events came before in which order."""
    (ended,) = [e for e in told if isinstance(e, events.Ended)]
    # A checkpoint is told once it is written, whenever that is.
    kinds = [e.name for e in told if not isinstance(e, events.CheckpointSaved)]
    return kinds, ended.step, ended.final_loss, ended.evaluation, ended.export


def test_every_member_is_the_run_that_is_alone(specs: dict[str, RunSpec], tmp_path: Path) -> None:
    group = Group(tmp_path / "group", specs).trained()
    for name, spec in specs.items():
        alone = list(train(spec, tmp_path / "alone" / name))
        assert points(group.told[name]) == points(alone)
        assert outcome(group.told[name]) == outcome(alone)
        same_files(tmp_path / "alone" / name, tmp_path / "group" / name)


def test_each_group_of_contexts_goes_through_the_model_once(
    specs: dict[str, RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    group_of = Forward.group

    def counted(self: Forward, number: int) -> list[torch.Tensor]:
        passes.append(number)
        return group_of(self, number)

    monkeypatch.setattr(Forward, "group", counted)
    equal = {name: with_(spec, num_steps=STEPS) for name, spec in specs.items()}
    list(train(equal["standard"], tmp_path / "alone"))
    alone = len(passes)
    passes.clear()
    Group(tmp_path / "group", equal).trained()
    assert len(passes) == alone


def test_a_member_that_is_further_waits_for_the_others(
    specs: dict[str, RunSpec], tmp_path: Path
) -> None:
    whole = Group(tmp_path / "whole", specs).trained()
    resumed = {
        "standard": "step-000012",
        "jumprelu": "step-000024",
        "batchtopk": "step-000020",
        "topk": None,
    }
    again = Group(
        tmp_path / "again",
        {
            name: specs[name].model_copy(
                update={"resume_from": (tmp_path / "whole" / name / "checkpoints" / step,)}
            )
            if step
            else specs[name]
            for name, step in resumed.items()
        },
    ).trained()
    for name in specs:
        found = points(again.told[name])
        same_tensors(tmp_path / "whole" / name, tmp_path / "again" / name, SAE)
        if name != "batchtopk":  # which had made its last step
            assert found == points(whole.told[name])[-len(found) :]
            same_files(tmp_path / "whole" / name, tmp_path / "again" / name)
    assert not points(again.told["batchtopk"])
    (started,) = [e for e in again.told["jumprelu"] if isinstance(e, events.Started)]
    assert started.resumed_from == 24


def test_a_member_that_is_stopped_leaves_and_the_others_go_on(
    specs: dict[str, RunSpec], tmp_path: Path
) -> None:
    group = Group(tmp_path, specs)
    for name, event in group.run():
        if (name, event.name, event.step) == ("jumprelu", "progress", 10):
            group.leaving.add(name)
    stopped = group.last("jumprelu")
    assert isinstance(stopped, events.Stopped)
    assert stopped.step == 10
    assert (tmp_path / "jumprelu" / "checkpoints" / "step-000010").is_dir()
    assert (tmp_path / "jumprelu" / "sae").is_dir()
    assert isinstance(group.last("standard"), events.Completed)
    assert points(group.told["topk"])[-1][0] == STEPS


def test_a_member_that_fails_fails_alone(
    specs: dict[str, RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One diverges; another's step finds no memory, however small it is cut."""
    batchtopk = specs["batchtopk"].config

    def hungry(state: State, plan: Any, batch: Activations) -> int:
        if plan.architecture is batchtopk.architecture and state.step == 7:
            raise torch.OutOfMemoryError("no memory")
        return advance(state, plan, batch)

    monkeypatch.setattr("workers.engine.member.advance", hungry)
    wild = {"learning_rate": 1e30, "gradient_clip": None, "lr_warmup_steps": 0}
    specs["jumprelu"] = with_(specs["standard"], **wild).model_copy(
        update={"training_id": "jumprelu"}
    )
    group = Group(tmp_path / "group", specs).trained()
    diverged, starved = group.last("jumprelu"), group.last("batchtopk")
    assert isinstance(diverged, events.Failed)
    assert "training has diverged" in diverged.error
    assert isinstance(starved, events.Failed)
    assert (starved.step, starved.error) == (7, "no memory")
    alone = list(train(specs["topk"], tmp_path / "alone"))
    assert points(group.told["topk"]) == points(alone)
    assert isinstance(group.last("standard"), events.Completed)


def test_a_member_that_cannot_be_read_fails_alone(
    specs: dict[str, RunSpec], tmp_path: Path
) -> None:
    specs["topk"] = with_(specs["topk"], latent_dim=3)
    group = Group(tmp_path, specs).trained()
    assert isinstance(group.last("topk"), events.Failed)
    assert isinstance(group.last("standard"), events.Completed)


def test_pause_and_stop_are_for_all(specs: dict[str, RunSpec], tmp_path: Path) -> None:
    paused = Group(tmp_path / "paused", specs)
    asked: list[str] = []
    for name, event in paused.run(pause=lambda: bool(asked)):
        if event.name == "progress":
            asked.append(name)
    assert {paused.last(name).name for name in specs} == {"paused"}
    resumed = {
        name: spec.model_copy(
            update={"resume_from": tuple((tmp_path / "paused" / name / "checkpoints").iterdir())}
        )
        for name, spec in specs.items()
    }
    again = Group(tmp_path / "again", resumed).trained()
    alone = list(train(specs["standard"], tmp_path / "alone"))
    assert points(paused.told["standard"]) + points(again.told["standard"]) == points(alone)
    same_files(tmp_path / "alone", tmp_path / "again" / "standard")

    stopped = Group(tmp_path / "stopped", specs)
    list(stopped.run(stop=lambda: True))
    assert {stopped.last(name).name for name in specs} == {"stopped"}
    assert not any((tmp_path / "stopped" / name / "sae").exists() for name in specs)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 128),
        ("buffer_tokens", 8000),
        ("held_out_tokens", 2048),
        ("data_seed", 6),
        ("dtype", "float32"),
        ("hook", "mlp_out"),
    ],
)
def test_what_cannot_share_is_refused_before_anything_is_loaded(
    specs: dict[str, RunSpec],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: Any,
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(Forward, "load", never)
    specs["topk"] = with_(specs["topk"], **{name: value})
    with pytest.raises(ConfigError) as refused:
        Group(tmp_path, specs).trained()
    assert name in {problem.field for problem in refused.value.problems}
    assert "standard" in str(refused.value)
    assert "topk" in str(refused.value)


def test_different_seeds_share_only_where_the_order_is_named(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    seeds = {str(seed): named(make_spec("standard", seed=seed), str(seed)) for seed in (0, 1)}
    with pytest.raises(ConfigError, match="data_seed: It is"):
        Group(tmp_path, seeds).trained()


def test_a_member_over_several_processes_and_one_named_twice_are_refused(
    specs: dict[str, RunSpec], tmp_path: Path
) -> None:
    specs["topk"] = specs["topk"].model_copy(update={"ranks": 2})
    with pytest.raises(ConfigError, match="gpus: topk is split over several processes"):
        Group(tmp_path, specs).trained()
    twice = {"a": specs["standard"], "b": specs["standard"]}
    with pytest.raises(ConfigError, match="standard is named 2 times"):
        Group(tmp_path, twice).trained()


@pytest.fixture
def room(specs: dict[str, RunSpec], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Leaves as much memory as runs of these widths take together at least, libraries aside."""
    monkeypatch.setattr("workers.engine.preflight._LIBRARIES", 0)

    def leave(*widths: int, share: float = 1.0) -> None:
        left = together(of_width(specs, *widths)).need(Cut(micro_batches=256))
        room = int(share * left.host(torch.device("cpu")))
        monkeypatch.setattr(machine, "left_bytes", lambda: room)

    return leave


def together(specs: dict[str, RunSpec]) -> Footprint:
    entries = [(Entry(spec, Path()), Asked.by(spec)) for spec in specs.values()]
    return Footprint.together([one.footprint for one in sized(entries, ALONE)])


def of_width(specs: dict[str, RunSpec], *widths: int) -> dict[str, RunSpec]:
    """Runs that differ in their width, named by their place."""
    first = specs["standard"]
    return {str(n): named(with_(first, latent_dim=w), str(n)) for n, w in enumerate(widths)}


def test_those_that_fit_train_and_the_others_wait(
    specs: dict[str, RunSpec], tmp_path: Path, room: Callable[..., None]
) -> None:
    room(1024, 1024)
    group = Group(tmp_path, of_width(specs, *[1024] * 8)).trained()
    ends = [group.last(name).name for name in group.told]
    fitted = ends.count("completed")
    assert 1 < fitted < 8
    assert ends == ["completed"] * fitted + ["paused"] * (8 - fitted)
    (warned,) = [e for e in group.told["7"] if isinstance(e, events.Warned)]
    assert warned.message.startswith(f"Of 8 trainings that share their activations {fitted} fit")


def test_one_that_does_not_fit_alone_fails_and_the_others_train(
    specs: dict[str, RunSpec], tmp_path: Path, room: Callable[..., None]
) -> None:
    room(64, 64, share=0.92)  # what is reckoned may be off by 15 %
    group = Group(tmp_path, of_width(specs, 1024, 64, 64)).trained()
    assert [group.last(name).name for name in group.told] == ["failed", "completed", "completed"]
    failed = group.last("0")
    assert isinstance(failed, events.Failed)
    assert "does not suffice" in failed.error


def test_together_weights_add_up_and_steps_do_not(specs: dict[str, RunSpec]) -> None:
    two, eight = (together(of_width(specs, *[256] * n)).need(Cut()) for n in (2, 8))
    assert eight.weights == 4 * two.weights
    assert eight.step == two.step


def test_the_cache_serves_a_group(specs: dict[str, RunSpec], tmp_path: Path) -> None:
    cache = CacheSpec(folder=tmp_path / "cache", limit_bytes=2**40)
    cached = {name: spec.model_copy(update={"cache": cache}) for name, spec in specs.items()}
    first = Group(tmp_path / "first", cached).trained()
    second = Group(tmp_path / "second", cached).trained()
    (started,) = [e for e in second.told["topk"] if isinstance(e, events.Started)]
    assert started.cached_fraction == 1
    for name in specs:
        assert points(first.told[name]) == points(second.told[name])
        same_files(tmp_path / "first" / name, tmp_path / "second" / name)


class Process:
    """`python -m workers.engine --sweep`, with what it is told and what it tells."""

    def __init__(self, folder: Path, specs: dict[str, RunSpec], *words: str) -> None:
        for name, spec in specs.items():
            spec.write(folder / name)
        write_members(folder, [folder / name for name in specs])
        self._child = subprocess.Popen(
            [sys.executable, "-m", "workers.engine", "--sweep", *words, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=ENVIRONMENT,
        )

    def tell(self, text: str) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(text)
        self._child.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def events(self) -> Iterator[dict[str, Any]]:
        """All but the beats, to its end."""
        assert self._child.stdout is not None
        for line in self._child.stdout:
            event = json.loads(line)
            if event["event"] != "beat":
                yield event

    def end(self) -> int:
        """The exit status; it is ended if it has not."""
        self._child.kill()
        self._child.communicate()
        return self._child.returncode

    def wait(self) -> int:
        return self._child.wait()


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    begun: list[Process] = []

    def begin(*given: Any) -> Process:
        begun.append(Process(*given))
        return begun[-1]

    yield begin
    for process in begun:
        process.end()


def test_a_line_stops_one_and_a_signal_all(
    specs: dict[str, RunSpec], tmp_path: Path, start: Callable[..., Process]
) -> None:
    """Between pulses, under a supervisor."""
    long = {name: with_(specs[name], num_steps=1_000_000) for name in ("standard", "topk")}
    process, told = start(tmp_path, long, "--watched", "60"), []
    for event in process.events():
        told.append((event["training_id"], event["event"]))
        if told[-1] == ("topk", "progress") and event["step"] == 10:
            process.tell("..stop to")
            process.tell("pk\n.")
        if told[-1] == ("topk", "stopped"):
            process.send(signal.SIGTERM)
    assert process.wait() == 0
    assert told[-1] == ("standard", "stopped")
    assert all((tmp_path / name / "sae").is_dir() for name in long)


def test_what_concerns_all_is_the_failure_of_each(
    specs: dict[str, RunSpec], tmp_path: Path, start: Callable[..., Process]
) -> None:
    two = {"standard": specs["standard"], "topk": with_(specs["topk"], batch_size=128)}
    process = start(tmp_path, two)
    failed = {e["training_id"]: e["error"] for e in process.events() if e["event"] == "failed"}
    assert process.wait() == 1
    assert failed.keys() == two.keys()
    assert failed["standard"] == (
        "batch_size: It is 256 of standard and 128 of topk; trainings that share their activations "
        "need the same."
    )


def test_a_group_ends_without_a_pulse(
    specs: dict[str, RunSpec], tmp_path: Path, start: Callable[..., Process]
) -> None:
    long = {"standard": with_(specs["standard"], num_steps=1_000_000)}
    process = start(tmp_path, long, "--watched", "0.2")
    list(process.events())
    assert process.wait() == NO_PULSE
