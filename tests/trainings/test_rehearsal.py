"""The measurement in the Start Training dialog: asked for, waited for, shown, warned of."""

from __future__ import annotations

import html
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.http import QueryDict
from django.test import Client
from django.utils import timezone

from tests.rows import FIGURES, a_rehearsal, a_tokenization, a_training
from tests.trainings.test_start_form import NEW, filled
from trainings.forms import StartForm
from trainings.models import Rehearsal, Training
from workers.engine.config import TrainingConfig

pytestmark = pytest.mark.django_db
MEASURE = f"{NEW}/measure"
IN_PAGE = {"HX-Request": "true"}


def config_of(data: dict[str, Any]) -> TrainingConfig:
    """What the form makes of it."""
    sent = QueryDict(mutable=True)
    sent.update(data)
    form = StartForm(sent)
    assert form.is_valid(), form.errors
    assert form.config is not None
    return form.config


def measured(data: dict[str, Any], **columns: Any) -> Rehearsal:
    """A rehearsal of what the form holds that has ended."""
    usual = {"status": "done", "attempt": 1, "figures": FIGURES, "ended_at": timezone.now()}
    return a_rehearsal(config_of(data), **{**usual, **columns})


def review(client: Client, data: dict[str, Any]) -> str:
    """What the dialog says of these values."""
    return html.unescape(client.get(f"{NEW}/check", data).content.decode())


def test_button_says_what_it_does_and_asks_once(client: Client, nudges: Any) -> None:
    data = filled()
    page = review(client, data)
    assert "Measure on this machine" in page
    assert "trains five steps: about half a minute. Writes nothing." in page
    for _ in range(2):
        answer = client.post(MEASURE, data | {"seen": "0"}, headers=IN_PAGE)
        assert "Waiting for a worker to measure it" in answer.content.decode()
    assert [kind for kind, _ in nudges] == ["rehearse"]
    assert Rehearsal.objects.get().config == config_of(data)
    assert not Training.objects.exists()


def test_without_scripts_a_reload_shows_the_result_and_all_that_was_typed(
    client: Client, nudges: Any
) -> None:
    data = filled(name="mine", num_steps="2,000", lr_warmup_steps="17")
    address = client.post(MEASURE, data | {"seen": "0"}).headers["Location"]
    page = client.get(address).content.decode()
    assert "Waiting for a worker to measure it" in page
    assert "Reload the page" in page
    Rehearsal.objects.update(status="done", attempt=1, figures=FIGURES, ended_at=timezone.now())
    page = client.get(address).content.decode()
    assert "10 min" in page
    for value in ("mine", "2,000", "17", data["id"]):
        assert f'value="{value}"' in page


def test_what_was_measured_before_is_shown_at_once_with_its_age(client: Client) -> None:
    data = filled()
    measured(data, ended_at=timezone.now() - timedelta(minutes=12, seconds=5))
    page = review(client, data)
    for words in (
        "10 min",  # the whole
        "8 min 32 s",  # reading
        "1 min 28 s",  # steps
        "87.50 ms each",
        "1.4 GB",
        "3 MB",
        "Measured 12 min ago on the processor in float32.",
        "Measure again",
    ):
        assert words in page
    assert 'class="warned"' not in page.partition('id="measured-')[2].partition("</div>\n")[0]


def test_another_configuration_shows_no_measurement_of_this_one(client: Client) -> None:
    measured(filled())
    page = review(client, filled(batch_size="1024"))
    assert "Measured" not in page
    assert "Measure on this machine" in page


def test_measure_again_asks_for_the_outcome_that_was_seen(client: Client, nudges: Any) -> None:
    data = filled()
    measured(data, attempt=4)
    client.post(MEASURE, data | {"seen": "0"}, headers=IN_PAGE)
    assert nudges == []
    client.post(MEASURE, data | {"seen": "4"}, headers=IN_PAGE)
    assert [kind for kind, _ in nudges] == ["rehearse"]


def test_failed_measurement_is_one_sentence_and_can_be_repeated(client: Client) -> None:
    data = filled()
    measured(data, status="failed", figures={}, error_message="The model <is> cut short.")
    page = client.get(f"{NEW}/check", data).content.decode()
    assert "The model &lt;is&gt; cut short." in page
    assert "Measure again" in page


def test_too_little_memory_and_disk_is_warned_of_and_not_refused(
    client: Client, nudges: Any
) -> None:
    data = filled()
    short = {
        "memory_bytes": 9_000_000_000,
        "gpu_memory_bytes": 90_000_000_000,
        "gpu_memory_available_bytes": 80_000_000_000,
        "disk_bytes": 10**18,
    }
    measured(data, figures=FIGURES | short)
    page = review(client, data)
    assert "It needs 9 GB of memory, and 8 GB was available when it was measured" in page
    assert "It needs 90 GB of GPU memory, and 80 GB was available" in page
    assert "It needs up to 1e+06 TB of disk" in page
    client.post(NEW, data)
    assert Training.objects.count() == 1


def test_machine_that_does_not_tell_its_memory_is_not_warned_of(client: Client) -> None:
    data = filled()
    measured(data, figures=FIGURES | {"memory_available_bytes": None})
    assert "of memory, and" not in review(client, data)


def test_measurement_beside_a_training_says_so(client: Client) -> None:
    data = filled()
    measured(data, beside_training=True)
    assert "beside a running training: alone it is faster" in review(client, data)


def test_fragment_asks_again_until_it_is_measured(client: Client) -> None:
    rehearsal = a_rehearsal(config_of(filled()), status="running", attempt=1)
    address = f"{NEW}/measured/{rehearsal.pk}"
    page = client.get(address, headers=IN_PAGE).content.decode()
    assert "Measuring on this machine" in page
    assert f'hx-get="{address}" hx-trigger="every 1s"' in page
    Rehearsal.objects.update(status="done", figures=FIGURES, ended_at=timezone.now())
    page = client.get(address, headers=IN_PAGE).content.decode()
    assert "hx-trigger" not in page
    assert f'id="measured-{rehearsal.pk}"' in page


def test_fragment_of_a_row_that_is_gone_offers_to_measure(client: Client) -> None:
    gone = uuid.uuid4()
    page = client.get(f"{NEW}/measured/{gone}", headers=IN_PAGE).content.decode()
    assert f'id="measured-{gone}"' in page
    assert "Measure on this machine" in page


def test_waiting_measurement_tells_its_place(client: Client) -> None:
    data = filled()
    a_rehearsal(config_of(data))
    tokenization = a_tokenization()
    type(tokenization).objects.create(
        model=tokenization.model, dataset=tokenization.dataset, context_length=128, status="running"
    )
    assert "Waiting to be measured, behind 1 job" in review(client, data)


def test_wrong_value_is_named_and_nothing_is_measured(client: Client, nudges: Any) -> None:
    data = filled(batch_size="12")
    answer = client.post(MEASURE, data)
    assert answer.status_code == 422
    assert "12 is too small" in answer.content.decode()
    answer = client.post(MEASURE, data, headers=IN_PAGE)
    assert 'id="start-batch_size_error" hx-swap-oob="true">12 is too small' in (
        answer.content.decode()
    )
    assert nudges == []


def test_open_dialog_needs_the_same_few_queries_however_many_runs_there_are(
    client: Client, django_assert_max_num_queries: Any
) -> None:
    data = filled()
    measured(data)
    for _ in range(5):
        a_training()
    with django_assert_max_num_queries(20):
        review(client, data)
