"""``extract_features.py --shards`` and ``--shard``, as a user and an array of jobs give them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from extract_features import main
from features.cache.contents import read_features

OPTIONS = ("--weights", "untrained", "--size", "75", "--recipe", "fast")


@pytest.fixture
def images(folder_of_images: Callable[..., Path]) -> Path:
    return folder_of_images(
        *(f"train/{'melanoma' if n % 2 else 'nevus'}/{n}.jpg" for n in range(9))
    )


def extracted(*words: object) -> Result:
    return CliRunner().invoke(main, [*map(str, words), *OPTIONS])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shard", "0/16"], "got '0/16', expected one of 1/16 to 16/16"),
        (["--shard", "17/16"], "got '17/16', expected one of 1/16 to 16/16"),
        (["--shard", "3-16"], "got '3-16', expected one of 1/16 to 16/16"),
        (["--shard", "1/0"], "got '1/0', expected one of 1/16 to 16/16"),
        (["--shard", "1/5", "--shards", "4"], "got --shards 4 and --shard 1/5: give one"),
        (["--shards", "0"], "0 is not in the range"),
        (["--shards", "2", "--out", "x.h5"], "x.h5 would be a file, and shards lie in a folder"),
        (["--shards", "2", "--out", "no/x"], "there is no folder no"),
    ],
)
def test_what_can_t_be_is_one_sentence(images: Path, words: list[str], message: str) -> None:
    done = extracted(images, *words)
    assert done.exit_code != 0
    told = " ".join(f"{done.output} {'' if done.exception is None else done.exception}".split())
    assert message in told
    assert "Traceback" not in told


def test_an_array_of_jobs_comes_to_a_folder_that_is_read_as_one(
    images: Path, tmp_path: Path
) -> None:
    (images / "train" / "nevus" / "broken.jpg").write_bytes(b"no image")
    out = tmp_path / "features"
    for number in (3, 1):
        done = extracted(images, "--out", out, "--shard", f"{number}/3")
        assert done.exit_code == 0, done.output
    assert "1 shard made, 0 done before, 2 of 3 there" in done.output
    assert "next:" not in done.output
    done = extracted(images, "--out", out, "--shards", "3", "--strict")
    assert "1 shard made, 2 done before, 3 of 3 there, 9 embeddings, 1 failed" in done.output
    assert f"next: python fit_classifier.py {out} --out bundle" in done.output
    assert "1 image could not be read (--strict)" in str(done.exception)
    features = read_features(out)
    assert sorted(features.items.path.tolist()) == sorted(
        f"train/{'melanoma' if n % 2 else 'nevus'}/{n}.jpg" for n in range(9)
    )
    assert [failure.path for failure in features.failures] == ["train/nevus/broken.jpg"]
    done = extracted(images, "--out", out)
    assert f"{out} is a folder of shards: say --shards N to add to them" in str(done.exception)
    done = extracted(images, "--out", out, "--shards", "4")
    assert "is one of 3 shards, and this run is to make 4: say 3" in str(done.exception)


def test_labels_are_not_lost_from_a_shard_unless_that_is_meant(
    images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "features"
    assert extracted(images, "--out", out, "--shards", "2").exit_code == 0
    (tmp_path / "labels.csv").write_text("image,label\n0,nevus\n1,melanoma\n")
    before = {place.name: place.read_bytes() for place in out.iterdir() if place.is_file()}
    done = extracted(images, "--out", out, "--shards", "2", "--labels", tmp_path / "labels.csv")
    assert "would lose the label" in str(done.exception)
    assert {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()} == before
