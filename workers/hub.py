"""The Hugging Face hub: what is fetched from it, and its refusals as sentences.

What is sent to it: `hub_upload.py`.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, errors, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm import tqdm

from trainings.models import Dataset, LanguageModel

logger = logging.getLogger(__name__)

# The base of what the HTTP client under the library raises, whichever client that is.
_HttpError: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
_TIMEOUT = 30.0
_TEXT_FILES = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab"
    r"|model\.safetensors\.index)\.json|merges\.txt|[\w.-]+\.model"
)
# Other variants (consolidated.safetensors, model.fp16.safetensors) hold the same weights again.
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
# Of an SAE of SAELens or sparsify.
_SAE_WEIGHTS = ("sae_weights.safetensors", "sae.safetensors")
_SAE_FILES = ("cfg.json", "sparsity.safetensors", *_SAE_WEIGHTS)
_MOST_NAMED = 20
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


class HubError(Exception):
    """The hub cannot give what was asked for; the message is a sentence that says what to do."""


@dataclass(frozen=True)
class Listing:
    """The files of a model at one commit, with their sizes in bytes."""

    commit: str
    files: dict[str, int]

    @property
    def size(self) -> int:
        return sum(self.files.values())


def listing(model: LanguageModel) -> Listing:
    """What a model needs of its repository; pickled weights are refused. Raises `HubError`."""
    with refusals("model", model.location, model.revision):
        info = HfApi().model_info(
            model.location,
            revision=model.revision or None,
            files_metadata=True,
            timeout=_TIMEOUT,
        )
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    if not any(_WEIGHTS.fullmatch(name) for name in sizes):
        raise HubError(_no_weights(model.location, list(sizes)))
    wanted = {n: s for n, s in sizes.items() if _TEXT_FILES.fullmatch(n) or _WEIGHTS.fullmatch(n)}
    return Listing(str(info.sha), wanted)


def download(
    model: LanguageModel, what: Listing, out: Path, received: Callable[[int], None]
) -> None:
    """Fetch the listed files into `out`; `received` gets bytes as they come, and may raise."""
    _demand_room(model.location, what.size, out.parent, "SAESTUDIO_HOME")
    bar = _bar(received)
    for name in what.files:
        with refusals("model", model.location, what.commit):
            hf_hub_download(
                model.location, name, revision=what.commit, local_dir=out, tqdm_class=bar
            )
    shutil.rmtree(out / ".cache", ignore_errors=True)


def _demand_room(name: str, needed: int, folder: Path, place: str) -> None:
    """Raises `HubError`."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise HubError(
            f"{name} needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free "
            f"on the disk of {place}."
        )


def fetch_sae(
    repository: str, folder: str, revision: str, into: Path, received: Callable[[], None]
) -> Path:
    """Fetch the files of one SAE; where they lie. `received` is called as bytes come.

    Raises `HubError`, which names the folders there are where there is no SAE in this one.
    """
    with refusals("model", repository, revision, ""):
        info = HfApi().model_info(
            repository, revision=revision or None, files_metadata=True, timeout=_TIMEOUT
        )
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    wanted = [name for name in sizes if _is_of_sae(name, folder)]
    if not any(name.endswith(".safetensors") for name in wanted):
        raise HubError(_no_sae(repository, folder, list(sizes)))
    _demand_room(repository, sum(sizes[n] for n in wanted), into.parent, str(into.parent))
    bar = _bar(lambda _bytes: received())
    for name in wanted:
        with refusals("model", repository, revision, ""):
            hf_hub_download(
                repository, name, revision=str(info.sha), local_dir=into, tqdm_class=bar
            )
    return into / folder


def _is_of_sae(name: str, folder: str) -> bool:
    place, _, file = name.rpartition("/")
    return place == folder and file in _SAE_FILES


def _no_sae(repository: str, folder: str, names: list[str]) -> str:
    there = sorted({n.rpartition("/")[0] for n in names if n.rpartition("/")[2] in _SAE_WEIGHTS})
    some = ", ".join(place or "the repository's own" for place in there[:_MOST_NAMED])
    where = f"the folder {folder}" if folder else "its own folder"
    if not there:
        return f"{repository} holds no SAE of SAELens or sparsify."
    more = f" and {len(there) - _MOST_NAMED} more" if len(there) > _MOST_NAMED else ""
    return f"{repository} has no SAE in {where}; there are: {some}{more}."


def pinned(dataset: Dataset) -> str:
    """The commit a dataset's revision stands for now. Raises `HubError`."""
    with refusals("dataset", dataset.location, dataset.revision):
        info = HfApi().dataset_info(
            dataset.location, revision=dataset.revision or None, timeout=_TIMEOUT
        )
    return str(info.sha)


class Stream:
    """Rows of a dataset as they come over the network; nothing is kept of them.

    `state`, of an earlier one, is where it goes on, with nothing fetched again but the part of the
    file that the place lies in. Reading raises `HubError`.
    """

    def __init__(self, dataset: Dataset, state: dict[str, Any] | None = None) -> None:
        self._dataset, self._begin = dataset, state
        self._rows: Any = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        from datasets.exceptions import DatasetsError

        dataset = self._dataset
        try:
            with refusals("dataset", dataset.location, dataset.revision):
                self._rows = _rows(dataset)
                if self._begin is not None:
                    self._rows.load_state_dict(self._begin)
                yield from self._rows
        except (DatasetsError, ValueError, RuntimeError, NotImplementedError) as error:
            # The library's own words name the subsets and splits there are.
            reason = str(error).strip().splitlines()[0]
            raise HubError(f"The dataset {dataset.location} cannot be read: {reason}") from error

    def state(self) -> dict[str, Any] | None:
        """As JSON: where the row begins that comes after those that were read."""
        if self._rows is None:
            return self._begin
        found: dict[str, Any] = self._rows.state_dict()
        return found


def _rows(dataset: Dataset) -> Any:
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    return load_dataset(
        # Without the scheme a folder of that name beside the process would be read instead.
        f"hf://datasets/{dataset.location}",
        name=dataset.subset or None,
        split=dataset.split or "train",
        revision=dataset.revision or None,
        streaming=True,
    )


def _bar(received: Callable[[int], None]) -> type[Any]:
    """A progress bar as the hub's library wants one, which shows nothing and counts."""

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            received(int(n or 0))

    return Bar


@contextmanager
def refusals(
    kind: str,
    name: str,
    revision: str,
    otherwise: str = ", or register a local folder or file instead",
) -> Iterator[None]:
    """Turn what the hub's library raises into a `HubError` with one sentence."""
    try:
        yield
    except GatedRepoError as error:
        raise HubError(
            f"The {kind} {name} is gated: accept its licence on its page on the Hugging Face hub, "
            "set HF_TOKEN to a token of your account, restart, and try again."
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise HubError(
            f"There is no {kind} {name!r} on the Hugging Face hub, or it is private: check the "
            "name (owner/name), and set HF_TOKEN for a private one."
        ) from error
    except RevisionNotFoundError as error:
        raise HubError(f"The {kind} {name} has no revision {revision!r}.") from error
    except HfHubHTTPError as error:
        logger.warning("The hub refused %s %s: %s", kind, name, error)
        code = error.response.status_code
        raise HubError(
            f"The Hugging Face hub answered {code} for {name}; try again in a while."
        ) from error
    except (_HttpError, ConnectionError, TimeoutError, OfflineModeIsEnabled) as error:
        logger.warning("The hub was not reached for %s %s: %s", kind, name, error)
        raise HubError(
            f"The Hugging Face hub cannot be reached for {name}: check the network of this "
            f"machine{otherwise}."
        ) from error


def _no_weights(name: str, files: list[str]) -> str:
    if any(file.endswith(_PICKLED) for file in files):
        return (
            f"{name} has only pickled weights, which can run any code when they are opened; "
            "choose a version of it with safetensors files."
        )
    return f"{name} holds no language model with safetensors files."
