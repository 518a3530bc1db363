"""What the documentation says must be so, and all there is must be in it."""

from __future__ import annotations

import ast
import configparser
import re
from pathlib import Path

import click
import pytest

import extract_features
import fit_classifier
from features.__main__ import main as features
from features.audit.command import audit
from features.cache import commands as file_commands
from features.datasets.drawn import main as draw
from features.embedding.doctor.command import doctor
from features.networks.imported.commands import networks
from models.__main__ import main as models
from service.access.keys import make_key_command
from service.settings import OPTIONS
from tests.conftest import ROOT

COMMANDS = [
    ("extract_features.py", extract_features.main),
    ("fit_classifier.py", fit_classifier.main),
    ("features.datasets.drawn", draw),
    ("features audit", audit),
    ("features doctor", doctor),
    ("features networks", networks),
    ("features networks", networks.commands["check"]),
    ("features verify", file_commands.verify),
    ("features verify", file_commands.inspect),
    ("features verify", file_commands.export),
    ("features verify", file_commands.merge),
    ("models classify", models.commands["classify"]),
    ("models evaluate", models.commands["evaluate"]),
    ("python -m service", make_key_command),
]


def pages() -> list[Path]:
    top = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
    return [*top, *sorted((ROOT / "docs").glob("*.md"))]


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


SHOWN = re.compile(
    r"python (?:-m )?(extract_features|fit_classifier|features|models|service)(?:\.py)?( [^`#|]*)"
)


PROGRAMS = {
    "extract_features": extract_features.main,
    "fit_classifier": fit_classifier.main,
    "features": features,
    "models": models,
    "service": make_key_command,
}


def options_of(program: str, words: list[str]) -> set[str]:
    """What the command that begins with these words may be told."""
    if program == "service" and words[:1] != ["key"]:
        return {text for option in OPTIONS for text in option.opts}
    command: click.Command = PROGRAMS[program]
    for word in words:
        known = isinstance(command, click.Group) and command.get_command(
            click.Context(command), word
        )
        command = known or command
    return {text for each in command.params for text in getattr(each, "opts", ())}


def test_every_option_in_a_command_that_a_page_shows_exists() -> None:
    shown = 0
    for page in pages():
        text = page.read_text().replace("\\\n", " ")
        for line in re.findall(r"`([^`\n]+)`|^(.*)$", text, re.MULTILINE):
            for program, rest in SHOWN.findall("".join(line)):
                words = rest.split()
                given = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
                shown += len(given)
                assert given <= {"--help", *options_of(program, words)}, f"{page.name}: {rest}"
    assert shown > 50


def test_every_test_that_a_page_names_exists() -> None:
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    for page in pages():
        assert set(re.findall(r"\btest_\w+\.py", page.read_text())) <= there, page.name


def test_every_dependency_is_accounted_for() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    wanted = [setup["options"]["install_requires"]]
    wanted += [text for name, text in extras.items() if name not in {"test", "dev"}]
    rows = (ROOT / "docs" / "decisions.md").read_text().split("## Dependencies")[1]
    for name in re.findall(r"^[\w-]+", "\n".join(wanted), re.MULTILINE):
        assert re.search(rf"^\| {name}\b", rows, re.MULTILINE), name


def test_every_place_that_contributors_are_sent_to_exists() -> None:
    places = re.findall(r"`([a-z_]+(?:/[\w.]*)+)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(places) > 15
    for place in places:
        assert (ROOT / place).exists(), place


def rooms() -> list[Path]:
    return sorted(
        place.parent
        for package in ("features", "models", "service")
        for place in (ROOT / package).glob("*/__init__.py")
    )


def test_every_room_is_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for room in rooms():
        assert f"`{room.name}/`" in text, room


@pytest.mark.parametrize("room", rooms(), ids=lambda room: room.name)
def test_a_room_names_its_modules_and_what_others_use_of_them(room: Path) -> None:
    told = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
    within = re.search(r"^Within the room: (.*)", told, re.MULTILINE | re.DOTALL)
    shown = dict(re.findall(r"^(\w+): (.+(?:\n .+)*)", told, re.MULTILINE))
    listed = set(shown) | set(re.findall(r"\w+", within[1]) if within else ())
    assert listed == {path.stem for path in room.glob("*.py")} - {"__init__"}
    for module, names in shown.items():
        defined = {
            name.id if isinstance(name, ast.Name) else getattr(name, "name", "")
            for name in ast.walk(ast.parse((room / f"{module}.py").read_text()))
        }
        assert set(re.findall(r"\w+", names)) <= defined, module
