"""What the language model loses when the SAE's reconstruction goes on in the stream's place.

Per token, with p the model's own next-token distribution:

    ce      −log p(next token)                 clean, with the reconstruction, with zeros
    kl      KL(p ‖ p')                         with the reconstruction, with zeros
    ce_recovered = (ce_zero − ce_spliced) / (ce_zero − ce_clean)
    kl_recovered = (kl_zero − kl_spliced) / kl_zero

BOS and padding keep the model's own activations and are not counted: an SAE is never trained on
them. A transcoder is put in the place of what it computes: its output replaces what the model has
where it writes, from what the model has where it reads.

Shapes: N contexts, T positions, D and O widths, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..language_model import Site
from ..saved import SavedSae
from ..whole_model import WholeModel

_NAMES = ("ce_clean", "ce_spliced", "ce_zero", "kl_spliced", "kl_zero")
# Rows of logits that are compared at a time: each is as long as the vocabulary.
_ROWS = 256


@dataclass
class Splice:
    """Sums over tokens, and over contexts for the standard errors."""

    _sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_NAMES, 0.0))
    _per_context: list[tuple[float, float, float]] = field(default_factory=list)
    _tokens: int = 0
    _kl_tokens: int = 0

    @torch.no_grad()
    def add(
        self,
        model: WholeModel,
        sae: SavedSae,
        ids_NT: Tensor,
        usable_NT: Tensor,
        real_NT: Tensor,
        beat: Callable[[], object],
    ) -> list[Tensor]:
        """Add contexts. `usable` are the positions an SAE sees, `real` those that are no padding.

        Returns what the model gave where the SAE reads and writes, [N, T, D] and [N, T, O].
        """
        reads, writes = places(sae)
        clean_NTV, held = model.logits_and(ids_NT, (reads, writes))
        beat()
        counted_NT = usable_NT[:, :-1] & real_NT[:, 1:]
        tokens = Compared(clean_NTV, ids_NT, usable_NT, counted_NT)
        whole = y_hat(sae, held[0], held[1], usable_NT)
        spliced = tokens.with_logits(model.logits_with(ids_NT, writes, lambda _: whole))
        beat()
        zero = tokens.with_logits(model.logits_with(ids_NT, writes, torch.zeros_like))
        beat()
        clean_ce = tokens.clean_ce
        found = (clean_ce, spliced[0], zero[0], spliced[1], zero[1])
        for name, values in zip(_NAMES, found, strict=True):
            self._sums[name] += float(values.double().sum())
        self._kl_tokens += int(usable_NT.sum())
        self._tokens += int(counted_NT.sum())
        self._keep_contexts(counted_NT, clean_ce, spliced[0], zero[0])
        return held

    def _keep_contexts(self, counted_NT: Tensor, *ces: Tensor) -> None:
        starts = [0, *counted_NT.sum(1).cumsum(0).tolist()]
        for start, end in pairwise(starts):
            if end > start:
                sums = [float(ce[start:end].double().sum()) for ce in ces]
                self._per_context.append((sums[0], sums[1], sums[2]))

    def read(self) -> dict[str, Any]:
        s = {
            name: total / (self._kl_tokens if name.startswith("kl") else self._tokens)
            for name, total in self._sums.items()
        }
        lost, kl_zero = s["ce_zero"] - s["ce_clean"], s["kl_zero"]
        return {
            **s,
            "ce_recovered": (s["ce_zero"] - s["ce_spliced"]) / lost if lost else None,
            "ce_recovered_error": self._error(),
            "kl_recovered": (kl_zero - s["kl_spliced"]) / kl_zero if kl_zero else None,
            "splice_tokens": self._tokens,
        }

    def _error(self) -> float | None:
        """The standard error of ce_recovered, contexts taken as independent (delta method)."""
        n = len(self._per_context)
        if n < 2:
            return None
        c = torch.tensor(self._per_context, dtype=torch.float64)
        lost, left = c[:, 2] - c[:, 0], c[:, 1] - c[:, 0]
        if not float(lost.sum()):
            return None
        ratio = left.sum() / lost.sum()
        residual = left - ratio * lost
        return float(math.sqrt(n / (n - 1) * float(residual.square().sum())) / abs(lost.sum()))


class Compared:
    """Clean logits, and what others cost beside them; a few rows at a time."""

    def __init__(
        self, clean_NTV: Tensor, ids_NT: Tensor, usable_NT: Tensor, counted_NT: Tensor
    ) -> None:
        self._clean, self._ids = clean_NTV, ids_NT
        self._usable, self._counted = usable_NT, counted_NT
        self.clean_ce = self._ce(clean_NTV)

    def with_logits(self, logits_NTV: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy at the counted positions, KL at the usable ones; context by context."""
        return self._ce(logits_NTV), self._kl(logits_NTV)

    def _ce(self, logits_NTV: Tensor) -> Tensor:
        rows, next_ids = logits_NTV[:, :-1][self._counted], self._ids[:, 1:][self._counted]
        parts = zip(torch.split(rows, _ROWS), torch.split(next_ids, _ROWS), strict=True)
        return torch.cat([functional.cross_entropy(r, i, reduction="none") for r, i in parts])

    def _kl(self, logits_NTV: Tensor) -> Tensor:
        own, others = self._clean[self._usable], logits_NTV[self._usable]
        found = []
        for p, q in zip(torch.split(own, _ROWS), torch.split(others, _ROWS), strict=True):
            log_p, log_q = p.log_softmax(-1), q.log_softmax(-1)
            found.append((log_p.exp() * (log_p - log_q)).sum(-1))
        return torch.cat(found)


def places(sae: SavedSae) -> tuple[Site, Site]:
    """Where it reads and where it writes. Raises `ValueError` where its folder does not say."""
    if sae.reads is None or sae.writes is None:
        raise ValueError("The SAE's folder does not say which layer of the model it reads.")
    return sae.reads, sae.writes


def y_hat(sae: SavedSae, x_NTD: Tensor, y_NTO: Tensor, usable_NT: Tensor) -> Tensor:
    """The model's own activations with the reconstruction at the usable positions, in its dtype."""
    x_BD = x_NTD[usable_NT].float()
    y_BO = x_BD if sae.reads == sae.writes else y_NTO[usable_NT].float()
    whole = y_NTO.clone()
    whole[usable_NT] = sae.reconstruct(x_BD, y_BO)[1].to(whole.dtype)
    return whole
