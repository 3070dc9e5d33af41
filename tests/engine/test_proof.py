"""A written folder is proved by reading it back; one that is something else is found."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.engine.saes import an_sae, every_sae, named, no_tools
from workers.engine.saved import Kind, SavedSae, tools
from workers.engine.saved.difference import DifferentSae, difference
from workers.engine.saved.formats import Format, write
from workers.engine.saved.proof import NotProved, Proof, fixed_batch, prove

__all__ = ["no_tools"]
pytestmark = pytest.mark.usefixtures("no_tools")

PLAIN = Format.SAFETENSORS


def proved(sae: SavedSae, folder: Path, format: Format = PLAIN) -> Proof:
    write(sae, format, folder)
    return prove(folder, sae, format)


@pytest.mark.parametrize("sae", every_sae(), ids=named)
def test_latents_fire_on_the_fixed_batch_and_not_all_of_them_at_once(sae: SavedSae) -> None:
    x, y = fixed_batch(sae)
    z, _ = sae.reconstruct(x, y)
    assert (z > 0).any(0).double().mean() > 0.75
    assert 0.05 < float((z > 0).double().mean()) < 0.7
    assert torch.equal(fixed_batch(sae)[0], x)


@pytest.mark.parametrize("scale", [1e-2, 1.0, 30.0])
@pytest.mark.parametrize("kind", list(Kind))
def test_the_fixed_batch_has_the_scale_of_the_sae(kind: Kind, scale: float) -> None:
    """Unit directions, activations of size 1/scale far from the origin, seldom firing latents."""
    g = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(64, 1024, generator=g), dim=0)
    b_dec = torch.randn(64, generator=g) * 2 / scale
    sae = SavedSae(
        kind=kind,
        W_enc=directions * scale,
        b_enc=-0.3 - b_dec @ directions * scale,
        W_dec=directions.T / scale,
        b_dec=b_dec,
        threshold=torch.full((1024,), 0.1) if kind is Kind.JUMPRELU else None,
        k=16 if kind is Kind.TOPK else None,
    )
    x, y = fixed_batch(sae)
    z, _ = sae.reconstruct(x, y)
    assert (z > 0).any(0).double().mean() > 0.9
    assert 8 < float((z > 0).sum(1).double().mean()) < 200


@pytest.mark.parametrize("format", list(Format))
def test_a_proof_tells_difference_reader_and_hashes(format: Format, tmp_path: Path) -> None:
    proof = proved(an_sae(Kind.TOPK), tmp_path, format)
    assert proof.max_difference < 1e-6
    assert proof.l0 == 8
    package = {"saelens": "sae-lens", "sparsify": "eai-sparsify"}.get(format)
    missing = f"; {package} is not installed" if package else ""
    assert proof.read_by == "SAE Studio" + missing
    for name, told in proof.files.items():
        data = (tmp_path / name).read_bytes()
        assert told == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_the_digest_is_what_sha256sum_makes_of_the_files(tmp_path: Path) -> None:
    proof = proved(an_sae(Kind.TOPK), tmp_path, Format.SPARSIFY)
    (tmp_path / "README.md").write_text("written after the proof, and tells it")
    names = sorted(proof.files)
    assert names == ["config.json", "layers.1/cfg.json", "layers.1/sae.safetensors"]
    told = subprocess.run(["sha256sum", *names], cwd=tmp_path, capture_output=True, check=True)
    assert proof.digest == hashlib.sha256(told.stdout).hexdigest()
    assert prove(tmp_path, an_sae(Kind.TOPK), Format.SPARSIFY) == proof


@pytest.mark.parametrize("name", ["W_enc", "b_enc", "W_dec", "b_dec", "threshold", "W_skip"])
def test_a_harmed_tensor_is_found(name: str, tmp_path: Path) -> None:
    sae = an_sae(Kind.JUMPRELU, "skip")
    write(sae, PLAIN, tmp_path)
    file = tmp_path / "sae_weights.safetensors"
    tensors = load_file(file)
    tensors[name] *= 1.01
    save_file(tensors, file)
    with pytest.raises(NotProved, match="Read by SAE Studio, the SAE that was written"):
        prove(tmp_path, sae, PLAIN)


def test_a_harmed_config_is_found(tmp_path: Path) -> None:
    sae = an_sae(Kind.TOPK)
    write(sae, Format.SAELENS, tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps(config | {"k": 7}))
    with pytest.raises(NotProved, match="fires other latents"):
        prove(tmp_path, sae, Format.SAELENS)
    (tmp_path / "cfg.json").write_text("{")
    with pytest.raises(NotProved, match="cannot be"):
        prove(tmp_path, sae, Format.SAELENS)


def test_another_sae_is_found(tmp_path: Path) -> None:
    sae = an_sae(Kind.RELU)
    write(sae, PLAIN, tmp_path)
    order = torch.arange(sae.d_sae).roll(1)
    turned = replace(sae, W_enc=sae.W_enc[:, order], b_enc=sae.b_enc[order], W_dec=sae.W_dec[order])
    with pytest.raises(NotProved, match="fires other latents"):
        prove(tmp_path, turned, PLAIN)  # reconstructs the same, and names latents differently
    with pytest.raises(NotProved, match="reconstructs differently"):
        prove(tmp_path, replace(sae, W_enc=sae.W_enc * 2, b_enc=sae.b_enc * 2), PLAIN)
    narrow = replace(sae, W_enc=sae.W_enc[:16], b_dec=sae.b_dec[:16], W_dec=sae.W_dec[:, :16])
    with pytest.raises(NotProved, match="other widths"):
        prove(tmp_path, narrow, PLAIN)


def test_a_tool_that_cannot_read_a_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(place: Path, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raise KeyError("W_enc")

    monkeypatch.setattr(tools, "version", lambda package: "9.9")
    monkeypatch.setitem(tools.TOOLS, Format.SAELENS, tools.Tool("sae-lens", fails))
    with pytest.raises(NotProved, match=r"sae-lens 9\.9 cannot read .* \(KeyError: 'W_enc'\)"):
        proved(an_sae(Kind.RELU), tmp_path, Format.SAELENS)


def test_a_tool_that_reads_something_else_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae = an_sae(Kind.RELU)

    def doubles(place: Path, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z, y_hat = sae.reconstruct(x, x)
        return z, y_hat * 2

    monkeypatch.setattr(tools, "version", lambda package: "9.9")
    monkeypatch.setitem(tools.TOOLS, Format.SAELENS, tools.Tool("sae-lens", doubles))
    with pytest.raises(NotProved, match=r"Read by sae-lens 9\.9, .* reconstructs differently"):
        proved(sae, tmp_path, Format.SAELENS)


def test_a_latent_within_rounding_of_firing_is_left_out_and_many_are_not() -> None:
    z = torch.ones(100, 10)
    y = torch.ones(100, 4)
    one, two = z.clone(), y.clone()
    one[0, 0], two[0] = 0, 2
    assert difference((z, y), (one, two)) == 0
    one[:, 0] = 0
    with pytest.raises(DifferentSae, match="fires other latents"):
        difference((z, y), (one, y))
    with pytest.raises(DifferentSae, match="reconstructs differently"):
        difference((z, y), (z, y * float("nan")))
