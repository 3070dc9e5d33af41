"""One run as several processes: each holds a share of the latents, and reads a share of the text.

Every rank sees each batch whole. What it needs of the others in a step is one sum over the ranks,
that of the reconstruction, and a few numbers: which of all latents are the largest, how long the
whole gradient is, what is shown. `docs/architecture.md` says what follows from that.
"""

from .group import ALONE, LostRank, Ranks

__all__ = ["ALONE", "WHOLE", "LostRank", "Ranks"]

WHOLE = ("b_dec", "W_skip")
"""The weights that every rank holds whole; of all others it holds the rows of its latents."""
