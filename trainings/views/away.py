"""What happened while the user was away: runs that ended since they last looked."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from trainings.models import Training
from trainings.models.transitions import ENDED

from .cards import Card
from .pages import in_page

# Who looked so many seconds ago was not away.
LONG = 600
REMEMBERED_EVERY = 60
MOST_NAMED = 5
_SEEN, _SINCE = "seen_at", "away_since"


@dataclass(frozen=True)
class Away:
    """Since when, and the runs that ended since, those that failed first."""

    seconds: float
    named: list[Card]
    counts: list[tuple[int, str]]

    @property
    def more(self) -> int:
        return sum(n for n, _ in self.counts) - len(self.named)


def away(request: HttpRequest) -> Away | None:
    """What ended since the user last looked, until they put it away; remembers that they look."""
    now, session = time.time(), request.session
    seen = session.get(_SEEN)
    if seen is None or now - seen > REMEMBERED_EVERY:
        session[_SEEN] = now
    if seen is not None and now - seen > LONG:
        session.setdefault(_SINCE, seen)
    since = session.get(_SINCE)
    if since is None:
        return None
    found = Training.objects.visible().filter(
        status__in=ENDED, completed_at__gt=datetime.fromtimestamp(since, UTC)
    )
    counts = found.by_status()
    if not counts:
        del session[_SINCE]
        return None
    failed_first = ("failed", "completed", "stopped")
    newest = found.order_by("-completed_at")
    named = [run for status in failed_first for run in newest.filter(status=status)[:MOST_NAMED]]
    return Away(
        seconds=now - since,
        named=[Card(run) for run in named[:MOST_NAMED]],
        counts=[(counts[status], status) for status in failed_first if status in counts],
    )


@require_POST
def put_away(request: HttpRequest) -> HttpResponse:
    """The user has read it."""
    request.session.pop(_SINCE, None)
    request.session[_SEEN] = time.time()
    if in_page(request):
        return HttpResponse('<div id="away"></div>')
    return HttpResponseRedirect(reverse("trainings"))
