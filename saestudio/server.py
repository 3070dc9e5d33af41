"""Daphne within bounds: `python -m saestudio.server`, options as Daphne's own.

Daphne reads a whole request to its temporary files before Django sees a header of it, so that
a stranger could fill the disk. Here a body that is too large is refused when its length is known,
or as soon as more has come than is read.

Daphne also takes all of an answer at once, however slowly the client reads it. Here whoever makes
one waits while the client has not yet taken what is there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from typing import Any, Final, cast

import django
from daphne import server
from daphne.cli import CommandLineInterface
from daphne.http_protocol import HTTPFactory, WebRequest
from twisted.internet import reactor  # the one that Daphne has installed
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

# The largest that means something is a template file of 256 KiB in a form.
MOST_BYTES: Final = 2 * 1024 * 1024
# A client that is still sending reads the answer only afterwards; it has so long.
PATIENCE: Final = 10.0
# A client that is sent something takes a part of it within so many seconds.
READING: Final = 60.0
BODY: Final = json.dumps(
    {"errors": [{"field": "body", "message": f"At most {MOST_BYTES:,} bytes are read."}]}
).encode()
REFUSAL: Final = (
    b"HTTP/1.1 413 Content Too Large\r\nContent-Type: application/json\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
logger = logging.getLogger(__name__)


@implementer(IPushProducer)
class Valve:
    """Twisted closes it while more waits to be sent than it wants to hold."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()

    def pauseProducing(self) -> None:
        self._open.clear()

    def resumeProducing(self) -> None:
        self._open.set()

    def stopProducing(self) -> None:
        """The client is gone: nobody is to wait for it."""
        self._open.set()

    async def opened(self) -> None:
        await self._open.wait()


class BoundedRequest(WebRequest):  # type: ignore[misc]
    """Keeps no more of a body than `MOST_BYTES`, and of an answer what the client can take."""

    received = 0
    refused = False
    valve: Valve | None = None

    async def reply(self, message: dict[str, Any]) -> None:
        """Hand one part of the answer over, and wait until another would be welcome.

        Whoever takes nothing for a minute is cut off.
        """
        more = message.get("more_body", False)
        if more and self.valve is None and self.channel is not None:
            self.valve = Valve()
            self.registerProducer(self.valve, True)
        self.handle_reply(message)
        if not more or self.valve is None:
            return
        try:
            await asyncio.wait_for(self.valve.opened(), READING)
        except TimeoutError:
            self._cut()

    def handle_exception(self, exception: BaseException) -> None:
        """What has begun is cut off, so that nobody takes it for whole; Daphne cannot say more."""
        if self._response_started and not self.finished:
            self._cut()
        else:
            super().handle_exception(exception)

    def _cut(self) -> None:
        if self.channel is not None:
            self.channel.transport.abortConnection()

    def finish(self) -> None:
        if self.valve is not None and self.channel is not None:
            self.unregisterProducer()
        super().finish()

    def connectionLost(self, reason: Any) -> None:
        if self.valve is not None:
            self.valve.stopProducing()
        super().connectionLost(reason)

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


class PatientServer(server.Server):  # type: ignore[misc]
    """Daphne's, where an application's `send` returns once the client has room for more."""

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        found = self.connections.get(protocol)
        if not isinstance(protocol, BoundedRequest) or found is None or found.get("disconnected"):
            await super().handle_reply(protocol, message)
            return
        self.check_headers_type(message)
        await protocol.reply(message)

    def application_checker(self) -> None:
        """Daphne looks after its applications once a second, until that fails for one of them."""
        try:
            super().application_checker()
        except Exception:
            logger.exception("An application could not be looked after")
            cast(Any, reactor).callLater(1, self.application_checker)


class Patient(CommandLineInterface):  # type: ignore[misc]
    server_class = PatientServer


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
    Patient.entrypoint()


if __name__ == "__main__":
    main()
