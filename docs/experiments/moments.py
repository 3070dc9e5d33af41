"""Adam's moments in float32 and in bfloat16 on the same batches: what they take, how they train.

    python docs/experiments/moments.py RUN_DIR

RUN_DIR holds a run.json (any attempt's folder does). Its tokens are read once; two SAEs take turns
on every batch; both are then compared on contexts that neither has seen. Prints one JSON object.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workers.engine.advance import advance
from workers.engine.asked import Asked
from workers.engine.config import ModelFacts, Plan, RunSpec, plan
from workers.engine.evaluate import evaluate
from workers.engine.language_model import held_dtype, settled_dtype
from workers.engine.reading import Reading
from workers.engine.state import State
from workers.engine.stream import Stream

_EVALUATED_TOKENS = 8192


def main(run_dir: Path) -> dict[str, dict[str, float]]:
    spec = RunSpec.read(run_dir)
    asked = Asked.by(spec)
    plans = {dtype: _plan(spec, asked.facts, dtype) for dtype in ("float32", "bfloat16")}
    one, split, device = plans["float32"], asked.split, asked.device
    h = one.hyperparameters
    dtype, held = settled_dtype(h.dtype, device), held_dtype(h.dtype)
    reading = Reading(spec, one, asked.tokens, split.groups, device, dtype, held)
    reader = reading.reader(None)
    stream = Stream(reader, asked.order, h.batch_size, bool)
    states = {name: State.fresh(each, device, dtype) for name, each in plans.items()}
    for state in states.values():
        state.settle(stream.first_chunk())
    seconds: dict[str, list[float]] = {name: [] for name in states}
    for _ in range(h.num_steps):
        batch = stream.next()
        for name, state in states.items():
            begun = time.perf_counter()
            advance(state, plans[name], batch)
            seconds[name].append(time.perf_counter() - begun)
    found = {}
    for name, state in states.items():
        seen = evaluate(state.sae, state.normalizer, reader, split.held_out, _EVALUATED_TOKENS)
        moments, _ = state.optimizer.state()
        found[name] = {
            "fvu": seen.metrics["fvu"],
            "l0": seen.metrics["l0"],
            "moments_bytes": sum(value.nbytes for value in moments.values()),
            "step_milliseconds": 1000 * statistics.median(seconds[name]),
        }
    return found


def _plan(spec: RunSpec, facts: ModelFacts, moments_dtype: str) -> Plan:
    h = spec.config.hyperparameters.model_copy(update={"moments_dtype": moments_dtype})
    return plan(spec.config.model_copy(update={"hyperparameters": h}), facts)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1])), indent=1) + "\n")
