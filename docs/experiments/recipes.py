"""What trains best here: one hyperparameter of this engine at a time, on stored activations.

    python docs/experiments/recipes.py activations bandwidth --tokens 262144

Every run is a point of `recipes.json`; a run that is there is not repeated.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from measure import Data, Record, evaluated
from ours import Ours

from workers.engine.config import PRESETS

Question = dict[str, Any]
_K32 = 0.695  # percent of 4,608


def bandwidths() -> Iterator[Question]:
    """How wide JumpReLU's kernel should be, and where its thresholds should start."""
    for l0 in (64, 32):
        for bandwidth in (1.0, 0.5, 0.25, 0.1):
            yield _of("jumprelu", target_l0=l0, jumprelu_bandwidth=bandwidth)
    for threshold, bandwidth in ((0.25, 0.5), (0.25, 0.25), (1.0, 1.0)):
        own = {"jumprelu_threshold": threshold, "jumprelu_bandwidth": bandwidth}
        yield _of("jumprelu", target_l0=64, **own)


def targets() -> Iterator[Question]:
    """Whether L0 ends where it was wanted, also from a bad first coefficient."""
    for architecture, name, bad in (
        ("standard", "l1_alpha", (0.0001, 0.1)),
        ("jumprelu", "l0_alpha", (1e-6, 0.01)),
    ):
        for l0 in (16, 64, 256):
            yield _of(architecture, target_l0=l0)
        for value in bad:
            yield _of(architecture, target_l0=64, **{name: value})


def rates() -> Iterator[Question]:
    """The learning rate, up to the end of its range."""
    for rate in (1e-4, 3e-4, 1e-3):
        yield _of("standard", learning_rate=rate, target_l0=64)
        yield _of("jumprelu", learning_rate=rate, target_l0=64)
        yield _of("standard", learning_rate=rate, top_k_sparsity=_K32)


def schedules() -> Iterator[Question]:
    """Adam's averages, the decay at the end, the clip, and the auxiliary loss."""
    for own in (
        {"adam_beta2": 0.99},
        {"adam_beta1": 0.5, "adam_beta2": 0.99},
        {"lr_decay_fraction": 0.5},
        {"lr_decay_fraction": 1.0},
        {"gradient_clip": None},
        {"auxk_alpha": 0.0},
    ):
        yield _of("standard", top_k_sparsity=_K32, **own)
        if "auxk_alpha" not in own:
            yield _of("standard", target_l0=64, **own)
            yield _of("jumprelu", target_l0=64, **own)


def presets() -> Iterator[Question]:
    """Every preset as it is shipped."""
    for preset in PRESETS.values():
        yield _of(preset.architecture.value, **preset.hyperparameters)


EXPERIMENTS = {
    "bandwidth": bandwidths,
    "targets": targets,
    "rates": rates,
    "schedules": schedules,
    "presets": presets,
}


def _of(architecture: str, **h: Any) -> Question:
    return {"architecture": architecture, "learning_rate": 1e-3} | h


def answer(question: Question, data: Data) -> dict[str, Any]:
    """Train and measure. `reach` is the share of pairs a JumpReLU step looks at, at the end."""
    h = {k: v for k, v in question.items() if k not in ("architecture", "tokens", "batch")}
    run = Ours(data, question["architecture"], **h)
    begun = time.perf_counter()
    for x_BD, y_BD in zip(data.batches(), data.next_layer.split(data.batch), strict=False):
        run.step(x_BD, y_BD)
    found: dict[str, Any] = {"seconds": round(time.perf_counter() - begun)}
    if run.plan.architecture.spans:
        found |= _across(run, data)
    else:
        wanted = data.held_out_next if run.plan.has_own_target else data.held_out
        found |= evaluated(run.reconstruct, data.held_out, wanted)
    found["coefficient"] = run.coefficient
    if "threshold" in run.state.sae.weights:
        found["reach"] = run.reach(data.held_out[:4096])
    return found


def _across(run: Ours, data: Data) -> dict[str, Any]:
    """Of a crosscoder of both layers: each one's FVU, and their mean."""
    both = torch.cat((data.held_out, data.held_out_next), 1)
    found = []
    for number, wanted in enumerate((data.held_out, data.held_out_next)):

        def of_layer(x_BD: torch.Tensor, number: int = number) -> Any:
            y_hat_BO, active_BF = run.reconstruct(x_BD)
            return y_hat_BO.chunk(2, 1)[number], active_BF

        found.append(evaluated(of_layer, both, wanted))
    fvus = [each["fvu"] for each in found]
    return found[0] | {"fvu": sum(fvus) / 2, "fvu_of_layers": fvus}


def main() -> None:
    options = _arguments()
    torch.set_num_threads(options.threads)
    data = Data(options.activations, options.tokens, options.batch)
    record = Record(options.out)
    run = {"tokens": data.steps * data.batch, "batch": data.batch}
    for name in options.experiments:
        for question in EXPERIMENTS[name]():
            asked = question | run
            point = record.ask(asked, lambda asked=asked: answer(asked, data))
            words = " ".join(
                f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
                for key, value in point.items()
            )
            sys.stdout.write(f"{words}\n")
            sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("activations", type=Path, help="The folder that activations.py wrote.")
    parser.add_argument("experiments", nargs="+", choices=list(EXPERIMENTS))
    parser.add_argument("--tokens", type=int, default=262_144)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("recipes.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
