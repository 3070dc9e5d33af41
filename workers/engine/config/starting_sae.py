"""What a training takes over from the SAE whose weights are its first ones; no torch here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from .hyperparameters import Architecture, Hook, Hyperparameters, SkipKind, Target
from .problem import ConfigError, Problem
from .training import ModelFacts, Plan, TrainingConfig, settled_target

# Its norms are held on a scale of each layer that follows from the text: on another text it would
# keep neither its norms nor, with TopK, its choice of latents.
NO_CROSSCODER = "A crosscoder cannot be continued: each layer's scale follows from its own text."


class StartingSae(BaseModel):
    """An SAE as a training that continues it has to be set up.

    `k`: how many latents it keeps of a token, of each or on average; None where it keeps what
    exceeds zero or a threshold. `per_token`: its activations are normalized token by token.
    `skip`: None without a skip connection. `groups`: None where it is no Matryoshka SAE.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Architecture
    layer: int
    hook: Hook
    target: Target
    latent_dim: int
    k: int | None = None
    per_token: bool = False
    skip: SkipKind | None = None
    groups: int | None = None

    @classmethod
    def trained(cls, config: TrainingConfig, model: ModelFacts) -> StartingSae:
        """What a training left with these settings."""
        h, plan, kind = config.hyperparameters, Plan.of(config, model), config.architecture
        return cls(
            architecture=kind,
            layer=config.layer,
            hook=h.hook,
            target=settled_target(config),
            latent_dim=plan.d_sae,
            k=plan.k,
            per_token=h.normalize_activations == "layer_norm",
            skip=h.skip if kind is Architecture.SKIP else None,
            groups=h.matryoshka_groups if kind is Architecture.MATRYOSHKA else None,
        )

    def followed_by(self, config: TrainingConfig, sae: UUID) -> TrainingConfig:
        """The configuration with what follows from the SAE, whose id is `sae`.

        K, Matryoshka's groups and a skip connection to be learned may be other than the SAE's.
        Raises `ConfigError` with every field that says something else.
        """
        found = list(self._contradictions(config))
        if found:
            raise ConfigError(found)
        h = config.hyperparameters
        followed = h.model_copy(update=self.fixed | self._usual(h))
        return config.model_copy(update={"hyperparameters": followed, "start_from": sae})

    @property
    def fixed(self) -> dict[str, Any]:
        """Hyperparameters that cannot be others than these."""
        found: dict[str, Any] = {
            "hook": self.hook,
            "target": self.target,
            "latent_dim": self.latent_dim,
        }
        if self.per_token:
            found["normalize_activations"] = "layer_norm"
        if self.skip == "learned":
            found["skip"] = "learned"
        return found

    @property
    def unused(self) -> tuple[str, ...]:
        """Hyperparameters that mean nothing for it."""
        selects = self.k is not None
        return ("jumprelu_threshold",) if selects else ("jumprelu_threshold", "top_k_sparsity")

    def _contradictions(self, config: TrainingConfig) -> Iterator[Problem]:
        if config.architecture is not self.architecture:
            yield Problem(
                "architecture",
                f"The SAE that is continued is {self.architecture.value}; leave this out.",
            )
        if config.layer != self.layer:
            yield Problem(
                "layer", f"The SAE that is continued reads layer {self.layer}; leave this out."
            )
        h = config.hyperparameters
        for name, value in self.fixed.items():
            given = getattr(h, name)
            if name in h.model_fields_set and given not in (None, value):
                yield Problem(name, f"It is {value} of the SAE that is continued; leave this out.")
        for name in self.unused:
            if getattr(h, name) is not None:
                yield Problem(name, f"{_UNUSED[name]}; leave this empty.")
        if not self.per_token and h.normalize_activations == "layer_norm":
            yield Problem(
                "normalize_activations",
                "The SAE that is continued was not trained on activations normalized per token; "
                "choose constant_norm or none.",
            )

    def _usual(self, h: Hyperparameters) -> dict[str, Any]:
        """What is the SAE's own where nothing is asked for."""
        found: dict[str, Any] = {}
        if self.groups is not None and "matryoshka_groups" not in h.model_fields_set:
            found["matryoshka_groups"] = self.groups
        if self.k is None or h.top_k_sparsity is not None:
            return found
        if not self.architecture.over_batch:
            found["top_k_sparsity"] = 100 * self.k / self.latent_dim
        elif h.target_l0 is None:
            found["target_l0"] = float(self.k)
        return found


_UNUSED = {
    "jumprelu_threshold": "The thresholds are those of the SAE that is continued",
    "top_k_sparsity": "The SAE that is continued is no TopK SAE",
}
