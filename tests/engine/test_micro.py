"""A step that does not fit into memory is made in parts; the run goes on and stays exact."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.engine.test_kill_and_resume import LAST, SMALL, Engine, newest_first, result
from tests.engine.test_process import ENVIRONMENT
from workers.engine.activations import Activations
from workers.engine.advance import advance
from workers.engine.config import ModelFacts, Plan, RunSpec
from workers.engine.failure import TrainingError
from workers.engine.language_model import LanguageModel, Site
from workers.engine.sae import Sae
from workers.engine.state import State

MakeSpec = Callable[..., RunSpec]
CPU = torch.device("cpu")
NO_MEMORY = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"


def limit_passes(largest: int, after: int) -> None:
    """From so many forward passes on, one over more than `largest` contexts finds no memory."""
    whole, calls = LanguageModel._pass, 0

    def limited(self: LanguageModel, part: torch.Tensor) -> list[torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls > after and len(part) > largest:
            raise RuntimeError(NO_MEMORY)
        return whole(self, part)

    LanguageModel._pass = limited  # type: ignore[method-assign]


def limit_steps(largest: int, after: int, error: type[RuntimeError]) -> None:
    """From so many steps on, a step over more than `largest` tokens finds no memory."""
    whole, calls = Sae.step, 0

    def step(self, x, *rest):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += 1
        if calls > after and len(x) > largest:
            raise error(NO_MEMORY)
        return whole(self, x, *rest)

    Sae.step = step  # type: ignore[method-assign]


@pytest.fixture
def a_step(make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch) -> tuple[Plan, Activations]:
    """A plan with penalty, controller and skip, and a batch for it."""
    monkeypatch.setattr(Sae, "step", Sae.step)  # put back after the test
    config = make_spec("skip", target_l0=12, sparsity_warmup_steps=0).config
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 256, 32, generator=g)
    return Plan.of(config, ModelFacts(d_model=32, n_layers=4)), Activations(x, y, np.zeros(256))


def trained(plan: Plan, batch: Activations, state: State, steps: int = 3) -> State:
    for _ in range(steps):
        advance(state, plan, batch)
    return state


def assert_same(a: State, b: State) -> None:
    (tensors, numbers), (others, other_numbers) = a.snapshot(), b.snapshot()
    assert numbers == other_numbers
    assert tensors.keys() == others.keys()
    assert [name for name in tensors if not torch.equal(tensors[name], others[name])] == []


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_a_failed_step_changes_nothing_before_it_is_repeated(
    a_step: tuple[Plan, Activations], error: type[RuntimeError]
) -> None:
    plan, batch = a_step
    never_failed = State.fresh(plan, CPU)
    never_failed.micro.count = 4
    trained(plan, batch, never_failed)
    limit_steps(64, 0, error)
    failed = trained(plan, batch, State.fresh(plan, CPU))
    assert failed.micro.count == 4
    assert_same(failed, never_failed)


def test_memory_that_ends_while_metrics_are_added_changes_nothing_either(
    a_step: tuple[Plan, Activations], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, batch = a_step
    never_failed = State.fresh(plan, CPU)
    never_failed.micro.count = 2
    trained(plan, batch, never_failed)
    stack, calls = torch.stack, 0

    def once(*args, **kwargs):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += 1
        if calls == 1:
            raise torch.OutOfMemoryError(NO_MEMORY)
        return stack(*args, **kwargs)

    monkeypatch.setattr("workers.engine.metrics.torch.stack", once)
    assert_same(trained(plan, batch, State.fresh(plan, CPU)), never_failed)


def test_other_errors_are_not_taken_for_it(a_step: tuple[Plan, Activations]) -> None:
    plan, batch = a_step
    with pytest.raises(RuntimeError, match="must match the size"):
        advance(State.fresh(plan, CPU), plan, Activations(batch.x[:, :5], batch.y, batch.contexts))


def test_where_nothing_fits_the_run_ends_with_what_to_choose_instead(
    a_step: tuple[Plan, Activations],
) -> None:
    plan, batch = a_step
    limit_steps(0, 0, torch.OutOfMemoryError)
    with pytest.raises(TrainingError, match=r"8 micro-batches of 32 tokens.*smaller latent_dim"):
        advance(State.fresh(plan, CPU), plan, batch)


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "batchtopk"])
def test_a_run_short_of_memory_and_killed_ends_with_the_bits_of_one_not_killed(
    make_spec: MakeSpec, tmp_path: Path, architecture: str
) -> None:
    prepare = partial(limit_steps, 100, 20, torch.OutOfMemoryError)
    spec = make_spec(architecture, target_l0=12, **SMALL)
    whole = Engine(spec, tmp_path / "whole" / LAST, prepare=prepare)
    assert whole.end() == 0
    (warned,) = [event for event in whole.events if event["event"] == "warning"]
    assert (warned["step"], warned["code"]) == (21, "micro_batches")
    assert "256 tokens at once" in warned["message"]
    assert "4 micro-batches of 64 tokens" in warned["message"]

    crash_at = "checkpoint.begun:4"  # the steps from 21 to 27 lie in the third
    killed = Engine(spec, tmp_path / "run" / "1", crash_at=crash_at, prepare=prepare)
    assert killed.end() == -signal.SIGKILL
    again = make_spec(architecture, newest_first(tmp_path / "run"), target_l0=12, **SMALL)
    resumed = Engine(again, tmp_path / "run" / LAST)  # memory suffices again
    assert resumed.end() == 0
    (started,) = [event for event in resumed.events if event["event"] == "started"]
    assert started["resumed_from"] == 27
    assert [e["step"] for e in resumed.events if e["event"] == "warning"] == [28]
    assert result(tmp_path / "run") == result(tmp_path / "whole")


def test_passes_in_halves_go_on_after_a_kill(make_spec: MakeSpec, tmp_path: Path) -> None:
    """Their bits may be others than a whole pass's, so a resumed run makes no larger ones."""
    prepare = partial(limit_passes, 10, 1)
    whole = Engine(make_spec("standard", **SMALL), tmp_path / "whole" / LAST, prepare=prepare)
    assert whole.end() == 0
    told = [event for event in whole.events if event.get("code") == "forward_passes"]
    assert len(told) == 1

    crash_at = "checkpoint.begun:4"
    spec = make_spec("standard", **SMALL)
    killed = Engine(spec, tmp_path / "run" / "1", crash_at=crash_at, prepare=prepare)
    assert killed.end() == -signal.SIGKILL
    again = make_spec("standard", newest_first(tmp_path / "run"), **SMALL)
    resumed = Engine(again, tmp_path / "run" / LAST)  # memory suffices again
    assert resumed.end() == 0
    (repeated,) = [event for event in resumed.events if event.get("code") == "forward_passes"]
    assert (repeated["message"], repeated["step"]) == (told[0]["message"], 28)
    assert result(tmp_path / "run") == result(tmp_path / "whole")


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np, torch
from workers.engine.activations import Activations
from workers.engine.advance import advance
from workers.engine.config import Hyperparameters, ModelFacts, Plan, TrainingConfig
from workers.engine.state import State

torch.set_num_threads(1)
h = Hyperparameters.below_ranges(latent_dim=2048, batch_size=8192, **eval(sys.argv[1]))
config = TrainingConfig(architecture="standard", layer=0, hyperparameters=h)
plan = Plan.of(config, ModelFacts(d_model=128, n_layers=2))
x = torch.randn(8192, 128, generator=torch.Generator().manual_seed(0))
batch = Activations(x, x, np.zeros(8192))

def trained(count):
    state = State.fresh(plan, torch.device("cpu"))
    state.micro.count = count
    advance(state, plan, batch)
    return state

trained(64)  # loads what the libraries load at their first use
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = size + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
short = trained(1)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(short.micro.count)
same = trained(short.micro.count)
assert all(torch.equal(value, same.sae.weights[name]) for name, value in short.sae.weights.items())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's limit")
@pytest.mark.parametrize("h", [{}, {"top_k_sparsity": 1.0}], ids=["relu", "topk"])
def test_a_process_that_may_not_have_more_memory_trains_in_micro_batches(
    h: dict[str, float],
) -> None:
    """2,048 pre-activations of 8,192 tokens are 67 MB; there are 64 MB for the whole step."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, repr(h), f"{64 * 2**20}"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr
    assert 2 <= int(done.stdout) <= 64


@pytest.mark.parametrize("largest", [3, 1])
def test_a_forward_pass_that_does_not_fit_is_made_in_halves(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    ids = torch.arange(3, 243).view(12, 20)
    sites = (Site(0, "resid_post"), Site(2, "resid_post"))
    expected = LanguageModel.load(model_folder, sites, CPU, torch.float32).capture(ids)
    passes: list[int] = []
    whole = LanguageModel._pass

    def limited(self: LanguageModel, part: torch.Tensor) -> list[torch.Tensor]:
        passes.append(len(part))
        if len(part) > largest:
            raise RuntimeError(NO_MEMORY)
        return whole(self, part)

    monkeypatch.setattr(LanguageModel, "_pass", limited)
    model = LanguageModel.load(model_folder, sites, CPU, torch.float32)
    for found, wanted in zip(model.capture(ids), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    passes.clear()
    model.capture(ids)
    assert max(passes) <= largest  # what did not fit is not tried again


def test_one_context_that_does_not_fit_ends_the_run_with_a_sentence(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_self: LanguageModel, _part: torch.Tensor) -> list[torch.Tensor]:
        raise torch.OutOfMemoryError(NO_MEMORY)

    monkeypatch.setattr(LanguageModel, "_pass", never)
    model = LanguageModel.load(model_folder, (Site(0, "resid_post"),), CPU, torch.float32)
    with pytest.raises(TrainingError, match="one context of 20 tokens"):
        model.capture(torch.arange(3, 43).view(2, 20))
