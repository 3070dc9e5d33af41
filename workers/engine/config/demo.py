"""The demo's recipe, as measured in docs: SmolLM2-135M, block 5, 1,000 steps of 512 tokens."""

from __future__ import annotations

from typing import Any, Final

# TopK with K = 32 of 4,608 latents: FVU 0.059 on held-out tokens, 95 % of the latents alive.
DEMO: Final[dict[str, Any]] = {
    "architecture": "standard",
    "layer": 5,
    "hyperparameters": {
        "top_k_sparsity": 0.694,
        "batch_size": 512,
        "num_steps": 1000,
        "learning_rate": 0.001,
        "checkpoint_interval": 1000,
    },
}
