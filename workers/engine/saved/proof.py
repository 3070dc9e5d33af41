"""That a written folder is the SAE it was written from: read back, and compared on a fixed batch.

Legend of shapes: B tokens, D input width, O target width, F latents, M latents a token aims at.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint import described
from .difference import DifferentSae, Reconstruction, difference
from .folder import UnreadableSae, open_sae
from .formats import Format, place_of
from .sae import Kind, SavedSae
from .tools import TOOLS, Tool

CARD = "README.md"
_SEED, _TOKENS, _AIMS, _NOISE = 0, 256, 16, 0.5
# What reading an SAE with somebody else's library may raise.
_TOOL_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


class NotProved(Exception):
    """What was written is not the SAE it was written from; the message is a sentence."""


@dataclass(frozen=True)
class Proof:
    """`max_difference` is the largest of all readers, relative to the largest value of ŷ.

    `read_by` goes after "read by". `files` has the size and SHA-256 of each file but the card,
    and `digest` is the SHA-256 of what `sha256sum` prints for them, in the order of their names.
    `l0` and `latents`: how many latents fire per token of the batch, and in all of it.
    """

    max_difference: float
    read_by: str
    files: dict[str, dict[str, Any]]
    digest: str
    l0: float
    latents: int


@torch.no_grad()
def prove(folder: Path, reference: SavedSae, format: Format) -> Proof:
    """Read a folder back, by our reader and by the tool itself where it is installed.

    Raises `NotProved`, and `OSError` where the folder cannot be read.
    """
    files = described_files(folder)
    place, (x_BD, y_BO) = place_of(format, folder), fixed_batch(reference)
    expected = reference.reconstruct(x_BD, y_BO)
    differences = [_compared("SAE Studio", expected, _by_ourselves(place, x_BD, y_BO))]
    tool = TOOLS.get(format)
    if tool and tool.version:
        name = f"{tool.package} {tool.version}"
        differences.append(_compared(name, expected, _by_tool(tool, name, place, x_BD)))
    if described_files(folder) != files:
        raise NotProved("The files changed while they were read back.")
    return Proof(
        max_difference=max(differences),
        read_by=_read_by(tool),
        files=files,
        digest=digest_of(files),
        l0=float((expected[0] > 0).sum(1).double().mean()),
        latents=int((expected[0] > 0).any(0).sum()),
    )


def fixed_batch(sae: SavedSae) -> tuple[Tensor, Tensor]:
    """x [B, D] on which latents fire, and a y [B, O] that a per-token transcoder is scaled by.

    Each token lies where x is centred, with noise that moves pre-activations by half of
    their typical distance from firing, and is pushed along the encoder until M latents fire; all
    latents have their turn, as far as the tokens go.
    """
    g = torch.Generator().manual_seed(_SEED)
    one_place = not sae.is_transcoder and sae.d_in == sae.d_out
    centre_D = sae.b_dec if one_place and not sae.per_token else torch.zeros(sae.d_in)
    norm_F = sae.W_enc.norm(dim=0).clamp_min(1e-6)
    missing_F = _missing(sae, centre_D @ sae.W_enc + sae.b_enc)
    typical = float(missing_F.abs().median()) or 1.0
    noise_BD = torch.randn(_TOKENS, sae.d_in, generator=g) * (_NOISE * typical / norm_F.median())
    order_F = torch.randperm(sae.d_sae, generator=g)
    aims_BM = order_F[torch.arange(_TOKENS * _AIMS) % sae.d_sae].view(_TOKENS, _AIMS)
    lift_BM = missing_F.clamp_min(0)[aims_BM] + typical * torch.rand(aims_BM.shape, generator=g)
    share_BM = lift_BM / norm_F.square()[aims_BM]
    x_BD = centre_D + noise_BD + torch.einsum("bm,bmd->bd", share_BM, sae.W_enc.T[aims_BM])
    if sae.per_token:
        x_BD = 3 * x_BD + 2  # normalized away again, if it is
    if one_place:
        return x_BD, x_BD
    return x_BD, 3 * torch.randn(_TOKENS, sae.d_out, generator=g) + 1


def _missing(sae: SavedSae, pre_F: Tensor) -> Tensor:
    """By how much pre-activations would have to grow for each latent to fire."""
    if sae.kind is Kind.JUMPRELU:
        assert sae.threshold is not None
        return sae.threshold - pre_F
    if sae.kind is Kind.TOPK:
        assert sae.k is not None
        return pre_F.topk(min(sae.k, sae.d_sae)).values[-1].clamp_min(0) - pre_F
    return -pre_F


def described_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of all files but the card, by their names below the folder, in order."""
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    return {name: described(folder / name) for name in names if name != CARD}


def digest_of(files: dict[str, dict[str, Any]]) -> str:
    lines = "".join(f"{found['sha256']}  {name}\n" for name, found in files.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def _by_ourselves(place: Path, x_BD: Tensor, y_BO: Tensor) -> Reconstruction:
    try:
        sae = open_sae(place)
        if sae.W_enc.shape[0] != x_BD.shape[1] or sae.d_out != y_BO.shape[1]:
            raise NotProved("The SAE that was written has other widths than it was written from.")
    except UnreadableSae as error:
        raise NotProved(str(error)) from error
    return sae.reconstruct(x_BD, x_BD if y_BO is x_BD else y_BO)


def _by_tool(tool: Tool, name: str, place: Path, x_BD: Tensor) -> Reconstruction:
    try:
        return tool.read(place, x_BD)
    except _TOOL_ERRORS as error:
        reason = f"{type(error).__name__}: {error}"
        raise NotProved(f"{name} cannot read the SAE that was written ({reason}).") from error


def _compared(reader: str, expected: Reconstruction, found: Reconstruction) -> float:
    try:
        return difference(expected, found)
    except DifferentSae as error:
        raise NotProved(f"Read by {reader}, the SAE that was written {error}.") from error


def _read_by(tool: Tool | None) -> str:
    if tool is None:
        return "SAE Studio"
    if tool.version is None:
        return f"SAE Studio; {tool.package} is not installed"
    return f"{tool.package} {tool.version}"
