"""Stop, resume, retry and delete: from every state, twice, at once, and with Redis gone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from redis.exceptions import ConnectionError as RedisGone

from tests.faults.conftest import Fault, Ground
from tests.people import somebody
from tests.rows import a_training
from tests.studio import child_of, wait_for
from trainings.models import Training
from workers import broker

pytestmark = pytest.mark.fault

NOW = timezone.now()
HELD = {"status": "running", "attempt": 1, "lease_expires_at": NOW + timedelta(hours=1)}
LOST = HELD | {"lease_expires_at": NOW - timedelta(hours=1)}
# What each of a run's states is in its row.
STATES: dict[str, dict[str, Any]] = {
    "queued": {},
    "waiting for its tokenization": {},
    "interrupted": {"attempt": 1, "interruptions": 1, "current_step": 500},
    "starting": HELD | {"phase": "starting"},
    "running": HELD | {"phase": "training", "current_step": 500},
    "stopping": HELD | {"phase": "training", "stop_requested_at": NOW},
    "lost": LOST | {"phase": "training", "current_step": 500},
    "lost while stopping": LOST | {"phase": "training", "stop_requested_at": NOW},
    "completed": {"status": "completed", "attempt": 1, "completed_at": NOW},
    "failed": {"status": "failed", "attempt": 1, "completed_at": NOW, "error_message": "why"},
    "stopped": {"status": "stopped", "attempt": 1, "completed_at": NOW},
}
WISHES = ("stop", "resume", "retry", "retry from scratch", "delete")


def expected(state: str, wish: str) -> tuple[int, str]:
    """The API's answer, and what the page shows once nothing more has to happen."""
    restarts = wish in ("resume", "retry", "retry from scratch")
    if wish == "delete":
        return 202, "gone"
    if restarts and state in ("failed", "stopped"):
        return 200, "pending"
    if wish == "stop" and state in ("queued", "waiting for its tokenization", "interrupted"):
        return 200, "stopped"
    if wish == "stop" and state in ("starting", "running"):
        return 200, "stopping"
    if wish == "stop" and state == "lost":
        return 200, "stopped"
    return 409, AFTER_SWEEP.get(state, STATES[state].get("status", "pending"))


# What a sweep makes of it, wished for or not.
AFTER_SWEEP = {
    "interrupted": "interrupted",
    "stopping": "stopping",
    "lost": "interrupted",
    "lost while stopping": "stopped",
}


def sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sweeper does about runs, with its messages done at once."""
    from trainings import nudge
    from trainings.wishes import discard
    from workers import sweeper

    with monkeypatch.context() as patch:
        patch.setattr(sweeper, "_queue_is_empty", lambda _queue: True)
        patch.setattr(nudge, "run", lambda _run: None)
        patch.setattr(nudge, "discard", lambda run: discard(run.pk))
        sweeper._trainings(sweeper.Leases())


def ask(client: Client, run: Training, wish: str) -> int:
    url = f"/api/v1/trainings/{run.pk}"
    if wish == "delete":
        return client.delete(url).status_code
    action, _, scratch = wish.partition(" ")
    body = {"from_scratch": bool(scratch)} if action == "retry" else None
    return client.post(f"{url}/{action}", body, content_type="application/json").status_code


def shown(run: Training) -> str:
    found = Training.objects.visible().filter(pk=run.pk).first()
    return found.shown_status if found else "gone"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("redis", ["there", "gone"], ids=["Redis there", "Redis gone"])
def test_every_wish_from_every_state(
    fault: Fault, redis: str, client: Client, home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop, resume, retry and delete from every state, each twice: the outcome is what was asked,
    it is what the page shows, and the second time changes nothing."""

    def enqueue(*_: object) -> None:
        if redis == "gone":
            raise RedisGone("Connection refused")

    monkeypatch.setattr(broker, "enqueue", enqueue)
    client.force_login(somebody())
    unlike = []
    for state, row in STATES.items():
        for wish in WISHES:
            run = a_training(name=state, **row)
            if state.startswith("waiting"):
                type(run.tokenization).objects.update(status="running")
            if row.get("attempt"):
                run.attempt_folder(1).mkdir(parents=True)
            code, outcome = expected(state, wish)
            first, second = ask(client, run, wish), ask(client, run, wish)
            sweep(monkeypatch)
            found = (first, second, shown(run))
            wanted = (code, 404 if wish == "delete" else 409, outcome)
            if found != wanted:
                unlike.append((state, wish, found, wanted))
            # What a worker still holds goes once that one has let go.
            if outcome == "gone" and state not in ("starting", "running", "stopping"):
                assert not run.folder.exists(), state
            type(run.tokenization).objects.update(status="ready")
    fault.measured |= {"asked": 2 * len(STATES) * len(WISHES), "not as asked": len(unlike)}
    assert not unlike


@pytest.mark.long
@pytest.mark.studio
def test_wishes_at_once(ground: Ground, fault: Fault) -> None:
    """The same wish from eight tabs at once, and two different ones: one of the eight is done, of
    two the outcome is what one of them asked for, and nothing is half done."""
    wishes: dict[str, Callable[[str], int]] = {
        "stop": lambda pk: ground.api.post(pk, "stop"),
        "resume": lambda pk: ground.api.post(pk, "resume"),
        "retry": lambda pk: ground.api.post(pk, "retry"),
        "delete": ground.api.delete,
    }
    blocker = ground.api.start("in front", num_steps=100_000)
    wait_for(lambda: ground.api.get(blocker)["current_step"] > 0, "the run in front", 60)
    with ThreadPoolExecutor(8) as tabs:
        for name in ("resume", "retry"):
            pk = ground.api.start("stopped", num_steps=1000)
            assert ground.api.post(pk, "stop") == 200
            codes = Counter(tabs.map(wishes[name], [pk] * 8))
            assert codes == {200: 1, 409: 7}, (name, codes)
        pk = ground.api.start("queued", num_steps=1000)
        codes = Counter(tabs.map(wishes["stop"], [pk] * 8))
        assert codes == {200: 1, 409: 7}, codes
        codes = Counter(tabs.map(wishes["delete"], [pk] * 8))
        assert set(codes) <= {202, 404}, codes
        wait_for(lambda: ground.api.status(pk) == "gone", "it to be gone")
        for one, other in combinations(wishes, 2):
            pk = ground.api.start(f"{one} and {other}", num_steps=1000)
            if "stop" not in (one, other):
                assert ground.api.post(pk, "stop") == 200
            answers = [tabs.submit(wishes[name], pk) for name in (one, other) for _ in range(3)]
            assert {answer.result() for answer in answers} <= {200, 202, 404, 409}
            allowed = {"gone"} if "delete" in (one, other) else {"stopped", "pending"}
            assert ground.api.status(pk) in allowed, (one, other)
            fault.measured["pairs"] = int(str(fault.measured.get("pairs", 0))) + 1
    assert ground.api.delete(blocker) == 202
    left = ground.api.session.get(ground.api.root, params={"status": "pending"}).json()["items"]
    for run in left:
        assert ground.api.delete(run["id"]) == 202


@pytest.mark.long
@pytest.mark.studio
@pytest.mark.parametrize("wish", ["stop", "delete"])
def test_a_wish_at_any_moment(ground: Ground, fault: Fault, wish: str) -> None:
    """Asked while a run is queued, starts, loads, trains and saves: it ends as asked, and no
    process is left of it, nor a file of a deleted one."""
    slowest = 0.0
    for moment, reached in MOMENTS.items():
        pk = ground.api.start(
            f"{wish} while {moment}", num_steps=100_000, checkpoint_interval=1000, log_interval=10
        )
        wait_for(lambda pk=pk, reached=reached: reached(ground.api.get(pk)), moment, 120, 0.02)
        begun = time.monotonic()
        if wish == "stop":
            assert ground.api.post(pk, "stop") == 200
            assert ground.api.ended(pk)["status"] == "stopped", moment
        else:
            assert ground.api.delete(pk) == 202
            folder = ground.studio.home / "trainings" / pk
            wait_for(lambda folder=folder: not folder.exists(), f"{moment}: no file", 60)
        wait_for(lambda pk=pk: child_of(pk) is None, f"{moment}: no process", 60)
        slowest = max(slowest, time.monotonic() - begun)
    fault.measured |= {"moments": len(MOMENTS), "slowest": slowest}


Reached = Callable[[dict[str, Any]], bool]
MOMENTS: dict[str, Reached] = {
    "queued": lambda run: True,
    "starting": lambda run: run["status"] == "running",
    "loading": lambda run: run["phase"] == "loading_model",
    "training": lambda run: run["phase"] == "training",
    "before a checkpoint": lambda run: run["current_step"] >= 950,
    "after a checkpoint": lambda run: run["current_step"] >= 1000,
    "between": lambda run: run["current_step"] >= 1500,
}
