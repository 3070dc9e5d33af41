"""SAEs found, compared and drawn in one plane over the API."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.rows import EVALUATION, a_tokenization, an_imported_sae, an_sae
from tests.trainings.conftest import nudges
from trainings.models import LanguageModel, Sae, SaeJob, Tokenization

__all__ = ["nudges"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudges")]


@pytest.fixture
def mine(tmp_path: Path) -> Sae:
    figures = EVALUATION | {"ce_recovered": 0.98, "dead": 8}
    return an_sae(tmp_path / "sae", evaluation=figures)


@pytest.fixture
def theirs() -> Sae:
    return an_imported_sae(evaluation=EVALUATION | {"fvu": 0.03, "l0": 64.0, "dead": 8})


def get(api: Client, path: str, **query: Any) -> Any:
    answer = api.get(f"/api/v1/saes{path}", query)
    assert answer.status_code == 200, answer.content
    return answer.json()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, {"a run", "theirs"}),
        ({"imported": True}, {"theirs"}),
        ({"imported": False}, {"a run"}),
        ({"architecture": "standard"}, {"a run"}),
        ({"architecture": "TopK 32"}, {"theirs"}),
        ({"architecture": "gated\x00"}, set()),
        ({"layer": 1, "hook": "resid_post"}, {"a run", "theirs"}),
        ({"layer": 2}, set()),
        ({"hook": "mlp_out"}, set()),
    ],
)
def test_saes_are_found_by_what_they_are(
    api: Client, mine: Sae, theirs: Sae, query: dict[str, Any], found: set[str]
) -> None:
    page = get(api, "", **query)
    assert {sae["name"] for sae in page["items"]} == found
    assert page["count"] == len(found)


def test_an_old_run_that_names_no_hook_reads_the_blocks_output(api: Client, mine: Sae) -> None:
    assert mine.training
    del mine.training.hyperparameters["hook"]
    mine.training.save()
    [sae] = get(api, "", hook="resid_post")["items"]
    assert (sae["hook"], sae["width"]) == ("resid_post", mine.width)
    assert sae["tokenization_id"] == str(mine.text.pk)


def test_wrong_filters_are_named(api: Client) -> None:
    for query in ({"hook": "nowhere"}, {"layer": -1}, {"imported": "perhaps"}):
        answer = api.get("/api/v1/saes", query)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] in query


def test_two_are_compared(api: Client, mine: Sae, theirs: Sae) -> None:
    found = get(api, "/compare", ids=[mine.pk, theirs.pk])
    assert [each["sae"]["name"] for each in found["items"]] == ["a run", "theirs"]
    assert [each["held_out"] for each in found["items"]] == [True, False]
    assert found["obstacles"] == []
    figures = {each["name"]: each for each in found["figures"]}
    assert figures["fvu"]["values"] == [0.0468, 0.03]
    assert figures["fvu"]["best"] == [str(theirs.pk)]
    assert figures["l0"]["best"] == []
    assert figures["ce_recovered"]["values"] == [0.98, None]
    assert figures["dead"]["shares"] == [8 / (mine.width or 0), 8 / 512]
    facts = {each["label"]: each for each in found["facts"]}
    assert (facts["Model"]["differs"], facts["Architecture"]["differs"]) == (False, True)


def test_they_are_compared_on_a_text_of_their_model(api: Client, mine: Sae, theirs: Sae) -> None:
    own = a_tokenization()
    text = Tokenization.objects.create(
        model=own.model, dataset=own.dataset, context_length=32, status="ready"
    )
    job = SaeJob.objects.ask(mine, SaeJob.Kind.EVALUATE, text)
    SaeJob.objects.filter(pk=job.pk).update(status="done", result={"fvu": 0.5, "l0": 3.0})
    ids = [mine.pk, theirs.pk]
    found = get(api, "/compare", ids=ids, tokenization_id=text.pk)
    assert [each["evaluation"] for each in found["items"]] == [{"fvu": 0.5, "l0": 3.0}, {}]
    other = LanguageModel.objects.create(name="b", source="folder", location="b", status="ready")
    foreign = Tokenization.objects.create(
        model=other, dataset=own.dataset, context_length=64, status="ready"
    )
    answer = api.get("/api/v1/saes/compare", {"ids": ids, "tokenization_id": foreign.pk})
    assert answer.status_code == 404


def test_none_nine_and_those_that_are_not_there_are_refused(api: Client, mine: Sae) -> None:
    address = "/api/v1/saes/compare"
    assert api.get(address).status_code == 422
    assert api.get(address, {"ids": [uuid.uuid4() for _ in range(9)]}).status_code == 422
    assert api.get(address, {"ids": [mine.pk, uuid.uuid4()]}).status_code == 404


def test_the_plane_has_points_and_what_none_beats(api: Client, mine: Sae, theirs: Sae) -> None:
    model = mine.language_model
    bare = an_imported_sae("bare")
    found = get(api, "/pareto", model_id=model.pk)
    assert [(each["name"], each["l0"]) for each in found["items"]] == [
        ("a run", 46.0),
        ("theirs", 64.0),
    ]
    assert [each["on_fvu_front"] for each in found["items"]] == [True, True]
    assert [each["on_ce_front"] for each in found["items"]] == [True, False]
    assert found["missing"] == [str(bare.pk)]
    assert found["tokenization_id"] == str(mine.text.pk)
    assert found["obstacles"] == []
    assert len(get(api, "/pareto", model_id=model.pk, width=512)["items"]) == 1
    assert get(api, "/pareto", model_id=model.pk, layer=2)["items"] == []
    assert get(api, "/pareto", model_id=model.pk, own=True)["tokenization_id"] is None
    assert api.get("/api/v1/saes/pareto", {"model_id": uuid.uuid4()}).status_code == 404


def test_a_failure_is_dismissed_and_nothing_else(api: Client, mine: Sae) -> None:
    job = SaeJob.objects.ask(mine, SaeJob.Kind.EXPORT, mine.text, format="saelens")
    address = f"/api/v1/saes/{mine.pk}/jobs/{job.pk}"
    assert api.delete(address).status_code == 409
    SaeJob.objects.update(status="failed")
    assert api.delete(address).status_code == 204
    assert api.delete(address).status_code == 404


def test_the_job_of_an_import_is_listed_and_stays(api: Client, theirs: Sae) -> None:
    job = SaeJob.objects.ask(theirs, SaeJob.Kind.IMPORT, theirs.text)
    SaeJob.objects.update(status="failed")
    assert [each["kind"] for each in get(api, f"/{theirs.pk}/jobs")] == ["import"]
    assert api.delete(f"/api/v1/saes/{theirs.pk}/jobs/{job.pk}").status_code == 409
