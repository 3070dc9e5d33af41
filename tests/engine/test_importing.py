"""Other tools' SAEs are taken in whole, checked against the model, or refused with a sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.engine.test_evaluation import random_sae, write
from workers.engine.config.sae_job import Place
from workers.engine.failure import TrainingError
from workers.engine.language_model import Site
from workers.engine.saved import Kind, UnreadableSae, open_sae, sparsify
from workers.engine.saved.importing import import_saved


def test_a_folder_of_saelens_is_taken_in(model_folder: Path, tmp_path: Path) -> None:
    sae = random_sae(kind=Kind.JUMPRELU, k=None, threshold=torch.full((96,), 0.4))
    found = import_saved(write(tmp_path / "theirs", sae), tmp_path / "a" / "sae", model_folder)
    assert (found["architecture"], found["layer"], found["hook"]) == ("JumpReLU", 1, "resid_post")
    assert (found["format"], found["d_sae"], found["why_plain"]) == ("saelens", 96, "")
    x = torch.randn(50, 32)
    taken = open_sae(tmp_path / "a" / "sae")
    torch.testing.assert_close(taken.reconstruct(x, x)[1], sae.reconstruct(x, x)[1])


def test_a_folder_of_sparsify_is_taken_in_by_its_hookpoint(
    model_folder: Path, tmp_path: Path
) -> None:
    sae = random_sae()
    place = sparsify.write(sae, tmp_path / "theirs")
    found = import_saved(place, tmp_path / "sae", model_folder)
    assert (found["architecture"], found["layer"]) == ("TopK 8", 1)
    x = torch.randn(50, 32)
    taken = open_sae(tmp_path / "sae")
    assert (taken.reads, taken.k) == (Site(1, "resid_post"), 8)
    torch.testing.assert_close(
        taken.reconstruct(x, x)[1], sae.reconstruct(x, x)[1], rtol=1e-4, atol=1e-4
    )


def test_a_place_that_the_folder_does_not_tell_may_be_named(
    model_folder: Path, tmp_path: Path
) -> None:
    folder = write(tmp_path / "theirs", random_sae(), metadata={"sae_lens_version": "6.0.0"})
    with pytest.raises(TrainingError, match="name the layer and hook"):
        import_saved(folder, tmp_path / "sae", model_folder)
    found = import_saved(folder, tmp_path / "sae", model_folder, Place(layer=2, hook="mlp_out"))
    assert (found["layer"], found["hook"]) == (2, "mlp_out")
    assert open_sae(tmp_path / "sae").reads == Site(2, "mlp_out")


def test_what_does_not_fit_the_model_is_refused_and_nothing_stays(
    model_folder: Path, tmp_path: Path
) -> None:
    narrow = write(tmp_path / "narrow", random_sae(W_enc=torch.zeros(16, 96)))
    deep = random_sae(reads=Site(9, "resid_post"), writes=Site(9, "resid_post"))
    far = write(tmp_path / "far", deep)
    wrong = write(tmp_path / "wrong", replace(random_sae(), b_enc=torch.zeros(7)))
    for folder, error, why in (
        (narrow, TrainingError, "width 16"),
        (far, TrainingError, "layer 9, and this model has 4 layers"),
        (wrong, UnreadableSae, "b_enc has the shape"),
        (tmp_path / "none", UnreadableSae, "cannot be read"),
    ):
        with pytest.raises(error, match=why):
            import_saved(folder, tmp_path / "out" / "sae", model_folder)
    assert not (tmp_path / "out").exists()
