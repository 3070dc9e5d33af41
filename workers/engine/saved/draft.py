"""A folder that is there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..checkpoint import replace


@contextmanager
def drafted(out: Path) -> Iterator[Path]:
    """The path of a folder to be made, which becomes `out` at the end; after an error it is gone.

    Its own of this process: whoever else writes `out` at this moment has another.
    """
    temporary = out.with_name(f"{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        yield temporary
        replace(temporary, out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
