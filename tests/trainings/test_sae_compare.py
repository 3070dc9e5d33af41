"""SAEs side by side, trained here or taken in: facts, figures, and which of them compare."""

from __future__ import annotations

import html
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.people import somebody
from tests.rows import EVALUATION, a_tokenization, an_imported_sae, an_sae
from trainings.models import Sae, SaeJob, Tokenization, Training

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudges")]
WHOLE = {"ce_recovered": 0.99, "ce_recovered_error": 0.002, "dead": 25, "splice_tokens": 100}


@pytest.fixture
def trained(tmp_path: Path) -> Sae:
    return an_sae(tmp_path / "sae", evaluation=EVALUATION | WHOLE)


@pytest.fixture
def theirs() -> Sae:
    better = {"fvu": 0.03, "ce_recovered": 0.97, "dead": 5}
    return an_imported_sae(evaluation=EVALUATION | WHOLE | better)


def another_text() -> Tokenization:
    own = a_tokenization()
    return Tokenization.objects.create(
        model=own.model, dataset=own.dataset, context_length=32, status="ready"
    )


def evaluated(sae: Sae, text: Tokenization, **result: Any) -> SaeJob:
    job = SaeJob.objects.ask(sae, SaeJob.Kind.EVALUATE, text)
    SaeJob.objects.filter(pk=job.pk).update(status="done", result=result)
    return job


def compare(client: Client, *saes: Sae, more: str = "") -> str:
    ids = ",".join(str(sae.pk) for sae in saes)
    answer = client.get(f"/saes/compare?ids={ids}{more}")
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def row(page: str, label: str) -> list[str]:
    """The words of a row's cells, a star for the best."""
    start = r"<tr><th scope=.row.>(?:<span[^>]*>)?[^<]*(?:</span> )?"
    found = re.search(rf"{start}{label}.*?</tr>", page, re.DOTALL)
    assert found, label
    cells = re.findall(r"<td[^>]*>(.*?)</td>", found[0], re.DOTALL)
    marked = [
        re.sub(r"<span class=.best-mark.*?</svg>", "*", cell, flags=re.DOTALL) for cell in cells
    ]
    texts = [re.sub(r"<span class=.(?:unseen|sub).*?</span>|<[^>]*>", "", cell) for cell in marked]
    return ["".join(text.split()) for text in texts]


def test_figures_of_one_text_stand_side_by_side_and_the_best_is_marked(
    client: Client, trained: Sae, theirs: Sae
) -> None:
    page = compare(client, trained, theirs)
    assert row(page, "FVU") == ["0.0468", "*0.0300"]
    assert row(page, "CE recovered") == ["*0.9900", "0.9700"]
    assert row(page, "L0") == ["46.00", "46.00"]
    assert "± 0.0020" in page
    assert 'class="warned"' not in page
    assert row(page, "Held out") == ["yes", "notknown"]


def test_latents_are_told_as_shares_of_each_ones_width(
    client: Client, trained: Sae, theirs: Sae
) -> None:
    # 25 of 256, and 5 of 512.
    assert row(compare(client, trained, theirs), "Dead") == ["9.77%", "*0.977%"]


def test_what_they_are_is_marked_where_it_differs(
    client: Client, trained: Sae, theirs: Sae
) -> None:
    page = compare(client, trained, theirs)
    assert row(page, "Architecture") == ["Standard", "TopK32"]
    assert '<td class="other">TopK 32</td>' in page
    assert row(page, "Place") == ["layer1,resid_post"] * 2
    assert row(page, "Normalization") == ["constant_norm", "notknown"]
    assert '<td class="other">not known</td>' not in page


def test_figures_on_different_texts_do_not_compare(client: Client, trained: Sae) -> None:
    other = an_imported_sae(own_text=another_text(), evaluation=EVALUATION | {"fvu": 0.01})
    page = compare(client, trained, other)
    assert "evaluated on different texts" in page
    assert row(page, "FVU") == ["0.0468", "0.0100"]
    assert "1 of 2 evaluated" in page


def test_figures_at_different_places_do_not_compare(client: Client, trained: Sae) -> None:
    deeper = an_imported_sae(facts={"architecture": "ReLU", "layer": 2, "hook": "mlp_out"})
    page = compare(client, trained, deeper)
    assert "different places of the model" in page
    assert "different texts" not in page


def test_a_text_on_which_all_were_measured_is_taken(client: Client, trained: Sae) -> None:
    text = another_text()
    other = an_imported_sae(own_text=text, evaluation=EVALUATION | {"fvu": 0.01})
    evaluated(trained, text, fvu=0.2, l0=9.0)
    page = compare(client, trained, other)
    assert row(page, "FVU") == ["0.2000", "*0.0100"]
    assert row(page, "Held out") == ["notknown", "notknown"]
    own = compare(client, trained, other, more="&on=own")
    assert row(own, "FVU") == ["0.0468", "0.0100"]
    # An evaluation of an earlier step was of another SAE.
    Sae.objects.filter(pk=trained.pk).update(step=2000)
    assert "different texts" in compare(client, trained, other)


def test_what_is_missing_is_asked_for_by_whoever_may(
    client: Client, trained: Sae, theirs: Sae
) -> None:
    text = another_text()
    evaluated(theirs, text, fvu=0.2, l0=9.0, ce_recovered=0.9)
    page = compare(client, trained, theirs, more=f"&on={text.pk}")
    assert row(page, "Missing") == ["Evaluate", ""]
    here = f"/saes/compare?ids={trained.pk},{theirs.pk}&on={text.pk}"
    body = {"tokenization": str(text.pk), "next": here}
    assert client.post(f"/saes/{trained.pk}/evaluate", body).headers["Location"] == here
    page = compare(client, trained, theirs, more=f"&on={text.pk}")
    assert "waiting for a worker" in page
    assert row(page, "Missing") == ["underway", ""]
    viewer = Client()
    viewer.force_login(somebody("viewer", role="viewer"))
    SaeJob.objects.filter(sae=trained).delete()
    page = compare(viewer, trained, theirs, more=f"&on={text.pk}")
    assert row(page, "Missing") == ["evaluation", ""]


def test_the_page_is_renewed_once_an_evaluation_has_ended(client: Client, trained: Sae) -> None:
    job = SaeJob.objects.ask(trained, SaeJob.Kind.EVALUATE, trained.text)
    address = f"/saes/compare/jobs?ids={trained.pk}&shown={job.pk}"
    answer = client.get(address, headers={"HX-Request": "true"})
    assert "HX-Refresh" not in answer.headers
    assert f"shown={job.pk}" in answer.content.decode()
    SaeJob.objects.update(status="done")
    assert client.get(address).headers["HX-Refresh"] == "true"


def test_both_comparisons_lead_to_each_other(client: Client, trained: Sae, theirs: Sae) -> None:
    run = Training.objects.get()
    assert f"/compare?ids={run.pk}" in compare(client, trained, theirs)
    page = client.get(f"/compare?ids={run.pk}").content.decode()
    assert f'href="/saes/compare?ids={trained.pk}"' in page
    assert "Compare their trainings" not in compare(client, theirs)


def test_at_most_eight_and_only_what_is_there(client: Client) -> None:
    saes = [an_imported_sae(f"sae {n}") for n in range(9)]
    page = compare(client, *saes)
    assert "At most 8 are compared" in page
    assert page.count(">Take sae ") == 8
    some = client.get(f"/saes/compare?ids=x,{uuid.uuid4()},{saes[0].pk}").content.decode()
    assert "Add a second SAE" in some
    assert "Nothing to compare yet" in client.get("/saes/compare").content.decode()


def test_few_queries_for_eight(client: Client, django_assert_max_num_queries: Any) -> None:
    saes = [an_imported_sae(f"sae {n}", evaluation=EVALUATION) for n in range(8)]
    for sae in saes:
        evaluated(sae, another_text() if sae == saes[0] else a_tokenization(), fvu=0.1)
    with django_assert_max_num_queries(14):
        compare(client, *saes)


def test_a_crosscoder_is_at_no_place_of_one_of_its_layers(client: Client, tmp_path: Path) -> None:
    """Its FVU is a mean over layers; that of an SAE at its first one is another figure."""
    one = an_sae(tmp_path / "one")
    several = an_sae(
        tmp_path / "several", architecture="crosscoder", hyperparameters={"layers": [1, 3]}
    )
    assert several.layer == one.layer
    assert several.place == "layers 1, 3, resid_post"
    assert "different places of the model" in compare(client, one, several)
