"""The files for operators name only what there is."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from service.settings import OPTIONS, Settings
from tests.conftest import ROOT

FILES = ("Dockerfile", "compose.yaml", "deploy/lesion-classifier.service")
# Read by the libraries beneath, not by the service.
OTHERS = {"LESION_CACHE"}


@pytest.mark.parametrize("name", FILES)
def test_every_variable_is_a_setting(name: str) -> None:
    named = set(re.findall(r"LESION_[A-Z_]+", (ROOT / name).read_text()))
    assert named
    assert named <= {str(option.envvar) for option in OPTIONS} | OTHERS


def test_the_image_is_made_of_what_there_is() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--)(.+)", text, re.MULTILINE)
    for path in " ".join(copied).split():
        assert path.startswith("./") or (ROOT / path).exists(), path
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    assert all((ROOT / path).exists() for path in kept)
    assert re.search(r"^USER \d+$", text, re.MULTILINE)
    assert "HEALTHCHECK" in text


def test_the_composition_closes_what_it_can() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    classifier = services["classifier"]
    assert classifier["read_only"]
    assert classifier["cap_drop"] == ["ALL"]
    assert "ports" not in classifier
    for service in services.values():
        for volume in service["volumes"]:
            source, target, *mode = volume.split(":")
            assert mode == ["ro"] or target == "/feedback"
            if source.startswith("./deploy/") and not source.endswith(("tls", "keys.txt")):
                assert (ROOT / source).exists()


def test_the_proxy_says_who_asks_and_keeps_uploads_in_memory() -> None:
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    assert text.count("{") == text.count("}")
    for header in ("For", "Proto", "Host", "Prefix"):
        assert f"proxy_set_header X-Forwarded-{header}" in text
    megabytes = {int(size) for size in re.findall(r"client_body_buffer_size (\d+)m", text)}
    limit = {int(size) for size in re.findall(r"client_max_body_size (\d+)m", text)}
    assert megabytes == limit == {Settings(bundle=Path()).max_upload_mb}


@pytest.mark.slow
def test_a_wheel_has_the_pages(tmp_path: Path) -> None:
    words = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), "."]
    subprocess.run([sys.executable, *words], check=True, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for folder in ("templates", "static"):
        for path in (ROOT / "service" / "pages" / folder).rglob("*.*"):
            assert path.relative_to(ROOT).as_posix() in names
