"""What is read is what the model computes, in every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from tests.engine.conftest import FAMILIES
from workers.engine.language_model import LanguageModel, Site, block_list, settled_dtype
from workers.engine.model import ModelError

IDS = torch.arange(3, 43).view(2, 20)
CPU = torch.device("cpu")


@pytest.mark.parametrize("family", FAMILIES)
def test_resid_post_is_the_hidden_state_after_the_block(
    families: dict[str, Path], family: str
) -> None:
    hidden = AutoModel.from_pretrained(families[family])(IDS, output_hidden_states=True)
    sites = (Site(0, "resid_post"), Site(2, "resid_post"))
    read = LanguageModel.load(families[family], sites, CPU, torch.float32).capture(IDS)
    for site, activations in zip(sites, read, strict=True):
        torch.testing.assert_close(
            activations, hidden.hidden_states[site.layer + 1], rtol=0, atol=0
        )


def test_the_last_layer_is_read_before_the_final_norm(families: dict[str, Path]) -> None:
    reference = AutoModel.from_pretrained(families["llama"])
    reference.norm = torch.nn.Identity()
    (read,) = LanguageModel.load(
        families["llama"], (Site(3, "resid_post"),), CPU, torch.float32
    ).capture(IDS)
    torch.testing.assert_close(read, reference(IDS).last_hidden_state, rtol=0, atol=0)


PARTS = {
    "llama": ("mlp", "self_attn"),
    "gpt2": ("mlp", "attn"),
    "gpt_neox": ("mlp", "attention"),
    "gemma2": ("mlp", "self_attn"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_mlp_and_attention_outputs_are_their_modules_outputs(
    families: dict[str, Path], family: str
) -> None:
    reference: Any = AutoModel.from_pretrained(families[family])
    seen: dict[str, torch.Tensor] = {}
    for part in PARTS[family]:
        module = getattr(block_list(reference)[1], part)
        module.register_forward_hook(
            lambda _m, _i, out, part=part: seen.update(
                {part: out[0] if isinstance(out, tuple) else out}
            )
        )
    reference(IDS)
    sites = (Site(1, "mlp_out"), Site(1, "attn_out"))
    read = LanguageModel.load(families[family], sites, CPU, torch.float32).capture(IDS)
    for part, activations in zip(PARTS[family], read, strict=True):
        torch.testing.assert_close(activations, seen[part], rtol=0, atol=0)


def test_nothing_behind_the_deepest_layer_is_kept_or_computed(model_folder: Path) -> None:
    model = LanguageModel.load(model_folder, (Site(1, "resid_post"),), CPU, torch.float32)
    assert len(block_list_of_any_length(model)) == 2
    passed: list[int] = []
    model.transformer.norm.register_forward_hook(lambda *_: passed.append(1))  # type: ignore[operator]
    model.capture(IDS)
    assert passed == []


def block_list_of_any_length(model: LanguageModel) -> torch.nn.ModuleList:
    return next(m for m in model.transformer.modules() if isinstance(m, torch.nn.ModuleList))


def test_a_family_without_such_a_part_is_refused_with_a_sentence(model_folder: Path) -> None:
    transformer = AutoModel.from_pretrained(model_folder)
    del transformer.layers[1].mlp
    with pytest.raises(ModelError, match="no part for mlp_out; its parts are self_attn"):
        LanguageModel(transformer, (Site(1, "mlp_out"),))


def test_bfloat16_is_chosen_only_where_the_processor_gains_by_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gains = True
    monkeypatch.setattr("workers.engine.language_model._gains_by_bfloat16", lambda: gains)
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr("workers.engine.language_model._CPUINFO", cpuinfo)
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512f\n")
    assert settled_dtype("auto", CPU) == torch.float32
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16\n")
    assert settled_dtype("auto", CPU) == torch.bfloat16
    assert settled_dtype("float32", CPU) == torch.float32
    gains = False
    assert settled_dtype("auto", CPU) == torch.float32
