"""The activation cache on its page and in a terminal: what is kept, and making room by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from saestudio.access.roles import Role
from tests.cache_entry import identity
from tests.people import somebody
from tests.rows import a_training
from trainings.cache import folder, spec
from workers.attempt import run_spec
from workers.engine.cache import Manifest, OpenEntry, write_shard

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("home")]


@pytest.fixture
def client(client: Client) -> Client:
    """An administrator's: the cache is everybody's."""
    client.force_login(somebody("root", Role.ADMIN))
    return client


def opened(layer: int) -> OpenEntry:
    """An entry with one of its two groups, held as a run holds it."""
    manifest = Manifest(
        identity(layer, hook="mlp_out"), "SmolLM2-135M", "TinyStories", 256, 2, 4000, 100
    )
    entry = OpenEntry(folder().path, manifest)
    write_shard(entry.shard(0), "BF16", np.zeros((100, 100), np.uint8))
    return entry


def kept(layer: int) -> str:
    entry = opened(layer)
    entry.close()
    return entry.path.name


@pytest.fixture
def in_use() -> Iterator[str]:
    entry = opened(7)
    yield entry.path.name
    entry.close()


def text(client: Client) -> str:
    return client.get(reverse("cache")).content.decode()


def said(answer: Any) -> str:
    return " ".join(str(message) for message in answer.context["messages"])


def output(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    call_command("cache", *words)
    return capsys.readouterr().out


def test_an_empty_cache_says_how_it_fills(client: Client) -> None:
    page = text(client)
    assert "Nothing is kept yet" in page
    assert "SAESTUDIO_CACHE_GB" in page
    assert "of 50 GB" in page
    assert not folder().path.exists()


def test_entries_are_shown_with_share_size_and_use(client: Client, in_use: str) -> None:
    kept(3)
    page = text(client)
    for shown in ("SmolLM2-135M", "TinyStories", "mlp_out", "bfloat16", "50 %", "In use", in_use):
        assert shown in page
    assert page.count("<time ") == 1


def test_removing_asks_first_and_then_deletes(client: Client) -> None:
    id, other = kept(3), kept(4)
    address = reverse("remove_cached", args=[id])
    assert "No result is lost" in client.get(address).content.decode()
    assert len(folder().entries()) == 2
    assert "were removed" in said(client.post(address, follow=True))
    assert [entry.id for entry in folder().entries()] == [other]
    assert client.get(address).status_code == 404
    assert "gone already" in said(client.post(address, follow=True))


def test_what_a_run_uses_is_kept_and_told(client: Client, in_use: str) -> None:
    address = reverse("remove_cached", args=[in_use])
    page = client.get(address).content.decode()
    assert "It is in use" in page
    assert "<form" not in page.partition('id="main"')[2]
    assert "they were kept" in said(client.post(address, follow=True))
    assert len(folder().entries()) == 1


def test_clearing_keeps_only_what_is_in_use(client: Client, in_use: str) -> None:
    kept(3)
    assert "2 entries" in client.get(reverse("clear_cache")).content.decode()
    answer = client.post(reverse("clear_cache"), follow=True)
    assert "1 removed; 1 in use" in said(answer)
    assert [entry.id for entry in folder().entries()] == [in_use]


@pytest.mark.parametrize("path", ["../secret", "..", "%2e%2e", "lock"])
def test_only_entries_can_be_removed(client: Client, path: str) -> None:
    kept(3)
    (folder().path / "lock").touch()
    client.post(f"/cache/{path}/remove")
    assert len(folder().entries()) == 1
    assert (folder().path / "lock").exists()


def test_the_page_needs_a_login() -> None:
    assert Client().get(reverse("cache")).status_code == 302
    assert Client().post(reverse("clear_cache")).status_code == 302


def test_evictions_are_shown_newest_first(
    client: Client, capsys: pytest.CaptureFixture[str], settings: Any
) -> None:
    for layer in (11, 12):
        id = kept(layer)
        os.utime(folder().path / id / "lock", (layer, layer))
    settings.CACHE_LIMIT = folder().used()
    folder().make_room(settings.CACHE_LIMIT)
    page = text(client)
    assert "Removed to make room" in page
    assert page.index(">12<") < page.index(">11<")
    assert "layer 12 mlp_out" in output(capsys)


def test_training_is_told_where_and_how_much(settings: Any) -> None:
    settings.CACHE_LIMIT = 7 * 10**9
    told = run_spec(a_training(), 1).cache
    assert told is not None
    assert (told.folder, told.limit_bytes) == (Path(settings.HOME, "cache"), 7 * 10**9)
    settings.CACHE_LIMIT = 0
    assert spec() is None
    assert run_spec(a_training(), 1).cache is None


def test_a_cache_that_is_off_says_so(
    client: Client, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.CACHE_LIMIT = 0
    assert ">Off<" in text(client)
    assert "the cache is off" in output(capsys)


def test_the_training_says_where_its_activations_came_from(client: Client) -> None:
    run = a_training(run_facts={"cached_fraction": 0.998})
    page = client.get(reverse("training", args=[run.pk])).content.decode()
    assert "activations: 99 % from the cache" in page
    assert 'Activations</dt><dd>99 % from the <a href="/cache">cache</a>' in page
    plain = a_training(run_facts={"cached_fraction": None})
    assert "from the cache" not in client.get(reverse("training", args=[plain.pk])).content.decode()


def test_command_lists_what_is_kept(capsys: pytest.CaptureFixture[str], in_use: str) -> None:
    id = kept(3)
    first, *lines = output(capsys).splitlines()
    assert "of 50 GB in " in first
    (line,) = [line for line in lines if line.startswith(id)]
    assert "SmolLM2-135M, TinyStories, layer 3 mlp_out  50 %" in line
    assert "last used 20" in line
    assert any(line.startswith(in_use) and line.endswith("in use") for line in lines)


def test_command_prints_one_json_object(capsys: pytest.CaptureFixture[str], in_use: str) -> None:
    found = json.loads(output(capsys, "--json"))
    (entry,) = found["entries"]
    assert (entry["id"], entry["in_use"], entry["share"]) == (in_use, True, 0.5)
    assert entry["identity"]["layer"] == 7
    assert found["used_bytes"] == entry["bytes"]
    assert (found["limit_bytes"], found["evictions"]) == (50 * 10**9, [])


def test_command_removes_and_clears(capsys: pytest.CaptureFixture[str], in_use: str) -> None:
    id = kept(3)
    assert id not in output(capsys, "--remove", id[:10])
    kept(4)
    with pytest.raises(CommandError, match="1 in use by a running training stayed") as caught:
        call_command("cache", "--clear")
    assert caught.value.returncode == 1
    with pytest.raises(CommandError, match="it was kept"):
        call_command("cache", "--remove", in_use)
    assert [entry.id for entry in folder().entries()] == [in_use]


def test_command_names_what_is_no_entry() -> None:
    with pytest.raises(CommandError, match="'ff' is no entry of the cache") as caught:
        call_command("cache", "--remove", "ff")
    assert caught.value.returncode == 2
