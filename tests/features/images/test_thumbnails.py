from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from features.errors import UnreadableImage
from features.images.codecs.strict import load_jpeg
from features.images.decoding import load_pixels
from features.images.thumbnails import thumbnail
from tests.pictures import image_bytes


@pytest.mark.parametrize(
    ("size", "small"), [((300, 150), (96, 48)), ((150, 300), (48, 96)), ((900, 2), (96, 1))]
)
def test_proportions_are_kept(size: tuple[int, int], small: tuple[int, int]) -> None:
    found = thumbnail(image_bytes(1, size), 96)
    assert (found.width, found.height) == small
    assert Image.open(io.BytesIO(found.content)).size == small


def test_a_square_has_the_pixels_that_the_network_would_see() -> None:
    data = image_bytes(2, (120, 200))
    found = thumbnail(data, 64, quality=95, square=True)
    assert (found.width, found.height) == (64, 64)
    pixels = np.asarray(Image.open(io.BytesIO(found.content)), float)
    assert np.abs(pixels - load_pixels(data, 64)).mean() < 12


def test_a_jpeg_is_read_smaller_without_moire(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns = np.mgrid[:256, :256]
    stripes = np.where((columns // 3 + rows) % 2, 220, 30).astype(np.uint8)
    stripes[:128] = np.linspace(0, 255, 256)
    file = io.BytesIO()
    Image.fromarray(stripes).convert("RGB").save(file, "JPEG", quality=95)
    read: list[tuple[int, int]] = []

    def load(data: bytes, image: Image.Image) -> Image.Image:
        read.append(image.size)
        return load_jpeg(data, image)

    monkeypatch.setattr("features.images.codecs.opening.load_jpeg", load)
    found = thumbnail(file.getvalue(), 96, quality=95)
    pixels = np.asarray(Image.open(io.BytesIO(found.content)), float)
    exact = load_pixels(file.getvalue(), 96)
    assert read == [(128, 128), (256, 256)]
    assert np.abs(pixels[:46] - exact[:46]).mean() < 2
    assert pixels[52:].std() < 8


def test_its_address_holds_the_file() -> None:
    found = thumbnail(image_bytes(3), 32)
    head, _, content = found.uri.partition(",")
    assert head == "data:image/jpeg;base64"
    assert base64.b64decode(content) == found.content
    assert len(thumbnail(image_bytes(3), 32, quality=20).content) < len(found.content)


def test_what_is_no_image_has_none() -> None:
    with pytest.raises(UnreadableImage):
        thumbnail(b"words", 32)
