from __future__ import annotations

import io
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from features.errors import UnreadableImage
from features.images.decoding import MAX_PIXELS, Frame, decode, decode_each, load_pixels
from tests.features.images.codecs.mutations import VARIANTS, originals
from tests.pictures import encoded, image_bytes


def quarters() -> Image.Image:
    """Red, green, blue and white quarters: every turn and flip shows."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32, :48] = (255, 0, 0)
    pixels[:32, 48:] = (0, 255, 0)
    pixels[32:, :48] = (0, 0, 255)
    pixels[32:, 48:] = (255, 255, 255)
    return Image.fromarray(pixels)


TURN_BACK = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_exif_orientation_is_shown_upright(orientation: int, form: str) -> None:
    turn = TURN_BACK[orientation]
    stored = quarters() if turn is None else quarters().transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(form, {})
    found = decode(encoded(stored, form, exif=exif, **options), 64)
    assert (found.width, found.height) == (96, 64)
    expected = load_pixels(encoded(quarters()), 64)
    assert np.abs(found.pixels.astype(int) - expected).max() <= (4 if form == "JPEG" else 1)


def test_transparent_pixels_are_laid_over_white() -> None:
    image = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 20, 40))
    pixels = load_pixels(encoded(image), 40)
    assert pixels[20, 5].tolist() == [0, 0, 255]
    assert pixels[20, 35].tolist() == [255, 255, 255]


def test_a_transparent_palette_is_laid_over_white() -> None:
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 200, 10, 20] + [0] * 762)
    assert load_pixels(encoded(image), 20)[3, 3].tolist() == [200, 10, 20]
    assert load_pixels(encoded(image, transparency=1), 20)[3, 3].tolist() == [255, 255, 255]


def test_sixteen_bits_keep_their_brightness() -> None:
    levels = np.full((30, 30), 128 * 257, np.uint16)
    assert load_pixels(encoded(Image.fromarray(levels)), 30)[9, 9].tolist() == [128, 128, 128]


def test_grey_one_bit_and_cmyk_become_rgb() -> None:
    assert load_pixels(encoded(Image.new("L", (9, 9), 77)), 9)[4, 4].tolist() == [77, 77, 77]
    assert load_pixels(encoded(Image.new("1", (9, 9), 1)), 9)[4, 4].tolist() == [255, 255, 255]
    cmyk = load_pixels(encoded(Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "JPEG"), 9)[4, 4]
    assert cmyk[0] > 200
    assert cmyk[1:].max() < 60


def test_a_colour_profile_is_converted_to_srgb() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    grey = Image.new("RGB", (10, 10), (120, 120, 120))
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), lab, "RGB", "LAB")
    data = encoded(ImageCms.applyTransform(grey, to_lab), "TIFF", icc_profile=lab.tobytes())
    assert np.abs(load_pixels(data, 10).astype(int) - 120).max() <= 2


def test_a_broken_profile_is_passed_over_as_viewers_do() -> None:
    data = encoded(Image.new("RGB", (10, 10), (10, 20, 30)), icc_profile=b"no profile")
    assert load_pixels(data, 10)[0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("size", [(3000, 2000), (1600, 1200), (700, 2100)])
def test_jpeg_drafts_stay_within_a_grey_level(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    smooth = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    data = encoded(smooth, "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as whole:
        expected = np.asarray(whole.resize((150, 150), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(load_pixels(data, 150) - expected).mean() < 1.0


def golden(seed: int) -> bytes:
    return image_bytes(seed, (640, 480), "PNG")


def test_golden_vectors_pin_the_decoder() -> None:
    """Other numbers here mean other embeddings: raise PIXELS_VERSION with them."""
    pixels = load_pixels(golden(1), 8)
    assert pixels[::3, ::3].tolist() == GOLDEN


GOLDEN = [
    [[247, 224, 43], [41, 124, 124], [210, 176, 56]],
    [[174, 76, 209], [104, 174, 100], [69, 107, 154]],
    [[106, 81, 204], [50, 74, 74], [118, 113, 146]],
]


def oversized_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def refused(data: bytes | Path) -> UnreadableImage:
    with pytest.raises(UnreadableImage) as caught:
        load_pixels(data, 64)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"hello, I am not an image", "not_an_image"),
        (b"\0" * 128 + b"DICM" + b"\0" * 100, "unsupported"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 100, "not_an_image"),
        (b"%PDF-1.7 and so on", "unsupported"),
        (oversized_png(20_000, 20_000), "too_large"),
        (oversized_png(9_500, 9_500), "too_large"),
        (encoded(Image.new("F", (9, 9), 0.5), "TIFF"), "unsupported"),
    ],
)
def test_what_is_no_readable_image_is_refused_with_the_reason(data: bytes, code: str) -> None:
    assert refused(data).code == code


def test_the_limit_is_told_in_megapixels() -> None:
    assert f"{MAX_PIXELS // 10**6} megapixels" in str(refused(oversized_png(20_000, 20_000)))


def test_a_pipe_and_an_enormous_file_are_refused_without_reading(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert refused(tmp_path / "pipe.jpg").code == "unreadable"
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(10**12)
    assert refused(tmp_path / "huge.jpg").code == "too_large"


def test_decoding_in_threads_gives_the_same_pixels() -> None:
    files = originals()[: len(VARIANTS)] * 8
    alone = [load_pixels(data, 48) for data in files]
    with ThreadPoolExecutor(8) as pool:
        for mine, other in zip(alone, pool.map(lambda d: load_pixels(d, 48), files), strict=True):
            np.testing.assert_array_equal(mine, other)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.jpg").code == "unreadable"
    assert refused(tmp_path).code == "unreadable"


@pytest.mark.real_data
def test_awkward_real_files_are_read_or_refused_with_a_reason(real_data: Path) -> None:
    read, refused_codes = [], {}
    for path in sorted((real_data / "data" / "robustness").rglob("*.*")):
        if path.name == "INDEX.tsv":
            continue
        try:
            pixels = load_pixels(path, 96)
        except UnreadableImage as error:
            refused_codes[path.name] = error.code
        else:
            assert pixels.shape == (96, 96, 3)
            read.append(path.name)
    assert len(read) > 35
    assert refused_codes["truncated.jpg"] == "truncated"
    # Its pixels are stripes in every viewer: the compressed data don't fit their tables.
    assert refused_codes["hopper_bad_exif.jpg"] == "unreadable"
    assert refused_codes["broken_data_stream.png"] == "unreadable"
    assert refused_codes["truncated_image.png"] == "truncated"
    assert refused_codes["decompression_bomb.gif"] == "too_large"
    assert "hopper.heif" in read
    assert refused_codes["examples_ybr_color.dcm"] == "unsupported"


@pytest.mark.real_data
def test_rotated_real_photographs_give_the_same_pixels(real_data: Path) -> None:
    folder = real_data / "data" / "robustness" / "exif_orientation"
    for kind in ("Landscape", "Portrait"):
        upright = load_pixels(folder / f"{kind}_0.jpg", 96).astype(float)
        for orientation in (2, 4, 6, 8):
            other = load_pixels(folder / f"{kind}_{orientation}.jpg", 96)
            # The number drawn in the middle differs between the files.
            assert np.abs(other - upright).mean() < 4


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("side", [96, 400, 1200])
def test_an_image_for_several_networks_has_the_pixels_that_each_has_alone(
    form: str, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A JPEG for a small frame is read at half or a quarter of its size, which shows."""
    data = encoded(Image.open(io.BytesIO(image_bytes(3, (side, side)))), form)
    groups = (
        [Frame(64)],
        [Frame(64, colour="shades-of-grey"), Frame(64, "lesion", "shades-of-grey")],
        [Frame(224, "centre0.875"), Frame(64)],
    )
    expected = [decode(data, *frames) for frames in groups]
    decoded = []

    def counted(*given: object, **named: object) -> object:
        decoded.append(given)
        return decode(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("features.images.decoding.decode", counted)
    for mine, alone in zip(decode_each(data, *groups), expected, strict=True):
        assert mine.boxes == alone.boxes
        for pixels, theirs in zip(mine.frames, alone.frames, strict=True):
            np.testing.assert_array_equal(pixels, theirs)
    sizes = {("JPEG", 400): 2, ("JPEG", 1200): 3}
    assert len(decoded) == sizes.get((form, side), 1)


def test_what_can_not_be_decoded_for_several_networks_is_refused_as_ever() -> None:
    groups = ([Frame(64)], [Frame(128)])
    for data in (b"", b"\xff\xd8\xffno", image_bytes(1, (400, 400))[:2000]):
        with pytest.raises(UnreadableImage) as alone:
            decode(data, 64)
        with pytest.raises(UnreadableImage) as together:
            decode_each(data, *groups)
        assert str(together.value) == str(alone.value)
    with pytest.raises(UnreadableImage, match=r"more pixels|are more"):
        decode_each(image_bytes(1, (400, 400)), *groups, max_pixels=1000)
