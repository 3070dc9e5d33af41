"""Forward passes over groups of contexts, by a language model that is loaded for the first one."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .language_model import LanguageModel
from .order import Groups
from .tokens import Tokens


class Forward:
    """Computes the activations of whole groups, BOS and padding dropped, in the `held` format.

    A group is one forward pass, always the same one: its bits do not depend on what is read before
    or after it.
    """

    def __init__(
        self,
        load: Callable[[], LanguageModel],
        tokens: Tokens,
        groups: Groups,
        device: torch.device,
        held: torch.dtype,
    ) -> None:
        self._load, self._tokens, self._groups = load, tokens, groups
        self._device, self._held = device, held
        self._model: LanguageModel | None = None
        self._most_contexts: int | None = None
        self.loading_seconds = 0.0

    def load(self) -> LanguageModel:
        """The model, loaded now if it was not. Raises `ModelError`."""
        if self._model is None:
            begun = time.perf_counter()
            self._model = self._load()
            self._model.most_contexts = self._most_contexts
            self.loading_seconds = time.perf_counter() - begun
        return self._model

    @property
    def most_contexts(self) -> int | None:
        """Contexts of a pass where memory has not sufficed for a group; None where it has."""
        return self._model.most_contexts if self._model else self._most_contexts

    def go_on(self, most_contexts: int | None) -> None:
        """Make no larger passes than a run that was interrupted made: their bits are the same."""
        self._most_contexts = most_contexts

    def group(self, number: int) -> list[Tensor]:
        """Activations [tokens of the group, D] on the device, for every site of the model."""
        contexts = self._groups.whole(number)
        ids = torch.from_numpy(self._tokens.ids[contexts].astype(np.int64)).to(self._device)
        keep = torch.from_numpy(self._tokens.usable(contexts)).to(self._device)
        read = (captured.to(self._device) for captured in self.load().capture(ids))
        return [captured[keep].to(self._held) for captured in read]
