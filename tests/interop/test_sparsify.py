"""What is written for sparsify, read and computed by sparsify itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

from tests.engine.conftest import families, make_spec, model_folder, spec_of, tokens_folder
from tests.engine.saes import an_sae, every_sae, named, sparsify_has
from tests.engine.test_evaluation import spec_of as job_of
from workers.engine.config import RunSpec
from workers.engine.evaluation import evaluate_saved
from workers.engine.events import Completed
from workers.engine.order import Split
from workers.engine.saved import Kind, SavedSae, open_sae
from workers.engine.saved.difference import difference
from workers.engine.saved.formats import Format, write
from workers.engine.saved.proof import fixed_batch, prove
from workers.engine.saved.tools import TOOLS, import_sparsify
from workers.engine.tokens import Tokens
from workers.engine.train import train

__all__ = ["families", "make_spec", "model_folder", "spec_of", "tokens_folder"]

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        TOOLS[Format.SPARSIFY].version is None,
        reason="eai-sparsify is not installed: pip install -e '.[interop]'",
    ),
]

SPARSIFY = [sae for sae in every_sae() if sparsify_has(sae)]


@pytest.mark.parametrize("sae", SPARSIFY, ids=named)
def test_sparsify_proves_what_was_written_for_it(sae: SavedSae, tmp_path: Path) -> None:
    write(sae, Format.SPARSIFY, tmp_path)
    proof = prove(tmp_path, sae, Format.SPARSIFY)
    assert proof.read_by == f"eai-sparsify {TOOLS[Format.SPARSIFY].version}"
    assert proof.max_difference < 1e-5


def test_a_folder_is_one_that_sparsify_finds_and_goes_on_from(tmp_path: Path) -> None:
    sparsify = import_sparsify()
    write(an_sae(Kind.TOPK), Format.SPARSIFY, tmp_path)
    many = sparsify.SparseCoder.load_many(str(tmp_path), local=True)
    assert list(many) == ["layers.1"]
    run = sparsify.TrainConfig.load_json(tmp_path / "config.json")
    assert (run.hookpoints, run.sae.k) == (["layers.1"], 8)


@pytest.mark.parametrize("transcode", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_what_sparsify_saves_is_read_and_written_again(
    skip: bool, transcode: bool, tmp_path: Path
) -> None:
    """Somebody else's, with everything in it random."""
    sparsify = import_sparsify()
    config = sparsify.SparseCoderConfig(
        num_latents=96, k=8, skip_connection=skip, transcode=transcode
    )
    theirs = sparsify.SparseCoder(32, config)
    g = torch.Generator().manual_seed(2)
    for parameter in theirs.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=g) / 3)
    theirs.save_to_disk(tmp_path / "layers.3")
    sae = open_sae(tmp_path / "layers.3")
    assert sae.is_transcoder is transcode
    x, _ = fixed_batch(sae)
    with torch.no_grad():
        found = theirs(x)
    z = torch.zeros(len(x), 96).scatter_(1, found.latent_indices, found.latent_acts)
    assert difference((z, found.sae_out), sae.reconstruct(x, x)) < 1e-5
    write(sae, Format.SPARSIFY, tmp_path / "again")
    assert prove(tmp_path / "again", sae, Format.SPARSIFY).max_difference < 1e-5
    if not (skip or transcode):
        write(sae, Format.SAELENS, tmp_path / "saelens")
        assert prove(tmp_path / "saelens", sae, Format.SAELENS).max_difference < 1e-5


def test_a_proof_survives_a_far_away_origin(tmp_path: Path) -> None:
    """b_dec a hundred times the spread, as massive activations make it."""
    sae = an_sae(Kind.TOPK)
    sae = replace(sae, b_dec=sae.b_dec * 100, b_enc=sae.b_enc - sae.b_dec * 100 @ sae.W_enc)
    write(sae, Format.SPARSIFY, tmp_path)
    assert prove(tmp_path, sae, Format.SPARSIFY).max_difference < 1e-5


@pytest.mark.parametrize(
    ("architecture", "skip"),
    [("transcoder", "identity"), ("skip", "identity"), ("skip", "learned")],
)
def test_sparsify_finds_a_trained_transcoder_where_it_reads_and_as_good_as_we_do(
    make_spec: Callable[..., RunSpec], tmp_path: Path, architecture: str, skip: str
) -> None:
    """By its folder's name, with the input and output of that module, as its trainer takes them."""
    spec = make_spec(architecture, hook="mlp_in", skip=skip, top_k_sparsity=5.0, num_steps=60)
    assert isinstance(list(train(spec, tmp_path / "run"))[-1], Completed)
    write(open_sae(tmp_path / "run" / "sae"), Format.SPARSIFY, tmp_path / "theirs")
    ((hookpoint, coder),) = (
        import_sparsify().SparseCoder.load_many(str(tmp_path / "theirs"), local=True).items()
    )
    assert (hookpoint, coder.cfg.transcode) == ("layers.1.mlp", True)
    tokens = Tokens.open(spec.tokens_path)
    contexts = Split.of(tokens, spec.config.hyperparameters.held_out_tokens, 1).held_out.contexts
    usable = torch.from_numpy(tokens.usable(contexts))
    seen: list[torch.Tensor] = []
    model = AutoModel.from_pretrained(spec.model_path).requires_grad_(False)
    model.get_submodule(hookpoint).register_forward_hook(
        lambda _module, inputs, output: seen.extend((inputs[0][usable], output[usable]))
    )
    model(torch.from_numpy(tokens.ids[contexts].astype(np.int64)))
    with torch.no_grad():
        theirs = coder(seen[0], y=seen[1])
    evaluate = job_of(tmp_path / "theirs" / hookpoint, spec.model_path, spec.tokens_path)
    evaluate = evaluate.model_copy(update={"held_out_tokens": 1024})
    ours = evaluate_saved(evaluate, lambda share, note: None)
    assert ours["tokens"] == len(seen[0])
    assert float(theirs.fvu) == pytest.approx(ours["fvu"], rel=1e-3)
