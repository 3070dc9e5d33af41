"""Trains every run folder below a folder, one after the other, on all ranks torchrun has started.

`asked.json` beside a run.json says which rank is asked to stop or to pause, and after which step.
Each rank leaves its events in `events-RANK.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from workers.engine.config import RunSpec
from workers.engine.ranks import Ranks
from workers.engine.ranks.group import Joined, together
from workers.engine.train import train


def run(folder: Path, ranks: Ranks) -> list[dict[str, Any]]:
    """The events of one run, as this rank has them."""
    file = folder / "asked.json"
    wish, who, step = json.loads(file.read_text()) if file.exists() else ("", -1, 0)
    heard: set[str] = set()
    found = []
    for event in train(
        RunSpec.read(folder), folder, lambda: "stop" in heard, lambda: "pause" in heard, ranks
    ):
        found.append(event.to_dict())
        if ranks.number == who and event.step >= step:
            heard.add(wish)
    return found


def main() -> None:
    torch.set_num_threads(1)
    with together():
        for folder in sorted(path.parent for path in Path(sys.argv[1]).glob("*/run.json")):
            ranks = Joined()
            found = run(folder, ranks)
            (folder / f"events-{ranks.number}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
