"""What was made smaller because memory did not suffice, told as it happens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .config import Plan
from .events import Warned

if TYPE_CHECKING:
    from .forward import Forward
    from .micro import Micro


class Shortage:
    """Looks after every step. Each attempt tells anew: its page shows no older warnings."""

    def __init__(self, plan: Plan, micro: Micro, forward: Forward) -> None:
        self._tokens, self._micro, self._forward = plan.hyperparameters.batch_size, micro, forward
        self._told_count: int = 1
        self._told_contexts: int | None = None

    def look(self, step: int) -> Iterator[Warned]:
        """What has become smaller since the last look; comparisons of two numbers otherwise."""
        count, contexts = self._micro.count, self._forward.most_contexts
        if count != self._told_count:
            self._told_count = count
            message = (
                f"Memory does not suffice for a step over {self._tokens:,} tokens at once: each is "
                f"computed in {count:,} micro-batches of {-(-self._tokens // count):,} tokens, "
                "whose gradients are added up. A smaller batch size or latent dimension would be "
                "faster."
            )
            yield Warned(step=step, code="micro_batches", message=message)
        if contexts != self._told_contexts:
            self._told_contexts = contexts
            message = (
                "Memory does not suffice for the language model's forward passes: they are made "
                f"over {contexts:,} {'context' if contexts == 1 else 'contexts'} at once. "
                "A smaller buffer leaves more to them."
            )
            yield Warned(step=step, code="forward_passes", message=message)
