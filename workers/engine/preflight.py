"""Whether a run will fit into memory, reckoned from its shapes before anything large is loaded.

Nothing is measured and nothing is tried: `rehearsal.py` does that before a run is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from pathlib import Path

import torch

from . import machine, memory
from .activations import forward_tokens
from .config import Architecture, Plan
from .evaluate import TOKENS_AT_ONCE as EVALUATED_AT_ONCE
from .failure import TrainingError
from .micro import doubles
from .model import ModelSize
from .sae.dense import BLOCK_BYTES, Products
from .state import ESTIMATE_TOKENS

log = logging.getLogger(__name__)

_FLOAT32 = 4
# A shape says what tensors hold, not what libraries keep beside them: what is reckoned may be off
# by this much (docs/performance.md), so only what is further beyond is refused.
_ERROR = 0.15
# Bytes a sparse step holds per active pair: indices, values, their order by latent, the CSR forms.
# JumpReLU holds the pairs above their threshold besides those in its reach, Gated the gates beside
# the magnitudes, BatchTopK twice as many as it keeps while it chooses.
_PAIR_BYTES, _BATCH_PAIR_BYTES = 64, 96
_PAIR_BYTES_OF = {Architecture.JUMPRELU: 96, Architecture.GATED: 128}
# Arrays of hidden states, and of the inner width of an MLP, that a pass leaves on the heap.
_HIDDEN, _INNER = 6, 6
# What the libraries of language models and the compiled loops take once they are loaded, measured
# with a model of few weights.
_LIBRARIES = 310_000_000
# Arrays over all pairs that a dense step holds on a GPU, where it is not cut into blocks.
_DENSE_ARRAYS = 4
# Arrays over the pairs of a block that it holds on a processor, with those of the block before it
# that are still on the heap. ReLU works in place.
_BLOCK_ARRAYS = 4
_BLOCK_ARRAYS_OF = {Architecture.JUMPRELU: 14, Architecture.GATED: 12, Architecture.P_ANNEALED: 8}
_SPREAD = (
    "The language model, of {}, does not fit on the GPU beside the training: what is too much of "
    "it lies on other GPUs of this worker or in the host's memory, from where it is copied for "
    "each pass. Reading is slower for it."
)
# And where torch operations do it, which hold some of them in float32.
_NO_KERNELS = (Architecture.GATED, Architecture.P_ANNEALED)
_TORCH_ARRAYS = 12


@dataclass(frozen=True)
class Need:
    """Bytes of the parts of a run. All but `copy` lie on the device that trains."""

    language_model: int
    loading: int  # what is held more of it while it is read
    weights: int  # with Adam's moments
    buffer: int  # activations of a chunk
    reading: int  # a forward pass
    settling: int  # estimating the normalization
    pre_activations: int
    step: int  # gradients and all that a step takes besides
    copy: int  # of the state while a checkpoint is written
    whole: int = 0  # of several ranks the first one, at the end: the SAE and its evaluation

    def beside(self, other: Need) -> Need:
        """Of two runs that train on the same batches, each making its step after the other's.

        What stays from step to step adds up; of all else there is the larger.
        """
        stays = ("weights", "pre_activations", "copy")
        pairs = ((f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(Need))
        return Need(**{name: a + b if name in stays else max(a, b) for name, a, b in pairs})

    @property
    def device(self) -> int:
        """At the peak, on the device that trains."""
        stays = self.language_model + self.weights + self.buffer
        phases = (self.reading + self.pre_activations, self.settling)
        trains = stays + max(*phases, self.pre_activations + self.step)
        return max(trains, stays - self.weights + self.reading + self.whole)

    def host(self, device: torch.device) -> int:
        """At the peak, in this process's own memory."""
        if device.type == "cuda":
            return _LIBRARIES + max(self.language_model + self.loading, self.copy)
        return _LIBRARIES + max(self.device + self.copy, self.language_model + self.loading)


@dataclass(frozen=True)
class Cut:
    """What a run can do with less memory: in how many parts a step is made, whether the next chunk
    is read beside it, and whether only a part of the language model lies on the device."""

    micro_batches: int = 1
    reads_ahead: bool = False
    spread: bool = False


@dataclass(frozen=True)
class Footprint:
    """All that the memory of a run depends on; `n_usable` are the tokens to train on.

    Of several `ranks` on this machine it is that of one, and the plan has the latents of that one.
    `others` train on the same batches in the same process.
    """

    plan: Plan
    model: ModelSize
    n_usable: int
    device: torch.device
    dtype: torch.dtype
    held: torch.dtype  # of the activations in the buffer
    ranks: int = 1
    others: tuple[Footprint, ...] = ()

    @classmethod
    def together(cls, runs: Sequence[Footprint]) -> Footprint:
        """Of all of them, in one process and on the same batches."""
        return replace(runs[0], others=tuple(runs[1:]))

    def need(self, cut: Cut) -> Need:
        """What it will hold besides what this process holds already."""
        needs = (run._need(cut) for run in (self, *self.others))
        return reduce(Need.beside, needs)

    def _need(self, cut: Cut) -> Need:
        plan, h, size = self.plan, self.plan.hyperparameters, self.dtype.itemsize
        widths = plan.d_in + (plan.d_out if plan.has_own_target else 0)
        held = min(h.buffer_tokens, self.n_usable)
        moments = 2 if h.moments_dtype == "bfloat16" else _FLOAT32
        state = self.parameters * (_FLOAT32 + 2 * moments)
        # What was seen at other sites stays until the deepest; then all is put side by side.
        hidden = (_HIDDEN + 3 * (len(plan.layers) - 1)) * plan.width
        in_a_pass = forward_tokens(self.device) * (hidden + _INNER * self.model.inner)
        # Raw, normalized, and one side in double precision.
        settled = 2 * widths * _FLOAT32 + 8 * max(plan.d_in, plan.d_out)
        micro = -(-h.batch_size // cut.micro_batches)
        # Weights are mapped from their files and cost what is used of them; where the number format
        # is another one, all of the model is copied and then cut off.
        model, kept, converted = self.model, self.model.kept * size, bool(self.mapped)
        return Need(
            language_model=kept,
            loading=model.parameters * size - kept if converted else 0,
            weights=state,
            buffer=(2 if cut.reads_ahead else 1) * held * widths * self.held.itemsize,
            reading=in_a_pass * size,
            settling=min(ESTIMATE_TOKENS, held) * settled,
            pre_activations=micro * plan.d_sae * size,
            step=self._step(micro, 2 if cut.micro_batches > 1 else 1),
            copy=state,
            whole=self._whole(),
        )

    @property
    def mapped(self) -> int:
        """Bytes of the model's files, where they are in another number format."""
        model = self.model
        same = model.file_bytes == model.parameters * self.dtype.itemsize
        return 0 if same else model.file_bytes

    def _whole(self) -> int:
        """Of ranks that share the host's memory the others are gone by then, and leave theirs."""
        if self.ranks == 1 or self.device.type != "cuda":
            return 0
        latents = 2 * EVALUATED_AT_ONCE * self.plan.d_sae  # of a batch, and where they are active
        return self.ranks * (self.parameters + latents) * _FLOAT32

    @property
    def parameters(self) -> int:
        return self.plan.parameters

    @property
    def all_parameters(self) -> int:
        """Those of the others as well."""
        return self.parameters + sum(run.parameters for run in self.others)

    def _step(self, micro: int, gradients: int) -> int:
        """So many sets of gradients, the way to them, and the batch."""
        plan, h = self.plan, self.plan.hyperparameters
        # Of a micro-batch the residual, its gradient and its square; of the whole batch the raw
        # and the normalized activations, the residual, and what metrics are summed from.
        sides = plan.d_in + (plan.d_out if plan.has_own_target else 0)
        rows = 3 * micro * plan.d_out + h.batch_size * (2 * sides + 2 * plan.d_out)
        if plan.learns_skip:  # what it gives, normalized and raw, and what it leaves
            rows += 3 * h.batch_size * plan.d_out
        if plan.architecture.spans:  # the errors of each layer in raw space
            rows += h.batch_size * plan.d_out
        # Before the optimizer: the product that keeps the decoder's rows at length one.
        projecting = plan.d_sae * plan.d_out
        work = max(self._work(micro) + rows * _FLOAT32, projecting * _FLOAT32)
        return gradients * self.parameters * _FLOAT32 + work

    def _work(self, micro: int) -> int:
        """The sparse way at its most active, or the dense one: on a GPU there is no other."""
        plan = self.plan
        if plan.k is not None:
            per_pair = _BATCH_PAIR_BYTES if plan.architecture.over_batch else _PAIR_BYTES
            return micro * plan.k * per_pair + self._nested(micro)
        if self.device.type == "cuda":
            arrays = _TORCH_ARRAYS if plan.architecture in _NO_KERNELS else _DENSE_ARRAYS
            return arrays * micro * plan.d_sae * self.dtype.itemsize
        share = Products(self.dtype).worth_sparse(torch.empty(0))
        per_pair = _PAIR_BYTES_OF.get(plan.architecture, _PAIR_BYTES)
        pairs = micro * plan.d_sae
        return max(int(share * pairs * per_pair), self._blocks(pairs * self.dtype.itemsize))

    def _blocks(self, array: int) -> int:
        """The dense way on a processor, where one array over all pairs has so many bytes."""
        block = array if self.ranks > 1 else min(array, BLOCK_BYTES)
        return _BLOCK_ARRAYS_OF.get(self.plan.architecture, _BLOCK_ARRAYS) * block

    def _nested(self, micro: int) -> int:
        """The residuals of all prefixes, and the largest block's gradients before they are put
        beside the others'."""
        plan = self.plan
        if plan.architecture is not Architecture.MATRYOSHKA:
            return 0
        residuals = plan.hyperparameters.matryoshka_groups * micro * plan.d_out
        return (residuals + self.parameters // 2) * _FLOAT32


class TooLarge(TrainingError):
    """It does not fit into memory, however it is cut."""


@dataclass(frozen=True)
class Preflight:
    """`peak_bytes` is told of this process at its largest; `warning` is empty where all is well.

    `model_room`: bytes of the language model that fit on the device, where not all of it does.
    """

    micro_batches: int
    reads_ahead: bool
    peak_bytes: int
    warning: str
    model_room: int | None = None


@dataclass(frozen=True)
class _Place:
    """Memory of one kind, and the bytes of it that may still be taken."""

    on_gpu: bool
    there: int

    def needed(self, run: Footprint, cut: Cut) -> int:
        need = run.need(cut)
        if not cut.spread:
            return need.device if self.on_gpu else need.host(run.device)
        # A block at a time is copied to the device; what lies on no other GPU stays in the host.
        block = run.model.block * run.dtype.itemsize
        if self.on_gpu:
            return need.device - need.language_model + min(2 * block, need.language_model)
        return need.host(run.device) + need.copy

    def share(self, run: Footprint, cut: Cut) -> float:
        """What is needed as a part of what there is."""
        return self.needed(run, cut) / max(self.there, 1)


def preflight(run: Footprint) -> Preflight:
    """Compare what the run needs with what there is; choose the first cut that fits.

    Raises `TooLarge` with the figures where it cannot fit however it is cut.
    """
    places = list(_places(run))
    shares = {cut: max((p.share(run, cut) for p in places), default=0.0) for cut in _cuts(run)}
    fitting = [cut for cut, share in shares.items() if share <= 1]
    cut = fitting[0] if fitting else min(shares, key=lambda cut: shares[cut])
    need = run.need(cut)
    log.info("Reckoned %s for %s; there is %s.", need, cut, places)
    if shares[cut] > 1 + _ERROR:
        raise TooLarge(_sentence("does not suffice", run, cut, places))
    tight = shares[cut] > 1 - _ERROR
    warning = _sentence("is tight", run, cut, places) if tight else ""
    if cut.spread:
        warning = f"{_SPREAD.format(memory.gigabytes(need.language_model))} {warning}".strip()
    # The files, mapped while they are converted, count as held; nobody has to make room for them.
    loading = _LIBRARIES + need.language_model + need.loading + run.mapped
    peak = machine.held_bytes() + max(need.host(run.device), loading)
    room = _model_room(need, places) if cut.spread else None
    return Preflight(cut.micro_batches, cut.reads_ahead, peak, warning, room)


def _model_room(need: Need, places: list[_Place]) -> int:
    """What the rest of the run leaves of the device, by the most that the rest may be."""
    there = min(place.there for place in places if place.on_gpu)
    return max(0, there - int((1 + _ERROR) * (need.device - need.language_model)))


def room_on_disk(run: Footprint, folder: Path) -> None:
    """Whether a checkpoint and the SAE fit into the folder, before anything is trained for them.

    Raises `TrainingError` with the figures where they do not.
    """
    # A checkpoint is weights and two moments; the SAE is the weights once more.
    state = run.need(Cut()).copy + run.all_parameters * _FLOAT32
    wanted, free = run.ranks * state, machine.free_bytes(folder)
    if free < wanted:
        raise TrainingError(
            f"The disk of {folder} has {memory.gigabytes(free)} free; a checkpoint and the SAE of "
            f"{_whose(run)} take {memory.gigabytes(wanted)}. Free some space, or choose a smaller "
            "latent_dim."
        )


def _whose(run: Footprint) -> str:
    return f"each of {len(run.others) + 1} trainings" if run.others else "this training"


def _places(run: Footprint) -> Iterator[_Place]:
    if run.device.type == "cuda":
        yield _Place(True, machine.gpu_left_bytes(run.device))
    on_host = machine.left_bytes()
    if on_host is not None:
        yield _Place(False, on_host // run.ranks)


def _cuts(run: Footprint) -> list[Cut]:
    """The fastest first. Only beside a GPU is there anything idle that could read ahead."""
    counts = [1]
    while doubles(counts[-1], run.plan.hyperparameters.batch_size):
        counts.append(2 * counts[-1])
    fastest = [Cut(reads_ahead=True)] if run.device.type == "cuda" else []
    cuts = fastest + [Cut(count) for count in counts]
    # Each rank has a GPU, and the language model, for itself.
    may_spread = run.device.type == "cuda" and run.ranks == 1
    return cuts + ([Cut(count, spread=True) for count in counts] if may_spread else [])


def _sentence(verdict: str, run: Footprint, cut: Cut, places: list[_Place]) -> str:
    """What is needed and for what, what there is, and what to choose instead."""
    place, need = max(places, key=lambda place: place.share(run, cut)), run.need(cut)
    parts = {
        "the language model": need.language_model,
        "weights and moments": need.weights,
        "gradients and the step": need.step,
        "activations in the buffer": need.buffer + need.reading,
        "pre-activations": need.pre_activations,
        "the copy for checkpoints": need.copy,
    }
    largest = sorted(parts, key=lambda name: -parts[name])[:3]
    listed = ", ".join(f"{memory.gigabytes(parts[name])} for {name}" for name in largest)
    return (
        f"Memory{' on the GPU' if place.on_gpu else ''} {verdict}: {_who(run)} about "
        f"{memory.gigabytes(place.needed(run, cut))} and {memory.gigabytes(place.there)} are "
        f"available. Most of it: {listed}. Choose a smaller latent_dim, buffer_tokens or "
        "batch_size, or moments_dtype bfloat16; or end what else runs on this machine."
        f"{' Or train fewer of them together.' if run.others else ''}"
    )


def _who(run: Footprint) -> str:
    if not run.others:
        return "the run needs"
    return f"{len(run.others) + 1} trainings that share their activations need"
