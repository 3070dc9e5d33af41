"""The REST API's root: one shape for every error."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import ValidationError
from ninja.security import SessionAuth

from templates_app.api import router as templates
from trainings.api import router as trainings
from workers.engine.config import ConfigError, Problem

api = NinjaAPI(
    title="SAE Studio",
    version="1",
    urls_namespace="api",
    auth=SessionAuth(),
    docs_url=None,
)
api.add_router("/trainings", trainings, tags=["trainings"])
api.add_router("/training-templates", templates, tags=["training templates"])


def refuse(request: HttpRequest, status: int, problems: list[Problem]) -> HttpResponse:
    body = {"errors": [{"field": p.field, "message": p.message} for p in problems]}
    return api.create_response(request, body, status=status)


@api.exception_handler(ConfigError)
def _config_error(request: HttpRequest, error: ConfigError) -> HttpResponse:
    return refuse(request, 422, error.problems)


@api.exception_handler(ValidationError)
def _validation_error(request: HttpRequest, error: ValidationError) -> HttpResponse:
    return refuse(request, 422, [Problem(_field(e["loc"]), str(e["msg"])) for e in error.errors])


def _field(location: tuple[str | int, ...]) -> str:
    """The field's name, and its place where it is one of a list: `ids.0`."""
    whole = [str(part) for part in location]
    last_name = max((n for n, part in enumerate(location) if isinstance(part, str)), default=0)
    return ".".join(whole[last_name:])


@api.exception_handler(Http404)
def _not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    return refuse(request, 404, [Problem("id", "There is no such thing, or it was deleted.")])
