"""Answers of any length, sent piece by piece.

Where Django serves a synchronous iterator asynchronously it first makes a list of all of it, so
that a download of gigabytes would lie in memory whole. Here each piece is made in the request's own
thread, once the one before it has been taken. Nothing is held while somebody reads slowly but what
the iterator itself holds: the thread's database connection is given back after each piece.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from asgiref.sync import sync_to_async
from django.db import connections
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header

PIECE = 256 * 1024


class Pieces(StreamingHttpResponse):
    """Of a synchronous iterator of strings or bytes."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = iter(self)
        while piece := await sync_to_async(_gathered)(pieces):
            yield piece


class SentFile(Pieces):
    """A file to keep, under a name of its own, as long as it was when it was opened."""

    def __init__(self, path: Path, name: str) -> None:
        """Raises `FileNotFoundError` where it is gone."""
        file = _Opened(path)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        super().__init__(file, content_type=kind)  # Django closes it in the end
        self["Content-Length"] = str(file.left)
        self["Content-Disposition"] = content_disposition_header(True, name)


class _Opened:
    """A file's bytes, exactly as many as it has now: more would be taken for the next answer."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.left = os.fstat(self._file.fileno()).st_size

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self.left:
            raise StopIteration
        piece = self._file.read(min(PIECE, self.left))
        if not piece:
            raise EOFError("The file became shorter while it was sent.")
        self.left -= len(piece)
        return piece

    def close(self) -> None:
        self._file.close()


class NoBodyForHead:
    """Middleware: a HEAD request makes nothing of what would be sent piece by piece."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        answer = self.get_response(request)
        if request.method == "HEAD" and isinstance(answer, Pieces):
            answer.streaming_content = iter(())
        return answer


def _gathered(pieces: Iterator[bytes]) -> bytes:
    """As many as make one worth sending; nothing at the end."""
    found, size = [], 0
    for piece in pieces:
        found.append(piece)
        size += len(piece)
        if size >= PIECE:
            break
    connections.close_all()
    return b"".join(found)
