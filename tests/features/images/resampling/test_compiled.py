"""Compiled code gives the bytes of Pillow and SciPy, and is done without where it can't be had."""

from __future__ import annotations

import io
import itertools
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from scipy import ndimage

from features.errors import UnreadableImage
from features.images.colour import correct, levels
from features.images.decoding import Decoded, Frame, decode
from features.images.processes import Readers
from features.images.resampling import compiled
from features.images.resampling.compiled import Kernels, NotCompiled, load_kernels
from features.images.resampling.squares import Source
from tests.pictures import encoded, image_bytes

FRAMES = (
    Frame(299, colour="shades-of-grey"),
    Frame(299, "lesion", "shades-of-grey"),
    Frame(75, "lesion", draft=True),
    Frame(60, "centre0.875"),
    Frame(48, resampling="bicubic"),
)
WITHOUT_NUMBA = "import sys; sys.modules['numba'] = None"

only_x86 = pytest.mark.skipif(
    platform.machine() not in {"x86_64", "AMD64"}, reason="compiled code is used on x86-64 only"
)


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    found = load_kernels()
    compiled._LOADED.clear()
    return found


@pytest.fixture
def both_ways(kernels: Kernels) -> Iterator[Callable[[bytes | Path], list[Decoded | str]]]:
    """Decode without and with compiled code."""

    def decode_twice(source: bytes | Path) -> list[Decoded | str]:
        found: list[Decoded | str] = []
        for loaded in ([], [kernels]):
            compiled._LOADED[:] = loaded
            try:
                found.append(decode(source, *FRAMES))
            except UnreadableImage as error:
                found.append(str(error))
        return found

    yield decode_twice
    compiled._LOADED.clear()


def picture(size: tuple[int, int]) -> Image.Image:
    return Image.open(io.BytesIO(image_bytes(1, size, "PNG"))).convert("RGB")


def require_same(plain: Decoded | str, quick: Decoded | str) -> None:
    if isinstance(plain, str) or isinstance(quick, str):
        assert plain == quick
        return
    assert (plain.width, plain.height, plain.notes) == (quick.width, quick.height, quick.notes)
    assert plain.boxes == quick.boxes
    for one, other in zip(plain.frames, quick.frames, strict=True):
        np.testing.assert_array_equal(one, other)


@only_x86
@settings(max_examples=80, deadline=None)
@given(st.data())
def test_squares_are_those_of_pillow(kernels: Kernels, data: st.DataObject) -> None:
    width, height = (data.draw(st.integers(1, 700)) for _ in range(2))
    size = data.draw(st.integers(1, 320))
    ends = [
        sorted(data.draw(st.tuples(*2 * [st.floats(0, side, width=32)])))
        for side in (width, height)
    ]
    (left, right), (top, bottom) = ends
    box = (left, top, right, bottom) if right - left > 0.5 < bottom - top else None
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
    quick = kernels.square(compiled.packed(image), size, box)
    np.testing.assert_array_equal(quick, np.asarray(Source(image).square(size, box=box)))


@only_x86
def test_large_pictures_and_extreme_shapes_are_those_of_pillow(kernels: Kernels) -> None:
    rng = np.random.default_rng(3)
    for height, width in ((1536, 2048), (3000, 40), (40, 3000), (1, 5000), (2000, 1)):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        for size in (299, 128):
            quick = kernels.square(compiled.packed(image), size)
            np.testing.assert_array_equal(quick, np.asarray(Source(image).square(size)))
    white = Image.new("RGB", (4000, 4000), "white")
    assert (kernels.square(compiled.packed(white), 31) == 255).all()


def test_what_is_taller_than_wide_is_resized_across_first_whatever_pillow_does() -> None:
    """Pillow 13 turned the order round, and with it a level of every fifth value."""
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (400, 231, 3), np.uint8)
    image, bilinear = Image.fromarray(pixels), Image.Resampling.BILINEAR
    expected = np.asarray(image.resize((150, 400), bilinear).resize((150, 150), bilinear))
    np.testing.assert_array_equal(decode(encoded(image, "PNG"), 150).pixels, expected)
    # Turned upright when it is read, it is resized as it lies in the file.
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = decode(encoded(image, "PNG", exif=exif), 150).pixels
    np.testing.assert_array_equal(turned, np.rot90(expected, 3))


@only_x86
def test_levels_and_blur_are_those_of_pillow_and_scipy(kernels: Kernels) -> None:
    rng = np.random.default_rng(4)
    for shape in ((128, 128, 3), (20, 33, 3)):
        pixels = rng.integers(0, 256, shape, np.uint8)
        colour = np.array([1.2, 0.9, 0.7])
        expected = np.asarray(correct(Image.fromarray(pixels), colour))
        np.testing.assert_array_equal(kernels.relevelled(pixels, levels(colour)), expected)
        smooth = ndimage.gaussian_filter(pixels, (1.1, 1.1, 0), output=np.float32)
        np.testing.assert_array_equal(kernels.blurred(pixels, 1.1), smooth)


@only_x86
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_every_frame_is_the_same_either_way(
    both_ways: Callable[[bytes], list[Decoded | str]], orientation: int, form: str
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    for size in ((90, 80), (310, 205), (150, 420)):
        data = encoded(picture(size), form, exif=exif)
        require_same(*both_ways(data))


@only_x86
@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P"])
def test_other_modes_are_the_same_either_way(
    both_ways: Callable[[bytes], list[Decoded | str]], mode: str
) -> None:
    data = encoded(picture((130, 90)).convert(mode), "TIFF" if mode == "CMYK" else "PNG")
    require_same(*both_ways(data))


@only_x86
@pytest.mark.real_data
def test_real_and_awkward_images_are_the_same_either_way(
    both_ways: Callable[[Path], list[Decoded | str]], real_data: Path
) -> None:
    awkward = (real_data / "data" / "robustness").rglob("*.*")
    real = sorted((real_data / "data" / "isic2017_256").rglob("*.jpg"))[::40]
    originals = sorted((real_data / "data" / "originals").rglob("*.jpg"))[::40]
    assert len(real) > 40
    for path in (*awkward, *real, *originals):
        require_same(*both_ways(path))


@only_x86
def test_processes_load_it_where_there_are_many_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "1.jpg"
    path.write_bytes(image_bytes(1, (200, 150)))
    expected = decode(path, *FRAMES).frames

    def functions() -> set[str]:
        return {each.name.split("-")[0] for each in (tmp_path / "cache").rglob("*.nbi")}

    with Readers(FRAMES, 999, processes=2) as readers:
        readers.start((number, str(path), False) for number in range(40))
        assert len(list(readers.results())) == 40
    assert not functions()
    ended = time.monotonic() + 60
    numbers = itertools.takewhile(lambda _: time.monotonic() < ended, itertools.count())
    with Readers(FRAMES, 1000, processes=2) as readers:
        readers.start((number, str(path), False) for number in numbers)
        for read, frames in readers.results():
            assert read.decoded
            for one, other in zip(frames, expected, strict=True):
                np.testing.assert_array_equal(one, other)
            if len(functions()) == 5:
                # So many more as any process may have had before it was loaded.
                ended = min(ended, time.monotonic() + 1)
    assert len(functions()) == 5


def test_without_numba_pillow_does_it(tmp_path: Path) -> None:
    code = f"""{WITHOUT_NUMBA}
from features.images.decoding import Frame, decode
from features.images.resampling.compiled import NotCompiled, load_kernels
try:
    load_kernels()
except NotCompiled as error:
    print(error)
print(decode({str(tmp_path / "1.png")!r}, 8).pixels.sum())
"""
    (tmp_path / "1.png").write_bytes(image_bytes(1, (64, 48), "PNG"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    reason, total = done.stdout.splitlines()
    assert "Numba can't be imported" in reason or "it is for x86-64" in reason
    assert int(total) == decode(tmp_path / "1.png", 8).pixels.sum()


def loaded_elsewhere(cache: Path) -> str:
    code = """
from features.images.resampling.compiled import NotCompiled, load_kernels
try:
    load_kernels()
    print("loaded")
except NotCompiled as error:
    print(error)
"""
    env = {**os.environ, "LESION_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    assert not done.stderr
    return done.stdout.strip()


@only_x86
@pytest.mark.slow
def test_damaged_files_of_an_earlier_run_are_compiled_anew(tmp_path: Path) -> None:
    assert loaded_elsewhere(tmp_path) == "loaded"
    for ending, junk in (("nbi", b""), ("nbc", b"garbage"), ("nbi", b"\x80\x04")):
        kept = list((tmp_path / "compiled").rglob(f"*.{ending}"))
        assert len(kept) == 5
        for each in kept:
            each.write_bytes(junk)
        assert loaded_elsewhere(tmp_path) == "loaded"


@only_x86
def test_code_that_others_may_have_written_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "compiled").mkdir()
    (tmp_path / "compiled").chmod(0o777)
    assert loaded_elsewhere(tmp_path) == (
        f"others may write to {tmp_path / 'compiled'}, and what lies there is run"
    )
    (tmp_path / "file").write_text("not a folder")
    assert "can't compile it or keep it" in loaded_elsewhere(tmp_path / "file")


@only_x86
def test_other_numbers_than_pillow_s_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    resize = Image.Image.resize

    def other(image: Image.Image, size: tuple[int, int], *how: object, **more: object) -> object:
        return resize(image, size, Image.Resampling.NEAREST)

    monkeypatch.setattr(Image.Image, "resize", other)
    with pytest.raises(NotCompiled, match="doesn't give the bytes of Pillow"):
        load_kernels()
