"""Daphne, with a bound on what it reads: `python -m saestudio.server`, options as Daphne's own.

Daphne reads a whole request to its temporary files before Django sees a header of it, so that
a stranger could fill the disk. Here a body that is too large is refused when its length is known,
or as soon as more has come than is read.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any, Final, cast

import django
from daphne import server
from daphne.cli import CommandLineInterface
from daphne.http_protocol import HTTPFactory, WebRequest
from twisted.internet import reactor  # the one that Daphne has installed

# The largest that means something is a template file of 256 KiB in a form.
MOST_BYTES: Final = 2 * 1024 * 1024
# A client that is still sending reads the answer only afterwards; it has so long.
PATIENCE: Final = 10.0
BODY: Final = json.dumps(
    {"errors": [{"field": "body", "message": f"At most {MOST_BYTES:,} bytes are read."}]}
).encode()
REFUSAL: Final = (
    b"HTTP/1.1 413 Content Too Large\r\nContent-Type: application/json\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


class BoundedRequest(WebRequest):  # type: ignore[misc]
    """Keeps no more of a body than `MOST_BYTES`."""

    received = 0
    refused = False

    def gotLength(self, length: int | None) -> None:
        """The headers are there; `length` is None where the body comes in chunks."""
        super().gotLength(length if self._fits(length or 0) else 0)

    def handleContentChunk(self, data: bytes) -> None:
        self.received += len(data)
        if self._fits(self.received):
            super().handleContentChunk(data)

    def process(self) -> Any:
        return None if self.refused else super().process()

    def _fits(self, length: int) -> bool:
        if length > MOST_BYTES and not self.refused:
            self.refused = True
            transport = self.channel.transport
            transport.write(REFUSAL)
            # What still comes is thrown away: closing at once would lose the answer on its way.
            transport.loseWriteConnection()
            cast(Any, reactor).callLater(PATIENCE, transport.abortConnection)
        return not self.refused


class BoundedFactory(HTTPFactory):  # type: ignore[misc]
    """Daphne's, with our requests."""

    def buildProtocol(self, addr: Any) -> Any:
        protocol = super().buildProtocol(addr)
        protocol.requestFactory = BoundedRequest
        return protocol


def main() -> None:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("-b", "--bind", default="127.0.0.1")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saestudio.settings")
    django.setup()
    from .access import exposure

    if reason := exposure.refusal(options.parse_known_args()[0].bind):
        sys.exit(reason)
    server.HTTPFactory = BoundedFactory
    CommandLineInterface.entrypoint()


if __name__ == "__main__":
    main()
