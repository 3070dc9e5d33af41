"""What is written for SAELens, read and computed by SAELens itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.saes import an_sae, every_sae, named, saelens_has, wide
from workers.engine.language_model import Site
from workers.engine.saved import Kind, SavedSae, open_sae, plain
from workers.engine.saved.difference import difference
from workers.engine.saved.formats import Format, write
from workers.engine.saved.proof import NotProved, fixed_batch, prove
from workers.engine.saved.tools import TOOLS

sae_lens = pytest.importorskip(
    "sae_lens", reason="sae-lens is not installed: pip install -e '.[interop]'"
)
pytestmark = pytest.mark.interop

ARCHITECTURES = {
    "standard",
    "jumprelu",
    "topk",
    "transcoder",
    "skip_transcoder",
    "jumprelu_transcoder",
    "jumprelu_skip_transcoder",
}
SAELENS = [sae for sae in every_sae() if saelens_has(sae)]


def both_read(folder: Path) -> float:
    """How far SAELens's and our reading of a folder differ."""
    theirs, ours = sae_lens.SAE.load_from_disk(folder, device="cpu"), open_sae(folder)
    x, _ = fixed_batch(ours)
    with torch.no_grad():
        return difference((theirs.encode(x), theirs(x)), ours.reconstruct(x, x))


def rewritten(folder: Path, **changed: Any) -> dict[str, Any]:
    """A folder's config with other entries."""
    config: dict[str, Any] = json.loads((folder / "cfg.json").read_text()) | changed
    (folder / "cfg.json").write_text(json.dumps(config))
    return config


@pytest.mark.parametrize("sae", SAELENS, ids=named)
def test_saelens_proves_what_was_written_for_it(sae: SavedSae, tmp_path: Path) -> None:
    write(sae, Format.SAELENS, tmp_path)
    proof = prove(tmp_path, sae, Format.SAELENS)
    assert proof.read_by == f"sae-lens {TOOLS[Format.SAELENS].version}"
    assert proof.max_difference < 1e-5
    loaded = sae_lens.SAE.load_from_disk(tmp_path, device="cpu")
    assert loaded.cfg.metadata.hook_name == "blocks.1.hook_resid_post"
    out = "blocks.2.hook_resid_post" if sae.is_transcoder else None
    assert loaded.cfg.metadata.hook_name_out == out


def test_every_architecture_that_saelens_shares_with_us_is_among_them(tmp_path: Path) -> None:
    found = set()
    for number, sae in enumerate(SAELENS):
        place = write(sae, Format.SAELENS, tmp_path / str(number))
        found.add(json.loads((place / "cfg.json").read_text())["architecture"])
    assert found == ARCHITECTURES


@pytest.mark.parametrize("shape", ["transcoder", "skip"])
def test_saelens_reads_one_width_and_writes_another(shape: str, tmp_path: Path) -> None:
    sae = wide(an_sae(Kind.JUMPRELU, shape), 12)
    write(sae, Format.SAELENS, tmp_path)
    assert prove(tmp_path, sae, Format.SAELENS).read_by.startswith("sae-lens")


def test_saelens_finds_a_harmed_folder(tmp_path: Path) -> None:
    """The second one only SAELens reads differently: we take all weights as float32."""
    sae = an_sae(Kind.RELU)
    write(sae, Format.SAELENS, tmp_path)
    rewritten(tmp_path, architecture="gated")
    with pytest.raises(NotProved, match="cannot be"):
        prove(tmp_path, sae, Format.SAELENS)
    rewritten(tmp_path, architecture="standard", dtype="float16")
    with pytest.raises(NotProved, match="sae-lens"):
        prove(tmp_path, sae, Format.SAELENS)


def test_saelens_does_not_take_a_plain_folder_for_one_of_its_own(tmp_path: Path) -> None:
    plain.write(an_sae(Kind.TOPK, "transcoder"), tmp_path)
    with pytest.raises(KeyError, match="sae-studio"):
        sae_lens.SAE.load_from_disk(tmp_path, device="cpu")


@pytest.mark.parametrize("apply_b_dec", [True, False])
@pytest.mark.parametrize("kind", list(Kind))
def test_what_saelens_saves_is_read_and_written_again(
    kind: Kind, apply_b_dec: bool, tmp_path: Path
) -> None:
    """Somebody else's SAE, whose b_dec is subtracted from the input."""
    write(an_sae(kind), Format.SAELENS, tmp_path / "own")
    rewritten(tmp_path / "own", apply_b_dec_to_input=apply_b_dec)
    theirs = sae_lens.SAE.load_from_disk(tmp_path / "own", device="cpu")
    theirs.save_model(tmp_path / "theirs")
    assert both_read(tmp_path / "theirs") < 1e-5
    sae = open_sae(tmp_path / "theirs")
    write(sae, Format.SAELENS, tmp_path / "again")
    assert prove(tmp_path / "again", sae, Format.SAELENS).max_difference < 1e-5


@pytest.mark.parametrize("apply_b_dec", [True, False])
def test_latents_scaled_by_the_norm_of_their_direction_are_read(
    apply_b_dec: bool, tmp_path: Path
) -> None:
    """What SAELens trains a TopK SAE with today."""
    write(an_sae(Kind.TOPK), Format.SAELENS, tmp_path)
    rewritten(tmp_path, rescale_acts_by_decoder_norm=True, apply_b_dec_to_input=apply_b_dec)
    assert both_read(tmp_path) < 1e-5


@pytest.mark.parametrize("kind", list(Kind))
def test_a_folder_from_before_version_6_is_read(kind: Kind, tmp_path: Path) -> None:
    write(an_sae(kind), Format.SAELENS, tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    del config["metadata"], config["apply_b_dec_to_input"]
    config |= {"hook_name": "blocks.4.hook_resid_pre", "model_name": "gpt2-small"}
    if kind is Kind.TOPK:
        k = config.pop("k")
        config |= {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": k}}
        config["architecture"] = "standard"
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    assert both_read(tmp_path) < 1e-5
    sae = open_sae(tmp_path)
    assert (sae.kind, sae.reads) == (kind, Site(3, "resid_post"))
    assert sae.metadata["model_name"] == "gpt2-small"
