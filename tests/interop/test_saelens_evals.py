"""The evaluation of an SAE by SAELens itself, on the same tokens, gives the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.conftest import families, model_folder, tokens_folder
from tests.engine.test_evaluation import random_sae, spec_of, write
from workers.engine.config.sae_job import SaeJobSpec
from workers.engine.evaluation import evaluate_saved
from workers.engine.order import Split
from workers.engine.saved import Kind
from workers.engine.tokens import Tokens

sae_lens = pytest.importorskip(
    "sae_lens", reason="sae-lens is not installed: pip install -e '.[interop]'"
)
pytestmark = pytest.mark.interop
__all__ = ["families", "model_folder", "tokens_folder"]

# Theirs, in their groups, and ours.
SAME = {
    ("model_behavior_preservation", "kl_div_score"): "kl_recovered",
    ("model_behavior_preservation", "kl_div_with_sae"): "kl_spliced",
    ("model_behavior_preservation", "kl_div_with_ablation"): "kl_zero",
    ("model_performance_preservation", "ce_loss_score"): "ce_recovered",
    ("model_performance_preservation", "ce_loss_with_sae"): "ce_spliced",
    ("model_performance_preservation", "ce_loss_without_sae"): "ce_clean",
    ("model_performance_preservation", "ce_loss_with_ablation"): "ce_zero",
    ("reconstruction_quality", "explained_variance"): "explained_variance",
    ("reconstruction_quality", "explained_variance_legacy"): "explained_variance_per_token",
    ("reconstruction_quality", "mse"): "mse",
    ("reconstruction_quality", "cossim"): "cosine",
    ("shrinkage", "l2_ratio"): "l2_ratio",
    ("shrinkage", "relative_reconstruction_bias"): "relative_reconstruction_bias",
    ("sparsity", "l0"): "l0",
    ("sparsity", "l1"): "l1",
}


class Contexts:
    """What SAELens's evaluation wants of an activations store: all contexts as one batch."""

    def __init__(self, ids: torch.Tensor) -> None:
        self._ids = ids
        self.context_size = ids.shape[1]
        self.store_batch_size_prompts = len(ids)

    def get_batch_tokens(self, _count: int) -> torch.Tensor:
        return self._ids

    def reset_input_dataset(self) -> None:
        pass


def their_numbers(spec: SaeJobSpec, module: str) -> dict[str, dict[str, float]]:
    from sae_lens.evals import get_eval_everything_config, run_evals
    from sae_lens.load_model import load_model
    from sae_lens.training.activation_scaler import ActivationScaler

    model: Any = load_model(
        "AutoModelForCausalLM", str(spec.model_path), "cpu", hook_names=[module]
    )
    sae = sae_lens.SAE.load_from_disk(spec.sae_path, device="cpu")
    sae.cfg.metadata.hook_name = module  # the model is not TransformerLens's
    tokens = Tokens.open(spec.tokens_path)
    contexts = Split.of(tokens, spec.held_out_tokens, 1).held_out.contexts
    store: Any = Contexts(torch.from_numpy(tokens.ids[contexts].astype(np.int64)))
    config = get_eval_everything_config(len(contexts), 1, 1)
    special = [tokens.manifest.bos_id]
    return run_evals(sae, store, model, ActivationScaler(), config, exclude_special_tokens=special)[
        0
    ]


def compare(spec: SaeJobSpec, module: str, within: float) -> dict[str, Any]:
    ours = evaluate_saved(spec, lambda share, note: None)
    theirs = their_numbers(spec, module)
    for (group, name), own in SAME.items():
        assert ours[own] == pytest.approx(theirs[group][name], rel=within, abs=within), name
    assert ours["fvu"] == pytest.approx(
        1 - theirs["reconstruction_quality"]["explained_variance"], abs=within
    )
    return ours


@pytest.mark.parametrize("kind", list(Kind))
def test_saelens_finds_the_same_numbers(
    model_folder: Path, tokens_folder: Path, tmp_path: Path, kind: Kind
) -> None:
    threshold = torch.full((96,), 0.5) if kind is Kind.JUMPRELU else None
    k = 8 if kind is Kind.TOPK else None
    sae = random_sae(kind=kind, threshold=threshold, k=k)
    folder = write(tmp_path / "sae", sae)
    spec = spec_of(folder, model_folder, tokens_folder, held_out_tokens=640, splice_tokens=704)
    found = compare(spec, "model.layers.1", 1e-4)
    assert found["tokens"] == found["splice_tokens"] + 11  # the last of each context has no next
