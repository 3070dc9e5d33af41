"""A long download lies nowhere in memory whole, and waits for whoever reads slowly."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from django.db import connection

from saestudio.streaming import PIECE, Pieces, SentFile
from tests.conftest import Studio, run_async, wait_for

SIZE = 160 * 1024 * 1024
MADE = """
from pathlib import Path
from tests.rows import a_training
from trainings.models import Sae
from saestudio.access import tokens
from django.contrib.auth.models import User
folder = Path({folder!r})
run = a_training(status="completed", name="a large one")
sae = Sae.objects.create(training=run, path=str(folder), step=1)
user, _ = User.objects.get_or_create(username="local")
print(sae.pk, run.pk, tokens.make(user, str(sae.pk), read_only=True, days=None)[1])
"""
RUN = """
from trainings.models import Sae
print(Sae.objects.get(pk={sae!r}).training_id)
"""
GONE = """
from trainings.models import Training
Training.objects.filter(pk={run!r}).delete()
"""


@pytest.fixture
def large(studio: Studio, tmp_path: Path) -> Iterator[tuple[str, str, str]]:
    """Its path below the API, a token that may read it, and its digest."""
    block, digest = bytes(range(256)) * 4096, hashlib.sha256()
    with (tmp_path / "sae_weights.safetensors").open("wb") as file:
        for number in range(SIZE // len(block)):
            piece = number.to_bytes(4, "big") + block[4:]
            file.write(piece)
            digest.update(piece)
    pk, run, token = studio.python(MADE.format(folder=str(tmp_path))).split()
    yield f"/api/v1/saes/{pk}/files/sae_weights.safetensors", token, digest.hexdigest()
    studio.python(GONE.format(run=run))


@pytest.mark.studio
def test_a_slow_reader_of_a_large_file_costs_no_memory(
    studio: Studio, large: tuple[str, str, str]
) -> None:
    path, token, digest = large
    server = psutil.Process(studio.processes["web"].pid)
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
    with socket.create_connection(("127.0.0.1", studio.port)) as reader:
        before = server.memory_info().rss
        reader.sendall(f"{head}Connection: close\r\n\r\n".encode())
        begun = reader.recv(1000)
        assert begun.startswith(b"HTTP/1.1 200")
        # While nothing is read, the studio answers others and holds little of the file.
        for _ in range(20):
            assert requests.get(f"{studio.url}/healthz", timeout=30).status_code == 200
        assert server.memory_info().rss - before < SIZE / 4
        whole = bytearray(begun)
        while piece := reader.recv(1 << 20):
            whole += piece
    headers, _, body = bytes(whole).partition(b"\r\n\r\n")
    assert f"Content-Length: {SIZE}".encode() in headers
    assert hashlib.sha256(body).hexdigest() == digest


@pytest.mark.studio
def test_a_reader_who_leaves_frees_the_file(studio: Studio, large: tuple[str, str, str]) -> None:
    path, token, _ = large
    server = psutil.Process(studio.processes["web"].pid)
    name = "sae_weights.safetensors"

    def held() -> bool:
        return any(Path(file.path).name == name for file in server.open_files())

    with socket.create_connection(("127.0.0.1", studio.port)) as reader:
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
        reader.sendall(head.encode())
        assert reader.recv(1000)
        assert held()
    wait_for(lambda: not held(), "the file to be closed")
    assert requests.get(f"{studio.url}/healthz", timeout=30).status_code == 200


@pytest.mark.studio
def test_what_fails_in_the_middle_is_cut_off_and_others_are_served(
    studio: Studio, large: tuple[str, str, str], tmp_path: Path
) -> None:
    path, token, _ = large
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
    for _ in range(2):  # Daphne looks after its applications still
        with socket.create_connection(("127.0.0.1", studio.port), timeout=30) as reader:
            reader.sendall(head.encode())
            size = len(reader.recv(1000))
            os.truncate(tmp_path / "sae_weights.safetensors", 1)
            with contextlib.suppress(ConnectionResetError):
                while piece := reader.recv(1 << 20):
                    size += len(piece)
        assert size < SIZE
        os.truncate(tmp_path / "sae_weights.safetensors", SIZE)
    assert requests.get(f"{studio.url}/healthz", timeout=30).status_code == 200


@pytest.mark.studio
def test_a_head_request_is_answered_by_headers_alone(
    studio: Studio, large: tuple[str, str, str]
) -> None:
    path, token, _ = large
    run = path.split("/")[4]
    session = studio.session()
    for address in (f"/trainings/{studio.python(RUN.format(sae=run)).strip()}/points.csv", path):
        head = f"HEAD {address} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        cookie = "; ".join(f"{name}={value}" for name, value in session.cookies.items())
        more = f"Cookie: {cookie}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        with socket.create_connection(("127.0.0.1", studio.port)) as reader:
            reader.sendall((head + more).encode())
            told = b"".join(iter(lambda: reader.recv(65536), b""))
        assert told.startswith((b"HTTP/1.1 200", b"HTTP/1.1 405")), told[:200]
        headers, _, body = told.partition(b"\r\n\r\n")
        assert body == b"" or b" 405 " in headers.splitlines()[0]


def test_a_file_that_grows_is_sent_as_long_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"x" * (2 * PIECE))

    async def scene() -> int:
        answer, size = SentFile(path, "log.jsonl"), 0
        assert answer["Content-Length"] == str(2 * PIECE)
        with path.open("ab") as more:
            more.write(b"HTTP/1.1 200 OK")
        async for piece in answer:
            size += len(piece)
        return size

    assert run_async(scene()) == 2 * PIECE
    shorter = SentFile(path, "log.jsonl")
    path.write_bytes(b"x")
    with pytest.raises(EOFError):
        list(shorter)


@pytest.mark.django_db(transaction=True)
def test_no_connection_to_the_database_is_held_while_somebody_reads() -> None:
    open_before: list[bool] = []

    def rows() -> Iterator[bytes]:
        for _ in range(3):
            open_before.append(connection.connection is not None)
            connection.ensure_connection()
            yield b"x" * PIECE

    async def scene() -> None:
        async for _ in Pieces(rows()):
            pass

    run_async(scene())
    assert open_before == [False] * 3


def test_small_pieces_are_sent_together_and_no_more_is_made_than_is_taken() -> None:
    made: list[int] = []

    def rows() -> Iterator[str]:
        for number in range(5 * PIECE // 10):
            made.append(number)
            yield f"{number:09d}\n"

    async def scene() -> list[int]:
        sizes = []
        async for piece in Pieces(rows()):
            sizes.append(len(piece))
            assert 10 * len(made) == sum(sizes)
        return sizes

    sizes: Any = run_async(scene())
    assert len(sizes) == 5
    assert sum(sizes) == 10 * len(made)
