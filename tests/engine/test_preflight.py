"""What a run needs is reckoned before it starts, and is what it then takes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from tests.engine.test_rehearsal import engine
from workers.engine import events, machine
from workers.engine.config import ModelFacts, Plan, RunSpec
from workers.engine.failure import TrainingError
from workers.engine.language_model import LanguageModel
from workers.engine.model import model_size
from workers.engine.preflight import Cut, Footprint, preflight
from workers.engine.train import train

MakeSpec = Callable[..., RunSpec]
GB = 10**9
LARGE = {
    "top_k_sparsity": 1.0,
    "latent_dim": 1024,
    "batch_size": 32_768,
    "buffer_tokens": 32_768,
}


@pytest.fixture
def footprint(make_spec: MakeSpec, model_folder: Path) -> Footprint:
    """Of a run whose pre-activations, 134 MB, are the most of it."""
    config = make_spec(
        "standard", top_k_sparsity=1.0, latent_dim=1024, batch_size=32_768, buffer_tokens=32_768
    ).config
    plan = Plan.of(config, ModelFacts(d_model=32, n_layers=4))
    size = model_size(model_folder, 32, 1)
    return Footprint(plan, size, 50_000, torch.device("cpu"), torch.float32, torch.bfloat16)


def there_is(monkeypatch: pytest.MonkeyPatch, n: float) -> None:
    monkeypatch.setattr(machine, "left_bytes", lambda: int(n))


def test_a_run_that_fits_starts_whole_and_without_a_word(
    footprint: Footprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    there_is(monkeypatch, 10 * GB)
    found = preflight(footprint)
    assert (found.micro_batches, found.warning) == (1, "")
    assert found.peak_bytes > footprint.need(Cut()).host(footprint.device)


def test_a_run_that_fits_only_in_parts_starts_in_as_few_as_fit(
    footprint: Footprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count in (2, 4, 8):
        there_is(monkeypatch, footprint.need(Cut(count)).host(footprint.device))
        assert preflight(footprint).micro_batches == count


def test_beside_a_gpu_the_next_chunk_is_read_where_there_is_room(
    footprint: Footprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    there_is(monkeypatch, 10 * GB)
    on_gpu = replace(footprint, device=torch.device("cuda"))
    for cut in (Cut(reads_ahead=True), Cut()):
        room = on_gpu.need(cut).device
        monkeypatch.setattr(machine, "gpu_left_bytes", lambda _device, room=room: room)
        found = preflight(on_gpu)
        assert (found.micro_batches, found.reads_ahead) == (1, cut.reads_ahead)
    assert not preflight(footprint).reads_ahead


def test_a_training_leaves_what_room_there_is_to_its_language_model(
    footprint: Footprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    there_is(monkeypatch, 2**40)
    large = replace(footprint.model, kept=2**33, block=2**28, parameters=2**33)
    run = replace(footprint, model=large, device=torch.device("cuda"))
    smallest = run.need(Cut(micro_batches=256))
    rest = smallest.device - smallest.language_model
    there = int(1.15 * rest) + 2**33
    monkeypatch.setattr(machine, "gpu_left_bytes", lambda _device: there)
    found = preflight(run)
    assert found.model_room
    assert found.model_room < smallest.language_model
    need = run.need(Cut(found.micro_batches)).device - smallest.language_model
    assert found.model_room + need <= there
    assert "does not fit on the GPU" in found.warning
    assert preflight(replace(run, model=footprint.model)).model_room is None


def test_where_it_is_tight_the_figures_are_told(
    footprint: Footprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    there_is(monkeypatch, 1.05 * footprint.need(Cut()).host(footprint.device))
    told = preflight(footprint).warning
    assert told.startswith("Memory is tight: the run needs about ")
    assert "134 MB for pre-activations" in told


def test_what_cannot_fit_ends_before_anything_large_is_loaded(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there_is(monkeypatch, 1_000_000)

    def never(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(LanguageModel, "load", never)
    with pytest.raises(TrainingError, match=r"does not suffice: the run needs .* 1 MB are avail"):
        list(train(make_spec("standard"), tmp_path))


def test_a_tight_run_says_so_and_trains_in_the_parts_it_was_given(
    make_spec: MakeSpec,
    footprint: Footprint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there_is(monkeypatch, footprint.need(Cut(4)).host(footprint.device) * 1.01)
    spec = make_spec("standard", num_steps=2, **LARGE)
    found = list(train(spec, tmp_path))
    warned = {e.code: e.message for e in found if isinstance(e, events.Warned)}
    assert "4 micro-batches of 8,192 tokens" in warned["micro_batches"]
    assert warned["memory"].startswith("Memory is tight")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts in KiB on Linux")
@pytest.mark.parametrize(
    ("architecture", "h"),
    [
        pytest.param("standard", {"top_k_sparsity": 1.0}, marks=pytest.mark.long),
        pytest.param(
            "transcoder",
            {"top_k_sparsity": 1.0, "moments_dtype": "bfloat16"},
            marks=pytest.mark.long,
        ),
        ("jumprelu", {"target_l0": 8}),
        pytest.param("gated", {"target_l0": 8}, marks=pytest.mark.long),
        pytest.param("matryoshka", {"top_k_sparsity": 1.0}, marks=pytest.mark.long),
        pytest.param("crosscoder", {"layers": (1, 2, 3), "target_l0": 8}, marks=pytest.mark.long),
    ],
    ids=["topk", "transcoder in bfloat16", "jumprelu", "gated", "matryoshka", "crosscoder"],
)
def test_what_is_reckoned_is_within_15_percent_of_the_peak(
    make_spec: MakeSpec, tmp_path: Path, architecture: str, h: dict[str, object]
) -> None:
    spec = make_spec(
        architecture,
        latent_dim=1024,
        batch_size=16_384,
        num_steps=6,
        buffer_tokens=40_000,
        checkpoint_interval=3,
        **h,
    )
    found, peak = engine(spec, tmp_path)
    assert found[-1]["event"] == "completed", found[-1]
    (started,) = [event for event in found if event["event"] == "started"]
    assert started["memory_bytes"] == pytest.approx(peak, rel=0.15)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma2"])
def test_the_size_of_a_model_is_that_of_its_parameters(
    families: dict[str, Path], family: str
) -> None:
    model = AutoModel.from_pretrained(families[family])
    size = model_size(families[family], 32, 1)
    assert size.parameters == sum(p.numel() for p in model.parameters())
    blocks = [p.numel() for n, p in model.named_parameters() if ".2." in n or ".3." in n]
    assert size.kept == size.parameters - sum(blocks)
    assert size.file_bytes == 4 * size.parameters
    assert size.inner == 64


def test_bfloat16_moments_and_parts_are_reckoned(footprint: Footprint) -> None:
    h = footprint.plan.hyperparameters.model_copy(update={"moments_dtype": "bfloat16"})
    half = replace(footprint, plan=replace(footprint.plan, hyperparameters=h))
    assert footprint.need(Cut()).weights - half.need(Cut()).weights == 4 * footprint.parameters
    assert footprint.need(Cut(2)).pre_activations * 2 == footprint.need(Cut()).pre_activations
    assert footprint.need(Cut(2)).step - footprint.need(Cut(4)).step > 0


def test_a_system_that_does_not_say_holds_nothing_back(
    footprint: Footprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "left_bytes", lambda: None)
    assert preflight(footprint).micro_batches == 1


def test_the_whole_sae_must_fit_beside_the_model_once_ranks_have_trained_it(
    footprint: Footprint,
) -> None:
    """The first of eight ranks holds an eighth of the moments, and at the end all weights."""
    plan = replace(footprint.plan, d_sae=2**17)
    on_gpu = replace(footprint, plan=plan, device=torch.device("cuda"))
    one, eight = on_gpu.need(Cut(micro_batches=1024)), replace(on_gpu, ranks=8)
    need = eight.need(Cut(micro_batches=1024))
    assert one.whole == 0
    assert need.whole > 8 * on_gpu.parameters * 4
    assert need.device >= need.language_model + need.buffer + need.whole
    assert need.device > one.device
