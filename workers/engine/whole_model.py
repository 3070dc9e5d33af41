"""A Hugging Face model to its end: logits, also with what one place gives replaced.

Shapes: N contexts, T positions, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .language_model import Enough, Site, block_list, place, read_model, site_module, watch
from .model import ModelError
from .spread import here

Replace = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Unembedding:
    """How a direction in the residual stream changes the logits, up to one positive factor.

    A final norm divides by the size of the whole stream, which is another at each token; what is
    left of it is its gain, and where it is a LayerNorm that it takes out the mean.
    """

    gain_D: Tensor
    centred: bool
    W_VD: Tensor

    def effects(self, directions_MD: Tensor) -> Tensor:
        """[M, V]"""
        directions = directions_MD.float()
        if self.centred:
            directions = directions - directions.mean(1, keepdim=True)
        return (directions * self.gain_D).to(self.W_VD.dtype) @ self.W_VD.T


class WholeModel:
    """A causal language model with places to look at and to write to."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model, self.device = model.eval().requires_grad_(False), device
        self._blocks = block_list(model)
        self.n_layers = len(self._blocks)

    @classmethod
    def load(
        cls, folder: Path, device: torch.device, dtype: torch.dtype, room: int | None = None
    ) -> WholeModel:
        """Load from safetensors. Raises `ModelError` with a sentence where that cannot work.

        `room`: bytes of weights that may lie on the device, where that is less than all.
        """
        from transformers import AutoModelForCausalLM

        whole = cls(read_model(AutoModelForCausalLM, folder, dtype), device)
        place(whole.model, type(whole._blocks[0]), device, room)
        return whole

    @property
    def vocabulary(self) -> int:
        return int(self._head().weight.shape[0])

    def width(self) -> int:
        """Of the residual stream; a head that is narrower has a projection before it."""
        config: Any = self.model.config
        return int(config.get_text_config().hidden_size)

    @torch.no_grad()
    def logits(self, ids_NT: Tensor) -> Tensor:
        """[N, T, V], in float32."""
        found: Tensor = self.model(input_ids=ids_NT, use_cache=False).logits
        return found.to(self.device).float()

    @torch.no_grad()
    def logits_and(self, ids_NT: Tensor, sites: Sequence[Site]) -> tuple[Tensor, list[Tensor]]:
        """The logits, and what each site gave [N, T, D] on the way."""
        with self._watched(sites) as seen:
            logits = self.logits(ids_NT)
        return logits, [seen[site] for site in sites]

    @torch.no_grad()
    def activations(self, ids_NT: Tensor, sites: Sequence[Site]) -> list[Tensor]:
        """What each site gives [N, T, D]; nothing behind the deepest is computed."""
        wanted = set(sites)
        with self._watched(sites, enough=wanted) as seen:
            try:
                self.model(input_ids=ids_NT, use_cache=False)
            except Enough:
                return [seen[site] for site in sites]
        raise ModelError("The forward pass ended without passing the layer that is read.")

    @torch.no_grad()
    def logits_with(self, ids_NT: Tensor, site: Site, replace: Replace) -> Tensor:
        """The logits [N, T, V] where `replace` of what the site gives goes on in its place."""
        handle = watch(self._part(site), site, lambda value: replace(value.to(self.device)))
        try:
            return self.logits(ids_NT)
        finally:
            handle.remove()

    def unembedding(self) -> Unembedding:
        """What stands behind the last block.

        The norm is asked instead of read, because families write its gain differently: of a vector
        of signs with mean 0 and size √D it gives back gain and bias alone.
        """
        head = self._head()
        norm = self._final_norm()
        D = self.width()
        signs = torch.ones(1, 1, D, device=self.device, dtype=head.weight.dtype)
        signs[..., 1::2] = -1
        with torch.no_grad(), here(head):
            weight = head.weight.to(self.device)
            bias = norm(torch.zeros_like(signs)).float()
            gain = (norm(signs).float() - bias) * signs.float()
            constant = norm(torch.ones_like(signs)).float() - bias
        centred = float(constant.abs().max()) < 1e-2 * float(gain.abs().max())
        return Unembedding(gain.flatten().to(self.device), centred, weight)

    def _head(self) -> Any:
        head = self.model.get_output_embeddings()  # type: ignore[operator]
        if head is None:
            raise ModelError("This model has no output embedding to read logits from.")
        return head

    def _final_norm(self) -> nn.Module:
        """The last part beside the blocks that has a gain as wide as the stream."""
        D = self.width()
        found: nn.Module | None = None
        for parent in self.model.modules():
            if self._blocks in parent.children():
                for name, child in parent.named_children():
                    weight = getattr(child, "weight", None)
                    gained = isinstance(weight, Tensor) and weight.shape == (D,)
                    bare = "norm" in name.lower() and not list(child.parameters())
                    if gained or bare:
                        found = child
        return found or nn.Identity()

    def _part(self, site: Site) -> nn.Module:
        if site.layer >= self.n_layers:
            raise ModelError(
                f"The SAE belongs to layer {site.layer}, and this model has {self.n_layers} layers."
            )
        return site_module(self._blocks, site)

    @contextmanager
    def _watched(
        self, sites: Sequence[Site], enough: set[Site] | None = None
    ) -> Iterator[dict[Site, Tensor]]:
        """What the sites give while this is open; with `enough` the pass ends after these."""
        seen: dict[Site, Tensor] = {}

        def keep(site: Site, value: Tensor) -> None:
            seen[site] = value.to(self.device)
            if enough is not None and enough <= seen.keys():
                raise Enough

        with ExitStack() as hooks:
            for site in set(sites):
                handle = watch(self._part(site), site, partial(keep, site))
                hooks.callback(handle.remove)
            yield seen
