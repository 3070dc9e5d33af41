"""How fast this engine is here: its steps, their floor, extraction, whole runs, and the peers."""

from .report import Report, table
from .run import Options, bench

__all__ = ["Options", "Report", "bench", "table"]
