"""Sweeps: all of them, one with its trainings in a plane and a table, and more trainings of it."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Prefetch
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from trainings import sweeps
from trainings.forms import AddForm
from trainings.models import Sweep, Training
from trainings.rights import changeable
from trainings.standing import Standing, fvu_front, standing
from trainings.sweeps import ARCHITECTURE
from workers.engine.config import FIELDS, Architecture, ConfigError
from workers.engine.config.fields import show

from .away import looks
from .cards import TONES, Card, shown
from .compare import ids_asked
from .estimate import estimate_together
from .pages import dialog, go_to

PER_PAGE = 50


@dataclass(frozen=True)
class Row:
    """One training among those of its sweep; `own` has its values of what they differ in."""

    card: Card
    names: Sequence[str]
    on_front: bool
    dash: int = 0

    @property
    def colour(self) -> int:
        return self.card.colour

    @property
    def point(self) -> Standing:
        return standing(self.card.training)

    @property
    def stands(self) -> bool:
        """Whether it has a place in the plane."""
        return self.point.l0 is not None and self.point.fvu is not None

    @property
    def own(self) -> list[str]:
        return [_text(self.card.training, name) for name in self.names]

    @property
    def label(self) -> str:
        """As in `L1 alpha 0.001, Seed 2`; its name where it differs in nothing."""
        pairs = zip(map(_label, self.names), self.own, strict=True)
        return ", ".join(map(" ".join, pairs)) or self.card.training.name


@dataclass(frozen=True)
class Group:
    """A sweep's trainings as they stand together."""

    sweep: Sweep
    runs: Sequence[Training]

    @property
    def first(self) -> Training:
        return self.runs[0]

    @property
    def names(self) -> list[str]:
        return sweeps.own_names(self.runs)

    @property
    def own(self) -> list[str]:
        """What they differ in, in words."""
        return [_label(name) for name in self.names]

    @property
    def statuses(self) -> list[tuple[str, str, int]]:
        """Tone, word and number of each status that any has."""
        counts = Counter(run.shown_status for run in self.runs)
        return [(tone, word, counts[word]) for word, tone in TONES.items() if word in counts]

    @property
    def steps(self) -> int:
        return sum(run.num_steps for run in self.runs)

    @property
    def steps_done(self) -> int:
        return sum(min(run.current_step, run.num_steps) for run in self.runs)

    @property
    def progress(self) -> float:
        return self.steps_done / self.steps

    @property
    def eta(self) -> float | None:
        """Seconds until the last of those that run is done; none while none has been measured."""
        found = [eta for run in self.runs if (eta := Card(run).eta) is not None]
        return max(found, default=None)

    def rows(self, only: Collection[uuid.UUID] | None = None) -> list[Row]:
        front, names = fvu_front(self.runs), self.names
        chosen = [run for run in self.runs if only is None or run.pk in only]
        return [Row(Card(run), names, run.pk in front) for run in chosen]


@require_safe
def every(request: HttpRequest) -> HttpResponse:
    runs = Training.objects.visible().select_related("model")
    found = Sweep.objects.visible().select_related("owner")
    found = found.prefetch_related(Prefetch("trainings", runs, to_attr="shown"))
    page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    # The last training of one may have been deleted between the two queries.
    groups = [Group(sweep, sweep.shown) for sweep in page.object_list if sweep.shown]
    return render(request, "sweep/list.html", {"page": page, "groups": groups})


@require_safe
def sweep(request: HttpRequest, sweep_id: uuid.UUID) -> HttpResponse:
    looks(request)
    group = _group(sweep_id)
    if not group.runs:
        messages.info(request, f"The trainings of {group.sweep} have been deleted.")
        return HttpResponseRedirect(reverse("sweeps"))
    rows = group.rows()
    context = {
        "group": group,
        "rows": rows,
        "any_ce": any(row.point.ce_lost is not None for row in rows),
    }
    return render(request, "sweep/detail.html", context)


@require_safe
def fragments(request: HttpRequest, sweep_id: uuid.UUID) -> HttpResponse:
    """What changed on its open page: cells of these trainings, and what stands of all of them.

    `known`: the rows that the page has. Where others are there the table is drawn anew: what they
    differ in may be something else now.
    """
    looks(request)
    group = _group(sweep_id)
    known = ids_asked(request, "known")
    asked = [*ids_asked(request, "ids"), *ids_asked(request, "numbers")]
    there = {run.pk for run in group.runs}
    context = {
        "group": group,
        "rows": group.rows(),
        "redrawn": there and known and set(known) != there,
        "changed": group.rows(only=asked),
        "gone": [pk for pk in dict.fromkeys([*asked, *known]) if pk not in there],
    }
    return render(request, "sweep/_fragments.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest, sweep_id: uuid.UUID) -> HttpResponse:
    """Asks what else to try; a post queues it."""
    found = Sweep.objects.visible().select_related("owner")
    if request.method != "POST":
        row = get_object_or_404(found, pk=sweep_id)
        return _dialog(request, AddForm(row, _first(row)))
    row = changeable(request.user, found, sweep_id)
    form = AddForm(row, _first(row), request.POST)
    if form.is_valid():
        try:
            queued = sweeps.add(row, form.asked)
        except ConfigError as error:
            form.refuse(error)
        else:
            return _added(request, row, form, len(queued))
    return _dialog(request, form, status=422)


@require_safe
def check_added(request: HttpRequest, sweep_id: uuid.UUID) -> HttpResponse:
    """The server's word on what stands in the dialog now: errors, how many, what they need."""
    row = get_object_or_404(Sweep.objects.visible(), pk=sweep_id)
    form = AddForm(row, _first(row), request.GET)
    # Nothing filled in is nothing wrong yet.
    form = form if form.varies else AddForm(row, form.first)
    return render(request, "sweep/_add_check.html", _context(form))


def _added(request: HttpRequest, row: Sweep, form: AddForm, count: int) -> HttpResponse:
    came = "1 training was" if count == 1 else f"{count} trainings were"
    messages.success(request, f"{came} added.")
    for problem in form.found:
        messages.warning(request, problem.message)
    return go_to(request, reverse("sweep", args=[row.pk]))


def _dialog(request: HttpRequest, form: AddForm, status: int = 200) -> HttpResponse:
    return dialog(request, "sweep/_add.html", _context(form), status=status)


def _context(form: AddForm) -> dict[str, Any]:
    made = [member.config for member in form.made] if form.is_valid() else []
    estimate = estimate_together(made, form.first.tokenization) if made else None
    return {"form": form, "sweep": form.sweep, "estimate": estimate}


def _group(sweep_id: uuid.UUID) -> Group:
    found = get_object_or_404(Sweep.objects.select_related("owner"), pk=sweep_id)
    return Group(found, sweeps.in_order(list(shown().filter(sweep=found))))


def _first(row: Sweep) -> Training:
    runs = Training.objects.visible().select_related("tokenization__model").filter(sweep=row)
    found: Training | None = runs.first()
    if found is None:
        raise Http404("None of its trainings is left.")
    return found


def _label(name: str) -> str:
    return "Architecture" if name == ARCHITECTURE else FIELDS[name].label


def _text(run: Training, name: str) -> str:
    if name == ARCHITECTURE:
        return Architecture(run.architecture).label
    if not FIELDS[name].applies_to(Architecture(run.architecture)):
        return "–"
    return show(sweeps.value_of(run, name)) or "automatic"
