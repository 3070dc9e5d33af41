"""Every architecture's export, opened by SAELens itself, reconstructs what was trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.conftest import families, make_spec, model_folder, spec_of, tokens_folder
from tests.engine.test_export import make
from workers.engine.config import RunSpec
from workers.engine.export import Exported, export
from workers.engine.language_model import Site
from workers.engine.sae import Sae, Transcoder
from workers.engine.sae.jump import Jump
from workers.engine.saved.hook_names import lens_name
from workers.engine.state import State
from workers.engine.train import train
from workers.engine.whole_model import WholeModel

sae_lens = pytest.importorskip(
    "sae_lens", reason="sae-lens is not installed: pip install -e '.[interop]'"
)
pytestmark = pytest.mark.interop
__all__ = ["families", "make_spec", "model_folder", "spec_of", "tokens_folder"]

MakeSpec = Callable[..., RunSpec]
SAES = [
    (architecture, top_k, method)
    for architecture in ("standard", "jumprelu", "batchtopk", "matryoshka", "p_annealed")
    for top_k in (None, 5.0)
    for method in ("none", "constant_norm", "layer_norm")
]
SAES += [("gated", None, method) for method in ("none", "constant_norm", "layer_norm")]
NAMES = {
    "skip": "skip_transcoder",
    "batchtopk": "jumprelu",
    "matryoshka": "jumprelu",
    "gated": "jumprelu",
    "p_annealed": "standard",
}
TRANSCODERS = [(a, None, m) for a in ("transcoder", "skip") for m in ("none", "constant_norm")]


def trained(state: State, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    normalized = state.normalizer(x, y)
    return normalized.restore(state.sae.reconstruct(normalized.x)[1])


def compare(folder: Path, state: State, x: torch.Tensor, y: torch.Tensor) -> str:
    """Load as the snippet of a model card would; the name SAELens gives to the architecture."""
    loaded = sae_lens.SAE.load_from_disk(folder, device="cpu")
    with torch.no_grad():
        found = loaded(x)
    expected = trained(state, x, y)
    largest = float(expected.abs().max())
    assert float((found - expected).abs().max()) / largest < 1e-4
    return str(loaded.cfg.architecture())


@pytest.mark.parametrize(("architecture", "top_k", "method"), SAES + TRANSCODERS)
def test_saelens_reconstructs_the_same(
    make_spec: MakeSpec, tmp_path: Path, architecture: str, top_k: float | None, method: str
) -> None:
    spec = make_spec(architecture, top_k_sparsity=top_k, normalize_activations=method)
    state, plan, evaluation = make(spec)
    exported: Exported = export(
        state.sae, state.normalizer, plan, spec, tmp_path / "sae", {"l0": 1.0}, evaluation
    )
    assert exported.format == "saelens"
    name = compare(tmp_path / "sae", state, evaluation.sample.x, evaluation.sample.y)
    assert name == ("topk" if plan.top_k else NAMES.get(architecture, architecture))


@pytest.mark.parametrize("hook", ["resid_post", "mlp_in"])
@pytest.mark.parametrize("method", ["none", "constant_norm"])
def test_a_learned_skip_is_a_skip_transcoder_there(
    make_spec: MakeSpec, tmp_path: Path, method: str, hook: str
) -> None:
    spec = make_spec("skip", skip="learned", hook=hook, normalize_activations=method)
    state, plan, evaluation = make(spec)
    assert not torch.equal(state.sae.weights["W_skip"], state.sae.weights["W_skip"].T)
    export(state.sae, state.normalizer, plan, spec, tmp_path / "sae", {}, evaluation)
    sample = evaluation.sample
    assert compare(tmp_path / "sae", state, sample.x, sample.y) == "skip_transcoder"


@pytest.mark.parametrize("sign", [-1, 1])
def test_gates_are_thresholds_whatever_their_sign(
    make_spec: MakeSpec, tmp_path: Path, sign: int
) -> None:
    """SAELens' own Gated SAE with the same weights has the same latents as our JumpReLU of it."""
    spec = make_spec("gated")
    state, plan, evaluation = make(spec)
    w = state.sae.weights
    w["b_mag"].add_(0.5 * sign)
    thresholds_F = w["b_mag"] - w["r_mag"].exp() * w["b_enc"]
    assert float((thresholds_F.sign() == sign).float().mean()) > 0.9
    export(state.sae, state.normalizer, plan, spec, tmp_path / "sae", {}, evaluation)
    x = state.normalizer(evaluation.sample.x, evaluation.sample.x).x
    ours = sae_lens.SAE.load_from_disk(tmp_path / "sae", device="cpu")
    config = sae_lens.GatedSAEConfig(
        d_in=plan.d_in, d_sae=plan.d_sae, apply_b_dec_to_input=False, dtype="float32"
    )
    theirs = sae_lens.GatedSAE(config)
    with torch.no_grad():
        for name, value in (
            ("W_enc", w["W_enc"].T),
            ("b_gate", w["b_enc"]),
            ("b_mag", w["b_mag"]),
            ("r_mag", w["r_mag"]),
            ("W_dec", w["W_dec"]),
            ("b_dec", w["b_dec"]),
        ):
            getattr(theirs, name).copy_(value)
        z, expected = ours.encode(evaluation.sample.x), theirs.encode(x)
    assert 0.01 < float((expected > 0).float().mean()) < 0.99
    torch.testing.assert_close(z, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(state.sae.activation.latents(w, x), expected)


def test_a_jumprelu_transcoder_is_loaded_as_one(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec("transcoder")
    state, plan, evaluation = make(spec)
    weights = state.sae.weights | {"threshold": torch.full((plan.d_sae,), 0.3)}
    sae: Sae = Transcoder(weights, Jump(1.0))
    state.sae = sae
    export(sae, state.normalizer, plan, spec, tmp_path / "sae", {}, evaluation)
    name = compare(tmp_path / "sae", state, evaluation.sample.x, evaluation.sample.y)
    assert name == "jumprelu_transcoder"


@pytest.mark.parametrize(
    ("architecture", "top_k"),
    [
        ("standard", None),
        ("jumprelu", None),
        ("standard", 5.0),
        ("skip", None),
        ("transcoder", None),
        ("batchtopk", 5.0),
        ("matryoshka", None),
        ("gated", None),
        ("p_annealed", None),
    ],
)
def test_a_trained_sae_reaches_the_same_fvu_in_saelens(
    make_spec: MakeSpec, tmp_path: Path, architecture: str, top_k: float | None
) -> None:
    # In the format in which SAELens reads; a processor may choose another for itself.
    spec = make_spec(architecture, top_k_sparsity=top_k, num_steps=60, dtype="float32")
    ended = list(train(spec, tmp_path))[-1].to_dict()
    loaded = sae_lens.SAE.load_from_disk(tmp_path / "sae", device="cpu")
    metadata = loaded.cfg.metadata
    assert metadata.hook_name == "blocks.1.hook_resid_post"
    assert metadata.context_size == 64
    assert metadata.prepend_bos is True
    x, y = held_out(spec)
    with torch.no_grad():
        error = (loaded(x) - y).double().square().sum()
    variance = (y - y.mean(0)).double().square().sum()
    assert float(error / variance) == pytest.approx(ended["evaluation"]["fvu"], rel=1e-3)


def held_out(spec: RunSpec) -> tuple[torch.Tensor, torch.Tensor]:
    """Raw activations of the held-out contexts, read the way a user of SAELens would get them."""
    import numpy as np

    from workers.engine.config import ModelFacts, Plan
    from workers.engine.language_model import LanguageModel, Site
    from workers.engine.order import Split
    from workers.engine.tokens import Tokens

    plan = Plan.of(spec.config, ModelFacts(d_model=32, n_layers=4))
    tokens = Tokens.open(spec.tokens_path)
    sites = (Site(plan.layer, "resid_post"), Site(plan.target_layer, "resid_post"))
    layers = dict.fromkeys(sites)
    device = torch.device("cpu")
    model = LanguageModel.load(spec.model_path, tuple(layers), device, torch.float32)
    split = Split.of(tokens, spec.config.hyperparameters.held_out_tokens, 1)
    contexts = split.held_out.contexts
    captured = model.capture(torch.from_numpy(tokens.ids[contexts].astype(np.int64)))
    keep = torch.from_numpy(tokens.usable(contexts))
    return captured[0][keep], captured[-1][keep]


def test_an_mlps_input_is_what_saelens_has_by_its_name(model_folder: Path, tmp_path: Path) -> None:
    """In SAELens's own transformer, given the weights of a Llama whose norm has a gain."""
    theirs, folder = saelens_llama(model_folder, tmp_path / "model")
    sites = (Site(1, "mlp_in"), Site(1, "mlp_out"))
    ids = torch.arange(3, 43).view(2, 20)
    whole = WholeModel.load(folder, torch.device("cpu"), torch.float32)
    with torch.no_grad():
        _, cache = theirs.run_with_cache(ids)
    for site, own in zip(sites, whole.activations(ids, sites), strict=True):
        torch.testing.assert_close(cache[lens_name(site)], own, rtol=1e-4, atol=1e-4)
    before_the_gain = cache["blocks.1.ln2.hook_normalized"]
    assert not torch.allclose(before_the_gain, cache[lens_name(sites[0])], atol=0.1)


def saelens_llama(folder: Path, out: Path) -> tuple[Any, Path]:
    from sae_lens import HookedSAETransformer
    from transformer_lens import HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_llama_weights
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    g = torch.Generator().manual_seed(0)
    for block in model.model.layers:
        gain = block.post_attention_layernorm.weight.data
        gain.copy_(1 + torch.rand(gain.shape, generator=g))
    model.save_pretrained(out)
    c = model.config
    config = HookedTransformerConfig(
        n_layers=c.num_hidden_layers,
        d_model=c.hidden_size,
        d_mlp=c.intermediate_size,
        n_heads=c.num_attention_heads,
        d_head=c.hidden_size // c.num_attention_heads,
        n_key_value_heads=c.num_key_value_heads,
        n_ctx=64,
        d_vocab=c.vocab_size,
        act_fn="silu",
        normalization_type="RMS",
        positional_embedding_type="rotary",
        rotary_dim=c.hidden_size // c.num_attention_heads,
        rotary_adjacent_pairs=False,
        final_rms=True,
        gated_mlp=True,
        eps=c.rms_norm_eps,
        original_architecture="LlamaForCausalLM",
    )
    theirs = HookedSAETransformer(config)
    theirs.load_state_dict(convert_llama_weights(model, config), strict=False)
    return theirs, out
