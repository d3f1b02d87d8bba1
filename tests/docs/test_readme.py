"""The documents point at files that exist, and say nothing that was left to be filled in."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs/decisions.md"]
LINK = re.compile(r"\]\(([^)#:]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    missing = [
        link
        for link in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_was_left_to_be_filled_in(page):
    assert re.findall(r"\b[A-Z]{4,}_TEXT\b", page.read_text(encoding="utf-8")) == []


def test_every_command_is_in_the_readme():
    from trimtab.cli._app import app

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [command.callback.__name__ for command in app.registered_commands]
    missing = [name for name in commands if f"trimtab {name}" not in text]
    assert missing == []
