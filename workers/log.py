"""One log file per attempt, of a bounded size."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import IO

MOST_BYTES = 8 * 2**20
_AT_ONCE = 65_536


class Log:
    """Copies a stream into a file, in a thread, until the stream ends.

    What exceeds 8 MiB begins it anew; what it held is kept as `NAME.old.txt`, and no more. A
    child that writes without end therefore fills no disk and never waits for a full pipe.
    """

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self._path, self._stream = path, stream
        self._thread = threading.Thread(target=self._copy, name="log", daemon=True)
        self._thread.start()

    def finish(self, seconds: float) -> None:
        """Wait until all has been written, at most so long."""
        self._thread.join(seconds)

    def _copy(self) -> None:
        while self._fill():
            self._path.replace(self._path.with_suffix(".old.txt"))

    def _fill(self) -> bool:
        """Copy until the file is full, or the stream has ended. Whether the file is full."""
        with self._path.open("ab", buffering=0) as file:
            while chunk := self._stream.read1(_AT_ONCE):  # type: ignore[attr-defined]
                file.write(chunk)
                if file.tell() >= MOST_BYTES:
                    return True
        return False
