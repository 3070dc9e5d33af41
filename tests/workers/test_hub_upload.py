"""SAEs sent to a hub: one commit with what was proved, and every refusal a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine.saes import an_sae, no_tools
from workers.engine.saved import Kind, open_sae, plain
from workers.engine.saved.card import Facts, Source
from workers.engine.saved.export_job import export_saved
from workers.engine.saved.formats import Format
from workers.hub import HubError
from workers.hub_upload import Pushed, push

from .fake_hub_writes import WritableHub

__all__ = ["no_tools"]
pytestmark = pytest.mark.usefixtures("no_tools")

REPOSITORY = "owner/saes"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return plain.write(an_sae(Kind.TOPK), tmp_path / "saved")


def exported(saved: Path, format: Format = Format.SAELENS, **facts: Any) -> dict[str, Any]:
    out, source = saved.with_name("out"), Source("l5", REPOSITORY)
    return export_saved(saved, format, out, Facts(**{"name": "l5"} | facts), source)


def pushed(told: dict[str, Any], subfolder: str = "l5", **options: Any) -> Pushed:
    arguments: dict[str, Any] = {"private": False} | options
    return push(Path(told["folder"]), REPOSITORY, subfolder, told["files"], **arguments)


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_proved_folder_becomes_one_commit(writable_hub: WritableHub, saved: Path) -> None:
    told = exported(saved)
    done = pushed(told)
    folder = writable_hub.repository("models", REPOSITORY)
    assert names(folder) == [
        "README.md",
        "l5/README.md",
        "l5/cfg.json",
        "l5/sae_weights.safetensors",
    ]
    for name in names(folder / "l5"):
        assert (folder / "l5" / name).read_bytes() == Path(told["folder"], name).read_bytes()
    assert open_sae(folder / "l5").k == 8
    assert len(writable_hub.commits) == 1
    assert done.url == f"{writable_hub.url}/{REPOSITORY}/tree/main/l5"
    assert (done.own_card, done.commit) == (True, f"{1:040x}")
    assert not writable_hub.private


def test_weights_go_as_large_files(writable_hub: WritableHub, saved: Path) -> None:
    told = exported(saved)
    pushed(told)
    assert list(writable_hub.objects) == [told["files"]["sae_weights.safetensors"]["sha256"]]


def test_a_private_repository_is_private(writable_hub: WritableHub, saved: Path) -> None:
    told = exported(saved)
    pushed(told, private=True)
    assert writable_hub.private == {REPOSITORY}
    pushed(told, "l6", private=True)


def test_what_is_to_be_private_never_goes_to_a_public_repository(
    writable_hub: WritableHub, saved: Path
) -> None:
    pushed(exported(saved))
    with pytest.raises(HubError, match="is there already and public"):
        pushed(exported(saved), "l6", private=True)
    assert len(writable_hub.commits) == 1


def test_a_later_push_takes_the_place_of_the_first(writable_hub: WritableHub, saved: Path) -> None:
    pushed(exported(saved))
    told = exported(saved, Format.SPARSIFY, licence="mit")
    assert pushed(told).own_card
    folder = writable_hub.repository("models", REPOSITORY)
    assert names(folder) == [
        "README.md",
        "l5/README.md",
        "l5/config.json",
        "l5/layers.1/cfg.json",
        "l5/layers.1/sae.safetensors",
    ]
    assert "mit" in (folder / "README.md").read_text()


def test_a_second_sae_leaves_the_first_and_its_card(writable_hub: WritableHub, saved: Path) -> None:
    pushed(exported(saved))
    folder = writable_hub.repository("models", REPOSITORY)
    card = (folder / "README.md").read_text()
    assert not pushed(exported(saved, name="another"), "l6").own_card
    assert (folder / "README.md").read_text() == card
    assert "another" in (folder / "l6" / "README.md").read_text()
    assert (folder / "l5" / "cfg.json").is_file()


def test_a_card_written_by_hand_stays(writable_hub: WritableHub, saved: Path) -> None:
    pushed(exported(saved))
    folder = writable_hub.repository("models", REPOSITORY)
    (folder / "README.md").write_text("My SAEs")
    assert not pushed(exported(saved, licence="mit")).own_card
    assert (folder / "README.md").read_text() == "My SAEs"


def test_what_was_changed_since_its_proof_is_not_sent(
    writable_hub: WritableHub, saved: Path
) -> None:
    told = exported(saved)
    with Path(told["folder"], "sae_weights.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(HubError, match="not those that were proved"):
        pushed(told)
    assert not writable_hub.commits


@pytest.mark.parametrize("subfolder", ["", ".", "../up", "a/b", "a b", "-x"])
def test_a_subfolder_is_one_plain_name(
    writable_hub: WritableHub, saved: Path, subfolder: str
) -> None:
    with pytest.raises(HubError, match="no name for a folder"):
        pushed(exported(saved), subfolder)


@pytest.mark.parametrize("token", ["hf_reader", None])
@pytest.mark.parametrize("there", [True, False])
def test_who_may_not_write_is_told_what_to_set(
    writable_hub: WritableHub,
    saved: Path,
    monkeypatch: pytest.MonkeyPatch,
    token: str | None,
    there: bool,
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    if there:
        writable_hub.repository("models", REPOSITORY).mkdir(parents=True)
    with pytest.raises(HubError, match="does not let you write to owner/saes: set HF_TOKEN"):
        pushed(exported(saved), token=token)
    assert not writable_hub.commits


def test_a_token_may_be_given(
    writable_hub: WritableHub, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    pushed(exported(saved), token=writable_hub.writer)
    assert writable_hub.commits


def test_a_name_the_hub_does_not_take_is_said(writable_hub: WritableHub, saved: Path) -> None:
    told = exported(saved)
    with pytest.raises(HubError, match="check the name"):
        push(Path(told["folder"]), "a/b/c", "l5", told["files"], private=False)


def test_front_matter_the_hub_refuses_is_said(writable_hub: WritableHub, saved: Path) -> None:
    with pytest.raises(HubError, match='"license" must be one of'):
        pushed(exported(saved, licence="no-such-licence"))
    assert not writable_hub.commits


def test_a_storage_that_refuses_is_said(writable_hub: WritableHub, saved: Path) -> None:
    writable_hub.broken_storage = True
    with pytest.raises(HubError, match="not sent to owner/saes"):
        pushed(exported(saved))
    assert not writable_hub.commits


def test_missing_network_is_said(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(HubError, match=r"cannot be reached for owner/saes: .* this machine\.$"):
        pushed(exported(saved))
