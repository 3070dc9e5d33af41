"""The models, the machines, and what was measured of them that the arithmetic starts from.

Four figures are fitted, two for a processor and two for a GPU; everything else is predicted.
"""

from __future__ import annotations

from dataclasses import replace

from arithmetic import ADAM_BYTES, Machine, Model, Sae

SMOLLM2 = Model("SmolLM2-135M", 30, 576, 1536, 9, 3, 64, 49_152, tied=True, blocks=15)
LLAMA_8B = Model("Llama-3.1-8B", 32, 4096, 14_336, 32, 8, 128, 128_256, blocks=16)
LLAMA_70B = Model("Llama-3.1-70B", 80, 8192, 28_672, 64, 8, 128, 128_256, blocks=40)
GEMMA_2B = Model("Gemma 2 2B", 26, 2304, 9216, 8, 4, 256, 256_000, tied=True, blocks=13)
MODELS = (SMOLLM2, LLAMA_8B, LLAMA_70B)
WIDTHS = (8, 32)

# docs/performance.md, *Training steps* and *Reading activations*: the floor of a step and the bare
# truncated model.
CPU_SAE = Sae(576, 4608, active=32)
CPU_MODEL = SMOLLM2.up_to(6)
CPU_FLOOR, CPU_FORWARD_TOKENS, CPU_MEMORY = 0.168, 2108.0, 20e9
# *On a GPU*: the floor, and the bare model's best.
GPU_SAE = Sae(2304, 18_432)
GPU_FLOOR, GPU_FORWARD_TOKENS, GPU_LAUNCH = 1.90e-3, 159_430 / 0.97, 2.4e-3
# NVIDIA's data sheets; a link's figure is one direction of NVLink, and of one 400 Gb/s adapter.
GPU_PEAK, H100_MEMORY, H200_MEMORY = 989.5e12, 3.35e12, 4.8e12
NVLINK, NETWORK = 450e9, 50e9


def floor_operations(sae: Sae) -> float:
    return 2.0 * sae.batch * sae.width * sae.latents


def floor_bytes(sae: Sae) -> float:
    return float(ADAM_BYTES * sae.parameters)


def utilisation() -> float:
    """The share of the data sheet that the floor of a step reaches on an H100."""
    sheet = floor_operations(GPU_SAE) / GPU_PEAK + floor_bytes(GPU_SAE) / H100_MEMORY
    return sheet / GPU_FLOOR


def _cpu() -> Machine:
    encoder = CPU_FLOOR - floor_bytes(CPU_SAE) / CPU_MEMORY
    return Machine(
        "2 cores",
        "cpu",
        products=floor_operations(CPU_SAE) / encoder,
        forward=CPU_FORWARD_TOKENS * CPU_MODEL.reading,
        memory=CPU_MEMORY,
        gather=CPU_MEMORY,
        capacity=16e9,
        value_bytes=4,
    )


def _h100() -> Machine:
    return Machine(
        "H100",
        "gpu",
        products=utilisation() * GPU_PEAK,
        forward=GPU_FORWARD_TOKENS * GEMMA_2B.reading,
        memory=utilisation() * H100_MEMORY,
        gather=H100_MEMORY,
        capacity=80e9,
        link=NVLINK,
        launch=GPU_LAUNCH,
    )


CPU, H100 = _cpu(), _h100()
H200 = replace(
    H100,
    name="H200",
    memory=utilisation() * H200_MEMORY,
    gather=H200_MEMORY,
    capacity=141e9,
)
ACROSS = replace(H200, name="H200 of 8 hosts", link=NETWORK)


def sae_of(model: Model, times: int, active: int = 64) -> Sae:
    return Sae(model.width, times * model.width, active=active)
