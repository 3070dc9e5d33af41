"""How a training is set up that continues a saved SAE, and whether one can."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from torch import Tensor

from ..config import WITHOUT_RANGES, Architecture, ConfigError, Hyperparameters, StartingSae
from ..config.hyperparameters import SkipKind, Target
from ..config.starting_sae import NO_CROSSCODER
from ..config.training import TrainingConfig, settled_k
from .hook_names import lens_name
from .sae import Kind, SavedSae

# Numbers that are one and rounding, in whatever format they were kept.
_ALIKE = 1e-2


class CannotContinue(Exception):
    """No training here goes on from the SAE; the message is a sentence."""


def starting(sae: SavedSae) -> StartingSae:
    """Raises `CannotContinue`."""
    if sae.across:
        raise CannotContinue(NO_CROSSCODER)
    architecture, target = _architecture(sae), _target(sae)
    assert sae.reads is not None
    if sae.d_in != sae.d_out:
        raise CannotContinue(
            f"It reads {sae.d_in} values and writes {sae.d_out}; trainings here write as many as "
            "they read."
        )
    told = _hyperparameters(sae)
    k = sae.k
    if architecture.over_batch:
        config = TrainingConfig(architecture=architecture, layer=0, hyperparameters=told)
        k = settled_k(config, sae.d_sae)
    if k is not None and not _alike(row_norms(sae.W_dec)):
        raise CannotContinue(
            "The rows of this TopK SAE's decoder have different norms. Trainings here keep them "
            "at one, and it would choose other latents then."
        )
    return StartingSae(
        architecture=architecture,
        layer=sae.reads.layer,
        hook=sae.reads.hook,
        target=target,
        latent_dim=sae.d_sae,
        k=None if k is None else min(k, sae.d_sae),
        per_token=sae.per_token,
        skip=_skip(sae),
        groups=told.matryoshka_groups if architecture is Architecture.MATRYOSHKA else None,
    )


def has_one_threshold(sae: SavedSae) -> bool:
    return sae.threshold is not None and _alike(sae.threshold.double())


def row_norms(W_dec: Tensor) -> Tensor:
    """[F], in float64; the mean of the others where a row is zeros."""
    norm_F: Tensor = W_dec.norm(dim=1, dtype=W_dec.double().dtype)
    filled = norm_F > 0
    usual = norm_F[filled].mean() if filled.any() else norm_F.new_ones(())
    return norm_F.where(filled, usual)


def _alike(value_F: Tensor) -> bool:
    return bool((value_F.max() - value_F.min()) <= _ALIKE * value_F.abs().max())


def _architecture(sae: SavedSae) -> Architecture:
    """What the metadata says it was trained as, where that computes what the file does."""
    if sae.is_transcoder or sae.W_skip is not None:
        if sae.kind is Kind.JUMPRELU:
            raise CannotContinue("No architecture here is a transcoder with JumpReLU.")
        return Architecture.TRANSCODER if sae.W_skip is None else Architecture.SKIP
    as_trained = sae.metadata.get("trained_as")
    if sae.kind is Kind.RELU and as_trained == Architecture.P_ANNEALED:
        return Architecture.P_ANNEALED
    if sae.kind is not Kind.JUMPRELU:
        return Architecture.STANDARD
    if as_trained == Architecture.GATED:
        return Architecture.GATED
    if as_trained in (Architecture.BATCHTOPK, Architecture.MATRYOSHKA) and has_one_threshold(sae):
        return Architecture(str(as_trained))
    return Architecture.JUMPRELU


def _target(sae: SavedSae) -> Target:
    reads, writes = sae.reads, sae.writes
    if reads is None or writes is None:
        raise CannotContinue("Its folder does not say which layer of the model it reads.")
    if reads == writes:
        return "same_layer"
    if (reads.layer, reads.hook, writes.hook) == (writes.layer, "mlp_in", "mlp_out"):
        return "mlp_out"
    if (reads.layer + 1, reads.hook) == (writes.layer, writes.hook):
        return "next_layer"
    raise CannotContinue(
        f"It reads {lens_name(reads)} and writes {lens_name(writes)}. Trainings here write what "
        "they read, the same of the next layer, or an MLP's output from its input."
    )


def _skip(sae: SavedSae) -> SkipKind | None:
    if sae.W_skip is None:
        return None
    return "identity" if sae.skips_by_identity else "learned"


def _hyperparameters(sae: SavedSae) -> Hyperparameters:
    """Those it says it was trained with; the defaults where it says none that can be."""
    told: Any = sae.metadata.get("hyperparameters")
    try:
        return Hyperparameters.model_validate(told or {}, context=dict(WITHOUT_RANGES))
    except (ValidationError, ConfigError):
        return Hyperparameters()
