"""What must be there before a training can run, for the page that has none yet."""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe
from redis.exceptions import RedisError

from trainings.models import Dataset, LanguageModel, Tokenization
from workers.broker import broker

from .cards import shown

HEARTBEATS = "dramatiq:__heartbeats__"
FRESH_SECONDS = 30


@dataclass(frozen=True)
class Item:
    """One thing needed: whether it is there, and where to get it."""

    title: str
    done: bool
    note: str
    address: str = ""


@require_safe
def show(request: HttpRequest) -> HttpResponse:
    context = {"checklist": checklist(), "any_training": shown().exists()}
    return render(request, "training/_checklist.html", context)


def checklist() -> list[Item]:
    models, datasets = LanguageModel.objects.ready(), Dataset.objects.ready()
    tokenizations = Tokenization.objects.ready()
    return [
        Item("A model", models.exists(), "whose activations are read", reverse("models")),
        Item("A dataset", datasets.exists(), "whose text the model reads", reverse("datasets")),
        Item(
            "A tokenization",
            tokenizations.exists(),
            "of that dataset, made with that model's tokenizer",
            reverse("datasets") + "#tokenize",
        ),
        Item("A worker", worker_listens(), "that runs trainings; the studio starts one itself"),
    ]


def worker_listens() -> bool:
    """Whether another process has asked the broker for work in the last half minute.

    Every broker client leaves a heartbeat when it talks to Redis; the web's own does not count.
    """
    here = broker()
    since = (time.time() - FRESH_SECONDS) * 1000
    try:
        fresh = here.client.zrangebyscore(HEARTBEATS, since, "+inf")
    except RedisError:
        return False
    return any(member != here.broker_id.encode() for member in fresh)
