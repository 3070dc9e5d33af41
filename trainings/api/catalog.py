"""Models, datasets and tokenizations over HTTP: what there is, more of it, and less."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.forms import ModelForm as AnyModelForm
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Query, Router, Schema, Status
from pydantic import Field

from trainings import catalog
from trainings.forms import DatasetForm, ModelForm, TokenizationForm
from trainings.models import Dataset, LanguageModel, Tokenization
from trainings.models.catalog import Prepared
from trainings.rights import changeable
from workers.engine.config import ConfigError, Problem

from .schemas import SOME_ID, Errors, Text, example, refused

models, datasets, tokenizations = Router(), Router(), Router()
Limit = Annotated[int, Query(ge=1, le=500)]
Offset = Annotated[int, Query(ge=0, le=1_000_000_000)]
State = Literal["pending", "running", "ready", "failed"]


class PreparedOut(Schema):
    """What a job makes ready; `progress` is a share, 0 to 1."""

    id: UUID
    status: str
    progress: float
    progress_note: str
    error_message: str
    size_bytes: int
    created_at: datetime
    ready_at: datetime | None
    owner: str | None

    @staticmethod
    def resolve_owner(row: Prepared) -> str | None:
        return row.owner.get_username() if row.owner else None


class ModelOut(PreparedOut):
    name: str
    source: str
    location: str
    revision: str
    architecture: str
    d_model: int | None
    n_layers: int | None
    context_length: int | None
    vocab_size: int | None
    dtype: str


class DatasetOut(PreparedOut):
    name: str
    source: str
    location: str
    subset: str
    split: str
    revision: str
    text_column: str
    n_documents: int | None


class TokenizationOut(PreparedOut):
    dataset_id: UUID
    model_id: UUID
    context_length: int
    bos: str
    max_tokens: int
    n_tokens: int | None
    n_contexts: int | None


class ModelIn(Schema):
    model_config = example(source="hub", location="HuggingFaceTB/SmolLM2-135M")

    source: Literal["hub", "folder"]
    location: Annotated[Text, Field(min_length=1, max_length=500)] = Field(
        description="A Hugging Face id, or a folder under an allowed root."
    )
    revision: Annotated[Text, Field(max_length=100)] = ""
    name: Annotated[Text, Field(max_length=255)] = ""


class DatasetIn(Schema):
    model_config = example(source="hub", location="roneneldan/TinyStories")

    source: Literal["hub", "file"]
    location: Annotated[Text, Field(min_length=1, max_length=500)] = Field(
        description="A Hugging Face id, or a file under an allowed root."
    )
    subset: Annotated[Text, Field(max_length=100)] = ""
    split: Annotated[Text, Field(max_length=100)] = "train"
    revision: Annotated[Text, Field(max_length=100)] = ""
    text_column: Annotated[Text, Field(max_length=100)] = "text"
    name: Annotated[Text, Field(max_length=255)] = ""


class TokenizationIn(Schema):
    model_config = example(dataset_id=SOME_ID, model_id=SOME_ID, context_length=256)

    dataset_id: UUID
    model_id: UUID
    context_length: Annotated[int, Field(strict=True, ge=8, le=2**31 - 1)] = 256
    bos: Literal["auto", "always", "never"] = "auto"
    max_tokens: Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)] = 0


class ModelPage(Schema):
    items: list[ModelOut]
    count: int


class DatasetPage(Schema):
    items: list[DatasetOut]
    count: int


class TokenizationPage(Schema):
    items: list[TokenizationOut]
    count: int


@models.get("", response={200: ModelPage, 422: Errors})
def list_models(
    request: HttpRequest, status: State | None = None, limit: Limit = 100, offset: Offset = 0
) -> dict[str, Any]:
    """By name."""
    return _page(LanguageModel, status, limit, offset)


@models.post("", response={201: ModelOut, 422: Errors})
def add_model(request: HttpRequest, payload: ModelIn) -> Status[Any]:
    """Register a model; a job fetches it, and its `status` says how that goes."""
    return Status(201, _added(request, ModelForm(payload.dict())))


@models.get("/{uuid:pk}", response={200: ModelOut, 404: Errors})
def get_model(request: HttpRequest, pk: UUID) -> Any:
    return get_object_or_404(_rows(LanguageModel), pk=pk)


@models.delete("/{uuid:pk}", response={204: None, 404: Errors, 409: Errors})
def delete_model(request: HttpRequest, pk: UUID) -> Status[Any]:
    """Row and files, unless something uses them."""
    return _deleted(request, LanguageModel, pk)


@models.post("/{uuid:pk}/prepare", response={200: ModelOut, 404: Errors, 409: Errors})
def prepare_model(request: HttpRequest, pk: UUID) -> Any:
    """Try again what failed."""
    return _again(request, LanguageModel, pk)


@datasets.get("", response={200: DatasetPage, 422: Errors})
def list_datasets(
    request: HttpRequest, status: State | None = None, limit: Limit = 100, offset: Offset = 0
) -> dict[str, Any]:
    """By name."""
    return _page(Dataset, status, limit, offset)


@datasets.post("", response={201: DatasetOut, 422: Errors})
def add_dataset(request: HttpRequest, payload: DatasetIn) -> Status[Any]:
    """Register a dataset; a job fetches it, and its `status` says how that goes."""
    return Status(201, _added(request, DatasetForm(payload.dict())))


@datasets.get("/{uuid:pk}", response={200: DatasetOut, 404: Errors})
def get_dataset(request: HttpRequest, pk: UUID) -> Any:
    return get_object_or_404(_rows(Dataset), pk=pk)


@datasets.delete("/{uuid:pk}", response={204: None, 404: Errors, 409: Errors})
def delete_dataset(request: HttpRequest, pk: UUID) -> Status[Any]:
    """Row and files, unless something uses them."""
    return _deleted(request, Dataset, pk)


@datasets.post("/{uuid:pk}/prepare", response={200: DatasetOut, 404: Errors, 409: Errors})
def prepare_dataset(request: HttpRequest, pk: UUID) -> Any:
    """Try again what failed."""
    return _again(request, Dataset, pk)


@tokenizations.get("", response={200: TokenizationPage, 422: Errors})
def list_tokenizations(
    request: HttpRequest,
    status: State | None = None,
    model_id: UUID | None = None,
    dataset_id: UUID | None = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> dict[str, Any]:
    """By dataset and context length."""
    asked = {"model": model_id, "dataset": dataset_id}
    named = {name: pk for name, pk in asked.items() if pk}
    return _page(Tokenization, status, limit, offset, **named)


@tokenizations.post("", response={201: TokenizationOut, 422: Errors})
def add_tokenization(request: HttpRequest, payload: TokenizationIn) -> Status[Any]:
    """Cut a dataset into tokens by a model's tokenizer; a job does it."""
    given = payload.dict()
    given |= {"dataset": given.pop("dataset_id"), "model": given.pop("model_id")}
    return Status(201, _added(request, TokenizationForm(given)))


@tokenizations.get("/{uuid:pk}", response={200: TokenizationOut, 404: Errors})
def get_tokenization(request: HttpRequest, pk: UUID) -> Any:
    return get_object_or_404(_rows(Tokenization), pk=pk)


@tokenizations.delete("/{uuid:pk}", response={204: None, 404: Errors, 409: Errors})
def delete_tokenization(request: HttpRequest, pk: UUID) -> Status[Any]:
    """Row and files, unless a training uses them."""
    return _deleted(request, Tokenization, pk)


@tokenizations.post("/{uuid:pk}/prepare", response={200: TokenizationOut, 404: Errors, 409: Errors})
def prepare_tokenization(request: HttpRequest, pk: UUID) -> Any:
    """Try again what failed."""
    return _again(request, Tokenization, pk)


def _rows(kind: type[Prepared]) -> Any:
    return kind.objects.select_related("owner")


def _page(
    kind: type[Prepared], status: str | None, limit: int, offset: int, **named: UUID
) -> dict[str, Any]:
    found = _rows(kind).filter(**named)
    if status:
        found = found.filter(status=status)
    return {"items": found[offset : offset + limit], "count": found.count()}


# What a form calls a field, where the API calls it otherwise.
_NAMES = {"dataset": "dataset_id", "model": "model_id", "__all__": "body"}


def _added(request: HttpRequest, form: AnyModelForm[Any]) -> Any:
    row = catalog.register(form, request.user) if form.is_valid() else None
    if row is None:
        raise ConfigError(
            [
                Problem(_NAMES.get(name, name), str(message))
                for name, messages in form.errors.items()
                for message in messages
            ]
        )
    row.refresh_from_db()
    return row


def _deleted(request: HttpRequest, kind: type[Prepared], pk: UUID) -> Status[Any]:
    row = changeable(request.user, _rows(kind), pk)
    reason = catalog.remove(row)
    if reason:
        return refused(409, "status", reason)
    return Status(204, None)


def _again(request: HttpRequest, kind: type[Prepared], pk: UUID) -> Any:
    row = changeable(request.user, _rows(kind), pk)
    if not catalog.prepare_again(row):
        return refused(409, "status", f"It is {row.status}; only what failed is tried again.")
    return get_object_or_404(_rows(kind), pk=pk)
