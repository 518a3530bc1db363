"""Pictures that can't be judged are told from those that can."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw, ImageFilter

from features.images.decoding import load_pixels
from features.images.quality import Fault, Hint, Quality, check_quality

Pixels = npt.NDArray[np.uint8]


def skin(size: int = 299) -> Image.Image:
    """Skin of fine texture with a dark spot."""
    rng = np.random.default_rng(0)
    texture = rng.normal(0, 14, (size, size, 1)) + np.array([205.0, 155.0, 130.0])
    image = Image.fromarray(texture.clip(0, 255).astype(np.uint8))
    ImageDraw.Draw(image).ellipse((100, 110, 180, 190), fill=(90, 55, 45))
    return image


def checked(image: Image.Image, width: int = 600, height: int = 450) -> Quality:
    return check_quality(np.asarray(image), width, height)


def test_a_good_picture_has_no_faults() -> None:
    assert checked(skin()) == Quality((), (), 600, 450, 299)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda image: image.filter(ImageFilter.GaussianBlur(4)), "blurred"),
        (lambda image: image.point(lambda level: level * 0.2), "dark"),
        (lambda image: image.point(lambda level: min(255, level * 1.8)), "overexposed"),
        (lambda image: Image.new("RGB", image.size, (210, 160, 140)), "flat"),
        (lambda image: Image.new("RGB", image.size), "flat"),
    ],
)
def test_what_spoils_a_picture_is_named(spoil: object, fault: str) -> None:
    assert callable(spoil)
    assert checked(spoil(skin())).faults == (fault,)


@pytest.mark.parametrize(
    ("width", "height", "small"), [(119, 500, True), (500, 119, True), (120, 500, False)]
)
def test_a_small_original_is_a_fault(width: int, height: int, small: bool) -> None:
    found = checked(skin(), width, height)
    assert found.faults == (("small",) if small else ())
    assert (found.width, found.height, found.side) == (width, height, 299)


@pytest.mark.parametrize(
    "colour",
    [(20, 110, 210), (60, 190, 190), (30, 150, 60), (235, 220, 40), (240, 175, 70), (90, 40, 160)],
)
def test_a_coloured_patch_is_hinted_at(colour: tuple[int, int, int]) -> None:
    patched = skin()
    ImageDraw.Draw(patched).ellipse((230, 20, 320, 120), fill=colour)
    assert checked(patched).hints == ("patch",)
    assert not checked(patched).faults


def test_dense_hair_is_hinted_at() -> None:
    hairy = skin()
    for at in range(5, 299, 12):
        ImageDraw.Draw(hairy).line((at, 0, at + 30, 299), fill=(40, 25, 20), width=3)
    assert checked(hairy).hints == ("hair",)
    assert not checked(hairy).faults


@given(arrays(np.uint8, st.sampled_from([(32, 32, 3), (75, 75, 3), (128, 128, 3), (140, 140, 3)])))
def test_any_picture_can_be_checked(pixels: Pixels) -> None:
    found = check_quality(pixels, 300, 200)
    assert set(found.faults) <= set(get_args(Fault))
    assert set(found.hints) <= set(get_args(Hint))


@pytest.mark.real_data
def test_real_images_seldom_alarm_and_spoilt_ones_do(real_data: Path) -> None:
    paths = sorted((real_data / "data" / "isic2017_256" / "valid").rglob("*.jpg"))
    images = [Image.fromarray(load_pixels(path, 299)) for path in paths]
    assert sum(bool(checked(image).faults) for image in images) <= 0.02 * len(images)
    few = images[::5]
    for spoilt in (
        [image.filter(ImageFilter.GaussianBlur(3)) for image in few],
        [image.point(lambda level: level * 0.2) for image in few],
    ):
        assert all(checked(image).faults for image in spoilt)
