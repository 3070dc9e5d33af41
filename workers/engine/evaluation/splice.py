"""What the language model loses when the SAE's reconstruction goes on in the stream's place.

Per token, with p the model's own next-token distribution:

    ce      −log p(next token)                 clean, with the reconstruction, with zeros
    kl      KL(p ‖ p')                         with the reconstruction, with zeros
    ce_recovered = (ce_zero − ce_spliced) / (ce_zero − ce_clean)
    kl_recovered = (kl_zero − kl_spliced) / kl_zero

BOS and padding keep the model's own activations where the reconstruction goes in, and are not
counted: an SAE is never trained on them. Zeros go in everywhere, BOS too, as SAELens has it: the
measure is of a place that carries nothing at all. A transcoder is put in the place of what it
computes: its output replaces what the model has where it writes, from what the model has where it
reads.

A crosscoder is put in the place of one layer at a time, with what it gives for that layer from the
model's own activations at all of its layers; `by_layer` has each, and the figures without a layer
are those of its last one. Only there has the model computed everything that the crosscoder reads:
at an earlier layer its reconstruction knows what the later blocks will make of the stream, so a
figure says how well that layer is reconstructed, and not that the model could run so. All layers at
once are not replaced: the last one's reconstruction would hide the others.

Shapes: N contexts, T positions, D and O widths, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..language_model import Site
from ..opened import beside
from ..saved import SavedSae
from ..whole_model import WholeModel

_NAMES = ("ce_clean", "ce_spliced", "ce_zero", "kl_spliced", "kl_zero")
# Logits that are compared at a time: of this size the C library uses the same memory again and
# again; larger ones would be fetched from the kernel, cleared, each time.
_BYTES = 24 * 1024 * 1024
# Of which the latents may lie in memory at a time.
_TOKENS = 512


@dataclass
class _Place:
    """Sums of one place over tokens, and over contexts for the standard errors."""

    _sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_NAMES, 0.0))
    _per_context: list[tuple[float, float, float]] = field(default_factory=list)
    _tokens: int = 0
    _kl_tokens: int = 0

    def add(
        self, counted_NT: Tensor, usable_NT: Tensor, ces: list[Tensor], kls: list[Tensor]
    ) -> None:
        """Cross-entropies at the counted positions; KL [N, T]."""
        for name, values in zip(_NAMES, (*ces, *kls), strict=True):
            self._sums[name] += float(values.double().sum())
        self._kl_tokens += int(usable_NT.sum())
        self._tokens += int(counted_NT.sum())
        self._keep_contexts(counted_NT, *ces)

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


class Splice:
    """What it costs at every place that an SAE writes to."""

    def __init__(self) -> None:
        self._places: dict[Site, _Place] = {}

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
        reads, writes = sae.reads, sae.writes
        assert reads is not None
        assert writes is not None
        clean_NTV, held = model.logits_and(ids_NT, sae.across or (reads, writes))
        if sae.across:
            held = [beside(held)] * 2
        beat()
        counted_NT = usable_NT[:, :-1] & real_NT[:, 1:]
        log_p_NTV = _log_softmax_(clean_NTV)
        clean_ce = _ce(log_p_NTV, ids_NT)[counted_NT]
        whole = y_hat(sae, held[0], held[1], usable_NT)
        parts = whole.chunk(sae.layers, -1)
        for site, part in zip(sae.across or (writes,), parts, strict=True):
            given = partial(_given, part.contiguous())
            ces, kls = [clean_ce], []
            for replace in (given, torch.zeros_like):
                beat()
                log_q_NTV = _log_softmax_(model.logits_with(ids_NT, site, replace))
                ces.append(_ce(log_q_NTV, ids_NT)[counted_NT])
                kls.append(_kl(log_p_NTV, log_q_NTV)[usable_NT])
                beat()
            self._places.setdefault(site, _Place()).add(counted_NT, usable_NT, ces, kls)
        return held

    def read(self) -> dict[str, Any]:
        """Of the last place; with several, `by_layer` has each."""
        found = [{"layer": site.layer, **place.read()} for site, place in self._places.items()]
        last = {name: value for name, value in found[-1].items() if name != "layer"}
        return last if len(found) == 1 else last | {"by_layer": found}


def _given(instead_NTO: Tensor, _: Tensor) -> Tensor:
    return instead_NTO


def _log_softmax_(logits_NTV: Tensor) -> Tensor:
    """In place: each of these is as large as a model's whole answer."""
    for rows in torch.split(logits_NTV.flatten(0, 1), _rows(logits_NTV)):
        rows.sub_(rows.logsumexp(-1, keepdim=True))
    return logits_NTV


def _ce(log_q_NTV: Tensor, ids_NT: Tensor) -> Tensor:
    """[N, T − 1], of the token that follows each."""
    return -log_q_NTV[:, :-1].gather(-1, ids_NT[:, 1:, None])[..., 0]


def _kl(log_p_NTV: Tensor, log_q_NTV: Tensor) -> Tensor:
    """KL(p ‖ q) [N, T]."""
    size = _rows(log_p_NTV)
    parts = zip(
        torch.split(log_p_NTV.flatten(0, 1), size),
        torch.split(log_q_NTV.flatten(0, 1), size),
        strict=True,
    )
    found = torch.cat([(p.exp() * (p - q)).sum(-1) for p, q in parts])
    return found.view(log_p_NTV.shape[:2])


def _rows(logits_NTV: Tensor) -> int:
    return max(1, _BYTES // (4 * logits_NTV.shape[-1]))


def y_hat(sae: SavedSae, x_NTD: Tensor, y_NTO: Tensor, usable_NT: Tensor) -> Tensor:
    """The model's own activations with the reconstruction at the usable positions, in its dtype."""
    x_BD = x_NTD[usable_NT].float()
    one_place = sae.reads == sae.writes
    y_BO = x_BD if one_place else y_NTO[usable_NT].float()
    whole = y_NTO.clone()
    pieces = zip(torch.split(x_BD, _TOKENS), torch.split(y_BO, _TOKENS), strict=True)
    y_hat_BO = torch.cat([sae.reconstruct(x, x if one_place else y)[1] for x, y in pieces])
    whole[usable_NT] = y_hat_BO.to(whole.dtype)
    return whole
