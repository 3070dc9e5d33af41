"""An attempt's log: entries of JSON, bounded, without secrets, whatever the process writes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from trainings import logs
from workers import log
from workers.log import Copying, Log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


@contextmanager
def writing(path: Path) -> Iterator[tuple[Log, IO[bytes]]]:
    """A log and what its process would write to; both are closed at the end."""
    out, into = os.pipe()
    with os.fdopen(out, "rb") as stream, closing(Log(path)) as found:
        copying = Copying(stream, [found])
        with os.fdopen(into, "wb", buffering=0) as pipe:
            yield found, pipe
        copying.finish(30)


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_entries_keep_their_form_and_the_rest_is_wrapped(path: Path) -> None:
    own = {"level": "WARNING", "source": "engine", "message": "mind", "time": "2026-01-01T00:00:00"}
    with writing(path) as (found, pipe):
        found.say("INFO", "Attempt 1 starts", attempt=1)
        pipe.write(json.dumps(own).encode() + b"\nTraceback:\n  here\n{half an entry\nno end")
    first, second, *rest = entries(path)
    assert (first["source"], first["message"], first["attempt"]) == (
        "supervisor",
        "Attempt 1 starts",
        1,
    )
    assert second == own
    assert {entry["source"] for entry in rest} == {"output"}
    text = "\n".join(entry["message"] for entry in rest)
    assert text == "Traceback:\n  here\n{half an entry\nno end"
    shown = logs.tail(path)
    assert "2026-01-01 00:00:00 WARNING mind\n" in shown
    assert shown.rstrip().endswith("no end")


@pytest.mark.parametrize(
    "line",
    [b"x" * 200_000, b"\xff\xfe\x00" * 3000, b"\r50 %" * 50_000],
    ids=["long", "bytes", "progress"],
)
def test_lines_without_measure_or_meaning_are_kept_in_parts(path: Path, line: bytes) -> None:
    with writing(path) as (_, pipe):
        pipe.write(line + b"\nlast\n")
    found = entries(path)
    assert max(len(entry["message"]) for entry in found) <= log.MOST_TEXT
    whole = "".join(entry["message"] for entry in found)
    assert whole.replace("\n", "") == line.decode("utf-8", "replace").replace("\n", "") + "last"
    assert logs.tail(path).endswith("last\n")


def test_no_secret_reaches_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sesame-open-wide")
    with writing(path) as (found, pipe):
        found.say("INFO", "with sesame-open-wide")
        pipe.write(b"redis://ada:lovelace@host/0 hf_" + b"a1B2" * 8 + b"\n")
    text = path.read_text()
    assert not any(word in text for word in ("sesame", "lovelace", "a1B2"))
    assert text.count("[hidden]") == 3


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("ftp://ada:love@lace99@host/studio", "love@lace99"),
        ("s3://AKIA:abc/def+ghi@bucket/prefix", "abc/def+ghi"),
        ("sftp://ada:love%40lace99@host/studio", "love@lace99"),
    ],
)
def test_the_password_of_the_store_is_hidden_wherever_it_stands(
    address: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAESTUDIO_STORE", address)
    hidden = logs.scrub(f"{address} cannot be used: {meant!r} is no name")
    assert hidden.count("[hidden]") == 2
    assert not any(part in hidden for part in ("lace99", "def+ghi"))


def test_a_secret_is_found_across_parts_and_with_quotes_in_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_PASSWORD", 'ses"ame\\open')
    monkeypatch.setenv("SOME_TOKEN", "s3cr3t-s3cr3t-s3cr3t")
    own = {"level": "INFO", "source": "x", "message": 'ses"ame\\open', "time": "2026-01-01"}
    with writing(path) as (found, pipe):
        found.say("INFO", 'ses"ame\\open')
        pipe.write(b"." * (log.MOST_TEXT - 10) + b"s3cr3t-s3cr3t-s3cr3t\n")
        pipe.write(json.dumps(own).encode() + b"\n")
        pipe.write(b". " * 32_760 + b"s3cr3t-s3cr3t-s3cr3t" + b" ." * 1000 + b"\n")
    text = "".join(entry["message"] for entry in entries(path))
    assert not any(word in text for word in ("s3cr3t", "ame"))
    assert text.count("[hidden]") == 4


@pytest.mark.parametrize(
    "line",
    [b'{"a":' + b"[" * 100_000, b'{"time": 1', b"{}", b'{"a": NaN}'],
    ids=["deep", "half", "empty", "NaN"],
)
def test_a_line_that_only_looks_like_an_entry_is_text(path: Path, line: bytes) -> None:
    with writing(path) as (_, pipe):
        pipe.write(line + b"\nlast\n")
    assert {entry["source"] for entry in entries(path)} == {"output"}
    assert logs.tail(path).endswith("last\n")


def test_a_log_that_cannot_begin_anew_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(log, "MOST_BYTES", 1000)
    path.with_suffix(".old.jsonl").mkdir()
    (path.with_suffix(".old.jsonl") / "in the way").touch()
    with writing(path) as (_, pipe):
        for number in range(100):
            pipe.write(b"line %06d %s\n" % (number, b"." * 80))
    assert "line 000099" in logs.tail(path)
    assert caplog.text.count("cannot be written") == 1


def test_a_log_that_cannot_be_written_never_holds_the_process_up(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    path.symlink_to("/dev/full")
    with writing(path) as (found, pipe):
        for _ in range(100):
            pipe.write(b"x" * 10_000 + b"\n")
        found.say("INFO", "still here")
    assert caplog.text.count("cannot be written") == 1


def test_what_exceeds_the_limit_begins_anew_and_the_part_before_is_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MOST_BYTES", 20_000)
    with writing(path) as (_, pipe):
        for number in range(1000):
            pipe.write(b"line %06d %s\n" % (number, b"." * 80))
    kept = sorted(path.parent.iterdir())
    assert [file.name for file in kept] == ["log.jsonl", "log.old.jsonl"]
    last = "".join(entry["message"] for file in reversed(kept) for entry in entries(file))
    assert last.endswith("line 000999 " + "." * 80)
    assert sum(file.stat().st_size for file in kept) < 100_000


def test_the_tail_is_cut_at_a_line(path: Path) -> None:
    with writing(path) as (_, pipe):
        for number in range(20_000):
            pipe.write(b"line %06d\n" % number)
    shown = logs.tail(path, 1000)
    assert len(shown) <= 1000
    assert shown.startswith("line 0199")
    assert shown.endswith("line 019999\n")
    assert logs.tail(path.with_name("none.jsonl")) == ""
