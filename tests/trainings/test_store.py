"""Artefacts in a store: whole or not there, verified before they are used."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from trainings import store
from trainings.store import remote, scratch

BYTES = os.urandom(100_000)


@pytest.fixture(scope="module")
def s3() -> Iterator[None]:
    """A server of S3's protocol; its client is kept by fsspec, so there is one for all."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield
    server.stop()


@pytest.fixture(params=["memory", "s3"])
def objects(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """A store that is no folder: objects in memory, or behind a server of S3's protocol."""
    settings.HOME = tmp_path / "ada"
    monkeypatch.setattr(remote, "PAUSES", (0.01, 0.01))
    monkeypatch.setattr(remote, "PIECE", 30_000)
    if request.param == "memory":
        settings.STORE = "memory://studio"
        yield
        store.discard(Path(settings.HOME))
        return
    request.getfixturevalue("s3")
    import fsspec

    bucket = f"lab-{uuid4()}"
    fsspec.filesystem("s3").mkdir(bucket)
    settings.STORE = f"s3://{bucket}/prefix"
    yield


def test_a_store_of_objects_gives_back_what_was_put(
    objects: None, settings: Any, tmp_path: Path
) -> None:
    folder = a_model(settings)
    store.check()
    assert store.out_of_reach() == ""
    assert not store.has(folder)
    store.put(folder)
    assert store.has(folder)
    assert store.children(folder.parent) == ["one"]
    assert store.bytes_below(folder) > len(BYTES)
    settings.HOME = tmp_path / "bell"
    store.fetch(here(settings))
    assert (here(settings) / "parts" / "weights.bin").read_bytes() == BYTES
    (here(settings) / "config.json").write_text("[]")
    store.put(here(settings))
    settings.HOME = tmp_path / "ada"
    store.fetch(folder, newest=True)
    assert (folder / "config.json").read_text() == "[]"
    store.discard(folder)
    assert not store.has(folder)
    assert store.children(folder.parent) == []
    with pytest.raises(store.Absent):
        store.fetch(folder.with_name("two"))


def test_a_harmed_object_is_named(objects: None, settings: Any, tmp_path: Path) -> None:
    store.put(a_model(settings))
    there = remote.remote(settings.STORE)
    [name] = [each for each in there._fs.find(there._root) if each.endswith("weights.bin")]
    settings.HOME = tmp_path / "bell"
    for harmed, said in ((BYTES[:-1], "99999 bytes"), (BYTES[::-1], "SHA-256")):
        there._fs.pipe_file(name, harmed)
        with pytest.raises(store.Damaged, match=f"weights.bin .*{said}"):
            store.fetch(here(settings))
    assert not here(settings).exists()


@pytest.fixture
def shared(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store in a folder, and this host's data folder beside it."""
    settings.HOME = tmp_path / "ada"
    settings.STORE = f"file://{tmp_path / 'shared'}"
    (tmp_path / "shared").mkdir()
    monkeypatch.setattr(remote, "PAUSES", (0.01, 0.01))
    return tmp_path / "shared"


def a_model(settings: Any, name: str = "one") -> Path:
    folder = Path(settings.HOME, "models", name)
    (folder / "parts").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "parts" / "weights.bin").write_bytes(BYTES)
    return folder


@pytest.fixture
def put(shared: Path, settings: Any) -> Path:
    """The key's folder in the store, of a model that was put there and is no longer here."""
    folder = a_model(settings)
    store.put(folder)
    shutil.rmtree(folder)
    return shared / "models" / "one"


def the_file(put: Path, name: str = "weights.bin") -> Path:
    [found] = put.rglob(name)
    return found


def here(settings: Any) -> Path:
    return Path(settings.HOME, "models", "one")


def test_another_host_has_the_same_files(put: Path, settings: Any, tmp_path: Path) -> None:
    settings.HOME = tmp_path / "bell"
    store.fetch(here(settings))
    assert (here(settings) / "config.json").read_text() == "{}"
    assert (here(settings) / "parts" / "weights.bin").read_bytes() == BYTES
    assert [path.name for path in here(settings).parent.iterdir()] == ["one"]


def test_without_a_store_nothing_is_done(tmp_path: Path, settings: Any) -> None:
    settings.HOME, settings.STORE = tmp_path, ""
    folder = a_model(settings)
    store.put(folder)
    store.fetch(Path("/elsewhere"))
    store.discard(Path("/elsewhere"))
    assert not store.has(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models"]


def test_what_has_no_manifest_is_not_there(put: Path, settings: Any) -> None:
    (put / "artefact.json").unlink()
    assert not store.has(here(settings))
    with pytest.raises(store.Absent, match="models/one is not in the store"):
        store.fetch(here(settings))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda file: file.write_bytes(BYTES[:-1]), "has 99999 bytes"),
        (lambda file: file.write_bytes(BYTES + b"x"), "has 100001 bytes"),
        (lambda file: file.write_bytes(bytes([BYTES[0] ^ 1]) + BYTES[1:]), "is not what was put"),
        (lambda file: file.unlink(), "is missing"),
    ],
    ids=["truncated", "longer", "flipped", "missing"],
)
def test_a_wrong_file_is_named_and_never_used(
    put: Path, settings: Any, harm: Any, said: str
) -> None:
    harm(the_file(put))
    with pytest.raises(store.Damaged, match=f"weights.bin .*{said}|weights.bin {said}"):
        store.fetch(here(settings))
    assert list(here(settings).parent.iterdir()) == []


def test_a_manifest_that_is_none_is_said(put: Path, settings: Any) -> None:
    (put / "artefact.json").write_text("[" * 100_000)
    with pytest.raises(store.Damaged, match="cannot be read"):
        store.fetch(here(settings))


@pytest.mark.parametrize("name", ["../../config.json", "/config.json", "config\\u0000.json"])
def test_a_manifest_that_leads_out_of_the_folder_is_refused(
    put: Path, settings: Any, name: str
) -> None:
    manifest = put / "artefact.json"
    manifest.write_text(manifest.read_text().replace("config.json", name))
    with pytest.raises(store.Damaged, match="outside"):
        store.fetch(here(settings))


def test_what_is_there_is_not_sent_again(
    shared: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    send = remote.Remote.send

    def counted(self: remote.Remote, path: Path, name: str, go_on: store.GoOn) -> None:
        if sent and path.name == "weights.bin" and len(sent) == 1:
            sent.append("killed")
            raise KeyboardInterrupt
        sent.append(path.name)
        send(self, path, name, go_on)

    monkeypatch.setattr(remote.Remote, "send", counted)
    folder = a_model(settings)
    with pytest.raises(KeyboardInterrupt):
        store.put(folder)
    assert not store.has(folder)
    store.put(folder)
    store.put(folder)
    assert sent == ["config.json", "killed", "weights.bin"]


def test_a_new_version_takes_the_place_of_the_old(put: Path, settings: Any, tmp_path: Path) -> None:
    store.fetch(here(settings))
    settings.HOME = tmp_path / "bell"
    store.fetch(here(settings))
    (here(settings) / "config.json").write_text('{"newer": true}')
    store.put(here(settings))
    assert len(list(put.iterdir())) == 2, "the old one went"
    settings.HOME = tmp_path / "ada"
    store.fetch(here(settings))
    assert (here(settings) / "config.json").read_text() == "{}"
    store.fetch(here(settings), newest=True)
    assert (here(settings) / "config.json").read_text() == '{"newer": true}'


def test_a_copy_that_is_harmed_here_is_fetched_again(put: Path, settings: Any) -> None:
    store.fetch(here(settings))
    (here(settings) / "parts" / "weights.bin").write_bytes(b"torn")
    store.fetch(here(settings), verified=True)
    assert (here(settings) / "parts" / "weights.bin").read_bytes() == BYTES


def test_a_single_file_is_an_artefact_too(shared: Path, settings: Any, tmp_path: Path) -> None:
    file = Path(settings.HOME, "saes", "one", "features.sqlite")
    file.parent.mkdir(parents=True)
    file.write_bytes(BYTES)
    store.put(file)
    settings.HOME = tmp_path / "bell"
    other = Path(settings.HOME, "saes", "one", "features.sqlite")
    store.fetch(other)
    assert other.read_bytes() == BYTES


def test_two_that_fetch_at_once_do_no_harm(put: Path, settings: Any) -> None:
    failed: list[Exception] = []

    def fetch() -> None:
        try:
            store.fetch(here(settings))
        except Exception as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failed
    assert (here(settings) / "parts" / "weights.bin").read_bytes() == BYTES
    assert [path.name for path in here(settings).parent.iterdir()] == ["one"]


def test_a_store_that_is_away_for_a_moment_is_tried_again(
    put: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = remote.remote(settings.STORE)._fs
    cat_file, failures = there.cat_file, iter([OSError("reset"), TimeoutError()])

    def flaky(*args: Any, **options: Any) -> Any:
        for error in failures:
            raise error
        return cat_file(*args, **options)

    monkeypatch.setattr(there, "cat_file", flaky)
    store.fetch(here(settings))
    assert (here(settings) / "config.json").is_file()


def test_a_store_that_stays_away_is_said_in_a_sentence(
    put: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = remote.remote(settings.STORE)._fs

    def away(*args: Any, **options: Any) -> Any:
        raise OSError("no route to host")

    monkeypatch.setattr(there, "cat_file", away)
    with pytest.raises(store.Away, match="cannot be reached"):
        store.fetch(here(settings))
    assert not here(settings).exists()


def test_go_on_ends_it_and_leaves_nothing(put: Path, settings: Any) -> None:
    class Enough(Exception):
        pass

    calls = iter(range(3))

    def some() -> None:
        if next(calls, None) is None:
            raise Enough

    with pytest.raises(Enough):
        store.fetch(here(settings), some)
    assert not list(here(settings).parent.glob("*"))


KILLED = """
import os, signal, sys
from pathlib import Path
os.environ["DJANGO_SETTINGS_MODULE"] = "saestudio.settings"
import django; django.setup()
from trainings import store
from trainings.store import remote
send = remote.Remote.send
def killed(self, path, name, go_on):
    send(self, path, name, go_on)
    print("sent", flush=True)
    signal.pause()
remote.Remote.send = killed
store.put(Path(sys.argv[1]))
"""


def test_an_uploader_that_is_killed_leaves_nothing_that_counts(shared: Path, settings: Any) -> None:
    folder = a_model(settings)
    environment = os.environ | {
        "SAESTUDIO_HOME": str(settings.HOME),
        "SAESTUDIO_STORE": settings.STORE,
    }
    words = [sys.executable, "-c", KILLED, str(folder)]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE) as uploader:
        assert uploader.stdout
        assert uploader.stdout.readline() == b"sent\n"
        uploader.send_signal(signal.SIGKILL)
    assert not store.has(folder)
    store.put(folder)
    assert store.has(folder)


def test_discarded_is_gone_with_all_below_it(put: Path, shared: Path, settings: Any) -> None:
    store.discard(Path(settings.HOME, "models"))
    assert not store.has(here(settings))
    assert not list(shared.iterdir())
    store.discard(Path(settings.HOME, "models"))


def test_the_check_leaves_nothing(shared: Path) -> None:
    store.check()
    assert not list(shared.iterdir())


def test_what_was_fetched_and_not_used_for_long_is_known(put: Path, settings: Any) -> None:
    store.fetch(here(settings))
    [record] = Path(settings.HOME, "store").rglob("*.json")
    os.utime(record, (0, 0))
    assert list(scratch.unused_since(1.0)) == [here(settings)]
    store.fetch(here(settings))
    assert list(scratch.unused_since(1.0)) == []


@pytest.mark.parametrize("address", ["bucket/prefix", "s3://", "://x"])
def test_an_address_that_is_none_stops_the_start(address: str) -> None:
    environment = os.environ | {"SAESTUDIO_STORE": address}
    words = [sys.executable, "-c", "import saestudio.settings"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert "SAESTUDIO_STORE must be an address as s3://bucket/prefix" in done.stderr


def test_a_folder_that_is_not_mounted_is_not_made(shared: Path, settings: Any) -> None:
    folder = a_model(settings)
    shared.rmdir()
    assert "is it mounted?" in store.out_of_reach()
    for use in (store.put, store.has, store.discard):
        with pytest.raises(store.Away, match="is it mounted"):
            use(folder)
    with pytest.raises(store.Away):
        store.fetch(folder.with_name("two"))
    assert not shared.exists()


def test_an_unknown_protocol_is_a_sentence(settings: Any, tmp_path: Path) -> None:
    settings.HOME, settings.STORE = tmp_path, "nonsense://somewhere/else"
    assert "SAESTUDIO_STORE cannot be used" in store.out_of_reach()


def test_a_server_that_does_not_answer_when_it_is_connected_to_is_away(
    settings: Any, tmp_path: Path
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        settings.HOME = tmp_path
        settings.STORE = f"ftp://ada:wonderland@127.0.0.1:{nobody.getsockname()[1]}/studio"
        why = store.out_of_reach()
        assert "[hidden]@127.0.0.1" in why
        assert "cannot be reached (connecting: [Errno 111] Connection refused)." in why
        with pytest.raises(store.Away):
            store.fetch(a_model(settings).with_name("two"))
