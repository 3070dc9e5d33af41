"""Training templates in a browser: kept in the dialog, loaded from menu and list, sent as files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.test_screens import VARIANTS, fits
from tests.conftest import Studio

pytestmark = pytest.mark.browser
MAKE = (
    "from templates_app.models import TrainingTemplate as T; "
    "from templates_app.settings import settled; T.objects.all().delete(); "
)


@pytest.fixture
def kept(stage: Studio) -> None:
    """Three templates, the last of them a favourite."""
    stage.python(
        MAKE + "[T.objects.create(name=n, architecture=a, description=d, is_favorite=f, "
        "usage_count=u, hyperparameters=settled(a, h)) for n, a, d, f, u, h in ("
        "('wide', 'standard', '', False, 3, {'num_steps': 20000, 'top_k_sparsity': 1.39}), "
        "('for any layer', 'jumprelu', 'What we use for SmolLM2', False, 12, {'target_l0': 64}), "
        "('nightly', 'transcoder', '', True, 41, {'num_steps': 50000, 'learning_rate': 5e-4}))]"
    )


def test_settings_are_kept_in_the_dialog_and_loaded_from_the_menu(
    stage: Studio, visit: Callable[..., Any], picture: Callable[..., None]
) -> None:
    stage.python(MAKE)
    page = visit(stage)
    page.get_by_role("link", name="Start Training").click()
    dialog = page.locator("dialog[open]")
    dialog.get_by_label("Steps", exact=True).fill("2000")
    dialog.get_by_text("Keep as template").click()
    dialog.get_by_label("Save as").fill("from here")
    dialog.locator("#keep").get_by_role("button", name="Save").click()
    dialog.get_by_text("from here is saved.").wait_for()
    picture(page, "start-kept-1440-light")
    assert dialog.get_by_label("Steps", exact=True).input_value() == "2000"
    page.keyboard.press("Escape")
    page.reload()
    page.get_by_text("Templates", exact=False).first.click()
    picture(page, "templates-menu-1440-light")
    page.locator(".menu-list").get_by_role("link", name="from here").click()
    dialog.get_by_label("Steps", exact=True).wait_for()
    assert page.locator("details.menu[open]").count() == 0
    assert dialog.get_by_label("Steps", exact=True).input_value() == "2,000"
    assert dialog.get_by_label("Template").locator("option:checked").text_content() == (
        "from here · Standard"
    )


def test_a_template_chosen_in_the_dialog_fills_it_and_keeps_the_name(
    stage: Studio, visit: Callable[..., Any], kept: None
) -> None:
    page = visit(stage)
    page.get_by_role("link", name="Start Training").click()
    dialog = page.locator("dialog[open]")
    dialog.get_by_label("Name", exact=True).first.fill("typed before")
    dialog.get_by_label("Template").select_option(label="for any layer · JumpReLU")
    dialog.locator("#start-target_l0[value='64']").wait_for()
    assert dialog.get_by_label("Architecture", exact=True).input_value() == "jumprelu"
    assert dialog.get_by_label("Name", exact=True).first.input_value() == "typed before"
    dialog.get_by_text("Keep as template").click()
    dialog.get_by_text("In place of the settings of for any layer").wait_for()
    # An empty name is told beside it.
    dialog.locator("#keep").get_by_role("button", name="Save").click()
    dialog.get_by_text("This field is required.").wait_for()


@pytest.mark.parametrize(("scheme", "width"), VARIANTS[1:])
def test_list_of_templates(
    stage: Studio,
    visit: Callable[..., Any],
    picture: Callable[..., None],
    kept: None,
    scheme: str,
    width: int,
) -> None:
    page = visit(stage, "/templates", color_scheme=scheme, size=(width, 900))
    picture(page, f"templates-{width}-{scheme}", full_page=True)
    assert fits(page)
    page.get_by_role("button", name="wide is not a favourite").click()
    page.get_by_role("button", name="wide is a favourite").wait_for()
    page.get_by_role("button", name="Duplicate wide").click()
    page.get_by_text("wide (2) is a copy.").wait_for()
    page.get_by_role("link", name="Delete wide (2)").click()
    page.locator("dialog[open]").get_by_role("button", name="Delete").click()
    page.get_by_text("wide (2) is deleted.").wait_for()
    page.get_by_role("link", name="Edit nightly").click()
    dialog = page.locator("dialog[open]")
    dialog.get_by_label("Settings").fill('{"num_steps": 1}')
    dialog.get_by_role("button", name="Save").click()
    dialog.get_by_text("num_steps:").wait_for()
    picture(page, f"template-edit-{width}-{scheme}")
    dialog.get_by_label("Settings").fill('{"num_steps": 1234}')
    dialog.get_by_role("button", name="Save").click()
    page.get_by_text("num_steps=1234").wait_for()


def test_templates_leave_as_a_file_and_come_back(
    stage: Studio,
    visit: Callable[..., Any],
    picture: Callable[..., None],
    kept: None,
    tmp_path: Path,
) -> None:
    page = visit(stage, "/templates")
    page.get_by_role("checkbox", name="Choose wide").check()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Export").click()
    file = tmp_path / "one.json"
    saved.value.save_as(file)
    whole = json.loads(file.read_text())
    assert [template["name"] for template in whole["templates"]] == ["wide"]
    page.get_by_role("link", name="Import").click()
    whole["templates"].append({"name": "", "hyperparameters": {"num_steps": 1, "lernrate": 1}})
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(whole))
    page.get_by_label("File").set_input_files(bad)
    page.get_by_role("button", name="Check").click()
    page.get_by_text("1 of 2 templates has errors").wait_for()
    picture(page, "templates-import-1440-light", full_page=True)
    page.get_by_label("File").set_input_files(file)
    page.get_by_role("button", name="Check").click()
    page.get_by_text("1 template would be made").wait_for()
    page.get_by_role("button", name="Import 1").click()
    page.get_by_text("Imported: wide (2).").wait_for()
