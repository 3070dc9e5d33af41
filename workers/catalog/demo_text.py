"""The text every machine has: the documentation and the source of Python's standard library."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from .job import PrepareError

# Tests, generated tables, and what was installed beside the library.
_SKIPPED = {"test", "tests", "idle_test", "lib2to3", "encodings", "pydoc_data"}
_SKIPPED |= {"site-packages", "dist-packages", "__phello__"}
_SHORTEST, _LONGEST = 200, 400_000
# The class of the last error that was shown: of this process, and not of Python.
_OF_THE_MOMENT = {"sys.last_type"}


def write(file: Path, report: Callable[[float, str], None]) -> int:
    """Write one JSON object with a `text` per document; returns how many. Raises `PrepareError`.

    The same Python gives the same file, in the same order.
    """
    sources = _source_files()
    documents = 0
    with file.open("w", encoding="utf-8") as out:
        for documents, text in enumerate(_documents(sources), start=1):
            out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            if documents % 50 == 0:
                report(min(0.99, documents / (len(sources) + 200)), f"{documents:,} documents")
    if not sources:
        raise PrepareError("This Python came without the source of its standard library.")
    return documents


def _documents(sources: list[Path]) -> Iterator[str]:
    """Reference topics, then what compiled modules say of themselves, then source; each once."""
    compiled = (importlib.import_module(name) for name in sorted(sys.builtin_module_names))
    texts = itertools.chain(
        _topics(),
        map(_docstrings, compiled),
        (path.read_text(encoding="utf-8", errors="replace") for path in sources),
    )
    seen: set[str] = set()
    for text in texts:
        if _SHORTEST <= len(text) <= _LONGEST and text not in seen:
            seen.add(text)
            yield text


def _topics() -> Iterator[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        # Some distributions leave the reference out; the source alone is text enough.
        return
    yield from (topics[name] for name in sorted(topics))


def _docstrings(module: ModuleType) -> str:
    """Everything a compiled module documents; source modules bring theirs with the source."""
    parts = [_entry(module.__name__, module), *_members(module.__name__, module)]
    return "\n\n".join(part for part in parts if part)


def _members(owner: str, of: object) -> Iterator[str]:
    for name, value in sorted(vars(of).items()):
        if name.startswith("_") or not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        if f"{owner}.{name}" in _OF_THE_MOMENT:
            continue
        yield _entry(f"{owner}.{name}", value)
        if inspect.isclass(value) and inspect.ismodule(of):
            yield from _members(f"{owner}.{name}", value)


def _entry(name: str, value: object) -> str:
    words = inspect.getdoc(value)
    return f"{name}\n\n{words}" if words else ""


def _source_files() -> list[Path]:
    root = Path(sysconfig.get_path("stdlib"))
    files = (path.relative_to(root) for path in root.rglob("*.py"))
    return [root / path for path in sorted(files) if not _SKIPPED.intersection(path.parts)]
