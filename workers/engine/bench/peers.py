"""One training step of public libraries, each as its own trainer does it.

Nothing here is needed to run SAE Studio: `pip install -e '.[peers]'` brings the libraries. Each is
timed in float32, and under bf16 autocast where the hardware has bfloat16 (emulated it takes
minutes), with the optimizer and the clipping it trains with.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from ..language_model import has_bfloat16

Step = Callable[[Tensor], object]
PACKAGES = {
    "SAELens": "sae-lens",
    "sparsify": "eai-sparsify",
    "dictionary_learning": "dictionary-learning",
}


def versions() -> dict[str, str]:
    """Those that are installed."""
    found = {}
    for library, package in PACKAGES.items():
        try:
            found[library] = version(package)
        except PackageNotFoundError:
            continue
    return found


def steps(
    library: str, d_in: int, d_sae: int, k: int, device: torch.device
) -> dict[tuple[str, str], Step]:
    """Steps by kind (topk, standard, jumprelu) and dtype. Raises `ImportError` without it."""
    make = {"SAELens": _saelens, "sparsify": _sparsify, "dictionary_learning": _dictionary}
    found: dict[tuple[str, str], Step] = {}
    for kind, build in make[library](d_in, d_sae, k, device).items():
        found[kind, "float32"] = build()
        if has_bfloat16(device):
            found[kind, "bf16 autocast"] = _autocast(build(), device)
    return found


def _autocast(step: Step, device: torch.device) -> Step:
    def run(x_BD: Tensor) -> None:
        with torch.autocast(device.type, torch.bfloat16):
            step(x_BD)

    return run


def _saelens(d_in: int, d_sae: int, k: int, device: torch.device) -> dict[str, Callable[[], Step]]:
    import sae_lens
    from sae_lens.saes.sae import TrainStepInput

    common: dict[str, Any] = {"d_in": d_in, "d_sae": d_sae, "device": str(device)}

    def trained(sae: Any, coefficients: dict[str, float]) -> Step:
        optimizer = torch.optim.Adam(sae.parameters(), lr=1e-9)
        dead = torch.zeros(d_sae, dtype=torch.bool, device=device)

        def step(x_BD: Tensor) -> None:
            output = sae.training_forward_pass(
                step_input=TrainStepInput(
                    sae_in=x_BD,
                    coefficients=coefficients,
                    dead_neuron_mask=dead,
                    n_training_steps=1,
                    is_logging_step=False,
                )
            )
            optimizer.zero_grad()
            output.loss.backward()
            torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
            optimizer.step()

        return step

    def standard() -> Step:
        config = sae_lens.StandardTrainingSAEConfig(l1_coefficient=1e-3, **common)
        return trained(sae_lens.StandardTrainingSAE(config), {"l1": 1e-3})

    def topk() -> Step:
        config = sae_lens.TopKTrainingSAEConfig(k=k, **common)
        return trained(sae_lens.TopKTrainingSAE(config), {})

    def jumprelu() -> Step:
        config = sae_lens.JumpReLUTrainingSAEConfig(l0_coefficient=1e-3, **common)
        return trained(sae_lens.JumpReLUTrainingSAE(config), {"l0": 1e-3})

    return {"standard": standard, "topk": topk, "jumprelu": jumprelu}


def _sparsify(d_in: int, d_sae: int, k: int, device: torch.device) -> dict[str, Callable[[], Step]]:
    if device.type != "cuda":
        # Where Triton is installed sparsify takes it for granted that there is a GPU, too.
        os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
    from sparsify import SparseCoder, SparseCoderConfig

    def topk() -> Step:
        coder = SparseCoder(d_in, SparseCoderConfig(num_latents=d_sae, k=k), device=str(device))
        optimizer = torch.optim.Adam(coder.parameters(), lr=1e-9)

        def step(x_BD: Tensor) -> None:
            coder.set_decoder_norm_to_unit_norm()
            coder(x_BD).fvu.backward()
            coder.remove_gradient_parallel_to_decoder_directions()
            optimizer.step()
            optimizer.zero_grad()

        return step

    return {"topk": topk}


def _dictionary(
    d_in: int, d_sae: int, k: int, device: torch.device
) -> dict[str, Callable[[], Step]]:
    from dictionary_learning import trainers

    common: dict[str, Any] = {
        "steps": 1_000_000,
        "activation_dim": d_in,
        "dict_size": d_sae,
        "layer": 0,
        "lm_name": "none",
        "device": str(device),
    }

    def updated(trainer: Any) -> Step:
        count = 0

        def step(x_BD: Tensor) -> None:
            nonlocal count
            trainer.update(count, x_BD)
            count += 1

        return step

    def standard() -> Step:
        return updated(trainers.StandardTrainer(lr=1e-9, warmup_steps=1, l1_penalty=0.1, **common))

    def topk() -> Step:
        return updated(trainers.TopKTrainer(k=k, **common))

    return {"standard": standard, "topk": topk}
