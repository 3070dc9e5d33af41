"""The REST API's root: who may call it, how often, and one shape for every error."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any, Final, NoReturn

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, Throttled, ValidationError
from ninja.parser import Parser
from ninja.security import HttpBearer, SessionAuth
from ninja.throttling import AuthRateThrottle

from saestudio.errors import SENTENCES, unknown
from templates_app.api import router as templates
from trainings.api import (
    datasets,
    models,
    sae_comparisons,
    sae_jobs,
    saes,
    sweeps,
    tokenizations,
    workers,
)
from trainings.api import router as trainings
from workers.engine.config import ConfigError, Problem

DESCRIPTION: Final = """
Everything the pages do. Call it with an API token (`Authorization: Bearer sae_...`, made on the
account page), or from a page of the studio with its session and CSRF token.

Every refusal has one shape: `{"errors": [{"field": ..., "message": ...}]}`. Live events come over
the WebSocket `/ws/training/{id}`; docs/api.md says more of them, and has examples.
"""


REFUSALS: Final = {
    400: "The body is no JSON object",
    401: "No token, or one that is not valid",
    403: "Role, token or owner do not allow it",
    413: "The body is larger than is read",
    422: "A value is wrong; `field` names it",
    429: "Too many calls; `Retry-After` says when to go on",
    503: "The database is away; or files are on their way from the store: `Retry-After`",
}


class Token(HttpBearer):
    """`saestudio.access.middleware.BearerToken` has already said whose it is."""

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        return request.user if hasattr(request, "api_token") else None


class Session(SessionAuth):
    """A logged-in page; it must bring its CSRF token. Whoever is nobody is told to log in."""

    def _get_key(self, request: HttpRequest) -> str | None:
        return super()._get_key(request) if request.user.is_authenticated else None


class StrictParser(Parser):
    """JSON as the standard has it: Python's own reader also takes NaN and Infinity."""

    def parse_body(self, request: HttpRequest) -> Any:
        found = json.loads(request.body, parse_constant=_no_number)
        if not isinstance(found, dict):
            raise TypeError("it must be an object")
        return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number.")


class StudioAPI(NinjaAPI):
    """Its schema names, beside what each operation says, the refusals that any may give."""

    def get_openapi_schema(self, **more: Any) -> Any:
        schema = super().get_openapi_schema(**more)
        shape = {"$ref": "#/components/schemas/Errors"}
        for methods in schema["paths"].values():
            for operation in methods.values():
                for status, why in REFUSALS.items():
                    content = {"application/json": {"schema": shape}}
                    said = {"description": why, "content": content}
                    operation["responses"].setdefault(status, said)
        return schema


def _known(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """The docs page asks a stranger to log in; its schema is read by scripts, which get a 401."""

    @wraps(view)
    def asked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.user.is_authenticated:
            return view(request, *args, **kwargs)
        if request.path.endswith(".json"):
            return unknown()
        return redirect_to_login(request.get_full_path())

    return asked


api = StudioAPI(
    title="SAE Studio",
    version="1",
    description=DESCRIPTION,
    urls_namespace="api",
    auth=[Token(), Session()],
    throttle=[AuthRateThrottle(f"{settings.API_CALLS}/m")],
    parser=StrictParser(),
    docs_url="/docs",
    docs_decorator=_known,
)
api.add_router("/trainings", trainings, tags=["trainings"])
api.add_router("/sweeps", sweeps, tags=["sweeps"])
api.add_router("/training-templates", templates, tags=["training templates"])
api.add_router("/models", models, tags=["models"])
api.add_router("/datasets", datasets, tags=["datasets"])
api.add_router("/tokenizations", tokenizations, tags=["tokenizations"])
api.add_router("/saes", saes, tags=["SAEs"])
api.add_router("/saes", sae_comparisons, tags=["SAEs"])
api.add_router("/saes", sae_jobs, tags=["SAEs"])
api.add_router("/workers", workers, tags=["workers"])


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


@api.exception_handler(AuthenticationError)
def _unknown(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    return unknown()


@api.exception_handler(Throttled)
def _too_often(request: HttpRequest, error: Throttled) -> HttpResponse:
    wait = int(error.wait or 1)
    answer = refuse(request, 429, [Problem("rate", f"Too many calls; go on in {wait} s.")])
    answer["Retry-After"] = str(wait)
    return answer


@api.exception_handler(RequestDataTooBig)
def _too_large(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    return refuse(request, 413, [Problem(*SENTENCES[413])])


@api.exception_handler(HttpError)
def _refused(request: HttpRequest, error: HttpError) -> HttpResponse:
    if error.status_code == 403:  # the only one that is no matter of the body
        return refuse(request, 403, [Problem(*SENTENCES[403])])
    why = f"The body cannot be read: {error.__cause__}" if error.__cause__ else str(error)
    return refuse(request, error.status_code, [Problem("body", why)])
