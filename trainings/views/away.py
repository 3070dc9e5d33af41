"""What happened while the user was away: runs that ended between two looks at the studio."""

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
_SEEN, _AWAY = "seen_at", "away"


@dataclass(frozen=True)
class Away:
    """How long, and the runs that ended meanwhile, those that failed first."""

    seconds: float
    named: list[Card]
    counts: list[tuple[int, str]]

    @property
    def more(self) -> int:
        return sum(n for n, _ in self.counts) - len(self.named)


def looks(request: HttpRequest) -> None:
    """Remember that the user looks, and since when they did not if that is long."""
    now, session = time.time(), request.session
    seen = session.get(_SEEN, now)
    if now - seen > LONG:
        since, _ = session.get(_AWAY, (seen, now))
        session[_AWAY] = (since, now)
    if now - seen > REMEMBERED_EVERY or _SEEN not in session:
        session[_SEEN] = now


def away(request: HttpRequest) -> Away | None:
    """What ended while the user did not look, until they put it away."""
    since, until = request.session.get(_AWAY, (None, None))
    if since is None:
        return None
    found = Training.objects.visible().filter(
        status__in=ENDED,
        completed_at__gt=datetime.fromtimestamp(since, UTC),
        completed_at__lte=datetime.fromtimestamp(until, UTC),
    )
    counts = found.by_status()
    if not counts:
        del request.session[_AWAY]
        return None
    failed_first = ("failed", "completed", "stopped")
    newest = found.order_by("-completed_at")
    named = [run for status in failed_first for run in newest.filter(status=status)[:MOST_NAMED]]
    return Away(
        seconds=until - since,
        named=[Card(run) for run in named[:MOST_NAMED]],
        counts=[(counts[status], status) for status in failed_first if status in counts],
    )


@require_POST
def put_away(request: HttpRequest) -> HttpResponse:
    """The user has read it."""
    request.session.pop(_AWAY, None)
    if in_page(request):
        return HttpResponse('<div id="away"></div>')
    return HttpResponseRedirect(reverse("trainings"))
