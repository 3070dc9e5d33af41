"""With rows of the decoder of norm 1, an SAE reconstructs what it did before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.engine.saes import an_sae, every_sae, named, no_tools
from workers.engine.saved import CannotExport, Kind, SavedSae, open_sae, plain
from workers.engine.saved.card import Facts
from workers.engine.saved.export_job import export_saved
from workers.engine.saved.formats import Format
from workers.engine.saved.proof import fixed_batch
from workers.engine.saved.unit_norm import with_unit_rows

__all__ = ["no_tools"]


def norms(sae: SavedSae) -> torch.Tensor:
    return sae.W_dec.norm(dim=1)


def of_one_norm(sae: SavedSae, norm: float) -> SavedSae:
    """As a TopK SAE is trained, and then has a constant folded into it."""
    return replace(sae, W_dec=torch.nn.functional.normalize(sae.W_dec, dim=1) * norm)


SCALABLE = [
    of_one_norm(sae, 0.05) if sae.kind is Kind.TOPK else replace(sae, W_dec=sae.W_dec * 7)
    for sae in every_sae()
]


@pytest.mark.parametrize("sae", SCALABLE, ids=named)
def test_rows_have_norm_1_and_reconstructions_stay(sae: SavedSae) -> None:
    scaled = with_unit_rows(sae)
    torch.testing.assert_close(norms(scaled), torch.ones(sae.d_sae), atol=1e-5, rtol=0)
    x, y = fixed_batch(sae)
    z, expected = sae.reconstruct(x, y)
    z_scaled, found = scaled.reconstruct(x, y)
    assert torch.equal(z_scaled > 0, z > 0)
    torch.testing.assert_close(z_scaled, z * norms(sae), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_row_of_zeros_stays_one() -> None:
    sae = an_sae(Kind.JUMPRELU)
    sae.W_dec[3] = 0
    scaled = with_unit_rows(sae)
    assert not scaled.W_dec[3].any()
    assert scaled.W_enc.isfinite().all()
    assert norms(scaled)[4] == pytest.approx(1)


def test_a_topk_that_would_choose_other_latents_is_refused() -> None:
    """Rows of other norms; to scale its latents by them would change which are the largest."""
    with pytest.raises(CannotExport, match="would choose other latents: export it as it is"):
        with_unit_rows(an_sae(Kind.TOPK))


@pytest.mark.usefixtures("no_tools")
def test_an_export_has_unit_rows_where_they_are_asked_for(tmp_path: Path) -> None:
    folder = plain.write(replace(an_sae(Kind.RELU), per_token=False), tmp_path / "saved")
    facts = Facts("l5", evaluation={"l0": 8.0, "l1": 60.0})
    told = export_saved(folder, Format.SAELENS, tmp_path / "out", facts, unit_norm=True)
    assert told["max_difference"] < 1e-6
    torch.testing.assert_close(norms(open_sae(tmp_path / "out")), torch.ones(96))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "L0, active" in card
    assert "L1 per token" not in card
