"""What is trained: architecture, layer and hyperparameters, checked and settled for one model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from .fields import show
from .hyperparameters import FIELDS, MULTIPLE_DEFAULT, Architecture, Hook, Hyperparameters, Target

_THRESHOLD = 0.5  # of JumpReLU, without a target to start from
# Declared after runs had been trained: at their defaults they are no part of a digest, so that the
# checkpoints of those runs still belong to their configuration.
_LATER = ("matryoshka_groups", "final_p", "skip", "layers", "data_seed")
# Says how a run is computed and not what is trained: it may change from one attempt to the next.
_HOW = ("gpus",)
# K of what selects over a batch where nothing names it: as sparse as SAEs usually are, and of a
# small dictionary so few that they differ from token to token.
_K, _LATENTS_PER_K = 64, 16


class ModelFacts(BaseModel):
    """What must be known of a language model before a training on it can be checked."""

    model_config = ConfigDict(frozen=True)

    d_model: int = Field(gt=0)
    n_layers: int = Field(gt=0)


class TrainingConfig(BaseModel):
    """What is trained: an architecture at a layer with its hyperparameters.

    `start_from`: id of the SAE whose weights are the first ones; null for random ones. Then the
    rest agrees with it (`StartingSae.followed_by`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Architecture
    layer: int = Field(ge=0, description="Index of the decoder block that is read, from 0.")
    hyperparameters: Hyperparameters = Field(default_factory=Hyperparameters)
    start_from: UUID | None = None

    def digest(self) -> str:
        """SHA-256 over the canonical JSON; a checkpoint names the config it belongs to."""
        found = self.model_dump(mode="json")
        h = found["hyperparameters"]
        for name in _LATER:
            if h[name] == FIELDS[name].default:
                del h[name]
        if self.start_from is None:
            del found["start_from"]
        for name in _HOW:
            del h[name]
        text = json.dumps(found, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Plan:
    """A `TrainingConfig` with every automatic value settled for one model.

    `layers` are the blocks that are read: one, or those of a crosscoder, whose activations stand
    side by side in `d_in` and `d_out` values, `width` of each. `k` is how many latents are kept of
    a token, of each or on average; None where a penalty rules.
    """

    architecture: Architecture
    hyperparameters: Hyperparameters
    layer: int
    layers: tuple[int, ...]
    target_layer: int
    target_hook: Hook
    d_in: int
    d_out: int
    d_sae: int
    k: int | None
    sparsity_warmup_steps: int
    lr_warmup_steps: int
    lr_decay_steps: int
    dead_window_tokens: int
    first_threshold: float
    start_l0: float | None

    @classmethod
    def of(cls, config: TrainingConfig, model: ModelFacts) -> Plan:
        """Settle what was left open; `checks.check` comes first."""
        h, target = config.hyperparameters, settled_target(config)
        total_tokens = h.num_steps * h.batch_size
        d_sae = h.latent_dim or MULTIPLE_DEFAULT * model.d_model
        layers = settled_layers(config)
        return cls(
            architecture=config.architecture,
            hyperparameters=h,
            layer=config.layer,
            layers=layers,
            target_layer=config.layer + (target == "next_layer"),
            target_hook="mlp_out" if target == "mlp_out" else h.hook,
            d_in=len(layers) * model.d_model,
            d_out=len(layers) * model.d_model,
            d_sae=d_sae,
            k=settled_k(config, d_sae),
            sparsity_warmup_steps=_sparsity_warmup(config),
            lr_warmup_steps=(
                min(1000, h.num_steps // 50) if h.lr_warmup_steps is None else h.lr_warmup_steps
            ),
            lr_decay_steps=round(h.num_steps * h.lr_decay_fraction),
            dead_window_tokens=h.dead_window_tokens
            or max(h.batch_size, min(10_000_000, total_tokens // 10)),
            first_threshold=_THRESHOLD if h.jumprelu_threshold is None else h.jumprelu_threshold,
            start_l0=_start_l0(config),
        )

    @property
    def top_k(self) -> int | None:
        """K of the TopK that takes the place of the architecture's own activation."""
        return None if self.architecture.over_batch else self.k

    @property
    def parameters(self) -> int:
        """Numbers that are trained."""
        own = {Architecture.JUMPRELU: 1, Architecture.GATED: 2}.get(self.architecture, 0)
        skip = self.d_out * self.d_in if self.learns_skip else 0
        return self.d_sae * (self.d_in + self.d_out + 1 + own) + self.d_out + skip

    @property
    def learns_skip(self) -> bool:
        """Whether its skip connection is a matrix of its own."""
        return self.architecture is Architecture.SKIP and self.hyperparameters.skip == "learned"

    @property
    def data_seed(self) -> int:
        """Decides in which order the tokens are read."""
        h = self.hyperparameters
        return h.seed if h.data_seed is None else h.data_seed

    @property
    def total_tokens(self) -> int:
        return self.hyperparameters.num_steps * self.hyperparameters.batch_size

    @property
    def has_own_target(self) -> bool:
        """Whether a second place is read because it is what is reconstructed."""
        return (self.target_layer, self.target_hook) != (self.layer, self.hyperparameters.hook)

    @property
    def width(self) -> int:
        """Of the activations at one place."""
        return self.d_in // len(self.layers)

    @property
    def deepest_layer(self) -> int:
        return max(*self.layers, self.target_layer)


def settled_layers(config: TrainingConfig) -> tuple[int, ...]:
    """The blocks that are read, ascending."""
    if not config.architecture.spans:
        return (config.layer,)
    return config.hyperparameters.layers or (config.layer, config.layer + 1)


def places(layers: Sequence[int]) -> str:
    """Blocks in words: `layer 3`, or `layers 3, 5`."""
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {show(layers)}"


def settled_target(config: TrainingConfig) -> Target:
    h = config.hyperparameters
    if h.target is not None:
        return h.target
    if not config.architecture.moves:
        return "same_layer"
    return "mlp_out" if h.hook == "mlp_in" else "next_layer"


def settled_k(config: TrainingConfig, d_sae: int) -> int | None:
    """How many latents are kept of a token, of each or on average; None where a penalty rules."""
    h = config.hyperparameters
    if h.top_k_sparsity is not None:
        return round(d_sae * h.top_k_sparsity / 100)
    if not config.architecture.over_batch:
        return None
    if h.target_l0 is not None:
        return round(h.target_l0)
    return max(1, min(_K, d_sae // _LATENTS_PER_K))


def _start_l0(config: TrainingConfig) -> float | None:
    """L0 at the start, where θ follows from it. From above the target L0 falls to it fast; from
    below, latents that are off come back slowly, whatever the penalty's weight."""
    h = config.hyperparameters
    automatic = config.architecture is Architecture.JUMPRELU and h.jumprelu_threshold is None
    if not automatic or h.top_k_sparsity is not None or h.target_l0 is None:
        return None
    if config.start_from is not None:  # θ is the SAE's
        return None
    return 2 * h.target_l0


def _sparsity_warmup(config: TrainingConfig) -> int:
    h = config.hyperparameters
    if h.sparsity_warmup_steps is not None:
        return h.sparsity_warmup_steps
    if config.start_from is not None:  # it was trained under a penalty, and is as sparse as that
        return 0
    whole = config.architecture is Architecture.JUMPRELU and h.target_l0 is None
    return h.num_steps if whole else h.num_steps // 20
