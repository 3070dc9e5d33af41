"""What is written for SAELens, read and computed by SAELens itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.engine.saes import an_sae, every_sae, named, saelens_has, wide
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
    """One that only SAELens reads differently: we leave the key out of account."""
    sae = an_sae(Kind.RELU)
    write(sae, Format.SAELENS, tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps(config | {"architecture": "gated"}))
    with pytest.raises(NotProved, match="cannot be"):
        prove(tmp_path, sae, Format.SAELENS)
    harmed = config | {"dtype": "float16"}
    (tmp_path / "cfg.json").write_text(json.dumps(harmed))
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
    own = an_sae(kind)
    config = json.loads((write(own, Format.SAELENS, tmp_path / "own") / "cfg.json").read_text()) | {
        "apply_b_dec_to_input": apply_b_dec
    }
    (tmp_path / "own" / "cfg.json").write_text(json.dumps(config))
    theirs = sae_lens.SAE.load_from_disk(tmp_path / "own", device="cpu")
    theirs.save_model(tmp_path / "theirs")
    sae = open_sae(tmp_path / "theirs")
    x, _ = fixed_batch(sae)
    with torch.no_grad():
        expected = theirs.encode(x), theirs(x)
    assert difference(expected, sae.reconstruct(x, x)) < 1e-5
    write(sae, Format.SAELENS, tmp_path / "again")
    assert prove(tmp_path / "again", sae, Format.SAELENS).max_difference < 1e-5
