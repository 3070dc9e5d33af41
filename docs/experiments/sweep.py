"""What eight trainings on one stream of activations take, beside each of them alone.

Takes the folder of a run (run.json), trains it alone eight times with learning rates and seeds of
their own, then all eight together, and prints the seconds that training took: reading once, the
steps of all, and both together. `readings_paid` is what they cost together besides their steps, as
a multiple of reading once: with the steps as they were alone, and as they were together, where
eight SAEs share the processor's caches. What each begins with, the estimate of its normalization,
is in neither. Checkpoints and SAEs go to a temporary folder.

    python docs/experiments/sweep.py RUN_DIR --steps 200
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from workers.engine import events
from workers.engine.config import RunSpec
from workers.engine.prepared import Entry
from workers.engine.train import train, train_together


def main() -> dict[str, float]:
    options = _arguments()
    specs = [_varied(RunSpec.read(options.run_dir), n, options.steps) for n in range(options.count)]
    with tempfile.TemporaryDirectory() as folder:
        alone = [_read_and_made(train(spec, Path(folder) / spec.name)) for spec in specs]
        entries = [Entry(spec, Path(folder) / f"{spec.name}-together") for spec in specs]
        told, together = _watched(train_together(entries, _failed))
    h = specs[0].config.hyperparameters
    # The first chunk is read before the first step, from which on time is taken.
    timed = 1 - min(1.0, h.buffer_tokens / (options.steps * h.batch_size))
    readings = [timed * read for read, _ in alone]
    reading = statistics.median(readings)
    steps = sum(made for _, made in alone)
    # The clock of each runs while the others make their steps, too.
    beside = sum(event.sae_seconds for event in told) / len(specs)
    return {
        "members": len(specs),
        "reading_once_fastest": min(readings),
        "reading_once": reading,
        "steps_of_all": steps,
        "steps_of_all_together": beside,
        "together": together,
        "one_after_another": sum(readings) + steps,
        "readings_paid": (together - steps) / reading,
        "readings_paid_by_steps_together": (together - beside) / reading,
    }


def _varied(spec: RunSpec, number: int, steps: int) -> RunSpec:
    h = spec.config.hyperparameters
    own = {
        "learning_rate": h.learning_rate * (1 + number / 10),
        "seed": number,
        "data_seed": h.seed,
        "num_steps": steps,
        "checkpoint_interval": steps,
    }
    config = spec.config.model_copy(update={"hyperparameters": h.model_copy(update=own)})
    named = {"training_id": str(number), "name": str(number), "resume_from": (), "cache": None}
    return spec.model_copy(update={"config": config, **named})


def _read_and_made(told: Iterable[events.Event]) -> tuple[float, float]:
    """Seconds in which a run has read, and in which it has made its steps."""
    points = [event for event in told if isinstance(event, events.Progress)]
    return sum(p.extraction_seconds for p in points), sum(p.sae_seconds for p in points)


def _watched(told: Iterable[tuple[str, events.Event]]) -> tuple[list[events.Progress], float]:
    """All points, and the seconds from the first step to the last one of all."""
    points: list[events.Progress] = []
    begun = ended = 0.0
    for _, event in told:
        if isinstance(event, events.Phase) and event.phase == "training":
            begun = time.perf_counter()
        if isinstance(event, events.Progress):
            points.append(event)
            ended = time.perf_counter()
    return points, ended - begun


def _failed(_training_id: str, _step: int, error: Exception) -> events.Event:
    raise error


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--count", type=int, default=8)
    return parser.parse_args()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(), indent=1) + "\n")
