"""What a run reads of which model, and how: everything that its activations are a function of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from .activations import Reader
from .cache import CacheFolder, Identity, Manifest, model_digest
from .config import Plan, RunSpec
from .forward import Forward
from .language_model import LanguageModel, Site, dtype_name, numerics
from .order import Groups
from .shelf import Shelf
from .tokens import Tokens


@dataclass(frozen=True)
class Reading:
    """The model computes in `computed`; what it gives is rounded to `held` and kept so."""

    spec: RunSpec
    plan: Plan
    tokens: Tokens
    groups: Groups
    device: torch.device
    computed: torch.dtype
    held: torch.dtype
    model_room: int | None = None

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where the model is read: for the input, and for the target if that is elsewhere."""
        plan = self.plan
        read = tuple(Site(layer, plan.hyperparameters.hook) for layer in plan.layers)
        target = Site(plan.target_layer, plan.target_hook)
        return (*read, target) if plan.has_own_target else read

    @property
    def bytes_per_token(self) -> int:
        """What one token takes, at all sites together."""
        return len(self.sites) * self.plan.width * self.held.itemsize

    @property
    def cache(self) -> CacheFolder | None:
        """Where the run may keep what it reads."""
        given = self.spec.cache
        return CacheFolder(given.folder, given.limit_bytes) if given else None

    def shelf(self, folder: CacheFolder) -> Shelf:
        """What the folder holds of this, and where more of it goes. Raises `OSError`."""
        return Shelf(folder, self._manifests, self.held)

    def stored(self, folder: CacheFolder) -> set[int]:
        """The groups the folder holds of every site; nothing is made there."""
        found = [folder.groups(manifest.identity) for manifest in self._manifests]
        return set.intersection(*found)

    def reader(self, shelf: Shelf | None) -> Reader:
        """Reads from the shelf and from the model, which is not loaded before it is needed."""
        forward = Forward(self._load, self.tokens, self.groups, self.device, self.held)
        beside = self.plan.architecture.spans
        return Reader(self.tokens, self.groups, forward, self.device, shelf, beside)

    def _load(self) -> LanguageModel:
        path = self.spec.model_path
        return LanguageModel.load(path, self.sites, self.device, self.computed, self.model_room)

    @cached_property
    def _manifests(self) -> list[Manifest]:
        """Of the entry of every site."""
        model = model_digest(self.spec.model_path)
        return [
            Manifest(
                identity=Identity(
                    model=model,
                    tokens=self.tokens.digest,
                    hook=site.hook,
                    layer=site.layer,
                    held=dtype_name(self.held),
                    computed=dtype_name(self.computed),
                    group_contexts=self.groups.size,
                    machine=numerics(self.device),
                ),
                model=self.spec.model_name,
                dataset=self.spec.dataset_name,
                context_length=self.tokens.manifest.context_length,
                n_groups=len(self.groups),
                n_tokens=self.tokens.manifest.n_usable,
                bytes_per_token=self.plan.width * self.held.itemsize,
            )
            for site in self.sites
        ]
