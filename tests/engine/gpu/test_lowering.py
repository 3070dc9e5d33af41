"""The kernels compile for a real device, which the interpreter cannot show."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# What the smallest devices of compute capability 8 have for one block.
SHARED_BYTES = 99 * 1024


@pytest.mark.long
def test_every_kernel_compiles_and_fits_into_shared_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.gpu.lowering"],
        env=os.environ | {"TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kernels = [line.split() for line in done.stdout.splitlines()]
    assert {module.rpartition(".")[2] for module, _, _ in kernels} == {
        "by_latent",
        "compact",
        "decode",
        "dense",
        "directions",
        "encode",
        "sample",
        "select",
    }
    assert max(int(shared) for *_, shared in kernels) <= SHARED_BYTES
