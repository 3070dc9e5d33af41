"""Other people's libraries reading an SAE, as their users would.

They are imported here only, and when they are needed: SAELens takes ten seconds and a gigabyte.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

from .difference import Reconstruction
from .formats import Format

_EAGER = "SPARSIFY_DISABLE_TRITON"


@dataclass(frozen=True)
class Tool:
    """A package, and how it computes latents [B, F] and reconstructions [B, O]."""

    package: str
    read: Callable[[Path, Tensor], Reconstruction]

    @property
    def version(self) -> str | None:
        """None where it is not installed."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None


@torch.no_grad()
def _by_saelens(place: Path, x_BD: Tensor) -> Reconstruction:
    from sae_lens import SAE

    sae = SAE.load_from_disk(place, device="cpu")
    return sae.encode(x_BD), sae(x_BD)


@torch.no_grad()
def _by_sparsify(place: Path, x_BD: Tensor) -> Reconstruction:
    with redirect_stdout(sys.stderr):  # it prints which decoder it took
        given = os.environ.get(_EAGER)
        # Its Triton decoder needs a GPU, and which one to take is settled by the import.
        os.environ[_EAGER] = "1"
        try:
            from sparsify import SparseCoder
        finally:
            os.environ.pop(_EAGER) if given is None else os.environ.update({_EAGER: given})
    coder = SparseCoder.load_from_disk(place, device="cpu")
    found = coder(x_BD)
    z_BF = x_BD.new_zeros(len(x_BD), coder.num_latents)
    return z_BF.scatter_(1, found.latent_indices, found.latent_acts), found.sae_out


TOOLS = {
    Format.SAELENS: Tool("sae-lens", _by_saelens),
    Format.SPARSIFY: Tool("eai-sparsify", _by_sparsify),
}
