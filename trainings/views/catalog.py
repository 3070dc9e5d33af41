"""Models and datasets: what there is, how to get more, and what uses it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import Count, Q
from django.forms import ModelForm as AnyModelForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from trainings import catalog
from trainings.forms import DatasetForm, ModelForm, TokenizationForm
from trainings.models import Dataset, LanguageModel, Tokenization
from trainings.models.catalog import Prepared
from trainings.rights import changeable, demand

from .pages import back, dialog
from .preparing import preparing

KINDS: dict[str, type[Prepared]] = {
    "models": LanguageModel,
    "datasets": Dataset,
    "tokenizations": Tokenization,
}
USERS_SHOWN = 10
_IN_USE = Count("trainings", filter=Q(trainings__delete_requested_at=None), distinct=True)


@require_http_methods(["GET", "HEAD", "POST"])
def models(request: HttpRequest) -> HttpResponse:
    form = ModelForm(request.POST or None)
    if answer := _prepare(request, form, "models"):
        return answer
    rows = LanguageModel.objects.annotate(n_trainings=_IN_USE).order_by("name")
    context = {"rows": rows, "form": form, "preparing": preparing()}
    return render(request, "catalog/models.html", context, status=_status(form))


@require_http_methods(["GET", "HEAD", "POST"])
def datasets(request: HttpRequest) -> HttpResponse:
    form = DatasetForm(request.POST or None)
    if answer := _prepare(request, form, "datasets"):
        return answer
    return _datasets_page(request, form, TokenizationForm())


@require_POST
def tokenize(request: HttpRequest) -> HttpResponse:
    form = TokenizationForm(request.POST)
    if answer := _prepare(request, form, "datasets"):
        return answer
    return _datasets_page(request, DatasetForm(), form)


@require_POST
def prepare_again(request: HttpRequest, kind: str, pk: str) -> HttpResponse:
    """A failed preparation is tried once more."""
    if not catalog.prepare_again(changeable(request.user, _kind(kind).objects.all(), pk)):
        messages.info(request, "Only what failed can be tried again.")
    return back(request, _home(kind))


@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: HttpRequest, kind: str, pk: str) -> HttpResponse:
    """Asks first and names what uses it; a post deletes what nothing uses."""
    row = get_object_or_404(_kind(kind).objects.all(), pk=pk)
    users = _users(row)
    if request.method != "POST":
        context = {"row": row, "kind": kind, "home": _home(kind), **users}
        return dialog(request, "catalog/_delete.html", context)
    reason = catalog.remove(demand(request.user, row))
    messages.info(request, reason or f"{row} was deleted.")
    return HttpResponseRedirect(_home(kind))


def _prepare(request: HttpRequest, form: AnyModelForm[Any], page: str) -> HttpResponse | None:
    """None where the form was not sent, or has errors."""
    row = catalog.register(form, request.user) if form.is_valid() else None
    if row is None:
        return None
    messages.success(request, f"{row} is being prepared.")
    return HttpResponseRedirect(reverse(page))


def _datasets_page(
    request: HttpRequest, form: DatasetForm, tokenization_form: TokenizationForm
) -> HttpResponse:
    tokenizations = Tokenization.objects.select_related("dataset", "model")
    context = {
        "rows": Dataset.objects.annotate(n_trainings=_IN_USE).order_by("name"),
        "tokenizations": tokenizations.annotate(n_trainings=_IN_USE),
        "form": form,
        "tokenization_form": tokenization_form,
        "preparing": preparing(),
    }
    failed = max(_status(form), _status(tokenization_form))
    return render(request, "catalog/datasets.html", context, status=failed)


def _status(form: AnyModelForm[Any]) -> int:
    return 422 if form.is_bound and form.errors else 200


def _users(row: Prepared) -> dict[str, Any]:
    """Trainings and tokenizations that stand on a row, a few by name and all by number."""
    trainings = row.trainings.order_by("-created_at")  # type: ignore[attr-defined]
    tokenizations = getattr(row, "tokenizations", None)
    cut = list(tokenizations.select_related("dataset", "model")) if tokenizations else []
    return {
        "trainings": trainings[:USERS_SHOWN],
        "n_trainings": trainings.count(),
        "tokenizations": cut,
        "in_use": bool(cut) or trainings.exists(),
    }


def _kind(kind: str) -> type[Prepared]:
    if kind not in KINDS:
        raise Http404
    return KINDS[kind]


def _home(kind: str) -> str:
    return reverse("models" if kind == "models" else "datasets")
