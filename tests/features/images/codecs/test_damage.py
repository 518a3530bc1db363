"""Damaged files are refused, and what does no harm is passed over."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from features.errors import UnreadableImage
from features.images.decoding import load_pixels
from tests.conftest import ROOT
from tests.features.images.codecs.mutations import VARIANTS, originals
from tests.features.images.test_decoding import refused
from tests.pictures import encoded, image_bytes


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "AVIF"])
def test_a_truncated_image_is_refused_not_half_grey(form: str) -> None:
    data = image_bytes(5, (300, 200), form)
    for part in (0.5, 0.9):
        refused(data[: int(len(data) * part)])


def scan_of(data: bytes) -> tuple[int, int]:
    """Where the compressed pixels of a JPEG file begin and end."""
    return data.index(b"\xff\xda") + 14, data.rindex(b"\xff\xd9")


def is_refused(data: bytes) -> bool:
    try:
        load_pixels(data, 64)
    except UnreadableImage as error:
        return error.code in {"unreadable", "truncated"}
    return False


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    ("options", "least"),
    [({}, 0.98), ({"restart_marker_rows": 1}, 0.98), ({"progressive": 1}, 0.93)],
)
def test_a_jpeg_with_a_corrupt_middle_is_refused_not_striped(
    mode: str, options: dict[str, object], least: float
) -> None:
    """JPEG has no checksums: now and then what is corrupt can be read as something else."""
    picture = Image.open(io.BytesIO(image_bytes(5, (300, 200), "PNG"))).convert(mode)
    whole = encoded(picture, "JPEG", quality=90, **options)
    assert not is_refused(whole)
    start, end = scan_of(whole)
    rng = np.random.default_rng(1)
    places = rng.integers(start, end - 200, 200)
    told = [
        is_refused(whole[:place] + hole + whole[place + 200 :])
        for place in places.tolist()
        for hole in (bytes(200), rng.bytes(200))
    ]
    assert np.mean(told) >= least


def test_a_jpeg_without_its_end_is_refused() -> None:
    whole = image_bytes(5, (300, 200))
    assert refused(whole[: scan_of(whole)[1]]).code == "truncated"


def test_oddities_of_jpegs_that_do_no_harm_are_passed_over() -> None:
    whole = image_bytes(5, (300, 200))
    expected = load_pixels(whole, 64)
    _, end = scan_of(whole)
    odd = {
        "stray bytes in the header": whole[:20] + b"ab" + whole[20:],
        "zeros before the end": whole[:end] + bytes(30) + whole[end:],
        "bytes after the end": whole + b"something else" * 100,
        "a film after the end": whole + b"\xff\xda\x00" * 1000,
        "both": whole[:end] + bytes(30) + whole[end:] + b"\x01\xff\xd9" * 10,
        "a later revision": whole[:11] + b"\x03" + whole[12:],
    }
    for name, data in odd.items():
        np.testing.assert_array_equal(load_pixels(data, 64), expected, err_msg=name)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(1300, 950), (333, 217)])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}])
def test_strictly_decoded_jpegs_have_the_pixels_that_pillow_gives(
    mode: str, size: tuple[int, int], options: dict[str, object]
) -> None:
    picture = Image.open(io.BytesIO(image_bytes(8, size, "PNG"))).convert(mode)
    data = encoded(picture, "JPEG", **options)
    with Image.open(io.BytesIO(data)) as image:
        image.draft(None, (300, 300))
        expected = image.resize((150, 150), Image.Resampling.BILINEAR).convert("RGB")
    np.testing.assert_array_equal(load_pixels(data, 150), np.asarray(expected))


def test_of_a_jpeg_with_several_pictures_the_first_is_taken() -> None:
    first, second = (
        Image.open(io.BytesIO(image_bytes(seed, (300, 200), "PNG"))) for seed in (1, 2)
    )
    several = encoded(first, "MPO", save_all=True, append_images=[second])
    np.testing.assert_array_equal(load_pixels(several, 64), load_pixels(encoded(first, "JPEG"), 64))


def test_a_jpeg_with_thousands_of_scans_is_refused_at_once() -> None:
    whole = encoded(Image.new("RGB", (3000, 3000), (200, 90, 70)), "JPEG", progressive=True)
    last, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    assert refused(whole[:end] + whole[last:end] * 5000 + whole[end:]).code == "unsupported"


def test_a_png_whose_checksums_do_not_match_is_refused() -> None:
    for mode in ("RGB", "RGBA", "L"):
        picture = Image.open(io.BytesIO(image_bytes(5, (300, 200), "PNG"))).convert(mode)
        whole = encoded(picture)
        start, end = whole.index(b"IDAT") + 4, whole.rindex(b"IEND") - 8
        for place in range(start, end, (end - start) // 50):
            changed = bytearray(whole)
            changed[place] ^= 16
            assert refused(bytes(changed)).code == "unreadable"


def test_a_png_that_ends_with_its_picture_but_not_as_it_should_is_refused() -> None:
    whole = image_bytes(5, (300, 200), "PNG")
    end = whole.rindex(b"IEND") - 4
    assert refused(whole[:end]).code == "truncated"
    assert refused(whole[:end] + bytes(16) + whole[end:]).code == "unreadable"
    assert refused(whole[: whole.index(b"IDAT") - 4] + whole[end:]).code == "unreadable"


@pytest.mark.parametrize("number", range(len(VARIANTS)))
def test_no_file_that_was_cut_gives_other_pixels(number: int) -> None:
    whole = originals()[number]
    expected = load_pixels(whole, 48)
    for part in range(1, 60):
        try:
            pixels = load_pixels(whole[: len(whole) * part // 60], 48)
        except UnreadableImage:
            continue
        np.testing.assert_array_equal(pixels, expected)


def mutate(seed: int, count: int) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.features.images.codecs.mutations", str(seed), str(count)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    assert done.stdout.startswith(f"{count} ")
    return done.stdout


def test_a_thousand_damaged_files_neither_crash_nor_hang_the_decoder() -> None:
    assert "'read'" in mutate(1, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_thousands_of_damaged_files_neither_crash_nor_hang_the_decoder(seed: int) -> None:
    assert "'read'" in mutate(seed, 5000)


@settings(max_examples=300, deadline=None)
@given(
    form=st.sampled_from(["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP"]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.floats(0.1, 1.0),
)
def test_a_mutated_file_is_read_or_refused(
    form: str, changes: list[tuple[int, int]], cut: float
) -> None:
    data = bytearray(image_bytes(7, (60, 50), form))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        pixels = load_pixels(bytes(data[: int(len(data) * cut)]), 32)
    except UnreadableImage:
        return
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
