"""Compiles every kernel of a step for a device that need not be there; prints shared memory used.

Run with TRITON_INTERPRET=0. Launches are caught: nothing is computed.
"""

from __future__ import annotations

from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from triton.runtime.jit import JITFunction

from workers.engine.sae.gpu import directions, steps

TARGET = GPUTarget("cuda", 90, 32)
TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int32: "*i32", torch.int64: "*i64"}
B, D, F = 256, 2304, 2304
done: set[str] = set()


def caught(self: Any, *args: Any, grid: Any, warmup: bool, **named: Any) -> None:
    """In place of a launch: compile the kernel for these arguments, once."""
    options = {name: named.pop(name) for name in ("num_warps", "num_stages") if name in named}
    given = dict(zip(self.arg_names, args, strict=False)) | named
    signature, constants, aligned = {}, {}, {}
    for parameter in self.params:
        value, place = given[parameter.name], (parameter.num,)
        if parameter.is_constexpr:
            signature[parameter.name], constants[place] = "constexpr", value
        elif isinstance(value, float):
            signature[parameter.name] = "fp32"
        else:
            tensor = isinstance(value, torch.Tensor)
            signature[parameter.name] = TYPES[value.dtype] if tensor else "i32"
            aligned[place] = [["tt.divisibility", 16]]
    kernel = f"{self.fn.__module__}.{self.fn.__name__} {signature} {constants}"
    if kernel not in done:
        done.add(kernel)
        source = ASTSource(self, signature, constants, aligned)
        compiled = compile(source, target=TARGET, options=options)
        print(self.fn.__module__, self.fn.__name__, compiled.metadata.shared, flush=True)  # noqa: T201


def main() -> None:
    JITFunction.run = caught
    w = {"W_enc": torch.zeros(F, D), "b_enc": torch.zeros(F), "W_dec": torch.zeros(F, D)}
    w |= {"b_dec": torch.zeros(D)}
    x, pre, weight = torch.zeros(B, D), torch.zeros(B, F), torch.tensor(0.1)
    half = torch.bfloat16
    steps.relu(w, x, x, weight, half)
    directions.remove_parallel(w["W_dec"], w["W_enc"])
    directions.normalize(w["W_dec"])
    steps.topk(w, x, x, pre.to(half), 32, torch.arange(5), 1 / 32)
    steps.jump(w | {"threshold": torch.zeros(F)}, x, x, weight, 1.0, half)


if __name__ == "__main__":
    main()
