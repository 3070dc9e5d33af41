"""Rows for tests that need them and not the files behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tiny import D_MODEL, N_LAYERS
from trainings.models import Dataset, LanguageModel, Rehearsal, Sae, Tokenization, Training
from trainings.models.rehearsal import digest
from workers.engine.config import Hyperparameters, TrainingConfig


def a_tokenization(status: str = "ready") -> Tokenization:
    model, _ = LanguageModel.objects.get_or_create(
        name="tiny-llama",
        source="folder",
        location="tiny-llama",
        defaults={"d_model": D_MODEL, "n_layers": N_LAYERS, "status": "ready"},
    )
    dataset, _ = Dataset.objects.get_or_create(
        name="topics", source="file", location="topics.txt", defaults={"status": "ready"}
    )
    found, _ = Tokenization.objects.get_or_create(
        model=model,
        dataset=dataset,
        context_length=64,
        defaults={"n_tokens": 100_000, "n_contexts": 1600, "status": status},
    )
    return found


def a_training(
    *,
    name: str = "a run",
    architecture: str = "standard",
    layer: int = 1,
    hyperparameters: dict[str, Any] | None = None,
    **changes: Any,
) -> Training:
    """A pending run; `changes` are columns set afterwards, such as status="running"."""
    config = TrainingConfig(
        architecture=architecture,
        layer=layer,
        hyperparameters=Hyperparameters.below_ranges(**(hyperparameters or {})),
    )
    training = Training.objects.start(
        name=name, tokenization=a_tokenization(), config=config, nudge_workers=False
    )
    if changes:
        Training.objects.filter(pk=training.pk).update(**changes)
    training.refresh_from_db()
    return training


# What the engine tells of a small run on a processor.
FIGURES = {
    "seconds": 600.0,
    "tokens_per_second": 853.0,
    "extraction_tokens_per_second": 1000.0,
    "step_seconds": 0.0875,
    "memory_bytes": 1_400_000_000,
    "memory_available_bytes": 8_000_000_000,
    "gpu_memory_bytes": None,
    "gpu_memory_available_bytes": None,
    "disk_bytes": 3_000_000,
    "cache_bytes": 590_000_000,
    "cached_fraction": 0.0,
    "device": "cpu",
    "dtype": "float32",
}


def a_rehearsal(config: TrainingConfig, **changes: Any) -> Rehearsal:
    """A pending rehearsal that nobody was told of; `changes` are columns set afterwards."""
    tokenization = a_tokenization()
    rehearsal = Rehearsal.objects.create(
        digest=digest(tokenization, config),
        tokenization=tokenization,
        configuration=config.model_dump(mode="json"),
    )
    Rehearsal.objects.filter(pk=rehearsal.pk).update(**changes)
    rehearsal.refresh_from_db()
    return rehearsal


def an_sae(
    folder: Path,
    *,
    architecture: str = "standard",
    hyperparameters: dict[str, Any] | None = None,
    **changes: Any,
) -> Sae:
    """The SAE of a completed run, in a folder that is there and empty."""
    folder.mkdir(parents=True, exist_ok=True)
    ended = {"status": "completed", "current_step": 1000, "sae_path": str(folder)}
    training = a_training(architecture=architecture, hyperparameters=hyperparameters, **ended)
    usual: dict[str, Any] = {"format": "saelens", "step": 1000, "evaluation": EVALUATION}
    return Sae.objects.create(training=training, path=str(folder), **(usual | changes))


def an_imported_sae(name: str = "theirs", **changes: Any) -> Sae:
    """One that was taken in, without files."""
    text = a_tokenization()
    usual: dict[str, Any] = {
        "own_name": name,
        "own_model": text.model,
        "own_text": text,
        "location": f"EleutherAI/sae-x/{name}",
        "facts": {"architecture": "TopK 32", "layer": 1, "hook": "resid_post", "d_sae": 512},
        "format": "saelens",
        "path": f"/{name}",
    }
    return Sae.objects.create(**(usual | changes))


# What the engine finds at the end of a training.
EVALUATION = {
    "tokens": 32_895,
    "fvu": 0.0468,
    "l0": 46.0,
    "l1": 60.2,
    "alive": 4535,
    "alive_fraction": 0.984,
    "density": {"start": -8.0, "width": 0.25, "counts": [0] * 20 + [5, 9, 4] + [0] * 9, "never": 2},
}
