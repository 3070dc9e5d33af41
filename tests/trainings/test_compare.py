"""Trainings side by side, and the settings of one beside another's."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.rows import a_training
from trainings.models import Sae, Tokenization, Training

pytestmark = pytest.mark.django_db


def compare(client: Client, *runs: Training | str, more: str = "") -> str:
    ids = ",".join(str(run.pk) if isinstance(run, Training) else run for run in runs)
    answer = client.get(f"{reverse('compare')}?ids={ids}{more}")
    assert answer.status_code == 200
    return answer.content.decode()


def settings(page: str) -> dict[str, list[str]]:
    table = page[page.index('class="differences"') :]
    rows = re.findall(r'<th scope="row"><span[^>]*>[^<]*</span> ([^<]*)</th>(.*?)</tr>', table)
    return {label: re.findall(r"<td[^>]*>([^<]*)<", cells) for label, cells in rows}


def test_only_what_differs_is_shown_until_all_is_asked_for(client: Client) -> None:
    one = a_training(name="one", hyperparameters={"num_steps": 2000})
    two = a_training(name="two", layer=2, hyperparameters={"num_steps": 3000})
    found = settings(compare(client, one, two))
    assert found == {"Layer": ["1", "2"], "Steps": ["2,000", "3,000"]}
    everything = settings(compare(client, one, two, more="&all"))
    assert everything["Model"] == ["tiny-llama", "tiny-llama"]
    assert len(everything) > 20


def test_the_one_that_differs_from_the_others_is_marked(client: Client) -> None:
    runs = [a_training(hyperparameters={"num_steps": n}) for n in (2000, 2000, 3000)]
    page = compare(client, *runs)
    assert page.count('class="other"') == 1
    assert '<td class="other">3,000</td>' in page


def test_a_setting_of_one_architecture_alone_is_empty_in_the_other(client: Client) -> None:
    one, two = a_training(), a_training(architecture="jumprelu")
    found = settings(compare(client, one, two))
    assert found["L1 alpha"][1] == "–"
    assert found["L0 alpha"][0] == "–"


def test_the_same_twice_differs_in_nothing(client: Client) -> None:
    page = compare(client, a_training(), a_training())
    assert "Their configurations are the same." in page


def test_at_most_eight_each_once_in_their_order(client: Client) -> None:
    runs = [a_training(name=f"run {n}") for n in range(9)]
    page = compare(client, runs[1], runs[0], runs[1], *runs[2:])
    shown = re.findall(r'<a data-run-name href="[^"]*">([^<]*)</a>', page)
    assert shown == ["run 1", "run 0", *(f"run {n}" for n in range(2, 8))]
    assert "At most 8 are compared" in page
    assert 'id="add-run"' not in page


def test_what_is_gone_or_no_id_is_left_out(client: Client) -> None:
    one = a_training()
    page = compare(client, "x", str(uuid.uuid4()), one)
    assert page.count("data-run=") == 1
    assert "Add a second training" in page
    assert "Nothing to compare yet" in compare(client)


def test_runs_of_one_colour_are_told_apart_by_dashes(client: Client) -> None:
    first = a_training()
    twin = a_training()
    same = uuid.UUID(int=first.pk.int + 6 if first.pk.int < 2**127 else first.pk.int - 6)
    Training.objects.filter(pk=twin.pk).delete()
    twin.pk = same
    twin.save(force_insert=True)
    page = compare(client, first, twin)
    colours = re.findall(r'data-colour="(\d)" data-dash="(\d)"', page)
    assert colours[0][0] == colours[1][0]
    assert [dash for _, dash in colours] == ["0", "1"]


def test_eight_runs_have_eight_lines(client: Client) -> None:
    page = compare(client, *[a_training() for _ in range(8)])
    lines = re.findall(r'data-colour="(\d)" data-dash="(\d)"', page)
    assert len(set(lines)) == 8


def test_tokenizations_that_differ_in_their_limit_are_not_the_same(client: Client) -> None:
    one, two = a_training(), a_training()
    other = Tokenization.objects.get(pk=one.tokenization_id)
    other.pk, other.max_tokens = None, 5000
    other.save()
    Training.objects.filter(pk=two.pk).update(tokenization=other)
    assert settings(compare(client, one, two)) == {"Token limit": ["none", "5,000"]}


def test_pareto_takes_held_out_figures_before_the_last_logged(client: Client) -> None:
    run = a_training(status="completed", latest={"fvu": 0.5, "l0": 9.0})
    cell = r'data-pareto="[^"]*" data-l0="([^"]*)" data-fvu="([^"]*)"( data-final)?'
    assert re.findall(cell, compare(client, run)) == [("9.0", "0.5", "")]
    Sae.objects.create(
        training=run, path="/s", format="saelens", step=9, evaluation={"fvu": 0.25, "l0": 8.0}
    )
    assert re.findall(cell, compare(client, run)) == [("8.0", "0.25", " data-final")]
    # One that trains again has its SAE from before.
    Training.objects.filter(pk=run.pk).update(status="running")
    assert re.findall(cell, compare(client, run)) == [("9.0", "0.5", "")]


def test_ce_recovered_has_its_own_plane_where_it_was_measured(client: Client) -> None:
    run, other = (a_training(status="completed", latest={"fvu": 0.5, "l0": 9.0}) for _ in range(2))
    Sae.objects.create(training=run, path="/s", step=9, evaluation={"fvu": 0.25, "l0": 8.0})
    assert "CE lost over L0" not in compare(client, run, other)
    Sae.objects.update(evaluation={"fvu": 0.25, "l0": 8.0, "ce_recovered": 0.75})
    page = compare(client, run, other)
    assert "CE lost over L0" in page
    assert re.findall('data-ce-lost="([^"]*)"', page) == ["0.25"]
    assert "0.7500" in page


def test_cells_are_kept_current_by_the_same_fragments(client: Client) -> None:
    run = a_training(status="running", current_step=5, latest={"loss": 0.25})
    page, gone = compare(client, run), uuid.uuid4()
    part = client.get(f"{reverse('compare_fragments')}?ids={run.pk},{gone}").content.decode()
    assert f'<td id="card-{gone}" hx-swap-oob="delete">' in part
    for line in part.splitlines():
        if line.startswith('<td id="compared'):
            assert line.replace(' hx-swap-oob="true"', "") in page


def test_few_queries_for_eight_runs(client: Client, django_assert_max_num_queries: Any) -> None:
    runs = [a_training() for _ in range(8)]
    with django_assert_max_num_queries(12):
        compare(client, *runs)


def test_settings_the_other_run_does_not_have_are_none_of_its(client: Client) -> None:
    run, other = a_training(architecture="jumprelu"), a_training(architecture="standard")
    address = reverse("hyperparameters", args=[run.pk])
    page = client.get(address, {"against": str(other.pk)}).content.decode()
    assert page.count("there –") > 1
    assert "L0 alpha" in page


def test_hyperparameters_stand_beside_those_of_another_run(client: Client) -> None:
    run = a_training(name="mine", hyperparameters={"num_steps": 2000})
    other = a_training(name="theirs", hyperparameters={"num_steps": 3000})
    address = reverse("hyperparameters", args=[run.pk])
    page = client.get(address, {"against": str(other.pk)}).content.decode()
    assert "there 3,000" in page
    assert "default 100,000" not in page
    assert "other than in theirs" in page
    for nonsense in ("x", str(run.pk), str(uuid.uuid4())):
        assert "default 100,000" in client.get(address, {"against": nonsense}).content.decode()
