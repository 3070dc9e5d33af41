"""SAEs sent to the Hugging Face hub: a folder for each in a repository, and the card above them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from .hub import HubError, refusals

logger = logging.getLogger(__name__)

_CARD = "README.md"
# One folder, with a name that needs no escaping in an address or a shell.
_SUBFOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")


@dataclass(frozen=True)
class Pushed:
    """`own_card`: the repository's card is now this SAE's; else it had another, which stays."""

    url: str
    commit: str
    own_card: bool


def push(
    folder: Path,
    repository: str,
    subfolder: str,
    files: dict[str, dict[str, Any]],
    private: bool,
    token: str | None = None,
) -> Pushed:
    """Send a proved folder as `subfolder` of a repository, which is made if there is none.

    `files` are those of its proof, with their SHA-256. Everything becomes one commit, which also
    removes what an earlier push left in the subfolder. What is to be private goes to no repository
    that is public already. Without a token the library takes that of HF_TOKEN, or of its own login.
    Raises `HubError`, and `OSError` where the folder cannot be read.
    """
    _check(folder, subfolder, files)
    api = HfApi(token=token)
    with _refusals(repository):
        url = api.create_repo(repository, private=private, exist_ok=True)
        if private and not api.model_info(repository).private:
            raise HubError(
                f"{repository} is there already and public: make it private on its page, or name "
                "another repository."
            )
        there = _blobs(api, repository, subfolder)
        own_card = there.get(_CARD) in (None, there.get(f"{subfolder}/{_CARD}"))
        commit = api.create_commit(
            repository,
            _operations(folder, subfolder, set(there), own_card),
            commit_message=f"SAE {subfolder}",
        )
    return Pushed(f"{url}/tree/main/{subfolder}", str(commit.oid), own_card)


def _check(folder: Path, subfolder: str, files: dict[str, dict[str, Any]]) -> None:
    """Raises `HubError` unless the folder is what was proved, and goes to a folder of its own."""
    from .engine.saved.proof import described_files

    if not _SUBFOLDER.fullmatch(subfolder):
        raise HubError(
            f"{subfolder!r} is no name for a folder of a repository: write letters, digits, "
            "dots, dashes and underscores."
        )
    if described_files(folder) != files:
        raise HubError("The files are not those that were proved: export the SAE again.")


def _blobs(api: HfApi, repository: str, subfolder: str) -> dict[str, str]:
    """The hash of each file there is in the subfolder, and of the card above it."""
    entries = api.list_repo_tree(repository, recursive=True)
    return {
        entry.path: entry.blob_id
        for entry in entries
        if isinstance(entry, RepoFile)
        and (entry.path == _CARD or entry.path.startswith(f"{subfolder}/"))
    }


def _operations(
    folder: Path, subfolder: str, there: set[str], own_card: bool
) -> list[CommitOperationAdd | CommitOperationDelete]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    added = {f"{subfolder}/{path.relative_to(folder).as_posix()}": path for path in paths}
    stale = sorted(name for name in there - {_CARD} if name not in added)
    if own_card and (folder / _CARD).is_file():
        added[_CARD] = folder / _CARD
    return [
        *(CommitOperationDelete(name) for name in stale),
        *(CommitOperationAdd(name, path) for name, path in added.items()),
    ]


@contextmanager
def _refusals(repository: str) -> Iterator[None]:
    """What can go wrong with writing, before what can go wrong with a repository at all."""
    with refusals("model", repository, "main", otherwise=""):
        try:
            yield
        except (RepositoryNotFoundError, HFValidationError):
            raise
        except HfHubHTTPError as error:
            if error.response.status_code not in (401, 403):
                raise
            raise HubError(
                f"The Hugging Face hub does not let you write to {repository}: set HF_TOKEN to a "
                "token with write access to it (huggingface.co/settings/tokens)."
            ) from error
        except (RuntimeError, ValueError) as error:
            logger.warning("Nothing was sent to %s", repository, exc_info=True)
            reason = " ".join(str(error).split())
            raise HubError(f"The SAE was not sent to {repository}: {reason}") from error
