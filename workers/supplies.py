"""What a run reads, brought to this host before its process starts."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainings import store
from trainings.models import Checkpoint, Training
from trainings.store import Absent, Damaged, GoOn, StoreError

from .uploads import written_files

logger = logging.getLogger(__name__)

Event = dict[str, Any]


@dataclass
class Fetched:
    """`checkpoints` that are here, the newest first; those that cannot be had are `set_aside`.

    `adopted`: one that this host had kept for the store, which has it now.
    """

    checkpoints: tuple[Path, ...] = ()
    set_aside: list[Event] = field(default_factory=list)
    adopted: list[Event] = field(default_factory=list)


@dataclass(frozen=True)
class Supplies:
    """`reads`: the model and its tokens. `start`: the SAE it continues, if it does.

    `checkpoints`: the usable ones, the newest first; `known` those of any row.
    """

    folder: Path
    reads: tuple[Path, ...]
    start: Path | None
    checkpoints: tuple[Path, ...]
    known: frozenset[Path]
    unsent: Path | None

    @classmethod
    def of(cls, training: Training) -> Supplies:
        start = training.start_spec
        known = Checkpoint.objects.filter(training=training).values_list("path", flat=True)
        return cls(
            folder=training.folder,
            reads=(training.model.folder, training.tokenization.folder),
            start=start.folder if start else None,
            checkpoints=Checkpoint.objects.to_go_on_from(training),
            known=frozenset(map(Path, known)),
            unsent=unsent(training),
        )

    def fetch(self, go_on: GoOn) -> Fetched:
        """Raises `StoreError` where it cannot begin without what is missing, and `OSError`."""
        for path in self.reads:
            store.fetch(path, go_on)
        found = Fetched()
        if self.unsent is not None:
            self._adopt(self.unsent, found, go_on)
        if not found.checkpoints:
            self._newest(found, go_on)
        if self.start and not found.checkpoints:
            store.fetch(self.start, go_on)
        self._clear_leftovers(go_on)
        return found

    def _clear_leftovers(self, go_on: GoOn) -> None:
        """Remove from the store what earlier attempts sent and no row stands for."""
        for attempt in store.children(self.folder, go_on):
            folder = self.folder / attempt / "checkpoints"
            for name in store.children(folder, go_on):
                if folder / name not in self.known and folder / name != self.unsent:
                    logger.info("%s belongs to no checkpoint and leaves the store", folder / name)
                    store.discard(folder / name, go_on)

    def _adopt(self, path: Path, found: Fetched, go_on: GoOn) -> None:
        """Send what an attempt of this host could not, or was killed in."""
        try:
            store.put(path, go_on, expected=written_files(path))
        except (StoreError, OSError) as error:
            logger.warning("%s is left where it is: %s", path, error)
            return
        found.adopted.append(_as_it_was_told(path))
        found.checkpoints = (path, *(other for other in self.checkpoints if other.exists()))

    def _newest(self, found: Fetched, go_on: GoOn) -> None:
        """The newest that can be had, and those behind it that are here anyway."""
        for n, path in enumerate(self.checkpoints):
            try:
                store.fetch(path, go_on, verified=True)
            except (Absent, Damaged) as error:
                found.set_aside.append(_set_aside(path, error))
                continue
            behind = (other for other in self.checkpoints[n + 1 :] if other.exists())
            found.checkpoints = (path, *behind)
            return


def unsent(training: Training) -> Path | None:
    """The newest whole checkpoint of this run that lies here and has no row yet, where it is newer
    than those that have one."""
    own = Checkpoint.objects.of_this_run(training)
    known = set(own.values_list("path", flat=True))
    newest = own.usable().values_list("step", flat=True).first() or 0
    found = [
        (int(match[2]), path)
        for path in training.folder.glob("attempt-*/checkpoints/step-*/manifest.json")
        if (match := re.search(r"/attempt-(\d+)/checkpoints/step-(\d+)/manifest\.json$", str(path)))
        and int(match[1]) >= training.fresh_since_attempt
        and int(match[2]) > newest
        and str(path.parent) not in known
    ]
    return max(found)[1].parent if found else None


def _as_it_was_told(path: Path) -> Event:
    """What the engine said of a checkpoint, as far as its files tell."""
    files = [each for each in path.iterdir() if each.is_file()]
    manifest = (path / "manifest.json").read_bytes()
    return {
        "event": "checkpoint",
        "step": int(path.name.removeprefix("step-")),
        "checkpoint_path": str(path),
        "bytes": sum(each.stat().st_size for each in files),
        "sha256": hashlib.sha256(manifest).hexdigest(),
        "seconds": 0.0,
        "stalled_seconds": 0.0,
        "fvu": None,
    }


def _set_aside(path: Path, error: StoreError) -> Event:
    return {
        "event": "checkpoint_set_aside",
        "step": 0,
        "checkpoint_path": str(path),
        "moved_to": None,
        "reason": str(error).rstrip("."),
    }
