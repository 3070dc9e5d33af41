"""What a run is to do and what it reads, known before anything large is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from .activations import group_shape
from .config import ModelFacts, Plan, RunSpec
from .config import plan as settled_plan
from .language_model import settled_device
from .model import inspect
from .order import Order, Split
from .ranks import ALONE, Ranks
from .tokens import Tokens


@dataclass(frozen=True)
class Asked:
    """What a run is to do and what it reads, checked before anything large is loaded."""

    facts: ModelFacts
    plan: Plan
    tokens: Tokens
    split: Split
    groups_per_chunk: int
    device: torch.device

    @classmethod
    def by(cls, spec: RunSpec) -> Asked:
        """Raises `ModelError`, `ConfigError` or `TokenizeError`."""
        folder = inspect(spec.model_path)
        facts = ModelFacts(d_model=folder.d_model, n_layers=folder.n_layers)
        plan = settled_plan(spec.config, facts)
        tokens = Tokens.of_model(spec.tokens_path, spec.model_path)
        h, device = plan.hyperparameters, settled_device(spec.device)
        group, groups_per_chunk = group_shape(tokens, h.buffer_tokens, device)
        split = Split.of(tokens, h.held_out_tokens, group)
        return cls(facts, plan, tokens, split, groups_per_chunk, device)

    @property
    def order(self) -> Order:
        """In which the tokens are read."""
        return Order(self.split.training, self.groups_per_chunk, self.plan.data_seed)

    def on(self, ranks: Ranks = ALONE) -> Asked:
        """The same on this rank's device."""
        return replace(self, device=ranks.device(self.device))
