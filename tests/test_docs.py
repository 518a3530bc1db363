"""What the documentation says must be so, and all there is must be in it."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

import extract_features
import fit_classifier
from features import file_commands
from features.audit_command import audit
from features.synthetic import main as draw
from models.__main__ import main as models
from service.keys import make_key_command
from service.settings import OPTIONS
from tests.conftest import ROOT

COMMANDS = [
    ("extract_features.py", extract_features.main),
    ("fit_classifier.py", fit_classifier.main),
    ("features.synthetic", draw),
    ("features audit", audit),
    ("features verify", file_commands.verify),
    ("features verify", file_commands.inspect),
    ("features verify", file_commands.export),
    ("features verify", file_commands.merge),
    ("models classify", models.commands["classify"]),
    ("models evaluate", models.commands["evaluate"]),
    ("python -m service", make_key_command),
]


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize(("section", "command"), COMMANDS)
def test_every_option_is_documented(section: str, command: click.Command) -> None:
    text = (ROOT / "docs" / "commands.md").read_text()
    parts = [part for part in text.split("\n## ") if section in part.splitlines()[0]]
    assert len(parts) == 1
    for option in command.params:
        if isinstance(option, click.Option):
            assert any(f"`{word}`" in parts[0] for word in option.opts), option.opts


def test_every_setting_of_the_service_is_documented() -> None:
    text = (ROOT / "docs" / "serving.md").read_text()
    for option in OPTIONS:
        assert f"`{option.opts[0]}` | `{option.envvar}`" in text


def test_every_documented_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in pages():
        assert set(re.findall(r"`make ([a-z]+)", page.read_text())) <= targets


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in pages():
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_module_is_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for package in ("features", "models", "service"):
        for module in (ROOT / package).glob("*.py"):
            if module.name != "__init__.py":
                assert module.name in text or package == "service", module
