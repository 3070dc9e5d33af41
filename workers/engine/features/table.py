"""`features.sqlite`: what is known of every latent, in one file that any tool can read.

Written once and then only read. No torch here: the web application reads it.

    about      name, value (JSON)    version, tokens, context_length, latents, model, text, ...
    latents    id, frequency, maximum, mean, peaks (JSON list of strings), promotes (the same)
    details    id, record (zlib of JSON, see `Feature`)
    words      word, latent, kind (0 fires on, 1 promotes), weight      words in lower case

Latents that never fired have no row.
"""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

VERSION = 1
Order = Literal["frequency", "maximum", "mean", "id"]
Kind = Literal["fires", "promotes"]
_KINDS: dict[Kind, int] = {"fires": 0, "promotes": 1}
_AT_ONCE = 2000
_LARGEST = 2**63 - 1
_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE latents (
  id INTEGER PRIMARY KEY, frequency REAL NOT NULL, maximum REAL NOT NULL, mean REAL NOT NULL,
  peaks TEXT NOT NULL, promotes TEXT NOT NULL
);
CREATE TABLE details (id INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE words (
  word TEXT NOT NULL, latent INTEGER NOT NULL, kind INTEGER NOT NULL, weight REAL NOT NULL
);
"""
# Made last: filling a table is faster without.
_INDEXES = """
CREATE INDEX latents_frequency ON latents (frequency, id);
CREATE INDEX latents_maximum ON latents (maximum, id);
CREATE INDEX latents_mean ON latents (mean, id);
CREATE INDEX words_word ON words (word, kind, weight);
ANALYZE;
"""


class UnreadableTable(Exception):
    """The file is not there, or is no table of this version; the message is a sentence."""


@dataclass(frozen=True)
class Listed:
    """A latent in a list: how often and how strongly it fires, and in which words."""

    id: int
    frequency: float
    maximum: float
    mean: float
    peaks: list[str]
    promotes: list[str]


@dataclass(frozen=True)
class Feature:
    """All that is known of one latent.

    `examples`: each {"tokens": [...], "values": [...], "peak": index, "context": number}, the
    strongest first. `histogram`: counts of activations from 2^(start + i / per_octave) on.
    `promotes` and `suppresses`: [token, effect on its logit]. `neighbours`: [latent, cosine].
    `shares`, of a crosscoder: [layer, share of the latent's decoder norms], each norm as a part of
    that layer's size; empty of any other, and in tables from before there were crosscoders.
    """

    id: int
    frequency: float
    fired: int
    maximum: float
    mean: float
    examples: list[dict[str, Any]]
    histogram: dict[str, Any]
    promotes: list[tuple[str, float]]
    suppresses: list[tuple[str, float]]
    neighbours: list[tuple[int, float]]
    shares: list[tuple[int, float]] = field(default_factory=list)

    @property
    def peaks(self) -> list[tuple[str, float]]:
        """The tokens at which its examples peak, with the sum of the peaks, largest first."""
        found: dict[str, float] = {}
        for example in self.examples:
            word = example["tokens"][example["peak"]]
            found[word] = found.get(word, 0.0) + example["values"][example["peak"]]
        return sorted(found.items(), key=lambda item: -item[1])


def write(path: Path, about: dict[str, Any], features: Iterable[Feature]) -> int:
    """Write the table whole or not at all; how many latents it holds. Raises `OSError`."""
    # Its own: whoever else writes the same table at this moment has another.
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.unlink(missing_ok=True)
    count = 0
    try:
        with closing(sqlite3.connect(draft)) as file:
            file.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + _SCHEMA)
            for batch in _batches(features):
                _insert(file, batch)
                count += len(batch)
            told = about | {"version": VERSION, "latents_alive": count}
            rows = [(name, json.dumps(value)) for name, value in told.items()]
            file.executemany("INSERT INTO about VALUES (?, ?)", rows)
            file.executescript(_INDEXES)
            file.commit()
    except sqlite3.Error as error:
        draft.unlink(missing_ok=True)
        raise OSError(f"The feature table cannot be written: {error}") from error
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    with draft.open("rb") as written:
        os.fsync(written.fileno())
    draft.replace(path)
    return count


class FeatureTable:
    """A table opened for reading; cheap to open, so one for each request."""

    def __init__(self, path: Path) -> None:
        """Raises `UnreadableTable`."""
        self._path = path
        if not path.is_file():
            raise UnreadableTable("The features of this SAE have not been collected yet.")
        self.about = self._about()
        if self.about.get("version") != VERSION:
            raise UnreadableTable(
                "The features were collected by another version of SAE Studio; collect them again."
            )

    def _about(self) -> dict[str, Any]:
        rows = self._rows("SELECT name, value FROM about")
        return {name: json.loads(value) for name, value in rows}

    def listed(
        self, order: Order = "frequency", *, descending: bool = True, limit: int, offset: int = 0
    ) -> list[Listed]:
        """A page of latents in an order."""
        way = "DESC" if descending else "ASC"
        ids = "" if order == "id" else f", id {way}"
        rows = self._rows(
            f"SELECT * FROM latents ORDER BY {_column(order)} {way}{ids} LIMIT ? OFFSET ?",
            limit,
            offset,
        )
        return [_listed(row) for row in rows]

    def searched(
        self, word: str, kind: Kind = "fires", *, limit: int, offset: int = 0
    ) -> tuple[list[Listed], int]:
        """Latents that fire on a token or promote it, those it matters most to first; how many."""
        wanted = (normalized(word), _KINDS[kind])
        rows = self._rows(
            "SELECT l.* FROM words w JOIN latents l ON l.id = w.latent WHERE w.word = ? "
            "AND w.kind = ? ORDER BY w.weight DESC, l.id LIMIT ? OFFSET ?",
            *wanted,
            limit,
            offset,
        )
        counted = self._rows("SELECT count(*) FROM words WHERE word = ? AND kind = ?", *wanted)
        return [_listed(row) for row in rows], int(counted[0][0])

    def some(self, ids: Iterable[int]) -> dict[int, Listed]:
        """These latents by id, as far as they fired."""
        wanted = list(ids)
        marks = ",".join("?" * len(wanted))
        rows = self._rows(f"SELECT * FROM latents WHERE id IN ({marks})", *wanted)
        return {row[0]: _listed(row) for row in rows}

    def feature(self, latent: int) -> Feature | None:
        """All of one; None where it never fired, or where there is none of that number."""
        if latent > _LARGEST:
            return None
        rows = self._rows("SELECT record FROM details WHERE id = ?", latent)
        return _feature(rows[0][0]) if rows else None

    def features(self, first: int = 0) -> Iterator[Feature]:
        """All, from an id on, a few in memory at a time."""
        while rows := self._rows(
            "SELECT id, record FROM details WHERE id >= ? ORDER BY id LIMIT 128", first
        ):
            yield from (_feature(record) for _, record in rows)
            first = rows[-1][0] + 1

    @property
    def count(self) -> int:
        return int(self.about["latents_alive"])

    def _rows(self, query: str, *values: Any) -> list[Any]:
        try:
            with self._open() as file:
                return file.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise UnreadableTable(f"The feature table cannot be read: {error}.") from error

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # It never changes in its place, so no lock is needed, on whatever file system.
        address = f"{self._path.absolute().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True)) as file:
            yield file


def normalized(word: str) -> str:
    """What is searched for: without the space that tokenizers put before a word, in lower case."""
    return word.strip().lower() or word


def _insert(file: sqlite3.Connection, features: list[Feature]) -> None:
    latents, details, words = [], [], []
    for f in features:
        peaks, promotes = f.peaks, f.promotes
        tops = json.dumps([word for word, _ in peaks[:4]]), json.dumps([w for w, _ in promotes[:4]])
        latents.append((f.id, f.frequency, f.maximum, f.mean, *tops))
        record = json.dumps(asdict(f), separators=(",", ":"), ensure_ascii=False)
        details.append((f.id, zlib.compress(record.encode(), 1)))
        words += _words(f.id, "fires", peaks) + _words(f.id, "promotes", promotes)
    file.executemany("INSERT INTO latents VALUES (?, ?, ?, ?, ?, ?)", latents)
    file.executemany("INSERT INTO details VALUES (?, ?)", details)
    file.executemany("INSERT INTO words VALUES (?, ?, ?, ?)", words)


def _words(latent: int, kind: Kind, weighted: list[tuple[str, float]]) -> list[tuple[Any, ...]]:
    """Each word once, with the largest weight of its spellings."""
    found: dict[str, float] = {}
    for word, weight in weighted:
        known = normalized(word)
        found[known] = max(weight, found.get(known, weight))
    return [(word, latent, _KINDS[kind], weight) for word, weight in found.items()]


def _feature(record: bytes) -> Feature:
    try:
        return Feature(**json.loads(zlib.decompress(record)))
    except (ValueError, TypeError, zlib.error) as error:
        raise UnreadableTable(f"A record of the feature table is damaged: {error}.") from error


def _listed(row: Any) -> Listed:
    latent, frequency, maximum, mean, peaks, promotes = row
    return Listed(latent, frequency, maximum, mean, json.loads(peaks), json.loads(promotes))


def _column(order: Order) -> str:
    """Of the four there are: what comes from a request never becomes SQL."""
    return {"frequency": "frequency", "maximum": "maximum", "mean": "mean", "id": "id"}[order]


def _batches(features: Iterable[Feature]) -> Iterator[list[Feature]]:
    batch: list[Feature] = []
    for feature in features:
        batch.append(feature)
        if len(batch) == _AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
