"""SAEs of every kind with random weights, as they would be read from a folder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.engine.conftest import WIDTH
from tests.engine.test_evaluation import F, random_sae
from workers.engine.language_model import Site
from workers.engine.saved import Kind, SavedSae, tools

READS, NEXT = Site(1, "resid_post"), Site(2, "resid_post")
SHAPES = ("sae", "transcoder", "skip")


@pytest.fixture
def no_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proofs as where SAELens and sparsify are not installed; tests/interop has them read."""

    def missing(package: str) -> str:
        raise tools.PackageNotFoundError(package)

    monkeypatch.setattr(tools, "version", missing)


def an_sae(kind: Kind, shape: str = "sae", per_token: bool = False) -> SavedSae:
    """`shape` is one of `SHAPES`; what is not an SAE reads one block and writes the next."""
    g = torch.Generator().manual_seed(5)
    sae = random_sae(
        kind=kind,
        threshold=torch.rand(F, generator=g) if kind is Kind.JUMPRELU else None,
        k=8 if kind is Kind.TOPK else None,
        per_token=per_token,
        writes=READS if shape == "sae" else NEXT,
    )
    skip = torch.randn(WIDTH, WIDTH, generator=g) / 5 if shape == "skip" else None
    return replace(sae, W_skip=skip)


def every_sae() -> list[SavedSae]:
    """Every kind, shape and normalization there is."""
    return [
        an_sae(kind, shape, per_token)
        for kind in Kind
        for shape in SHAPES
        for per_token in (False, True)
    ]


def named(sae: SavedSae) -> str:
    """What a test of it is called."""
    shape = "skip" if sae.W_skip is not None else "transcoder" if sae.is_transcoder else "sae"
    return f"{sae.kind}-{shape}" + ("-per-token" if sae.per_token else "")


def wide(sae: SavedSae, d_out: int) -> SavedSae:
    """The same with another output width."""
    g = torch.Generator().manual_seed(6)
    skip = None if sae.W_skip is None else torch.randn(d_out, sae.d_in, generator=g) / 5
    return replace(
        sae,
        W_dec=torch.randn(sae.d_sae, d_out, generator=g) / 5,
        b_dec=torch.randn(d_out, generator=g) / 10,
        W_skip=skip,
    )


def saelens_has(sae: SavedSae) -> bool:
    """SAELens has no TopK transcoder, and scales no transcoder's output per token."""
    plain_sae = not sae.is_transcoder and sae.W_skip is None
    return plain_sae or not (sae.kind is Kind.TOPK or sae.per_token)


def sparsify_has(sae: SavedSae) -> bool:
    return sae.kind is Kind.TOPK and not sae.per_token
