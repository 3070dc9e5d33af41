"""What is read is what the model computes, in every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from tests.engine.conftest import FAMILIES
from workers.engine.language_model import LanguageModel, Site, block_list, settled_dtype, watch
from workers.engine.model import ModelError
from workers.engine.whole_model import WholeModel

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


NORMS = {
    "llama": "post_attention_layernorm",
    "gpt2": "ln_2",
    "gpt_neox": "post_attention_layernorm",
    "gemma2": "pre_feedforward_layernorm",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mlp_makes_its_output_of_its_input_which_the_norm_before_it_gave(
    families: dict[str, Path], family: str
) -> None:
    block: Any = block_list(AutoModel.from_pretrained(families[family]))[1]
    sites = (Site(1, "mlp_in"), Site(1, "mlp_out"))
    model = LanguageModel.load(families[family], sites, CPU, torch.float32)
    normed: list[torch.Tensor] = []
    own: Any = block_list_of_any_length(model)[1]
    getattr(own, NORMS[family]).register_forward_hook(lambda _m, _i, out: normed.append(out))
    x, y = model.capture(IDS)
    assert torch.equal(x, normed[0])
    torch.testing.assert_close(block.mlp(x), y, rtol=0, atol=0)
    whole = WholeModel.load(families[family], CPU, torch.float32)
    for found in (whole.activations(IDS, sites), whole.logits_and(IDS, sites)[1]):
        assert torch.equal(found[0], x)
        assert torch.equal(found[1], y)


@pytest.mark.parametrize("by_name", [False, True])
def test_an_input_is_read_and_replaced_however_it_is_given(
    families: dict[str, Path], by_name: bool
) -> None:
    mlp: Any = block_list(AutoModel.from_pretrained(families["gpt2"]))[1].mlp
    x = torch.randn(2, 3, 32)
    expected = mlp(2 * x)
    seen: list[torch.Tensor] = []

    def double(value: torch.Tensor) -> torch.Tensor:
        seen.append(value)
        return 2 * value

    watch(mlp, Site(1, "mlp_in"), double)
    found = mlp(hidden_states=x) if by_name else mlp(x)
    assert torch.equal(found, expected)
    assert torch.equal(seen[0], x)


def test_an_mlp_whose_input_alone_is_read_is_not_computed(model_folder: Path) -> None:
    model = LanguageModel.load(model_folder, (Site(1, "mlp_in"),), CPU, torch.float32)
    computed: list[int] = []
    block: Any = block_list_of_any_length(model)[1]
    block.mlp.gate_proj.register_forward_hook(lambda *_: computed.append(1))
    model.capture(IDS)
    assert computed == []


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
