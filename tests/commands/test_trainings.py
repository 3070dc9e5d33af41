"""Trainings, templates and SAEs in a terminal: list, stop, resume, watch, export, import, prune."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models.functions import Now

from templates_app.models import TrainingTemplate
from tests.rows import a_training
from tests.trainings.conftest import nudges
from trainings.management import running
from trainings.models import Sae, Training, TrainingMetric
from trainings.models.release import keep

__all__ = ["nudges"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("home", "nudges")]


def ran(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What the command printed; it ended with this exit code."""
    found, said = 0, ""
    try:
        call_command(*words)
    except SystemExit as end:
        found = int(end.code or 0)
    except CommandError as error:
        found, said = error.returncode, str(error)
    assert (found, said) == (code, said)
    return said or capsys.readouterr().out


def test_list_shows_each_training_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    a_training(name="quick", status="running", current_step=50_000, latest={"loss": 0.5})
    a_training(name="done", status="completed")
    header, *lines = ran(capsys, "list").splitlines()
    assert header.split()[:3] == ["ID", "STATUS", "DONE"]
    assert [line.split()[-1] for line in lines] == ["done", "quick"]
    assert "running" in lines[1]
    assert "0.5" in lines[1]
    assert "done" not in ran(capsys, "list", "--status", "running")


def test_list_as_json_has_what_the_api_has(capsys: pytest.CaptureFixture[str]) -> None:
    run = a_training(name="one")
    [found] = json.loads(ran(capsys, "list", "--json"))
    assert (found["id"], found["name"], found["status"]) == (str(run.pk), "one", "pending")


def test_stop_asks_and_says_what_it_cannot(capsys: pytest.CaptureFixture[str]) -> None:
    run, ended = a_training(name="one", status="running"), a_training(name="two", status="failed")
    assert "one is stopping" in ran(capsys, "stop", str(run.pk)[:8])
    told = json.loads(ran(capsys, "stop", "two", "--json", code=1))
    assert told == [{"id": str(ended.pk), "asked": False, "status": "failed"}]
    Training.objects.filter(pk=run.pk).update(status="stopped", completed_at=Now())
    assert "one is stopped" in ran(capsys, "stop", "one", code=1)  # it was asked, and has ended


@pytest.mark.parametrize("command", ["stop", "resume", "watch"])
def test_training_that_is_not_there_is_named_with_the_nearest(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    a_training(name="jumprelu wide")
    told = ran(capsys, command, "jumprelu wise", code=2)
    assert "Did you mean 'jumprelu wide'?" in told


def test_two_of_one_name_are_told_apart_by_id(capsys: pytest.CaptureFixture[str]) -> None:
    a_training(name="same"), a_training(name="same")
    assert "more than one training" in ran(capsys, "stop", "same", code=2)


def test_resume_can_leave_it_to_the_workers(
    capsys: pytest.CaptureFixture[str], nudges: list[tuple[str, Any]]
) -> None:
    run = a_training(name="one", status="stopped")
    assert "one is queued" in ran(capsys, "resume", "one", "--queue")
    assert [kind for kind, row in nudges if row == run.pk] == ["run"]
    assert "only what failed or was stopped" in ran(capsys, "resume", "one", "--queue", code=2)


def test_resume_runs_it_here_and_ends_with_its_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers import supervisor

    def run(pk: str, worker: str, on_event: Any = None) -> bool:
        failed = {"status": "failed", "error_message": "No luck.", "completed_at": Now()}
        return bool(Training.objects.filter(pk=pk, status="pending").update(**failed))

    monkeypatch.setattr(supervisor, "run", run)
    training = a_training(name="one", status="stopped")
    told = json.loads(ran(capsys, "resume", "one", "--json", code=running.EXIT["failed"]))
    assert (told["id"], told["error_message"]) == (str(training.pk), "No luck.")


def test_watch_prints_points_as_they_come_and_ends_as_the_training_did(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainings.management.commands import watch

    run = a_training(name="one", status="running")
    TrainingMetric.objects.create(training=run, step=10, loss=2.0)

    def later(_seconds: float) -> None:
        TrainingMetric.objects.create(training=run, step=20, loss=float("nan"))
        Training.objects.filter(pk=run.pk).update(status="stopped", completed_at=Now())

    monkeypatch.setattr(watch.time, "sleep", later)
    lines = ran(capsys, "watch", "one", "--json", code=3).splitlines()
    first, second, end = map(json.loads, lines)
    assert [(p["step"], p["loss"]) for p in (first, second)] == [(10, 2.0), (20, None)]
    assert end["status"] == "stopped"


def test_templates_go_out_and_come_back_the_same(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = str(tmp_path / "mine.json")
    settings = {"num_steps": 5000}
    TrainingTemplate.objects.create(name="mine", hyperparameters=settings, architecture="jumprelu")
    ran(capsys, "export_template", "mine", "--output", file)
    TrainingTemplate.objects.all().delete()
    [told] = json.loads(ran(capsys, "import_template", file, "--json"))
    found = TrainingTemplate.objects.get(pk=told["id"])
    assert (found.name, found.architecture) == ("mine", "jumprelu")
    assert found.hyperparameters["num_steps"] == 5000


def test_file_that_is_no_template_imports_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "bad.json"
    file.write_text('{"format": "other"}')
    assert ran(capsys, "import_template", str(file), code=2)
    assert "No such file" in ran(capsys, "import_template", str(tmp_path / "none"), code=1)
    assert not TrainingTemplate.objects.exists()


@pytest.fixture
def trained(tmp_path: Path) -> Training:
    """A completed training whose SAE has two files."""
    run = a_training(name="one", status="completed", completed_at=Now())
    folder = tmp_path / "sae"
    folder.mkdir()
    (folder / "cfg.json").write_text("{}")
    (folder / "sae_weights.safetensors").write_bytes(b"weights")
    Sae.objects.create(training=run, path=str(folder), format="saelens", step=5)
    return run


def test_sae_is_copied_whole_with_checksums(
    trained: Training, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    target = tmp_path / "there" / "l5"
    told = json.loads(ran(capsys, "export_sae", "one", str(target), "--json"))
    assert sorted(told["files"]) == ["cfg.json", "sae_weights.safetensors"]
    assert (target / "sae_weights.safetensors").read_bytes() == b"weights"
    assert [path.name for path in target.parent.iterdir()] == ["l5"]
    assert "is not empty" in ran(capsys, "export_sae", "one", str(target), code=2)


def test_training_without_an_sae_has_none_to_copy(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    a_training(name="early", status="running")
    assert "has no SAE" in ran(capsys, "export_sae", "early", str(tmp_path / "x"), code=2)


def test_prune_lists_first_and_deletes_when_told(
    trained: Training, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    orphan = home / "trainings" / "gone"
    orphan.mkdir(parents=True)
    (orphan / "weights").write_bytes(b"x" * 1000)
    folders = []
    for step in (1000, 2000):
        folder = home / f"checkpoint-{step}"
        folder.mkdir()
        folders.append(folder)
        trained.checkpoints.create(
            attempt=1, step=step, path=str(folder), size_bytes=500, sha256="0"
        )
    told = ran(capsys, "prune", "--orphans", "--checkpoints")
    assert "2 items, 1.5 kB: could be deleted" in told
    assert orphan.exists()
    ran(capsys, "prune", "--orphans", "--checkpoints", "--yes")
    assert [orphan.exists(), *(folder.exists() for folder in folders)] == [False, False, True]
    assert trained.checkpoints.get().step == 2000


def test_prune_deletes_old_trainings_with_their_files(
    trained: Training, capsys: pytest.CaptureFixture[str]
) -> None:
    young = a_training(name="young", status="completed", completed_at=Now())
    Training.objects.filter(pk=trained.pk).update(completed_at=Now() - timedelta(days=40))
    trained.folder.mkdir(parents=True)
    words = ("prune", "--status", "completed", "--older-than", "30", "--json")
    [item] = json.loads(ran(capsys, *words))["items"]
    assert str(trained.pk) in item["what"]
    ran(capsys, *words, "--yes")
    assert not trained.folder.exists()
    assert [run.pk for run in Training.objects.all()] == [young.pk]


def test_prune_needs_to_be_told_what(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Choose --orphans" in ran(capsys, "prune", code=2)


def test_doctor_finds_what_is_amiss_and_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    from trainings.management.commands import doctor

    settings.BIND = "0.0.0.0"
    monkeypatch.setattr(doctor, "LEAST_DISK", 10**18)
    found = {f["what"]: f for f in json.loads(ran(capsys, "doctor", "--json", code=1))}
    assert found["Database"]["state"] == "ok"
    assert found["Disk"]["state"] == "warning"
    assert "manage.py prune" in found["Disk"]["advice"]
    assert found["Access"]["state"] == "failed"
    assert "changepassword" in found["Access"]["advice"]
    assert found["Redis"]["state"] == found["Workers"]["state"] == "warning"
    settings.BIND = "127.0.0.1"
    keep("default")
    assert "FAILED" not in ran(capsys, "doctor")
    (Path(settings.HOME) / ".studio").write_text("another studio's")
    assert "mount the folder that the others have" in ran(capsys, "doctor", code=1)


NAMES = (
    "add_dataset add_model bench cache doctor export_sae export_template fill_store "
    "import_template list prune push_sae resume stop tokenize train watch"
)


@pytest.mark.parametrize("name", NAMES.split())
def test_every_command_has_an_example_and_speaks_json(name: str) -> None:
    from django.core.management import load_command_class

    command = load_command_class("trainings", name)
    assert "Example: manage.py" in command.help
    assert "--json" in command.create_parser("manage.py", name).format_help()
