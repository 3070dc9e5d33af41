"""A Hugging Face model, cut off after the deepest layer that is read.

Shapes: N contexts, T positions, D width.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from . import memory
from .config.hyperparameters import Dtype, Hook
from .failure import TrainingError
from .model import ModelError
from .spread import bytes_of, places, spread

log = logging.getLogger(__name__)

# Names that families of models give to the two halves of a block.
_MLP = ("mlp", "feed_forward", "ffn", "block_sparse_moe")
_SUBMODULES: dict[str, tuple[str, ...]] = {
    "mlp_in": _MLP,
    "mlp_out": _MLP,
    "attn_out": ("self_attn", "attn", "attention", "self_attention"),
}
# What is seen of a site; what is returned for it, if anything, goes on in its place.
See = Callable[[Tensor], Tensor | None]


@dataclass(frozen=True)
class Site:
    """A place in the model: the output of block `layer`, or of its MLP or attention, or the input
    of its MLP, which is what the norm before it gives."""

    layer: int
    hook: Hook


# Flags of processors that multiply bfloat16: x86 vectors, x86 tiles, ARM.
_PROCESSOR_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
# bfloat16 costs precision, so it has to be faster by this factor.
_WORTH_IT = 1.2
_CPUINFO = Path("/proc/cpuinfo")


class Enough(Exception):
    """Raised inside the forward pass once everything wanted has been seen."""


class LanguageModel:
    """Reads activations at sites of a causal transformer; never computes past the deepest one."""

    def __init__(self, transformer: nn.Module, sites: tuple[Site, ...]) -> None:
        self.transformer = transformer.eval().requires_grad_(False)
        blocks = block_list(transformer)
        self.block = type(blocks[0])
        self._sites = [(site, site_module(blocks, site)) for site in sites]
        self.most_contexts: int | None = None  # of one pass; None until one did not fit
        del blocks[max(site.layer for site in sites) + 1 :]

    @classmethod
    def load(
        cls,
        folder: Path,
        sites: tuple[Site, ...],
        device: torch.device,
        dtype: torch.dtype,
        room: int | None = None,
    ) -> LanguageModel:
        """Load from safetensors. Raises `ModelError` with a sentence where that cannot work.

        `room`: bytes of weights that may lie on the device, where that is less than all.
        """
        from transformers import AutoModel

        model = cls(read_model(AutoModel, folder, dtype), sites)
        place(model.transformer, model.block, device, room)
        return model

    def capture(self, ids_NT: Tensor) -> list[Tensor]:
        """Activations [N, T, D] at every site, in the order the sites were given.

        A pass that does not fit into memory is repeated in halves, and so are those that follow.
        Raises `TrainingError` where one context does not fit.
        """
        while True:
            parts = torch.split(ids_NT, self.most_contexts or len(ids_NT))
            try:
                return _joined([self._pass(part) for part in parts])
            except memory.ERRORS as error:
                if not memory.exhausted(error):
                    raise
                log.warning("A forward pass over %s ids does not fit: %s", parts[0].shape, error)
            if len(parts[0]) == 1:
                raise TrainingError(
                    "Memory does not suffice for the language model's forward pass over one "
                    f"context of {ids_NT.shape[1]:,} tokens. Choose a smaller buffer, a "
                    "tokenization with shorter contexts, or a larger device."
                )
            self.most_contexts = -(-len(parts[0]) // 2)
            memory.release()

    @torch.no_grad()
    def _pass(self, ids_NT: Tensor) -> list[Tensor]:
        """One forward pass, up to the deepest site."""
        seen: dict[int, Tensor] = {}

        def keep(index: int, value: Tensor) -> None:
            seen[index] = value
            if len(seen) == len(self._sites):
                raise Enough

        handles = [
            watch(module, site, partial(keep, index))
            for index, (site, module) in enumerate(self._sites)
        ]
        try:
            self.transformer(input_ids=ids_NT, use_cache=False)
        except Enough:
            return [seen[index] for index in range(len(self._sites))]
        finally:
            for handle in handles:
                handle.remove()
        raise ModelError("The forward pass ended without passing the layer that is read.")


def read_model(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A model by one of transformers' auto classes, from safetensors and without foreign code.

    Raises `ModelError`.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        return kind.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"The language model cannot be loaded: {error}") from error


def place(model: nn.Module, block: type[nn.Module], device: torch.device, room: int | None) -> None:
    """Put it on the device, or as many of its blocks as there is room for, the rest elsewhere."""
    if room is None or bytes_of(model) <= room:
        model.to(device)
        return
    spread(model, block, places(device, room))


def _joined(parts: list[list[Tensor]]) -> list[Tensor]:
    if len(parts) == 1:
        return parts[0]
    return [torch.cat(of_site) for of_site in zip(*parts, strict=True)]


def block_list(transformer: nn.Module) -> nn.ModuleList:
    """The decoder blocks, found by their number, whatever the family calls the list."""
    config: Any = transformer.config
    wanted = config.get_text_config().num_hidden_layers
    for module in transformer.modules():
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return module
    raise ModelError(
        f"No list of {wanted} decoder blocks was found in {type(transformer).__name__}; "
        "this model family is not supported."
    )


def site_module(blocks: nn.ModuleList, site: Site) -> nn.Module:
    """The part of the model whose output, or input, the site is.

    Raises `ModelError` where there is none.
    """
    block = blocks[site.layer]
    if site.hook == "resid_post":
        return block
    children = dict(block.named_children())
    for name in _SUBMODULES[site.hook]:
        if name in children:
            return children[name]
    raise ModelError(
        f"A block of this model has no part for {site.hook}; its parts are {', '.join(children)}."
    )


def watch(module: nn.Module, site: Site, see: See) -> RemovableHandle:
    """Have `see` called in each pass with what the site gives; `module` is its `site_module`."""

    def of_input(_module: nn.Module, args: Any, kwargs: Any) -> Any:
        if args:
            instead = see(args[0])
            return None if instead is None else ((instead, *args[1:]), kwargs)
        name, value = next(iter(kwargs.items()))
        instead = see(value)
        return None if instead is None else (args, kwargs | {name: instead})

    def of_output(_module: nn.Module, _args: Any, output: Any) -> Any:
        if not isinstance(output, tuple):
            return see(output)
        instead = see(output[0])
        return None if instead is None else (instead, *output[1:])

    if site.hook == "mlp_in":
        return module.register_forward_pre_hook(of_input, with_kwargs=True)
    return module.register_forward_hook(of_output)


def settled_device(choice: str) -> torch.device:
    """`auto` is the GPU where there is one. Its float32 products are then float32's, not TF32's."""
    if choice == "auto":
        choice = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(choice)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("highest")
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    return device


def settled_dtype(choice: Dtype, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 only where the hardware multiplies it faster than float32.

    On a processor that is measured, once in a process: some have the instruction and gain nothing
    by it. A run keeps the answer in its checkpoints.
    """
    if choice != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[choice]
    return torch.bfloat16 if _multiplies_bfloat16(device) else torch.float32


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware has instructions for it; elsewhere it is emulated, very slowly."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and bool(_PROCESSOR_FLAGS & _flags())


def _multiplies_bfloat16(device: torch.device) -> bool:
    return has_bfloat16(device) and (device.type == "cuda" or _gains_by_bfloat16())


@cache
def _gains_by_bfloat16() -> bool:
    """Whether a product of a usual size is clearly faster in bfloat16 here; under a second."""
    m, k, n = 1024, 512, 4096
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.ones(m, k, dtype=dtype), torch.ones(n, k, dtype=dtype)
        seconds[dtype] = min(_seconds(a, b) for _ in range(5))
    return seconds[torch.bfloat16] * _WORTH_IT < seconds[torch.float32]


def _seconds(a: Tensor, b: Tensor) -> float:
    begun = time.perf_counter()
    a @ b.T
    return time.perf_counter() - begun


def _flags() -> set[str]:
    if not _CPUINFO.is_file():
        return set()
    lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    line = next((x for x in lines if x.lower().startswith(("flags", "features"))), "")
    return set(line.partition(":")[2].split())


def held_dtype(choice: Dtype) -> torch.dtype:
    """The number format in which activations are held and stored: bfloat16 unless float32 is asked.

    It takes half the memory and disk; what the rounding costs is in docs/performance.md. A run
    keeps the answer in its checkpoints.
    """
    return torch.float32 if choice == "float32" else torch.bfloat16


def numerics(device: torch.device) -> str:
    """Whatever besides the weights and tokens may change the last bits of an activation."""
    if device.type == "cuda":
        processor = torch.cuda.get_device_name(device)
    else:
        threads = torch.get_num_threads()
        processor = f"{device.type} {torch.backends.cpu.get_cpu_capability()}, {threads} threads"
    return f"{processor}, torch {torch.__version__}, transformers {version('transformers')}"


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
