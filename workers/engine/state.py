"""Everything of a run that changes from step to step, and its way into a checkpoint and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from .activations import Activations
from .config import Plan
from .config.hyperparameters import Normalization
from .dead import DeadLatents
from .diagnosis import Diagnosis
from .metrics import Window
from .micro import Micro
from .normalize import Normalizer, Scale
from .optimizer import Optimizer
from .order import Position
from .ranks import ALONE, WHOLE, Ranks
from .sae import Sae, build, spread, start_at
from .saved import SavedSae
from .schedule import Penalty
from .start import take_over

Tensors = dict[str, Tensor]
ESTIMATE_TOKENS = 32_768
# On which the penalty of an SAE that is continued is weighed.
_WEIGHED_TOKENS = 512


class _Part(Protocol):
    def state(self) -> tuple[Tensors, dict[str, Any]]: ...

    def restore(self, tensors: Tensors, numbers: dict[str, Any]) -> None: ...


@dataclass
class State:
    """A run after `step` finished steps. `normalizer` is set before the first one.

    Of several ranks it holds what belongs to this one's latents; all else is the same on every one.
    """

    sae: Sae
    optimizer: Optimizer
    penalty: Penalty
    dead: DeadLatents
    window: Window
    normalizer: Normalizer
    diagnosis: Diagnosis
    start_l0: float | None = None
    micro: Micro = field(default_factory=Micro)
    step: int = 0
    position: Position = field(default_factory=Position)
    last_loss: float | None = None
    last_fvu: float | None = None

    @classmethod
    def fresh(
        cls,
        plan: Plan,
        device: torch.device,
        products: torch.dtype | None = None,
        ranks: Ranks = ALONE,
    ) -> State:
        """All but the estimates on data; see `settle`. A step multiplies in `products`."""
        h = plan.hyperparameters
        sae = build(plan, device, products, ranks)
        window_tokens = plan.dead_window_tokens
        return cls(
            sae=sae,
            optimizer=Optimizer(sae.weights, h, ranks),
            penalty=Penalty(plan, sae.activation.penalty, device),
            dead=DeadLatents(plan.d_sae, window_tokens, h.dead_neuron_threshold, device, ranks),
            window=Window(plan.d_out, sae.has_skip, device, sae.layers),
            normalizer=Normalizer(
                h.normalize_activations, _shared(sae, h.normalize_activations), layers=sae.layers
            ),
            diagnosis=Diagnosis(plan, sae.weights.get("threshold"), ranks),
            start_l0=plan.start_l0,
            micro=Micro(ranks),
        )

    def settle(self, first: Activations, start: SavedSae | None = None) -> None:
        """Estimate the normalization on the first chunk and centre the SAE on it.

        Or have it compute what `start` computes, whatever the normalization.
        """
        method, shared = self.normalizer.method, self.normalizer.shared
        some = next(first.split(ESTIMATE_TOKENS))
        self.normalizer = Normalizer.estimate(method, shared, some.x, some.y, self.sae.layers)
        if start is not None:
            take_over(self.sae, start, self.normalizer)
            self._weigh(next(some.split(_WEIGHED_TOKENS)))
            return
        normalized = self.normalizer(some.x, some.y)
        start_at(self.sae, normalized.x, normalized.y, self.start_l0)
        for name in WHOLE:
            if name in self.sae.weights:
                self.sae.ranks.spread(self.sae.weights[name])  # to the last bit the same
        self.penalty.start(spread(self.sae.goal(normalized.x, normalized.y)))

    def _weigh(self, some: Activations) -> None:
        """Tell the penalty how large it is of what is already trained, and how large the error."""
        if self.sae.activation.penalty is None:
            return
        normalized, one = self.normalizer(some.x, some.y), torch.ones((), device=some.x.device)
        step = self.sae.step(normalized.x, normalized.y, one, None)
        penalty = step.loss - step.auxiliary - step.reconstruction_loss
        self.penalty.go_on(step.reconstruction_loss, penalty)

    def final_loss(self) -> float | None:
        """The loss over the steps since the last logged point, or of that point."""
        return self.window.read()["loss"] if self.window.tokens else self.last_loss

    def snapshot(self) -> tuple[Tensors, dict[str, Any]]:
        """Tensors and JSON values from which `restore` makes the same state."""
        tensors = {f"weights.{name}": value for name, value in self.sae.weights.items()}
        running = self.sae.activation.running
        tensors |= {f"running.{name}": value for name, value in running.items()}
        numbers: dict[str, Any] = {
            "step": self.step,
            "position": {"chunk": self.position.chunk, "offset": self.position.offset},
            "scale_in": self.normalizer.scale_in,
            "scale_out": self.normalizer.scale_out,
            "last_loss": self.last_loss,
            "last_fvu": self.last_fvu,
        }
        for name, part in self._parts().items():
            part_tensors, numbers[name] = part.state()
            tensors |= {f"{name}.{key}": value for key, value in part_tensors.items()}
        return tensors, numbers

    def restore(self, tensors: Tensors, numbers: dict[str, Any]) -> None:
        """Become what `snapshot` gave."""
        for name, value in self.sae.weights.items():  # copied: the optimizer knows these tensors
            value.copy_(tensors[f"weights.{name}"])
        for name, value in self.sae.activation.running.items():
            value.copy_(tensors[f"running.{name}"])
        for name, part in self._parts().items():
            prefix = f"{name}."
            own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            part.restore(own, numbers[name])
        method, shared = self.normalizer.method, self.normalizer.shared
        scales = _scale(numbers["scale_in"]), _scale(numbers["scale_out"])
        self.normalizer = Normalizer(method, shared, *scales, self.sae.layers)
        self.position = Position(**numbers["position"])
        self.step = numbers["step"]
        self.last_loss, self.last_fvu = numbers["last_loss"], numbers["last_fvu"]

    def _parts(self) -> dict[str, _Part]:
        return {
            "optimizer": self.optimizer,
            "penalty": self.penalty,
            "dead": self.dead,
            "window": self.window,
            "diagnosis": self.diagnosis,
            "micro": self.micro,
        }


def _scale(value: float | list[float]) -> Scale:
    """As it was before JSON made a list of it."""
    return tuple(value) if isinstance(value, list) else value


def _shared(sae: Sae, method: Normalization) -> bool:
    """Whether the target is brought to the input's scale: an identity needs it, a learned skip has
    a scale of its own. Per token it is how the output is brought back by what x tells."""
    return sae.has_skip and (not sae.learns_skip or method == "layer_norm")
