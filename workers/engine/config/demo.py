"""The demo's training: what a newcomer sees first, on a machine without a GPU.

Measured on SmolLM2-135M and the standard library's text (2.7 million tokens, contexts of 256), two
cores with AVX-512 and no bf16, float32, seed 0, on 32,895 held-out tokens:

| recipe | FVU | L0 | alive |
|---|---|---|---|
| this one (layer 3, TopK, K = 46 of 4,608) | 0.047 | 46.0 | 98.6 % |
| the same at layer 5 | 0.061 | 46.0 | 98.5 % |
| layer 5, top_k_sparsity 1.39 (K = 64), a smaller text | 0.056 | 64.0 | 99.6 % |
| layer 5, JumpReLU, target_l0 60, a smaller text | 0.058 | 57.0 | 91.4 % |

Peak memory 1.0 GB. Reading activations is most of the time: layer 3 costs two thirds of layer 5.
Few tokens are held at once, so that the first point of the chart comes after seconds.
"""

from typing import Any

DEMO: dict[str, Any] = {
    "architecture": "standard",
    "layer": 3,
    "hyperparameters": {
        "top_k_sparsity": 1.0,
        "batch_size": 512,
        "num_steps": 1000,
        "learning_rate": 1e-3,
        "buffer_tokens": 16_384,
        "checkpoint_interval": 1000,
    },
}
