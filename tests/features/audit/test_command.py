"""`python -m features audit`, as a user runs it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from features.__main__ import main
from features.audit.groups import read_groups
from features.cache.contents import read_features
from tests.conftest import Run
from tests.features.audit.audited import cached, drawn, images_of, plant


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, ["audit", *map(str, words)])


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which one validation image repeats a training image, and names are awkward."""
    place = tmp_path_factory.mktemp("leaky")
    folder = drawn(place / "images", train=20, valid=6)
    original = images_of(folder, "train")[0]
    awkward = "a&b <script>alert(1)</script> \"c\" 'd'.jpg".replace("/", "\u2215")
    plant(original, folder / "valid" / original.parent.name / awkward, lambda x: x.rotate(90))
    cached(folder, place / "features.h5")
    return place / "features.h5"


@pytest.fixture
def cache(leaky: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(leaky, tmp_path / "features.h5"))


def test_text_json_page_and_groups(run: Run, cache: Path, tmp_path: Path) -> None:
    page, report = tmp_path / "audit.html", tmp_path / "audit.json"
    done = run("-m", "features", "audit", cache, "--json", report, "--html", page)
    assert done.returncode == 0, done.stderr
    assert "27 images, 27 distinct; 27 examined in" in done.stdout
    assert "groups of copies across splits: 1" in done.stdout
    assert "SYNTHETIC: " in done.stdout
    found = json.loads(report.read_text())
    (group,) = found["groups"]
    assert found["leaks"] == [group["name"]]
    assert group["splits"] == ["train", "valid"]
    assert found["file"] == str(cache)
    table = read_groups(tmp_path / "features.groups.csv", read_features(cache).items)
    assert sorted(filter(None, table.group.tolist())) == [group["name"]] * 2


def test_the_page_needs_nothing_beside_it_and_escapes_names(cache: Path, tmp_path: Path) -> None:
    page = tmp_path / "audit.html"
    assert invoke(cache, "--html", page, "--groups", "none").exit_code == 0
    html = page.read_text()
    assert "<script" not in html
    assert "a&amp;b &lt;script&gt;" in html
    for source in re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", html):
        assert source.startswith(("data:image/jpeg;base64,", "#")), source
    assert "http" not in re.sub(r"<meta http-equiv", "", html)
    assert html.count("<img ") >= 2
    assert "its numbers mean nothing for a patient" in html
    assert "1 image of the validation or test split shows what another split shows" in html


def test_the_same_file_gives_the_same_bytes(cache: Path, tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        outs = [tmp_path / f"{name}.{ending}" for ending in ("html", "json", "csv")]
        done = invoke(cache, "--html", outs[0], "--json", outs[1], "--groups", outs[2])
        assert done.exit_code == 0, done.output
        written.append([out.read_bytes() for out in outs])
    assert written[0] == written[1]


def test_without_images_the_page_says_so(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    page = tmp_path / "audit.html"
    done = invoke(cache, "--images", tmp_path / "other", "--html", page)
    assert done.exit_code == 0, done.output
    assert "only embeddings were compared" in done.output
    assert "only embeddings were compared" in page.read_text()
    assert "<img" not in page.read_text()


def test_no_table_is_written_when_none_is_wanted(cache: Path, tmp_path: Path) -> None:
    assert invoke(cache, "--groups", "none").exit_code == 0
    assert not (tmp_path / "features.groups.csv").exists()
    assert not Path("none").exists()


def test_strict_fails_on_leaks(cache: Path) -> None:
    done = invoke(cache, "--strict", "--groups", "none")
    assert done.exit_code == 1
    assert "1 group of copies across splits" in done.output


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("missing.h5",), "does not exist"),
        (("FILE", "--images", "nowhere"), "there is no folder"),
        (("FILE", "--json", "no/such/place.json"), "can't be written"),
        (
            ("FILE", "--html", "s3://clinic/audit.html"),
            "s3://clinic/audit.html is an address: give a path",
        ),
    ],
)
def test_faults_are_one_sentence(cache: Path, words: tuple[str, ...], reason: str) -> None:
    done = invoke(*(cache if word == "FILE" else word for word in words))
    assert done.exit_code == 1
    assert reason in done.output
    assert "Traceback" not in done.output
