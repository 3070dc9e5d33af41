"""The demo's training: what a newcomer sees first, on a machine without a GPU."""

from typing import Any

DEMO: dict[str, Any] = {
    "architecture": "standard",
    "layer": 5,
    "hyperparameters": {
        "top_k_sparsity": 1.0,
        "batch_size": 512,
        "num_steps": 1000,
        "learning_rate": 1e-3,
        "buffer_tokens": 16_384,
        "checkpoint_interval": 1000,
    },
}
