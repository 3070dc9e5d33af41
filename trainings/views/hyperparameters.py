"""A training's hyperparameters, read-only, beside the defaults or beside those of another run."""

from __future__ import annotations

import json
import shlex
import uuid

from django.db.models import Case, When
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from trainings.models import Training
from workers.engine.config import FieldSpec, sections
from workers.engine.config.fields import show

from .cards import Card, card_of
from .pages import dialog, ids_of

MAX_OTHERS = 50


@require_safe
def hyperparameters(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    """Read-only, with what differs from the defaults or, with `against`, from another run."""
    card = card_of(training_id)
    against = _other(request, card.training)
    context = {"card": card, "others": _others(card.training), **settings(card, against)}
    return dialog(request, "training/_hyperparameters.html", context)


def _specs(card: Card) -> list[tuple[str, list[FieldSpec]]]:
    """The sections with those fields that mean something for this architecture."""
    architecture = card.training.architecture
    return [
        (section.value, [spec for spec in specs if spec.applies_to(architecture)])
        for section, specs in sections().items()
    ]


def settings(card: Card, against: Training | None = None) -> dict[str, object]:
    """All hyperparameters by section, each beside the default or another run's."""
    return {
        "against": against,
        "sections": [
            (section, [_value(card, spec, against) for spec in specs])
            for section, specs in _specs(card)
        ],
        "as_json": json.dumps(card.training.config.model_dump(mode="json"), indent=2),
        "as_command": _command(card),
    }


def _value(card: Card, spec: FieldSpec, against: Training | None) -> dict[str, object]:
    value = card.training.hyperparameters.get(spec.name, spec.default)
    there = against is None or spec.applies_to(against.architecture)
    other = against.hyperparameters.get(spec.name, spec.default) if against else value
    return {
        "spec": spec,
        "text": show(value),
        "default": show(spec.default),
        "changed": spec.name in card.changed,
        "other": (show(other) or spec.automatic) if there else "–",
        "differs": not there or other != value,
    }


def _others(run: Training) -> list[Training]:
    """Runs whose settings can be laid beside these: the newest, those of the same model first."""
    same = Case(When(model=run.model_id, then=0), default=1)
    found = Training.objects.visible().exclude(pk=run.pk).order_by(same, "-created_at")
    return list(found[:MAX_OTHERS])


def _other(request: HttpRequest, run: Training) -> Training | None:
    """The run that `against` names, if there is one."""
    found = ids_of([request.GET.get("against", "")], 1)
    return Training.objects.visible().exclude(pk=run.pk).filter(pk__in=found).first()


def _command(card: Card) -> str:
    """The same training as a `manage.py train` command line."""
    run = card.training
    parts = ["manage.py", "train", "--model", run.model.name, "--dataset", run.dataset.name]
    parts += ["--layer", str(run.layer), "--architecture", run.architecture]
    if run.origin:
        parts += ["--from", run.origin["id"]]
    for name, value in card.changed.items():
        text = show(value) if isinstance(value, list) else value
        parts += ["--set", f"{name}={'null' if value is None else text}"]
    return shlex.join(parts)
