"""The documents of a dataset, one after the other, never all in memory."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from django.core.exceptions import ValidationError

from trainings.models import Dataset
from trainings.models.tag import unwritable
from trainings.sources import check_local_path

from . import hub

SUFFIXES = (".txt", ".jsonl", ".json", ".parquet", ".arrow")
_LONGEST_PARAGRAPH = 1_000_000


class TextError(Exception):
    """A text cannot be read; the message is a sentence for the researcher."""


class Texts:
    """The non-empty documents of a dataset in their order, each time anew or on from a place.

    `documents` counts those that were given out, those before the place included. Reading raises
    `TextError`, or of the hub `HubError`.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._place: dict[str, Any] = {"rows": 0, "documents": 0, "stream": None}
        self._stream: hub.Stream | None = None
        self._rows = self.documents = 0

    @property
    def identity(self) -> dict[str, Any]:
        """What the text is; where it has changed, a place in it means nothing."""
        dataset = self._dataset
        named = ("source", "location", "subset", "split", "revision", "text_column")
        found = {name: getattr(dataset, name) for name in named}
        if dataset.source == Dataset.Source.HUB:
            return found
        file = self._file().stat()
        return found | {"bytes": file.st_size, "changed": file.st_mtime_ns}

    def place(self) -> dict[str, Any]:
        stream = self._stream.state() if self._stream else None
        return {"rows": self._rows, "documents": self.documents, "stream": stream}

    def go_on(self, place: dict[str, Any]) -> None:
        self._place = place

    def __iter__(self) -> Iterator[str]:
        self._rows, self.documents = self._place["rows"], self._place["documents"]
        column = self._dataset.text_column
        if self._dataset.source == Dataset.Source.HUB:
            self._stream = hub.Stream(self._dataset, self._place["stream"])
            values = (row.get(column) for row in self._stream)
            return self._documents(values)
        if self._dataset.source == Dataset.Source.DEMO:
            column = "text"
        return self._local(self._file(), column)

    def _file(self) -> Path:
        if self._dataset.source == Dataset.Source.DEMO:
            return self._dataset.folder / "text.jsonl"
        return local_file(self._dataset.location)

    def _local(self, path: Path, column: str) -> Iterator[str]:
        """Rows of a table, JSON objects by line, or paragraphs of a text."""
        kinds = {".parquet": _parquet, ".arrow": _arrow, ".txt": _paragraphs}
        rows = kinds.get(path.suffix, _json_lines)(path, column)
        try:
            yield from self._documents(itertools.islice(rows, self._place["rows"], None))
        except (OSError, UnicodeDecodeError) as error:
            raise TextError(f"{path.name} cannot be read: {error}.") from error

    def _documents(self, values: Iterable[Any]) -> Iterator[str]:
        for value in values:
            self._rows += 1
            if value is not None and not isinstance(value, str):
                raise TextError(
                    f"Row {self._rows:,} holds {type(value).__name__} and not text in column "
                    f"{self._dataset.text_column!r}."
                )
            if value and not value.isspace():
                self.documents += 1
                yield value


def local_file(location: str) -> Path:
    """The file, if it may be read and is of a kind that can be. Raises `TextError`."""
    try:
        path = check_local_path(location)
    except ValidationError as error:
        raise TextError(error.message) from error
    if not path.is_file() or path.suffix not in SUFFIXES:
        raise TextError(f"{path.name} is not a text that can be read: {', '.join(SUFFIXES)}.")
    return path


def _paragraphs(path: Path, column: str) -> Iterator[str]:
    """Blocks between blank lines; an endless one, or an endless line, is cut."""
    lines: list[str] = []
    size = 0
    with path.open(encoding="utf-8") as handle:
        # A whole file may be one line.
        while line := handle.readline(_LONGEST_PARAGRAPH):
            if line.isspace() or size > _LONGEST_PARAGRAPH:
                yield "".join(lines)
                lines, size = [], 0
            lines.append(line)
            size += len(line)
    yield "".join(lines)


def _json_lines(path: Path, column: str) -> Iterator[Any]:
    with path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.isspace():
                yield _json_value(line, column, f"line {number:,} of {path.name}")


def _json_value(line: bytes, column: str, where: str) -> Any:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TextError(f"There must be one JSON object per line; {where} is none.") from error
    if not isinstance(value, dict):
        raise TextError(f"There must be one JSON object per line; {where} is none.")
    if column not in value:
        raise _no_column(column, list(value), f"in {where}")
    if isinstance(found := value[column], str) and (reason := unwritable(found.replace("\0", ""))):
        raise TextError(f"The text in {where} cannot be tokenized. {reason}")
    return found


def _parquet(path: Path, column: str) -> Iterator[Any]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            _check_column(column, file.schema_arrow.names, path)
            for batch in file.iter_batches(batch_size=1024, columns=[column]):
                yield from batch.column(0).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise TextError(f"{path.name} is not a Parquet file, or is damaged.") from error


def _arrow(path: Path, column: str) -> Iterator[Any]:
    import pyarrow

    try:
        with path.open("rb") as handle:
            reader = _arrow_reader(handle)
            _check_column(column, reader.schema.names, path)
            for batch in reader:
                yield from batch.column(column).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise TextError(f"{path.name} is not an Arrow file, or is damaged.") from error


def _arrow_reader(handle: BinaryIO) -> Any:
    """Arrow comes as a stream (as Hugging Face datasets write it) or as a file with a footer."""
    from pyarrow import ipc

    is_file = handle.read(6) == b"ARROW1"
    handle.seek(0)
    if not is_file:
        return ipc.open_stream(handle)
    file = ipc.open_file(handle)
    batches = (file.get_batch(i) for i in range(file.num_record_batches))
    return ipc.RecordBatchReader.from_batches(file.schema, batches)


def _check_column(column: str, names: list[str], path: Path) -> None:
    if column not in names:
        raise _no_column(column, names, f"in {path.name}")


def _no_column(column: str, names: list[str], where: str) -> TextError:
    return TextError(f"There is no column {column!r} {where}; there are {', '.join(names)}.")
