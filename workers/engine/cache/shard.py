"""One tensor in a safetensors file, with a checksum that is looked at whenever it is read.

The library is not used: it has no checksum, makes files that other users cannot read, and copies
what is written. Its own loader reads these files all the same.
"""

from __future__ import annotations

import json
import secrets
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import xxhash

Bytes = npt.NDArray[np.uint8]
TENSOR, CHECKSUM = "activations", "xxh3_128"
UNFINISHED = ".tmp"
# Numpy has no bfloat16; these files are read and written as bytes.
_ITEMSIZE = {"BF16": 2, "F32": 4}
_LARGEST_HEADER = 4096


class DamagedShard(Exception):
    """A file is not what was written; the message says what is wrong with it."""


def write(path: Path, dtype: str, rows: Bytes) -> int:
    """Write the bytes [N, bytes of a row] of a tensor; the file's size. It appears whole or not
    at all, but may be gone after a power cut. Raises `OSError`.
    """
    header = _header(dtype, rows)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        with draft.open("wb") as file:
            file.write(header)
            file.write(rows.data)
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return len(header) + rows.nbytes


def read(path: Path, dtype: str, n_rows: int) -> Bytes:
    """The bytes [n_rows, bytes of a row] of the tensor.

    Raises `DamagedShard` where the file is not what was written or holds something else,
    `FileNotFoundError` where there is none, and other `OSError`s.
    """
    with path.open("rb") as file:
        found, checksum = _described(file)
        if found["dtype"] != dtype or found["shape"][0] != n_rows:
            raise DamagedShard("it holds another tensor")
        rows = np.empty((n_rows, found["shape"][1] * _ITEMSIZE[dtype]), np.uint8)
        # A group of nothing but BOS has no rows, and an empty array no buffer to read into.
        if rows.size and file.readinto(rows.data) != rows.nbytes:
            raise DamagedShard("it is cut short")
        if file.read(1):
            raise DamagedShard("it is too long")
    if xxhash.xxh3_128_hexdigest(rows.data) != checksum:
        raise DamagedShard("its checksum is wrong")
    return rows


def _header(dtype: str, rows: Bytes) -> bytes:
    shape = [len(rows), rows.shape[1] // _ITEMSIZE[dtype]]
    text = json.dumps(
        {
            "__metadata__": {CHECKSUM: xxhash.xxh3_128_hexdigest(rows.data)},
            TENSOR: {"dtype": dtype, "shape": shape, "data_offsets": [0, rows.nbytes]},
        }
    ).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _described(file: BinaryIO) -> tuple[dict[str, Any], str]:
    """What the header says of the tensor, and its checksum."""
    try:
        (size,) = struct.unpack("<Q", file.read(8))
        if size > _LARGEST_HEADER:
            raise DamagedShard("its header is damaged")
        header = json.loads(file.read(size))
        found: dict[str, Any] = header[TENSOR]
        rows, width = found["shape"]
        whole = found["data_offsets"] == [0, rows * width * _ITEMSIZE[found["dtype"]]]
        checksum = str(header["__metadata__"][CHECKSUM])
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise DamagedShard("its header is damaged") from error
    if not whole:
        raise DamagedShard("its header is damaged")
    return found, checksum
