"""The Trainings page and the fragments that keep it current."""

from __future__ import annotations

import re
import uuid

import pytest
from django.test import Client
from django.urls import reverse

from tests.rows import a_tokenization, a_training
from trainings.models import Sae, Tokenization, Training

pytestmark = pytest.mark.django_db


def text_of(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return answer.content.decode()


def test_anonymous_visitor_is_sent_to_the_login() -> None:
    assert Client().get("/").headers["Location"].startswith(reverse("login"))


def test_running_card_shows_progress_eta_and_numbers(client: Client) -> None:
    a_training(
        status="running",
        phase="training",
        current_step=75_000,
        latest={"loss": 0.0234, "l0": 45.2, "fvu": 0.012, "tokens_per_second": 4096.0},
        hyperparameters={"num_steps": 100_000},
    )
    page = text_of(client, "/")
    assert "75 %" in page
    assert "(75,000/100,000 steps)" in page
    assert "ETA 6 h 56 min" in page
    for number in ("0.02340", "45.20", "0.01200"):
        assert number in page


def test_pending_card_says_how_many_runs_come_first(client: Client) -> None:
    a_training(name="first", status="running")
    a_training(name="second")
    a_training(name="third")
    page = text_of(client, "/")
    assert "Queued behind 1 run" in page
    assert "Queued behind 2 runs" in page


def test_pending_card_waits_for_its_tokenization(client: Client) -> None:
    a_training()
    Tokenization.objects.update(status="running", progress=0.43)
    assert "Waiting for the tokenization (43 %)" in text_of(client, "/")


def test_failed_card_shows_its_cause_escaped(client: Client) -> None:
    a_training(status="failed", error_message="The loss was <not> finite.")
    assert "The loss was &lt;not&gt; finite." in text_of(client, "/")


def test_finished_card_shows_the_held_out_evaluation_and_how_to_load_it(client: Client) -> None:
    run = a_training(status="completed")
    evaluation = {"tokens": 32768, "fvu": 0.059, "l0": 32.0, "alive_fraction": 0.98}
    Sae.objects.create(
        training=run, path="/data/sae", format="saelens", step=1000, evaluation=evaluation
    )
    page = text_of(client, "/")
    assert "FVU 0.059 at L0 32.0 on 32,768 held-out tokens, 98 % of latents alive" in page
    assert "SAE.load_from_disk(&quot;/data/sae&quot;)" in page


def test_sae_without_an_evaluation_is_shown_without_one(client: Client) -> None:
    run = a_training(status="stopped")
    Sae.objects.create(training=run, path="/data/sae", format="saelens", step=5)
    assert "held-out tokens" not in text_of(client, "/")


def test_status_and_search_narrow_the_list(client: Client) -> None:
    a_training(name="apple", status="failed")
    a_training(name="pear", status="failed")
    a_training(name="plum", status="completed")
    page = text_of(client, "/?status=failed&q=pea")
    assert "pear" in page
    assert "apple" not in page
    assert "plum" not in page


def test_twenty_cards_make_a_page(client: Client) -> None:
    for number in range(21):
        a_training(name=f"run {number:02d}")
    assert text_of(client, "/").count('class="card"') == 20
    assert text_of(client, "/?page=2").count('class="card"') == 1
    larger = text_of(client, "/?per=50&sort=name")
    assert larger.count('class="card"') == 21
    assert 'href="/?status=failed&amp;sort=name&amp;per=50"' in larger
    assert text_of(client, "/?per=1000000").count('class="card"') == 20


def test_two_hundred_runs_take_few_queries(
    client: Client, django_assert_max_num_queries: object
) -> None:
    for number in range(30):
        a_training(name=f"run {number:02d}")
    with django_assert_max_num_queries(23):  # type: ignore[operator]
        text_of(client, "/")


def test_fragments_are_those_of_the_page(client: Client) -> None:
    run = a_training(status="running", current_step=5)
    page = text_of(client, "/")
    part = text_of(client, f"{reverse('fragments')}?ids={run.pk}")
    part = part.replace(' hx-swap-oob="true"', "")
    for name, end in (("status", "</p>"), ("numbers", "</dl>"), ("outcome", "</div>")):
        start = part.index(f'id="{name}-{run.pk}"')
        assert part[start : part.index(end, start)] in page


def test_of_a_run_that_made_progress_its_numbers_are_enough(client: Client) -> None:
    run = a_training(status="running", current_step=5)
    part = text_of(client, f"{reverse('fragments')}?numbers={run.pk}")
    assert re.findall(r'id="(\w+)-', part) == ["numbers"]


@pytest.mark.parametrize("name", ["ids", "numbers"])
def test_deleted_run_leaves_an_open_page(client: Client, name: str) -> None:
    gone = uuid.uuid4()
    part = text_of(client, f"{reverse('fragments')}?{name}={gone}")
    assert f'<article id="card-{gone}" hx-swap-oob="delete">' in part


def test_new_run_arrives_on_an_open_page(client: Client) -> None:
    old = a_training(name="old")
    new = a_training(name="new")
    part = text_of(client, f"{reverse('fragments')}?known={old.pk}&arrived")
    assert f'id="card-{new.pk}"' in part
    assert f'id="card-{old.pk}"' not in part


def test_new_run_that_does_not_fit_the_filter_stays_away(client: Client) -> None:
    new = a_training(name="new")
    part = text_of(client, f"{reverse('fragments')}?ids=&arrived&status=failed")
    assert f'id="card-{new.pk}"' not in part


def test_ids_that_are_none_are_ignored(client: Client) -> None:
    assert client.get(reverse("fragments") + "?ids=1,x,,%27").status_code == 200


def test_empty_page_offers_the_demo_and_a_checklist(client: Client) -> None:
    page = text_of(client, "/")
    assert reverse("start_demo") in page
    assert page.count('class="todo"') == 4


def test_checklist_ticks_what_is_there(client: Client) -> None:
    a_tokenization()
    assert text_of(client, reverse("checklist")).count('class="done"') == 3


def test_demo_button_starts_the_demo(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainings import demo

    monkeypatch.setattr(demo, "start", lambda: a_training(name="demo"))
    assert client.post(reverse("start_demo")).headers["Location"] == "/"
    assert Training.objects.get().name == "demo"
