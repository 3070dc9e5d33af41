"""Answers of any length, sent piece by piece.

Where Django serves a synchronous iterator asynchronously it first makes a list of all of it, so
that a download of gigabytes would lie in memory whole. Here each piece is made in the request's own
thread, once the one before it has been taken.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from asgiref.sync import sync_to_async
from django.http import FileResponse, StreamingHttpResponse

PIECE = 256 * 1024


class Pieces(StreamingHttpResponse):
    """Of a synchronous iterator of strings or bytes."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = iter(self)
        while piece := await sync_to_async(_gathered)(pieces):
            yield piece


def _gathered(pieces: Iterator[bytes]) -> bytes:
    """As many as make one worth sending; nothing at the end."""
    found, size = [], 0
    for piece in pieces:
        found.append(piece)
        size += len(piece)
        if size >= PIECE:
            break
    return b"".join(found)


class SentFile(Pieces, FileResponse):
    """A file to keep, under a name of its own."""

    block_size = PIECE

    def __init__(self, path: Path, name: str) -> None:
        """Raises `FileNotFoundError` where it is gone."""
        super().__init__(path.open("rb"), as_attachment=True, filename=name)
