"""What is shipped of others is what they published; what is ours obeys our own policy."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENDOR = ROOT / "static" / "vendor" / "chartjs"


def test_chartjs_is_unmodified() -> None:
    digest = hashlib.sha256((VENDOR / "chart.umd.min.js").read_bytes()).hexdigest()
    assert f"`{digest}`" in (VENDOR / "README.md").read_text()


def test_templates_hold_no_inline_script_or_style() -> None:
    inline = re.compile(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|hx-on|javascript:")
    found = [
        f"{path.name}: {match.group()}"
        for path in (ROOT / "templates").rglob("*.html")
        if path.name != "report.html"  # a file to be kept, and no page of the studio
        for match in inline.finditer(path.read_text())
    ]
    assert found == []


def test_nothing_is_fetched_from_elsewhere() -> None:
    ours = [*(ROOT / "templates").rglob("*.html"), *(ROOT / "static" / "js").glob("*.js")]
    ours += (ROOT / "static" / "css").glob("*.css")
    assert [p.name for p in ours if re.search(r"https?://", p.read_text())] == []
