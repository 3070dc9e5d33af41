"""Which pairs are active, and what the loss's gradient is at them: the activations, in kernels.

RELU   z = pre where pre > 0
JUMP   z = pre where pre > floor; the kernel of width ε around floor carries gradient too
TOP    z = pre where pre > floor (0, or ∞ for latents out of the running) and among the k
       largest: pre > cut of the token, or equal to it at one of the first latents, up to last
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

RELU, JUMP, TOP = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)


@dataclass(frozen=True)
class Rule:
    """An activation as kernels take it: `floor` [F], `cut` and `last` [B], or anything unused."""

    kind: int
    floor: Tensor
    cut: Tensor
    last: Tensor
    bandwidth: float = 1.0

    @classmethod
    def relu(cls, device: torch.device) -> Rule:
        none = torch.empty(1, device=device)
        return cls(RELU.value, none, none, none)

    @classmethod
    def jump(cls, threshold_F: Tensor, bandwidth: float) -> Rule:
        return cls(JUMP.value, threshold_F, threshold_F, threshold_F, bandwidth)

    @classmethod
    def top(cls, floor_F: Tensor, cut_B: Tensor, last_B: Tensor) -> Rule:
        return cls(TOP.value, floor_F, cut_B, last_B)

    @property
    def jumps(self) -> bool:
        """Whether pairs that are not active carry gradient."""
        return bool(self.kind == JUMP.value)

    def arguments(self) -> tuple[Tensor, Tensor, Tensor, float]:
        """What every kernel that calls `activity` takes, in this order."""
        return self.floor, self.cut, self.last, self.bandwidth

    def reached(self, pre_BF: Tensor) -> Tensor:
        """Reference: the pairs that carry gradient."""
        if self.jumps:
            return pre_BF.float() > self.floor - self.bandwidth / 2
        return self.active(pre_BF)

    def active(self, pre_BF: Tensor) -> Tensor:
        """Reference: the pairs at which z is pre, and not zero."""
        pre = pre_BF.float()
        if self.kind == RELU.value:
            return pre > 0
        if self.jumps:
            return pre > self.floor
        latents, cut = torch.arange(pre.shape[1], device=pre.device), self.cut[:, None]
        first = (pre == cut) & (latents <= self.last[:, None])
        return (pre > self.floor) & ((pre > cut) | first)

    def slope(self, dz_BF: Tensor, pre_BF: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
        """Reference: ∂L/∂pre, and of it what crosses the jump."""
        pre, active = pre_BF.float(), self.active(pre_BF)
        if self.kind == RELU.value:
            return (dz_BF + penalty) * active, torch.zeros_like(dz_BF)
        if not self.jumps:
            return dz_BF * active, torch.zeros_like(dz_BF)
        near = (pre - self.floor).abs() < self.bandwidth / 2
        jump = (dz_BF * pre + penalty) * near / self.bandwidth
        return dz_BF * active + jump, jump


@triton.jit
def activity(pre, token, latent, B, F, floor_ptr, cut_ptr, last_ptr, bandwidth, KIND: tl.constexpr):
    """Of a block of pre, in float32, the pairs that carry gradient and the active ones.

    `token` and `latent` broadcast to the block, either way round, so each is loaded for once; what
    lies outside [B, F] is never active.
    """
    inside = (token < B) & (latent < F)
    if KIND == RELU:
        active = (pre > 0) & inside
        return active, active
    floor = tl.load(floor_ptr + latent, mask=latent < F, other=0.0)
    if KIND == JUMP:
        above = pre - floor
        return (above > -bandwidth / 2) & inside, (above > 0) & inside
    cut = tl.load(cut_ptr + token, mask=token < B, other=0.0)
    last = tl.load(last_ptr + token, mask=token < B, other=0)
    active = (pre > floor) & ((pre > cut) | ((pre == cut) & (latent <= last))) & inside
    return active, active


@triton.jit
def slope(dz, pre, active, latent, F, inside, penalty, floor_ptr, bandwidth, KIND: tl.constexpr):
    """∂L/∂pre of a block, and of it what crosses the jump, from ∂MSE/∂z."""
    if KIND == JUMP:
        above = pre - tl.load(floor_ptr + latent, mask=latent < F, other=0.0)
        near = (tl.abs(above) < bandwidth / 2) & inside
        jump = tl.where(near, (dz * pre + penalty) / bandwidth, 0.0)
        return tl.where(active, dz, 0.0) + jump, jump
    if KIND == RELU:
        return tl.where(active, dz + penalty, 0.0), tl.zeros_like(dz)
    return tl.where(active, dz, 0.0), tl.zeros_like(dz)
