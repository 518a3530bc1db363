from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import filelock
import h5py
import numpy as np
import pytest
from PIL import Image

from features.audit.findings import audit
from features.cache.contents import read_features, write_features
from features.cache.writer import FeatureWriter, Size
from features.datasets.folders import find_images
from features.embedding.extractor import Extractor, load_extractor
from features.errors import CacheError, CacheMismatch
from features.extraction import Outcome, extract
from features.images.decoding import load_pixels
from tests.conftest import ROOT, Run
from tests.features.images.codecs.test_depth import png, samples
from tests.pictures import image_bytes

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return load_extractor("inception_v3", "untrained", input_size=75)


@pytest.fixture
def images(folder_of_images: Make) -> Path:
    return folder_of_images(
        *(f"train/melanoma/{n}.jpg" for n in range(3)),
        *(f"train/nevus/{n}.png" for n in range(3, 7)),
        "valid/nevus/7.jpg",
    )


def embed(images: Path, extractor: Extractor, out: Path, **options: object) -> Outcome:
    return extract(find_images(images), extractor, out, **options)


def by_path(out: Path) -> dict[str, np.ndarray]:
    features = read_features(out)
    return dict(zip(features.items.path.tolist(), features.embedded(features.items), strict=True))


def test_every_image_gets_its_own_embedding(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    out = tmp_path / "features.h5"
    outcome = embed(images, extractor, out)
    assert (outcome.images, outcome.embedded, outcome.known, outcome.failures) == (8, 8, 0, ())
    features = read_features(out)
    assert features.items.split.tolist() == ["train"] * 7 + ["valid"]
    assert features.items.label.tolist() == ["melanoma"] * 3 + ["nevus"] * 5
    assert set(features.items.width.tolist()) == {96}
    assert set(features.items.height.tolist()) == {80}
    for path, embedding in by_path(out).items():
        alone = extractor.embed(load_pixels(images / path, 75)[np.newaxis])[0]
        np.testing.assert_allclose(embedding, alone, rtol=1e-3, atol=1e-5)


def test_unchanged_images_cost_nothing(
    images: Path, extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.extraction.remembered._RACY_NS", 0)
    out = tmp_path / "features.h5"
    embed(images, extractor, out)
    before = out.stat()
    # An extractor that was never made ready shows that nothing was decoded or embedded.
    fresh = Extractor(extractor.spec, lambda size: pytest.fail("the network was loaded"))
    told: list[tuple[int, int]] = []
    outcome = embed(images, fresh, out, progress=lambda *news: told.append(news))
    assert (outcome.embedded, outcome.known) == (0, 8)
    assert told == []
    assert out.stat().st_mtime_ns == before.st_mtime_ns


def test_added_images_cost_only_themselves_and_nothing_else_changes(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    out = tmp_path / "features.h5"
    embed(images, extractor, out)
    before = by_path(out)
    (images / "train" / "melanoma" / "new.jpg").write_bytes(image_bytes(99))
    assert embed(images, extractor, out).embedded == 1
    after = by_path(out)
    assert set(after) == {*before, "train/melanoma/new.jpg"}
    for path, embedding in before.items():
        np.testing.assert_array_equal(after[path], embedding)


def test_renamed_moved_and_relabelled_images_cost_nothing(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    out = tmp_path / "features.h5"
    embed(images, extractor, out)
    before = by_path(out)
    (images / "train" / "nevus" / "3.png").rename(images / "train" / "melanoma" / "renamed.png")
    (images / "test").mkdir()
    shutil.move(images / "train" / "melanoma", images / "test" / "melanoma")
    outcome = embed(images, extractor, out)
    assert (outcome.embedded, outcome.known, outcome.kept) == (0, 8, 0)
    after = by_path(out)
    np.testing.assert_array_equal(after["test/melanoma/renamed.png"], before["train/nevus/3.png"])
    items = read_features(out).items
    assert items.split[items.path == "test/melanoma/renamed.png"] == "test"


def test_a_duplicate_is_computed_once(images: Path, extractor: Extractor, tmp_path: Path) -> None:
    shutil.copy(images / "train/melanoma/0.jpg", images / "valid/nevus/copy.jpg")
    out = tmp_path / "features.h5"
    outcome = embed(images, extractor, out)
    assert (outcome.images, outcome.embedded, outcome.known) == (9, 8, 1)
    features = read_features(out)
    assert len(features.embeddings) == 8
    rows = dict(zip(features.items.path.tolist(), features.items.row.tolist(), strict=True))
    assert rows["train/melanoma/0.jpg"] == rows["valid/nevus/copy.jpg"]


def test_embeddings_of_vanished_images_are_kept_until_pruned(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    out = tmp_path / "features.h5"
    embed(images, extractor, out)
    shutil.move(images / "valid", tmp_path / "elsewhere")
    assert embed(images, extractor, out).kept == 1
    assert np.count_nonzero(read_features(out).items.path == "") == 1
    shutil.move(tmp_path / "elsewhere", images / "valid")
    assert embed(images, extractor, out).embedded == 0
    shutil.rmtree(images / "valid")
    assert embed(images, extractor, out, prune=True).kept == 0
    assert len(read_features(out).embeddings) == 7


def test_unreadable_images_are_recorded_and_the_run_goes_on(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    whole = image_bytes(50, (400, 300))
    (images / "train/nevus/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "train/nevus/empty.jpg").write_bytes(b"")
    (images / "train/nevus/text.jpg").write_text("no image")
    (images / "train/nevus/dangling.jpg").symlink_to(tmp_path / "nowhere")
    out = tmp_path / "features.h5"
    outcome = embed(images, extractor, out)
    codes = {Path(failure.path).stem: failure.code for failure in outcome.failures}
    assert codes == {
        "cut": "truncated",
        "empty": "empty",
        "text": "not_an_image",
        "dangling": "unreadable",
    }
    assert outcome.embedded == 8
    assert read_features(out).failures == outcome.failures
    again = embed(images, extractor, out)
    assert again.embedded == 0
    assert again.failures == outcome.failures


def test_a_mended_image_is_embedded(images: Path, extractor: Extractor, tmp_path: Path) -> None:
    bad = images / "train/nevus/bad.jpg"
    bad.write_bytes(image_bytes(60)[:200])
    out = tmp_path / "features.h5"
    assert len(embed(images, extractor, out).failures) == 1
    bad.write_bytes(image_bytes(60))
    outcome = embed(images, extractor, out)
    assert (outcome.embedded, outcome.failures) == (1, ())


def test_what_an_earlier_version_read_wrongly_is_embedded_anew_and_nothing_else(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    out = tmp_path / "features.h5"
    (images / "train/nevus/deep.png").write_bytes(png(samples(12, 3)))
    first = embed(images, extractor, out)
    assert first.embedded == 9
    assert first.notes[0] == (
        "1 of the images: 12 bits in 16: read over the range from 0 to 4095 "
        "(such as train/nevus/deep.png)"
    )
    right, now = by_path(out), read_features(out)
    wrong = replace(now, embeddings=np.zeros_like(now.embeddings), reader=1)
    write_features(out, wrong)
    again = embed(images, extractor, out)
    assert (again.embedded, again.known) == (1, 8)
    assert again.notes == first.notes
    for path, row in by_path(out).items():
        assert np.array_equal(row, right[path]) == path.endswith("deep.png")
    assert read_features(out).reader > 1
    assert embed(images, extractor, out).embedded == 0


def test_an_archive_gives_the_embeddings_of_its_folder(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), "gztar", images))
    embed(images, extractor, tmp_path / "folder.h5")
    outcome = embed(archive, extractor, tmp_path / "packed.h5")
    assert (outcome.embedded, outcome.failures) == (8, ())
    expected, found = by_path(tmp_path / "folder.h5"), by_path(tmp_path / "packed.h5")
    assert list(expected) == list(found)
    for path, row in expected.items():
        np.testing.assert_array_equal(row, found[path])
    # Whoever wants to see an image again finds it.
    features = read_features(tmp_path / "packed.h5")
    assert audit(features).seen == 8
    for path in found:
        load_pixels(Path(features.images) / path, 16)
    assert embed(images, extractor, tmp_path / "packed.h5").embedded == 0


def test_nearly_black_images_are_told(images: Path, extractor: Extractor, tmp_path: Path) -> None:
    for name in ("black", "night"):
        file = images / f"train/nevus/{name}.png"
        Image.new("RGB", (90, 90), (9, 9, ord(name[0]) // 20)).save(file)
    found = embed(images, extractor, tmp_path / "features.h5")
    assert found.embedded == 10
    assert found.notes == (
        "2 of the images: nearly black, so that hardly anything can be seen "
        "(such as train/nevus/black.png)",
    )


def test_images_that_are_enlarged_by_more_than_a_quarter_are_told(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    size = extractor.spec.input_size
    for name, side in (("small", size * 3 // 4), ("just", size * 4 // 5), ("tall", size * 2)):
        shape = (size // 2 if name == "tall" else side, side)
        Image.effect_noise(shape, 40).save(images / f"train/nevus/{name}.png")
    found = embed(images, extractor, tmp_path / "features.h5")
    assert found.notes == (
        f"2 of the images: enlarged to {size} pixels by more than a quarter, which shows nothing "
        "more (such as train/nevus/small.png)",
    )


def test_an_unsupported_image_is_tried_again(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    """Something may have been installed meanwhile."""
    (images / "train/nevus/film.gif").write_bytes(b"%PDF-1.7")
    out = tmp_path / "features.h5"
    assert [failure.code for failure in embed(images, extractor, out).failures] == ["unsupported"]
    before = read_features(out)
    (known,) = before.failures
    write_features(out, replace(before, failures=(replace(known, reason="an old reason"),)))
    assert embed(images, extractor, out).failures == (known,)


def test_another_extractor_is_refused_with_the_difference(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    out = tmp_path / "features.h5"
    embed(images, extractor, out)
    before = out.read_bytes()
    other = load_extractor("inception_v3", "untrained", input_size=80)
    with pytest.raises(CacheMismatch, match="input size 75 against 80"):
        embed(images, other, out)
    assert out.read_bytes() == before


def test_half_precision_stays_as_it_is(images: Path, extractor: Extractor, tmp_path: Path) -> None:
    out = tmp_path / "features.h5"
    embed(images, extractor, out, dtype="float16")
    (images / "train/nevus/more.jpg").write_bytes(image_bytes(71))
    embed(images, extractor, out)
    with h5py.File(out) as file:
        assert file["embeddings"].dtype == np.float16
    with pytest.raises(CacheError, match="holds float16, this run asks for float32"):
        embed(images, extractor, out, dtype="float32")


def test_a_second_writer_is_refused(images: Path, extractor: Extractor, tmp_path: Path) -> None:
    out = tmp_path / "features.h5"
    with (
        filelock.FileLock(tmp_path / ".features.h5.lock"),
        pytest.raises(CacheError, match="another process is writing"),
    ):
        embed(images, extractor, out)


def test_where_nothing_can_be_written_is_told_before_work(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    with pytest.raises(CacheError, match="there is no folder"):
        embed(images, extractor, tmp_path / "none" / "features.h5")
    with pytest.raises(CacheError, match="is a folder"):
        embed(images, extractor, tmp_path)


def test_finished_blocks_are_taken_up_again(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    whole, resumed = tmp_path / "whole.h5", tmp_path / "resumed.h5"
    embed(images, extractor, whole)
    features = read_features(whole)
    with FeatureWriter(resumed, extractor.spec) as writer:
        writer.append(
            features.items.sha256[2:5].tolist(), [Size(96, 80)] * 3, features.embeddings[2:5]
        )
    assert embed(images, extractor, resumed).embedded == 5
    for path, embedding in by_path(whole).items():
        np.testing.assert_array_equal(by_path(resumed)[path], embedding)
    assert not (tmp_path / "resumed.h5.blocks").exists()


def test_blocks_of_another_extractor_and_broken_ones_are_told(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    out = tmp_path / "features.h5"
    other = replace(extractor.spec, input_size=80)
    with FeatureWriter(out, other) as writer:
        writer.append(["a" * 64], [Size(1, 1)], np.zeros((1, 2048), np.float32))
    with pytest.raises(CacheError, match="the start of a run with another network"):
        embed(images, extractor, out)
    for block in (tmp_path / "features.h5.blocks").iterdir():
        block.write_bytes(block.read_bytes()[:100])
    with pytest.raises(CacheError, match=r"is damaged.*delete it"):
        embed(images, extractor, out)


def many_images(folder: Path, count: int) -> None:
    for seed in range(count):
        (folder / f"{seed % 2}").mkdir(parents=True, exist_ok=True)
        (folder / f"{seed % 2}" / f"{seed:04d}.jpg").write_bytes(image_bytes(seed, (80, 80)))


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_file(extractor: Extractor, tmp_path: Path) -> None:
    images = tmp_path / "images"
    many_images(images, 400)
    whole, killed = tmp_path / "whole.h5", tmp_path / "killed.h5"
    embed(images, extractor, whole)
    command = [sys.executable, "extract_features.py", str(images), "--out", str(killed)]
    command += ["--weights", "untrained", "--size", "75", "--recipe", "fast"]
    blocks = tmp_path / "killed.h5.blocks"
    for wanted in (1, 3):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while len(list(blocks.glob("*.h5"))) < wanted and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    finished = len(list(blocks.glob("*.h5")))
    assert finished >= 3
    outcome = embed(images, extractor, killed)
    assert outcome.embedded <= 400 - 64 * finished
    np.testing.assert_array_equal(read_features(killed).embeddings, read_features(whole).embeddings)


def command(run: Run, *words: object) -> subprocess.CompletedProcess[str]:
    options = ("--weights", "untrained", "--size", "75", "--recipe", "fast")
    return run("extract_features.py", *words, *options)


def test_the_command_says_what_it_did_and_what_comes_next(
    run: Run, images: Path, tmp_path: Path
) -> None:
    (images / "train/nevus/bad.jpg").write_bytes(b"")
    out = tmp_path / "features.h5"
    done = command(run, images, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "train: 3 melanoma, 5 nevus" in done.stdout
    assert "8 embedded, 0 known before, 1 failed" in done.stdout
    assert "UNTRAINED" in done.stdout
    assert f"next: python fit_classifier.py {out}" in done.stdout
    assert "failed: train/nevus/bad.jpg: the file is empty" in done.stderr
    assert "image/s" in done.stderr
    strict = command(run, images, "--out", out, "--strict")
    assert strict.returncode == 1
    assert "1 image could not be read (--strict)" in strict.stderr
    assert "0 embedded, 8 known before" in strict.stdout


def test_a_huge_image_among_many_is_a_failure_not_a_crash(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    file = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(file, "PNG")
    (images / "train/nevus/huge.png").write_bytes(file.getvalue())
    outcome = embed(images, extractor, tmp_path / "features.h5")
    assert [failure.code for failure in outcome.failures] == ["too_large"]
