"""Metrics of a saved SAE against the same written naively in float64, on toy models."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.engine.conftest import FAMILIES, WIDTH
from workers.engine.config.sae_job import SaeJobSpec
from workers.engine.evaluation import evaluate_saved
from workers.engine.evaluation.evaluation import Evaluation
from workers.engine.evaluation.geometry import geometry, max_cosine
from workers.engine.evaluation.quality import firing, quality
from workers.engine.evaluation.splice import Splice
from workers.engine.failure import TrainingError
from workers.engine.language_model import Site, block_list
from workers.engine.saved import Kind, SavedSae
from workers.engine.tokens import Tokens
from workers.engine.whole_model import WholeModel

CPU = torch.device("cpu")
F = 96


def random_sae(seed: int = 0, scale: float = 0.2, **changed: Any) -> SavedSae:
    g = torch.Generator().manual_seed(seed)
    sae = SavedSae(
        kind=Kind.TOPK,
        W_enc=torch.randn(WIDTH, F, generator=g),
        b_enc=torch.randn(F, generator=g) / 10,
        W_dec=torch.randn(F, WIDTH, generator=g) * scale,
        b_dec=torch.randn(WIDTH, generator=g) / 10,
        k=8,
        reads=Site(1, "resid_post"),
        writes=Site(1, "resid_post"),
    )
    return replace(sae, **changed)


def identity(reads: Site, writes: Site) -> SavedSae:
    """Reconstructs what it reads: the positive and the negative part of each dimension."""
    eye = torch.eye(WIDTH)
    return SavedSae(
        kind=Kind.RELU,
        W_enc=torch.cat([eye, -eye], 1),
        b_enc=torch.zeros(2 * WIDTH),
        W_dec=torch.cat([eye, -eye]),
        b_dec=torch.zeros(WIDTH),
        reads=reads,
        writes=writes,
    )


def write(folder: Path, sae: SavedSae, **config: Any) -> Path:
    """As SAELens would, with nothing to subtract from the input."""
    folder.mkdir()
    names = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold", "W_skip")
    found = {n: getattr(sae, n).contiguous() for n in names if getattr(sae, n) is not None}
    save_file(found, folder / "sae_weights.safetensors")
    kinds = {Kind.RELU: "standard", Kind.TOPK: "topk", Kind.JUMPRELU: "jumprelu"}
    assert sae.reads
    written = {
        "architecture": kinds[sae.kind],
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": "6.0.0",
            "hook_name": f"blocks.{sae.reads.layer}.hook_{sae.reads.hook}",
        },
    }
    if sae.k:
        written |= {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    (folder / "cfg.json").write_text(json.dumps(written | config))
    return folder


def spec_of(sae: Path, model: Path, tokens: Path, **changed: Any) -> SaeJobSpec:
    sizes = {"held_out_tokens": 1500, "splice_tokens": 640} | changed
    return SaeJobSpec(
        kind="evaluate", sae_path=sae, model_path=model, tokens_path=tokens, device="cpu", **sizes
    )


def test_quality_is_what_its_definitions_say() -> None:
    sae = random_sae()
    g = torch.Generator().manual_seed(1)
    x = torch.randn(1200, WIDTH, generator=g) * 3 + 1
    found = quality(sae, x, x)
    z, y_hat = sae.reconstruct(x, x)
    x, y_hat, z = x.double(), y_hat.double(), z.double()
    error = (x - y_hat).square().sum(1)
    variance = (x - x.mean(0)).square().sum(1)
    expected = {
        "fvu": error.sum() / variance.sum(),
        "explained_variance": 1 - error.sum() / variance.sum(),
        "explained_variance_per_token": (1 - error / variance).mean(),
        "mse": error.mean(),
        "cosine": torch.cosine_similarity(x, y_hat, dim=1).mean(),
        "l2_ratio": (y_hat.norm(dim=1) / x.norm(dim=1)).mean(),
        "relative_reconstruction_bias": y_hat.square().sum() / (x * y_hat).sum(),
        "l0": (z != 0).sum(1).double().mean(),
        "l1": z.sum(1).mean(),
    }
    got = found.read()
    for name, value in expected.items():
        assert got[name] == pytest.approx(float(value), rel=1e-5), name
    torch.testing.assert_close(found.frequency_F, (z != 0).double().mean(0))


def test_dead_rare_and_dense_latents_are_counted() -> None:
    frequency = torch.tensor([0.0, 0.0, 5e-5, 1e-3, 0.1, 0.7], dtype=torch.float64)
    found = firing(frequency)
    assert (found["dead"], found["rare"], found["dense"], found["alive"]) == (2, 1, 2, 4)
    assert sum(found["density"]["counts"]) == 4


def test_cosines_of_directions() -> None:
    sae = random_sae()
    unit = torch.nn.functional.normalize(sae.W_dec.double(), dim=1)
    cosines = unit @ unit.T
    cosines.fill_diagonal_(-1)
    torch.testing.assert_close(max_cosine(sae.W_dec).double(), cosines.amax(1), atol=1e-5, rtol=0)
    found = geometry(sae)
    assert sum(found["max_decoder_cosine"]["counts"]) == F
    both = torch.cosine_similarity(sae.W_enc.T, sae.W_dec, dim=1)
    assert found["encoder_decoder_cosine"]["mean"] == pytest.approx(float(both.mean()), abs=1e-5)
    transcoder = replace(sae, writes=Site(2, "resid_post"))
    assert geometry(transcoder)["encoder_decoder_cosine"] is None


def spliced(model: WholeModel, sae: SavedSae, tokens: Tokens, count: int = 6) -> dict[str, Any]:
    contexts = np.arange(count)
    ids = torch.from_numpy(tokens.ids[contexts].astype(np.int64))
    usable = torch.from_numpy(tokens.usable(contexts))
    splice = Splice()
    splice.add(model, sae, ids, usable, torch.ones_like(usable), lambda: None)
    return splice.read()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("hook", ["resid_post", "mlp_in", "mlp_out", "attn_out"])
def test_a_perfect_reconstruction_loses_nothing(
    families: dict[str, Path], tokens: Tokens, family: str, hook: Any
) -> None:
    model = WholeModel.load(families[family], CPU, torch.float32)
    found = spliced(model, identity(Site(1, hook), Site(1, hook)), tokens)
    assert found["ce_spliced"] == pytest.approx(found["ce_clean"], abs=1e-6)
    assert found["kl_spliced"] == pytest.approx(0, abs=1e-6)
    assert found["kl_recovered"] == pytest.approx(1, abs=1e-3)
    assert found["ce_zero"] != found["ce_clean"]


@dataclass(frozen=True)
class ExactMlp(SavedSae):
    """The MLP itself, where a transcoder of it would stand."""

    mlp: Any = None

    def reconstruct(self, x_BD: torch.Tensor, y_BO: torch.Tensor) -> Any:
        return x_BD, self.mlp(x_BD)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_computes_an_mlp_takes_its_place_without_a_loss(
    families: dict[str, Path], tokens: Tokens, family: str
) -> None:
    """It is given the MLP's input and its output goes on, in one pass."""
    model = WholeModel.load(families[family], CPU, torch.float32)
    block: Any = block_list(model.model)[1]
    of_mlp = identity(Site(1, "mlp_in"), Site(1, "mlp_out"))
    found = spliced(model, ExactMlp(**vars(of_mlp), mlp=copy.deepcopy(block.mlp)), tokens)
    assert found["ce_spliced"] == pytest.approx(found["ce_clean"], abs=1e-6)
    assert found["kl_spliced"] == pytest.approx(0, abs=1e-6)
    assert spliced(model, of_mlp, tokens)["kl_spliced"] > 1e-4


def test_a_transcoder_of_a_linear_mlp_is_exact(families: dict[str, Path], tokens: Tokens) -> None:
    model = WholeModel.load(families["gemma2"], CPU, torch.float32)
    linear = torch.nn.Linear(WIDTH, WIDTH).requires_grad_(False)
    block: Any = block_list(model.model)[1]
    block.mlp = linear
    eye = identity(Site(1, "mlp_in"), Site(1, "mlp_out"))
    transcoder = replace(eye, W_dec=eye.W_dec @ linear.weight.T, b_dec=linear.bias)
    found = spliced(model, transcoder, tokens)
    assert found["ce_spliced"] == pytest.approx(found["ce_clean"], abs=1e-5)
    assert found["kl_spliced"] == pytest.approx(0, abs=1e-5)


def test_an_sae_that_gives_zeros_is_the_zero_ablation(
    families: dict[str, Path], tokens: Tokens
) -> None:
    """But for BOS, which keeps the model's own activations."""
    model = WholeModel.load(families["llama"], CPU, torch.float32)
    sae = identity(Site(1, "mlp_out"), Site(1, "mlp_out"))
    nothing = replace(sae, W_dec=torch.zeros_like(sae.W_dec))
    ids = torch.from_numpy(tokens.ids[:2].astype(np.int64))
    usable = torch.from_numpy(tokens.usable(np.arange(2)))
    found = spliced(model, nothing, tokens, 2)
    zeroed = model.logits_with(
        ids, Site(1, "mlp_out"), lambda own: own * (~usable)[..., None].to(own.dtype)
    )
    ce = torch.nn.functional.cross_entropy(
        zeroed[:, :-1][usable[:, :-1]], ids[:, 1:][usable[:, :-1]]
    )
    assert found["ce_spliced"] == pytest.approx(float(ce), rel=1e-6)


def test_cross_entropy_and_kl_are_those_of_float64(
    families: dict[str, Path], tokens: Tokens
) -> None:
    model = WholeModel.load(families["llama"], CPU, torch.float32)
    sae = random_sae()
    found = spliced(model, sae, tokens, 3)
    ids = torch.from_numpy(tokens.ids[:3].astype(np.int64))
    usable = torch.from_numpy(tokens.usable(np.arange(3)))
    clean = model.logits(ids).double()

    def replaced(own: torch.Tensor) -> torch.Tensor:
        out = own.clone()
        out[usable] = sae.reconstruct(own[usable], own[usable])[1]
        return out

    other = model.logits_with(ids, Site(1, "resid_post"), replaced).double()
    p, q = clean.log_softmax(-1), other.log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1)[usable].mean()
    seen, following = usable[:, :-1], ids[:, 1:]
    ce = -q[:, :-1].gather(-1, following[..., None])[..., 0][seen].mean()
    assert found["kl_spliced"] == pytest.approx(float(kl), rel=1e-5)
    assert found["ce_spliced"] == pytest.approx(float(ce), rel=1e-5)
    lost = found["ce_zero"] - found["ce_clean"]
    assert found["ce_recovered"] == pytest.approx((found["ce_zero"] - found["ce_spliced"]) / lost)
    assert found["splice_tokens"] == int(seen.sum())


def test_a_transcoder_takes_the_place_of_what_it_computes(
    families: dict[str, Path], tokens: Tokens
) -> None:
    """It reads block 1 and writes block 2's output: the identity leaves block 2 out."""
    model = WholeModel.load(families["llama"], CPU, torch.float32)
    sae = identity(Site(1, "resid_post"), Site(2, "resid_post"))
    ids = torch.from_numpy(tokens.ids[:2].astype(np.int64))
    usable = torch.from_numpy(tokens.usable(np.arange(2)))
    x = model.activations(ids, [Site(1, "resid_post")])[0]
    expected = model.logits_with(
        ids, Site(2, "resid_post"), lambda own: torch.where(usable[..., None], x, own)
    )
    ce = torch.nn.functional.cross_entropy(
        expected[:, :-1][usable[:, :-1]], ids[:, 1:][usable[:, :-1]]
    )
    assert spliced(model, sae, tokens, 2)["ce_spliced"] == pytest.approx(float(ce), rel=1e-5)


def test_a_folder_is_evaluated_on_held_out_contexts(
    model_folder: Path, tokens_folder: Path, tmp_path: Path
) -> None:
    folder = write(tmp_path / "sae", random_sae())
    said: list[tuple[float, str]] = []
    spec = spec_of(folder, model_folder, tokens_folder)
    found = evaluate_saved(spec, lambda share, note: said.append((share, note)))
    assert found["tokens"] >= 1400
    assert 500 < found["splice_tokens"] <= 640
    assert found["l0"] == pytest.approx(8, abs=0.1)
    assert found["ce_recovered"] is not None
    assert [share for share, _ in said] == sorted(share for share, _ in said)
    json.dumps(found, allow_nan=False)
    again = evaluate_saved(spec, lambda share, note: None)
    assert again == found


def test_padding_is_neither_seen_nor_predicted(
    model_folder: Path, tokens_folder: Path, tmp_path: Path
) -> None:
    evaluation = Evaluation(
        spec_of(write(tmp_path / "sae", random_sae()), model_folder, tokens_folder)
    )
    m = evaluation.tokens.manifest
    assert m.last_length < m.context_length, "the text must leave padding"
    last = np.array([m.n_contexts - 1])
    ids, usable, real = evaluation.opened.batch(last)
    splice = Splice()
    splice.add(evaluation.model, evaluation.sae, ids, usable, real, lambda: None)
    assert splice.read()["splice_tokens"] == m.last_length - 2  # BOS, and the last has no next


def test_a_model_that_cannot_fit_is_refused_before_it_is_loaded(
    model_folder: Path, tokens_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.engine.machine.left_bytes", lambda: 10**9)
    folder = write(tmp_path / "sae", random_sae())
    with pytest.raises(TrainingError, match=r"take about 1\.5 GB, and 1\.0 GB are free"):
        evaluate_saved(spec_of(folder, model_folder, tokens_folder), lambda share, note: None)


def test_an_sae_of_another_model_or_without_a_place_is_refused(
    model_folder: Path, tokens_folder: Path, tmp_path: Path
) -> None:
    narrow = random_sae(W_enc=torch.zeros(16, F))
    folder = write(tmp_path / "narrow", narrow)
    with pytest.raises(TrainingError, match="width 16"):
        evaluate_saved(spec_of(folder, model_folder, tokens_folder), lambda share, note: None)
    folder = write(tmp_path / "nowhere", random_sae(), metadata={"sae_lens_version": "6.0.0"})
    with pytest.raises(TrainingError, match="which layer"):
        evaluate_saved(spec_of(folder, model_folder, tokens_folder), lambda share, note: None)
