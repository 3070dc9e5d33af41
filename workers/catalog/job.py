"""One claimed row of the catalog while it is prepared: its lease, its progress, its workspace."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from django.db import InterfaceError, OperationalError, connection

from trainings.models import Dataset, LanguageModel
from trainings.models.catalog import Prepared

logger = logging.getLogger(__name__)

TICK = 1.0
RENEW_EVERY = 15


class LeaseLost(Exception):
    """The row belongs to another worker now, or is gone."""


class PrepareError(Exception):
    """A row cannot be made ready; the message is a sentence for the researcher."""


def refuse_twin(row: LanguageModel | Dataset, **identity: str) -> None:
    """Two rows for one commit would fetch the same thing twice. Raises `PrepareError`."""
    twins = type(row).objects.filter(source=row.source, location=row.location, **identity)
    twin = twins.exclude(pk=row.pk).first()
    if twin is not None:
        raise PrepareError(f"{row.location} is registered already, as {twin}; delete this one.")


@dataclass
class Job:
    """Keeps the lease from a thread of its own, so that long silent steps do not lose it.

    The work calls `report` as often as it likes; the thread writes at most once a second.
    """

    row: Prepared
    attempt: int
    on_progress: Callable[[float, str], None]
    _told: tuple[float, str] = (0.0, "")
    _lost: threading.Event = field(default_factory=threading.Event)
    _ending: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._discard_workspaces()
        self.workspace.mkdir(parents=True)
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join()
        self._discard_workspaces()

    @property
    def workspace(self) -> Path:
        """A folder beside the row's own; it goes whatever happens."""
        return self.row.folder.with_name(f"{self.row.pk}.{self.attempt}.part")

    @property
    def draft(self) -> Path:
        """What `publish` makes the row's own folder."""
        return self.workspace / "draft"

    def report(self, share: float, note: str = "") -> None:
        """Say how far the work is, 0 to 1. Raises `LeaseLost`, so that the work ends."""
        self.go_on()
        self._told = (min(1.0, max(0.0, share)), note)
        self.on_progress(*self._told)

    def go_on(self) -> None:
        """Raises `LeaseLost` once nobody waits for this work."""
        if self._lost.is_set():
            raise LeaseLost(f"{self.row.pk}, attempt {self.attempt}")

    def publish(self) -> None:
        """Put the draft in the row's place, if the row is still ours. Raises `LeaseLost`."""
        if not self._renew():
            raise LeaseLost(f"{self.row.pk}, attempt {self.attempt}")
        if self.draft.exists():
            if self.row.folder.exists():
                shutil.rmtree(self.row.folder)
            self.draft.rename(self.row.folder)

    def _keep(self) -> None:
        written, quiet = self._told, 0
        while not self._ending.wait(TICK):
            quiet += 1
            if self._told == written and quiet < RENEW_EVERY:
                continue
            try:
                held = self._renew()
            except (OperationalError, InterfaceError) as error:
                logger.warning("The lease of %s waits for the database: %s", self.row.pk, error)
                connection.close()
                continue
            written, quiet = self._told, 0
            if not held:
                self._lost.set()
                break
        connection.close()

    def _renew(self) -> bool:
        share, note = self._told
        rows = type(self.row).objects
        return rows.renew(self.row.pk, self.attempt, progress=share, progress_note=note)

    def _discard_workspaces(self) -> None:
        """This attempt's, and those of attempts that were killed half-way."""
        for folder in self.row.folder.parent.glob(f"{self.row.pk}.*.part"):
            shutil.rmtree(folder)
