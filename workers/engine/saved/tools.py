"""Other people's libraries reading an SAE, as their users would.

They are imported here only, and when they are needed: SAELens takes ten seconds and a gigabyte.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

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
    coder = import_sparsify().SparseCoder.load_from_disk(place, device="cpu")
    found = coder(x_BD)
    z_BF = x_BD.new_zeros(len(x_BD), coder.num_latents)
    return z_BF.scatter_(1, found.latent_indices, found.latent_acts), found.sae_out


def import_sparsify() -> Any:
    """The module, with its decoder in plain PyTorch.

    The Triton one is the default where Triton is installed, and needs a GPU; which one to take is
    settled by the import, which prints it.
    """
    given = os.environ.get(_EAGER)
    os.environ[_EAGER] = "1"
    try:
        with redirect_stdout(sys.stderr):
            return import_module("sparsify")
    finally:
        if given is None:
            del os.environ[_EAGER]
        else:
            os.environ[_EAGER] = given


TOOLS = {
    Format.SAELENS: Tool("sae-lens", _by_saelens),
    Format.SPARSIFY: Tool("eai-sparsify", _by_sparsify),
}
