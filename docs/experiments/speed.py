"""How fast a JumpReLU step is on trained weights, beside SAELens' on the same batches.

`manage.py bench` times steps at random weights, where the default kernel reaches too many pairs for
a sparse step; trained thresholds move out of its reach. Trains with the preset first, then takes
steps of B tokens in turns.

    python docs/experiments/speed.py activations --tokens 195584 --batch 256
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from copy import copy
from pathlib import Path

import contenders
import torch
from measure import Data, evaluated
from ours import Ours

from workers.engine.config import PRESETS

_ROUNDS, _LARGE_BATCH = 5, 4096


def main() -> None:
    options = _arguments()
    torch.set_num_threads(options.threads)
    data = Data(options.activations, options.tokens, options.batch)
    h = {**PRESETS["jumprelu-l0-64"].hyperparameters, "latent_dim": options.latents}
    ours = Ours(data, "jumprelu", **h)
    for x_BD in data.batches():
        ours.step(x_BD)
    l0 = evaluated(ours.reconstruct, data.held_out)["l0"]
    reach = ours.reach(data.held_out[:_LARGE_BATCH])

    large = copy(data)
    large.batch, large.steps = _LARGE_BATCH, options.tokens // _LARGE_BATCH
    theirs = contenders.jumprelu(options.latents)["SAELens, tanh"](large, 1e-3, 1.0)
    batches = [x_BD for x_BD in large.batches() if len(x_BD) == _LARGE_BATCH]
    for x_BD in batches[:2]:
        ours.step(x_BD)
        theirs.step(x_BD)
    pairs = [
        (_seconds(lambda x=x: ours.step(x)), _seconds(lambda x=x: theirs.step(x)))
        for x in batches[2 : 2 + _ROUNDS]
    ]
    mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    sys.stdout.write(
        f"JumpReLU, bandwidth {ours.plan.hyperparameters.jumprelu_bandwidth:g}, L0 {l0:.1f}, "
        f"{reach:.1%} of pairs in reach: {1000 * mine:.0f} ms; SAELens {1000 * other:.0f} ms; "
        f"{ratio:.2f} times as fast\n"
    )


def _seconds(step: Callable[[], object]) -> float:
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("activations", type=Path, help="The folder that activations.py wrote.")
    parser.add_argument("--tokens", type=int, default=195_584)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--latents", type=int, default=4608)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
