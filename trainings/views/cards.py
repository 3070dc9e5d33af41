"""One training as its card shows it, on the page and in every live update."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from trainings import fleet
from trainings.models import Sae, Training, Worker
from trainings.models.transitions import Place
from trainings.models.worker import Trainers
from workers.engine.config import FIELDS, Architecture, Plan

from .sae_card import COLOURS, SaeCard

# Tone is a class and an icon; the word says the same without colour.
TONES = {
    "pending": "waiting",
    "running": "running",
    "stopping": "warning",
    "interrupted": "interrupted",
    "completed": "completed",
    "failed": "failed",
    "stopped": "stopped",
}
PHASES = {
    "starting": "Starting",
    "fetching": "Fetching what it reads from the store",
    "standing_still": "No sign of life: it is ended if this goes on, and resumed by itself",
    "loading_model": "Loading the model",
    "normalizing": "Measuring the activations' scale",
    "evaluating": "Evaluating on held-out tokens",
    "exporting": "Exporting the SAE",
}
NO_PLACE = Place()
NO_TRAINERS = Trainers([], [])


@dataclass(frozen=True)
class Figure:
    """One key number: how it is called, what it is, and what to know about it."""

    label: str
    value: float | None
    title: str
    whole: bool = False


@dataclass(frozen=True)
class Card:
    """What is derived from a row for display."""

    training: Training
    place: Place = NO_PLACE
    trainers: Trainers = NO_TRAINERS

    @property
    def status(self) -> str:
        return self.training.shown_status

    @property
    def word(self) -> str:
        return self.status.capitalize()

    @property
    def tone(self) -> str:
        return TONES[self.status]

    @property
    def unbegun(self) -> bool:
        """Whether it waits for its first step."""
        return self.training.status == "pending" and not self.training.current_step

    @property
    def colour(self) -> int:
        """1 to 6, by the run's id, so that a run keeps its colour on every page."""
        return self.training.id.int % COLOURS + 1

    @property
    def architecture(self) -> str:
        return Architecture(self.training.architecture).label

    @cached_property
    def width(self) -> int | None:
        """Number of latents."""
        facts = self.training.model.facts
        return Plan.of(self.training.config, facts).d_sae if facts else None

    @property
    def tokens_per_second(self) -> float | None:
        speed: float | None = self.training.latest.get("tokens_per_second")
        return speed

    @property
    def cached(self) -> float | None:
        """Share of the activations that lay in the cache at the start; none without a cache."""
        share: float | None = self.training.run_facts.get("cached_fraction")
        return share

    @property
    def eta(self) -> float | None:
        """Seconds left at the newest throughput; none unless it is running and was measured."""
        speed = self.tokens_per_second
        if self.status != "running" or not speed:
            return None
        left = self.training.num_steps - self.training.current_step
        return left * self.training.config.hyperparameters.batch_size / speed

    @property
    def elapsed(self) -> float | None:
        run = self.training
        if not run.started_at or not run.completed_at:
            return None
        return (run.completed_at - run.started_at).total_seconds()

    @property
    def figures(self) -> list[Figure]:
        latest = self.training.latest
        return [
            Figure("Loss", latest.get("loss"), "Reconstruction and sparsity loss together"),
            Figure("L0", latest.get("l0"), "Active latents per token"),
            Figure("FVU", latest.get("fvu"), "Fraction of variance unexplained"),
            Figure("Dead neurons", latest.get("dead_neurons"), self.dead_window, whole=True),
        ]

    @property
    def dead_window(self) -> str:
        window = self.training.latest.get("dead_window_tokens")
        limit = self.training.hyperparameters["dead_neuron_threshold"]
        often = "never" if not limit else f"in at most {limit:g} of all tokens"
        counted = f"over the last {window:,} tokens" if window else "over the window"
        return f"Latents that fired {often} {counted}"

    @property
    def activity(self) -> str:
        """What a run that is not yet training is doing or waiting for; else empty."""
        if self.training.status == "pending":
            return self._waiting_for()
        if self.training.status != "running":
            return ""
        if self.training.stop_requested_at:
            return "Stopping: saving a checkpoint and the SAE first"
        return PHASES.get(self.training.phase, "")

    def _waiting_for(self) -> str:
        for row in (self.training.model, self.training.dataset, self.training.tokenization):
            if row.status != "ready":
                return f"Waiting for the {row.kind} ({row.progress:.0%})".replace("%", " %")
        lost = "Its worker was lost; it goes on by itself. " if self.status == "interrupted" else ""
        if reason := fleet.why_waiting(self.training, self.trainers):
            return f"{lost}{reason}"
        ahead = self.place.ahead
        if not ahead:
            return f"{lost}Waiting for a worker"
        return f"{lost}Queued behind {ahead} {'run' if ahead == 1 else 'runs'}"

    @property
    def can_overtake(self) -> bool:
        return bool(self.place.before)

    @cached_property
    def sae(self) -> Sae | None:
        return getattr(self.training, "sae", None)

    @property
    def loading_snippet(self) -> str:
        """Two lines that load the SAE elsewhere; safetensors where SAELens has no such kind."""
        return SaeCard(self.sae).loading_snippet if self.sae else ""

    @property
    def changed(self) -> dict[str, Any]:
        """Hyperparameters that differ from their defaults."""
        return {
            name: value
            for name, value in self.training.hyperparameters.items()
            if name in FIELDS and value != FIELDS[name].default
        }


def cards(trainings: Iterable[Training]) -> list[Card]:
    """Cards in the same order, with each pending run's place in the queue and who could run it."""
    runs = list(trainings)
    if not any(run.status == "pending" for run in runs):
        return [Card(run) for run in runs]
    places, trainers = Training.objects.places(), Worker.objects.trainers()
    return [Card(run, places.get(run.pk, NO_PLACE), trainers) for run in runs]


def card_of(training_id: UUID) -> Card:
    """Of a run that is shown; Http404 where there is none."""
    return cards([get_object_or_404(shown(), pk=training_id)])[0]


def shown() -> Any:
    """Trainings with all their cards read, in two queries."""
    related = ("model", "dataset", "tokenization", "sae", "owner", "sweep")
    return Training.objects.visible().select_related(*related).prefetch_related("tags")


def changed(request: HttpRequest, ids: Collection[UUID]) -> HttpResponse:
    """The new parts of these cards for the page that asked, and its dialog closed."""
    found = cards(shown().filter(pk__in=ids))
    gone = set(ids) - {card.training.pk for card in found}
    context = {"cards": found, "gone": gone, "arrived": []}
    response = render(request, "training/_fragments.html", context)
    response["HX-Trigger"] = "dialog:close"
    response["HX-Reswap"] = "none"
    return response
