"""An SAE's page: what it is worth, its latents, texts, and the jobs that find them."""

from __future__ import annotations

import html
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.engine.test_features import a_feature
from tests.people import somebody
from tests.rows import EVALUATION, an_imported_sae, an_sae
from trainings.models import LanguageModel, Sae, SaeJob, Tokenization
from trainings.tokens import shaded, told, visible
from workers.engine.features import table

pytestmark = pytest.mark.django_db


@pytest.fixture
def sae(tmp_path: Path) -> Sae:
    return an_sae(tmp_path / "attempt-1" / "sae")


def page(client: Client, sae: Sae, query: str = "") -> str:
    answer = client.get(f"/saes/{sae.pk}{query}")
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def with_features(sae: Sae, count: int = 120) -> Sae:
    about = {"tokens": 1000, "contexts": 10}
    table.write(sae.features_path, about, (a_feature(i) for i in range(count)))
    return sae


def a_job(sae: Sae, kind: str = "evaluate", **changes: Any) -> SaeJob:
    text = changes.pop("text", "")
    job = SaeJob.objects.ask(sae, SaeJob.Kind(kind), sae.text, text=text)
    SaeJob.objects.filter(pk=job.pk).update(**changes)
    job.refresh_from_db()
    return job


def test_what_was_measured_is_shown_and_nothing_else(client: Client, sae: Sae) -> None:
    found = page(client, sae)
    for word in ("FVU", "0.0468", "46.0", "Alive", "98 %", "Evaluate", "latents fired"):
        assert word in found
    assert "KL recovered" not in found
    Sae.objects.update(evaluation=EVALUATION | {"ce_recovered": 0.994, "kl_recovered": 0.98})
    found = page(client, sae)
    assert "0.9940" in found
    assert "KL recovered" in found
    assert "Evaluate again" in found


def test_a_crosscoder_is_shown_layer_by_layer_and_written_plainly(client: Client, sae: Sae) -> None:
    assert "no format for an SAE that reads several layers" not in page(client, sae)
    run = sae.training
    assert run is not None
    run.architecture, run.hyperparameters = "crosscoder", run.hyperparameters | {"layers": [1, 3]}
    run.save()
    by_layer = [{"layer": 1, "fvu": 0.0625}, {"layer": 3, "fvu": 0.125, "ce_recovered": 0.875}]
    Sae.objects.update(evaluation=EVALUATION | {"by_layer": by_layer}, format="safetensors")
    found = page(client, sae)
    for words in ("layers 1, 3", "0.0625", "0.1250", "CE recovered 0.8750"):
        assert words in found
    assert "no format for an SAE that reads several layers" in found
    assert 'value="safetensors"' in found
    assert 'value="saelens"' not in found
    assert "1, 3</td>" in client.get("/saes").content.decode()
    assert client.get(f"/api/v1/saes/{sae.pk}").json()["layers"] == [1, 3]


def test_a_crosscoders_latent_says_where_it_writes(client: Client, sae: Sae) -> None:
    shares = [(1, 0.25), (3, 0.75)]
    table.write(
        sae.features_path,
        {"tokens": 1000, "contexts": 10},
        [replace(a_feature(0), shares=shares), a_feature(1)],
    )
    found = client.get(f"/saes/{sae.pk}/features/0").content.decode()
    assert "Layers it writes to" in found
    assert "75 %" in found.replace("\xa0", " ")
    assert "the last of its layers" in found
    assert "Layers it writes to" not in client.get(f"/saes/{sae.pk}/features/1").content.decode()


def test_an_sae_without_an_evaluation_has_a_page(client: Client, sae: Sae) -> None:
    Sae.objects.update(evaluation={})
    assert "Evaluate" in page(client, sae)


def test_evaluation_is_asked_for_once(client: Client, sae: Sae, nudges: Any) -> None:
    for _ in range(2):
        answer = client.post(f"/saes/{sae.pk}/evaluate")
        assert answer.headers["Location"] == f"/saes/{sae.pk}#scorecard"
    job = SaeJob.objects.get()
    assert (job.kind, job.tokenization) == ("evaluate", sae.text)
    assert [kind for kind, _ in nudges] == ["sae_job"]
    assert "waiting for a worker" in page(client, sae)


def test_another_text_of_the_same_model_is_another_job(
    client: Client, sae: Sae, nudges: Any
) -> None:
    own = sae.text
    other = Tokenization.objects.create(
        model=own.model, dataset=own.dataset, context_length=32, status="ready"
    )
    client.post(f"/saes/{sae.pk}/evaluate")
    client.post(f"/saes/{sae.pk}/evaluate", {"tokenization": str(other.pk)})
    assert SaeJob.objects.count() == 2
    stranger = LanguageModel.objects.create(name="b", source="folder", location="b", status="ready")
    foreign = Tokenization.objects.create(
        model=stranger, dataset=own.dataset, context_length=64, status="ready"
    )
    answer = client.post(f"/saes/{sae.pk}/evaluate", {"tokenization": str(foreign.pk)})
    assert answer.status_code == 404
    SaeJob.objects.filter(tokenization=other).update(
        status="done", ended_at=timezone.now(), result={"fvu": 0.1234, "ce_recovered": 0.9}
    )
    assert "0.1234" in page(client, sae)


def test_a_viewer_may_look_and_not_ask(sae: Sae, nudges: Any) -> None:
    client = Client()
    client.force_login(somebody("viewer", role="viewer"))
    found = page(client, sae)
    assert "Evaluate" not in found.split("<h2>Evaluate</h2>")[1].split("</div>")[0]
    assert client.post(f"/saes/{sae.pk}/evaluate").status_code == 403
    assert not SaeJob.objects.exists()


def test_jobs_renew_themselves_and_ask_for_the_page_once_one_has_ended(
    client: Client, sae: Sae, nudges: Any
) -> None:
    job = a_job(sae, status="running", progress=0.4, progress_note="Splicing")
    answer = client.get(f"/saes/{sae.pk}/jobs?shown={job.pk}", headers={"HX-Request": "true"})
    assert "HX-Trigger" not in answer.headers
    assert "40 %" in answer.content.decode()
    SaeJob.objects.update(status="failed", error_message="It has no layer 9.")
    answer = client.get(f"/saes/{sae.pk}/jobs?shown={job.pk}", headers={"HX-Request": "true"})
    assert answer.headers["HX-Trigger"] == "sae:changed"
    assert "It has no layer 9." in page(client, sae)
    a_job(sae, status="done")
    assert "It has no layer 9." not in page(client, sae)


def test_only_the_newest_failure_of_a_text_is_shown(client: Client, sae: Sae, nudges: Any) -> None:
    times = (timezone.now() + timedelta(seconds=n) for n in range(3))
    first, second, third = ({"text": str(at), "asked_at": at} for at in times)
    a_job(sae, "probe", **first, status="failed", error_message="It ended.")
    a_job(sae, "probe", **second, status="failed", error_message="It ended, too.")
    found = page(client, sae)
    assert "It ended, too." in found
    assert "It ended." not in found
    a_job(sae, "probe", **third, status="done")
    assert "It ended" not in page(client, sae)


def test_a_failure_is_dismissed_with_those_it_stands_for(
    client: Client, sae: Sae, nudges: Any
) -> None:
    for _ in range(2):
        job = a_job(sae, status="failed", error_message="It has no layer 9.")
    other = a_job(sae, "features", status="failed", error_message="The disk is full.")
    assert page(client, sae).count('title="Dismiss"') == 2
    client.post(f"/saes/{sae.pk}/jobs/dismiss", {"job": str(job.pk)})
    assert list(SaeJob.objects.all()) == [other]
    for wrong in ("x", ""):
        answer = client.post(f"/saes/{sae.pk}/jobs/dismiss", {"job": wrong})
        assert answer.status_code == 404


def test_what_is_under_way_is_not_dismissed(client: Client, sae: Sae, nudges: Any) -> None:
    job = a_job(sae)
    client.post(f"/saes/{sae.pk}/jobs/dismiss", {"job": str(job.pk)})
    assert SaeJob.objects.get() == job


def test_another_members_failure_stays_unless_it_is_ones_own(sae: Sae, nudges: Any) -> None:
    type(sae.training).objects.update(owner=somebody("ada"))
    client = Client()
    client.force_login(somebody("bob"))
    theirs = a_job(sae, status="failed", error_message="It has no layer 9.")
    assert 'title="Dismiss"' not in page(client, sae)
    address = f"/saes/{sae.pk}/jobs/dismiss"
    assert client.post(address, {"job": str(theirs.pk)}).status_code == 403
    own = a_job(sae, "probe", text="mine", status="failed", owner=somebody("bob"))
    assert client.post(address, {"job": str(own.pk)}).status_code == 302
    assert SaeJob.objects.get() == theirs


def test_what_was_held_out_is_said_only_where_it_is_known(client: Client, sae: Sae) -> None:
    assert "held out from its training" in page(client, sae)
    theirs = an_imported_sae(evaluation=EVALUATION | {"ce_recovered": 0.9})
    found = page(client, theirs)
    assert "whether it was trained on them is not known" in found
    assert "held-out" not in found


def test_an_export_is_written_and_its_proof_shown(client: Client, sae: Sae, nudges: Any) -> None:
    assert page(client, sae).count("not written yet") == 3
    client.post(f"/saes/{sae.pk}/export", {"format": "sparsify"})
    job = SaeJob.objects.get()
    assert (job.kind, job.format) == ("export", "sparsify")
    sae.export_path("sparsify").mkdir(parents=True)
    proof = {
        "read_by": "eai-sparsify 1.3.3",
        "max_difference": 2e-7,
        "digest": "ab" * 32,
        "files": {"layers.1/cfg.json": {"bytes": 123, "sha256": "cd" * 32}},
    }
    SaeJob.objects.update(status="done", result=proof, ended_at=timezone.now())
    found = page(client, sae)
    for word in ("read by eai-sparsify 1.3.3", "2.000e-7", "ab" * 32, "layers.1/cfg.json"):
        assert word in found
    sae.export_path("sparsify").rmdir()
    assert "eai-sparsify 1.3.3" not in page(client, sae)
    client.post(f"/saes/{sae.pk}/export", {"format": "pickle"})
    assert SaeJob.objects.count() == 1


def test_latents_are_listed_sorted_and_searched(client: Client, sae: Sae, nudges: Any) -> None:
    assert "Collect features" in page(client, sae)
    with_features(sae)
    found = page(client, sae)
    assert "120 latents" in found
    assert "Page 1 of 3" in found
    assert f"/saes/{sae.pk}/features/" in found
    assert "Page 3 of 3" in page(client, sae, "?page=3&sort=id&way=up")
    assert "1 latent that fires most on “T96”" in page(client, sae, "?token=T96")
    assert "No such latent" in page(client, sae, "?token=nothing")
    assert "120 latents that promote “B”" in page(client, sae, "?token=B&by=promotes")
    for wrong in ("?page=x", "?page=-1", "?page=99999999999", "?sort=;drop", "?way=x&by=y"):
        page(client, sae, wrong)


def test_a_latent_has_a_page(client: Client, sae: Sae) -> None:
    with_features(sae)
    answer = client.get(f"/saes/{sae.pk}/features/7")
    found = html.unescape(answer.content.decode())
    for word in ("Latent 7", "Strongest examples", "t7", "Promotes", "Suppresses", "Nearest"):
        assert word in found
    assert f"/saes/{sae.pk}/features/0" in found
    assert client.get(f"/saes/{sae.pk}/features/999").status_code == 404
    assert client.get(f"/saes/{sae.pk}/features/{2**70}").status_code == 404


def test_latents_of_an_sae_without_a_table_are_not_there(client: Client, sae: Sae) -> None:
    assert client.get(f"/saes/{sae.pk}/features/7").status_code == 404


def test_a_damaged_table_is_collected_again_and_breaks_no_page(
    client: Client, sae: Sae, nudges: Any
) -> None:
    with_features(sae)
    whole = sae.features_path.read_bytes()
    sae.features_path.write_bytes(whole[:8192] + b"x" * (len(whole) - 8192))
    assert "Collect features" in page(client, sae)
    assert client.get(f"/saes/{sae.pk}/features/7").status_code == 404


def test_another_members_sae_is_not_written_over(sae: Sae, nudges: Any) -> None:
    type(sae.training).objects.update(owner=somebody("ada"))
    client = Client()
    client.force_login(somebody("bob"))
    for what in ("evaluate", "collect", "export"):
        assert client.post(f"/saes/{sae.pk}/{what}", {"format": "saelens"}).status_code == 403
    assert client.post(f"/saes/{sae.pk}/text", {"text": "import os"}).status_code == 302
    assert [job.kind for job in SaeJob.objects.all()] == ["probe"]


def test_a_text_is_read_once_and_shown_in_shades(client: Client, sae: Sae, nudges: Any) -> None:
    with_features(sae)
    for _ in range(2):
        answer = client.post(f"/saes/{sae.pk}/text", {"text": "import <os>"})
    job = SaeJob.objects.get()
    assert answer.headers["Location"] == f"/saes/{sae.pk}?text={job.pk}#text"
    assert job.text == "import <os>"
    result = {
        "tokens": ["import", " <os>"],
        "cut": True,
        "latents": [{"id": 7, "maximum": 2.0, "values": [0.0, 2.0]}],
        "strongest": [[], [[7, 2.0]]],
    }
    SaeJob.objects.update(status="done", result=result, ended_at=timezone.now())
    raw = client.get(f"/saes/{sae.pk}?text={job.pk}").content.decode()
    assert "Latent 7" in raw
    assert 'class="shade-9" title="2.000"> &lt;os&gt;' in raw
    assert "Strongest: “&lt;os&gt;” 2. In:" in raw
    assert "only its beginning was read" in raw
    assert "Latent 7" not in page(client, sae, "?text=nonsense")


@pytest.mark.parametrize("text", ["", "   \n", "x" * 20_001])
def test_no_text_and_too_long_a_text_are_refused(client: Client, sae: Sae, text: str) -> None:
    answer = client.post(f"/saes/{sae.pk}/text", {"text": text}, follow=True)
    assert "Type a text of at most 20,000 characters." in answer.content.decode()
    assert not SaeJob.objects.exists()


def test_the_sae_of_a_deleted_training_is_not_there(client: Client, sae: Sae) -> None:
    sae.training.delete_requested_at = timezone.now()
    sae.training.save()
    assert client.get(f"/saes/{sae.pk}").status_code == 404


def test_tokens_are_shaded_by_share_of_the_largest() -> None:
    found = shaded(["a", "\n", "c"], [0.0, 0.01, 4.0], 4.0, peak=2)
    assert [token.shade for token in found] == [0, 1, 9]
    assert [token.peak for token in found] == [False, False, True]
    assert visible("a\n\tb") == "a↵⇥b"


def test_the_strongest_tokens_are_told_in_words() -> None:
    found = shaded(["a", " b", "c", "d", "e"], [0.5, 4.0, 0.0, 1.25, 0.1], 4.0)
    assert told(found) == "“b” 4, “d” 1.25, “a” 0.5"
    assert told(shaded(["a"], [0.0], 4.0)) == ""
