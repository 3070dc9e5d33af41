"""Whole runs on a toy language model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from workers.engine import checkpoint, events
from workers.engine.activations import Activations
from workers.engine.advance import advance
from workers.engine.config import Plan, RunSpec
from workers.engine.export import reconstruct
from workers.engine.failure import TrainingError
from workers.engine.state import State
from workers.engine.tokenize import tokenize
from workers.engine.tokens import TokenizeError
from workers.engine.train import train

MakeSpec = Callable[..., RunSpec]
ARCHITECTURES = (
    "standard",
    "jumprelu",
    "skip",
    "transcoder",
    "batchtopk",
    "matryoshka",
    "p_annealed",
)


def run(spec: RunSpec, run_dir: Path, stop: Callable[[], bool] = bool) -> list[events.Event]:
    return list(train(spec, run_dir, stop))


def progress(found: list[events.Event]) -> list[events.Progress]:
    return [event for event in found if isinstance(event, events.Progress)]


@pytest.mark.parametrize(
    ("architecture", "top_k"),
    [(a, top_k) for a in ARCHITECTURES for top_k in (None, 5.0)] + [("gated", None)],
)
def test_training_lowers_fvu_and_leaves_a_loadable_sae(
    make_spec: MakeSpec, tmp_path: Path, architecture: str, top_k: float | None
) -> None:
    found = run(make_spec(architecture, top_k_sparsity=top_k, num_steps=150), tmp_path)
    points = progress(found)
    assert [point.step for point in points] == list(range(10, 151, 10))
    assert points[-1].fvu < 0.7 * points[0].fvu
    ended = found[-1]
    assert isinstance(ended, events.Completed)
    assert ended.evaluation is not None
    assert ended.evaluation["fvu"] == pytest.approx(points[-1].fvu, rel=0.5)
    plain = architecture in ("skip", "transcoder") and top_k is not None
    assert ended.export is not None
    assert ended.export["format"] == ("safetensors" if plain else "saelens")
    assert ended.export["max_difference"] < 1e-4
    x = torch.randn(3, 32)
    assert reconstruct(tmp_path / "sae", x, x)[1].shape == (3, 32)


def test_events_come_in_the_order_of_the_work(make_spec: MakeSpec, tmp_path: Path) -> None:
    found = run(make_spec("standard", num_steps=20, checkpoint_interval=10), tmp_path)
    assert [e.phase if isinstance(e, events.Phase) else e.name for e in found] == [
        "loading_model",
        "normalizing",
        "started",
        "training",
        "progress",
        "density",
        "checkpoint",
        "progress",
        "density",
        "checkpoint",
        "evaluating",
        "exporting",
        "completed",
    ]


def test_a_skip_sae_reports_the_skip_alone_and_the_latents_part(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    last = progress(run(make_spec("skip", num_steps=100), tmp_path))[-1]
    assert last.fvu_skip is not None
    assert last.fvu_latents is not None
    assert last.fvu < last.fvu_skip
    assert last.fvu < last.fvu_latents < 1


@pytest.mark.parametrize("hook", ["resid_post", "mlp_in"])
def test_a_learned_skip_explains_most_and_the_latents_add_to_it(
    make_spec: MakeSpec, tmp_path: Path, hook: str
) -> None:
    found = run(make_spec("skip", num_steps=100, hook=hook, skip="learned"), tmp_path)
    points = progress(found)
    assert points[0].fvu_skip is not None
    assert points[-1].fvu_latents is not None
    assert points[-1].fvu < points[0].fvu
    ended = found[-1]
    assert isinstance(ended, events.Completed)
    assert ended.evaluation is not None
    assert ended.evaluation["fvu"] < ended.evaluation["fvu_skip"] < 1


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    losses = [
        progress(run(make_spec("standard", num_steps=20, seed=seed), tmp_path / str(i)))[-1].loss
        for i, seed in enumerate((0, 0, 1))
    ]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("architecture", ["standard", "jumprelu"])
def test_the_controller_brings_l0_to_its_target(
    make_spec: MakeSpec, tmp_path: Path, architecture: str
) -> None:
    h: dict[str, Any] = {"num_steps": 600, "target_l0": 10, "sparsity_warmup_steps": 10}
    points = progress(run(make_spec(architecture, **h), tmp_path))
    assert points[-1].l0 == pytest.approx(10, rel=0.15)
    assert points[0].coefficient != points[-1].coefficient


@pytest.mark.parametrize("method", ["none", "layer_norm", "constant_norm"])
def test_every_normalization_trains_and_exports(
    make_spec: MakeSpec, tmp_path: Path, method: str
) -> None:
    points = progress(run(make_spec("standard", normalize_activations=method), tmp_path))
    assert points[-1].fvu < 0.8 * points[0].fvu


@pytest.mark.parametrize("hook", ["mlp_in", "mlp_out", "attn_out"])
def test_parts_of_a_block_can_be_read(make_spec: MakeSpec, tmp_path: Path, hook: str) -> None:
    points = progress(run(make_spec("transcoder", hook=hook), tmp_path))
    assert points[-1].fvu < points[0].fvu


def test_a_stop_saves_first_and_leaves_a_loadable_sae(make_spec: MakeSpec, tmp_path: Path) -> None:
    asked: list[bool] = []
    found: list[events.Event] = []
    for event in train(make_spec("standard", num_steps=1000), tmp_path, lambda: bool(asked)):
        found.append(event)
        if event.step == 20:
            asked.append(True)
    ended = found[-1]
    assert isinstance(ended, events.Stopped)
    assert ended.step == 20
    assert (tmp_path / "checkpoints" / "step-000020" / "manifest.json").is_file()
    assert ended.sae_path == str(tmp_path / "sae")
    assert reconstruct(tmp_path / "sae", torch.zeros(1, 32), torch.zeros(1, 32))[1].isfinite().all()


def test_a_stop_before_there_are_weights_leaves_nothing(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    ended = run(make_spec("standard"), tmp_path, lambda: True)[-1]
    assert isinstance(ended, events.Stopped)
    assert ended.sae_path is None
    assert not (tmp_path / "sae").exists()


def test_a_run_put_aside_has_its_checkpoint_alone_and_goes_on_from_it(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    asked: list[bool] = []
    found: list[events.Event] = []
    for event in train(make_spec("standard"), tmp_path / "a", pause=lambda: bool(asked)):
        found.append(event)
        if event.step == 20:
            asked.append(True)
    assert isinstance(found[-1], events.Paused)
    assert not (tmp_path / "a" / "sae").exists()
    checkpoint = tmp_path / "a" / "checkpoints" / "step-000020"
    again = run(make_spec("standard", (checkpoint,)), tmp_path / "b")
    assert isinstance(again[-1], events.Completed)
    assert progress(again)[0].step == 30


def test_a_diverged_loss_ends_the_run_and_saves_no_broken_weights(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    """Long before the next logged point, where weights that overflow are found as well."""
    spec = make_spec(
        "standard", learning_rate=1e30, gradient_clip=None, lr_warmup_steps=0, log_interval=50
    )
    with pytest.raises(TrainingError, match=r"no longer a finite number at step [2-9]:"):
        run(spec, tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_divergence_keeps_the_last_good_checkpoint(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(state: State, plan: Plan, batch: Activations) -> int:
        if state.step == 30:
            state.sae.weights["W_enc"][0, 0] = float("nan")
        return advance(state, plan, batch)

    monkeypatch.setattr("workers.engine.member.advance", poisoned)
    spec = make_spec("standard", num_steps=60, checkpoint_interval=20, log_interval=60)
    with pytest.raises(TrainingError, match=r"at step 31:"):
        run(spec, tmp_path)
    (kept,) = (tmp_path / "checkpoints").iterdir()
    tensors, numbers = checkpoint.load(kept)
    assert numbers["step"] == 20
    assert all(bool(value.isfinite().all()) for value in tensors.values())


def test_tokens_of_another_tokenizer_are_refused(
    make_spec: MakeSpec, families: dict[str, Path], tmp_path: Path
) -> None:
    other = tmp_path / "model"
    other.mkdir()
    for file in families["llama"].iterdir():
        (other / file.name).write_bytes(file.read_bytes().replace(b'"w9"', b'"v9"'))
    tokenize(["w0 " * 5000], other, tmp_path / "t", 64, "auto", lambda done: None)
    spec = make_spec("standard").model_copy(update={"tokens_path": tmp_path / "t"})
    with pytest.raises(TokenizeError, match="another model's tokenizer"):
        run(spec, tmp_path / "run")


def test_warnings_about_the_configuration_are_events(make_spec: MakeSpec, tmp_path: Path) -> None:
    found = run(make_spec("skip", target="same_layer", num_steps=2), tmp_path)
    warned = [event for event in found if isinstance(event, events.Warned)]
    assert [event.code for event in warned] == ["target"]


def test_what_saelens_cannot_hold_is_said_plainly(make_spec: MakeSpec, tmp_path: Path) -> None:
    found = run(make_spec("transcoder", top_k_sparsity=5.0, num_steps=2), tmp_path)
    (warned,) = [event for event in found if isinstance(event, events.Warned)]
    assert warned.message.startswith("SAELens has no TopK transcoder: the SAE is saved as plain")
