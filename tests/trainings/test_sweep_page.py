"""A sweep from the form to its page: how many it makes, what is wrong, and how it stands."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from saestudio.access.roles import Role
from tests.people import somebody
from tests.rows import a_tokenization, a_training, an_sae
from tests.trainings.test_start_form import filled as of_one
from trainings import sweeps
from trainings.models import Sae, Sweep, Training
from trainings.sweeps import Asked

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudges")]
NEW = "/trainings/new"


def filled(**changes: Any) -> dict[str, Any]:
    """What the dialog sends for two small trainings without warnings."""
    return of_one(**{"num_steps": "1,000", "vary_l1_alpha": "1e-3, 0.002", **changes})


def a_sweep(owner: Any = None, **grid: list[Any]) -> Sweep:
    source = a_tokenization()
    asked = Asked(
        {"architecture": "standard", "layer": 1, "hyperparameters": {"num_steps": 1000}},
        grid or {"l1_alpha": [0.001, 0.002, 0.004]},
    )
    made = sweeps.members(asked, source)
    return sweeps.start(name="alphas", source=source, asked=asked, made=made, owner=owner)[0]


def give(run: Training, l0: float, fvu: float, **columns: Any) -> None:
    latest = {"l0": l0, "fvu": fvu, "loss": 0.5, "dead_neurons": 7}
    Training.objects.filter(pk=run.pk).update(latest=latest, **columns)


def beside(page: str, field: str) -> str:
    found = re.search(rf'id="start-{field}_error"[^>]*>([^<]*)<', page)
    assert found is not None, field
    return found.group(1)


def page_of(client: Client, sweep: Sweep) -> str:
    answer = client.get(reverse("sweep", args=[sweep.pk]))
    assert answer.status_code == 200
    return answer.content.decode()


def test_start_makes_the_sweep_once_and_leads_to_its_page(client: Client, nudges: Any) -> None:
    asked = filled(name="alphas", vary_seed="1,2")
    for _ in range(2):
        answer = client.post(NEW, asked)
        assert answer.headers["Location"] == f"/sweeps/{asked['id']}"
    sweep = Sweep.objects.get()
    names = {run.name for run in sweep.trainings.all()}
    assert names == {f"alphas l1_alpha {a}, seed {s}" for a in ("0.001", "0.002") for s in (1, 2)}
    assert len(nudges) == 1
    assert sweep.asked["grid"] == {"l1_alpha": [0.001, 0.002], "seed": [1, 2]}
    in_page = client.post(NEW, asked, headers={"HX-Request": "true"})
    assert in_page.headers["HX-Redirect"] == f"/sweeps/{asked['id']}"


def test_the_number_it_makes_is_said_while_it_is_filled_in(client: Client) -> None:
    page = client.get(f"{NEW}/check", filled(vary_seed="1,2,3")).content.decode()
    assert "<strong>6 trainings</strong> that share one stream of activations" in page
    assert "Start 6 trainings" in page
    assert "tiny-llama-l1-sweep" in page
    alone = client.get(f"{NEW}/check", filled(vary_l1_alpha=" , ")).content.decode()
    assert "Start 0" not in alone
    assert "A sweep is not measured" in page
    assert "A sweep is not measured" not in alone
    assert "Measure on this machine" in alone
    assert "that share" not in alone


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"vary_l1_alpha": "0.001, much"}, "vary_l1_alpha", "Write a number"),
        ({"vary_l1_alpha": "0.001, nan"}, "vary_l1_alpha", "is not a number"),
        ({"vary_l1_alpha": "0.001, 7"}, "vary_l1_alpha", "is too large"),
        ({"vary_l1_alpha": "0.001,0.001"}, "grid", "is there 2 times"),
        ({"vary_seed": ",".join(map(str, range(40)))}, "grid", "these are 80"),
        ({"vary_architecture": "standard, vanilla"}, "vary_architecture", "Choose one of"),
        ({"vary_architecture": "standard, transcoder"}, "target", "share their activations"),
        ({"num_steps": "3"}, "num_steps", "is too small"),
    ],
)
def test_what_is_wrong_is_said_where_it_was_written(
    client: Client, changes: dict[str, str], field: str, words: str
) -> None:
    answer = client.post(NEW, filled(**changes))
    assert answer.status_code == 422
    page = answer.content.decode()
    assert words in beside(page, field)
    assert re.search(r'<details id="start-grid"[^>]* open', page)
    assert not Sweep.objects.exists()
    assert not Training.objects.exists()


def test_warnings_of_any_member_hold_the_start_back(client: Client) -> None:
    answer = client.post(NEW, filled(accepted=""))
    assert answer.status_code == 200
    assert "Start 2 trainings anyway" in answer.content.decode()
    assert not Training.objects.exists()


def test_estimate_reads_once_and_trains_each(client: Client) -> None:
    """Of 2 ms a token the pass took 0.5: one trains at 2 ms, two at 3.5."""
    a_training(
        status="completed",
        latest={"tokens_per_second": 500.0, "extraction_tokens_per_second": 2000.0},
    )
    alone = client.get(f"{NEW}/check", filled(vary_l1_alpha="")).content.decode()
    both = client.get(f"{NEW}/check", filled()).content.decode()
    assert "<dt>Time</dt><dd>17 min</dd>" in alone
    assert "<dt>Time</dt><dd>29 min</dd>" in both
    assert "of all SAEs" in both


def test_a_saved_sae_is_continued_by_several(client: Client, tmp_path: Path) -> None:
    sae = an_sae(tmp_path / "sae")
    page = client.get(reverse("continue_sae", args=[sae.pk])).content.decode()
    assert 'name="vary_l1_alpha"' in page
    assert 'name="vary_latent_dim"' not in page
    assert 'name="vary_architecture"' not in page
    asked = filled(start_from=str(sae.pk))
    for name in ("architecture", "layer"):
        del asked[name]
    client.post(NEW, asked)
    runs = Sweep.objects.get().trainings.all()
    assert {run.started_from for run in runs} == {sae}


def test_page_shows_what_is_each_ones_own_and_which_none_beats(client: Client) -> None:
    sweep = a_sweep()
    low, middle, high = sweeps.in_order(list(sweep.trainings.all()))
    give(low, 40, 0.05, status="running", current_step=500)
    give(middle, 20, 0.10, status="running", current_step=500)
    give(high, 30, 0.20)
    page = page_of(client, sweep)
    assert re.findall(r'<a href="/trainings/[^"]*" title="[^"]*">([^<]*)<', page) == [
        "0.001",
        "0.002",
        "0.004",
    ]
    for run, words in ((low, "none beats it"), (middle, "none beats it"), (high, "beaten")):
        cell = re.search(rf'id="front-{run.pk}">(.*?)</td>', page, re.DOTALL)
        assert cell
        assert words in cell[1]
    assert "2 running" in page
    assert "1 pending" in page
    assert "33 %" in page
    assert 'data-name="L1 alpha 0.004"' in page
    assert "data-compare-all" in page
    assert len(re.findall(r'type="checkbox" name="ids" value="[^"]*" form="bulk"', page)) == 3


def test_fragments_are_those_of_the_page_and_the_front_of_all(client: Client) -> None:
    sweep = a_sweep()
    first, *others = sweeps.in_order(list(sweep.trainings.all()))
    give(first, 40, 0.05)
    address = reverse("sweep_fragments", args=[sweep.pk])
    gone, page = uuid.uuid4(), page_of(client, sweep)
    found = client.get(address, {"numbers": f"{first.pk},{gone}"}).content.decode()
    assert f'id="card-{gone}" hx-swap-oob="delete"' in found
    assert f'id="compared-progress-{first.pk}"' in found
    assert f'id="compared-progress-{others[0].pk}"' not in found
    fronts = re.findall(r'<td id="front-.*?</td>', found, re.DOTALL)
    assert len(fronts) == 3
    assert all(each.replace(' hx-swap-oob="true"', "") in page for each in fronts)
    assert 'id="sweep-summary"' in found


def test_where_others_are_there_than_the_page_has_its_table_is_drawn_anew(client: Client) -> None:
    """Also its columns: what they differ in may be something else now."""
    sweep = a_sweep(l1_alpha=[0.001, 0.002])
    address = reverse("sweep_fragments", args=[sweep.pk])
    known = ",".join(str(run.pk) for run in sweep.trainings.all())
    same = client.get(address, {"known": known}).content.decode()
    assert "sweep-table" not in same
    [more] = sweeps.add(sweep, Asked({}, {"seed": [7]}))
    found = client.get(address, {"known": known}).content.decode()
    assert re.search(r'id="sweep-table" class="card scroll" hx-swap-oob="true"', found)
    assert f'id="card-{more.pk}"' in found
    assert "<tr><th>L1 alpha</th><th>Seed</th><th>L0" in found
    assert "3 pending" in found
    Training.objects.update(delete_requested_at="2026-01-01T00:00Z")
    empty = client.get(address, {"known": known}).content.decode()
    assert "sweep-table" not in empty
    assert empty.count('hx-swap-oob="delete"') == 2


def test_time_that_is_left_is_that_of_the_slowest(client: Client) -> None:
    sweep = a_sweep(l1_alpha=[0.001, 0.002])
    assert "ETA" not in page_of(client, sweep)
    batch = sweep.trainings.all()[0].config.hyperparameters.batch_size
    for run, speed in zip(sweep.trainings.all(), (batch, batch / 2), strict=True):
        latest = {"tokens_per_second": speed}
        columns = {"status": "running", "current_step": 940, "latest": latest}
        Training.objects.filter(pk=run.pk).update(**columns)
    assert "ETA <strong>2 min 00 s</strong>" in page_of(client, sweep)


def test_held_out_figures_take_the_place_of_logged_ones(client: Client) -> None:
    sweep = a_sweep()
    run = sweeps.in_order(list(sweep.trainings.all()))[0]
    give(run, 40, 0.05, status="completed", current_step=1000)
    Sae.objects.create(
        training=run, path="/none", format="saelens", step=1000, evaluation={"l0": 41, "fvu": 0.07}
    )
    assert "0.0700 at L0 41.0" in page_of(client, sweep)


def test_trainings_are_added_and_what_is_wrong_is_said_in_the_dialog(client: Client) -> None:
    sweep = a_sweep(owner=somebody())
    address = reverse("add_to_sweep", args=[sweep.pk])
    assert 'name="vary_l1_alpha"' in client.get(address).content.decode()
    answer = client.post(address, {"vary_l1_alpha": "0.008,0.016"}, follow=True)
    assert "2 trainings were added." in answer.content.decode()
    assert sweep.trainings.count() == 5
    for given, words in (
        ({"vary_l1_alpha": "0.008"}, "there 2 times"),
        ({"vary_l1_alpha": "x"}, "Write a number"),
        ({}, "Nothing varies"),
    ):
        refused = client.post(address, given)
        assert refused.status_code == 422
        assert words in refused.content.decode()
    assert sweep.trainings.count() == 5


def test_how_many_would_be_added_is_said_while_it_is_filled_in(client: Client) -> None:
    sweep = a_sweep()
    address = reverse("check_added", args=[sweep.pk])
    page = client.get(address, {"vary_l1_alpha": "0.008, 0.016", "vary_seed": "1,2"})
    found = page.content.decode()
    assert "Add 4 trainings" in found
    assert '<dt>More trainings</dt><dd>4</dd><dd class="note">7 in all</dd>' in found
    assert "every token is used" in found
    wrong = client.get(address, {"vary_l1_alpha": "0.008, 7"}).content.decode()
    assert "7 is too large" in wrong
    assert "once the fields are right" in wrong
    empty = client.get(address, {"vary_l1_alpha": " , "}).content.decode()
    assert "once a field is filled in" in empty
    assert "Nothing varies" not in empty
    assert sweep.trainings.count() == 3


def test_all_are_stopped_by_the_dialog_that_stops_many(client: Client) -> None:
    sweep = a_sweep(owner=somebody())
    here = reverse("sweep", args=[sweep.pk])
    asked = {"action": "stop", "sweep": str(sweep.pk), "next": here}
    dialog = client.get(reverse("bulk"), asked).content.decode()
    assert "Stop 3" in dialog
    ids = re.findall(r'name="ids" value="([^"]*)"', dialog)
    one = client.get(reverse("bulk"), {**asked, "ids": ids[0]}).content.decode()
    assert "Stop 1" in one
    asked["ids"] = ids
    assert client.post(reverse("bulk"), asked).headers["Location"] == here
    assert {run.status for run in sweep.trainings.all()} == {"stopped"}
    away = client.get(reverse("bulk"), asked | {"next": "https://elsewhere.example/"})
    assert "elsewhere" not in away.content.decode()


def test_deleted_with_all_its_trainings_it_leads_to_the_others(client: Client) -> None:
    sweep = a_sweep()
    assert "alphas" in client.get(reverse("sweeps")).content.decode()
    Training.objects.update(delete_requested_at="2026-01-01T00:00Z")
    answer = client.get(reverse("sweep", args=[sweep.pk]), follow=True)
    assert "have been deleted" in answer.content.decode()
    assert "No sweep yet" in answer.content.decode()
    assert client.get(reverse("add_to_sweep", args=[sweep.pk])).status_code == 404
    assert client.get(reverse("sweep", args=[uuid.uuid4()])).status_code == 404


def test_viewers_see_it_and_are_offered_nothing(client: Client) -> None:
    sweep = a_sweep(owner=somebody())
    for name, role in (("eve", Role.VIEWER), ("bob", Role.MEMBER)):
        other = Client()
        other.force_login(somebody(name, role))
        page = page_of(other, sweep)
        assert "Compare" in page
        for word in ('value="stop"', 'value="retry"', 'value="delete"', "Add trainings"):
            assert word not in page
        answer = other.post(reverse("add_to_sweep", args=[sweep.pk]), {"vary_l1_alpha": "0.008"})
        assert answer.status_code == 403
    assert sweep.trainings.count() == 3


def test_a_training_leads_to_its_sweep_and_is_cloned_alone(client: Client) -> None:
    sweep = a_sweep(l1_alpha=[0.001])
    run = sweep.trainings.get()
    link = f'<a href="/sweeps/{sweep.pk}">Sweep: alphas</a>'
    assert link in client.get("/").content.decode()
    assert link in client.get(f"/trainings/{run.pk}").content.decode()
    clone = client.get(reverse("clone", args=[run.pk])).content.decode()
    assert re.search(r'name="vary_l1_alpha"(?! value)', clone)
    assert 'id="start-grid" class="vary">' in clone


def test_page_of_many_takes_few_queries(client: Client, django_assert_max_num_queries: Any) -> None:
    sweep = a_sweep(seed=list(range(64)))
    with django_assert_max_num_queries(10):
        page_of(client, sweep)
    with django_assert_max_num_queries(12):
        client.get(reverse("sweeps"))
