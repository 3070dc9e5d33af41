"""Real runs on a real worker: in turn, and failing with a reason."""

from __future__ import annotations

import signal

import pytest

from tests.studio import Api, Studio, child_of, wait_for

pytestmark = pytest.mark.studio


@pytest.fixture(scope="module")
def api(studio: Studio) -> Api:
    return Api(studio)


@pytest.mark.long
def test_two_queued_runs_go_one_after_the_other(api: Api) -> None:
    first, second = api.start("first"), api.start("second")
    seen: set[tuple[str, str]] = set()

    def both_ended() -> bool:
        states = (api.get(first)["status"], api.get(second)["status"])
        seen.add(states)
        return states == ("completed", "completed")

    wait_for(both_ended, "both runs to complete", 180, every=0.3)
    assert ("running", "pending") in seen
    assert ("running", "running") not in seen
    assert api.get(second)["started_at"] > api.get(first)["started_at"]


def test_killing_the_child_fails_the_run_with_a_readable_reason(api: Api) -> None:
    pk = api.start("killed", num_steps=100_000)
    child = wait_for(lambda: child_of(pk), "the child process")
    wait_for(lambda: api.get(pk)["current_step"] > 0, "the first steps", 120)
    child.send_signal(signal.SIGKILL)
    training = api.ended(pk)
    assert training["status"] == "failed"
    assert "killed (SIGKILL)" in training["error_message"]


def test_a_stopped_run_keeps_its_sae_and_can_be_resumed(api: Api) -> None:
    pk = api.start("stopped", num_steps=100_000)
    wait_for(lambda: api.get(pk)["current_step"] > 0, "the first steps", 120)
    assert api.post(pk, "stop") == 200
    stopped = api.ended(pk)
    assert stopped["status"] == "stopped"
    assert stopped["sae_path"]
    assert api.post(pk, "resume") == 200
    wait_for(lambda: api.get(pk)["current_step"] > stopped["current_step"], "steps to go on", 120)
    steps = [m["step"] for m in api.session.get(f"{api.root}/{pk}/metrics").json()]
    assert steps == sorted(set(steps))
    assert api.post(pk, "stop") == 200
    assert api.ended(pk)["status"] == "stopped"


def test_deleting_a_running_run_leaves_no_file(api: Api, studio: Studio) -> None:
    pk = api.start("deleted", num_steps=100_000)
    wait_for(lambda: api.get(pk)["current_step"] > 0, "the first steps", 120)
    folder = studio.home / "trainings" / pk
    assert folder.exists()
    assert api.session.delete(f"{api.root}/{pk}").status_code == 202
    assert api.session.get(f"{api.root}/{pk}").status_code == 404
    wait_for(lambda: not folder.exists(), "the files to be gone", 60)
    assert child_of(pk) is None
