"""All SAEs of a model between sparsity and fidelity."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.rows import EVALUATION, a_tokenization, a_training, an_imported_sae
from trainings.models import LanguageModel, Sae, SaeJob, Tokenization
from trainings.views.marks import mark

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudges")]


def trained(name: str, l0: float, fvu: float, ce: float | None = None, **columns: Any) -> Sae:
    run = a_training(name=name, status="completed", **columns)
    figures = EVALUATION | {"l0": l0, "fvu": fvu} | ({"ce_recovered": ce} if ce else {})
    return Sae.objects.create(
        training=run, path=str(Path("/", name)), format="saelens", step=9, evaluation=figures
    )


def pareto(client: Client, query: str = "") -> str:
    answer = client.get(f"/saes/pareto{query}")
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def points(page: str) -> dict[str, tuple[float, float]]:
    found = re.findall(r'data-name="([^"]*)".*?data-l0="([^"]*)" data-fvu="([^"]*)"', page)
    return {name: (float(l0), float(fvu)) for name, l0, fvu in found}


def unbeaten(page: str) -> list[str]:
    rows = re.findall(r"<tr data-pareto=.*?</tr>", page, re.S)
    cells = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in rows]
    return [each[6] for each in cells]


def test_every_evaluated_sae_has_its_point_and_its_row(client: Client) -> None:
    trained("mine", 32.0, 0.08, 0.98)
    an_imported_sae(evaluation=EVALUATION | {"l0": 16.0, "fvu": 0.2})
    page = pareto(client)
    assert points(page) == {"theirs": (16.0, 0.2), "mine": (32.0, 0.08)}
    assert page.count("data-ce-lost=") == 1
    assert "CE lost over L0" in page


def test_the_front_has_those_that_none_beats_in_both(client: Client) -> None:
    trained("sparse", 10.0, 0.3, 0.90)
    trained("worse", 20.0, 0.31, 0.95)
    trained("dense", 40.0, 0.1, 0.94)
    assert unbeaten(pareto(client)) == ["FVU and CE", "CE", "FVU"]


def test_a_model_a_place_and_a_width_are_chosen(client: Client) -> None:
    trained("one", 10.0, 0.3)
    trained("two", 20.0, 0.2, layer=2)
    an_imported_sae("wide", evaluation=EVALUATION)
    assert "different places" in pareto(client)
    page = pareto(client, "?place=layer+1,+resid_post")
    assert set(points(page)) == {"one", "wide"}
    assert "different places" not in page
    assert set(points(pareto(client, "?width=512"))) == {"wide"}
    other = LanguageModel.objects.create(name="b", source="folder", location="b", status="ready")
    assert "No point to draw" in pareto(client, f"?model={other.pk}")
    for nonsense in ("?model=x&width=-1&on=x&by=z", "?width=99999999999999999999&place=nowhere"):
        pareto(client, nonsense)


def test_groups_have_a_legend_by_architecture_or_place(client: Client) -> None:
    trained("one", 10.0, 0.3)
    trained("two", 20.0, 0.2, layer=2)
    for k in (32, 64):
        facts = {"architecture": f"TopK {k}", "layer": 1, "hook": "resid_post", "d_sae": 9}
        an_imported_sae(f"k{k}", facts=facts, evaluation=EVALUATION)

    def legend(page: str) -> list[str]:
        return re.findall(r'class="legend-name" title="([^"]*)"', page)

    assert legend(pareto(client)) == ["Standard", "TopK"]
    assert legend(pareto(client, "?by=place")) == ["layer 1, resid_post", "layer 2, resid_post"]


def test_the_commonest_text_is_drawn_unless_another_is_chosen(client: Client) -> None:
    first, second = trained("one", 10.0, 0.3), trained("two", 20.0, 0.2)
    own = a_tokenization()
    text = Tokenization.objects.create(
        model=own.model, dataset=own.dataset, context_length=32, status="ready"
    )
    job = SaeJob.objects.ask(first, SaeJob.Kind.EVALUATE, text)
    SaeJob.objects.filter(pk=job.pk).update(status="done", result={"l0": 11.0, "fvu": 0.4})
    assert points(pareto(client)) == {"one": (10.0, 0.3), "two": (20.0, 0.2)}
    page = pareto(client, f"?on={text.pk}")
    assert points(page) == {"one": (11.0, 0.4)}
    assert "Without a point" in page
    assert f"/saes/{second.pk}/evaluate" in page


def test_own_texts_that_differ_do_not_compare(client: Client) -> None:
    trained("one", 10.0, 0.3)
    own = a_tokenization()
    text = Tokenization.objects.create(
        model=own.model, dataset=own.dataset, context_length=32, status="ready"
    )
    an_imported_sae(own_text=text, evaluation=EVALUATION)
    assert set(points(pareto(client))) == {"theirs"}
    page = pareto(client, "?on=own")
    assert set(points(page)) == {"one", "theirs"}
    assert "different texts" in page


def test_an_empty_studio_has_a_plane_that_says_so(client: Client) -> None:
    assert "No SAE yet" in pareto(client)


def test_few_queries_for_many(client: Client, django_assert_max_num_queries: Any) -> None:
    for n in range(30):
        trained(f"run {n}", float(n + 1), 1 / (n + 1))
    with django_assert_max_num_queries(14):
        assert len(points(pareto(client))) == 30


def test_marks_of_many_groups_differ() -> None:
    assert len({mark(i) for i in range(24)}) == 24
