"""Folders that may be read, and a hub of the tests' own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from .fake_hub import FakeHub
from .fake_hub_writes import WritableHub


@pytest.fixture
def roots(home: Path, settings: Any) -> Path:
    """The one folder from which local sources may come."""
    folder = home / "imports"
    folder.mkdir()
    settings.ALLOWED_ROOTS = [folder]
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub on this machine, and the hub's library pointed at it."""
    with serving(FakeHub(tmp_path / "hub"), tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
def writable_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WritableHub]:
    """One that takes what is sent with its token, which is set."""
    from huggingface_hub import constants

    # Xet's client speaks to a storage of its own; without it the library sends large files itself.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with serving(WritableHub(tmp_path / "hub"), tmp_path, monkeypatch) as server:
        monkeypatch.setenv("HF_TOKEN", server.writer)
        yield server


Hub = TypeVar("Hub", bound=FakeHub)


@contextmanager
def serving(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    import datasets.config
    from huggingface_hub import constants

    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", server.url)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        yield server
        server.shutdown()
        thread.join()
