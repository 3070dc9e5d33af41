"""One SAE as a page shows it, whether it was trained here or came from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from trainings import fetching
from trainings.models import Sae
from workers.engine.features import FeatureTable, UnreadableTable

COLOURS = 6


@dataclass(frozen=True)
class SaeCard:
    """What is derived from a row for display."""

    sae: Sae

    @property
    def colour(self) -> int:
        """1 to 6: of its training, if it has one, so that both look alike."""
        return (self.sae.training or self.sae).id.int % COLOURS + 1

    @cached_property
    def files_wait(self) -> str:
        """Why its files are not on this host yet; empty where they are."""
        return fetching.why_not_here(self.sae.folder)

    @cached_property
    def table_waits(self) -> str:
        """The same of the table of its features."""
        return fetching.why_not_here(self.sae.features_path, newest=True)

    @property
    def files(self) -> list[tuple[str, int]]:
        """Names and sizes of what other tools read."""
        folder = self.sae.folder
        if self.files_wait or not folder.is_dir():
            return []
        there = sorted(path for path in folder.iterdir() if path.is_file())
        return [(path.name, path.stat().st_size) for path in there]

    @cached_property
    def table(self) -> FeatureTable | None:
        return None if self.table_waits else table_of(self.sae)

    @property
    def difference(self) -> float | None:
        """Of what was read back from what was written, relative to the largest value."""
        found: float | None = self.sae.export.get("max_difference")
        return found

    @property
    def loading_snippet(self) -> str:
        """Two lines that load it elsewhere; safetensors where SAELens has no such kind."""
        if self.sae.format == "saelens":
            return f'from sae_lens import SAE\nsae = SAE.load_from_disk("{self.sae.path}")'
        file = f"{self.sae.path}/sae_weights.safetensors"
        return f'from safetensors.torch import load_file\nweights = load_file("{file}")'


def table_of(sae: Sae) -> FeatureTable | None:
    """The table of its features, if one has been made that can be read."""
    try:
        return FeatureTable(sae.features_path)
    except UnreadableTable:
        return None
