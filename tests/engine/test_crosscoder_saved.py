"""A crosscoder on the disk: evaluated layer by layer, its latents looked at, written and read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.engine.conftest import FAMILIES, WIDTH
from tests.engine.saes import no_tools
from tests.engine.test_evaluation import CPU, spec_of, spliced
from tests.engine.test_export_job import FACTS, card
from workers.engine.config.sae_job import FORMATS, Place
from workers.engine.evaluation import evaluate_saved
from workers.engine.evaluation.quality import quality
from workers.engine.failure import TrainingError
from workers.engine.features import FeatureTable
from workers.engine.features.collect import collect_features
from workers.engine.features.directions import logit_effects
from workers.engine.features.probe import probe
from workers.engine.language_model import Site
from workers.engine.opened import Opened
from workers.engine.saved import CannotExport, Kind, SavedSae, UnreadableSae, open_sae, plain
from workers.engine.saved.export_job import export_saved
from workers.engine.saved.formats import Format
from workers.engine.saved.importing import import_saved
from workers.engine.tokens import Tokens
from workers.engine.whole_model import WholeModel

__all__ = ["no_tools"]
LAYERS, F = (0, 2), 96
ACROSS = tuple(Site(layer, "resid_post") for layer in LAYERS)
ALL = len(LAYERS) * WIDTH


def random_crosscoder(**changed: Any) -> SavedSae:
    g = torch.Generator().manual_seed(0)
    sae = SavedSae(
        kind=Kind.TOPK,
        W_enc=torch.randn(ALL, F, generator=g),
        b_enc=torch.randn(F, generator=g) / 10,
        W_dec=torch.randn(F, ALL, generator=g) / 5,
        b_dec=torch.randn(ALL, generator=g) / 10,
        k=8,
        reads=ACROSS[0],
        writes=ACROSS[0],
        across=ACROSS,
        scales=(2.0, 0.5),
    )
    return replace(sae, **changed)


def identity() -> SavedSae:
    """Gives back both layers as they are."""
    eye = torch.eye(ALL)
    return random_crosscoder(
        kind=Kind.RELU,
        W_enc=torch.cat([eye, -eye], 1),
        b_enc=torch.zeros(2 * ALL),
        W_dec=torch.cat([eye, -eye]),
        b_dec=torch.zeros(ALL),
        k=None,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Reads so strongly that all its latents fire on the toy model's small activations."""
    sae = random_crosscoder(W_enc=random_crosscoder().W_enc * 40)
    return plain.write(sae, tmp_path / "saved" / "sae")


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("per_token", [False, True])
def test_what_is_written_is_read_back(tmp_path: Path, kind: Kind, per_token: bool) -> None:
    threshold = torch.rand(F) if kind is Kind.JUMPRELU else None
    sae = random_crosscoder(
        kind=kind, threshold=threshold, k=8 if kind is Kind.TOPK else None, per_token=per_token
    )
    found = open_sae(plain.write(sae, tmp_path))
    assert (found.across, found.scales, found.layers, found.width) == (ACROSS, (2, 0.5), 2, WIDTH)
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        assert torch.equal(getattr(found, name), getattr(sae, name)), name
    x = torch.randn(9, ALL) * 3 + 1
    assert torch.equal(found.reconstruct(x, x)[1], sae.reconstruct(x, x)[1])


def test_norms_are_parts_of_each_layers_size() -> None:
    sae = random_crosscoder()
    parts = [sae.W_dec[:, :WIDTH].norm(dim=1) * 2.0, sae.W_dec[:, WIDTH:].norm(dim=1) * 0.5]
    torch.testing.assert_close(sae.layer_norms, torch.stack(parts, 1))


@pytest.mark.parametrize("what", ["layers", "width", "place", "twice", "version"])
def test_a_folder_that_does_not_fit_itself_is_refused(folder: Path, what: str) -> None:
    config = json.loads((folder / "cfg.json").read_text())
    weights = load_file(folder / "sae_weights.safetensors")
    if what == "layers":
        config["metadata"]["hook_names"].append("blocks.3.hook_resid_post")
    if what == "width":
        weights["W_dec"] = weights["W_dec"][:, :, 1:].contiguous()
    if what == "place":
        config["metadata"]["hook_names"][1] = "somewhere"
    if what == "twice":
        config["metadata"]["hook_names"][1] = "blocks.0.hook_resid_post"
    if what == "version":
        config["version"] = 3
    (folder / "cfg.json").write_text(json.dumps(config))
    save_file(weights, folder / "sae_weights.safetensors")
    with pytest.raises(UnreadableSae, match="cannot be used"):
        open_sae(folder)


def test_quality_is_the_mean_of_what_each_layer_has() -> None:
    sae = random_crosscoder()
    x = torch.randn(1200, ALL, generator=torch.Generator().manual_seed(1))
    x = x * torch.tensor([1.0] * WIDTH + [50.0] * WIDTH) + 1
    found = quality(sae, x, x).read()
    z, y_hat = sae.reconstruct(x, x)
    fvus, cosines = [], []
    for part, part_hat in zip(x.double().chunk(2, 1), y_hat.double().chunk(2, 1), strict=True):
        error = (part - part_hat).square().sum()
        fvus.append(float(error / (part - part.mean(0)).square().sum()))
        cosines.append(float(torch.cosine_similarity(part, part_hat, dim=1).mean()))
    assert [each["layer"] for each in found["by_layer"]] == list(LAYERS)
    assert [each["fvu"] for each in found["by_layer"]] == pytest.approx(fvus, rel=1e-5)
    assert found["fvu"] == pytest.approx(sum(fvus) / 2, rel=1e-5)
    assert found["cosine"] == pytest.approx(sum(cosines) / 2, rel=1e-5)
    assert found["l0"] == pytest.approx(float((z != 0).sum(1).double().mean()))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_perfect_reconstruction_loses_nothing_at_any_layer(
    families: dict[str, Path], tokens: Tokens, family: str
) -> None:
    model = WholeModel.load(families[family], CPU, torch.float32)
    found = spliced(model, identity(), tokens)
    assert [each["layer"] for each in found["by_layer"]] == list(LAYERS)
    for each in found["by_layer"]:
        assert each["ce_spliced"] == pytest.approx(each["ce_clean"], abs=1e-6)
        assert each["kl_spliced"] == pytest.approx(0, abs=1e-6)
        assert each["ce_zero"] != each["ce_clean"]
    last = found["by_layer"][-1]
    assert {name: found[name] for name in last if name != "layer"} == {
        name: value for name, value in last.items() if name != "layer"
    }


def test_each_layer_is_replaced_alone_by_what_is_read_at_all(
    families: dict[str, Path], tokens: Tokens
) -> None:
    model = WholeModel.load(families["llama"], CPU, torch.float32)
    sae = random_crosscoder()
    ids = torch.from_numpy(tokens.ids[:3].astype(np.int64))
    usable = torch.from_numpy(tokens.usable(np.arange(3)))
    x = torch.cat(model.activations(ids, ACROSS), -1)[usable]
    y_hat = sae.reconstruct(x, x)[1]
    found = spliced(model, sae, tokens, 3)["by_layer"]
    for site, part, each in zip(ACROSS, y_hat.chunk(2, 1), found, strict=True):

        def replaced(own: torch.Tensor, part: torch.Tensor = part) -> torch.Tensor:
            out = own.clone()
            out[usable] = part
            return out

        q = model.logits_with(ids, site, replaced).double().log_softmax(-1)
        following = ids[:, 1:, None]
        ce = -q[:, :-1].gather(-1, following)[..., 0][usable[:, :-1]].mean()
        assert each["ce_spliced"] == pytest.approx(float(ce), rel=1e-5)


def test_a_folder_is_evaluated_at_every_layer(
    folder: Path, model_folder: Path, tokens_folder: Path
) -> None:
    found = evaluate_saved(spec_of(folder, model_folder, tokens_folder), lambda share, note: None)
    assert [set(each) >= {"fvu", "ce_recovered"} for each in found["by_layer"]] == [True, True]
    assert found["ce_recovered"] == found["by_layer"][-1]["ce_recovered"]
    assert found["tokens"] >= 1400
    assert 500 < found["splice_tokens"] <= 640
    json.dumps(found, allow_nan=False)


def test_features_have_shares_and_act_through_the_last_layer(
    folder: Path, model_folder: Path, tokens_folder: Path
) -> None:
    spec = spec_of(folder, model_folder, tokens_folder, feature_tokens=2000)
    collect_features(spec, lambda share, note: None)
    table, opened = FeatureTable(folder.with_name("features.sqlite")), Opened(spec)
    norms = opened.sae.layer_norms
    most = next(logit_effects(opened.model.unembedding(), opened.sae.W_dec[:, WIDTH:]))[0]
    for latent in range(0, F, 9):
        feature = table.feature(latent)
        assert feature is not None
        assert [layer for layer, _ in feature.shares] == list(LAYERS)
        expected = (norms[latent] / norms[latent].sum()).tolist()
        assert [share for _, share in feature.shares] == pytest.approx(expected, rel=1e-3)
        effects = [effect for _, effect in feature.promotes]
        assert effects == pytest.approx(most[latent].tolist(), rel=1e-3)


def test_a_text_is_read_at_all_layers(
    folder: Path, model_folder: Path, tokens_folder: Path
) -> None:
    spec = spec_of(folder, model_folder, tokens_folder, text="w4 w5 w60")
    found = probe(spec, lambda share, note: None)
    opened = Opened(spec)
    ids = torch.tensor([[1, 7, 8, 63]])
    x = torch.cat(opened.model.activations(ids, ACROSS), -1)[0, 1:]
    z = opened.sae.encode(x)
    assert found["latents"][0]["id"] == int(z.amax(0).argmax())


@pytest.mark.usefixtures("no_tools")
def test_only_plain_safetensors_can_hold_it(folder: Path, tmp_path: Path) -> None:
    for format in (Format.SAELENS, Format.SPARSIFY):
        with pytest.raises(CannotExport, match=r"no crosscoders.*plain safetensors"):
            export_saved(folder, format, tmp_path / "out")
    with pytest.raises(CannotExport, match="a norm at each layer"):
        export_saved(folder, Format.SAFETENSORS, tmp_path / "out", unit_norm=True)
    assert not (tmp_path / "out").exists()
    assert len(FORMATS) == 3


@pytest.mark.usefixtures("no_tools")
def test_its_card_says_what_it_is(folder: Path, tmp_path: Path) -> None:
    by_layer = [{"layer": 0, "fvu": 0.25, "ce_recovered": 0.5}, {"layer": 2, "fvu": 0.125}]
    facts = replace(
        FACTS,
        evaluation=FACTS.evaluation | {"by_layer": by_layer},
        hyperparameters={"layers": [0, 2]},
    )
    told = export_saved(folder, Format.SAFETENSORS, tmp_path / "out", facts)
    assert told["max_difference"] < 1e-6
    front, text = card(tmp_path / "out")
    assert front["tags"][0] == "crosscoder"
    assert "read and reconstruct 2 layers of a token together, 32 values each" in text
    assert "`blocks.0.hook_resid_post`, `blocks.2.hook_resid_post`" in text
    assert "| 0 | 0.25 | 0.5 |" in text
    assert "| 2 | 0.125 |  |" in text
    assert "| layers | 0, 2 |" in text
    assert "y[l] = z @ W_dec[:, l] + b_dec[l]" in text


@pytest.mark.usefixtures("no_tools")
def test_a_crosscoder_is_taken_in_from_a_folder(
    folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    found = import_saved(folder, tmp_path / "taken", model_folder)
    assert (found["architecture"], found["layers"]) == ("TopK 8 crosscoder", [0, 2])
    assert (found["layer"], found["format"]) == (0, "safetensors")
    assert open_sae(tmp_path / "taken").across == ACROSS
    with pytest.raises(TrainingError, match="name no layer"):
        import_saved(folder, tmp_path / "other", model_folder, Place(layer=1))
    deep = replace(random_crosscoder(), across=(ACROSS[0], Site(9, "resid_post")))
    plain.write(deep, tmp_path / "deep")
    with pytest.raises(TrainingError, match="layer 9"):
        import_saved(tmp_path / "deep", tmp_path / "other", model_folder)
