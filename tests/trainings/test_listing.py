"""Order, tags and search of the Trainings page; notes, which they search; clones."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from tests.rows import a_training
from trainings.models import Tag, Tokenization, Training

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


def names(client: Client, query: str = "") -> list[str]:
    page = client.get(f"/{query}").content.decode()
    return re.findall(r'<h2 id="name-[^>]*><a[^>]*>([^<]*)<', page)


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("", ["c", "b", "a"]),
        ("oldest", ["a", "b", "c"]),
        ("name", ["a", "b", "c"]),
        ("fvu", ["b", "a", "c"]),
        ("l0", ["a", "b", "c"]),
        ("nonsense", ["c", "b", "a"]),
    ],
)
def test_list_is_ordered_as_the_address_says(
    client: Client, sort: str, expected: list[str]
) -> None:
    a_training(name="a", latest={"fvu": 0.2, "l0": 9.5})
    a_training(name="b", latest={"fvu": 0.1, "l0": 10.0})
    a_training(name="c", latest={"fvu": None})
    assert names(client, f"?sort={sort}") == expected


def test_every_part_of_the_address_is_kept_by_the_others(client: Client) -> None:
    run = a_training(name="pear", status="failed")
    Tag.objects.give(run, ["fruit"])
    page = client.get("/?status=failed&q=pea&tag=fruit&sort=name").content.decode()
    assert 'href="/?status=running&amp;q=pea&amp;tag=fruit&amp;sort=name"' in page
    assert 'href="/?status=failed&amp;q=pea&amp;sort=name"' in page  # the tag lets go
    for name, value in (("status", "failed"), ("tag", "fruit"), ("sort", "name")):
        assert f'<input type="hidden" name="{name}" value="{value}">' in page


def test_a_tag_narrows_the_list_and_the_search_reads_notes(client: Client) -> None:
    run = a_training(name="one", notes="Why does the FVU rise?")
    a_training(name="two")
    Tag.objects.give(run, ["Baseline ", "layer  5"])
    assert names(client, "?tag=baseline") == ["one"]
    assert names(client, "?tag=layer+5") == ["one"]
    assert names(client, "?tag=BASELINE") == ["one"]
    assert names(client, "?q=a%00b&tag=%00") == []
    assert names(client, "?tag=nothing") == []
    assert names(client, "?q=fvu+RISE") == ["one"]


def test_counts_are_of_what_the_links_show(client: Client) -> None:
    for name in ("one", "two"):
        a_training(name=name, status="failed")
    a_training(name="one too", status="completed")
    page = client.get("/?q=one").content.decode()
    counts = re.findall(r">(\w+) <span class=\"count\">(\d+)</span>", page)
    assert dict(counts) == {
        "All": "2",
        "Running": "0",
        "Pending": "0",
        "Completed": "1",
        "Failed": "1",
        "Stopped": "0",
    }


def test_a_run_arrives_where_it_stands_in_the_order(client: Client) -> None:
    first, second, third = (a_training(name=name) for name in "acb")
    address = f"{reverse('fragments')}?known={first.pk},{second.pk}&list&arrived"
    newest = client.get(address).content.decode()
    assert 'hx-swap-oob="afterbegin:#cards"' in newest
    by_name = client.get(f"{address}&sort=name").content.decode()
    assert f'hx-swap-oob="afterend:#card-{first.pk}"' in by_name
    for part in (newest, by_name):
        assert part.count("<article") == part.count(f'id="card-{third.pk}"') == 1


def test_several_arrive_one_behind_the_other(client: Client) -> None:
    known, newer, newest = (a_training(name=name) for name in ("known", "newer", "newest"))
    part = client.get(f"{reverse('fragments')}?known={known.pk}&arrived").content.decode()
    places = re.findall(r'hx-swap-oob="(after\w+:[^"]+)"', part)
    assert places == ["afterbegin:#cards", f"afterend:#card-{newest.pk}"]
    assert part.index(f'id="card-{newest.pk}"') < part.index(f'id="card-{newer.pk}"')


def test_what_slides_onto_a_page_arrives_there(client: Client) -> None:
    runs = [a_training(name=f"run {n:02d}") for n in range(21)]
    oldest, below = runs[0], runs[1]
    a_training(name="new")
    part = client.get(f"{reverse('fragments')}?known={oldest.pk}&arrived&page=2").content.decode()
    assert part.count("<article") == part.count(f'id="card-{below.pk}"') == 1


def test_new_lines_count_once(client: Client) -> None:
    run = a_training()
    notes = "\r\n".join(["x" * 1999] * 10)  # 19,999 characters
    assert keep(client, run, notes=notes).startswith("200")
    assert "\r" not in run.notes


def keep(client: Client, run: Training, **typed: str) -> str:
    values = {"name": run.name, "tags": "", "notes": "", **typed}
    answer = client.post(reverse("notes", args=[run.pk]), values, headers=HTMX)
    run.refresh_from_db()
    return f"{answer.status_code} {answer.content.decode()}"


def test_name_tags_and_notes_are_kept_and_nothing_else(client: Client) -> None:
    run = a_training()
    stale = Training.objects.get(pk=run.pk)
    Training.objects.filter(pk=run.pk).update(current_step=7)
    text = keep(client, stale, name="better", tags="b, A,a ,  c  d", notes="<b>so</b>")
    assert text.startswith("200")
    assert "Saved." in text
    assert "&lt;b&gt;so&lt;/b&gt;" in text
    run.refresh_from_db()
    assert (run.name, run.notes, run.current_step) == ("better", "<b>so</b>", 7)
    assert [tag.name for tag in run.tags.all()] == ["a", "b", "c d"]
    assert 'hx-swap-oob="true"><h1>better</h1>' in text
    keep(client, run, tags="")
    assert not run.tags.exists()


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"name": ""}, "This field is required."),
        ({"tags": "x" * 51}, "A tag has at most 50 characters"),
        ({"tags": ",".join(map(str, range(21)))}, "At most 20 tags; these are 21."),
        ({"notes": "x" * 20_001}, "At most 20,000 characters; these are 20,001."),
    ],
)
def test_what_cannot_be_kept_is_said_at_its_field(
    client: Client, typed: dict[str, str], words: str
) -> None:
    run = a_training(name="as before")
    text = keep(client, run, **typed)
    assert text.startswith("422")
    assert words in text
    assert "<h1>" not in text
    assert (run.name, run.notes, run.tags.count()) == ("as before", "", 0)


def test_notes_are_kept_without_scripts(client: Client) -> None:
    run = a_training()
    address = reverse("notes", args=[run.pk])
    assert client.post(address, {"name": "x", "tags": "", "notes": "y"}).status_code == 302
    assert "This field is required" in client.post(address, {"name": ""}).content.decode()


def test_a_clone_fills_the_dialog_with_the_same_settings(client: Client) -> None:
    run = a_training(
        architecture="jumprelu",
        layer=2,
        hyperparameters={"num_steps": 2000, "gradient_clip": None, "learning_rate": 0.000123456789},
    )
    page = client.get(reverse("clone", args=[run.pk]), headers=HTMX).content.decode()
    assert 'value="jumprelu" selected' in page
    assert re.search(r'<option value="2" selected>2</option>', page)
    assert re.search(r'name="num_steps" value="2,000"', page)
    assert 'name="gradient_clip" value' not in page
    assert 'value="0.000123456789"' in page
    assert Training.objects.count() == 1


def test_a_clone_whose_source_is_gone_says_so(client: Client) -> None:
    run = a_training()
    Tokenization.objects.update(status="failed")
    page = client.get(reverse("clone", args=[run.pk]), headers=HTMX).content.decode()
    assert "None is ready" in page
