"""Tables in the docs that are made from the code still match it."""

from pathlib import Path

from workers.engine.config.reference import markdown

DOCS = Path(__file__).resolve().parent.parent / "docs"


def test_the_hyperparameter_table_is_the_declarations() -> None:
    assert (DOCS / "hyperparameters.md").read_text(encoding="utf-8") == markdown()
