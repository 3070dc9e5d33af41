"""Templates on the page: list, keep, change, copy, delete, export, import with a preview."""

from __future__ import annotations

import uuid
from typing import Any, cast

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.text import slugify
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from trainings.forms import StartForm, texts
from trainings.rights import changeable, demand
from trainings.views import start
from trainings.views.pages import back, dialog, in_page
from workers.engine.config import FIELDS, PRESETS, ConfigError

from . import exchange
from .forms import ImportForm, KeepForm, TemplateForm
from .models import TrainingTemplate


@require_safe
def templates(request: HttpRequest) -> HttpResponse:
    rows = TrainingTemplate.objects.all()
    context = {"rows": rows, "presets": PRESETS.values()}
    return render(request, "template/list.html", context)


@require_safe
def use(request: HttpRequest) -> HttpResponse:
    """The Start Training dialog filled with a template's or a preset's settings."""
    chosen = request.GET.get("template", "")
    filled = request.GET.copy()
    for name in FIELDS:
        filled.pop(name, None)
    found = PRESETS.get(chosen) or TrainingTemplate.objects.of(chosen).first()
    if found is not None:
        if found.architecture:
            filled["architecture"] = str(found.architecture)
        for name, text in texts(found.hyperparameters).items():
            filled[name] = text
    return start.show(request, filled)


@require_POST
def keep(request: HttpRequest) -> HttpResponse:
    """What stands in the Start Training dialog, as a template; the answer goes into the dialog."""
    form, keep_form = StartForm(request.POST), KeepForm(request.POST)
    if not keep_form.is_valid() or not form.is_valid() or form.config is None:
        context = {"form": form, "keep": keep_form, "refused": True}
        return _kept(request, context, status=422)
    name = keep_form.cleaned_data["kept_name"].strip()
    values = {
        "name": name,
        "architecture": form.config.architecture.value,
        "hyperparameters": form.config.hyperparameters.model_dump(mode="json"),
    }
    replaced = keep_form.cleaned_data["replaces"]
    if replaced:
        template = changeable(request.user, TrainingTemplate.objects.all(), replaced)
        for column, value in values.items():
            setattr(template, column, value)
        template.save()
    else:
        template = TrainingTemplate.objects.create(
            **{**values, "name": TrainingTemplate.objects.free_name(name)},
            owner=cast(Any, request.user),
        )
    return _kept(request, {"form": form, "kept": template})


@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    template = changeable(request.user, TrainingTemplate.objects.all(), pk)
    form = TemplateForm(request.POST or None, instance=template)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, f"{template.name} is saved.")
        return _done(request)
    status = 422 if request.method == "POST" else 200
    return dialog(request, "template/_edit.html", {"form": form, "template": template}, status)


@require_POST
def favorite(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    chosen = request.POST.get("favorite") == "true"
    TrainingTemplate.objects.filter(pk=pk).update(is_favorite=chosen)
    return back(request, reverse("templates"))


@require_POST
def duplicate(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    copy = get_object_or_404(TrainingTemplate, pk=pk).duplicate(request.user)
    messages.success(request, f"{copy.name} is a copy.")
    return back(request, reverse("templates"))


@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Asks first; trainings keep their own settings."""
    template = get_object_or_404(TrainingTemplate, pk=pk)
    if request.method != "POST":
        return dialog(request, "template/_delete.html", {"template": template})
    demand(request.user, template).delete()
    messages.success(request, f"{template.name} is deleted.")
    return _done(request)


@require_safe
def export(request: HttpRequest) -> HttpResponse:
    """The chosen templates as a file; all of them where none is chosen."""
    found = TrainingTemplate.objects.all()
    ids = [text for text in request.GET.getlist("ids") if text]
    if ids:
        try:
            found = found.filter(pk__in=ids)
        except ValidationError:
            found = found.none()
    rows = list(found)
    if not rows:
        messages.info(request, "There is no such template to export.")
        return HttpResponseRedirect(reverse("templates"))
    name = slugify(rows[0].name) if len(rows) == 1 else ""
    answer = HttpResponse(exchange.write(rows), content_type="application/json")
    answer["Content-Disposition"] = f'attachment; filename="{name or "templates"}.json"'
    return answer


@require_http_methods(["GET", "HEAD", "POST"])
def import_(request: HttpRequest) -> HttpResponse:
    """Asks for a file, shows what it would make, and makes all of it or nothing."""
    if request.method != "POST":
        return render(request, "template/import.html", {"form": ImportForm()})
    form = ImportForm(request.POST, request.FILES)
    context: dict[str, Any] = {"form": form}
    if not form.is_valid():
        return render(request, "template/import.html", context, status=422)
    data: bytes = form.cleaned_data["data"]
    try:
        if "confirmed" in request.POST:
            return _imported(request, exchange.take(data, request.user))
        proposals = exchange.read(data)
    except ConfigError as error:
        for problem in error.problems:
            form.add_error(None, f"{problem.field}: {problem.message}")
        return render(request, "template/import.html", context, status=422)
    faults = sum(bool(proposal.problems) for proposal in proposals)
    context |= {"proposals": proposals, "faults": faults, "text": data.decode("utf-8-sig")}
    return render(request, "template/import.html", context)


def _imported(request: HttpRequest, made: list[TrainingTemplate]) -> HttpResponse:
    names = ", ".join(template.name for template in made[:5])
    more = f" and {len(made) - 5} more" if len(made) > 5 else ""
    messages.success(request, f"Imported: {names}{more}.")
    return HttpResponseRedirect(reverse("templates"))


def _kept(request: HttpRequest, context: dict[str, Any], status: int = 200) -> HttpResponse:
    if in_page(request):
        return render(request, "template/_keep.html", context, status=status)
    if "kept" in context:
        messages.success(request, f"{context['kept'].name} is saved.")
        return HttpResponseRedirect(reverse("templates"))
    return dialog(request, "training/_start.html", {**context, "estimate": None}, status)


def _done(request: HttpRequest) -> HttpResponse:
    """Back to the list, which is drawn anew."""
    if in_page(request):
        return HttpResponse(headers={"HX-Redirect": reverse("templates")})
    return HttpResponseRedirect(reverse("templates"))
