from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from features.datasets.drawn import LABELS, sample_lesion
from features.datasets.drawn_lesion import FIELD_MM, Lesion, draw_lesion, outline
from features.datasets.folders import find_images
from features.images.decoding import Frame, decode
from features.images.lesion import SIDE, WHOLE, locate


def corners(drawn: Lesion) -> tuple[float, float, float, float]:
    angle = np.linspace(0, 2 * np.pi, 512, endpoint=False)
    reach = outline(drawn) * drawn.diameter / FIELD_MM / 2
    x, y = drawn.x + reach * np.cos(angle), drawn.y + reach * np.sin(angle)
    left, top, right, bottom = np.clip([x.min(), y.min(), x.max(), y.max()], 0, 1)
    return float(left), float(top), float(right), float(bottom)


def test_the_box_holds_the_drawn_lesion_and_little_else() -> None:
    rng = np.random.default_rng(3)
    held, areas = [], []
    for number in range(60):
        drawn = sample_lesion(rng, LABELS[number % 2])
        box = locate(draw_lesion(drawn, SIDE))
        left, top, right, bottom = corners(drawn)
        across = min(box.right, right) - max(box.left, left)
        down = min(box.bottom, bottom) - max(box.top, top)
        held.append(max(across, 0) * max(down, 0) / ((right - left) * (bottom - top)))
        side = max(right - left, bottom - top, 0.25)
        areas.append((box.right - box.left) / min(1.3 * side, 1))
    assert np.mean(np.array(held) > 0.9) >= 0.9
    assert np.median(areas) == pytest.approx(1, abs=0.15)


def test_an_image_without_anything_is_taken_whole() -> None:
    assert locate(np.full((SIDE, SIDE, 3), 200, np.uint8)) == WHOLE
    assert locate(np.zeros((SIDE, SIDE, 3), np.uint8)) == WHOLE


def test_noise_gives_a_box_within_the_image() -> None:
    for seed in range(20):
        noise = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        box = locate(noise)
        assert 0 <= box.left < box.right <= 1
        assert 0 <= box.top < box.bottom <= 1


def photograph(orientation: int = 1) -> bytes:
    """A lesion on the right of a large picture, stored turned as the orientation says."""
    pixels = np.full((600, 800, 3), (224, 180, 160), np.uint8)
    rows, columns = np.ogrid[:600, :800]
    pixels[(rows - 250) ** 2 + (columns - 560) ** 2 < 80**2] = (90, 50, 40)
    image = Image.fromarray(pixels)
    back = {1: None, 6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    (image if back is None else image.transpose(back)).save(file, "PNG", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_lesion_is_cut_out_of_the_original_upright(orientation: int) -> None:
    found = decode(photograph(orientation), 100, Frame(120, "lesion"), Frame(40, "lesion"))
    assert found.boxes[0] == WHOLE
    assert found.boxes[1] == found.boxes[2]
    box = found.boxes[1]
    assert (found.width, found.height) == (800, 600)
    assert box.right - box.left == pytest.approx(box.bottom - box.top)
    middle = ((box.left + box.right) / 2, (box.top + box.bottom) / 2)
    assert middle == pytest.approx((560 / 800, 250 / 600), abs=0.02)
    assert box.bottom - box.top == pytest.approx(1.3 * 160 / 600, abs=0.05)
    np.testing.assert_allclose(found.frames[1][60, 60], (90, 50, 40), atol=2)
    np.testing.assert_allclose(found.frames[1][0, 0], (224, 180, 160), atol=2)
    assert found.frames[2].shape == (40, 40, 3)


def test_the_box_is_what_it_was() -> None:
    drawn = sample_lesion(np.random.default_rng(11), "melanoma")
    box = locate(draw_lesion(drawn, SIDE))
    sides = (box.left, box.top, box.right, box.bottom)
    assert sides == pytest.approx((0.18203125, 0.13125, 0.77109375, 0.7203125), abs=1e-9)


@pytest.mark.real_data
def test_on_real_images_it_mostly_looks_closer(real_data: Path) -> None:
    found = find_images(real_data / "data" / "isic2017_256")
    rng = np.random.default_rng(0)
    sides = []
    for at in rng.choice(len(found.items), 150, replace=False):
        box = decode(found.root / found.items[at].path, Frame(32, "lesion")).boxes[0]
        sides.append(box.right - box.left)
    assert 0.4 < np.median(sides) < 0.85
    assert np.mean(np.array(sides) == 1) < 0.3
