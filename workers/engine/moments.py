"""Adam whose moments are stored in bfloat16: half their memory, computed in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

_EPSILON = 1e-8  # torch's own
# Elements worked on at once: what lies between stays in a processor's cache, and is few megabytes
# beside the weights on a GPU, which wants larger pieces.
_BLOCK = {"cpu": 1 << 16}
_GPU_BLOCK = 1 << 22
# Keeps these draws apart from those of resampling, which are seeded by seed and step as well.
_STREAM = 1 << 62
_MANTISSA_CUT = -(1 << 16)  # float32's bits that bfloat16 has


class RoundedAdam(torch.optim.Optimizer):
    """Adam (Kingma & Ba 2015, arXiv 1412.6980) with moments in bfloat16:

        m ← round(β₁ m + (1 − β₁) g)        v ← round(β₂ v + (1 − β₂) g²)
        w ← w − lr · m̂ / (√v̂ + ε)           m̂, v̂ from m and v before they are rounded

    bfloat16 has eight bits of mantissa. With β₂ = 0.999 a step moves v by less than half of its
    last place, and rounding to nearest would leave it where it is for ever. So `round` is
    stochastic: up with a probability of the part that is cut off, right on average (Gupta et al.
    2015, arXiv 1502.02551). The draw is a function of seed and step alone, so a resumed run rounds
    alike. It is one block long and used for every block: each element still gets a fresh draw in
    each step, and that is what its average is over.

    `state` has the keys of torch's Adam; `step` lies on the host, which needs it.
    """

    def __init__(self, weights: list[Tensor], betas: tuple[float, float], seed: int) -> None:
        super().__init__(weights, {"lr": 0.0, "betas": betas})
        self._seed = seed
        # The gradients are divided by it, as torch's own Adam does.
        self.grad_scale: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        (group,) = self.param_groups
        drawn: tuple[Tensor, Tensor] | None = None
        for weight in group["params"]:
            state = self.state[weight]
            if self.grad_scale is not None:
                weight.grad.div_(self.grad_scale)
            state["step"] += 1
            count = int(state["step"])
            size = _BLOCK.get(weight.device.type, _GPU_BLOCK)
            drawn = drawn or _draw(self._seed, count, size, weight.device)
            for w, g, m, v in _blocks(weight, state, size):
                _update(w, g, m, v, drawn, group["lr"], group["betas"], count)


def _update(
    w: Tensor,
    g: Tensor,
    m_stored: Tensor,
    v_stored: Tensor,
    drawn: tuple[Tensor, Tensor],
    lr: float,
    betas: tuple[float, float],
    count: int,
) -> None:
    beta1, beta2 = betas
    m = m_stored.float().lerp_(g, 1 - beta1)
    v = v_stored.float().mul_(beta2).addcmul_(g, g, value=1 - beta2)
    denominator = v.sqrt().div_((1 - beta2**count) ** 0.5).add_(_EPSILON)
    w.addcdiv_(m, denominator, value=-lr / (1 - beta1**count))
    m_stored.copy_(rounded(m, drawn[0][: len(m)]))
    v_stored.copy_(rounded(v, drawn[1][: len(v)]))


def rounded(x: Tensor, drawn: Tensor) -> Tensor:
    """float32 `x`, used up, rounded to a neighbour in bfloat16; `drawn` is int32 in [0, 2¹⁶)."""
    bits = x.view(torch.int32)
    bits.add_(drawn).bitwise_and_(_MANTISSA_CUT)
    return x


def _draw(seed: int, step: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Sixteen random bits per element, for either moment."""
    generator = torch.Generator(device).manual_seed(_STREAM + seed * 1_000_003 + step)
    bits = torch.randint(
        -(2**31), 2**31, (size,), dtype=torch.int32, device=device, generator=generator
    )
    low = bits & 0xFFFF
    return low, bits.bitwise_right_shift_(16).bitwise_and_(0xFFFF)


def _blocks(
    weight: Tensor, state: dict[str, Any], size: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    assert weight.grad is not None
    flat = (weight.view(-1), weight.grad.reshape(-1), state["exp_avg"], state["exp_avg_sq"])
    parts = (torch.split(tensor.view(-1), size) for tensor in flat)
    yield from zip(*parts, strict=True)
