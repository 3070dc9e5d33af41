"""A long download lies nowhere in memory whole, and waits for whoever reads slowly."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from saestudio.streaming import PIECE, Pieces
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
